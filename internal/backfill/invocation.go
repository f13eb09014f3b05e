package backfill

import (
	"context"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/work"
)

// createTimeout bounds what a run's document may delay the run, at its beginning and at its end each.
const createTimeout = 5 * time.Second

// maxSessionsKept is how many sessions a document names of those that an invocation was asked for.
const maxSessionsKept = 1000

// Record keeps the document of a run that is a single invocation: see [Engine.Record]. Its methods are called by one
// goroutine.
type Record struct {
	*keeper
	ctx     context.Context
	cancel  context.CancelCauseFunc
	broken  error // why there is no document; keeper is nil then
	tracked bool
}

// Record creates the document of a run that is a single invocation, before it is planned, and keeps it up to date until
// [Record.Close]. Where that can't be done the run goes on all the same.
func (e *Engine) Record(ctx context.Context, run fanout.Run, req fanout.Request) *Record {
	mark, now := newMark(), time.Now()
	document := ledger.Run{
		ID: run.ID, Kind: ledger.Invoke, Source: e.Source, State: ledger.Running, Created: now, Alive: now.Add(e.Timing.Alive), Invoker: mark,
		Request: ledger.Request{Partitions: req.Partitions, Sessions: req.Sessions[:min(len(req.Sessions), maxSessionsKept)], N: req.N, PerFunc: req.PerFunc, Batch: req.Batch},
		Wave:    1, Waves: []ledger.Wave{{Wave: 1, Began: now}}, Counts: ledger.Counts{Remaining: -1},
	}
	r := &Record{}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	creating, done := context.WithTimeout(ctx, createTimeout)
	defer done()
	if r.broken = e.Ledger.Create(creating, document); r.broken != nil {
		e.Log.WarnContext(ctx, "can't keep a document of the run, which goes on: it can't be watched or cancelled", "run", run.ID, "error", r.broken)
		return r
	}
	r.tracked = e.Tracked
	r.keeper = e.keep(ctx, run.ID, mark, func(error) {}) // an invocation whose document is lost or taken over goes on
	go breakOff(r.ctx, r.cancel, r.stopped)
	return r
}

// Context is that of the run, which ends some time after the run is to be cancelled, and with Close.
func (r *Record) Context() context.Context { return r.ctx }

// Request is the run's request, which has the document kept.
func (r *Record) Request(req fanout.Request) fanout.Request {
	if r.broken == nil {
		req.Ended, req.Stopped = r.unitEnded, r.stopped
	}
	return req
}

// Planner is the run's planner, whose plan is written down.
func (r *Record) Planner(p fanout.Planner) fanout.Planner {
	if r.broken != nil {
		return p
	}
	return recorded{p, r}
}

// recorded is a planner whose plan is written down.
type recorded struct {
	fanout.Planner
	*Record
}

func (p recorded) Plan(ctx context.Context, run fanout.Run, req fanout.Request) (fanout.Plan, error) {
	planner := p.Planner
	seen := &seenHub{}
	if hub, ok := planner.(fanout.HubPlanner); ok {
		seen.Hub = hub.Hub
		planner = fanout.HubPlanner{Hub: seen}
	}
	plan, err := planner.Plan(ctx, run, req)
	if err != nil {
		return plan, err
	}
	plan = track(plan, p.tracked)
	writing, done := context.WithTimeout(ctx, createTimeout)
	defer done()
	written, err := p.update(writing, func(run *ledger.Run) error {
		run.Partitions = seen.planned(plan)
		planned(run, plan)
		if run.Counts.Remaining = plan.Waiting; plan.Kind == work.Partitions {
			countRemaining(run)
		}
		return nil
	})
	p.judge(ctx, written, err)
	return plan, nil
}

// seenHub remembers what was found of a hub.
type seenHub struct {
	fanout.Hub
	partitions []fanout.Partition
}

func (h *seenHub) Partitions(ctx context.Context) (all []fanout.Partition, err error) {
	all, err = h.Hub.Partitions(ctx)
	h.partitions = all
	return all, err
}

// planned are the partitions that a plan has to do with.
func (h *seenHub) planned(plan fanout.Plan) (all []ledger.Partition) {
	for _, p := range h.partitions {
		if _, ok := plan.Backlog[p.ID]; !ok {
			continue
		}
		from := max(p.First, 0)
		if p.Checkpoint >= 0 && p.Checkpoint <= p.Last {
			from = p.Checkpoint + 1
		}
		all = append(all, ledger.Partition{Partition: p.ID, From: from, To: p.Last, Checkpoint: p.Checkpoint})
	}
	return all
}

// Leave stops keeping the document, whatever has become of the run; after Close it does nothing.
func (r *Record) Leave() {
	r.cancel(nil)
	if r.keeper != nil {
		r.close()
	}
}

// Close writes down what became of the run. It adds a note to the report where the document could not be kept.
func (r *Record) Close(report fanout.Report, err error) fanout.Report {
	defer r.cancel(nil)
	if r.keeper != nil {
		r.close()
		ctx, done := context.WithTimeout(context.WithoutCancel(r.ctx), createTimeout)
		defer done()
		_, r.broken = r.update(ctx, func(run *ledger.Run) error { conclusion(run, report, err); return nil })
		if r.broken == nil && r.tracked {
			_ = r.ledger.ClearProgress(ctx, r.id) // what stays goes with the document
		}
	}
	if r.broken != nil {
		report.Notes = append(report.Notes, "the run's document in storage could not be kept: "+r.broken.Error())
	}
	return report
}

// conclusion ends the run of an invocation by its report.
func conclusion(run *ledger.Run, report fanout.Report, err error) {
	now := time.Now()
	state := ledger.Succeeded
	switch {
	case err != nil:
		state = ledger.Failed
		complain(run, -1, err.Error(), now)
	case !run.CancelRequested.IsZero():
		state = ledger.Cancelled
	case report.Status != fanout.OK:
		state = ledger.Failed
	}
	if report.Error != "" {
		complain(run, -1, report.Error, now)
	}
	if err == nil {
		run.Counts.Remaining = report.RemainingBacklog
	}
	for _, row := range report.Units {
		for _, s := range row.Sources {
			if p := partition(run, s.Partition); p != nil && s.Checkpoint >= 0 {
				p.Checkpoint = max(p.Checkpoint, s.Checkpoint)
			}
		}
	}
	finish(run, state, now)
}
