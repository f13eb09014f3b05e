package main

import (
	"context"

	"persistor/internal/fanout"
	"persistor/internal/record"
	"persistor/internal/work"
)

// CellRow is a drain of one partition by so many loops at once, each over a cell after the other, beside one loop over
// all of it.
type CellRow struct {
	Store          string  `json:"store"` // discard or dir
	AtOnce         int     `json:"cells_at_once"`
	Events         int64   `json:"events"`
	PerSecond      float64 `json:"events_per_second"`
	PlainPerSecond float64 `json:"plain_events_per_second"`
	RateRatio      float64 `json:"rate_ratio"`
	CPU            float64 `json:"cpu_us_per_event"`
	PlainCPU       float64 `json:"plain_cpu_us_per_event"`
	CPURatio       float64 `json:"cpu_ratio"`
	PeakMB         float64 `json:"peak_rss_mb"`
}

// measureCells measures what several readers of one partition gain, and what they cost.
func measureCells(ctx context.Context, b *bench) error {
	const events = 4 * record.CellSize
	h := hub{Name: hubCase{body: 1024, partitions: 1, events: events}.hub(), Partitions: 1, Body: 1024, Events: events}
	server, err := start(ctx, site{Hubs: []hub{h}})
	if err != nil {
		return err
	}
	defer server.stop()
	for _, storage := range []string{"discard", "dir"} {
		rounds := map[int][]usage{} // by how many loops; 0 is the one over the whole
		for range b.rounds {
			for _, n := range []int{0, 1, 2, 4} {
				t := task{Kind: "hub/cells", Entity: h.Name, Store: storage, Messages: events, AtOnce: n}
				if n == 0 {
					t.Kind, t.AtOnce = "hub/drain", 1
				}
				u, err := server.run(ctx, t)
				if err != nil {
					return err
				}
				rounds[n] = append(rounds[n], u)
			}
		}
		plain := middle(rounds[0])
		for _, n := range []int{1, 2, 4} {
			c := middle(rounds[n])
			b.results.Cells = append(b.results.Cells, CellRow{
				Store: storage, AtOnce: n, Events: events, PerSecond: c.rate, PlainPerSecond: plain.rate, RateRatio: c.rate / plain.rate,
				CPU: c.cpu, PlainCPU: plain.cpu, CPURatio: c.cpu / plain.cpu, PeakMB: c.peak,
			})
			b.say("cells, %-7s, %d at once: %.0f events/s, plain %.0f; CPU %.2f us/event, plain %.2f", storage, n, c.rate, plain.rate, c.cpu, plain.cpu)
		}
	}
	return nil
}

// cellsOf is a unit of all that a task's partition holds.
func cellsOf(t task) work.Unit {
	todo := []fanout.Stretch{{Partition: "0", Ranges: []work.Range{{From: 0, To: t.Messages - 1}}}}
	return fanout.NewCellPlan(fanout.Run{ID: "bench"}, todo, fanout.Request{N: 1, PerFunc: t.AtOnce}).Units[0]
}
