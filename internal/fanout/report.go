package fanout

import (
	"fmt"
	"slices"
	"time"

	"persistor/internal/work"
)

// The values of [Report.Status] and [UnitRow.Status], the same as those of [work.Report].
const (
	OK     = "ok"
	Failed = "failed"
	// NotBegun is that of a run that didn't begin: see [UnderWayError].
	NotBegun = "skipped"
)

// Report is what became of a run.
type Report struct {
	Run string `json:"run"`
	// Trace is the trace id that every call of the run carried (W3C trace context).
	Trace string `json:"trace,omitempty"`
	// Status is OK, or Failed when the run could not be planned or a unit failed for good. A unit that
	// stopped at its deadline has not failed: RemainingBacklog says what is left for the next run.
	Status string `json:"status"`
	// Error says why the run as a whole failed; the units' own errors are in their rows.
	Error string `json:"error,omitempty"`

	// Messages, Bytes and Blobs count what this run stored, as far as the workers could tell: a unit
	// that never answered may have stored more.
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Blobs    int64 `json:"blobs"`
	// AlreadyStored counts messages received that blobs of other runs, or of an earlier attempt, hold.
	AlreadyStored int64 `json:"already_stored,omitempty"`
	// RemainingBacklog is how many messages are still to be stored; -1 when that isn't known, as when the
	// run could not be planned. Of an Event Hub it counts sequence numbers of the partitions asked for, as
	// each partition's worker last saw them, else as planned. Of Service Bus it is 0 when every receiver
	// ended because nothing more came. Else it is what waited when the run was planned, less what was
	// stored since; that is known only where the invoker's identity may read it, and never for sessions.
	RemainingBacklog int64 `json:"remaining_backlog"`
	// LostToRetention are the messages that the hub dropped before they were stored.
	LostToRetention []Lost `json:"lost_to_retention,omitempty"`
	// RedeliveryExpected counts messages of Service Bus that are stored but could not be completed; they
	// come again. Abandoned counts those received and given back without being stored.
	RedeliveryExpected int64 `json:"redelivery_expected,omitempty"`
	Abandoned          int64 `json:"abandoned,omitempty"`
	// Sessions counts the sessions drained, and Skipped those that could not be, of which SkippedSessions
	// names the first, at most [work.MaxSkipped].
	Sessions        int64     `json:"sessions,omitempty"`
	Skipped         int64     `json:"skipped,omitempty"`
	SkippedSessions []Skipped `json:"skipped_sessions,omitempty"`
	ElapsedSeconds  float64   `json:"elapsed_seconds"`

	// Units has a row for each unit of the plan, in its order; never null.
	Units []UnitRow `json:"units"`
	// Notes say where the run differs from what was asked, a sentence each.
	Notes []string `json:"notes,omitempty"`
}

// Lost is a range of sequence numbers that a partition no longer had when their turn came.
type Lost struct {
	Partition string `json:"partition"`
	work.Range
}

// Skipped is a session that a unit left as it is, and why.
type Skipped struct {
	Unit int `json:"unit"`
	work.SkippedSession
}

// UnitRow is what became of one unit.
type UnitRow struct {
	Unit int `json:"unit"`
	// Worker is the URL called last, without what may be secret in it; empty when none was called.
	Worker string `json:"worker"`
	// Partitions are those of an Event Hub that the unit drains, or Cells the parts of them; Receivers is how many
	// loops it has on Service Bus.
	Partitions []string    `json:"partitions,omitempty"`
	Cells      []work.Cell `json:"cells,omitempty"`
	Receivers  int         `json:"receivers,omitempty"`
	Status     string      `json:"status"`
	// Ended is the end that says most among its sources': see worst.
	Ended work.Ended `json:"ended"`
	Error string     `json:"error,omitempty"`
	// Attempts is how many times the unit was sent. The counts are the sum of what the attempts stored.
	Attempts int `json:"attempts"`
	// Unheard is how many attempts may have begun, and gave no report: a worker that died, and holds the messages of
	// Service Bus that it had received until their locks are over.
	Unheard        int           `json:"unheard,omitempty"`
	Messages       int64         `json:"messages"`
	Bytes          int64         `json:"bytes"`
	Blobs          int64         `json:"blobs"`
	ElapsedSeconds float64       `json:"elapsed_seconds"`
	Sources        []work.Source `json:"sources"`
}

func newRow(unit work.Unit) UnitRow {
	return UnitRow{Unit: unit.Unit, Partitions: unit.Partitions, Cells: unit.Cells, Receivers: receiversOf(unit), Sources: []work.Source{}}
}

// add takes one attempt's answer into the row. What was done adds up over attempts; how a partition or
// receiver ended, where it stands and what it skipped is as the newest attempt says.
func (row *UnitRow) add(answer work.Report) {
	row.Status = answer.Status
	for _, s := range answer.Sources {
		i := slices.IndexFunc(row.Sources, func(old work.Source) bool { return old.Name() == s.Name() })
		if i < 0 {
			row.Sources = append(row.Sources, s)
			continue
		}
		old := row.Sources[i]
		s.Messages += old.Messages
		s.Bytes += old.Bytes
		s.Blobs += old.Blobs
		s.AlreadyStored += old.AlreadyStored
		s.RedeliveryExpected += old.RedeliveryExpected
		s.Abandoned += old.Abandoned
		s.Sessions += old.Sessions
		s.ElapsedSeconds += old.ElapsedSeconds
		// Not known by this attempt, or less far: the turn of a cell may have come in an earlier one alone.
		if s.Backlog < 0 || s.Cell != nil && s.Checkpoint < old.Checkpoint {
			s.Backlog, s.Checkpoint, s.Offset = old.Backlog, old.Checkpoint, old.Offset
		}
		for _, r := range old.LostToRetention {
			if !slices.Contains(s.LostToRetention, r) {
				s.LostToRetention = append(s.LostToRetention, r)
			}
		}
		row.Sources[i] = s
	}
	row.Messages += answer.Messages
	row.Bytes += answer.Bytes
	row.Blobs += answer.Blobs
}

