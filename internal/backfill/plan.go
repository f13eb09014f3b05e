package backfill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/pull"
	"persistor/internal/record"
)

// maxCells bounds the cells of one wave, so that the run's document stays small: a billion messages.
const maxCells = 4096

// standing is what a wave finds of the hub; nil for Service Bus.
type standing map[string]fanout.Partition

// plan makes the wave's plan by what is still to do.
func (w *wave) plan(ctx context.Context) (fanout.Plan, standing, error) {
	ctx, cancel := context.WithDeadline(ctx, w.end.Add(-time.Until(w.end)/2))
	defer cancel()
	run := fanout.Run{ID: w.run.ID, Start: time.Now()}
	if w.Hub == nil {
		plan, err := w.Planner.Plan(ctx, run, w.request())
		return track(plan, w.Tracked), nil, err
	}
	partitions, err := w.Hub.Partitions(ctx)
	if err != nil {
		return fanout.Plan{}, nil, fmt.Errorf("read partitions: %w", err)
	}
	found := standing{}
	for _, p := range partitions {
		found[p.ID] = p
	}
	now := w.run
	now.Partitions = append([]ledger.Partition(nil), w.run.Partitions...)
	found.apply(&now)
	return track(fanout.NewCellPlan(run, stretches(&now), w.request()), w.Tracked), found, nil
}

// track has the workers keep the ledger up to date.
func track(plan fanout.Plan, tracked bool) fanout.Plan {
	for i := range plan.Units {
		plan.Units[i].Tracked = tracked
	}
	return plan
}

// apply brings the run up to what was found of the hub: where it follows, the end has moved; of a partition that holds
// nothing, what was still to do is lost.
func (s standing) apply(run *ledger.Run) {
	for i := range run.Partitions {
		p := &run.Partitions[i]
		now, ok := s[p.Partition]
		if !ok {
			continue
		}
		if run.Request.Until.Position == "follow" {
			p.To = max(p.To, now.Last)
		}
		if now.Empty {
			for _, r := range p.Todo() {
				r.To = min(r.To, now.Last)
				p.Lose(r)
			}
		}
	}
	countRemaining(run)
}

// stretches are what is still to do, within the run's limit of messages and [maxCells].
func stretches(run *ledger.Run) []fanout.Stretch {
	left := allowance(run)
	cells := max(1, maxCells/max(1, len(run.Partitions))) // of each partition
	var all []fanout.Stretch
	for i := range run.Partitions {
		p := &run.Partitions[i]
		s := fanout.Stretch{Partition: p.Partition}
		room := cells
		for _, r := range p.Todo() {
			if left == 0 || room <= 0 {
				break
			}
			if left > 0 {
				r.To = min(r.To, r.From+left-1)
			}
			first := r.From / record.CellSize
			r.To = min(r.To, (first+int64(room))*record.CellSize-1)
			room -= int(r.To/record.CellSize-first) + 1
			if left > 0 {
				left -= r.To - r.From + 1
			}
			s.Ranges = append(s.Ranges, r)
		}
		if len(s.Ranges) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// allowance is how many messages the run may still store; -1 for any number.
func allowance(run *ledger.Run) int64 {
	if run.Request.MaxMessages == 0 {
		return -1
	}
	return max(0, run.Request.MaxMessages-run.Counts.Messages-run.Counts.AlreadyStored)
}

// moveCheckpoints moves each partition's checkpoint over what is stored without a hole. Where the run's range begins
// behind a checkpoint, or where there is none behind the partition's oldest message, what lies between is not known to be
// stored, and the checkpoint stays.
func (w *wave) moveCheckpoints(outer context.Context, found standing) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(outer), concluding)
	defer cancel()
	run, err := w.update(ctx, func(*ledger.Run) error { return nil }) // takes in the last units
	if err != nil {
		return nil, err
	}
	moved := map[string]int64{}
	var errs []error
	for _, p := range run.Partitions {
		now, known := found[p.Partition]
		if !known || !reaches(p, now) {
			continue
		}
		p.Checkpoint = max(p.From-1, now.Checkpoint)
		at, offset, ok := p.Mark()
		if !ok || at <= now.Checkpoint {
			continue
		}
		if err := w.Hub.SetCheckpoint(ctx, p.Partition, pull.Mark{SequenceNumber: at, Offset: offset}); err != nil {
			errs = append(errs, fmt.Errorf("move the checkpoint of partition %s to %d: %w", p.Partition, at, err))
			continue
		}
		moved[p.Partition] = at
	}
	return moved, errors.Join(errs...)
}

// reaches reports whether everything before the range is stored, or gone.
func reaches(p ledger.Partition, now fanout.Partition) bool {
	if now.Checkpoint >= 0 && p.From <= now.Checkpoint+1 {
		return true
	}
	return p.From <= max(now.First, 0)
}
