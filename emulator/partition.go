package emulator

import (
	"cmp"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"persistor/emulator/internal/wire"
)

// partition is a partition of a hub: a log, and those who read it.
type partition struct {
	hub    *hub
	id     string
	log    eventLog
	stored *storedLog // the log, unless the hub is synthetic

	mu      sync.Mutex
	readers []*reader // of all groups

	sent, sentBytes atomic.Int64 // events, over the wire
}

// PartitionInfo tells what a partition holds.
type PartitionInfo struct {
	// First is the sequence number of the oldest event that is kept, Last that of the newest. Both are -1 if there
	// never was one. After all were trimmed, First is Last+1.
	First, Last  int64
	LastOffset   string // "-1" if there never was an event
	LastEnqueued time.Time
	Empty        bool
}

// eventLog holds a partition's events, in order, from a first sequence number to a last one. It is safe for concurrent
// use.
type eventLog interface {
	info() PartitionInfo
	// find returns the sequence number that a reader with the selector starts at, be it that of an event to come.
	find(s selector) (int64, error)
	// read appends the first event at or after a sequence number to dst, encoded, and returns its sequence number. It
	// is false if there is none yet.
	read(dst []byte, from int64) (message []byte, sequence int64, ok bool)
}

func (p *partition) info() PartitionInfo { return p.log.info() }

// append stores events and wakes those who read.
func (p *partition) append(events []event) {
	p.stored.append(events)
	p.wakeReaders()
}

func (p *partition) wakeReaders() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.readers {
		r.link.s.c.wake()
	}
}

// The annotations that the service adds, or takes the partition from.
const (
	annotationSequence = "x-opt-sequence-number"
	annotationOffset   = "x-opt-offset"
	annotationEnqueued = "x-opt-enqueued-time"
	annotationKey      = "x-opt-partition-key"
)

// appendAnnotations appends an event's annotations section.
func appendAnnotations(dst []byte, sequence, offset, enqueued int64, key *string, others [][]byte) []byte {
	count := 3 + len(others)/2
	if key != nil {
		count++
	}
	return wire.AppendMap(wire.AppendSection(dst, wire.SectionMessageAnnotations), count, func(dst []byte) []byte {
		dst = wire.AppendLong(wire.AppendSymbol(dst, annotationSequence), sequence)
		var digits [20]byte
		dst = wire.AppendStringBytes(wire.AppendSymbol(dst, annotationOffset), strconv.AppendInt(digits[:0], offset, 10))
		dst = wire.AppendTimestamp(wire.AppendSymbol(dst, annotationEnqueued), enqueued)
		if key != nil {
			dst = wire.AppendString(wire.AppendSymbol(dst, annotationKey), *key)
		}
		for _, raw := range others {
			dst = wire.AppendRaw(dst, raw)
		}
		return dst
	})
}

// storedLog is a log in memory. Events are in chunks, so that the oldest can go without moving the others.
type storedLog struct {
	count int // events that are kept, 0 for all
	age   time.Duration
	now   func() time.Time

	mu       sync.Mutex
	chunks   [][]stored
	base     int64 // sequence number of the first entry of the first chunk
	first    int64 // of the oldest event that is kept
	end      int64 // of the event to come
	bytes    int64 // of all events that there ever were: the offset of the one to come
	offset   int64 // of the last event
	enqueued int64 // of the last event, Unix ms
}

// stored is an event as it goes out.
type stored struct {
	message          []byte
	offset, enqueued int64 // enqueued in Unix ms
}

const chunkSize = 1024

// at returns an event that is kept.
func (l *storedLog) at(sequence int64) *stored {
	i := sequence - l.base
	return &l.chunks[i/chunkSize][i%chunkSize]
}

func (l *storedLog) append(events []event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The service never dates an event before the one that it follows, whatever its clocks do.
	l.appendAt(events, max(l.now().UnixMilli(), l.enqueued))
}

