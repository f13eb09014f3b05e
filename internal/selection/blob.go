package selection

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
)

// Kind is what a blob holds the messages of.
type Kind string

const (
	Hub     Kind = "event hub"  // of a partition of an Event Hub
	Queue   Kind = "queue"      // of competing receivers of a Service Bus queue, subscription or dead-letter queue
	Session Kind = "session"    // of a session of Service Bus
	Event   Kind = "event grid" // of Event Grid
)

// Blob is what name and metadata say of a stored blob.
type Blob struct {
	Name   string `json:"name"`
	Size   int64  `json:"bytes"`
	Kind   Kind   `json:"kind"`
	Folder string `json:"folder"`
	// Partition is a partition's id, Entity the path of a Service Bus entity, Source an Event Grid event's; each "" for what has none.
	Partition string `json:"partition,omitempty"`
	Entity    string `json:"entity,omitempty"`
	Source    string `json:"source,omitempty"`
	// Session is a session's id; nil for what is of none.
	Session *string `json:"session,omitempty"`
	// First and Last are the lowest and the highest sequence number, both -1 for Event Grid. A Service Bus blob need
	// not have all between them.
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	Count int64 `json:"count"` // messages
	// Day is midnight UTC of the day that the messages are of; zero for events that tell no time.
	Day time.Time `json:"day,omitzero"`
	// Earliest and Latest bound the times of the messages, both included, as closely as name and metadata do: at least to
	// the day. Both are zero for events that tell no time.
	Earliest time.Time `json:"earliest,omitzero"`
	Latest   time.Time `json:"latest,omitzero"`
	Run      string    `json:"run"` // that stored it, or added to it last

	told   int64            // length in bytes, by the metadata
	prefix string           // of the name, up to the date
	held   record.Sequences // of a session
}

// unknown stands for a sequence number that nothing tells.
const unknown = -1

// errForeign is about a blob whose name isn't one of a record's blobs.
var errForeign = errors.New("no blob of records")

// parseBlob reads what the list says of a blob. On an error other than errForeign what is returned has the blob's name and size, and
// what the name says.
func parseBlob(listed store.Blob) (Blob, error) {
	b := Blob{Name: listed.Name, Size: listed.Size, First: unknown, Last: unknown}
	err := b.parse(listed.Metadata)
	if err != nil && !errors.Is(err, errForeign) {
		err = fmt.Errorf("blob %s: %w", b.Name, err)
	}
	return b, err
}

func (b *Blob) parse(metadata map[string]string) error {
	if name, err := record.ParseEventHubName(b.Name); err == nil {
		return b.parseHub(name, metadata)
	}
	if name, err := record.ParseQueueName(b.Name); err == nil {
		return b.parseQueue(name, metadata)
	}
	if name, err := record.ParseEventName(b.Name); err == nil {
		return b.parseEvent(name, metadata)
	}
	// Last, since a name of the others is one of a session in a folder of digits, too.
	if name, err := record.ParseSessionName(b.Name); err == nil {
		return b.parseSession(name, metadata)
	}
	return errForeign
}

// named takes over what the names of all kinds say: segments is how many there are from the year on.
func (b *Blob) named(kind Kind, folder string, segments int, day, minute time.Time) {
	b.Kind, b.Folder, b.Day = kind, folder, day
	at := len(b.Name)
	for range segments {
		at = strings.LastIndexByte(b.Name[:max(at, 0)], '/')
	}
	b.prefix = b.Name[:at+1]
	switch {
	case day.IsZero():
	case minute.IsZero():
		b.Earliest, b.Latest = day, day.Add(24*time.Hour-time.Millisecond)
	default:
		b.Earliest, b.Latest = minute, minute.Add(time.Minute-time.Millisecond)
	}
}

func (b *Blob) parseHub(name record.EventHubBlob, metadata map[string]string) error {
	b.named(Hub, name.Folder, 4, name.Day, name.Minute)
	b.Partition, b.First = name.Partition, name.First
	span, err := record.ParseSpan(metadata)
	if err != nil {
		return err
	}
	if span.First != name.First {
		return fmt.Errorf("its metadata say that it begins at %d", span.First)
	}
	b.Last, b.Count, b.Run, b.told = span.Last, span.Count, span.Run, span.Bytes
	if !span.Latest.IsZero() {
		b.Latest = span.Latest
	}
	return nil
}

