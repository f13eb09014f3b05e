// Package selection finds what is stored: the blobs of a container, and the messages in them, by folder,
// partition, session, time and sequence number.
//
// It goes by what names and metadata say (docs/record.md), and reads no more of a container than it has to: a
// narrow range of time lists the days of that range alone, and of a blob that can't hold anything selected the
// content isn't read.
package selection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
)

// Store is the part of a blob store that a selection reads.
type Store interface {
	List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error]
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// MaxRecord is the largest record that is read, in bytes: one that fills a blob.
const MaxRecord = store.MaxBody

// Selection says what is selected of a container. The zero value selects all of it but the folders of
// Persistor's own, whose names begin with "_". It is not changed once it is used; then it is safe for
// concurrent use.
type Selection struct {
	// Folder is the one folder whose blobs are selected, as in the setting STORE_PARAM. With "" all folders are, and
	// the whole container is listed, whatever the times; "_failed/FOLDER" is what could not be stored in its place.
	Folder string
	// Partitions and Sessions are ids: with either, only the blobs of these partitions of an Event Hub, and of these
	// sessions, are selected, and no others.
	Partitions []string
	Sessions   []string
	// From and Until bound the times at which messages were enqueued, and at which events of Event Grid happened: From
	// included, Until not. The zero time is no bound. What tells no time is not within any bound.
	From, Until time.Time
	// First and Last bound sequence numbers, both included; nil is no bound. An event of Event Grid has none, and
	// isn't within any bound.
	First, Last *int64
}

// ErrUntold says that records don't tell what they are to be selected by.
var ErrUntold = errors.New("the records don't tell by what they are to be selected, for they were stored without GET_METADATA=TRUE")

// Check says what is wrong with a selection, in one line.
func (s Selection) Check() error {
	switch {
	case !s.From.IsZero() && !s.Until.IsZero() && !s.From.Before(s.Until):
		return fmt.Errorf("from %s until %s is no time: the end has to be later", s.From.Format(time.RFC3339), s.Until.Format(time.RFC3339))
	case s.First != nil && s.Last != nil && *s.Last < *s.First:
		return fmt.Errorf("sequence numbers %d to %d are none: the last has to be %d or more", *s.First, *s.Last, *s.First)
	}
	return nil
}

// Blobs yields the blobs that may hold something selected, with what their names and metadata say: those of one
// partition and of one session in the order of their sequence numbers, those of an entity whose receivers compete in
// the order of their first ones within each day. It holds a bounded part of the list in memory.
//
// An error that comes with a Blob is about that blob alone, whose metadata contradict its name or can't be read; the list goes
// on. One that comes with the zero Blob ends it.
func (s Selection) Blobs(ctx context.Context, from Store) iter.Seq2[Blob, error] {
	return func(yield func(Blob, error) bool) {
		for _, prefix := range s.prefixes() {
			for listed, err := range from.List(ctx, prefix) {
				if err != nil {
					yield(Blob{}, err)
					return
				}
				b, err := parseBlob(listed)
				if errors.Is(err, errForeign) || err == nil && !s.mayHold(b) {
					continue
				}
				if !yield(b, err) {
					return
				}
			}
		}
	}
}

// mayHold reports whether a blob may hold something that is selected.
func (s Selection) mayHold(b Blob) bool {
	switch {
	case !s.hasFolder(b), !s.hasSource(b):
		return false
	case b.Kind == Event:
		if s.First != nil || s.Last != nil {
			return false
		}
	case s.First != nil && b.Last < *s.First, s.Last != nil && b.First > *s.Last:
		return false
	}
	if b.Earliest.IsZero() {
		return s.From.IsZero() && s.Until.IsZero()
	}
	return (s.From.IsZero() || !b.Latest.Before(s.From)) && (s.Until.IsZero() || b.Earliest.Before(s.Until))
}

func (s Selection) hasFolder(b Blob) bool {
	if s.Folder == "" {
		return b.prefix == "" || b.prefix[0] != '_'
	}
	return b.prefix == record.EventHubFolder(s.Folder)
}

