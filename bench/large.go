package main

import (
	"context"
	"fmt"
)

// largeCase is a queue of few messages that are as large as the service takes.
type largeCase struct{ body, messages int }

func largeCases(quick bool) []largeCase {
	if quick {
		return nil
	}
	return []largeCase{{1 << 20, 200}, {100e6, 1}, {100e6, 5}}
}

// measureLarge measures the memory that large messages take.
func measureLarge(ctx context.Context, b *bench) error {
	for _, c := range largeCases(b.quick) {
		var s site
		for _, name := range []string{"client", "drain"} {
			s.Queues = append(s.Queues, queue{Name: name, Messages: int64(c.messages), Body: c.body})
		}
		if err := b.measureLarge(ctx, c, s); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureLarge(ctx context.Context, c largeCase, s site) error {
	server, err := start(ctx, s)
	if err != nil {
		return err
	}
	defer server.stop()
	t := task{Kind: "queue/single", Entity: "client", Store: "discard", Messages: int64(c.messages), AtOnce: 1}
	client, err := server.run(ctx, t)
	if err != nil {
		return fmt.Errorf("messages of %d bytes: %w", c.body, err)
	}
	t.Kind, t.Entity = "queue/drain", "drain"
	drain, err := server.run(ctx, t)
	if err != nil {
		return fmt.Errorf("messages of %d bytes: %w", c.body, err)
	}
	row := LargeRow{Body: c.body, Messages: c.messages, Seconds: drain.Seconds, FloorSeconds: client.Seconds, PeakMB: drain.PeakMB, FloorPeakMB: client.PeakMB}
	b.results.Large = append(b.results.Large, row)
	b.say("%d messages of %d bytes: %.1f s, client %.1f; peak %.0f MB, client %.0f", c.messages, c.body, row.Seconds, row.FloorSeconds, row.PeakMB, row.FloorPeakMB)
	return nil
}

// LargeRow is one drain of large messages beside the client alone, which receives them one at a time.
type LargeRow struct {
	Body         int     `json:"body"` // bytes
	Messages     int     `json:"messages"`
	Seconds      float64 `json:"seconds"`
	FloorSeconds float64 `json:"floor_seconds"`
	PeakMB       float64 `json:"peak_rss_mb"`
	FloorPeakMB  float64 `json:"floor_peak_rss_mb"`
}
