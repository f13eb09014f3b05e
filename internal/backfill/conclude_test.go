package backfill

import (
	"errors"
	"testing"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/work"
)

// How a run goes on after a wave.
func TestConclude(t *testing.T) {
	trouble := errors.New("the hub is out of reach")
	for _, c := range []struct {
		name    string
		run     ledger.Run // as it was before, but for Counts.Remaining, which the wave has brought about
		stored  int64      // messages, by this wave
		outcome outcome
		bus     bool
		cut     bool
		state   ledger.State
		stalled int
		errors  int
	}{
		{name: "more to do", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}, Stalled: 2}, stored: 1, state: ledger.Queued},
		{name: "all done", stored: 1, state: ledger.Succeeded},
		{name: "nothing was to be done", state: ledger.Succeeded},
		{name: "all done, and it follows", run: ledger.Run{Request: ledger.Request{Until: ledger.Bound{Position: "follow"}}}, state: ledger.Queued},
		{name: "nothing stored", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}}, state: ledger.Queued, stalled: 1},
		{name: "nothing stored for the third time", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}, Stalled: 2}, state: ledger.Failed, errors: 1},
		{name: "nothing heard of what was stored", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}, Stalled: 2}, outcome: outcome{unheard: true}, state: ledger.Queued},
		{name: "could not be planned", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}}, outcome: outcome{err: trouble}, state: ledger.Queued, stalled: 1, errors: 1},
		{name: "could not be planned, and nothing is known to be left", outcome: outcome{err: trouble}, state: ledger.Queued, stalled: 1, errors: 1},
		{name: "cut short", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}, Stalled: 2}, outcome: outcome{err: trouble}, cut: true, state: ledger.Queued},
		{name: "to be cancelled", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}, CancelRequested: noon}, stored: 1, state: ledger.Cancelled},
		{name: "as many waves as it may have", run: ledger.Run{Counts: ledger.Counts{Remaining: 9}, Request: ledger.Request{MaxWaves: 1}}, stored: 1, state: ledger.Succeeded},
		{name: "as many messages", run: ledger.Run{Counts: ledger.Counts{Remaining: 9, Messages: 5}, Request: ledger.Request{MaxMessages: 5}}, stored: 1, state: ledger.Succeeded},
		{name: "a queue that is empty", bus: true, stored: 1, state: ledger.Succeeded},
		{name: "a queue that is empty but for what a dead worker may hold", run: ledger.Run{LockedUntil: noon.Add(time.Hour)}, bus: true, stored: 1, state: ledger.Queued},
		{name: "the same, and nothing stored", run: ledger.Run{LockedUntil: noon.Add(time.Hour), Stalled: 2}, bus: true, state: ledger.Queued},
		{name: "a queue that is known to be empty", run: ledger.Run{LockedUntil: noon.Add(time.Hour)}, bus: true, outcome: outcome{nothing: true}, state: ledger.Succeeded},
		{name: "a queue that is empty when the locks are over", run: ledger.Run{LockedUntil: noon.Add(time.Second)}, bus: true, stored: 1, state: ledger.Succeeded},
		{name: "a queue of which nothing is known", bus: true, outcome: outcome{report: fanout.Report{RemainingBacklog: -1}}, stored: 1, state: ledger.Queued},
		{name: "an invocation of Service Bus that is retried", run: ledger.Run{Kind: ledger.Invoke}, bus: true, outcome: outcome{report: fanout.Report{RemainingBacklog: 7}}, stored: 1, state: ledger.Succeeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := c.run
			run.State, run.Wave, run.Invoker = ledger.Running, 1, "mine"
			run.Waves = []ledger.Wave{{Wave: 1, Began: noon, Messages: c.stored}}
			before := run
			conclude(&run, &before, c.outcome, c.bus, c.cut, noon.Add(time.Minute))
			if run.State != c.state || run.Stalled != c.stalled || len(run.Errors) != c.errors || run.Invoker != "" || run.Waves[0].Ended.IsZero() {
				t.Errorf("%+v", run)
			}
			if next := 2; run.State == ledger.Queued && run.Next != next || run.State.Over() && (run.Next != 0 || run.Ended.IsZero()) {
				t.Errorf("%+v", run)
			}
		})
	}
}

