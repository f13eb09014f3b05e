package audit

import (
	"math"
	"slices"

	"persistor/internal/work"
)

// ranges is a set of sequence numbers as disjoint, non-adjacent, inclusive ranges in ascending order. It
// grows with the number of holes, not with the number of blobs: an unbroken partition is one range,
// whatever its length and whatever the order in which its parts were added.
type ranges []work.Range

// add puts in from..to and returns how many of these numbers were there already. An empty range (to <
// from) adds nothing.
func (s *ranges) add(from, to int64) (repeated int64) {
	if to < from {
		return 0
	}
	// first is where the ranges begin that touch from..to, or lie right beside it.
	first, _ := slices.BinarySearchFunc(*s, from, func(r work.Range, from int64) int {
		if r.To < from-1 {
			return -1
		}
		return 1
	})
	merged, last := work.Range{From: from, To: to}, first
	for ; last < len(*s) && (*s)[last].From <= to+1; last++ {
		r := (*s)[last]
		repeated += max(0, min(r.To, to)-max(r.From, from)+1)
		merged.From, merged.To = min(merged.From, r.From), max(merged.To, r.To)
	}
	*s = slices.Replace(*s, first, last, merged)
	return repeated
}

// without returns the parts of within that are not in s.
func (s ranges) without(within work.Range) (missing ranges) {
	next := within.From
	for _, r := range s {
		if r.From > within.To {
			break
		}
		if r.From > next {
			missing = append(missing, work.Range{From: next, To: r.From - 1})
		}
		if r.To == math.MaxInt64 {
			return missing
		}
		next = max(next, r.To+1)
	}
	if next <= within.To {
		missing = append(missing, work.Range{From: next, To: within.To})
	}
	return missing
}

// append puts in a range that lies behind all others, or right beside the last.
func (s ranges) append(r work.Range) ranges {
	if last := len(s) - 1; last >= 0 && s[last].To == r.From-1 {
		s[last].To = r.To
		return s
	}
	return append(s, r)
}

// minus returns what is in s and not in other.
func (s ranges) minus(other ranges) (rest ranges) {
	for _, r := range s {
		for len(other) > 0 && other[0].To < r.From {
			other = other[1:]
		}
		rest = append(rest, other.without(r)...)
	}
	return rest
}

// count is how many numbers the set holds.
func (s ranges) count() (n int64) {
	for _, r := range s {
		n += r.To - r.From + 1
	}
	return n
}
