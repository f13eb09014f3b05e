package backfill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
)

const (
	// stopGrace is how long workers have to say what they stored when the run is cancelled, before their calls are
	// broken off.
	stopGrace = 15 * time.Second
	// concluding is what is kept of a wave's time, at most, for its checkpoints and its document.
	concluding = 10 * time.Second
)

// Status is what became of a wave that was asked for.
type Status string

const (
	CarriedOut Status = "ok"        // units that failed are in the run's document
	Failed     Status = "failed"    // it could not be carried out: the run's document says why
	Postponed  Status = "postponed" // somebody else is at it, or at another run; it is asked for again
	Dropped    Status = "dropped"   // there was nothing to do: it was done, is no longer wanted, or somebody else has taken it over
)

// Wave carries out a wave of a run, if it is this message's to do so, and asks for the next. It returns within the
// dispatcher's budget. After an error the message is to come again; without one it has done what it can, as the status
// says, also where the wave was not its own. When ctx ends, what the workers hold is stored, and the wave ends early.
func (e *Engine) Wave(ctx context.Context, m Message) (Status, error) {
	end := time.Now().Add(e.Dispatcher.Budget(fanout.Request{}))
	mark := newMark()
	claiming, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	run, v, wait, err := e.claim(claiming, m, mark)
	switch {
	case errors.Is(err, ledger.ErrNoRun):
		e.Log.WarnContext(ctx, "a wave was asked for of a run that has no document", "run", m.Run, "wave", m.Wave)
		return Dropped, nil
	case err != nil:
		return "", fmt.Errorf("claim wave %d of run %s: %w", m.Wave, m.Run, err)
	}
	switch v {
	case carryOut:
		return e.carryOut(ctx, run, mark, end)
	case postpone:
		e.Log.InfoContext(ctx, "another invoker carries a wave out", "run", m.Run, "wave", m.Wave)
		return Postponed, e.Chain.Ask(claiming, m, wait)
	case askAgain:
		return Dropped, e.ask(claiming, run, 0)
	}
	e.Log.InfoContext(ctx, "dropped a message that has come too late", "run", m.Run, "wave", m.Wave)
	return Dropped, nil
}

// claim decides what becomes of a message, by the run's document, and writes that into it where it changes the run.
func (e *Engine) claim(ctx context.Context, m Message, mark string) (run ledger.Run, v verdict, wait time.Duration, err error) {
	changed, err := e.Ledger.Update(ctx, m.Run, func(now *ledger.Run) error {
		before := now.State
		v, wait = claim(now, m, mark, time.Now(), e.Timing.Alive)
		if run = *now; v != carryOut && now.State == before {
			return errNoClaim
		}
		return nil
	})
	if errors.Is(err, errNoClaim) {
		return run, v, wait, nil
	}
	return changed, v, wait, err
}

// wave is one that is being carried out.
type wave struct {
	*Engine
	*keeper
	run ledger.Run // as it was claimed
	end time.Time
}

// carryOut carries out the wave that the run was claimed for.
func (e *Engine) carryOut(outer context.Context, run ledger.Run, mark string, end time.Time) (Status, error) {
	ctx, over := context.WithCancelCause(outer)
	defer over(nil)
	w := &wave{Engine: e, keeper: e.keep(ctx, run.ID, mark, over), run: run, end: end}
	defer w.close()
	release, err := w.lease(ctx)
	defer release()
	var outcome outcome
	switch {
	case errors.As(err, new(*fanout.UnderWayError)), err != nil && outer.Err() != nil:
		return w.giveBack(outer, err)
	case err != nil:
		outcome.err = err
	default:
		outcome = w.work(ctx)
	}
	w.close()
	after, err := w.conclude(outer, outcome)
	if errors.Is(err, errSuperseded) || errors.Is(err, ledger.ErrNoRun) {
		e.Log.WarnContext(outer, "gave a wave up", "run", run.ID, "wave", run.Wave, "error", err)
		return Dropped, nil
	}
	if err != nil {
		return "", fmt.Errorf("end wave %d of run %s: %w", run.Wave, run.ID, err)
	}
	e.tell(outer, after, outcome)
	release() // before the next wave wants it
	status := CarriedOut
	if outcome.err != nil {
		status = Failed
	}
	if after.Next == 0 {
		return status, nil
	}
	return status, e.handOn(outer, after, w.pause(after, outcome))
}

