package emulator

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"
)

// messageStore holds the messages of a queue by sequence number, in chunks that go when all in them are gone. Numbers
// begin at 1.
type messageStore struct {
	chunks []*messageChunk // nil for one that is gone
	first  int64           // how many chunks are gone before the first of chunks
}

type messageChunk struct {
	live  int
	slots [chunkSize]*message
}

func (s *messageStore) locate(sequence int64) (chunk, slot int64) {
	return (sequence-1)/chunkSize - s.first, (sequence - 1) % chunkSize
}

// put stores a message under its sequence number. A synthetic queue with sessions makes its messages out of order, so
// that a chunk that has gone from the front may come again.
func (s *messageStore) put(m *message) {
	i, slot := s.locate(m.sequence)
	if i < 0 {
		s.chunks = slices.Insert(s.chunks, 0, make([]*messageChunk, -i)...)
		s.first += i
		i = 0
	}
	for int64(len(s.chunks)) <= i {
		s.chunks = append(s.chunks, nil)
	}
	if s.chunks[i] == nil {
		s.chunks[i] = &messageChunk{}
	}
	s.chunks[i].slots[slot] = m
	s.chunks[i].live++
}

// at returns a message, nil if there is none.
func (s *messageStore) at(sequence int64) *message {
	i, slot := s.locate(sequence)
	if sequence < 1 || i < 0 || i >= int64(len(s.chunks)) || s.chunks[i] == nil {
		return nil
	}
	return s.chunks[i].slots[slot]
}

// remove forgets a message. The last chunk stays even when nothing is in it, as the next message will be.
func (s *messageStore) remove(m *message) {
	i, slot := s.locate(m.sequence)
	chunk := s.chunks[i]
	chunk.slots[slot] = nil
	if chunk.live--; chunk.live > 0 || i == int64(len(s.chunks)-1) {
		return
	}
	s.chunks[i] = nil
	for s.chunks[0] == nil && len(s.chunks) > 1 {
		s.chunks = s.chunks[1:]
		s.first++
	}
}

// from yields the messages from a sequence number on. The store must not change meanwhile.
func (s *messageStore) from(sequence int64) iter.Seq[*message] {
	return func(yield func(*message) bool) {
		i, slot := s.locate(max(sequence, 1))
		if i < 0 {
			i, slot = 0, 0
		}
		for ; i < int64(len(s.chunks)); i, slot = i+1, 0 {
			if s.chunks[i] == nil {
				continue
			}
			for _, m := range s.chunks[i].slots[slot:] {
				if m != nil && !yield(m) {
					return
				}
			}
		}
	}
}

// lane is the messages that are received one after the other, in the order of their sequence numbers: those of a queue,
// or of one session.
type lane struct {
	ready    int64      // messages that can be received
	fresh    []*message // in order, from head on
	head     int
	returned bySequence // came back, and so go before what is fresh
	made     *madeLane  // in a synthetic queue: what it has not made yet, behind all others
}

func (l *lane) add(m *message) {
	l.ready++
	l.fresh = append(l.fresh, m)
}

// giveBack puts a message back that was taken.
func (l *lane) giveBack(m *message) {
	l.ready++
	heap.Push(&l.returned, m)
}

// drop takes note that a message of the lane has gone, wherever in it that is.
func (l *lane) drop() {
	l.ready--
	l.skip()
}

// skip lets go of messages in front that have gone.
func (l *lane) skip() {
	for len(l.returned) > 0 && l.returned[0].state == messageGone {
		heap.Pop(&l.returned)
	}
	for l.head < len(l.fresh) && l.fresh[l.head].state == messageGone {
		l.advance()
	}
}

func (l *lane) advance() {
	l.fresh[l.head] = nil
	l.head++
	switch {
	case l.head == len(l.fresh):
		l.fresh, l.head = l.fresh[:0], 0
	case l.head >= chunkSize && l.head > len(l.fresh)/2:
		n := copy(l.fresh, l.fresh[l.head:])
		clear(l.fresh[n:])
		l.fresh, l.head = l.fresh[:n], 0
	}
}

// take takes the first message out, nil if there is none. One that a synthetic queue makes is new to its queue.
func (l *lane) take() (m *message, made bool) {
	l.skip()
	switch {
	case len(l.returned) > 0 && (l.head == len(l.fresh) || l.returned[0].sequence < l.fresh[l.head].sequence):
		m = heap.Pop(&l.returned).(*message)
	case l.head < len(l.fresh):
		m = l.fresh[l.head]
		l.advance()
	case l.made != nil && l.made.left() > 0:
		m, made = l.made.take(), true
	default:
		return nil, false
	}
	l.ready--
	return m, made
}

// bySequence is a heap of messages by their sequence numbers.
type bySequence []*message

func (h bySequence) Len() int           { return len(h) }
func (h bySequence) Less(i, j int) bool { return h[i].sequence < h[j].sequence }
func (h bySequence) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *bySequence) Push(m any)        { *h = append(*h, m.(*message)) }

func (h *bySequence) Pop() any {
	last := len(*h) - 1
	m := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return m
}

// byTime is a heap of messages by the time at which something happens to them, which knows where in it each is.
type byTime struct {
	bySequence
	due func(*message) int64
}

func (h byTime) Less(i, j int) bool {
	order := cmp.Compare(h.due(h.bySequence[i]), h.due(h.bySequence[j]))
	return order < 0 || order == 0 && h.bySequence.Less(i, j)
}

func (h byTime) Swap(i, j int) {
	h.bySequence.Swap(i, j)
	h.bySequence[i].position, h.bySequence[j].position = i, j
}

func (h *byTime) Push(m any) {
	m.(*message).position = len(h.bySequence)
	h.bySequence.Push(m)
}

func (h *byTime) add(m *message) { heap.Push(h, m) }

func (h *byTime) remove(m *message) {
	if m.position >= 0 {
		heap.Remove(h, m.position)
		m.position = -1
	}
}

// next is when something happens first, never if nothing will.
func (h *byTime) next() int64 {
	if len(h.bySequence) == 0 {
		return never
	}
	return h.due(h.bySequence[0])
}

// lockList is locked messages by the end of their locks. All locks of a queue have the same length, so that a new one
// belongs at the end, unless the clock was set back.
type lockList struct {
	first, last *message
}

func (l *lockList) add(m *message) {
	after := l.last
	for after != nil && after.lockedUntil > m.lockedUntil {
		after = after.earlier
	}
	m.earlier = after
	if after == nil {
		m.later, l.first = l.first, m
	} else {
		m.later, after.later = after.later, m
	}
	if m.later == nil {
		l.last = m
	} else {
		m.later.earlier = m
	}
}

func (l *lockList) remove(m *message) {
	if m.earlier == nil {
		l.first = m.later
	} else {
		m.earlier.later = m.later
	}
	if m.later == nil {
		l.last = m.earlier
	} else {
		m.later.earlier = m.earlier
	}
	m.earlier, m.later = nil, nil
}

// all yields the locked messages. The list must not change meanwhile.
func (l *lockList) all() iter.Seq[*message] {
	return func(yield func(*message) bool) {
		for m := l.first; m != nil && yield(m); m = m.later {
		}
	}
}

// next is when the first lock ends.
func (l *lockList) next() int64 {
	if l.first == nil {
		return never
	}
	return l.first.lockedUntil
}
