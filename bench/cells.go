package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/fanout"
	"persistor/internal/record"
	"persistor/internal/work"
)

// CellRow is a drain of one partition by so many workers at once, each a process with one loop over one cell after the
// other, beside one worker with one loop over all of it.
type CellRow struct {
	Store          string  `json:"store"` // discard or dir
	DelayMS        float64 `json:"delay_ms"`
	Workers        int     `json:"workers"`
	Events         int64   `json:"events"`
	PerSecond      float64 `json:"events_per_second"`
	PlainPerSecond float64 `json:"plain_events_per_second"`
	RateRatio      float64 `json:"rate_ratio"`
	CPU            float64 `json:"cpu_us_per_event"`
	PlainCPU       float64 `json:"plain_cpu_us_per_event"`
	CPURatio       float64 `json:"cpu_ratio"`
}

// measureCells measures what several readers of one partition gain, and what they cost: on loopback, and where the
// service is far away.
func measureCells(ctx context.Context, b *bench) error {
	const events = 4 * record.CellSize
	h := hub{Name: hubCase{body: 1024, partitions: 1, events: events}.hub(), Partitions: 1, Body: 1024, Events: events}
	server, err := start(ctx, site{Hubs: []hub{h}})
	if err != nil {
		return err
	}
	defer server.stop()
	for _, c := range []struct {
		store string
		delay time.Duration
	}{{"discard", 0}, {"discard", 50 * time.Millisecond}, {"dir", 0}} {
		server.delay(c.delay)
		rounds := map[int][]usage{} // by how many workers; 0 is the one with one loop over the whole
		for range b.rounds {
			for _, n := range []int{0, 1, 2, 4} {
				u, err := server.runCells(ctx, task{Kind: "hub/cells", Entity: h.Name, Store: c.store, Messages: events, AtOnce: n})
				if err != nil {
					return err
				}
				rounds[n] = append(rounds[n], u)
			}
		}
		plain := middle(rounds[0])
		for _, n := range []int{1, 2, 4} {
			f := middle(rounds[n])
			b.results.Cells = append(b.results.Cells, CellRow{
				Store: c.store, DelayMS: float64(c.delay.Milliseconds()), Workers: n, Events: events,
				PerSecond: f.rate, PlainPerSecond: plain.rate, RateRatio: f.rate / plain.rate, CPU: f.cpu, PlainCPU: plain.cpu, CPURatio: f.cpu / plain.cpu,
			})
			b.say("cells, %-7s, delay %v, %d workers: %.0f events/s, plain %.0f; CPU %.2f us/event, plain %.2f", c.store, c.delay, n, f.rate, plain.rate, f.cpu, plain.cpu)
		}
	}
	return nil
}

// runCells has so many children share the cells of a partition, or one drain the whole where that is none.
func (s *server) runCells(ctx context.Context, t task) (usage, error) {
	workers := t.AtOnce
	if workers == 0 {
		t.Kind, t.AtOnce = "hub/drain", 1
		return s.run(ctx, t)
	}
	all := make([]usage, workers)
	began := time.Now()
	var group errgroup.Group
	for i := range all {
		group.Go(func() (err error) {
			own := t
			own.Unit = i
			own.Messages = 0
			for _, c := range cellsOf(own, t.Messages).Cells {
				own.Messages += c.To - c.From + 1
			}
			own.Total = t.Messages
			all[i], err = s.run(ctx, own)
			return err
		})
	}
	err := group.Wait()
	sum := usage{Seconds: time.Since(began).Seconds()}
	for _, u := range all {
		sum.Messages += u.Messages
		sum.CPUSeconds += u.CPUSeconds
	}
	return sum, err
}

// cellsOf is a task's unit of a partition that holds so many messages.
func cellsOf(t task, messages int64) work.Unit {
	todo := []fanout.Stretch{{Partition: "0", Ranges: []work.Range{{From: 0, To: messages - 1}}}}
	return fanout.NewCellPlan(fanout.Run{ID: "bench"}, todo, fanout.Request{N: t.AtOnce}).Units[t.Unit]
}
