package app

import (
	"context"

	"persistor/internal/fanout"
	"persistor/internal/pull/eventhub"
)

// planner is a hub as a planner sees it.
type planner struct{ *eventhub.Hub }

func (p planner) Partitions(ctx context.Context) ([]fanout.Partition, error) {
	states, err := p.Hub.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	partitions := make([]fanout.Partition, len(states))
	for i, s := range states {
		partitions[i] = fanout.Partition{
			ID: s.ID, First: s.First, Last: s.Last, Empty: s.Empty, Checkpoint: -1, LastEnqueued: s.LastEnqueued,
		}
		if s.Checkpoint != nil {
			partitions[i].Checkpoint = *s.Checkpoint
		}
	}
	return partitions, nil
}
