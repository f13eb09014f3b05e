// Package fanout spreads the backlog of an Event Hub, or of a queue or subscription of Service Bus, over
// workers: it plans work units from what each partition holds, which sessions there are or how many
// messages wait, POSTs them concurrently to the workers, and reports what became of each.
//
// Nothing here is a cluster: whatever scales the workers (Azure Functions, Container Apps, Kubernetes)
// decides where a unit lands. A unit is idempotent, so that sending it again is always safe.
package fanout

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"persistor/internal/work"
)

const (
	// MaxUnits bounds the units of one run: the most partitions that an Event Hub can have (dedicated
	// tier, Event Hubs quotas).
	MaxUnits = 1024
	// MaxTasks bounds the pull loops that run at once within one unit.
	MaxTasks = 256
)

// Planner makes the plan of a run: one of [HubPlanner], [QueuePlanner] and [SessionPlanner].
type Planner interface {
	// Plan may be called concurrently, and returns soon after ctx is done. Its error is an [ErrRequest]
	// where the request is to blame.
	Plan(ctx context.Context, run Run, req Request) (Plan, error)
}

// ErrRequest is the kind of every error that the caller's request is to blame for.
var ErrRequest = errors.New("bad request")

// UnderWayError is the error of a run that does not begin, for another one of the same source is under way.
type UnderWayError struct {
	// Run and Since are that one's; "" and zero where they aren't known.
	Run   string
	Since time.Time
}

func (e *UnderWayError) Error() string {
	what := "another run is under way"
	if e.Run != "" {
		what = fmt.Sprintf("run %s is under way since %s", e.Run, e.Since.UTC().Format(time.RFC3339))
	}
	return what + `; wait for its end, or say "exclusive": false to have another one run beside it`
}

// Request is what a caller asks of one run. The zero value asks for everything, with the settings'
// defaults. Fields are taken to be within their ranges; package api checks them.
type Request struct {
	// N is how many units to spread the backlog over, 1 to MaxUnits; 0 leaves it to the planner.
	N int
	// PerFunc is how many pull loops run at once in each unit, 1 to MaxTasks; 0 means 1.
	PerFunc int
	// Partitions are the ids to drain; empty means all. Only for an Event Hub.
	Partitions []string
	// Sessions are the ids of the sessions to drain, and no others; empty means all. Only for a queue or
	// subscription with sessions.
	Sessions []string
	// From is where to start a partition that has no checkpoint; nil leaves it to the worker. Only for an
	// Event Hub.
	From *work.From
	// Batch overrides the worker's settings where it is not zero.
	Batch work.Batch
	// Budget bounds the run; 0 means the invoker's own. A longer one than that is cut to it.
	Budget time.Duration
	// Beside has the run begin though another one of the same source is under way; newer runs take
	// partitions over from older ones. Else there is one run at a time.
	Beside bool
	// Wait has a run that isn't Beside wait for the other one's end, rather than be refused.
	Wait bool
	// Ended, unless nil, is called when a unit has ended, one call at a time and before Dispatch returns.
	Ended func(UnitRow)
	// Stopped, unless nil, is closed when nothing more is to be begun: units that are under way end as their workers
	// see fit, those that failed or were cut short are not sent again, and others are not sent.
	Stopped <-chan struct{}
}

// refuse returns an [ErrRequest] for a request that asks for something that the kind of units doesn't
// have.
func (r Request) refuse(kind work.Kind) error {
	const noPartitions = "this invoker drains Service Bus, which has none (SERVICE_TYPE is SERVICE_BUS_PULL): leave it out"
	name, why := "", ""
	switch {
	case kind == work.Partitions && len(r.Sessions) > 0:
		name, why = "sessions", "this invoker drains an Event Hub, which has none (SERVICE_TYPE is EVENT_HUB_PULL): leave it out"
	case kind == work.Receivers && len(r.Sessions) > 0:
		name, why = "sessions", "what this invoker drains has none: leave it out, or set SERVICE_BUS_SESSIONS=TRUE for the invoker and its workers if it requires sessions"
	case kind != work.Partitions && len(r.Partitions) > 0:
		name, why = "partitions", noPartitions
	case kind != work.Partitions && r.From != nil:
		name, why = "from", "it is where to start in a partition, and "+noPartitions
	default:
		return nil
	}
	return fmt.Errorf("plan run: %w: %s was given: %s", ErrRequest, name, why)
}

// Run identifies one invocation of the invoker.
type Run struct {
	// ID sorts by start time and is unique: "20261124T040509Z-3f9a1c".
	ID string
	// Start is when the run began; to the millisecond it is also the owner level of its receivers, so
	// that a newer run takes over from an older one.
	Start time.Time
}

// NewRun returns a run that starts at now. The six digits behind the second are its 4,096ths, so that runs of one second
// sort, too, and a random number.
func NewRun(now time.Time) Run {
	var random [2]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	part := now.Nanosecond() * 4096 / int(time.Second)
	suffix := fmt.Sprintf("%03x%03x", part, binary.BigEndian.Uint16(random[:])%4096)
	return Run{ID: now.UTC().Format("20060102T150405Z") + "-" + suffix, Start: now}
}

// Plan is how a run's backlog is spread over units.
type Plan struct {
	Run Run
	// Kind is what the loops of the units read.
	Kind work.Kind
	// Units is empty when there is nothing to do.
	Units []work.Unit
	// Backlog is each planned partition's, by id; nil for Service Bus. Of cells it counts all that was to be planned,
	// whether or not the units have room for it.
	Backlog map[string]int64
	// Waiting is how many messages wait in the queue or subscription; -1 when that isn't known, and 0 for
	// an Event Hub.
	Waiting int64
	// Notes say where the plan differs from what was asked, a sentence each.
	Notes []string
}
