package pull

import (
	"cmp"
	"slices"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
)

// batch is a run of messages, encoded, that may become one blob: all of one UTC day of enqueued time.
// Its buffers are used again and again.
type batch struct {
	buf      []byte
	entries  []entry   // of the records in buf
	dropped  int       // records at the front that are stored already
	enqueued time.Time // of the first message
	offset   string    // of the last message
	began    time.Time
	held     record.Sequences // the numbers, where [locked.joins] keeps them
}

// entry is one record of a batch.
type entry struct {
	end      int       // where the record ends in buf
	number   int64     // the message's sequence number
	enqueued time.Time // when it was enqueued
	again    bool      // it has been delivered before
}

func (b *batch) reset() { *b = batch{buf: b.buf[:0], entries: b.entries[:0]} }

// len is the number of records still to be stored.
func (b *batch) len() int { return len(b.entries) - b.dropped }

// left are the records still to be stored.
func (b *batch) left() []entry { return b.entries[b.dropped:] }

// firstLive is the sequence number of the first record still to be stored, last that of the last record.
func (b *batch) firstLive() int64 { return b.entries[b.dropped].number }
func (b *batch) last() int64      { return b.entries[len(b.entries)-1].number }

// live is the encoded form of the records still to be stored.
func (b *batch) live() []byte {
	if b.dropped == 0 {
		return b.buf
	}
	return b.buf[b.entries[b.dropped-1].end:]
}

// drop leaves out every record up to sequence number through, and says how many that were. The records
// are in the order of their numbers.
func (b *batch) drop(through int64) int64 {
	n := 0
	for _, e := range b.left() {
		if e.number > through {
			break
		}
		n++
	}
	b.dropped += n
	return int64(n)
}

// remove leaves out the records that match, wherever they are, and returns their numbers.
func (b *batch) remove(match func(entry) bool) (removed []int64) {
	begin, size := 0, 0
	kept := b.entries[:0]
	for i, e := range b.entries {
		record := b.buf[begin:e.end]
		begin = e.end
		switch {
		case i < b.dropped:
			continue
		case match(e):
			removed = append(removed, e.number)
			continue
		}
		size += copy(b.buf[size:], record)
		e.end = size
		kept = append(kept, e)
	}
	b.buf, b.entries, b.dropped = b.buf[:size], kept, 0
	return removed
}

// prefix is as much of the batch, from its front, as one blob that holds onto already can say that it holds,
// within most bytes of text: one record at least of a new blob. It shares the batch's buffers.
func (b *batch) prefix(onto record.Sequences, most int) *batch {
	held, n := onto.Clone(), 0
	for _, e := range b.left() {
		if held.Len() > 0 && held.EncodedLenWith(e.number) > most {
			break
		}
		held.Add(e.number)
		n++
	}
	part := *b
	if part.entries = b.entries[:b.dropped+n]; n > 0 {
		part.buf = b.buf[:part.entries[len(part.entries)-1].end]
	}
	part.held = held
	return &part
}

// before is the batch up to the first record with a number of at least next. It shares the batch's buffers.
func (b *batch) before(next int64) *batch {
	part := *b
	if n, _ := slices.BinarySearchFunc(b.entries, next, func(e entry, next int64) int { return cmp.Compare(e.number, next) }); n < len(b.entries) {
		part.entries, part.buf = b.entries[:n], b.buf[:b.entries[n-1].end]
		part.offset = "" // not known of any but the last
	}
	return &part
}

// numbers are the sequence numbers of the records still to be stored.
func (b *batch) numbers() []int64 {
	numbers := make([]int64, 0, b.len())
	for _, e := range b.left() {
		numbers = append(numbers, e.number)
	}
	return numbers
}

// add encodes m at the end of the batch unless that would break one of the limits; a message is never
// refused by an empty batch.
func (b *batch) add(m *message.Message, f record.Format, limits Limits) bool {
	if len(b.entries) == 0 {
		b.enqueued, b.began = m.EnqueuedTime, time.Now()
	} else if len(b.entries) >= limits.Count || day(m.EnqueuedTime) != day(b.enqueued) || limits.minute && minute(m.EnqueuedTime) != minute(b.enqueued) {
		return false
	}
	size := len(b.buf)
	b.buf = f.Append(b.buf, m)
	if len(b.entries) > 0 && len(b.buf) > limits.Bytes {
		b.buf = b.buf[:size]
		return false
	}
	b.entries = append(b.entries, entry{len(b.buf), m.SequenceNumber, m.EnqueuedTime, m.DeliveryCount > 1})
	b.offset = m.Offset
	return true
}

// full reports whether the batch has reached a limit already, so that there is no use in waiting.
func (b *batch) full(limits Limits) bool {
	return len(b.entries) >= limits.Count || len(b.buf) >= limits.Bytes
}

// earliest is when the first of the records was enqueued that are still to be stored, latest the last.
func (b *batch) earliest() time.Time { return slices.MinFunc(b.left(), byEnqueued).enqueued }
func (b *batch) latest() time.Time   { return slices.MaxFunc(b.left(), byEnqueued).enqueued }

func byEnqueued(x, y entry) int { return x.enqueued.Compare(y.enqueued) }

// day numbers UTC days, minute the minutes of UTC.
func day(t time.Time) int64    { return period(t, 24*60*60) }
func minute(t time.Time) int64 { return period(t, 60) }

func period(t time.Time, seconds int64) int64 {
	u := t.Unix()
	if u < 0 {
		u -= seconds - 1
	}
	return u / seconds
}
