package push

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"persistor/internal/pull"
)

// Messages come to three processes in any grouping, and again for as long as their invocation fails: storage is down now and
// then, before it does something or after. Each is stored once when it is settled, and never twice.
func TestQueuesTakeTurns(t *testing.T) {
	t.Parallel()
	inRounds(t, takeQueueTurns)
}

func takeQueueTurns(t *testing.T, folder folder, seed uint64) {
	r, l, f := rand.New(rand.NewPCG(seed, 1)), &logged{}, &fragile{folder: folder}
	down := nowAndThen(r)
	o := options(f, l)
	o.Append, o.AppendBytes, o.MaxAppend, o.Limits.Count, o.Timeout = pull.Append(seed%3), 1500, 1<<20, 3, 4*time.Second
	queues := make([]*Queue, 3)
	for n := range queues {
		queues[n] = NewQueue("orders", false, o)
	}
	waiting, deliveries, steps := from(1, 20), map[int64]int{}, ""
	for turn := 0; len(waiting) > 0 && turn < 60; turn++ {
		f.before, f.after = nil, nil
		if r.IntN(2) == 0 {
			f.before, f.after = down, down
		}
		q := r.IntN(len(queues))
		if r.IntN(6) == 0 {
			queues[q] = NewQueue("orders", false, o) // killed
		}
		r.Shuffle(len(waiting), func(a, b int) { waiting[a], waiting[b] = waiting[b], waiting[a] })
		some := slices.Clone(waiting[:min(len(waiting), 1+r.IntN(7))])
		counts := []int{}
		for _, n := range some {
			deliveries[n]++
			counts = append(counts, deliveries[n])
		}
		i := queueMany(t, 1, some...)
		i.Metadata["DeliveryCountArray"] = json.RawMessage(text(counts))
		_, err := queues[q].Persist(t.Context(), i)
		steps += fmt.Sprintf(" %d:%v %t", q, some, err == nil)
		if err == nil {
			waiting = waiting[len(some):]
		}
	}
	stored := heldBy(t, folder)
	for n := range deliveries {
		settled := !slices.Contains(waiting, n)
		if stored[n] > 1 || settled && stored[n] == 0 {
			t.Errorf("seed %d: message %d, settled %t, is stored %d times;%s", seed, n, settled, stored[n], steps)
		}
	}
}
