// Package work is what an invoker asks of one worker call, and the worker's answer: the JSON that
// crosses between the two.
package work

import (
	"strconv"
	"time"
)

// Kind is what the loops of a worker's units read. A unit doesn't say it: it follows from the worker's
// settings, and a unit of another kind is refused.
type Kind int

const (
	// Partitions of an Event Hub: each is drained by a loop of its own.
	Partitions Kind = iota
	// Receivers compete for the messages of a Service Bus queue, subscription or dead-letter queue.
	Receivers
	// Sessions of a Service Bus queue or subscription: each loop takes one after the other.
	Sessions
	// Cells are parts of partitions of an Event Hub: several of one partition may be read side by side.
	Cells
)

// Unit is a work unit: sources to drain, within a budget. It is idempotent: the same unit run twice,
// or twice at once, stores nothing twice. It names partitions, sessions and numbers, never resources.
type Unit struct {
	// Run identifies the invocation of the invoker; 1 to 64 of [A-Za-z0-9._-].
	Run string `json:"run"`
	// Unit counts from 0 within the run.
	Unit int `json:"unit"`
	// Partitions are the ids to drain, each by one pull loop; none on Service Bus.
	Partitions []string `json:"partitions,omitempty"`
	// Cells are parts of partitions to drain, each by one pull loop, in this order; a unit has either Cells or
	// Partitions. Their readers have no owner level, and write no checkpoint: the one who planned them does.
	Cells []Cell `json:"cells,omitempty"`
	// Tracked has the worker keep the run's ledger up to date on how far it is, and stop where that says that the
	// run is cancelled.
	Tracked bool `json:"tracked,omitempty"`
	// Sessions are ids of sessions to drain first, before whichever are available next. An id may be any
	// text, and empty.
	Sessions []string `json:"sessions,omitempty"`
	// OnlySessions ends the unit when Sessions are drained: it takes no others.
	OnlySessions bool `json:"only_sessions,omitempty"`
	// Tasks is how many loops run at once in this unit; 0 means 1. On Service Bus they share the unit's
	// work among them, and each has a row of the report.
	Tasks int `json:"tasks,omitempty"`
	// OwnerLevel goes with the receivers of partitions, so that a newer run takes over from an older one.
	OwnerLevel int64 `json:"owner_level,omitempty"`
	// BudgetSeconds bounds the whole call, counted from its arrival; 0 leaves it to the worker.
	BudgetSeconds float64 `json:"budget_seconds,omitempty"`
	// From is where to start a partition that has no checkpoint.
	From *From `json:"from,omitempty"`
	// Batch overrides the worker's settings where it is not zero.
	Batch Batch `json:"batch,omitzero"`
}

// From is a start position: Position is "earliest", "latest" or "time", Time goes with "time".
type From struct {
	Position string    `json:"position"`
	Time     time.Time `json:"time,omitzero"`
}

// Batch is when a batch becomes a blob: the first limit reached wins, zero means the worker's setting.
type Batch struct {
	Count      int     `json:"count,omitempty"`
	Bytes      int     `json:"bytes,omitempty"`
	AgeSeconds float64 `json:"age_seconds,omitempty"`
}

// Ended says why a pull loop stopped.
type Ended string

const (
	// Drained: a partition's loop reached the last message that was there when it began; of Service Bus
	// nothing more came.
	Drained    Ended = "drained"
	Idle       Ended = "idle"       // no message came for the idle timeout
	Deadline   Ended = "deadline"   // the time ran out; what was held is stored
	Superseded Ended = "superseded" // a newer owner took the partition over
	Cancelled  Ended = "cancelled"  // the process was told to stop; what was held is stored
	Failed     Ended = "failed"
)

// OK reports whether the loop did what could be asked of it: every end but Failed.
func (e Ended) OK() bool { return e != Failed && e != "" }

// Cell is a part of a partition: sequence numbers From to To, which lie in one cell of record.CellSize.
type Cell struct {
	Partition string `json:"partition"`
	Range
}

