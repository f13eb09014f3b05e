package backfill

import (
	"slices"
	"strings"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/work"
)

// planned writes a wave's plan into the run.
func planned(run *ledger.Run, plan fanout.Plan) {
	run.Units = make([]ledger.Unit, len(plan.Units))
	for i, u := range plan.Units {
		run.Units[i] = ledger.Unit{
			Unit: u.Unit, State: ledger.UnitPlanned, Partitions: u.Partitions, Cells: u.Cells, Sessions: len(u.Sessions), Tasks: u.Tasks,
		}
	}
	if plan.Kind == work.Receivers || plan.Kind == work.Sessions {
		run.Waiting = plan.Waiting
	}
	for _, text := range plan.Notes {
		note(run, text)
	}
	if w := lastWave(run); w != nil {
		w.Units = len(plan.Units)
	}
}

// account writes what became of a unit into the run, once.
func account(run *ledger.Run, row fanout.UnitRow, now time.Time) {
	i := slices.IndexFunc(run.Units, func(u ledger.Unit) bool { return u.Unit == row.Unit })
	if i < 0 || run.Units[i].State != ledger.UnitPlanned {
		return
	}
	u := &run.Units[i]
	u.State, u.Ended, u.Worker, u.Attempts, u.Messages = ledger.UnitDone, row.Ended, row.Worker, row.Attempts, row.Messages
	w := lastWave(run)
	switch {
	case row.Status == fanout.OK:
	case !run.CancelRequested.IsZero() && stoppedEarly(row):
		u.Ended = work.Cancelled
	default:
		u.State, u.Error = ledger.UnitFailed, why(row)
		complain(run, row.Unit, u.Error, now)
		if w != nil {
			w.Failed++
		}
	}
	if row.Unheard > 0 && len(row.Partitions) == 0 && len(row.Cells) == 0 {
		run.LockedUntil = now.Add(longestLock)
	}
	for _, s := range row.Sources {
		run.Counts.AlreadyStored += s.AlreadyStored
		if p := partition(run, s.Partition); p != nil && s.Receiver == nil {
			stored(p, s)
		}
	}
	run.Counts.Messages += row.Messages
	run.Counts.Bytes += row.Bytes
	run.Counts.Blobs += row.Blobs
	if w != nil {
		w.Messages += row.Messages
		w.Bytes += row.Bytes
		w.Blobs += row.Blobs
	}
	countRemaining(run)
}

// stoppedEarly reports whether a unit has failed only in that it was told to stop.
func stoppedEarly(row fanout.UnitRow) bool {
	return !slices.ContainsFunc(row.Sources, func(s work.Source) bool { return !s.Ended.OK() })
}

// stored takes what a loop stored into its partition's plan.
func stored(p *ledger.Partition, s work.Source) {
	p.Counts.Messages += s.Messages
	p.Counts.Bytes += s.Bytes
	p.Counts.Blobs += s.Blobs
	p.Counts.AlreadyStored += s.AlreadyStored
	from := p.From
	if s.Cell != nil {
		from = s.Cell.From
	} else if s.Checkpoint > p.To {
		s.Checkpoint, s.Offset = p.To, "" // more came meanwhile
	}
	if s.Checkpoint >= from {
		p.Done(work.Range{From: from, To: s.Checkpoint}, s.Offset)
	}
	for _, lost := range s.LostToRetention {
		p.Lose(lost)
	}
}

// countRemaining adds up what is left to do in the partitions.
func countRemaining(run *ledger.Run) {
	if len(run.Partitions) == 0 {
		return
	}
	run.Counts.Remaining = 0
	for i := range run.Partitions {
		p := &run.Partitions[i]
		p.Counts.Remaining = p.Remaining()
		run.Counts.Remaining += p.Counts.Remaining
	}
}

func partition(run *ledger.Run, id string) *ledger.Partition {
	i := slices.IndexFunc(run.Partitions, func(p ledger.Partition) bool { return p.Partition == id })
	if i < 0 {
		return nil
	}
	return &run.Partitions[i]
}

// why is a unit's error, or those of its sources.
func why(row fanout.UnitRow) string {
	if row.Error != "" {
		return row.Error
	}
	var all []string
	for _, s := range row.Sources {
		if !s.Ended.OK() {
			all = append(all, s.Name()+": "+s.Error)
		}
	}
	return strings.Join(all, "; ")
}
