// Package publish sends events to an Event Hub, in full batches of which several are under way at once.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
	"golang.org/x/sync/errgroup"

	"persistor/internal/message"
)

// Event is one event to send.
type Event struct {
	Body []byte
	// Properties are the application properties: AMQP scalars as [message.Message] lists them. They are
	// not changed.
	Properties  map[string]any
	ContentType *string
	// MessageID and CorrelationID are nil, string, uint64, [message.UUID] or []byte. The SDK makes up
	// a message id where there is none.
	MessageID     any
	CorrelationID any

	// Partition is the id of the partition to send to; "" leaves the choice to Key, or to the hub.
	Partition string
	// Key is the partition key; nil for none. With a Partition it is only written into the event: so
	// events of many keys fill one batch. Without, the hub chooses the partition by it, and since all
	// of a batch have one key then, many keys mean small batches.
	Key *string
}

// Options say how to send. The zero value is usable.
type Options struct {
	// InFlight is how many batches are under way at once: 1 to 64, 0 means 8. Batches of one partition
	// or key follow each other, whatever it says.
	InFlight int
	// Progress is called after every batch that the hub has accepted, one call at a time; nil for none.
	Progress func(Result)
}

// Result counts what the hub has accepted.
type Result struct {
	Events  int64         `json:"events"`
	Bytes   int64         `json:"bytes"` // of bodies
	Batches int64         `json:"batches"`
	Elapsed time.Duration `json:"-"`
}

// TooLargeError says which event does not fit into a batch of its own.
type TooLargeError struct {
	Event int64 // counts from 0
	Bytes int   // of its body
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("event %d with a body of %d bytes is larger than the hub accepts", e.Event, e.Bytes)
}

const (
	defaultInFlight = 8
	maxInFlight     = 64
	// maxHeld bounds the bytes that batches hold while they fill, over all lanes.
	maxHeld = 32 << 20
	// maxLanes bounds the lanes that are being filled, for events of many keys.
	maxLanes = 1024
)

// Events sends events in the order they come, by partition or key: within one of these no event
// overtakes another. Events with neither may. It returns when all that it sent is answered, and counts
// what the hub accepted also when it fails; a batch that failed may have been accepted nevertheless
// (its answer lost), and the SDK's own retries can repeat a batch for the same reason.
//
// When ctx ends, the error wraps its cause.
func Events(ctx context.Context, producer *azeventhubs.ProducerClient, events iter.Seq[Event], options Options) (Result, error) {
	if options.InFlight < 0 || options.InFlight > maxInFlight {
		return Result{}, fmt.Errorf("publish events: %d batches in flight: expected 1 to %d", options.InFlight, maxInFlight)
	}
	if options.InFlight == 0 {
		options.InFlight = defaultInFlight
	}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(options.InFlight)
	s := &sender{
		producer: producer,
		group:    group,
		lanes:    make(map[target]*lane),
		progress: options.Progress,
		start:    time.Now(),
	}
	fillErr := s.fill(sending, events)
	sendErr := group.Wait()
	s.result.Elapsed = time.Since(s.start)
	switch {
	case ctx.Err() != nil:
		return s.result, fmt.Errorf("publish events: stopped after %d were accepted: %w", s.result.Events, context.Cause(ctx))
	case sendErr != nil: // the cause of a fillErr, if both failed
		return s.result, fmt.Errorf("publish events: after %d were accepted: %w", s.result.Events, sendErr)
	case fillErr != nil:
		return s.result, fmt.Errorf("publish events: after %d were accepted: %w", s.result.Events, fillErr)
	}
	return s.result, nil
}

// target is what the events of one batch have in common.
type target struct {
	partition string
	key       string
	keyed     bool // the key may be ""
}

// ordered reports whether a target's batches have to follow each other.
func (t target) ordered() bool { return t.partition != "" || t.keyed }

func (e Event) target() target {
	switch {
	case e.Partition != "":
		return target{partition: e.Partition}
	case e.Key != nil:
		return target{key: *e.Key, keyed: true}
	}
	return target{}
}

// lane is a target's batch while it fills.
type lane struct {
	target target
	batch  *azeventhubs.EventDataBatch // nil when nothing waits
	bodies int64                       // bytes
	last   *flight                     // the batch before; nil when there is none
}

// flight is a batch that was handed over for sending. The field err is set before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

type sender struct {
	producer *azeventhubs.ProducerClient
	group    *errgroup.Group

	// Of the filling goroutine alone.
	lanes map[target]*lane
	held  uint64 // bytes in batches that fill

	mu       sync.Mutex // guards result, and serialises progress
	result   Result
	progress func(Result)
	start    time.Time
}

// fill puts events into batches, and hands over those that are full, then the rest.
func (s *sender) fill(ctx context.Context, events iter.Seq[Event]) error {
	var n int64
	for event := range events {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.add(ctx, event); errors.Is(err, azeventhubs.ErrEventDataTooLarge) {
			s.flush(ctx) // what came before it is sent
			return &TooLargeError{n, len(event.Body)}
		} else if err != nil {
			return fmt.Errorf("add event %d: %w", n, err)
		}
		n++
		if s.held > maxHeld || len(s.lanes) > maxLanes {
			if err := s.relieve(ctx); err != nil {
				return err
			}
		}
	}
	s.flush(ctx)
	return nil
}

