package audit

import (
	"maps"
	"math/bits"
	"slices"

	"persistor/internal/work"
)

// numbers is a set of sequence numbers as bits, some thousand of them to a page. Where the numbers of many
// sessions, or of many receivers, interleave, it stays as small as it is for a row without holes, which
// [ranges] do not. A page without a hole takes no memory of its own.
type numbers struct {
	pages map[int64]*page
	count int64
	room  *int // how many more pages with holes there may be; nil: any number

	at   int64 // of the page last used
	page *page
}

const pageSize = 1 << 12 // numbers

// maxPages bounds the pages with holes of all entities of an audit: 128 MiB. It is a variable for tests alone.
var maxPages = 1 << 18

type page struct {
	words [pageSize / 64]uint64
	count int
}

// whole stands for every page without a hole.
var whole = func() *page {
	p := &page{count: pageSize}
	for i := range p.words {
		p.words[i] = ^uint64(0)
	}
	return p
}()

// add puts n, 0 or more, in and reports whether it was there already, and whether there was room for it.
func (s *numbers) add(n int64) (before, ok bool) {
	if at := n / pageSize; s.page == nil || s.at != at {
		if !s.turn(at) {
			return false, false
		}
	}
	word, bit := &s.page.words[n%pageSize/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return true, true
	}
	*word |= bit
	s.count++
	if s.page.count++; s.page.count == pageSize {
		s.pages[s.at], s.page = whole, whole
		if s.room != nil {
			*s.room++
		}
	}
	return false, true
}

func (s *numbers) turn(at int64) bool {
	p := s.pages[at]
	if p == nil {
		if s.room != nil {
			if *s.room == 0 {
				return false
			}
			*s.room--
		}
		if s.pages == nil {
			s.pages = make(map[int64]*page)
		}
		p = new(page)
		s.pages[at] = p
	}
	s.at, s.page = at, p
	return true
}

// ranges returns the set as ranges.
func (s *numbers) ranges() (all ranges) {
	for _, at := range slices.Sorted(maps.Keys(s.pages)) {
		if s.pages[at] == whole {
			all = all.append(work.Range{From: at * pageSize, To: (at+1)*pageSize - 1})
			continue
		}
		for i, word := range s.pages[at].words {
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
