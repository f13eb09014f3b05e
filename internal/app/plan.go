package app

import (
	"context"
	"errors"

	"persistor/internal/backfill"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/pull/eventhub"
	"persistor/internal/pull/servicebus"
)

// source is what an invoker drains.
type source struct {
	planner fanout.Planner
	hub     backfill.Hub                             // nil for Service Bus
	waiting func(ctx context.Context) (int64, error) // how many messages of Service Bus wait; nil for an Event Hub
	close   func(ctx context.Context) error          // gives back what it holds
}

// openSource opens what the settings choose.
func openSource(ctx context.Context, c config.Invoker) (source, error) {
	if c.Service != config.ServiceBus {
		hub, err := openHub(ctx, c.Hub, c.Checkpoint, 0, 0)
		if err != nil {
			return source{}, err
		}
		return source{planner: fanout.HubPlanner{Hub: planner{hub}}, hub: planner{hub}, close: hub.Close}, nil
	}
	e, err := connectEntity(c.Queue, 0, 0)
	if err != nil {
		return source{}, err
	}
	s := source{planner: fanout.QueuePlanner{Queue: entity{e}}, waiting: entity{e}.Backlog, close: e.Close}
	if c.Queue.Sessions && !c.Queue.DeadLetter {
		s.planner = fanout.SessionPlanner{Queue: entity{e}}
	}
	return s, nil
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