// A unit's row counts once, and what it stored is off the list, whatever it ended with.
func TestAccount(t *testing.T) {
	run := ledger.Run{
		Partitions: []ledger.Partition{{Partition: "0", From: 0, To: 99, Checkpoint: -1}},
		Units:      []ledger.Unit{{Unit: 0, State: ledger.UnitPlanned}, {Unit: 1, State: ledger.UnitPlanned}},
		Wave:       1, Waves: []ledger.Wave{{Wave: 1}},
	}
	cell := func(from, to, at int64, ended work.Ended) work.Source {
		return work.Source{Partition: "0", Cell: &work.Range{From: from, To: to}, Ended: ended, Messages: at - from + 1, Checkpoint: at, Offset: "1024"}
	}
	done := fanout.UnitRow{Unit: 0, Status: fanout.OK, Ended: work.Deadline, Messages: 30, Sources: []work.Source{cell(0, 49, 29, work.Deadline)}}
	failed := fanout.UnitRow{Unit: 1, Status: fanout.Failed, Ended: work.Failed, Messages: 20, Error: "the disk is full", Sources: []work.Source{cell(50, 99, 69, work.Failed)}}
	for range 2 { // a document that somebody else has written meanwhile has it done again
		account(&run, done, noon)
		account(&run, failed, noon)
	}
	p := run.Partitions[0]
	if run.Counts.Messages != 50 || run.Counts.Remaining != 50 || p.Counts.Messages != 50 || run.Waves[0].Messages != 50 || run.Waves[0].Failed != 1 || len(run.Errors) != 1 {
		t.Errorf("%+v", run)
	}
	if todo := p.Todo(); len(todo) != 2 || todo[0] != (work.Range{From: 30, To: 49}) || todo[1] != (work.Range{From: 70, To: 99}) {
		t.Errorf("still to do: %+v", todo)
	}
	if u := run.Units; u[0].State != ledger.UnitDone || u[0].Ended != work.Deadline || u[1].State != ledger.UnitFailed || u[1].Error != "the disk is full" {
		t.Errorf("%+v", u)
	}
}

// A wave takes no more than the run may store, and so few cells that its document stays small.
func TestStretches(t *testing.T) {
	run := ledger.Run{Partitions: []ledger.Partition{
		{Partition: "0", From: 0, To: 999, Stored: []work.Range{{From: 100, To: 199}}},
		{Partition: "1", From: 0, To: 1 << 40},
	}}
	size := func() (n int64) {
		for _, s := range stretches(&run) {
			for _, r := range s.Ranges {
				n += r.To - r.From + 1
			}
		}
		return n
	}
	if got := size(); got != 900+maxCells/2<<18 {
		t.Errorf("%d messages", got)
	}
	run.Request.MaxMessages, run.Counts.Messages, run.Counts.AlreadyStored = 1000, 300, 100
	if got := size(); got != 600 {
		t.Errorf("%d messages, want the 600 that are left of 1,000", got)
	}
	if run.Counts.Messages = 900; stretches(&run) != nil {
		t.Errorf("%+v", stretches(&run))
	}
}

// What checkpoints may pass: what a run stored from where one is, and nothing before the range of the run.
func TestReaches(t *testing.T) {
	for _, c := range []struct {
		from              int64
		checkpoint, first int64
		want              bool
	}{
		{0, -1, 0, true}, {0, -1, -1, true}, {10, -1, 0, false}, {10, -1, 10, true}, {10, -1, 12, true},
		{10, 9, 0, true}, {10, 20, 0, true}, {10, 8, 0, false}, {10, 8, 10, true},
	} {
		p := ledger.Partition{From: c.from}
		if got := reaches(p, fanout.Partition{First: c.first, Checkpoint: c.checkpoint}); got != c.want {
			t.Errorf("from %d, checkpoint %d, oldest %d: %v", c.from, c.checkpoint, c.first, got)
		}
	}
}

// What a worker held that gave no answer is locked for a time, of Service Bus; also where an invoker died beside it.
func TestLocksOfTheDead(t *testing.T) {
	run := ledger.Run{State: ledger.Running, Wave: 1, Waves: []ledger.Wave{{Wave: 1}}, Units: []ledger.Unit{{State: ledger.UnitPlanned}, {Unit: 1, State: ledger.UnitPlanned}, {Unit: 2, State: ledger.UnitPlanned}}}
	account(&run, fanout.UnitRow{Status: fanout.OK, Attempts: 3}, noon)
	account(&run, fanout.UnitRow{Unit: 1, Status: fanout.OK, Attempts: 2, Unheard: 1, Partitions: []string{"0"}}, noon)
	if !run.LockedUntil.IsZero() {
		t.Errorf("locked until %v by nobody", run.LockedUntil)
	}
	account(&run, fanout.UnitRow{Unit: 2, Status: fanout.OK, Attempts: 2, Unheard: 1}, noon)
	if !run.LockedUntil.Equal(noon.Add(longestLock)) {
		t.Errorf("locked until %v", run.LockedUntil)
	}
	taken := ledger.Run{State: ledger.Running, Wave: 1, Waves: []ledger.Wave{{Wave: 1}}, Alive: noon.Add(-time.Second)}
	if claim(&taken, Message{Wave: 1}, "mine", noon, time.Second); !taken.LockedUntil.Equal(noon.Add(longestLock)) {
		t.Errorf("taken over, locked until %v", taken.LockedUntil)
	}
	next := ledger.Run{State: ledger.Queued, Wave: 1, Next: 2, Waves: []ledger.Wave{{Wave: 1}}}
	if claim(&next, Message{Wave: 2}, "mine", noon, time.Second); !next.LockedUntil.IsZero() {
		t.Errorf("the next wave, locked until %v", next.LockedUntil)
	}
}
