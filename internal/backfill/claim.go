package backfill

import (
	"errors"
	"time"

	"persistor/internal/ledger"
)

// verdict is what is to become of a message.
type verdict int

const (
	drop     verdict = iota // there is nothing to do: somebody else has done it, or it is no longer wanted
	postpone                // somebody else does it, who may still die
	askAgain                // the wave is done, and it isn't known whether its successor was asked for
	carryOut                // the wave is this invoker's
)

// errNoClaim ends an update that changes nothing.
var errNoClaim = errors.New("nothing to claim")

// claim decides what becomes of a message, and changes the run where that is its wave, which then is the one of the
// invoker with the mark until now + alive. wait goes with postpone.
func claim(run *ledger.Run, m Message, mark string, now time.Time, alive time.Duration) (v verdict, wait time.Duration) {
	taken := run.Next != m.Wave // over from somebody else
	switch {
	case run.State.Over() || m.Wave < run.Wave || m.Wave > max(run.Wave, run.Next), run.Kind == ledger.Invoke && run.Retries == 0:
		return drop, 0
	case m.Wave == run.Next:
		if !run.CancelRequested.IsZero() {
			finish(run, ledger.Cancelled, now)
			return drop, 0
		}
		beginWave(run, m.Wave, now)
	case run.Next != 0 && !run.NextAsked.IsZero(): // done, and its successor is on its way
		return drop, 0
	case !now.After(run.Alive):
		return postpone, run.Alive.Sub(now) + time.Second
	case run.Next != 0:
		return askAgain, 0
	case !run.CancelRequested.IsZero():
		finish(run, ledger.Cancelled, now)
		return drop, 0
	}
	if w := lastWave(run); w == nil || w.Wave != run.Wave { // a document that was cut by hand
		beginWave(run, run.Wave, now)
	}
	if taken && len(run.Partitions) == 0 {
		run.LockedUntil = now.Add(longestLock) // its workers may have died, too
	}
	run.State, run.Invoker, run.Alive = ledger.Running, mark, now.Add(alive)
	return carryOut, 0
}

// beginWave enters a wave as the one under way.
func beginWave(run *ledger.Run, n int, now time.Time) {
	if len(run.Waves) >= ledger.MaxWaves {
		run.Waves = append(run.Waves[:0:0], run.Waves[len(run.Waves)-ledger.MaxWaves+1:]...)
	}
	run.Waves = append(run.Waves, ledger.Wave{Wave: n, Began: now})
	run.Wave, run.Next, run.NextAsked = n, 0, time.Time{}
}

// requeue gives back a wave that could not begin: its number is free again.
func requeue(run *ledger.Run, now time.Time, alive time.Duration) {
	run.Next, run.NextAsked = run.Wave, time.Time{}
	run.Wave--
	if len(run.Waves) > 0 {
		run.Waves = run.Waves[:len(run.Waves)-1]
	}
	run.State, run.Invoker, run.Alive = ledger.Queued, "", now.Add(alive)
}