func (s Selection) hasSource(b Blob) bool {
	switch {
	case len(s.Partitions)+len(s.Sessions) == 0:
		return true
	case b.Kind == Hub:
		return slices.Contains(s.Partitions, b.Partition)
	case b.Kind == Session:
		return slices.ContainsFunc(s.Sessions, b.ofSession)
	}
	return false
}

// Records yields the messages of a blob that are selected, in their order. Of records that were stored without
// GET_METADATA=TRUE sequence number, partition and session are filled in from the blob's metadata, where these tell
// them; a sequence number that nothing tells is -1.
//
// After a [*record.CorruptError], which comes without a message, the records that follow are yielded; any other
// error is the last. [ErrUntold] is one.
func (s Selection) Records(ctx context.Context, from Store, b Blob) iter.Seq2[*message.Message, error] {
	return func(yield func(*message.Message, error) bool) {
		for r, err := range s.Lines(ctx, from, b) {
			if !yield(r.Message, err) {
				return
			}
		}
	}
}

// Line is one record of a blob.
type Line struct {
	Message *message.Message // nil of a record that is corrupt
	Record  []byte           // as it is stored, without its separator; valid until the next one
}

// Lines is Records with the records themselves.
func (s Selection) Lines(ctx context.Context, from Store, b Blob) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		content, err := from.Open(ctx, b.Name)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer content.Close()
		// A blob that grows may be longer by now than it was when it was listed.
		records := record.NewReader(io.LimitReader(content, b.Size), MaxRecord)
		for number := range b.numbers() {
			m, err := records.Next()
			if err == io.EOF {
				return
			}
			selected := err == nil
			if err == nil {
				b.complete(m, number)
				selected, err = s.selects(b, m)
			}
			if err != nil {
				err = fmt.Errorf("blob %s: %w", b.Name, err)
				m = nil
			}
			if (selected || err != nil) && !yield(Line{m, records.Line()}, err) {
				return
			}
			if err != nil && !errors.As(err, new(*record.CorruptError)) {
				return
			}
		}
	}
}

// Find returns the blob of a name, or [store.ErrNotFound]. One whose name is none of those that Persistor gives has no
// Kind, and its records are selected only by what they say themselves.
func Find(ctx context.Context, from Store, name string) (Blob, error) {
	for listed, err := range from.List(ctx, name) {
		if err != nil {
			return Blob{}, err
		}
		if listed.Name != name {
			break // in the order of names it would have been the first
		}
		b, err := parseBlob(listed)
		if errors.Is(err, errForeign) {
			err = nil
		}
		return b, err
	}
	return Blob{}, fmt.Errorf("blob %s: %w", name, store.ErrNotFound)
}

// selects reports whether a message of a blob is selected. Only where the blob is not known to lie within the bounds as a
// whole is the message asked.
func (s Selection) selects(b Blob, m *message.Message) (bool, error) {
	early := !s.From.IsZero() && b.Earliest.Before(s.From)
	late := !s.Until.IsZero() && (b.Latest.IsZero() || !b.Latest.Before(s.Until))
	if early || late {
		at := timeOf(b, m)
		if at.IsZero() {
			return false, fmt.Errorf("select by time: %w; take whole days, or sequence numbers", ErrUntold)
		}
		if at.Before(s.From) || !s.Until.IsZero() && !at.Before(s.Until) {
			return false, nil
		}
	}
	below := s.First != nil && b.First < *s.First
	above := s.Last != nil && (b.Last == unknown || b.Last > *s.Last)
	if below || above {
		if m.SequenceNumber == unknown {
			return false, fmt.Errorf("select by sequence number: %w; take whole blobs", ErrUntold)
		}
		return (s.First == nil || m.SequenceNumber >= *s.First) && (s.Last == nil || m.SequenceNumber <= *s.Last), nil
	}
	return true, nil
}
