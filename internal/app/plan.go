package app

import (
	"context"
	"errors"

	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/pull/eventhub"
	"persistor/internal/pull/servicebus"
)

// openPlanner makes the planner of what the settings choose. The function returned gives back what it
// holds.
func openPlanner(ctx context.Context, c config.Invoker) (fanout.Planner, func(context.Context) error, error) {
	if c.Service != config.ServiceBus {
		hub, err := openHub(ctx, c.Hub, c.Checkpoint, 0, 0)
		if err != nil {
			return nil, nil, err
		}
		return fanout.HubPlanner{Hub: planner{hub}}, hub.Close, nil
	}
	e, err := connectEntity(c.Queue, 0, 0)
	if err != nil {
		return nil, nil, err
	}
	if c.Queue.Sessions && !c.Queue.DeadLetter {
		return fanout.SessionPlanner{Queue: entity{e}}, e.Close, nil
	}
	return fanout.QueuePlanner{Queue: entity{e}}, e.Close, nil
}

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

// entity is a Service Bus entity as a planner sees it.
type entity struct{ *servicebus.Entity }

func (e entity) Backlog(ctx context.Context) (int64, error) {
	n, err := e.Entity.Backlog(ctx)
	if errors.Is(err, servicebus.ErrNoRight) {
		err = fanout.ErrNoRight
	}
	return n, err
}
