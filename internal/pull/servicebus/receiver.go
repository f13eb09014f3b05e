package servicebus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/internal/amqpclient"
	"persistor/internal/message"
	"persistor/internal/pull"
)

// outage is how long a connection may be lost before Receive gives up on it.
const outage = time.Minute

// Receiver receives from an entity without sessions, in competition with others; it is a [pull.Locks].
type Receiver struct {
	entity     *Entity
	client     *azservicebus.Client
	receiver   *azservicebus.Receiver
	appetite   appetite
	flow       flow
	deliveries deliveries
	linked     bool      // there is a link, as far as is known
	unread     error     // of a message that the client can't take
	failing    time.Time // since when nothing works; zero when it does

	renewing sync.WaitGroup
	stop     context.CancelFunc
}

// OpenReceiver prepares to receive, as one of loops that run at once in a unit. Nothing is asked of the
// service yet.
func (e *Entity) OpenReceiver(loops int) (*Receiver, error) {
	client, err := e.connect()
	if err != nil {
		return nil, e.explain("connect to", err)
	}
	r := &Receiver{entity: e, client: client, appetite: e.appetite(loops)}
	if r.receiver, err = r.open(); err != nil {
		return nil, e.explain("receive from", err)
	}
	var renewing context.Context
	renewing, r.stop = context.WithCancel(context.Background())
	r.renewing.Go(func() { r.renew(renewing) })
	return r, nil
}

// open makes a receiver of the client. It has no link before it is used.
func (r *Receiver) open() (*azservicebus.Receiver, error) {
	var o azservicebus.ReceiverOptions
	if r.entity.options.DeadLetter {
		o.SubQueue = azservicebus.SubQueueDeadLetter
	}
	if queue := r.entity.options.Queue; queue != "" {
		return r.client.NewReceiverForQueue(queue, &o)
	}
	return r.client.NewReceiverForSubscription(r.entity.options.Topic, r.entity.options.Subscription, &o)
}

func (e *Entity) appetite(loops int) appetite {
	return appetite{fixed: e.options.Receive, bytes: e.options.ReceiveBytes / max(loops, 1)}
}

// Receive implements [pull.Source]. A lost connection is opened again for as long as ctx holds and the
// outage lasts no longer than a minute; what was received before keeps its locks.
func (r *Receiver) Receive(ctx context.Context, count int) ([]message.Message, error) {
	r.deliveries.strip()
	for attempt := 0; ; attempt++ {
		received, err := r.receive(ctx, count)
		switch {
		case len(received) > 0:
			r.appetite.observe(received)
			messages, err := r.deliveries.take(received)
			if err != nil {
				return nil, r.entity.explain("receive from", err)
			}
			if len(messages) > 0 {
				return messages, nil
			}
			attempt = 0
			continue
		case errors.As(err, new(unreadable)):
			r.unread = r.entity.explain("receive from", err) // there may be others that can be read
			continue
		case r.linked && ctx.Err() != nil && r.answers(ctx):
			return nil, nil
		}
		r.linked = false
		if err := r.entity.endure(ctx, &r.failing, err); err != nil {
			return nil, err
		}
		amqpclient.Pause(ctx, attempt)
	}
}

// receive receives once, over a link that is known to be there: else that nothing came would not mean that
// there is nothing.
func (r *Receiver) receive(ctx context.Context, count int) ([]*azservicebus.ReceivedMessage, error) {
	if !r.linked {
		if err := r.probe(ctx); err != nil {
			return nil, err
		}
		r.linked, r.failing = true, time.Time{}
	}
	return r.flow.receive(ctx, r.receiver, r.appetite.count(count))
}

// probe asks the service something, which has the client open its link; behind the last message there is
// nothing. Whatever the service answers, it is there.
func (r *Receiver) probe(ctx context.Context) error {
	_, err := peek(ctx, r.receiver, 1, math.MaxInt64)
	if answer := (interface{ RPCCode() int })(nil); errors.As(err, &answer) && !fatal(err) {
		return nil
	}
	return err
}

// answers reports whether the service does, at the end of a silence: it may be that of a line that is dead,
// which the client notices after a minute.
func (r *Receiver) answers(ctx context.Context) bool {
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return r.probe(ctx) == nil
}

// endure returns an error when trouble with a link is no longer to be endured, or can't be since ctx has
// ended: then it is a [pull.ErrUnreachable]. The client tells of none (nil) when it has only lost a link.
func (e *Entity) endure(ctx context.Context, since *time.Time, err error) error {
	if since.IsZero() {
		*since = time.Now()
	}
	if err == nil {
		err = errors.New("the link was lost")
	}
	switch {
	case fatal(err) || time.Since(*since) > outage:
		return e.explain("receive from", err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", pull.ErrUnreachable, e.explain("receive from", err))
	}
	return nil
}

// Unread is the error of a message that the client could not take, if there was one. The others were received.
func (r *Receiver) Unread() error { return r.unread }

// Check implements [pull.Locks].
func (r *Receiver) Check(numbers []int64) (lost, again []int64) { return r.deliveries.check(numbers) }

// Complete implements [pull.Locks].
func (r *Receiver) Complete(ctx context.Context, numbers []int64) []int64 {
	return r.deliveries.complete(ctx, r.receiver, numbers)
}

// Window implements [pull.Locks].
func (r *Receiver) Window() time.Duration {
	if half := r.deliveries.halfLock(); half > 0 {
		return half
	}
	return math.MaxInt64
}

// Room implements [pull.Locks].
func (r *Receiver) Room() int { return r.appetite.room() }

// renew renews the locks of messages that wait for long, until ctx ends.
func (r *Receiver) renew(ctx context.Context) {
	for pause(ctx, r.deliveries.halfLock()/10) {
		r.deliveries.each(r.deliveries.due(), func(_ int, held *delivery) {
			ctx, cancel := context.WithDeadline(ctx, held.until)
			defer cancel()
			r.deliveries.renewed(held, r.receiver.RenewMessageLock(ctx, held.received, nil))
		})
	}
}

// pause waits for a part of what a lock lasts, or a while when that isn't known yet.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		d = 100 * time.Millisecond
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Close gives back what was received and not settled, ends the connection, and says how many messages
// were given back. The link may have credit left, on which a message that is given back would return at
// once; so it is closed first, when what came on it meanwhile is taken out, and the messages are given back
// by another one.
func (r *Receiver) Close(ctx context.Context) (abandoned int64, err error) {
	r.stop()
	r.renewing.Wait()
	if r.flow.owed > 0 {
		r.collect(ctx, r.flow.owed)
	}
	err = r.receiver.Close(ctx)
	if r.deliveries.len() > 0 {
		back, opening := r.open()
		if opening == nil {
			abandoned = r.deliveries.giveBack(ctx, back)
		}
		err = errors.Join(err, opening)
	}
	return abandoned, errors.Join(err, r.client.Close(ctx))
}

// collect takes what the client has received since the last call, or is about to, of so many messages that it
// was owed.
func (r *Receiver) collect(ctx context.Context, owed int) {
	const onTheWay = 200 * time.Millisecond
	limit := 5 * onTheWay
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/4) // the rest is for giving back
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for owed > 0 {
		waiting, cancel := context.WithTimeout(ctx, onTheWay)
		received, err := receive(waiting, r.receiver, owed, linger)
		cancel()
		if len(received) == 0 || err != nil {
			return
		}
		owed -= len(received)
		if _, err := r.deliveries.take(received); err != nil {
			return
		}
		r.deliveries.strip()
	}
}