// add puts an event into its lane's batch. When the batch is full it goes, and the event starts the next.
func (s *sender) add(ctx context.Context, event Event) error {
	t := event.target()
	l := s.lanes[t]
	if l == nil {
		l = &lane{target: t}
		s.lanes[t] = l
	}
	message := event.message()
	if l.batch != nil {
		err := s.put(l, message, len(event.Body))
		if !errors.Is(err, azeventhubs.ErrEventDataTooLarge) {
			return err
		}
		s.send(ctx, l)
	}
	batch, err := s.producer.NewEventDataBatch(ctx, t.options())
	if err != nil {
		return fmt.Errorf("open a batch: %w", err)
	}
	l.batch = batch
	if err := s.put(l, message, len(event.Body)); err != nil {
		l.batch = nil
		return err
	}
	return nil
}

func (s *sender) put(l *lane, message *azeventhubs.AMQPAnnotatedMessage, body int) error {
	before := l.batch.NumBytes()
	if err := l.batch.AddAMQPAnnotatedMessage(message, nil); err != nil {
		return err
	}
	l.bodies += int64(body)
	s.held += l.batch.NumBytes() - before
	return nil
}

// relieve hands over the fullest batches until half of the room is free, and forgets their lanes once
// they are answered: a lane that comes back later starts anew, with nothing to wait for.
func (s *sender) relieve(ctx context.Context) error {
	fullestFirst := slices.SortedFunc(maps.Values(s.lanes), func(a, b *lane) int {
		return cmp.Compare(b.size(), a.size())
	})
	var emptied []*lane
	for _, l := range fullestFirst {
		if s.held <= maxHeld/2 && len(s.lanes)-len(emptied) <= maxLanes/2 {
			break
		}
		if l.batch != nil {
			s.send(ctx, l)
		}
		emptied = append(emptied, l)
	}
	for _, l := range emptied {
		if l.last != nil {
			select {
			case <-l.last.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		delete(s.lanes, l.target)
	}
	return nil
}

// size is how many bytes wait in a lane.
func (l *lane) size() uint64 {
	if l.batch == nil {
		return 0
	}
	return l.batch.NumBytes()
}

// flush hands over every batch that holds something.
func (s *sender) flush(ctx context.Context) {
	for _, l := range s.lanes {
		if l.batch != nil {
			s.send(ctx, l)
		}
	}
}

// send hands a lane's batch over, once fewer than InFlight are under way.
func (s *sender) send(ctx context.Context, l *lane) {
	batch, bodies, before, target := l.batch, l.bodies, l.last, l.target
	this := &flight{done: make(chan struct{})}
	s.held -= batch.NumBytes()
	l.batch, l.bodies, l.last = nil, 0, this
	if !target.ordered() {
		before = nil
	}
	s.group.Go(func() error {
		defer close(this.done)
		this.err = s.deliver(ctx, batch, bodies, before, target)
		return this.err
	})
}

// deliver sends one batch, after the one before it was accepted.
func (s *sender) deliver(ctx context.Context, batch *azeventhubs.EventDataBatch, bodies int64, before *flight, t target) error {
	if before != nil {
		<-before.done // ends with ctx
		if before.err != nil {
			return before.err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.producer.SendEventDataBatch(ctx, batch, nil); err != nil {
		return fmt.Errorf("send %d events to %s: %w", batch.NumEvents(), t, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Batches++
	s.result.Events += int64(batch.NumEvents())
	s.result.Bytes += bodies
	s.result.Elapsed = time.Since(s.start)
	if s.progress != nil {
		s.progress(s.result)
	}
	return nil
}

func (t target) options() *azeventhubs.EventDataBatchOptions {
	switch {
	case t.partition != "":
		return &azeventhubs.EventDataBatchOptions{PartitionID: &t.partition}
	case t.keyed:
		return &azeventhubs.EventDataBatchOptions{PartitionKey: &t.key}
	}
	return nil
}

func (t target) String() string {
	switch {
	case t.partition != "":
		return fmt.Sprintf("partition %q", t.partition)
	case t.keyed:
		return fmt.Sprintf("the partition of key %q", t.key)
	}
	return "any partition"
}

// partitionKeyAnnotation carries the partition key, as the SDK writes it from a batch's options.
const partitionKeyAnnotation = "x-opt-partition-key"

func (e Event) message() *azeventhubs.AMQPAnnotatedMessage {
	m := &azeventhubs.AMQPAnnotatedMessage{
		ApplicationProperties: sendableMap(e.Properties),
		Body:                  azeventhubs.AMQPAnnotatedMessageBody{Data: [][]byte{e.Body}},
		Properties: &azeventhubs.AMQPAnnotatedMessageProperties{
			ContentType:   e.ContentType,
			MessageID:     sendable(e.MessageID),
			CorrelationID: sendable(e.CorrelationID),
		},
	}
	if e.Key != nil && e.Partition != "" {
		m.MessageAnnotations = map[any]any{partitionKeyAnnotation: *e.Key}
	}
	return m
}

// sendable is a value in the types of the client, which has a UUID of its own.
func sendable(value any) any {
	if id, ok := value.(message.UUID); ok {
		return amqp.UUID(id)
	}
	return value
}

// sendableMap is m itself, or a copy where something in it has to change.
func sendableMap(m map[string]any) map[string]any {
	cloned := false
	for name, value := range m {
		if _, ok := value.(message.UUID); !ok {
			continue
		}
		if !cloned {
			m, cloned = maps.Clone(m), true
		}
		m[name] = sendable(value)
	}
	return m
}
