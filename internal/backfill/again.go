package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"persistor/internal/ledger"
)

// Retry has the failed units' work of a run done again, in waves. What is stored is not asked for again. The error is
// a [ledger.ErrState] for a run that has not failed, and a [ledger.ErrNoRun].
func (e *Engine) Retry(ctx context.Context, id string) (ledger.Run, error) {
	return e.again(ctx, id, "retry", func(run *ledger.Run) bool { return run.State == ledger.Failed })
}

// Resume has a run go on that was abandoned or cancelled. The error is a [ledger.ErrState] for any other, and a
// [ledger.ErrNoRun].
func (e *Engine) Resume(ctx context.Context, id string) (ledger.Run, error) {
	return e.again(ctx, id, "resume", func(run *ledger.Run) bool {
		return run.State == ledger.Cancelled || run.StateAt(time.Now()) == ledger.Abandoned
	})
}

// again begins a run again that is in a state which allows it.
func (e *Engine) again(ctx context.Context, id, verb string, allowed func(*ledger.Run) bool) (ledger.Run, error) {
	run, err := e.Ledger.Read(ctx, id)
	if err != nil {
		return run, err
	}
	check := func(run *ledger.Run) error {
		if !allowed(run) {
			return fmt.Errorf("%s run %s: %w: %s; retry is for a failed run, resume for a cancelled or an abandoned one", verb, id, ledger.ErrState, run.StateAt(time.Now()))
		}
		return nil
	}
	if err := check(&run); err != nil {
		return run, err
	}
	plan, err := e.planAgain(ctx, run)
	if err != nil {
		return run, err
	}
	run, err = e.Ledger.Update(ctx, id, func(now *ledger.Run) error {
		if err := check(now); err != nil {
			return err
		}
		restart(now, time.Now())
		plan(now)
		now.Alive = time.Now().Add(e.Timing.Alive)
		return nil
	})
	if err != nil {
		return run, err
	}
	if err := e.ask(ctx, run, 0); err != nil {
		e.giveUp(ctx, id, err)
		return run, err
	}
	return run, nil
}

// restart has a run wait for its next wave. The wave that was under way, if any, is over, and its invoker, should it
// live, finds another mark than its own.
func restart(run *ledger.Run, now time.Time) {
	if run.StateAt(now) == ledger.Abandoned && run.Next == 0 && len(run.Partitions) == 0 {
		run.LockedUntil = now.Add(longestLock) // its workers may have died, too
	}
	finish(run, ledger.Queued, now)
	run.Ended, run.CancelRequested = time.Time{}, time.Time{}
	run.Next = run.Wave + 1
	run.Retries++
	if most := run.Request.MaxWaves; most > 0 && run.Wave >= most {
		run.Request.MaxWaves = 0
	}
}

// planAgain resolves anew what a run that was an invocation is to do, for its plan ended with it: of an Event Hub
// the partitions of the units that failed or weren't heard of, from their checkpoints on; of Service Bus as many units.
// A backfill goes on with what is left of its plan.
func (e *Engine) planAgain(ctx context.Context, run ledger.Run) (apply func(*ledger.Run), err error) {
	if run.Kind != ledger.Invoke {
		return func(*ledger.Run) {}, nil
	}
	var partitions []string
	units := 0
	for _, u := range run.Units {
		if u.State != ledger.UnitDone {
			units++
			partitions = append(partitions, u.Partitions...)
		}
	}
	if e.Hub == nil {
		return func(now *ledger.Run) {
			if units > 0 {
				now.Request.N = units
			}
		}, nil
	}
	planned := run
	if len(partitions) > 0 {
		slices.Sort(partitions)
		planned.Request.Partitions = slices.Compact(partitions)
	}
	planned.Request.From, planned.Request.Until = ledger.Bound{}, ledger.Bound{}
	if err := e.resolve(ctx, &planned); err != nil {
		return nil, err
	}
	return func(now *ledger.Run) { now.Partitions = planned.Partitions; countRemaining(now) }, nil
}

// Recover asks for the waves of all runs that are to go on: for a chain within this process, which has forgotten
// what was asked of the process before. Runs that another process carries out stay its own.
func (e *Engine) Recover(ctx context.Context) error {
	const most = 1000 // runs that are looked at
	runs, err := e.Ledger.List(ctx, most)
	var errs []error
	for _, run := range runs {
		if run.State.Over() || run.Kind == ledger.Invoke && run.Retries == 0 {
			continue
		}
		wave := run.Next
		if wave == 0 {
			wave = run.Wave
		}
		errs = append(errs, e.Chain.Ask(ctx, Message{Run: run.ID, Wave: wave}, 0))
	}
	return errors.Join(append(errs, err)...)
}
