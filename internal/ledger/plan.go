package ledger

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"persistor/internal/work"
)

// check says what is wrong with a document that nothing here has written: a checkpoint made of ranges that aren't in
// order could pass what isn't stored.
func (r *Run) check() error {
	if r.Wave < 0 || r.Next < 0 {
		return fmt.Errorf("wave is %d and next_wave %d: want none below 0", r.Wave, r.Next)
	}
	for _, p := range r.Partitions {
		if p.From < 0 || p.To == math.MaxInt64 {
			return fmt.Errorf("partition %.80q: from is %d and to %d: want sequence numbers", p.Partition, p.From, p.To)
		}
		for _, ranges := range [][]work.Range{p.Stored, p.Lost} {
			last := int64(-2)
			for _, r := range ranges {
				if r.From <= last+1 || r.To < r.From || r.To == math.MaxInt64 {
					return fmt.Errorf("partition %.80q: range %d to %d: want ranges in order that don't touch", p.Partition, r.From, r.To)
				}
				last = r.To
			}
		}
	}
	return nil
}

// Done adds a range to what is stored, in whatever order ranges come. Offset is that of the message at its end, "" where
// it isn't known. What the range has in common with what is stored already doesn't matter; an empty one is none.
func (p *Partition) Done(r work.Range, offset string) {
	if r.To < r.From {
		return
	}
	p.Stored = merge(p.Stored, r)
	if offset != "" {
		if p.Offsets == nil {
			p.Offsets = make(map[string]string)
		}
		p.Offsets[strconv.FormatInt(r.To, 10)] = offset
	}
	p.pruneOffsets()
}

// Lose adds a range of sequence numbers that the source no longer has, or never had: nothing is left to be done about
// them, and a checkpoint may pass them.
func (p *Partition) Lose(r work.Range) {
	if r.To < r.From {
		return
	}
	p.Lost = merge(p.Lost, r)
	p.Done(r, "")
}

// Todo returns the ranges between From and To that are not stored, in order.
func (p *Partition) Todo() []work.Range {
	var todo []work.Range
	next := p.From
	for _, r := range p.Stored {
		if r.From > p.To {
			break
		}
		if r.From > next {
			todo = append(todo, work.Range{From: next, To: r.From - 1})
		}
		next = max(next, r.To+1)
	}
	if next <= p.To {
		todo = append(todo, work.Range{From: next, To: p.To})
	}
	return todo
}

// Remaining is how many sequence numbers Todo has.
func (p *Partition) Remaining() int64 {
	var n int64
	for _, r := range p.Todo() {
		n += r.To - r.From + 1
	}
	return n
}

// Mark returns the checkpoint that what is stored allows for: the last sequence number whose offset is known, of those
// that are stored without a hole from the one behind Checkpoint on. It is not ok where that is none, as when the
// partition's plan begins further on: messages in between would be skipped for good by whoever goes on from
// the checkpoint. Those that the source no longer has are to be named by [Partition.Lose].
func (p *Partition) Mark() (sequence int64, offset string, ok bool) {
	next := max(p.Checkpoint, -1) + 1
	i, found := slices.BinarySearchFunc(p.Stored, next, compare)
	if !found {
		return 0, "", false
	}
	sequence, offset, ok = p.lastOffset(p.Stored[i])
	if !ok || sequence < next {
		return 0, "", false
	}
	return sequence, offset, true
}

// merge adds a range to ranges that are in order, and neither overlap nor touch.
func merge(ranges []work.Range, r work.Range) []work.Range {
	first, _ := slices.BinarySearchFunc(ranges, r.From-1, compare)
	last := first
	for last < len(ranges) && ranges[last].From <= r.To+1 {
		r.From, r.To = min(r.From, ranges[last].From), max(r.To, ranges[last].To)
		last++
	}
	return slices.Replace(ranges, first, last, r)
}

// compare is 0 where a range holds a sequence number.
func compare(r work.Range, sequence int64) int {
	switch {
	case r.To < sequence:
		return -1
	case r.From > sequence:
		return 1
	}
	return 0
}

// lastOffset returns the last sequence number in a range whose offset is known.
func (p *Partition) lastOffset(r work.Range) (sequence int64, offset string, ok bool) {
	for key, value := range p.Offsets {
		n, err := strconv.ParseInt(key, 10, 64)
		if err == nil && r.From <= n && n <= r.To && (!ok || n > sequence) {
			sequence, offset, ok = n, value, true
		}
	}
	return sequence, offset, ok
}

// pruneOffsets leaves one offset for each range.
func (p *Partition) pruneOffsets() {
	type known struct {
		sequence int64
		key      string
	}
	var all []known
	for key := range p.Offsets {
		if n, err := strconv.ParseInt(key, 10, 64); err == nil {
			all = append(all, known{n, key})
		} else {
			delete(p.Offsets, key)
		}
	}
	slices.SortFunc(all, func(a, b known) int { return cmp.Compare(a.sequence, b.sequence) })
	for i, k := range all {
		at, found := slices.BinarySearchFunc(p.Stored, k.sequence, compare)
		if !found || i+1 < len(all) && all[i+1].sequence <= p.Stored[at].To {
			delete(p.Offsets, k.key)
		}
	}
}