// handOn asks for the run's next wave, also where this process is about to end: somebody else carries it out then, and
// nobody comes again for this one.
func (e *Engine) handOn(outer context.Context, run ledger.Run, after time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(outer), writeTimeout)
	defer cancel()
	return e.ask(ctx, run, after)
}

// lease waits for the source's lease for half of the wave's time. release gives it back, once; after an error it does
// nothing.
func (w *wave) lease(ctx context.Context) (release func(), err error) {
	patient, cancel := context.WithDeadline(ctx, w.end.Add(-time.Until(w.end)/2))
	defer cancel()
	var busy *fanout.UnderWayError
	for {
		release, err := w.Lock.Take(patient, fanout.Run{ID: w.run.ID, Start: time.Now()})
		switch {
		case err == nil:
			return sync.OnceFunc(release), nil
		case errors.As(err, &busy):
		case busy != nil && patient.Err() != nil: // the last try was cut off
			return func() {}, busy
		default:
			return func() {}, err
		}
		select {
		case <-patient.Done():
			return func() {}, busy
		case <-w.stopped:
			return func() {}, busy
		case <-time.After(time.Second):
		}
	}
}

// giveBack gives a wave that couldn't begin back to the chain.
func (w *wave) giveBack(outer context.Context, why error) (Status, error) {
	w.close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(outer), writeTimeout)
	defer cancel()
	run, err := w.update(ctx, func(run *ledger.Run) error {
		if !run.CancelRequested.IsZero() {
			finish(run, ledger.Cancelled, time.Now())
			return nil
		}
		requeue(run, time.Now(), w.Timing.Alive)
		return nil
	})
	switch {
	case errors.Is(err, errSuperseded), errors.Is(err, ledger.ErrNoRun):
		return Dropped, nil
	case err != nil:
		return "", fmt.Errorf("give back wave %d of run %s: %w", w.run.Wave, w.run.ID, err)
	}
	if run.Next == 0 {
		w.Engine.Log.InfoContext(ctx, "a wave was cancelled before it began", "run", run.ID)
		return Dropped, nil
	}
	w.Engine.Log.InfoContext(ctx, "a wave waits for another run's end", "run", run.ID, "wave", run.Next, "error", why)
	return Postponed, w.handOn(outer, run, w.Timing.Busy)
}

// outcome is what became of a wave.
type outcome struct {
	err        error // that kept it from being carried out
	nothing    bool  // there was nothing to do
	unheard    bool  // workers stored something, as far as they could say
	report     fanout.Report
	checkpoint map[string]int64 // that were written, by partition
}

// work plans the wave, has the workers carry it out and moves the checkpoints.
func (w *wave) work(ctx context.Context) (o outcome) {
	plan, standing, err := w.plan(ctx)
	if err != nil {
		return outcome{err: err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	budget := time.Until(w.end)
	budget -= min(concluding, budget/10)
	planning, done := context.WithTimeout(ctx, writeTimeout)
	_, err = w.update(planning, func(run *ledger.Run) error {
		standing.apply(run)
		planned(run, plan)
		run.Alive = time.Now().Add(w.Timing.Alive)
		return nil
	})
	done()
	if err != nil {
		return outcome{err: fmt.Errorf("write the wave's plan: %w", err)}
	}
	if len(plan.Units) > 0 {
		go breakOff(ctx, cancel, w.stopped)
		plan.Run.Start = time.Now()
		req := w.request()
		req.Budget, req.Stopped = budget, w.stopped
		req.Ended = func(row fanout.UnitRow) {
			if row.Status == fanout.OK || ctx.Err() == nil { // that this process ends is no failure of the unit's
				w.unitEnded(row)
			}
		}
		o.report = w.Dispatcher.Dispatch(ctx, plan, req)
	}
	o.nothing = len(plan.Units) == 0
	if w.Hub != nil {
		o.checkpoint, o.err = w.moveCheckpoints(ctx, standing)
	}
	return o
}

// breakOff ends the calls to the workers some time after the run is to be cancelled.
func breakOff(ctx context.Context, cancel context.CancelCauseFunc, stopped <-chan struct{}) {
	select {
	case <-stopped:
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(stopGrace):
		cancel(errors.New("the run was cancelled"))
	case <-ctx.Done():
	}
}

// request is what is asked of each wave's units.
func (w *wave) request() fanout.Request {
	r := w.run.Request
	return fanout.Request{N: r.N, PerFunc: r.PerFunc, Sessions: r.Sessions, Batch: r.Batch}
}
