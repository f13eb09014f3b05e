package push

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"persistor/internal/pull"
)

// Events come in any grouping, and again for as long as their delivery fails, also to another process that takes the place of
// one that was killed. Storage is down now and then, before it does something or after. Each event is stored once.
func TestGridStartsAgain(t *testing.T) {
	t.Parallel()
	rounds := uint64(12)
	if os.Getenv("PERSISTOR_SOAK") != "" {
		rounds = 300
	}
	for seed := range rounds {
		f := newFolder(t)
		synctest.Test(t, func(t *testing.T) { startAgain(t, f, seed) })
	}
}

func startAgain(t *testing.T, folder folder, seed uint64) {
	r, l, f := rand.New(rand.NewPCG(seed, 1)), &logged{}, &fragile{folder: folder}
	down := func(string, string) error {
		if r.IntN(3) == 0 {
			return errDown
		}
		return nil
	}
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
