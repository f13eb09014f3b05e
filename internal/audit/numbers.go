package audit

import (
	"maps"
	"math/bits"
	"slices"

	"persistor/internal/work"
)

// numbers is a set of sequence numbers as bits, some thousand of them to a page. Where the numbers of many
// sessions, or of many receivers, interleave, it stays as small as it is for a row without holes, which
// [ranges] do not.
type numbers struct {
	pages map[int64]*page
	count int64

	at   int64 // of the page last used
	page *page
}

const pageSize = 1 << 12 // numbers

type page [pageSize / 64]uint64

// add puts n, 0 or more, in and reports whether it was there already.
func (s *numbers) add(n int64) (before bool) {
	if at := n / pageSize; s.page == nil || s.at != at {
		s.turn(at)
	}
	word, bit := &s.page[n%pageSize/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return true
	}
	*word |= bit
	s.count++
	return false
}

func (s *numbers) turn(at int64) {
	if s.pages == nil {
		s.pages = make(map[int64]*page)
	}
	if s.pages[at] == nil {
		s.pages[at] = new(page)
	}
	s.at, s.page = at, s.pages[at]
}

// ranges returns the set as ranges.
func (s *numbers) ranges() (all ranges) {
	for _, at := range slices.Sorted(maps.Keys(s.pages)) {
		for i, word := range s.pages[at] {
			for base := at*pageSize + int64(i)*64; word != 0; {
				first := bits.TrailingZeros64(word)
				length := bits.TrailingZeros64(^(word >> first))
				word &^= (1<<length - 1) << first
				all = all.append(work.Range{From: base + int64(first), To: base + int64(first+length) - 1})
			}
		}
	}
	return all
}
