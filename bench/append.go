package main

import (
	"context"

	"persistor/internal/pull"
)

// appendCase is a drain to be measured with batches that are joined and with batches that are not.
type appendCase struct {
	store    string
	batch    int   // messages
	messages int64 // in all partitions together
}

// AppendRow is one drain into append blobs beside the same drain into a blob for each batch.
type AppendRow struct {
	Store          string  `json:"store"` // dir or azurite
	Batch          int     `json:"batch_messages"`
	Events         int64   `json:"events"`
	PerSecond      float64 `json:"events_per_second"`
	ApartPerSecond float64 `json:"apart_events_per_second"`
	RateRatio      float64 `json:"rate_ratio"`
	CPU            float64 `json:"cpu_us_per_event"`
	ApartCPU       float64 `json:"apart_cpu_us_per_event"`
	CPURatio       float64 `json:"cpu_ratio"`
}

// measureAppends measures what joining batches costs, with small batches and with those of the defaults.
func measureAppends(ctx context.Context, b *bench) error {
	cases := []appendCase{{"dir", 500, 100_000}, {"dir", 10_000, 400_000}}
	if b.azurite {
		cases = append(cases, appendCase{"azurite", 500, 100_000}, appendCase{"azurite", 10_000, 200_000})
	}
	var s site
	for _, c := range cases {
		h := hub{Name: hubCase{body: 1024, partitions: 4, events: c.messages}.hub(), Partitions: 4, Body: 1024, Events: c.messages}
		s.Hubs = append(s.Hubs, h)
	}
	s.Hubs = distinct(s.Hubs)
	server, err := start(ctx, s)
	if err != nil {
		return err
	}
	defer server.stop()
	for _, c := range cases {
		var joined, apart []usage
		for range b.rounds {
			for _, mode := range []pull.Append{pull.Apart, pull.Joined} {
				u, err := server.run(ctx, task{
					Kind: "hub/drain", Entity: hubCase{body: 1024, partitions: 4, events: c.messages}.hub(), Store: c.store,
					Messages: c.messages, AtOnce: 4, Append: mode, Batch: c.batch,
				})
				if err != nil {
					return err
				}
				if mode == pull.Apart {
					apart = append(apart, u)
				} else {
					joined = append(joined, u)
				}
			}
		}
		j, a := middle(joined), middle(apart)
		b.results.Append = append(b.results.Append, AppendRow{
			Store: c.store, Batch: c.batch, Events: c.messages,
			PerSecond: j.rate, ApartPerSecond: a.rate, RateRatio: j.rate / a.rate, CPU: j.cpu, ApartCPU: a.cpu, CPURatio: j.cpu / a.cpu,
		})
		b.say("append, %-7s, batches of %d: %.0f events/s, apart %.0f; CPU %.2f us/event, apart %.2f", c.store, c.batch, j.rate, a.rate, j.cpu, a.cpu)
	}
	return nil
}

// distinct leaves out what comes again.
func distinct(hubs []hub) (once []hub) {
	seen := map[hub]bool{}
	for _, h := range hubs {
		if !seen[h] {
			once = append(once, h)
		}
		seen[h] = true
	}
	return once
}