// fail marks the row as failed for good.
func (row *UnitRow) fail(reason string) {
	row.Status = Failed
	row.Ended = work.Failed
	row.Error = reason
}

// worst returns the end that says most about a unit: how far it is from having all it was asked for.
func worst(sources []work.Source) work.Ended {
	order := []work.Ended{work.Drained, work.Idle, work.Deadline, work.Cancelled, work.Superseded, work.Failed}
	rank := -1
	for _, s := range sources {
		rank = max(rank, slices.Index(order, s.Ended))
	}
	if rank < 0 {
		return work.Failed
	}
	return order[rank]
}

// newReport adds up the rows of a run.
func newReport(plan Plan, rows []UnitRow, elapsed time.Duration) Report {
	r := Report{
		Run:            plan.Run.ID,
		Status:         OK,
		ElapsedSeconds: elapsed.Seconds(),
		Units:          rows,
		Notes:          plan.Notes,
	}
	for _, row := range rows {
		if row.Status != OK {
			r.Status = Failed
		}
		r.Messages += row.Messages
		r.Bytes += row.Bytes
		r.Blobs += row.Blobs
		for _, s := range row.Sources {
			r.addSource(row.Unit, s)
		}
	}
	switch plan.Kind {
	case work.Partitions:
		r.RemainingBacklog = remainingInPartitions(plan, rows)
	case work.Cells:
		r.RemainingBacklog = remainingInCells(plan, rows)
	default:
		r.RemainingBacklog = r.remainingInQueue(plan)
	}
	return r
}

// FailedReport is that of a run that could not be planned.
func FailedReport(run Run, err error) Report {
	r := newReport(Plan{Run: run}, []UnitRow{}, time.Since(run.Start))
	r.Status = Failed
	r.Error = err.Error()
	r.RemainingBacklog = -1
	return r
}

// Why says in a line why a run failed; "" when it did not.
func (r Report) Why() string {
	if r.Status != Failed || r.Error != "" {
		return r.Error
	}
	failed, first := 0, UnitRow{}
	for _, row := range r.Units {
		if row.Status != OK {
			if failed++; failed == 1 {
				first = row
			}
		}
	}
	return fmt.Sprintf("%d of %d units failed, the first of them unit %d: %s", failed, len(r.Units), first.Unit, first.why())
}

// why is the row's own error, or that of the first of its sources that failed.
func (row UnitRow) why() string {
	why := row.Error
	for _, s := range row.Sources {
		if why == "" && s.Ended == work.Failed {
			why = s.Name() + ": " + s.Error
		}
	}
	return why
}

func (r *Report) addSource(unit int, s work.Source) {
	r.AlreadyStored += s.AlreadyStored
	r.RedeliveryExpected += s.RedeliveryExpected
	r.Abandoned += s.Abandoned
	r.Sessions += s.Sessions
	r.Skipped += s.Skipped
	for _, lost := range s.LostToRetention {
		r.LostToRetention = append(r.LostToRetention, Lost{s.Partition, lost})
	}
	for _, skipped := range s.SkippedSessions {
		if len(r.SkippedSessions) < work.MaxSkipped {
			r.SkippedSessions = append(r.SkippedSessions, Skipped{unit, skipped})
		}
	}
}

// remainingInPartitions adds up what is left in each partition.
func remainingInPartitions(plan Plan, rows []UnitRow) (remaining int64) {
	for _, row := range rows {
		left := make(map[string]int64, len(row.Partitions))
		for _, id := range row.Partitions {
			left[id] = plan.Backlog[id]
		}
		for _, s := range row.Sources {
			if s.Backlog >= 0 {
				left[s.Partition] = s.Backlog
			}
		}
		for _, backlog := range left {
			remaining += backlog
		}
	}
	return remaining
}

// remainingInQueue is what is left of a queue or subscription; -1 when that isn't known.
func (r *Report) remainingInQueue(plan Plan) int64 {
	switch {
	case r.Skipped == 0 && r.RedeliveryExpected == 0 && r.Abandoned == 0 &&
		!slices.ContainsFunc(r.Units, func(row UnitRow) bool { return !row.drained() }):
		return 0
	case plan.Waiting >= 0:
		return max(0, plan.Waiting-r.Messages-r.AlreadyStored)
	}
	return -1
}

// drained reports whether each of a unit's receivers ended because nothing more came.
func (row UnitRow) drained() bool {
	ended := 0
	for _, s := range row.Sources {
		if s.Ended == work.Drained || s.Ended == work.Idle {
			ended++
		}
	}
	return row.Status == OK && ended == row.Receivers
}
