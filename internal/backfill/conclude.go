package backfill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"persistor/internal/ledger"
)

// conclude writes the wave's end into the document, and with it whether and by which number the run goes on.
func (w *wave) conclude(outer context.Context, o outcome) (ledger.Run, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(outer), concluding)
	defer cancel()
	o.unheard = w.unheard(ctx)
	run, err := w.update(ctx, func(run *ledger.Run) error {
		conclude(run, &w.run, o, w.Hub == nil, outer.Err() != nil, time.Now())
		if run.Next != 0 {
			run.Alive = time.Now().Add(w.Timing.Alive) // to ask for the next one
		}
		return nil
	})
	if err != nil {
		return run, err
	}
	if err := w.Ledger.ClearProgress(ctx, run.ID); err != nil {
		w.Engine.Log.InfoContext(ctx, "could not remove the progress of a wave's workers", "run", run.ID, "error", err)
	}
	return run, nil
}

// unheard reports whether workers have said that they stored something, whatever became of their answers.
func (w *wave) unheard(ctx context.Context) bool {
	all, err := w.Ledger.Progress(ctx, w.run.ID)
	return err == nil && slices.ContainsFunc(all, func(p ledger.Progress) bool {
		return p.Wave == w.run.Wave && slices.ContainsFunc(p.Rows, func(r ledger.Row) bool { return r.Stored > 0 })
	})
}

// conclude decides how a run goes on after a wave: before is the run as the wave found it. cut says that the wave was
// cut short because its process ends.
func conclude(run, before *ledger.Run, o outcome, bus, cut bool, now time.Time) {
	for id, at := range o.checkpoint {
		if p := partition(run, id); p != nil {
			p.Checkpoint = at
		}
	}
	if o.err != nil && !cut {
		complain(run, -1, o.err.Error(), now)
	}
	if bus && o.err == nil {
		run.Counts.Remaining = o.report.RemainingBacklog
	}
	w := lastWave(run)
	w.Ended = now
	progress := w.Messages > 0 || storedIn(run) > storedIn(before) || o.unheard
	waits := bus && locked(run, o, now)
	if waits {
		run.Counts.Remaining = -1
	}
	done := o.err == nil && run.Counts.Remaining == 0
	if bus && run.Kind == ledger.Invoke {
		done = o.err == nil && w.Failed == 0 // a retry is one wave
	}
	switch {
	case !run.CancelRequested.IsZero():
		finish(run, ledger.Cancelled, now)
		return
	case done && run.Request.Until.Position != "follow":
		finish(run, ledger.Succeeded, now)
		return
	case run.Request.MaxMessages > 0 && allowance(run) == 0:
		note(run, fmt.Sprintf("max_messages (%d) is reached; %s", run.Request.MaxMessages, left(run)))
		finish(run, ledger.Succeeded, now)
		return
	case progress || done || cut || waits:
		run.Stalled = 0
	default:
		run.Stalled++
	}
	goOn(run, now)
}

// goOn has a run wait for its next wave, unless it is to have none.
func goOn(run *ledger.Run, now time.Time) {
	switch {
	case run.Stalled >= maxStalled:
		complain(run, -1, fmt.Sprintf("%d waves in a row have stored nothing, and %s: mend what the errors say, then retry the run", run.Stalled, left(run)), now)
		finish(run, ledger.Failed, now)
		return
	case run.Request.MaxWaves > 0 && run.Wave >= run.Request.MaxWaves:
		note(run, fmt.Sprintf("max_waves (%d) is reached; %s", run.Request.MaxWaves, left(run)))
		finish(run, ledger.Succeeded, now)
		return
	}
	run.State, run.Invoker, run.Next, run.NextAsked = ledger.Queued, "", run.Wave+1, time.Time{}
}

// left says how much is left to do.
func left(run *ledger.Run) string {
	if run.Counts.Remaining < 0 {
		return "it isn't known how many messages are left"
	}
	return fmt.Sprintf("%d messages are left", run.Counts.Remaining)
}

// storedIn counts the sequence numbers that are done.
func storedIn(run *ledger.Run) (n int64) {
	for _, p := range run.Partitions {
		for _, r := range p.Stored {
			n += r.To - r.From + 1
		}
	}
	return n
}

// locked reports whether nothing more came of Service Bus, but may once the locks of somebody who has died are over.
func locked(run *ledger.Run, o outcome, now time.Time) bool {
	return o.err == nil && !o.nothing && o.report.RemainingBacklog == 0 && now.Before(run.LockedUntil)
}

// pause is how long the next wave is to wait.
func (w *wave) pause(run ledger.Run, o outcome) time.Duration {
	switch {
	case w.Hub == nil && locked(&run, o, time.Now()):
		return time.Until(run.LockedUntil) + time.Second
	case run.Stalled > 0:
		return w.Timing.Busy << (run.Stalled - 1)
	case run.Counts.Remaining == 0:
		return w.Timing.Pause
	}
	return 0
}

// tell logs what became of a wave, in a line.
func (e *Engine) tell(ctx context.Context, run ledger.Run, o outcome) {
	w := lastWave(&run)
	if w == nil {
		return
	}
	line := []any{
		"run", run.ID, "wave", w.Wave, "state", run.State, "messages", w.Messages, "bytes", w.Bytes, "blobs", w.Blobs,
		"units", w.Units, "failed_units", w.Failed, "remaining", run.Counts.Remaining, "elapsed_seconds", w.Ended.Sub(w.Began).Seconds(),
		"checkpoints", len(o.checkpoint),
	}
	switch {
	case o.err != nil:
		e.Log.ErrorContext(ctx, "a wave failed", append(line, "error", o.err)...)
	case run.State == ledger.Failed:
		e.Log.ErrorContext(ctx, "a run failed", line...)
	default:
		e.Log.InfoContext(ctx, "ended a wave", line...)
	}
}
