package fanout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"persistor/internal/work"
)

// Hub is the Event Hub to be drained.
type Hub interface {
	// Partitions returns every partition as it stands now, in any order, each with its checkpoint. It
	// may be called concurrently and returns soon after ctx is done.
	Partitions(ctx context.Context) ([]Partition, error)
}

// Partition is one partition of an Event Hub at one moment.
type Partition struct {
	ID string
	// First and Last are the sequence numbers of the oldest and the newest event; they mean the oldest
	// and newest that ever were when Empty, and are -1 when there never was one.
	First, Last int64
	// Empty is true when the partition holds no event now.
	Empty bool
	// Checkpoint is the sequence number up to which everything is stored; -1 when there is none.
	Checkpoint int64
	// LastEnqueued is when Last came in, in UTC.
	LastEnqueued time.Time
}

// Backlog is how many sequence numbers wait for a worker. It is an upper bound: compaction leaves holes,
// and without a checkpoint the whole partition counts, wherever the run will start. Two cases count
// though nothing can be stored, because the worker that tries will say so: events that are gone since
// the checkpoint, when the partition is empty by now; and a checkpoint beyond the last event, as there is
// where a hub was made anew under its old name.
func (p Partition) Backlog() int64 {
	switch {
	case p.Empty && p.Checkpoint < 0:
		return 0
	case p.Empty:
		return max(0, p.Last-p.Checkpoint)
	case p.Checkpoint > p.Last:
		return p.Last - p.First + 1
	}
	return max(0, p.Last-max(p.Checkpoint, p.First-1))
}

// HubPlanner plans by what each partition of an Event Hub holds: see [NewPlan].
type HubPlanner struct{ Hub Hub }

// Plan implements [Planner].
func (p HubPlanner) Plan(ctx context.Context, run Run, req Request) (Plan, error) {
	if err := req.refuse(work.Partitions); err != nil {
		return Plan{}, err
	}
	parts, err := p.Hub.Partitions(ctx)
	if err != nil {
		return Plan{}, fmt.Errorf("read partitions: %w", err)
	}
	return NewPlan(run, parts, req)
}

// NewPlan spreads the partitions that have a backlog over at most req.N units, or else gives each a unit of
// its own: the largest first, each to the unit that has the least so far. The units hold every partition
// with a backlog exactly once, the unit with the most to do first. So the largest unit exceeds the smallest by at most one
// partition's backlog. The same input gives the same plan, whatever the order of parts. An error is an
// [ErrRequest]: a partition was asked for that the hub doesn't have.
func NewPlan(run Run, parts []Partition, req Request) (Plan, error) {
	parts, problems := Choose(parts, req.Partitions)
	if len(problems) > 0 {
		return Plan{}, fmt.Errorf("plan run: %w: %s", ErrRequest, strings.Join(problems, "; "))
	}
	plan := Plan{Run: run, Backlog: make(map[string]int64, len(parts))}
	var waiting []Partition
	for _, p := range parts {
		if backlog := p.Backlog(); backlog > 0 {
			waiting = append(waiting, p)
			plan.Backlog[p.ID] = backlog
		}
	}
	slices.SortStableFunc(waiting, func(a, b Partition) int { return cmp.Compare(b.Backlog(), a.Backlog()) })

	n := len(waiting)
	switch {
	case req.N > n:
		plan.Notes = append(plan.Notes, fmt.Sprintf("N is %d, but only %d of %d partitions have a backlog: %d units",
			req.N, n, len(parts), n))
	case req.N > 0:
		n = req.N
	}
	for _, ids := range spread(waiting, min(n, MaxUnits)) {
		plan.Units = append(plan.Units, work.Unit{
			Run:        run.ID,
			Unit:       len(plan.Units),
			Partitions: ids,
			Tasks:      req.PerFunc,
			OwnerLevel: run.Start.UnixMilli(),
			From:       req.From,
			Batch:      req.Batch,
		})
	}
	return plan, nil
}

// compareIDs orders the ids of partitions, which are numbers: 2 before 10.
func compareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// Choose returns the partitions asked for, or all, in the order of their ids, and what is wrong about others.
func Choose(parts []Partition, asked []string) (chosen []Partition, problems []string) {
	parts = slices.SortedFunc(slices.Values(parts), func(a, b Partition) int { return compareIDs(a.ID, b.ID) })
	if len(asked) == 0 {
		return parts, nil
	}
	var ids []string
	for _, p := range parts {
		ids = append(ids, p.ID)
		if slices.Contains(asked, p.ID) {
			chosen = append(chosen, p)
		}
	}
	for _, id := range asked {
		if !slices.Contains(ids, id) {
			problems = append(problems, fmt.Sprintf("partition %q doesn't exist: the hub has %s", id, strings.Join(ids, ", ")))
		}
	}
	return chosen, problems
}

// spread deals partitions, sorted by falling backlog, to n units and returns the ids of each. Largest
// first onto the least loaded is at most a third above the best possible (Graham 1969). The scan for
// the least loaded is quadratic, which at 1,024 by 1,024 takes a millisecond.
func spread(parts []Partition, n int) [][]string {
	units := make([][]string, n)
	load := make([]int64, n)
	for _, p := range parts {
		least := 0
		for i := range load {
			if load[i] < load[least] {
				least = i
			}
		}
		units[least] = append(units[least], p.ID)
		load[least] += p.Backlog()
	}
	return units
}
