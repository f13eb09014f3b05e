package pull

import (
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
)

// batch is a run of messages, encoded, that may become one blob: sequence numbers without a hole, all
// of one cell (record.CellSize) and of one UTC day. Its buffers are used again and again.
type batch struct {
	buf      []byte
	ends     []int // where each record ends in buf
	dropped  int   // records at the front that are stored already
	first    int64 // sequence number of the first record in buf, dropped or not
	enqueued time.Time
	offset   string // of the last message
	began    time.Time
}

func (b *batch) reset() {
	b.buf, b.ends, b.dropped, b.offset = b.buf[:0], b.ends[:0], 0, ""
}

// len is the number of records still to be stored.
func (b *batch) len() int { return len(b.ends) - b.dropped }

func (b *batch) firstLive() int64 { return b.first + int64(b.dropped) }
func (b *batch) last() int64      { return b.first + int64(len(b.ends)) - 1 }

// live is the encoded form of the records still to be stored.
func (b *batch) live() []byte {
	if b.dropped == 0 {
		return b.buf
	}
	return b.buf[b.ends[b.dropped-1]:]
}

// drop leaves out every record up to sequence number through, and says how many that were.
func (b *batch) drop(through int64) int64 {
	n := min(max(through-b.firstLive()+1, 0), int64(b.len()))
	b.dropped += int(n)
	return n
}

// add encodes m at the end of the batch unless that would break one of its rules or limits; a message
// is never refused by an empty batch.
func (b *batch) add(m *message.Message, f record.Format, limits Limits) bool {
	if len(b.ends) == 0 {
		b.first, b.enqueued, b.began = m.SequenceNumber, m.EnqueuedTime, time.Now()
	} else if len(b.ends) >= limits.Count || m.SequenceNumber != b.last()+1 ||
		m.SequenceNumber%record.CellSize == 0 || day(m.EnqueuedTime) != day(b.enqueued) {
		return false
	}
	size := len(b.buf)
	b.buf = f.Append(b.buf, m)
	if len(b.ends) > 0 && len(b.buf) > limits.Bytes {
		b.buf = b.buf[:size]
		return false
	}
	b.ends = append(b.ends, len(b.buf))
	b.offset = m.Offset
	return true
}

// full reports whether the batch has reached a limit already, so that there is no use in waiting.
func (b *batch) full(limits Limits) bool {
	return len(b.ends) >= limits.Count || len(b.buf) >= limits.Bytes
}

// day numbers UTC days.
func day(t time.Time) int64 {
	const seconds = 24 * 60 * 60
	u := t.Unix()
	if u < 0 {
		u -= seconds - 1
	}
	return u / seconds
}
