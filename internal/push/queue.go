package push

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/work"
)

// Queue stores the messages of a queue, a subscription or a dead-letter queue of Service Bus. Its methods are safe for
// concurrent use.
type Queue struct {
	Options
	entity     string // path, as Service Bus writes it
	deadLetter bool
	batches    sync.Once // has told that batches are no outputs
}

// NewQueue makes a Queue of the entity with this path. A dead-letter queue counts no deliveries, so that all that
// comes from it is looked for before it is stored.
func NewQueue(path string, deadLetter bool, o Options) *Queue {
	return &Queue{Options: o, entity: path, deadLetter: deadLetter}
}

// Persist is the function: it stores what an invocation brings and is not stored yet, or fails, whereupon the host gives
// the messages back.
func (q *Queue) Persist(ctx context.Context, i *host.Invocation) (host.Response, error) {
	_, last := q.budget(time.Now())
	messages, many, err := decodeQueue(i)
	if err != nil {
		return host.Response{}, fmt.Errorf("identify messages of %s: %w", q.entity, err)
	}
	if len(messages) == 0 {
		return host.Response{}, nil
	}
	if q.Output && !many {
		return host.Response{Outputs: map[string]any{Blob: string(q.Format.Append(nil, &messages[0]))}}, nil
	}
	if q.Output {
		q.batches.Do(func() {
			q.log().Warn("batches are stored by this program and not by the output binding, which can't name them: set cardinality to one to use it")
		})
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), last) // who is told to end stores what he has
	defer cancel()
	err = persevere(ctx, func(ctx context.Context) error { return q.store(ctx, runID(i.ID), messages, many) })
	return host.Response{}, err
}

// store stores those of the messages that are not stored yet.
func (q *Queue) store(ctx context.Context, run string, messages []message.Message, many bool) error {
	loop := pull.Queue{
		Loop:   q.loop(ctx, q.Sink, q.Folder, run, len(messages)),
		Source: &locked{given{messages: messages}}, Entity: q.entity,
		Frozen: q.deadLetter || slices.ContainsFunc(messages, uncounted), Single: !many,
	}
	row, err := loop.Drain(ctx)
	if err == nil && row.Ended != work.Drained {
		err = errTimeout
	}
	if err != nil {
		return fmt.Errorf("store messages of %s: %w", q.entity, err)
	}
	return nil
}

// uncounted reports whether a message may have been delivered before without its delivery count saying so, as those
// of a session whose receiver lost its connection.
func uncounted(m message.Message) bool { return m.DeliveryCount == 0 || m.SessionID != nil }
