// Package ledger keeps a document of every run in storage: what was asked, what is planned, what has been done
// and what went wrong. It is written by compare-and-swap, so that an invoker, its successor after a crash, and
// whoever cancels can all write it, and nobody's word is lost.
package ledger

import (
	"time"

	"persistor/internal/work"
)

// Run is a run's document.
type Run struct {
	ID   string `json:"id"` // as fanout.NewRun makes it; sorts by start
	Kind Kind   `json:"kind"`
	// Source is what is drained: namespace, hub and consumer group, or entity, as config.Invoker.Source writes it.
	Source string `json:"source"`
	State  State  `json:"state"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`        // the document was last written
	Ended   time.Time `json:"ended,omitzero"` // once State is an end
	// Alive is until when an invoker that carries out the run has promised to write again. A run that isn't
	// ended, and whose Alive is over, has been abandoned: see [Run.StateAt].
	Alive time.Time `json:"alive_until,omitzero"`
	// CancelRequested is when somebody asked for the run to be cancelled.
	CancelRequested time.Time `json:"cancel_requested,omitzero"`

	Request Request `json:"request"`
	// Partitions is the plan for an Event Hub and how far it is, in order of ids; none for Service Bus.
	Partitions []Partition `json:"partitions,omitempty"`
	// Waiting is how many messages of Service Bus waited when the run was last planned; -1 when unknown.
	Waiting int64 `json:"waiting,omitempty"`
	// Units are those of the wave under way, or of the last one.
	Units []Unit `json:"units,omitempty"`
	// Waves are the last of the run's waves, at most [MaxWaves]; an invocation without backfill is one wave.
	Waves []Wave `json:"waves,omitempty"`
	// Wave counts the waves that were begun, from 1; Next is the number of the one that was asked for and not begun, 0 for none.
	Wave int `json:"wave"`
	Next int `json:"next_wave,omitempty"`
	// NextAsked is when the wave Next was asked for; zero while it isn't known whether it was.
	NextAsked time.Time `json:"next_asked,omitzero"`
	// Invoker is a random mark of the one that carries out the wave under way, "" for none. One that no longer
	// finds its own here has been taken for dead, and writes nothing more.
	Invoker string `json:"invoker,omitempty"`
	// LockedUntil is until when workers of Service Bus that gave no answer may hold messages that nobody else gets.
	LockedUntil time.Time `json:"locked_until,omitzero"`
	// Stalled counts the last waves in a row that stored nothing and left something to do.
	Stalled int `json:"stalled_waves,omitempty"`

	Counts Counts `json:"counts"`
	// Errors are the last ones, oldest first, at most [MaxErrors].
	Errors []Error `json:"errors,omitempty"`
	// Notes say where the run differs from what was asked, a sentence each, at most [MaxNotes].
	Notes []string `json:"notes,omitempty"`
	// Retries counts how often the run was begun again after an end, or after it was abandoned.
	Retries int `json:"retries,omitempty"`
}

const (
	MaxWaves  = 100 // waves that a document names
	MaxErrors = 50  // errors that a document names
	MaxNotes  = 20  // notes that a document has
)

// Kind is what started a run.
type Kind string

const (
	Invoke   Kind = "invoke"   // a call, a timer or a message: one wave within one invocation
	Backfill Kind = "backfill" // a chain of waves
)

// State is where a run is.
type State string

const (
	Queued    State = "queued"    // a wave has been asked for and has not begun
	Running   State = "running"   // a wave is under way
	Cancelled State = "cancelled" // an end: somebody asked for it
	Succeeded State = "succeeded" // an end: all that was asked for is stored
	Failed    State = "failed"    // an end: some units failed for good; see retry
	// Abandoned is never written: it is what a run shows as whose invoker has died.
	Abandoned State = "abandoned"
	// Unreadable is never written either: it is what a list shows in place of a document that can't be parsed.
	Unreadable State = "unreadable"
)

// Over reports whether a state is an end, or nothing can be done about it.
func (s State) Over() bool {
	return s == Cancelled || s == Succeeded || s == Failed || s == Unreadable
}

