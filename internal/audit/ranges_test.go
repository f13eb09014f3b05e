package audit

import (
	"math"
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
		other := rangesOf(plain[:], true, from, to)
		for i := range plain {
			plain[i] = plain[i] && !(from <= int64(i) && int64(i) <= to)
		}
		if got, want := s.minus(other), rangesOf(plain[:], true, 0, size-1); !slices.Equal(got, want) {
			t.Fatalf("%v minus %v is %v, want %v", s, other, got, want)
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

func TestRangesMinusTheLastNumber(t *testing.T) {
	all := ranges{{From: 5, To: math.MaxInt64}}
	if got, want := all.minus(ranges{{From: 7, To: 8}, {From: 10, To: math.MaxInt64}}), (ranges{{From: 5, To: 6}, {From: 9, To: 9}}); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := all.minus(nil); !slices.Equal(got, all) {
		t.Errorf("minus nothing: %v", got)
	}
}

// was puts a number in, and reports whether it was there.
func (s *numbers) was(n int64) bool {
	before, _ := s.add(n)
	return before
}

// A set of numbers must agree with ranges, near one another and far apart, up to the last there is.
func TestNumbersAgreeWithRanges(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, spread := range []int64{50, 200, 3 * pageSize, math.MaxInt64 - 200} {
		for _, base := range []int64{0, 1, pageSize - 30, math.MaxInt64 - spread} {
			var n numbers
			var r ranges
			for range 300 {
				from := base + random.Int64N(spread)
				to := min(from+random.Int64N(130), base+spread-1)
				for i := from; i <= to; i++ {
					if got, want := n.was(i), r.add(i, i) == 1; got != want {
						t.Fatalf("%d was there: %t, want %t", i, got, want)
					}
				}
			}
			if got := n.ranges(); !slices.Equal(got, r) || n.count != r.count() {
				t.Fatalf("got %v (%d), want %v (%d)", got, n.count, r, r.count())
			}
		}
	}
	var none numbers
	if got := none.ranges(); got != nil {
		t.Errorf("the empty set is %v", got)
	}
}

// Pages without a hole give their room back, and what there is no room for is refused.
func TestNumbersHaveRoom(t *testing.T) {
	room := 2
	n := numbers{room: &room}
	for i := range int64(3 * pageSize) {
		if before, ok := n.add(i); before || !ok {
			t.Fatal(i, before, ok)
		}
	}
	if _, ok := n.add(10 * pageSize); !ok || room != 1 {
		t.Error("no room for the first page with a hole")
	}
	if _, ok := n.add(20 * pageSize); !ok || room != 0 {
		t.Error("no room for the second")
	}
	if _, ok := n.add(30 * pageSize); ok || n.count != 3*pageSize+2 {
		t.Error("there is room for a third")
	}
	if before, ok := n.add(7); !before || !ok {
		t.Error("a number is forgotten")
	}
	if before, ok := n.add(10*pageSize + 1); before || !ok {
		t.Error("a page that is there takes nothing more")
	}
	want := ranges{{From: 0, To: 3*pageSize - 1}, {From: 10 * pageSize, To: 10*pageSize + 1}, {From: 20 * pageSize, To: 20 * pageSize}}
	if got := n.ranges(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// 1,000 sessions whose messages come in turn: each blob has numbers all over the entity.
func BenchmarkInterleaved(b *testing.B) {
	for b.Loop() {
		var n numbers
		for session := range int64(1000) {
			for i := range int64(1000) {
				n.add(i*1000 + session)
			}
		}
		if got := n.ranges(); len(got) != 1 {
			b.Fatal(len(got))
		}
	}
}
