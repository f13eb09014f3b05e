package main

import (
	"context"
	"fmt"
	"time"

	"persistor/internal/config"
)

// largeCase is a queue of few messages that are as large as the service takes.
type largeCase struct{ body, messages int }

func largeCases(quick bool) []largeCase {
	if quick {
		return nil
	}
	return []largeCase{{100e6, 1}, {100e6, 5}}
}

// largeIdle is longer than a message takes to come.
const largeIdle = 10 * time.Second

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
	t := task{Kind: "large/client", Entity: "client", Store: "discard", Messages: int64(c.messages), AtOnce: 1, Idle: largeIdle}
	client, err := server.run(ctx, t)
	if err != nil {
		return fmt.Errorf("messages of %d bytes: %w", c.body, err)
	}
	t.Kind, t.Entity = "large/drain", "drain"
	drain, err := server.run(ctx, t)
	if err != nil {
		return fmt.Errorf("messages of %d bytes: %w", c.body, err)
	}
	row := LargeRow{Body: c.body, Messages: c.messages, Seconds: drain.Seconds, FloorSeconds: client.Seconds, PeakMB: drain.PeakMB, FloorPeakMB: client.PeakMB}
	b.results.Large = append(b.results.Large, row)
	b.say("%d messages of %d bytes: %.1f s, client %.1f; peak %.0f MB, client %.0f", c.messages, c.body, row.Seconds, row.FloorSeconds, row.PeakMB, row.FloorPeakMB)
	return nil
}

// largeDrain drains as a worker does. Each message fills a batch.
func largeDrain(ctx context.Context, t task) (int64, time.Time, error) {
	return drainEntity(ctx, t, config.Queue{Name: t.Entity})
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
