package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"golang.org/x/sync/errgroup"

	"persistor/internal/app"
	"persistor/internal/pull"
	"persistor/internal/pull/eventhub"
	"persistor/internal/work"
)

// hubCase is one row to be measured.
type hubCase struct {
	body, partitions int
	store            string
	events           int64 // in all partitions together
	once             bool  // one round is enough
}

func (c hubCase) hub() string { return fmt.Sprintf("b%d-p%d-n%d", c.body, c.partitions, c.events) }

func hubCases(quick bool) []hubCase {
	if quick {
		return []hubCase{
			{body: 1024, partitions: 4, store: "discard", events: 400_000},
			{body: 1024, partitions: 1, store: "discard", events: 300_000},
			{body: 1024, partitions: 4, store: "dir", events: 200_000},
			{body: 100, partitions: 4, store: "discard", events: 400_000},
		}
	}
	var all []hubCase
	for _, store := range []string{"discard", "dir", "azurite"} {
		for _, body := range []int{100, 1024, 8192} {
			for _, partitions := range []int{1, 4, 16} {
				events := int64(800_000)
				if body == 8192 {
					events /= 4
				}
				if store == "azurite" {
					events /= 4
				}
				all = append(all, hubCase{body: body, partitions: partitions, store: store, events: events})
			}
		}
	}
	// The same backlog a hundred times over: memory must not follow.
	return append(all,
		hubCase{body: 1024, partitions: 4, store: "discard", events: 100_000},
		hubCase{body: 1024, partitions: 4, store: "discard", events: 10_000_000, once: true})
}

// measureHubs runs all cases. Drain and floor take turns, so that what else the machine does hits both.
func measureHubs(ctx context.Context, b *bench) error {
	var s site
	cases := hubCases(b.quick)
	if !b.azurite {
		cases = slices.DeleteFunc(cases, func(c hubCase) bool { return c.store == "azurite" })
	}
	for _, c := range cases {
		h := hub{Name: c.hub(), Partitions: c.partitions, Body: c.body, Events: c.events}
		if !slices.Contains(s.Hubs, h) { // several stores take the events of one hub
			s.Hubs = append(s.Hubs, h)
		}
	}
	server, err := start(ctx, s)
	if err != nil {
		return err
	}
	defer server.stop()
	for _, c := range cases {
		var drains, floors []usage
		for range b.roundsOf(c.once) {
			t := task{Kind: "hub/client", Entity: c.hub(), Store: c.store, Messages: c.events, AtOnce: c.partitions}
			floor, err := server.run(ctx, t)
			if err != nil {
				return err
			}
			t.Kind = "hub/drain"
			drain, err := server.run(ctx, t)
			if err != nil {
				return err
			}
			drains, floors = append(drains, drain), append(floors, floor)
		}
		d, f := middle(drains), middle(floors)
		row := PullRow{
			Body: c.body, Partitions: c.partitions, Store: c.store, Events: c.events,
			EventsPerSecond: d.rate, CPUPerEvent: d.cpu, FloorPerSecond: f.rate, FloorCPUPerEvent: f.cpu, CPURatio: d.cpu / f.cpu,
			PeakMB: d.peak, FloorPeakMB: f.peak, EmulatorCPUPerEvent: f.emulator,
		}
		b.results.Pull = append(b.results.Pull, row)
		b.say("%5d B, %2d partitions, %-7s: CPU %.2f us/event, floor %.2f, ratio %.2f; %.0f events/s, floor %.0f; peak %.0f MB",
			c.body, c.partitions, c.store, row.CPUPerEvent, row.FloorCPUPerEvent, row.CPURatio, row.EventsPerSecond, row.FloorPerSecond, row.PeakMB)
	}
	return nil
}

// hubClient drains every partition with the client alone: one connection each, events counted and dropped.
func hubClient(ctx context.Context, t task) (int64, time.Time, error) {
	counts := make([]int64, t.AtOnce)
	var group errgroup.Group
	for i := range counts {
		group.Go(func() error {
			id := strconv.Itoa(i)
			client, err := azeventhubs.NewConsumerClientFromConnectionString(os.Getenv(connectionVariable), t.Entity, azeventhubs.DefaultConsumerGroup, nil)
			if err != nil {
				return err
			}
			defer client.Close(ctx)
			properties, err := client.GetPartitionProperties(ctx, id, nil)
			if err != nil {
				return err
			}
			earliest := true
			receiver, err := client.NewPartitionClient(id, &azeventhubs.PartitionClientOptions{
				StartPosition: azeventhubs.StartPosition{Earliest: &earliest}, Prefetch: 5000 / int32(min(t.AtOnce, 4)),
			})
			if err != nil {
				return err
			}
			defer receiver.Close(ctx)
			for left := properties.LastEnqueuedSequenceNumber + 1; left > 0; {
				events, err := receiver.ReceiveEvents(ctx, int(min(left, 1000)), nil)
				if err != nil {
					return err
				}
				left -= int64(len(events))
				counts[i] += int64(len(events))
			}
			return nil
		})
	}
	err := group.Wait()
	var sum int64
	for _, n := range counts {
		sum += n
	}
	return sum, time.Now(), err
}

// hubDrain drains every partition as a worker does, in one unit of up to four loops at a time; or, of "hub/cells", the
// cells of one partition.
func hubDrain(ctx context.Context, t task) (int64, time.Time, error) {
	dir, err := os.MkdirTemp("", "persistor-bench-")
	if err != nil {
		return 0, time.Time{}, err
	}
	defer os.RemoveAll(dir)
	blobs, err := openStore(ctx, t.Store, dir)
	if err != nil {
		return 0, time.Time{}, err
	}
	h, err := eventhub.Connect(eventhub.Options{
		ConnectionString: os.Getenv(connectionVariable), EventHub: t.Entity,
		Checkpoints: eventhub.DirCheckpoints(dir), PrefetchBytes: app.ShareMemory(memory, 1).Prefetch,
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	defer h.Close(ctx)
	drainer := app.HubDrainer{Hub: h, Draining: app.Draining{
		Store: blobs, Folder: t.Entity, Chunk: 1000, Timeout: 5 * time.Minute,
		BatchMemory: app.ShareMemory(memory, 1).Batches,
		Limits:      pull.Limits{Count: cmp.Or(t.Batch, 10_000), Bytes: batchBytes, Age: time.Minute},
		Append:      t.Append, AppendBytes: 256 << 20,
	}}
	unit := work.Unit{Run: "bench", Tasks: min(t.AtOnce, 4), OwnerLevel: time.Now().UnixMilli()}
	for i := range t.AtOnce {
		unit.Partitions = append(unit.Partitions, strconv.Itoa(i))
	}
	if t.Kind == "hub/cells" {
		unit = cellsOf(t)
	}
	report := drainer.Drain(ctx, unit)
	for _, s := range report.Sources {
		if s.Ended != work.Drained {
			return 0, time.Time{}, fmt.Errorf("partition %s ended %s: %s", s.Partition, s.Ended, s.Error)
		}
	}
	return report.Messages, time.Now(), nil
}
