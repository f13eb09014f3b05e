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

	"persistor/internal/app"
	"persistor/internal/config"
	"persistor/internal/pull"
	"persistor/internal/pull/servicebus"
	"persistor/internal/work"
)

// queueCase is one row to be measured.
type queueCase struct {
	body     int
	loops    int
	delay    time.Duration // of every answer
	store    string
	messages int64
	oneByOne int64 // messages for the client that completes one after the other; 0: it isn't measured
	once     bool
}

// completions is how many completions the client has under way at once that is the drain's floor.
const completions = 256

func queueCases(quick bool) []queueCase {
	const kib = 1024
	if quick {
		return []queueCase{
			{body: kib, loops: 1, store: "discard", messages: 100_000, oneByOne: 20_000},
			{body: kib, loops: 1, store: "discard", messages: 50_000, oneByOne: 500, delay: 2 * time.Millisecond},
		}
	}
	return []queueCase{
		{body: kib, loops: 1, store: "discard", messages: 300_000, oneByOne: 60_000},
		{body: kib, loops: 1, store: "discard", messages: 200_000, oneByOne: 1500, delay: 2 * time.Millisecond},
		{body: kib, loops: 1, store: "discard", messages: 100_000, oneByOne: 400, delay: 10 * time.Millisecond},
		{body: kib, loops: 4, store: "discard", messages: 200_000, oneByOne: 80_000},
		{body: kib, loops: 16, store: "discard", messages: 200_000},
		{body: 100, loops: 1, store: "discard", messages: 200_000, oneByOne: 40_000},
		{body: 8192, loops: 1, store: "discard", messages: 100_000, oneByOne: 40_000},
		{body: 1 << 20, loops: 1, store: "discard", messages: 1000},
		{body: kib, loops: 1, store: "dir", messages: 200_000},
		{body: kib, loops: 1, store: "azurite", messages: 100_000},
		// Twenty times the backlog: memory must not follow.
		{body: kib, loops: 1, store: "discard", messages: 100_000},
		{body: kib, loops: 1, store: "discard", messages: 2_000_000, once: true},
	}
}

// measureQueues runs all cases. Each run gets a queue of its own, since it leaves that empty.
func measureQueues(ctx context.Context, b *bench) error {
	for i, c := range queueCases(b.quick) {
		if c.store == "azurite" && !b.azurite {
			continue
		}
		if err := measureQueue(ctx, b, fmt.Sprintf("case-%d", i), c); err != nil {
			return err
		}
	}
	return nil
}

func measureQueue(ctx context.Context, b *bench, name string, c queueCase) error {
	rounds := b.roundsOf(c.once)
	var s site
	for round := range rounds {
		for kind, messages := range map[string]int64{"drain": c.messages, "client": c.messages, "slow": c.oneByOne} {
			if messages > 0 {
				s.Queues = append(s.Queues, queue{Name: fmt.Sprintf("%s-%s-%d", name, kind, round), Messages: messages, Body: c.body})
			}
		}
	}
	server, err := start(ctx, s)
	if err != nil {
		return err
	}
	defer server.stop()
	server.delay(c.delay)

	var drains, clients, slow []usage
	for round := range rounds {
		for _, run := range []struct {
			name, kind string
			messages   int64
			atOnce     int
			into       *[]usage
		}{
			{"slow", "queue/slow", c.oneByOne, c.loops, &slow},
			{"client", "queue/client", c.messages, c.loops, &clients},
			{"drain", "queue/drain", c.messages, c.loops, &drains},
		} {
			if run.messages == 0 {
				continue
			}
			u, err := server.run(ctx, task{
				Kind: run.kind, Entity: fmt.Sprintf("%s-%s-%d", name, run.name, round),
				Store: c.store, Messages: run.messages, AtOnce: run.atOnce,
			})
			if err != nil {
				return err
			}
			*run.into = append(*run.into, u)
		}
	}
	d, f := middle(drains), middle(clients)
	row := QueueRow{
		Body: c.body, Loops: c.loops, DelayMS: float64(c.delay) / 1e6, Store: c.store, Messages: c.messages,
		PerSecond: d.rate, CPU: d.cpu, FloorPerSecond: f.rate, FloorCPU: f.cpu, CPURatio: d.cpu / f.cpu,
		PeakMB: d.peak, FloorPeakMB: f.peak, EmulatorCPU: d.emulator,
	}
	if c.oneByOne > 0 {
		s := middle(slow)
		row.OneByOnePerSecond, row.OneByOneCPU, row.Speedup, row.OneByOneCPURatio = s.rate, s.cpu, d.rate/s.rate, d.cpu/s.cpu
	}
	b.results.Queues = append(b.results.Queues, row)
	b.say("queue, %5d B, %d loops, %v, %-7s, %7d messages: CPU %.2f us, client %.2f, one by one %.2f, ratio %.2f; %.0f/s, client %.0f, one by one %.0f; peak %.0f MB",
		c.body, c.loops, c.delay, c.store, c.messages, row.CPU, row.FloorCPU, row.OneByOneCPU, row.CPURatio, row.PerSecond, row.FloorPerSecond, row.OneByOnePerSecond, row.PeakMB)
	return nil
}

