package fanout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"persistor/internal/work"
)

const (
	// MaxSessions bounds the sessions that one unit names, and MaxSessionBytes the bytes of their ids as
	// JSON, so that a unit is far from what a worker takes as a body. What is not named is still taken, as
	// it comes.
	MaxSessions     = 2000
	MaxSessionBytes = 256 << 10
	// MaxSessionID is how many characters an id has at most (Service Bus quotas).
	MaxSessionID = 128

	// maxListed bounds the ids that a plan holds.
	maxListed = 100_000
	// defaultSessionUnits is how many units take sessions at most, unless N says more. A unit is busy with
	// one session for a round trip at least, so that a few sessions already are worth a unit of their own.
	defaultSessionUnits = 16
	// perReceiver is how many waiting messages are worth a unit: a few seconds of work.
	perReceiver = 10_000
	// defaultReceiverUnits is how many units compete for messages at most, unless N says more.
	defaultReceiverUnits = 32
	// backlogPatience is how long the backlog is waited for where N is given, and nothing depends on it.
	backlogPatience = 5 * time.Second
)

// ErrNoRight is the error of a [Queue] whose backlog the invoker's identity may not read.
var ErrNoRight = errors.New("the right Manage is missing")

// Queue is a queue, a topic's subscription, or the dead-letter queue of either, whose messages receivers
// compete for.
type Queue interface {
	// Backlog returns how many messages wait to be received. It returns an [ErrNoRight] when the identity
	// may not know. It may be called concurrently and returns soon after ctx is done.
	Backlog(ctx context.Context) (int64, error)
}

// QueuePlanner plans by how many messages wait: see [NewQueuePlan].
type QueuePlanner struct{ Queue Queue }

// Plan implements [Planner].
func (p QueuePlanner) Plan(ctx context.Context, run Run, req Request) (Plan, error) {
	if err := req.refuse(work.Receivers); err != nil {
		return Plan{}, err
	}
	if req.N > 0 {
		patient, cancel := context.WithTimeout(ctx, backlogPatience)
		defer cancel()
		ctx = patient
	}
	backlog, err := p.Queue.Backlog(ctx)
	switch {
	case err == nil:
	case req.N > 0:
		backlog = -1
	case errors.Is(err, ErrNoRight):
		return Plan{}, fmt.Errorf("plan run: %w: N is missing: how many messages wait is known only to an identity that may manage the namespace "+
			`(role Azure Service Bus Data Owner), and never of an emulator: give it, as persistor backfill -N 4, ?N=4 or {"N":4}, or set INVOKER_UNITS`, ErrRequest)
	default:
		return Plan{}, fmt.Errorf("read backlog: %w; a run that gives N doesn't need it", err)
	}
	return NewQueuePlan(run, max(backlog, -1), req)
}

// NewQueuePlan has req.N units compete for the messages that wait, or else a unit for every 10,000 of
// them, 32 at most; and none when none wait. The backlog is -1 when it isn't known; then req.N is not 0.
func NewQueuePlan(run Run, backlog int64, req Request) (Plan, error) {
	plan := Plan{Run: run, Kind: work.Receivers, Waiting: backlog}
	n := req.N
	switch {
	case backlog == 0:
		return plan, nil
	case n == 0 && backlog < 0:
		return Plan{}, fmt.Errorf("plan run: %w: N is missing, and how many messages wait is not known", ErrRequest)
	case n == 0:
		n = int(min((backlog-1)/perReceiver+1, defaultReceiverUnits))
	}
	for range min(n, MaxUnits) {
		plan.Units = append(plan.Units, queueUnit(run, len(plan.Units), req))
	}
	return plan, nil
}

// SessionQueue is a queue or subscription whose messages come in sessions.
type SessionQueue interface {
	// Sessions returns the ids of sessions that may hold messages, at most so many, and whether there may
	// be more. It may return fewer, such as those that it knows when ctx is done. It may be called
	// concurrently and returns soon after ctx is done.
	Sessions(ctx context.Context, most int) (ids []string, more bool, err error)
}

// SessionPlanner plans by the sessions that there are, or that the request names: see [NewSessionPlan].
type SessionPlanner struct{ Queue SessionQueue }

