package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"golang.org/x/sync/errgroup"

	"persistor/internal/config"
)

// sessionCase is one row to be measured.
type sessionCase struct {
	sessions, loops int
	messages        int64 // of all sessions
	delay           time.Duration
}

func sessionCases(quick bool) []sessionCase {
	if quick {
		return []sessionCase{{sessions: 200, loops: 4, messages: 20_000}}
	}
	return []sessionCase{
		{sessions: 1000, loops: 1, messages: 100_000},
		{sessions: 1000, loops: 4, messages: 100_000},
		{sessions: 1000, loops: 16, messages: 100_000},
		{sessions: 1000, loops: 16, messages: 100_000, delay: 10 * time.Millisecond},
	}
}

func measureSessions(ctx context.Context, b *bench) error {
	for _, c := range sessionCases(b.quick) {
		if err := measureSession(ctx, b, c); err != nil {
			return err
		}
	}
	return nil
}

func measureSession(ctx context.Context, b *bench, c sessionCase) error {
	var s site
	for round := range b.rounds {
		for _, kind := range []string{"client", "drain"} {
			s.Queues = append(s.Queues, queue{Name: fmt.Sprintf("%s-%d", kind, round), Sessions: c.sessions, Messages: c.messages, Body: 1024})
		}
	}
	server, err := start(ctx, s)
	if err != nil {
		return err
	}
	defer server.stop()
	server.delay(c.delay)
	var drains, clients []usage
	for round := range b.rounds {
		t := task{Kind: "sessions/client", Entity: fmt.Sprintf("client-%d", round), Store: "discard", Messages: c.messages, AtOnce: c.loops}
		client, err := server.run(ctx, t)
		if err != nil {
			return err
		}
		t.Kind, t.Entity = "sessions/drain", fmt.Sprintf("drain-%d", round)
		drain, err := server.run(ctx, t)
		if err != nil {
			return err
		}
		clients, drains = append(clients, client), append(drains, drain)
	}
	d, f := middle(drains), middle(clients)
	row := SessionRow{
		Sessions: c.sessions, Messages: c.messages, Loops: c.loops, DelayMS: float64(c.delay) / 1e6,
		PerSecond: d.rate, SessionsPerSecond: d.rate / float64(c.messages) * float64(c.sessions), CPU: d.cpu,
		FloorPerSecond: f.rate, FloorCPU: f.cpu, CPURatio: d.cpu / f.cpu, PeakMB: d.peak, FloorPeakMB: f.peak,
	}
	b.results.Sessions = append(b.results.Sessions, row)
	b.say("%d sessions, %d messages, %2d loops, %v: CPU %.2f us/message, client %.2f, ratio %.2f; %.0f messages/s, client %.0f; peak %.0f MB",
		c.sessions, c.messages, c.loops, c.delay, row.CPU, row.FloorCPU, row.CPURatio, row.PerSecond, row.FloorPerSecond, row.PeakMB)
	return nil
}

// sessionsClient takes one session after the other with the client alone, until it has all messages: by so
// many receivers at once. It completes many messages at once, and knows a session's end by that nothing
// comes for a moment.
func sessionsClient(ctx context.Context, t task) (int64, time.Time, error) {
	var completed atomic.Int64
	ctx, done := context.WithCancel(ctx)
	defer done()
	var group errgroup.Group
	for range t.AtOnce {
		group.Go(func() error {
			client, err := azservicebus.NewClientFromConnectionString(os.Getenv(connectionVariable), nil)
			if err != nil {
				return err
			}
			defer client.Close(context.Background())
			for completed.Load() < t.Messages {
				session, err := client.AcceptNextSessionForQueue(ctx, t.Entity, nil)
				if errors.Is(err, context.Canceled) {
					return nil
				}
				if err != nil {
					return err
				}
				messages, err := session.ReceiveMessages(ctx, 1000, nil)
				if err == nil {
					err = complete(ctx, session, messages, completions)
				}
				if err == nil {
					err = session.Close(context.WithoutCancel(ctx))
				}
				if err != nil {
					return err
				}
				if completed.Add(int64(len(messages))) == t.Messages {
					done() // for the others
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return completed.Load(), time.Now(), err
}

// sessionsDrain drains as a worker does, by one unit with so many loops.
func sessionsDrain(ctx context.Context, t task) (int64, time.Time, error) {
	return drainEntity(ctx, t, config.Queue{Name: t.Entity, Sessions: true})
}

// SessionRow is one drain of a queue with sessions beside the client alone, which takes, receives and
// completes the same.
type SessionRow struct {
	Sessions          int     `json:"sessions"`
	Messages          int64   `json:"messages"`
	Loops             int     `json:"loops"`
	DelayMS           float64 `json:"delay_ms"`
	PerSecond         float64 `json:"messages_per_second"`
	SessionsPerSecond float64 `json:"sessions_per_second"`
	CPU               float64 `json:"cpu_us_per_message"`
	FloorPerSecond    float64 `json:"floor_messages_per_second"`
	FloorCPU          float64 `json:"floor_cpu_us_per_message"`
	CPURatio          float64 `json:"cpu_ratio"`
	PeakMB            float64 `json:"peak_rss_mb"`
	FloorPeakMB       float64 `json:"floor_peak_rss_mb"`
}
