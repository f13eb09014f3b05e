package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/work"
)

// TestPlanInRandomOrders holds a partition against a set of sequence numbers: whatever is done in whatever order,
// twice, and overlapping.
func TestPlanInRandomOrders(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		p := Partition{From: random.Int64N(20), Checkpoint: -1 + random.Int64N(30)}
		p.To = p.From + random.Int64N(60) - 2
		var ranges []work.Range
		for range random.IntN(12) {
			from := random.Int64N(80)
			ranges = append(ranges, work.Range{From: from, To: from + random.Int64N(15) - 1})
		}
		done, offsets := map[int64]bool{}, map[int64]bool{}
		for i, r := range ranges {
			offset := ""
			switch {
			case i%5 == 4:
				p.Lose(r)
			case random.IntN(3) > 0 && r.To >= r.From:
				offset = offsetOf(r.To)
				offsets[r.To] = true
			}
			p.Done(r, offset)
			for n := r.From; n <= r.To; n++ {
				done[n] = true
			}
		}
		if err := checkPlan(&p, done, offsets); err != nil {
			t.Fatalf("seed %d, %v: %v", seed, ranges, err)
		}
		again := Partition{From: p.From, To: p.To, Checkpoint: p.Checkpoint}
		for _, i := range random.Perm(len(ranges)) {
			again.Done(ranges[i], "")
		}
		if diff := cmp.Diff(p.Stored, again.Stored); diff != "" {
			t.Fatalf("seed %d: another order gives\n%s", seed, diff)
		}
	}
}

func offsetOf(sequence int64) string { return strconv.FormatInt(sequence*4096, 10) }

func checkPlan(p *Partition, done, offsets map[int64]bool) error {
	for i, r := range p.Stored {
		if r.To < r.From || i > 0 && r.From <= p.Stored[i-1].To+1 {
			return fmt.Errorf("stored %v is not in order and merged", p.Stored)
		}
	}
	remaining := int64(0)
	for n := int64(-2); n < 120; n++ {
		_, stored := slices.BinarySearchFunc(p.Stored, n, compare)
		todo := slices.ContainsFunc(p.Todo(), func(r work.Range) bool { return r.From <= n && n <= r.To })
		if stored != done[n] || todo != (!done[n] && p.From <= n && n <= p.To) {
			return fmt.Errorf("%d: stored %v, to do %v", n, stored, todo)
		}
		if todo {
			remaining++
		}
	}
	if p.Remaining() != remaining {
		return fmt.Errorf("remaining %d, want %d", p.Remaining(), remaining)
	}
	// The last that is known of those that follow on from the checkpoint.
	want := int64(-1)
	for n := p.Checkpoint + 1; done[n]; n++ {
		if offsets[n] {
			want = n
		}
	}
	sequence, offset, ok := p.Mark()
	if ok != (want >= 0) || ok && (sequence != want || offset != offsetOf(want)) {
		return fmt.Errorf("mark %d %q %v, want %d", sequence, offset, ok, want)
	}
	if len(p.Offsets) > len(p.Stored) {
		return fmt.Errorf("%d offsets for %d ranges", len(p.Offsets), len(p.Stored))
	}
	for n := range offsets { // none that is known was forgotten, but for one further on in its range
		at, found := slices.BinarySearchFunc(p.Stored, n, compare)
		if last, _, ok := p.lastOffset(p.Stored[at]); !found || !ok || last < n {
			return fmt.Errorf("the offset of %d is forgotten", n)
		}
	}
	return nil
}

func TestMark(t *testing.T) {
	stored := func(checkpoint int64, ranges ...work.Range) *Partition {
		p := &Partition{From: 0, To: 99, Checkpoint: checkpoint}
		for _, r := range ranges {
			p.Done(r, offsetOf(r.To))
		}
		return p
	}
	for name, c := range map[string]struct {
		p    *Partition
		want int64 // -1: none
	}{
		"nothing is stored":                   {stored(-1), -1},
		"from the beginning on":               {stored(-1, work.Range{From: 0, To: 9}), 9},
		"behind a hole":                       {stored(-1, work.Range{From: 1, To: 9}), -1},
		"up to a hole":                        {stored(-1, work.Range{From: 11, To: 20}, work.Range{From: 0, To: 9}), 9},
		"over what was a hole":                {stored(-1, work.Range{From: 11, To: 20}, work.Range{From: 0, To: 9}, work.Range{From: 10, To: 10}), 20},
		"behind the checkpoint":               {stored(9, work.Range{From: 10, To: 19}), 19},
		"not where it begins further on":      {stored(9, work.Range{From: 11, To: 19}), -1},
		"over the checkpoint":                 {stored(9, work.Range{From: 0, To: 19}), 19},
		"never back":                          {stored(20, work.Range{From: 0, To: 19}), -1},
		"never to where the checkpoint is":    {stored(19, work.Range{From: 0, To: 19}), -1},
		"a hole of what the source has lost":  {lost(stored(9, work.Range{From: 50, To: 59}), work.Range{From: 10, To: 49}), 59},
		"what is lost has no offset to go to": {lost(stored(9), work.Range{From: 10, To: 49}), -1},
	} {
		sequence, offset, ok := c.p.Mark()
		if ok != (c.want >= 0) || ok && (sequence != c.want || offset != offsetOf(c.want)) {
			t.Errorf("%s: Mark = %d, %q, %v; want %d", name, sequence, offset, ok, c.want)
		}
	}
}

func lost(p *Partition, r work.Range) *Partition {
	p.Lose(r)
	return p
}