// Plan implements [Planner].
func (p SessionPlanner) Plan(ctx context.Context, run Run, req Request) (Plan, error) {
	if err := req.refuse(work.Sessions); err != nil {
		return Plan{}, err
	}
	if len(req.Sessions) > 0 {
		return NewSessionPlan(run, nil, false, req)
	}
	units := defaultSessionUnits
	if req.N > 0 {
		units = req.N
	}
	ids, more, err := p.Queue.Sessions(ctx, min(units*MaxSessions, maxListed))
	if err != nil {
		return Plan{}, fmt.Errorf("list sessions: %w", err)
	}
	return NewSessionPlan(run, ids, more, req)
}

// NewSessionPlan deals the sessions that there are in turn to req.N units, or else to 16: never to more
// units than there are sessions, and to none when there are none. More tells that there are others than
// those listed. A unit names no more than fits into it: when its sessions are drained it takes whichever
// are available next. Where the request names sessions the units take those and no others; an error is an
// [ErrRequest]: they don't fit into the units asked for.
func NewSessionPlan(run Run, listed []string, more bool, req Request) (Plan, error) {
	plan := Plan{Run: run, Kind: work.Sessions, Waiting: -1}
	asked := len(req.Sessions) > 0
	ids := distinct(listed)
	if asked {
		ids = distinct(req.Sessions)
	}
	count := len(ids)
	if more {
		count = MaxUnits
	}
	n := min(count, defaultSessionUnits)
	if req.N > 0 {
		n = min(count, req.N)
	}
	if req.N > n {
		plan.Notes = append(plan.Notes, fmt.Sprintf("N is %d, but there are only %d sessions: %d units", req.N, len(ids), n))
	}
	units, left := deal(ids, n)
	switch {
	case asked && left > 0:
		return Plan{}, fmt.Errorf("plan run: %w: %d of %d sessions don't fit into %d units, which name at most %d each, of %d bytes in all: give a higher N, or fewer sessions",
			ErrRequest, left, len(ids), n, MaxSessions, MaxSessionBytes)
	case more:
		plan.Notes = append(plan.Notes, fmt.Sprintf("there are more sessions than the %d that are named: workers take the others as they come", len(ids)-left))
	case left > 0:
		plan.Notes = append(plan.Notes, fmt.Sprintf("%d of %d sessions are not named: workers take them as they come", left, len(ids)))
	}
	for i, ids := range units {
		unit := queueUnit(run, i, req)
		unit.Sessions, unit.OnlySessions = ids, asked
		plan.Units = append(plan.Units, unit)
	}
	return plan, nil
}

func queueUnit(run Run, number int, req Request) work.Unit {
	return work.Unit{Run: run.ID, Unit: number, Tasks: max(1, req.PerFunc), Batch: req.Batch}
}

// receiversOf is how many receivers a unit of Service Bus has; 0 for one of partitions or cells.
func receiversOf(unit work.Unit) int {
	if len(unit.Partitions) > 0 || len(unit.Cells) > 0 {
		return 0
	}
	return max(1, unit.Tasks)
}

// distinct drops ids that it has seen: a list that is read page by page while sessions come and go may
// hold one twice, and two units must not wait for the same session.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	var all []string
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			all = append(all, id)
		}
	}
	return all
}

// deal deals ids to n units in turn, passing over those that have no room. It returns how many it could
// not deal: no unit has room for them, or JSON can't hold them.
func deal(ids []string, n int) (units [][]string, left int) {
	units = make([][]string, n)
	room := make([]int, n) // in bytes
	for i := range room {
		room[i] = MaxSessionBytes
	}
	last := -1
	for _, id := range ids {
		size := encodedSize(id)
		i := nextWithRoom(units, room, last, size)
		if size == 0 || i < 0 {
			left++
			continue
		}
		units[i] = append(units[i], id)
		room[i] -= size
		last = i
	}
	return units, left
}

// nextWithRoom returns the first unit after the last one that has room for an id; -1 when none has.
func nextWithRoom(units [][]string, room []int, last, size int) int {
	for step := range units {
		i := (last + 1 + step) % len(units)
		if len(units[i]) < MaxSessions && size <= room[i] {
			return i
		}
	}
	return -1
}

// encodedSize is how many bytes an id takes in a list of JSON; 0 for one that can't be in it.
func encodedSize(id string) int {
	if !utf8.ValidString(id) || utf8.RuneCountInString(id) > MaxSessionID {
		return 0
	}
	encoded, err := json.Marshal(id)
	if err != nil {
		return 0
	}
	return len(encoded) + 1 // the comma
}
