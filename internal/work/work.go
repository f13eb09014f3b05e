// Package work is what an invoker asks of one worker call, and the worker's answer: the JSON that
// crosses between the two.
package work

import "time"

// Unit is a work unit: sources to drain, within a budget. It is idempotent: the same unit run twice,
// or twice at once, stores nothing twice. It names partitions and numbers, never resources.
type Unit struct {
	// Run identifies the invocation of the invoker; 1 to 64 of [A-Za-z0-9._-].
	Run string `json:"run"`
	// Unit counts from 0 within the run.
	Unit int `json:"unit"`
	// Partitions are the ids to drain, each by one pull loop.
	Partitions []string `json:"partitions"`
	// Tasks is how many loops run at once in this unit; 0 means 1.
	Tasks int `json:"tasks,omitempty"`
	// OwnerLevel goes with the receivers, so that a newer run takes over from an older one.
	OwnerLevel int64 `json:"owner_level"`
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
	Drained    Ended = "drained"    // reached the last message that was there when the loop began
	Idle       Ended = "idle"       // no message came for the idle timeout
	Deadline   Ended = "deadline"   // the time ran out; what was held is stored
	Superseded Ended = "superseded" // a newer owner took the partition over
	Cancelled  Ended = "cancelled"  // the process was told to stop; what was held is stored
	Failed     Ended = "failed"
)

// OK reports whether the loop did what could be asked of it: every end but Failed.
func (e Ended) OK() bool { return e != Failed && e != "" }

// Range is an inclusive range of sequence numbers.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Source is what became of one partition.
type Source struct {
	Partition string `json:"partition"`
	Ended     Ended  `json:"ended"`
	Error     string `json:"error,omitempty"`
	// Messages, Bytes and Blobs count what this loop stored itself; Bytes as encoded in blobs.
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Blobs    int64 `json:"blobs"`
	// AlreadyStored counts messages received that another writer's blobs hold.
	AlreadyStored int64 `json:"already_stored,omitempty"`
	// Checkpoint is the sequence number up to which everything is stored; -1 when nothing is, or when
	// that isn't known.
	Checkpoint int64 `json:"checkpoint"`
	// Backlog is how many sequence numbers lie between Checkpoint and the partition's end as last seen; -1
	// when that isn't known, since the loop never began.
	Backlog int64 `json:"backlog"`
	// LostToRetention are sequence numbers that the source no longer had when their turn came.
	LostToRetention []Range `json:"lost_to_retention,omitempty"`
	ElapsedSeconds  float64 `json:"elapsed_seconds"`
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

// NewReport adds up what became of a unit's sources.
func NewReport(u Unit, sources []Source, elapsed time.Duration) Report {
	r := Report{Run: u.Run, Unit: u.Unit, Status: "ok", Sources: sources, ElapsedSeconds: elapsed.Seconds()}
	for _, s := range sources {
		r.Messages += s.Messages
		r.Bytes += s.Bytes
		r.Blobs += s.Blobs
		if !s.Ended.OK() {
			r.Status = "failed"
		}
	}
	return r
}
