package emulator

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"persistor/emulator/internal/wire"
)

// QueueInfo tells what a queue, a subscription, one of their sub-queues or a topic holds, and what happened in it.
type QueueInfo struct {
	Active    int64 // that can be received
	Locked    int64 // that a receiver has, and has not settled
	Deferred  int64
	Scheduled int64
	Bytes     int64 // of all of them; of a synthetic queue, of those that were received
	Sessions  int64 // that have messages, a receiver or a state

	// LastSequenceNumber is that of the newest message, 0 if there never was one.
	LastSequenceNumber int64

	// Since the start:
	Sent         int64 // came in
	Duplicates   int64 // of these, were dropped as duplicates
	Completed    int64 // removed by a receiver
	Abandoned    int64 // failed deliveries: by a receiver's word or the end of a lock
	Expired      int64 // whose time was over
	DeadLettered int64 // moved to the dead-letter queue
}

// Queue tells of a queue, or of a subscription, a dead-letter queue or a topic: the path is as an address, for example
// orders, orders/$DeadLetterQueue or topic/Subscriptions/audit. The error is of a path that there is not.
func (e *Emulator) Queue(path string) (QueueInfo, error) {
	q, err := e.queue(path)
	if err != nil {
		return QueueInfo{}, fmt.Errorf("inspect queue: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(q.now())
	info := q.info
	info.LastSequenceNumber = q.last
	info.Sessions = int64(len(q.sessions))
	return info, nil
}

func (e *Emulator) queue(path string) (*queue, error) {
	q := e.queues[strings.ToLower(strings.Trim(path, "/"))]
	if q == nil {
		return nil, fmt.Errorf("there is no queue, topic or subscription %q", path)
	}
	return q, nil
}

// QueueMessage is a message of a queue as a test sees it, past the wire.
type QueueMessage struct {
	SequenceNumber int64 // given by the queue, ignored by PutMessages
	Enqueued       time.Time
	MessageID      string
	SessionID      *string // nil for none
	State          MessageState
	DeliveryCount  uint32 // deliveries that failed
	// Why and where a message in a dead-letter queue was dead-lettered, as far as was said.
	DeadLetterReason, DeadLetterDescription, DeadLetterSource string
	// Message is the encoded AMQP message. PutMessages makes one of the body and the ids if it is nil.
	Message []byte
	// Body is the body of a message of one data section, nil of any other.
	Body []byte
}

// Messages yields the messages that a queue holds in the order of their sequence numbers, as Queue finds it. What it
// yields is the caller's.
func (e *Emulator) Messages(path string) (iter.Seq[QueueMessage], error) {
	q, err := e.queue(path)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	return func(yield func(QueueMessage) bool) {
		for next := int64(1); ; {
			m, ok := q.show(next)
			if !ok || !yield(m) {
				return
			}
			next = m.SequenceNumber + 1
		}
	}, nil
}

// show returns the first message from a sequence number on.
func (q *queue) show(from int64) (QueueMessage, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(q.now())
	for m := range q.all(from) {
		shown := QueueMessage{
			SequenceNumber: m.sequence, Enqueued: time.UnixMilli(m.enqueued).UTC(), SessionID: m.session, State: m.state,
			DeliveryCount: m.deliveries, Message: m.append(nil),
		}
		if m.locked && m.state == MessageActive {
			shown.State = MessageLocked
		}
		if id, ok := wire.NewReader(m.id).Any().(string); ok {
			shown.MessageID = id
		}
		shown.Body = inspect(shown.Message).Body
		shown.DeadLetterReason, _ = m.property(propertyReason).(string)
		shown.DeadLetterDescription, _ = m.property(propertyDescription).(string)
		shown.DeadLetterSource = m.source
		return shown, true
	}
	return QueueMessage{}, false
}

// all yields the messages from a sequence number on, those of a synthetic queue that it has not made too. The queue
// must not change meanwhile.
func (q *queue) all(from int64) iter.Seq[*message] {
	if q.made == nil {
		return q.store.from(from)
	}
	return func(yield func(*message) bool) {
		for sequence := max(from, 1); sequence <= q.last; sequence++ {
			m := q.store.at(sequence)
			if lane := q.made.laneOf(q, sequence); m == nil && lane != nil && sequence >= lane.next {
				m = q.made.make(sequence, lane.group)
			}
			if m != nil && !yield(m) {
				return
			}
		}
	}
}

// PutMessages puts messages into a queue or a topic without a client: each whole if it has a Message, else one made of
// its Body, MessageID and SessionID. One with an enqueued time before the last message's is an error, as is one without
// a session id where sessions are required; then none is put.
func (e *Emulator) PutMessages(path string, ms ...QueueMessage) error {
	q, err := e.queue(path)
	if err == nil {
		err = q.put(ms)
	}
	if err != nil {
		return fmt.Errorf("put messages: %w", err)
	}
	return nil
}

func (q *queue) put(ms []QueueMessage) error {
	contents := make([]*content, len(ms))
	for i, m := range ms {
		var err error
		if contents[i], err = parseContent(m.encode()); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.made != nil {
		return fmt.Errorf("queue %q is synthetic", q.path)
	}
	now := q.now()
	q.sweep(now)
	if refusal := q.refuse(contents); refusal != nil {
		return refusal
	}
	last := q.lastMade
	for i, m := range ms {
		if m.Enqueued.IsZero() {
			continue
		}
		if m.Enqueued.UnixMilli() < last {
			return fmt.Errorf("message %d: it has the time %v, and is not the first to be enqueued after %v", i, m.Enqueued, time.UnixMilli(last).UTC())
		}
		last = m.Enqueued.UnixMilli()
	}
	for i, c := range contents {
		at := now
		if !ms[i].Enqueued.IsZero() {
			at = ms[i].Enqueued.UnixMilli()
		}
		q.receive(c, at)
	}
	q.arm(now)
	return nil
}

// Purge removes all messages of a queue, whatever their state, and returns how many there were. The locks of sessions
// stay, and so do the states.
func (e *Emulator) Purge(path string) (int64, error) {
	q, err := e.queue(path)
	if err != nil {
		return 0, fmt.Errorf("purge queue: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(q.now())
	n := q.info.Active + q.info.Locked + q.info.Deferred + q.info.Scheduled
	for _, m := range slices.Collect(q.store.from(1)) {
		q.remove(m)
	}
	if q.made != nil {
		q.made.purge(q)
	}
	return n, nil
}

// encode returns the message, or makes one.
func (m QueueMessage) encode() []byte {
	if m.Message != nil {
		return append([]byte(nil), m.Message...)
	}
	var fields wire.PropertyFields
	if m.MessageID != "" {
		fields[wire.PropertyMessageID] = wire.AppendString(nil, m.MessageID)
	}
	if m.SessionID != nil {
		fields[wire.PropertyGroupID] = wire.AppendString(nil, *m.SessionID)
	}
	return wire.AppendBinary(wire.AppendSection(wire.AppendPropertyFields(nil, &fields), wire.SectionData), m.Body)
}
