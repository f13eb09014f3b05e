package audit

import (
	"math/rand/v2"
	"slices"
	"testing"

	"persistor/internal/work"
)

// A set of ranges must agree with the plainest set there is, whatever is added in whatever order.
func TestRangesAgreeWithAPlainSet(t *testing.T) {
	const size = 60
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var s ranges
		var plain [size]bool
		for range random.IntN(12) {
			from := random.Int64N(size)
			to := from + random.Int64N(min(12, size-from)+1) - 1 // sometimes empty
			var want int64
			for n := from; n <= to; n++ {
				if plain[n] {
					want++
				}
				plain[n] = true
			}
			if got := s.add(from, to); got != want {
				t.Fatalf("add %d..%d: %d repeated, want %d", from, to, got, want)
			}
		}
		if got, want := s, rangesOf(plain[:], true, 0, size-1); !slices.Equal(got, want) {
			t.Fatalf("set is %v, want %v", got, want)
		}
		from := random.Int64N(size)
		to := from + random.Int64N(size-from)
		if got, want := s.without(work.Range{From: from, To: to}), rangesOf(plain[:], false, from, to); !slices.Equal(got, want) {
			t.Fatalf("%d..%d without %v is %v, want %v", from, to, s, got, want)
		}
	}
}

// rangesOf collects the numbers from..to whose flag is value.
func rangesOf(plain []bool, value bool, from, to int64) (s ranges) {
	for n := from; n <= to; n++ {
		if plain[n] != value {
			continue
		}
		if last := len(s) - 1; last >= 0 && s[last].To == n-1 {
			s[last].To = n
		} else {
			s = append(s, work.Range{From: n, To: n})
		}
	}
	return s
}
