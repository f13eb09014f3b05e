package emulator

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"persistor/emulator/internal/wire"
)

// Synthetic makes a hub's events up from their sequence numbers when they are read, so that a backlog of any length
// takes no memory. The same number always gives the same event. Nothing can be sent to the hub.
type Synthetic struct {
	Events   int64 // of each partition, 1 and more
	BodySize int   // bytes of a body that is made up, 1,024 by default and up to 1 MiB
	// First is the enqueued time of the first event, 2024-01-01 by default, Interval the time from one to the next, a
	// millisecond by default. Enqueued times have whole milliseconds.
	First    time.Time
	Interval time.Duration
	// Body appends the body of an event to dst, if it is to be another than JSON of BodySize bytes. It is called from
	// many goroutines.
	Body func(dst []byte, partition string, sequence int64) []byte
}

// offsetStride is how far apart the offsets of synthetic events are.
const offsetStride = 1 << 10

// syntheticLog is the log of a synthetic partition.
type syntheticLog struct {
	Synthetic
	partition string
	filler    []byte
}

func newSyntheticLog(s Synthetic, partition string) (*syntheticLog, error) {
	setDefault(&s.BodySize, 1024)
	setDefault(&s.Interval, time.Millisecond)
	if s.First.IsZero() {
		s.First = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	last := time.Duration(0)
	if s.Events > 0 && s.Interval > 0 {
		last = (1<<63 - 1) / s.Interval // the most events before a duration overflows
	}
	switch {
	case s.Events < 1:
		return nil, errors.New("a synthetic hub has at least one event in each partition")
	case s.BodySize < 1 || s.BodySize > 1<<20:
		return nil, errors.New("the bodies of a synthetic hub have 1 byte to 1 MiB")
	case s.Interval < 0 || s.Events > int64(last) || s.Events > (1<<63-1)/offsetStride:
		return nil, errors.New("the times of a synthetic hub's events do not fit into 292 years")
	}
	l := &syntheticLog{Synthetic: s, partition: partition, filler: make([]byte, s.BodySize)}
	for i := range l.filler {
		l.filler[i] = 'a' + byte(i%26)
	}
	return l, nil
}

func (l *syntheticLog) offset(sequence int64) int64 { return sequence * offsetStride }

func (l *syntheticLog) enqueued(sequence int64) int64 {
	return l.First.Add(time.Duration(sequence) * l.Interval).UnixMilli()
}

func (l *syntheticLog) info() PartitionInfo {
	last := l.Events - 1
	return PartitionInfo{
		Last: last, LastOffset: strconv.FormatInt(l.offset(last), 10), LastEnqueued: time.UnixMilli(l.enqueued(last)).UTC(),
	}
}

func (l *syntheticLog) find(s selector) (int64, error) {
	return seek(s, 0, l.Events, func(sequence int64) (offset, enqueued int64) { return l.offset(sequence), l.enqueued(sequence) })
}

func (l *syntheticLog) read(dst []byte, from int64) (message []byte, sequence int64, ok bool) {
	sequence = max(from, 0)
	if sequence >= l.Events {
		return dst, from, false
	}
	dst = appendAnnotations(dst, sequence, l.offset(sequence), l.enqueued(sequence), nil, nil)
	dst = append(wire.AppendSection(dst, wire.SectionData), 0xb0, 0, 0, 0, 0)
	start := len(dst)
	if l.Body != nil {
		dst = l.Body(dst, l.partition, sequence)
	} else {
		dst = l.body(dst, sequence)
	}
	binary.BigEndian.PutUint32(dst[start-4:], uint32(len(dst)-start))
	return dst, sequence, true
}

// body appends {"partition":"0","sequence":1,"filler":"abc..."}, cut or filled to the size.
func (l *syntheticLog) body(dst []byte, sequence int64) []byte {
	start := len(dst)
	dst = append(append(append(dst, `{"partition":"`...), l.partition...), `","sequence":`...)
	dst = append(strconv.AppendInt(dst, sequence, 10), `,"filler":"`...)
	if missing := l.BodySize - (len(dst) - start) - 2; missing >= 0 {
		return append(append(dst, l.filler[:missing]...), `"}`...)
	}
	return dst[:start+l.BodySize]
}