// StateAt is the run's state as it shows at a time.
func (r *Run) StateAt(now time.Time) State {
	if !r.State.Over() && now.After(r.Alive) {
		return Abandoned
	}
	return r.State
}

// Request is what was asked of a run. Of an invocation it is the call's; of a backfill also the range.
type Request struct {
	Partitions []string   `json:"partitions,omitempty"` // none: all
	Sessions   []string   `json:"sessions,omitempty"`   // none: all
	N          int        `json:"N,omitempty"`
	PerFunc    int        `json:"N_per_func,omitempty"`
	Batch      work.Batch `json:"batch,omitzero"`
	// From is where a backfill begins and Until where it ends; zero: from the checkpoint, until what was there when it began.
	From  Bound `json:"from,omitzero"`
	Until Bound `json:"until,omitzero"`
	// MaxWaves and MaxMessages end a backfill early; 0: no limit.
	MaxWaves    int   `json:"max_waves,omitempty"`
	MaxMessages int64 `json:"max_messages,omitempty"`
}

// Bound is one end of a range. One of its fields is set, or none.
type Bound struct {
	// Position is "checkpoint" or "earliest" for a beginning, "now" or "follow" for an end.
	Position string    `json:"position,omitempty"`
	Time     time.Time `json:"time,omitzero"` // of being enqueued: messages at it and later, or before it
	// SequenceNumber is the first, or the last one, in each partition.
	SequenceNumber *int64 `json:"sequence_number,omitempty"`
}

// Partition is a partition of an Event Hub in the plan. Sequence numbers From to To are to be stored; To < From is none.
type Partition struct {
	Partition string `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	// Stored are the ranges that are done, in order, merged where they meet: stored now, or found to be stored,
	// or known to be nowhere any more (then they are in Lost, too).
	Stored []work.Range `json:"stored,omitempty"`
	Lost   []work.Range `json:"lost_to_retention,omitempty"`
	// Checkpoint is the one written last, -1 for none. It moves over what is stored without a hole.
	Checkpoint int64 `json:"checkpoint"`
	// Offsets has, for each range in Stored, the last sequence number whose offset is known, and that offset: what a
	// checkpoint is made of.
	Offsets map[string]string `json:"offsets,omitempty"`
	Counts  Counts            `json:"counts"`
}

// Counts add up what was done.
type Counts struct {
	Messages      int64 `json:"messages"`
	Bytes         int64 `json:"bytes"`
	Blobs         int64 `json:"blobs"`
	AlreadyStored int64 `json:"already_stored,omitempty"`
	// Remaining is what is left to do, as far as is known; -1 when it isn't.
	Remaining int64 `json:"remaining"`
}

// Unit is a work unit of a wave.
type Unit struct {
	Unit       int         `json:"unit"`
	State      UnitState   `json:"state"`
	Ended      work.Ended  `json:"ended,omitempty"`
	Worker     string      `json:"worker,omitempty"`
	Attempts   int         `json:"attempts,omitempty"`
	Partitions []string    `json:"partitions,omitempty"`
	Cells      []work.Cell `json:"cells,omitempty"`
	Sessions   int         `json:"sessions,omitempty"` // how many it names
	Tasks      int         `json:"tasks,omitempty"`
	Messages   int64       `json:"messages"`
	Error      string      `json:"error,omitempty"`
}

// UnitState is where a unit is.
type UnitState string

const (
	UnitPlanned UnitState = "planned"
	UnitDone    UnitState = "done"
	UnitFailed  UnitState = "failed"
)

// Wave is one invocation's part of a run.
type Wave struct {
	Wave     int       `json:"wave"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Units    int       `json:"units"`
	Failed   int       `json:"failed,omitempty"` // units
	Messages int64     `json:"messages"`
	Bytes    int64     `json:"bytes"`
	Blobs    int64     `json:"blobs"`
}

// Error is one thing that went wrong.
type Error struct {
	Time  time.Time `json:"time"`
	Wave  int       `json:"wave"`
	Unit  int       `json:"unit"` // -1: not a unit's
	Error string    `json:"error"`
}
