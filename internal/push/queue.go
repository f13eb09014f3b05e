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

	turn chan struct{} // who has the token may use open
	open pull.Open     // where batches are joined, the blob of this process that grows
}

// NewQueue makes a Queue of the entity with this path. A dead-letter queue counts no deliveries, so that all that
// comes from it is looked for before it is stored.
func NewQueue(path string, deadLetter bool, o Options) *Queue {
	return &Queue{Options: o, entity: path, deadLetter: deadLetter, turn: make(chan struct{}, 1)}
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
		q.tellOfBatches(&q.batches)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), last) // who is told to end stores what he has
	defer cancel()
	again, patience := false, firstTry
	err = persevere(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err := q.store(ctx, runID(i.ID), messages, many, again)
		again, patience = true, 2*patience
		return err
	})
	return host.Response{}, err
}

// firstTry bounds the first attempt to store messages. Each further one takes twice as long, and begins with a look:
// by then the locks may have ended, and somebody else may have stored them. Half a lock of the kind that is usual is short
// enough for that.
const firstTry = 15 * time.Second

// store stores those of the messages that are not stored yet. When they are tried again all are looked for: an answer may
// have got lost, and what is left out of a batch meanwhile gives its blob another name. Where batches are joined, one invocation
// after the other does it, since all append to the same blob.
func (q *Queue) store(ctx context.Context, run string, messages []message.Message, many, again bool) error {
	loop := pull.Queue{
		Loop:   q.loop(ctx, q.Sink, q.Folder, run, len(messages)),
		Source: &locked{given{messages}}, Entity: q.entity,
		Frozen: again || q.deadLetter || slices.ContainsFunc(messages, uncounted),
		Single: !many && q.Append == pull.Apart,
	}
	if q.Append != pull.Apart {
		select {
		case q.turn <- struct{}{}:
			defer func() { <-q.turn }()
		case <-ctx.Done():
			return fmt.Errorf("store messages of %s: those before are not stored yet: %w", q.entity, ctx.Err())
		}
		loop.Open = &q.open
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
