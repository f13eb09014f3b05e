package emulator

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"persistor/emulator/internal/wire"
)

// Event is an event of a partition as a test sees it, past the wire.
type Event struct {
	SequenceNumber int64  // given by the partition, ignored by Put
	Offset         string // given by the partition, ignored by Put
	Enqueued       time.Time
	PartitionKey   string // empty for none
	// Message is the encoded AMQP message, annotations first; ignored by Put, which makes one of Body.
	Message []byte
	// Body is the body of a message of one data section, nil of any other.
	Body []byte
}

// Partition returns what a partition of a hub holds. The error is of a hub or partition that there is not.
func (e *Emulator) Partition(hub, partition string) (PartitionInfo, error) {
	p, err := e.find(hub, partition)
	if err != nil {
		return PartitionInfo{}, fmt.Errorf("inspect partition: %w", err)
	}
	return p.info(), nil
}

// Sent returns how many events of a partition have gone out to receivers, and how many bytes they have, encoded. One
// that has gone out several times counts each time, whether or not its receiver has taken it.
func (e *Emulator) Sent(hub, partition string) (events, bytes int64, err error) {
	p, err := e.find(hub, partition)
	if err != nil {
		return 0, 0, fmt.Errorf("inspect partition: %w", err)
	}
	return p.sent.Load(), p.sentBytes.Load(), nil
}

// Events yields the events that a partition holds from a sequence number on, up to the last there is when it gets
// there. What it yields is the caller's.
func (e *Emulator) Events(hub, partition string, from int64) (iter.Seq[Event], error) {
	p, err := e.find(hub, partition)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return func(yield func(Event) bool) {
		for {
			message, sequence, ok := p.log.read(nil, from)
			if !ok || !yield(inspect(message)) {
				return
			}
			from = sequence + 1
		}
	}, nil
}

// inspect takes a message apart that the emulator made.
func inspect(message []byte) Event {
	e := Event{Message: message}
	data := 0
	for section := range wire.Sections(message) {
		switch section.Code {
		case wire.SectionMessageAnnotations:
			annotations, _ := wire.NewReader(section.Value).Any().(wire.Map)
			e.SequenceNumber, _ = annotations.Get(annotationSequence).(int64)
			e.Offset = annotations.String(annotationOffset)
			e.PartitionKey = annotations.String(annotationKey)
			enqueued, _ := annotations.Get(annotationEnqueued).(wire.Timestamp)
			e.Enqueued = time.UnixMilli(int64(enqueued)).UTC()
		case wire.SectionData:
			data++
			e.Body = wire.NewReader(section.Value).Binary()
		}
	}
	if data != 1 {
		e.Body = nil
	}
	return e
}

// Put appends an event to a partition without a client, with the given enqueued time, which is cut to a millisecond and
// is now if it is zero. It is an error if the last event's is later, or if the hub is synthetic.
func (e *Emulator) Put(hub, partition string, ev Event) error {
	p, err := e.find(hub, partition)
	if err == nil && p.stored == nil {
		err = fmt.Errorf("hub %q is synthetic", hub)
	}
	if err == nil {
		err = p.put(ev)
	}
	if err != nil {
		return fmt.Errorf("put event: %w", err)
	}
	return nil
}

func (p *partition) put(ev Event) error {
	made := event{rest: wire.AppendBinary(wire.AppendSection(nil, wire.SectionData), ev.Body)}
	if ev.PartitionKey != "" {
		made.key = &ev.PartitionKey
	}
	if ev.Enqueued.IsZero() {
		p.append([]event{made})
		return nil
	}
	l := p.stored
	l.mu.Lock()
	enqueued, last := ev.Enqueued.UnixMilli(), l.enqueued
	if enqueued < last {
		l.mu.Unlock()
		return fmt.Errorf("partition %s has an event of %v, after %v", p.id, time.UnixMilli(last).UTC(), ev.Enqueued)
	}
	l.appendAt([]event{made}, enqueued)
	l.mu.Unlock()
	p.wakeReaders()
	return nil
}

// Trim lets go of the events of a partition before a sequence number, as retention does; what is not there is no error.
func (e *Emulator) Trim(hub, partition string, before int64) error {
	p, err := e.find(hub, partition)
	if err == nil && p.stored == nil {
		err = fmt.Errorf("hub %q is synthetic", hub)
	}
	if err != nil {
		return fmt.Errorf("trim partition: %w", err)
	}
	p.stored.mu.Lock()
	defer p.stored.mu.Unlock()
	p.stored.trimTo(min(before, p.stored.end))
	return nil
}

func (e *Emulator) find(hub, partition string) (*partition, error) {
	h := e.hubs[strings.ToLower(hub)]
	if h == nil {
		return nil, fmt.Errorf("there is no hub %q", hub)
	}
	n, err := strconv.Atoi(partition)
	if err != nil || n < 0 || n >= len(h.partitions) {
		return nil, fmt.Errorf("hub %q has the partitions 0 to %d, not %q", hub, len(h.partitions)-1, partition)
	}
	return h.partitions[n], nil
}
