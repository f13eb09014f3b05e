package ledger

import (
	"errors"
	"time"
)

// ErrState is the kind of an error that a run's state is to blame for: it can't be cancelled, retried or resumed then.
var ErrState = errors.New("its state doesn't allow it")

// Live is a run as it shows: with what its workers have done since the document was written.
type Live struct {
	Run
	// Progress is how far the workers of the wave under way are.
	Progress []Progress `json:"progress,omitempty"`
}

// NewLive adds workers' progress to a run, and has it in the state that it shows as at a time. Units that have ended
// are in the run's counts already.
func NewLive(run Run, progress []Progress, now time.Time) Live {
	run.State = run.StateAt(now)
	live := Live{Run: run}
	live.Partitions = append([]Partition(nil), run.Partitions...)
	running := make(map[int]bool, len(run.Units))
	for _, u := range run.Units {
		running[u.Unit] = u.State == UnitPlanned
	}
	at := make(map[string]int, len(live.Partitions))
	for i, p := range live.Partitions {
		at[p.Partition] = i
	}
	for _, p := range progress {
		if run.State != Running || !running[p.Unit] {
			continue
		}
		live.Progress = append(live.Progress, p)
		for _, row := range p.Rows {
			live.Counts.add(row.Stored)
			if i, ok := at[row.Partition]; ok {
				live.Partitions[i].Counts.add(row.Stored)
			}
		}
	}
	return live
}

// add counts messages that were stored just now.
func (c *Counts) add(stored int64) {
	c.Messages += stored
	if c.Remaining > 0 {
		c.Remaining = max(0, c.Remaining-stored)
	}
}
