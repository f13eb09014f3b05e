package push

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"persistor/internal/pull"
	"persistor/internal/record"
)

// Three processes have a partition in turns, and are given events in any order and grouping, as late as can be. Each event
// is stored once, whatever each of them remembers.
func TestHubsTakeTurns(t *testing.T) {
	t.Parallel()
	inRounds(t, takeTurns)
}

func takeTurns(t *testing.T, f folder, seed uint64) {
	r, l := rand.New(rand.NewPCG(seed, 1)), &logged{}
	o := options(f, l)
	o.Append, o.AppendBytes, o.MaxAppend, o.Limits.Count = pull.Append(seed%3), 1500, 1<<20, 7
	// Somewhere; around midnight, since there is one a second from ten in the morning on; around the end of a cell.
	from := []int64{40, 14*60*60 - 25, record.CellSize - 25}[seed/3%3]
	hubs := []*Hub{NewHub("hub", o), NewHub("hub", o), NewHub("hub", o)}
	ends := make([]int64, len(hubs))
	stored, steps := map[int64]bool{}, ""
	for last, turn := 0, 0; turn < 16; turn++ {
		h := r.IntN(len(hubs))
		if h != last {
			time.Sleep(15 * time.Second) // for that is how long a partition takes
		}
		last = h
		if r.IntN(6) == 0 {
			hubs[h] = NewHub("hub", o) // killed
		}
		first := from + r.Int64N(40)
		if r.IntN(2) == 0 && ends[h] > 0 {
			first = ends[h] + 1
		}
		ends[h] = first + r.Int64N(14)
		numbers := []int64{}
		for n := first; n <= ends[h]; n++ {
			numbers, stored[n] = append(numbers, n), true
		}
		steps += fmt.Sprintf(" %d:%d-%d", h, first, ends[h])
		if _, err := hubs[h].Persist(t.Context(), hubMany(t, "3", numbers...)); err != nil {
			t.Fatal(err)
		}
	}
	count := map[int64]int{}
	for _, m := range f.records(t, "hub/") {
		count[m.SequenceNumber]++
	}
	for n := range stored {
		if count[n] != 1 {
			t.Errorf("seed %d: event %d is stored %d times;%s", seed, n, count[n], steps)
		}
	}
}