// appendAt appends events of one enqueued time, not before the last one's. They share one buffer.
func (l *storedLog) appendAt(events []event, enqueued int64) {
	size := 0
	for _, e := range events {
		size += len(e.rest) + 160 // for the annotations, usually
	}
	buf := make([]byte, 0, size)
	for _, e := range events {
		start := len(buf)
		buf = appendAnnotations(buf, l.end, l.bytes, enqueued, e.key, e.annotations)
		buf = append(buf, e.rest...)
		message := buf[start:len(buf):len(buf)]
		if n := len(l.chunks); n == 0 || len(l.chunks[n-1]) == chunkSize {
			l.chunks = append(l.chunks, make([]stored, 0, chunkSize))
		}
		last := &l.chunks[len(l.chunks)-1]
		*last = append(*last, stored{message, l.bytes, enqueued})
		l.offset, l.enqueued = l.bytes, enqueued
		l.bytes += int64(len(message))
		l.end++
	}
	l.trim()
}

// trim lets go of the events that are over the retention.
func (l *storedLog) trim() {
	first := l.first
	if l.count > 0 {
		first = max(first, l.end-int64(l.count))
	}
	if l.age > 0 {
		limit := l.now().Add(-l.age).UnixMilli()
		for first < l.end && l.at(first).enqueued < limit {
			first++
		}
	}
	l.trimTo(first)
}

func (l *storedLog) trimTo(first int64) {
	for ; l.first < first; l.first++ {
		l.at(l.first).message = nil
		if l.first-l.base == chunkSize-1 {
			l.chunks = l.chunks[1:]
			l.base += chunkSize
		}
	}
}

func (l *storedLog) info() PartitionInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trim()
	if l.end == 0 {
		return PartitionInfo{First: -1, Last: -1, LastOffset: "-1", LastEnqueued: neverEnqueued, Empty: true}
	}
	return PartitionInfo{
		First: l.first, Last: l.end - 1, Empty: l.first == l.end,
		LastOffset: strconv.FormatInt(l.offset, 10), LastEnqueued: time.UnixMilli(l.enqueued).UTC(),
	}
}

func (l *storedLog) find(s selector) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trim()
	return seek(s, l.first, l.end, func(sequence int64) (offset, enqueued int64) {
		e := l.at(sequence)
		return e.offset, e.enqueued
	})
}

// seek finds where a selector starts among the events from first up to, not including, end. Offsets and times never
// fall from one event to the next.
func seek(s selector, first, end int64, at func(sequence int64) (offset, enqueued int64)) (int64, error) {
	switch {
	case s.fromBeginning():
		return first, nil
	case s.fromEnd():
		return end, nil
	}
	search := func(value int64, field func(sequence int64) int64) int64 {
		n := sort.Search(int(end-first), func(i int) bool {
			order := cmp.Compare(field(first+int64(i)), value)
			return order > 0 || order == 0 && s.inclusive
		})
		return first + int64(n)
	}
	switch s.field {
	case bySequenceNumber:
		from := s.number
		if !s.inclusive && from < end {
			from++
		} else if from >= end && from > 0 && !(s.inclusive && from == end) {
			return 0, fmt.Errorf("the supplied sequence number '%d' is invalid. The last sequence number in the system is '%d'", s.number, end-1)
		}
		return min(max(from, first), end), nil
	case byEnqueuedTime:
		return search(s.number, func(sequence int64) int64 { _, enqueued := at(sequence); return enqueued }), nil
	default:
		offset, err := strconv.ParseInt(s.offset, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("the supplied offset '%s' is invalid: it is no number", s.offset)
		}
		return search(offset, func(sequence int64) int64 { offset, _ := at(sequence); return offset }), nil
	}
}

func (l *storedLog) read(dst []byte, from int64) (message []byte, sequence int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence = max(from, l.first) // retention may have passed the reader by
	if sequence >= l.end {
		return dst, from, false
	}
	return append(dst, l.at(sequence).message...), sequence, true
}
