package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/record"
	"persistor/internal/store"
)

// runner carries out runs of one planner: whether a call over HTTP, a timer or a message starts one, it comes
// here. It has one run at a time, over all invokers of the source, unless a request says otherwise.
type runner struct {
	dispatcher *fanout.Dispatcher
	planner    fanout.Planner
	units      int      // N of requests that don't say it; 0 leaves it to the planner
	lock       *runLock // nil where no storage is known to keep it in
	log        *slog.Logger
}

// Run implements [api.Runner].
func (r *runner) Run(ctx context.Context, req fanout.Request) (fanout.Report, error) {
	end := time.Now().Add(r.dispatcher.Budget(req))
	req.N = cmp.Or(req.N, r.units)
	run, lease, err := r.begin(ctx, req, end)
	if busy := (*fanout.UnderWayError)(nil); errors.As(err, &busy) {
		r.log.InfoContext(ctx, "skipped a run", "run", run.ID, "status", fanout.NotBegun, "under_way", busy.Run, "since", busy.Since)
		return fanout.Report{}, busy
	}
	if err != nil {
		report := fanout.FailedReport(run, err)
		r.tell(ctx, report)
		return report, nil
	}
	defer r.hold(ctx, run, lease)()
	req.Budget = time.Until(end)
	report, err := r.dispatcher.Run(ctx, r.planner, run, req)
	if err == nil {
		r.tell(ctx, report)
	}
	return report, err
}

const (
	// lockPause is how long a run that waits for another one's end lets pass between two looks.
	lockPause = time.Second
	// unlockTimeout bounds how long giving a lease back takes; what could not be given back runs out.
	unlockTimeout = 5 * time.Second
)

// begin makes a run, which has the lease unless it goes beside others. It starts when it has it, and not
// before: then it is the newer one also of a run that it has waited for. Half of the time until end is for
// this, the rest for the run.
func (r *runner) begin(ctx context.Context, req fanout.Request, end time.Time) (fanout.Run, *store.Lease, error) {
	run := fanout.NewRun(time.Now())
	if req.Beside || r.lock == nil {
		return run, nil, nil
	}
	patient, cancel := context.WithDeadline(ctx, end.Add(-time.Until(end)/2))
	defer cancel()
	lease, err := r.lock.take(patient, run)
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
		if lease, err = r.lock.take(patient, run); err != nil && patient.Err() != nil {
			return run, nil, busy
		}
	}
	return run, lease, err
}

// hold watches over a run's lease until the function that it returns is called, which gives it back: always,
// also when the run has panicked or was told to stop.
//
// A run whose lease is lost goes on. Another run may begin then, and nothing comes of it but work done
// twice: of a partition's two receivers the one with the higher owner level wins, messages are locked for
// one receiver at a time, and a name is given once whoever stores. To stop would leave less stored, and not
// be safer.
func (r *runner) hold(ctx context.Context, run fanout.Run, lease *store.Lease) (release func()) {
	if lease == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		select {
		case err := <-lease.Lost():
			r.log.WarnContext(ctx, "lost the run's lease: another run may begin beside this one, which goes on", "run", run.ID, "error", err)
		case <-done:
		}
	}()
	return func() {
		close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		if err := lease.Release(ctx); err != nil {
			r.log.WarnContext(ctx, "could not give the run's lease back: the next run has to wait until it runs out, a minute at most", "run", run.ID, "error", err)
		}
	}
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

// runLock is the lock that a source's run has.
type runLock struct {
	at   config.Storage
	name string

	opening sync.Mutex
	opened  store.Locker // nil until it was needed, so that an invoker may start before its container is there
}

// newRunLock returns nil where the settings name no storage.
func newRunLock(c config.Invoker) *runLock {
	if c.Storage == (config.Storage{}) {
		return nil
	}
	// Beside all main folders, so that no list of one comes upon it.
	return &runLock{at: c.Storage, name: "_runs/" + strings.TrimSuffix(record.EventHubFolder(c.Source()), "/") + ".lock"}
}

// take locks for a run. The error is a [*fanout.UnderWayError] where another run has the lock.
func (l *runLock) take(ctx context.Context, run fanout.Run) (*store.Lease, error) {
	locker, err := l.locker(ctx)
	if err != nil {
		return nil, fmt.Errorf("take the run's lease: %w", err)
	}
	lease, err := locker.Lock(ctx, l.name, store.Holder{Run: run.ID, Since: run.Start})
	if locked := (*store.LockedError)(nil); errors.As(err, &locked) {
		return nil, &fanout.UnderWayError{Run: locked.Holder.Run, Since: locked.Holder.Since}
	}
	if err != nil {
		return nil, fmt.Errorf("take the run's lease: %w; the invoker needs to write to the container; \"exclusive\": false runs without", err)
	}
	return lease, nil
}

// locker opens the container when it is first needed.
func (l *runLock) locker(ctx context.Context) (store.Locker, error) {
	l.opening.Lock()
	defer l.opening.Unlock()
	if l.opened != nil {
		return l.opened, nil
	}
	opened, err := openStore(ctx, l.at.Connection, l.at.Container, l.at.CreateContainer)
	if err != nil {
		return nil, err
	}
	l.opened = opened.(store.Locker) // both kinds are ones
	return l.opened, nil
}
