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

// HubDrainer carries out work units of an Event Hub: a pull loop for each partition, or cell of one, a few at a time.
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
	if len(unit.Cells) > 0 {
		connections := new(eventhub.Connections)
		defer closeWithin(connections.Close, 2*time.Second)
		return d.run(ctx, unit, len(unit.Cells), loops(unit), func(ctx context.Context, t turn) work.Source {
			return d.drainCell(ctx, unit, unit.Cells[t.source], connections, t)
		})
	}
	return d.run(ctx, unit, len(unit.Partitions), loops(unit), func(ctx context.Context, t turn) work.Source {
		return d.drain(ctx, unit, unit.Partitions[t.source], t)
	})
}

// drain runs one pull loop.
func (d *HubDrainer) drain(ctx context.Context, unit work.Unit, partition string, t turn) work.Source {
	began := time.Now()
	// Where the loop doesn't begin, nothing is known of the partition.
	unread := func(end work.Ended) work.Source {
		return work.Source{Partition: partition, Ended: end, Checkpoint: -1, Backlog: -1, ElapsedSeconds: time.Since(began).Seconds()}
	}
	if end := d.untaken(ctx, unit, t.deadline); end != "" {
		return unread(end)
	}
	opening, cancel := context.WithDeadline(ctx, t.deadline)
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
	return d.pull(ctx, unit, partition, source, start, t)
}

// drainCell runs one pull loop over a cell.
func (d *HubDrainer) drainCell(ctx context.Context, unit work.Unit, cell work.Cell, connections *eventhub.Connections, t turn) work.Source {
	began := time.Now()
	unread := func(end work.Ended) work.Source {
		return work.Source{
			Partition: cell.Partition, Cell: &work.Range{From: cell.From, To: cell.To}, Ended: end,
			Checkpoint: cell.From - 1, Backlog: cell.To - cell.From + 1, ElapsedSeconds: time.Since(began).Seconds(),
		}
	}
	if end := d.untaken(ctx, unit, t.deadline); end != "" {
		return unread(end)
	}
	opening, cancel := context.WithDeadline(ctx, t.deadline)
	defer cancel()
	source, start, err := d.Hub.OpenCell(opening, cell, eventhub.OpenOptions{
		Instance: "persistor " + unit.Run, Readers: loops(unit), Connections: connections,
	})
	if err != nil && ctx.Err() != nil {
		return unread(work.Cancelled)
	}
	if err != nil {
		s := unread(work.Failed)
		s.Error = err.Error()
		return s
	}
	return d.pull(ctx, unit, cell.Partition, source, start, t)
}

// pull runs a loop over a source, and closes it.
func (d *HubDrainer) pull(ctx context.Context, unit work.Unit, partition string, source *eventhub.Source, start pull.Start, t turn) work.Source {
	defer closeWithin(source.Close, 2*time.Second)
	row := api.Progress{Run: unit.Run, Unit: unit.Unit, Partition: partition, Last: start.Target}
	if start.Bounded {
		row.Cell = &work.Range{From: start.After + 1, To: start.Target}
	}
	defer d.watch(t.progress, row)()
	loop := pull.Partition{
		Loop: d.loop(unit, loops(unit), t.deadline, t.progress), Source: source, Hub: d.HubText, Partition: partition,
		Start: start, CheckpointEvery: d.CheckpointEvery,
	}
	defer d.Telemetry.Watch(ctx, &loop.Loop, telemetry.Loop{Source: telemetry.Partition, Partition: partition, Target: start.Target, Part: start.Bounded})()
	return loop.Run(ctx)
}

// loops is how many loops of a unit run side by side.
func loops(unit work.Unit) int {
	return max(min(unit.Tasks, max(len(unit.Partitions), len(unit.Cells))), 1)
}

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
