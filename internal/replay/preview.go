package replay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/selection"
)

// Preview says what a replay would send.
type Preview struct {
	Messages   int64 `json:"messages"`
	Bytes      int64 `json:"bytes"` // of bodies
	Blobs      int64 `json:"blobs"`
	Deselected int64 `json:"deselected"` // by the expression
	Unreadable int64 `json:"unreadable"`
	// Streams are the partitions, sessions or entities with most messages, [MaxStreams] of them at most; Others is how
	// many more there are.
	Streams []Stream `json:"streams"`
	Others  int64    `json:"other_streams,omitempty"`
	// Changes counts the messages that are not sent as they were, by what becomes of them.
	Changes map[Change]int64 `json:"changes"`
	// Samples are the first of the records, their bodies cut after [SampleBody] bytes, as they are stored.
	Samples  []string `json:"samples"`
	Problems []string `json:"problems,omitempty"`
}

// Stream is what a replay would send of a partition, a session or an entity.
type Stream struct {
	Name     string `json:"name"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
}

const (
	// MaxStreams bounds [Preview.Streams].
	MaxStreams = 100
	maxSamples = 3
	// SampleBody is how many bytes of a body are in a sample.
	SampleBody = 200
	// maxCounted bounds the streams that are told apart.
	maxCounted = 1 << 16
)

// Look reads all that a task would send, and sends nothing. It knows no target, so what the target would refuse it
// can't tell.
func Look(ctx context.Context, from selection.Store, task Task, filter *Filter) (Preview, error) {
	l := look{Preview: Preview{Changes: map[Change]int64{}, Streams: []Stream{}, Samples: []string{}}, address: &address{Task: task}, streams: map[string]*Stream{}}
	for b, err := range task.Selection.Blobs(ctx, from) {
		if err != nil && b.Name == "" {
			return l.Preview, fmt.Errorf("preview: %w", err)
		}
		l.Blobs++
		if err != nil {
			l.problem(err)
			continue
		}
		if err := l.blob(ctx, from, &b, filter); err != nil {
			return l.Preview, fmt.Errorf("preview: %w", err)
		}
	}
	sorted := slices.SortedFunc(maps.Values(l.streams), func(a, b *Stream) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range sorted {
		if len(l.Streams) == MaxStreams {
			l.Others++
			continue
		}
		l.Streams = append(l.Streams, *s)
	}
	return l.Preview, nil
}

// Changed are the changes there are, in the order of their text.
func (p Preview) Changed() []Change { return slices.Sorted(maps.Keys(p.Changes)) }

// look is a preview while it is made.
type look struct {
	Preview
	address *address
	streams map[string]*Stream
}

func (l *look) problem(err error) {
	l.Unreadable++
	if len(l.Problems) < MaxProblems {
		l.Problems = append(l.Problems, err.Error())
	}
}

func (l *look) blob(ctx context.Context, from selection.Store, b *selection.Blob, filter *Filter) error {
	index := int64(-1)
	for m, err := range l.address.Selection.Records(ctx, from, *b) {
		index++
		if isCorrupt(err) {
			l.problem(err)
			continue
		}
		if err != nil {
			return err
		}
		selected, err := filter.selects(ctx, b, m)
		switch {
		case err != nil:
			return err
		case !selected:
			l.Deselected++
		default:
			l.message(b, index, m)
		}
	}
	if err := b.CheckSize(); err != nil {
		l.problem(err)
	}
	return nil
}

func (l *look) message(b *selection.Blob, index int64, m *message.Message) {
	if len(l.Samples) < maxSamples {
		l.Samples = append(l.Samples, sample(*m))
	}
	sent := l.address.restore(b, index, m, func(c Change) { l.Changes[c]++ })
	s := l.stream(b)
	s.Messages++
	s.Bytes += int64(sent.Size())
	l.Messages++
	l.Bytes += int64(sent.Size())
}

func (l *look) stream(b *selection.Blob) *Stream {
	name := stream(b)
	s := l.streams[name]
	if s == nil && len(l.streams) >= maxCounted {
		name = "others"
		s = l.streams[name]
	}
	if s == nil {
		s = &Stream{Name: name}
		l.streams[name] = s
	}
	return s
}

// sample is a record on one line, without the end of a long body.
func sample(m message.Message) string {
	if m.Body.Kind == message.Data && len(m.Body.Data) == 1 && len(m.Body.Data[0]) > SampleBody {
		cut := m.Body.Data[0][:SampleBody]
		for len(cut) > SampleBody-utf8.UTFMax && utf8.Valid(m.Body.Data[0]) && !utf8.Valid(cut) {
			cut = cut[:len(cut)-1] // not within a character, which would make it base64
		}
		m.Body.Data = [][]byte{append(slices.Clip(cut), "..."...)}
	}
	text := record.Format{Metadata: true, Separator: record.OneNewline}.Append(nil, &m)
	if len(text) > 20*SampleBody {
		text = append(text[:20*SampleBody], "..."...)
	}
	return string(text)
}
