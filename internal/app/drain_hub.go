package app

import (
	"context"
	"time"

	"persistor/internal/api"
	"persistor/internal/fanout"
	"persistor/internal/pull"
	"persistor/internal/pull/eventhub"
	"persistor/internal/telemetry"
	"persistor/internal/work"
)

// HubDrainer carries out work units of an Event Hub: a pull loop for each partition, a few at a time.
type HubDrainer struct {
	Draining
	Hub             *eventhub.Hub
	HubText         string     // as record.HubText writes it; goes into the blobs' metadata
	CheckpointEvery int64      // messages between checkpoints, at least
	From            *work.From // where to start without a checkpoint; nil: earliest
}

// Drain runs a unit and answers within its budget, or the worker's own if that is shorter. When ctx
// ends, it stores what it holds and answers.
func (d *HubDrainer) Drain(ctx context.Context, unit work.Unit) work.Report {
	return d.run(ctx, unit, len(unit.Partitions), loops(unit), func(n int, deadline time.Time) work.Source {
		return d.drain(ctx, unit, unit.Partitions[n], deadline)
	})
}

// drain runs one pull loop.
func (d *HubDrainer) drain(ctx context.Context, unit work.Unit, partition string, deadline time.Time) work.Source {
	began := time.Now()
	// Where the loop doesn't begin, nothing is known of the partition.
	unread := func(end work.Ended) work.Source {
		return work.Source{Partition: partition, Ended: end, Checkpoint: -1, Backlog: -1, ElapsedSeconds: time.Since(began).Seconds()}
	}
	if end := d.untaken(ctx, unit, deadline); end != "" {
		return unread(end)
	}
	opening, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	from := d.From
	if unit.From != nil {
		from = unit.From
	}
	source, start, lost, err := d.Hub.Open(opening, partition, eventhub.OpenOptions{
		Instance:   "persistor " + unit.Run,
		OwnerLevel: &unit.OwnerLevel,
		From:       from,
		Readers:    loops(unit),
	})
	if err != nil && ctx.Err() != nil {
		return unread(work.Cancelled)
	}
	if err != nil {
		s := unread(work.Failed)
		s.Error = err.Error()
		return s
	}
	if source == nil {
		return work.Source{Partition: partition, Ended: work.Drained, Checkpoint: start.After, LostToRetention: lost, ElapsedSeconds: time.Since(began).Seconds()}
	}
	defer closeWithin(source.Close, 2*time.Second)

	progress := new(pull.Progress)
	defer d.watch(progress, api.Progress{Run: unit.Run, Unit: unit.Unit, Partition: partition, Last: start.Target})()
	loop := pull.Partition{
		Loop: d.loop(unit, loops(unit), deadline, progress), Source: source, Hub: d.HubText, Partition: partition,
		Start: start, CheckpointEvery: d.CheckpointEvery,
	}
	defer d.Telemetry.Watch(ctx, &loop.Loop, telemetry.Loop{Source: telemetry.Partition, Partition: partition, Target: start.Target})()
	return loop.Run(ctx)
}

// loops is how many loops of a unit run side by side.
func loops(unit work.Unit) int { return max(min(unit.Tasks, len(unit.Partitions)), 1) }

// Plan makes one unit of every partition that has a backlog, with the time that is left for it. It takes
// half of the time that there is for a unit, at most.
func (d *HubDrainer) Plan(ctx context.Context, req fanout.Request) (work.Unit, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.Timeout/2)
	defer cancel()
	partitions, err := planner{d.Hub}.Partitions(ctx)
	if err != nil {
		return work.Unit{}, err
	}
	run := fanout.NewRun(time.Now())
	req.N = 1
	plan, err := fanout.NewPlan(run, partitions, req)
	if err != nil || len(plan.Units) == 0 {
		return work.Unit{Run: run.ID}, err
	}
	unit := plan.Units[0]
	unit.BudgetSeconds = (d.Timeout - time.Since(began)).Seconds()
	return unit, nil
}

// Close gives back what the drainer holds.
func (d *HubDrainer) Close(ctx context.Context) error {
	err := d.Hub.Close(ctx)
	d.close()
	return err
}
