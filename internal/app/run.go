package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"persistor/internal/backfill"
	"persistor/internal/fanout"
)

// runner carries out runs of one planner: whether a call over HTTP, a timer or a message starts one, it comes
// here. It has one run at a time, over all invokers of the source, unless a request says otherwise.
type runner struct {
	dispatcher *fanout.Dispatcher
	planner    fanout.Planner
	units      int // N of requests that don't say it; 0 leaves it to the planner
	// lock and engine, which keeps the runs' documents, are nil where no storage is known to keep them in.
	lock   backfill.Lock
	engine *backfill.Engine
	log    *slog.Logger
}

// Run implements [api.Runner].
func (r *runner) Run(ctx context.Context, req fanout.Request) (fanout.Report, error) {
	end := time.Now().Add(r.dispatcher.Budget(req))
	req.N = cmp.Or(req.N, r.units)
	run, release, err := r.begin(ctx, req, end)
	if busy := (*fanout.UnderWayError)(nil); errors.As(err, &busy) {
		r.log.InfoContext(ctx, "skipped a run", "run", run.ID, "status", fanout.NotBegun, "under_way", busy.Run, "since", busy.Since)
		return fanout.Report{}, busy
	}
	if err != nil {
		report := fanout.FailedReport(run, err)
		r.tell(ctx, report)
		return report, nil
	}
	defer release()
	report, err := r.carryOut(ctx, run, req, end)
	if err == nil {
		r.tell(ctx, report)
	}
	return report, err
}

// carryOut has the run planned and carried out, and its document kept.
func (r *runner) carryOut(ctx context.Context, run fanout.Run, req fanout.Request, end time.Time) (fanout.Report, error) {
	if r.engine == nil {
		req.Budget = time.Until(end)
		return r.dispatcher.Run(ctx, r.planner, run, req)
	}
	record := r.engine.Record(ctx, run, req)
	defer record.Leave()
	req.Budget = time.Until(end)
	report, err := r.dispatcher.Run(record.Context(), record.Planner(r.planner), run, record.Request(req))
	return record.Close(report, err), err
}

// lockPause is how long a run that waits for another one's end lets pass between two looks.
const lockPause = time.Second

// begin makes a run, which has the lease unless it goes beside others. It starts when it has it, and not
// before: then it is the newer one also of a run that it has waited for. Half of the time until end is for
// this, the rest for the run.
func (r *runner) begin(ctx context.Context, req fanout.Request, end time.Time) (run fanout.Run, release func(), err error) {
	run = fanout.NewRun(time.Now())
	if req.Beside || r.lock == nil {
		return run, func() {}, nil
	}
	patient, cancel := context.WithDeadline(ctx, end.Add(-time.Until(end)/2))
	defer cancel()
	release, err = r.lock.Take(patient, run)
	if req.Wait && errors.As(err, new(*fanout.UnderWayError)) {
		r.log.InfoContext(ctx, "waits for a run's end", "error", err)
	}
	for busy := (*fanout.UnderWayError)(nil); req.Wait && errors.As(err, &busy); {
		select {
		case <-patient.Done():
			return run, nil, busy
		case <-time.After(lockPause):
		}
		run = fanout.NewRun(time.Now())
		if release, err = r.lock.Take(patient, run); err != nil && patient.Err() != nil {
			return run, nil, busy
		}
	}
	return run, release, err
}

// tell logs what became of a run, in a line.
func (r *runner) tell(ctx context.Context, report fanout.Report) {
	line := []any{
		"run", report.Run, "status", report.Status, "messages", report.Messages, "bytes", report.Bytes, "blobs", report.Blobs,
		"units", len(report.Units), "remaining_backlog", report.RemainingBacklog, "elapsed_seconds", report.ElapsedSeconds,
	}
	if report.Status == fanout.OK {
		r.log.InfoContext(ctx, "ended a run", line...)
		return
	}
	r.log.ErrorContext(ctx, "a run failed", append(line, "error", report.Why())...)
}