func (b *Blob) parseQueue(name record.QueueBlob, metadata map[string]string) error {
	b.named(Queue, name.Folder, 4, name.Day, name.Minute)
	b.First, b.Last = name.First, name.Last
	h, err := record.ParseHolding(metadata)
	if err != nil {
		return err
	}
	if h.Session != nil || !h.Held.Contains(name.First) {
		return errors.New("its metadata are not those of its name")
	}
	b.hold(h)
	return nil
}

func (b *Blob) parseSession(name record.SessionBlob, metadata map[string]string) error {
	b.named(Session, name.Folder, 5, name.Day, name.Minute)
	b.Session, b.First = &name.Session, name.First
	h, err := record.ParseHolding(metadata)
	if err != nil {
		return err
	}
	if h.Session == nil || h.Held.First() != name.First {
		return errors.New("its metadata are not those of its name")
	}
	b.Session, b.held = h.Session, h.Held
	b.hold(h)
	return nil
}

func (b *Blob) hold(h record.Holding) {
	b.Entity, b.Run, b.told = h.Entity, h.Run, h.Bytes
	b.First, b.Last, b.Count = h.Held.First(), h.Held.Last(), h.Held.Len()
	b.Earliest, b.Latest = h.Earliest, h.Latest
}

func (b *Blob) parseEvent(name record.EventBlob, metadata map[string]string) error {
	b.named(Event, name.Folder, 4, name.Day, time.Time{})
	if name.Day.IsZero() {
		b.named(Event, name.Folder, 2, time.Time{}, time.Time{})
	}
	e, err := record.ParseEvent(metadata)
	if err != nil {
		return err
	}
	b.Source, b.Count, b.Run, b.told = e.Source, e.Count, e.Run, e.Bytes
	if b.Count == 1 && !name.Day.IsZero() {
		b.Earliest, b.Latest = name.At, name.At.Add(time.Second-1)
	}
	return nil
}

// CheckSize says, in one line, that a blob is not as long as its metadata say: records may be missing at its end, though all
// that are there can be read.
func (b Blob) CheckSize() error {
	if b.Kind == "" || b.Size == b.told {
		return nil
	}
	return fmt.Errorf("blob %s: it has %d bytes, its metadata say %d: records may be missing, or be none of its own", b.Name, b.Size, b.told)
}

// ofSession reports whether the blob is of the session with this id, which may have been cut in name and metadata.
func (b Blob) ofSession(id string) bool {
	return b.Session != nil && (*b.Session == id || record.Holding{Entity: b.Entity, Session: b.Session}.Of(b.Entity, &id))
}

// numbers yields the sequence number of each of the blob's records, as far as its metadata tell it, and unknown
// for every other; it doesn't end.
func (b Blob) numbers() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		if b.Kind == Hub {
			for n := b.First; yield(n); n++ {
			}
			return
		}
		for n := range b.held.All() {
			if !yield(n) {
				return
			}
		}
		for yield(unknown) {
		}
	}
}

// complete adds to a message what its record left out, for want of SYSTEM, and the blob tells.
func (b Blob) complete(m *message.Message, number int64) {
	switch {
	case b.Kind == Event, b.Kind == "" && m.EnqueuedTime.IsZero():
		m.SequenceNumber = unknown
	case !m.EnqueuedTime.IsZero() || m.SequenceNumber > 0:
		return
	default:
		m.SequenceNumber, m.Partition, m.SessionID = number, b.Partition, b.Session
	}
}

// timeOf is the time by which a message is selected; zero when nothing tells it.
func timeOf(b Blob, m *message.Message) time.Time {
	if b.Kind != Event {
		return m.EnqueuedTime
	}
	for _, name := range []string{"eventTime", "time"} {
		if text, ok := m.Properties[name].(string); ok {
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				return at
			}
		}
	}
	return time.Time{}
}