// queueClient receives and completes with the client alone, the messages counted and dropped: by so many
// receivers at once, each with a connection of its own, and so many completions at once.
func queueClient(count, completions int) func(context.Context, task) (int64, time.Time, error) {
	return func(ctx context.Context, t task) (int64, time.Time, error) {
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
				receiver, err := client.NewReceiverForQueue(t.Entity, nil)
				if err != nil {
					return err
				}
				for completed.Load() < t.Messages {
					messages, err := receiver.ReceiveMessages(ctx, count, nil)
					if errors.Is(err, context.Canceled) {
						return nil
					}
					if err == nil {
						err = complete(ctx, receiver, messages, completions)
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
}

type completer interface {
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
}

func complete(ctx context.Context, by completer, messages []*azservicebus.ReceivedMessage, atOnce int) error {
	ctx = context.WithoutCancel(ctx)
	if atOnce == 1 {
		for _, m := range messages {
			if err := by.CompleteMessage(ctx, m, nil); err != nil {
				return err
			}
		}
		return nil
	}
	var next atomic.Int64
	var group errgroup.Group
	for range min(atOnce, len(messages)) {
		group.Go(func() error {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(messages)) {
					return nil
				}
				if err := by.CompleteMessage(ctx, messages[i], nil); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// queueDrain drains as a worker does, by one unit with so many loops.
func queueDrain(ctx context.Context, t task) (int64, time.Time, error) {
	messages, done, err := drainEntity(ctx, t, config.Queue{Name: t.Entity})
	return messages, done.Add(-drained), err // for which its last batch waits for more
}

// drained is how long a drain waits for further messages before it takes a queue for drained.
const drained = 3 * time.Second

func drainEntity(ctx context.Context, t task, q config.Queue) (int64, time.Time, error) {
	dir, err := os.MkdirTemp("", "persistor-bench-")
	if err != nil {
		return 0, time.Time{}, err
	}
	defer os.RemoveAll(dir)
	blobs, err := openStore(ctx, t.Store, dir)
	if err != nil {
		return 0, time.Time{}, err
	}
	entity, err := servicebus.Connect(servicebus.Options{
		ConnectionString: os.Getenv(connectionVariable), Queue: t.Entity, ReceiveBytes: app.ShareMemory(memory, 1).Prefetch,
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	defer entity.Close(ctx)
	into := &watched{Store: blobs}
	drainer := app.QueueDrainer{Entity: entity, Queue: q, Draining: app.Draining{
		Store: into, Folder: t.Entity, Chunk: 1000, Timeout: 5 * time.Minute, Idle: t.Idle,
		BatchMemory: app.ShareMemory(memory, 1).Batches,
		Limits:      pull.Limits{Count: 10_000, Bytes: batchBytes, Age: time.Minute},
	}}
	report := drainer.Drain(ctx, work.Unit{Run: "bench", Tasks: t.AtOnce})
	for _, s := range report.Sources {
		if s.Ended != work.Drained && s.Ended != work.Idle {
			return 0, time.Time{}, fmt.Errorf("%s ended %s: %s", s.Name(), s.Ended, s.Error)
		}
	}
	return report.Messages, into.written(), nil
}

// QueueRow is one drain of a Service Bus queue beside the client alone, which receives and completes the
// same messages, some completions at a time or, for OneByOne, one after the other.
type QueueRow struct {
	Body              int     `json:"body"` // bytes
	Loops             int     `json:"loops"`
	DelayMS           float64 `json:"delay_ms"`
	Store             string  `json:"store"`
	Messages          int64   `json:"messages"`
	PerSecond         float64 `json:"messages_per_second"`
	CPU               float64 `json:"cpu_us_per_message"`
	FloorPerSecond    float64 `json:"floor_messages_per_second"`
	FloorCPU          float64 `json:"floor_cpu_us_per_message"`
	CPURatio          float64 `json:"cpu_ratio"`
	OneByOnePerSecond float64 `json:"one_by_one_messages_per_second,omitempty"`
	OneByOneCPU       float64 `json:"one_by_one_cpu_us_per_message,omitempty"`
	Speedup           float64 `json:"speedup_over_one_by_one,omitempty"`
	OneByOneCPURatio  float64 `json:"cpu_ratio_to_one_by_one,omitempty"`
	PeakMB            float64 `json:"peak_rss_mb"`
	FloorPeakMB       float64 `json:"floor_peak_rss_mb"`
	EmulatorCPU       float64 `json:"emulator_cpu_us_per_message"`
}
