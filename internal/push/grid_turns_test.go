package push

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"persistor/internal/pull"
)

// Events come in any grouping, and again for as long as their delivery fails, also to another process that takes the place of
// one that was killed. Storage is down now and then, before it does something or after. Each event is stored once.
func TestGridStartsAgain(t *testing.T) {
	t.Parallel()
	inRounds(t, startAgain)
}

func startAgain(t *testing.T, folder folder, seed uint64) {
	r, l, f := rand.New(rand.NewPCG(seed, 1)), &logged{}, &fragile{folder: folder}
	down := nowAndThen(r)
	o := options(f, l)
	o.Append, o.AppendBytes, o.MaxAppend, o.Limits.Count, o.Timeout = pull.Append(seed%3), 700, 1<<20, 3, 4*time.Second
	g, waiting, steps := NewGrid(o), from(1, 20), ""
	for len(waiting) > 0 {
		f.before, f.after = nil, nil
		if r.IntN(2) == 0 {
			f.before, f.after = down, down
		}
		if r.IntN(6) == 0 {
			g = NewGrid(o) // killed
		}
		r.Shuffle(len(waiting), func(a, b int) { waiting[a], waiting[b] = waiting[b], waiting[a] })
		some := waiting[:min(len(waiting), 1+r.IntN(7))]
		var events []map[string]any
		for _, n := range some {
			at := day.Add(time.Duration(n) * 17 * time.Second)
			events = append(events, map[string]any{"id": fmt.Sprint(n), "topic": "/t", "eventTime": at.Format(time.RFC3339), "data": n})
		}
		_, err := g.Persist(t.Context(), invocation(t, text(events), nil))
		steps += fmt.Sprintf(" %v %t", some, err == nil)
		if err == nil {
			waiting = waiting[len(some):]
		}
	}
	count := map[string]int{}
	for _, m := range folder.records(t, "") {
		count[string(m.Body.JSON)]++
	}
	for n := 1; n <= 20; n++ {
		if count[fmt.Sprint(n)] != 1 {
			t.Errorf("seed %d: event %d is stored %d times;%s", seed, n, count[fmt.Sprint(n)], steps)
		}
	}
}