// Range is an inclusive range of sequence numbers.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Source is a row of a report: what became of one partition, or what one receiver of a Service Bus unit
// did.
type Source struct {
	// Partition is empty where Receiver is set.
	Partition string `json:"partition,omitempty"`
	// Receiver is the loop's number within its unit, from 0; only on Service Bus.
	Receiver *int `json:"receiver,omitempty"`
	// Cell is the part of the partition that was to be drained; nil for a partition as a whole. Then Checkpoint
	// is the sequence number up to which everything from its beginning is stored, one less than that where nothing
	// is, Offset is that of the message there, "" where it isn't known, and Backlog counts up to its end.
	Cell   *Range `json:"cell,omitempty"`
	Offset string `json:"offset,omitempty"`
	Ended  Ended  `json:"ended"`
	Error  string `json:"error,omitempty"`
	// Messages, Bytes and Blobs count what this loop stored itself; Bytes as encoded in blobs.
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Blobs    int64 `json:"blobs"`
	// AlreadyStored counts messages received that another writer's blobs hold.
	AlreadyStored int64 `json:"already_stored,omitempty"`
	// Checkpoint is the sequence number up to which everything is stored; -1 when nothing is, or when
	// that isn't known, as on Service Bus.
	Checkpoint int64 `json:"checkpoint"`
	// Backlog is how many sequence numbers lie between Checkpoint and the partition's end as last seen; -1
	// when that isn't known, since the loop never began, or reads from Service Bus.
	Backlog int64 `json:"backlog"`
	// LostToRetention are sequence numbers that the source no longer had when their turn came.
	LostToRetention []Range `json:"lost_to_retention,omitempty"`
	// RedeliveryExpected counts messages whose lock was lost, or whose completion was not confirmed, before or
	// after they were stored: the service may deliver them once more.
	RedeliveryExpected int64 `json:"redelivery_expected,omitempty"`
	// Abandoned counts messages that were received and given back without being stored.
	Abandoned int64 `json:"abandoned,omitempty"`
	// Sessions counts the sessions that this loop drained; one that two loops drained a part of counts for both.
	Sessions int64 `json:"sessions,omitempty"`
	// Skipped counts the sessions that this loop should have drained, and could not; SkippedSessions
	// names the first of them, at most [MaxSkipped] in a whole report.
	Skipped         int64            `json:"skipped,omitempty"`
	SkippedSessions []SkippedSession `json:"skipped_sessions,omitempty"`
	ElapsedSeconds  float64          `json:"elapsed_seconds"`
}

// SkippedSession is a session that was left as it is, and why: one that somebody else holds, most likely.
type SkippedSession struct {
	Session string `json:"session"`
	Reason  string `json:"reason"`
}

// MaxSkipped bounds the sessions that a report names, so that the report stays small.
const MaxSkipped = 100

// Name tells the rows of a report apart: "partition 7", "partition 7 from 262144", "receiver 0".
func (s Source) Name() string {
	if s.Cell != nil {
		return "partition " + s.Partition + " from " + strconv.FormatInt(s.Cell.From, 10)
	}
	if s.Receiver != nil {
		return "receiver " + strconv.Itoa(*s.Receiver)
	}
	return "partition " + s.Partition
}

// Report is the worker's answer to a Unit.
type Report struct {
	Run            string   `json:"run"`
	Unit           int      `json:"unit"`
	Status         string   `json:"status"` // "ok" or "failed": failed when any source did
	Messages       int64    `json:"messages"`
	Bytes          int64    `json:"bytes"`
	Blobs          int64    `json:"blobs"`
	ElapsedSeconds float64  `json:"elapsed_seconds"`
	Sources        []Source `json:"sources"`
}

// NewReport adds up what became of a unit's sources. It cuts their lists of skipped sessions to
// [MaxSkipped] in all.
func NewReport(u Unit, sources []Source, elapsed time.Duration) Report {
	r := Report{Run: u.Run, Unit: u.Unit, Status: "ok", Sources: sources, ElapsedSeconds: elapsed.Seconds()}
	room := MaxSkipped
	for i, s := range sources {
		named := min(len(s.SkippedSessions), room)
		sources[i].SkippedSessions = s.SkippedSessions[:named:named]
		room -= named
		r.Messages += s.Messages
		r.Bytes += s.Bytes
		r.Blobs += s.Blobs
		if !s.Ended.OK() {
			r.Status = "failed"
		}
	}
	return r
}
