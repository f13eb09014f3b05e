package servicebus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/internal/message"
)

// link is the part of the client's two receivers that settles.
type link interface {
	CompleteMessage(ctx context.Context, m *azservicebus.ReceivedMessage, o *azservicebus.CompleteMessageOptions) error
	AbandonMessage(ctx context.Context, m *azservicebus.ReceivedMessage, o *azservicebus.AbandonMessageOptions) error
}

// deliveries are the messages that a receiver has given out and not settled: each by its sequence number
// with its newest delivery. Safe for concurrent use.
type deliveries struct {
	mu     sync.Mutex
	held   map[int64]*delivery
	fresh  []*delivery // given out by the last call of take, whose messages are in use
	out    []message.Message
	window time.Duration // half of what a lock lasts; 0 when that isn't known
}

// delivery is one message on its way.
type delivery struct {
	received *azservicebus.ReceivedMessage
	enqueued time.Time
	until    time.Time // when its lock expires, by this process's monotonic clock
	lasts    time.Duration
	lost     bool // its lock is gone
	again    bool // it is in a batch by an earlier delivery
	stored   bool // completing it was tried, and not confirmed
}

// What a lock is believed to last. The service's last 5 s to 5 minutes; but its clock and this one's may
// differ, and a lock that is renewed too early costs nothing.
const (
	shortestLock = 5 * time.Second
	longestLock  = 30 * time.Second
)

// lockLasts is how long a lock lasts that the service says expires at until. Locks that are shorter than the
// service's shortest are an emulator's.
func lockLasts(until, now time.Time) time.Duration {
	lasts := until.Sub(now)
	if lasts <= 0 {
		return shortestLock
	}
	return min(lasts, longestLock)
}

// take makes messages of what was received and holds on to it. A message that is given out already is not
// given out again: it is in a batch, which will settle it by its newest delivery. The messages are valid
// until the next call.
func (d *deliveries) take(received []*azservicebus.ReceivedMessage) ([]message.Message, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held == nil {
		d.held = map[int64]*delivery{}
	}
	now := time.Now()
	d.out = d.out[:0]
	for _, r := range received {
		lasts := time.Duration(0)
		if r.LockedUntil != nil {
			lasts = lockLasts(*r.LockedUntil, now)
			d.window = lasts / 2
		}
		if number(r) < 0 || r.EnqueuedTime == nil {
			return nil, unreadable{errors.New("a message came without a sequence number or an enqueued time")}
		}
		made := &delivery{received: r, enqueued: *r.EnqueuedTime, until: now.Add(lasts), lasts: lasts}
		before := d.held[number(r)]
		if before != nil && !before.enqueued.Equal(made.enqueued) {
			return nil, unreadable{fmt.Errorf("message %d is another than before, as if the entity had been made anew meanwhile; run again", number(r))}
		}
		d.held[number(r)] = made
		if before == nil || before.stored {
			d.out = append(d.out, message.Message{})
			fromReceived(&d.out[len(d.out)-1], r)
			d.fresh = append(d.fresh, made)
		} else {
			made.again = true
			made.strip()
		}
	}
	return d.out, nil
}

// strip lets go of what the messages held that were given out last: they are in a batch by now.
func (d *deliveries) strip() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range d.fresh {
		f.strip()
		d.fresh[i] = nil
	}
	d.fresh = d.fresh[:0]
	clear(d.out[:cap(d.out)])
}

// strip keeps what it takes to settle the message. The client holds on to the message in a form of its own,
// which shares its sections with this one; a body of values it keeps.
func (d *delivery) strip() {
	raw := d.received.RawAMQPMessage
	clear(raw.Body.Data)
	clear(raw.ApplicationProperties)
	clear(raw.MessageAnnotations)
	raw.Body, raw.ApplicationProperties, raw.MessageAnnotations, raw.Properties = azservicebus.AMQPAnnotatedMessageBody{}, nil, nil, nil
	d.received.Body, d.received.ApplicationProperties = nil, nil
}

// check forgets and returns those of the messages whose locks are gone, and returns those that were delivered
// once more meanwhile.
func (d *deliveries) check(numbers []int64) (lost, again []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, n := range numbers {
		held := d.held[n]
		switch {
		case held == nil || held.lost || held.lasts > 0 && now.After(held.until):
			lost = append(lost, n)
			delete(d.held, n)
		case held.again:
			again = append(again, n)
		}
	}
	return lost, again
}

// settling is how many messages are completed, abandoned or renewed at once: enough to make up for the
// round trip that each of them takes.
const settling = 256

// How long settling goes on without any answer, over the link that a message came on and over the entity's
// management. An answer may be lost, and the client waits for it for ever; or a connection, and then it
// takes the client some time to get another one.
const (
	linkPatience       = 2 * time.Second
	managementPatience = 10 * time.Second
)

// complete settles the messages, and returns those for which that wasn't confirmed. What the link doesn't
// confirm is tried again by lock token, which works over any link. A message whose lock was lost is
// forgotten; the others stay, to be abandoned.
func (d *deliveries) complete(ctx context.Context, l link, numbers []int64) (unconfirmed []int64) {
	unconfirmed = d.completeOnLink(ctx, l, numbers)
	if len(unconfirmed) == 0 {
		return nil
	}
	return d.completeByToken(ctx, l, unconfirmed)
}

func (d *deliveries) completeByToken(ctx context.Context, l link, numbers []int64) (unconfirmed []int64) {
	return d.settle(ctx, managementPatience, numbers, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.CompleteMessage(ctx, &azservicebus.ReceivedMessage{LockToken: r.LockToken}, nil)
	})
}

func (d *deliveries) completeOnLink(ctx context.Context, l link, numbers []int64) (unconfirmed []int64) {
	return d.settle(ctx, linkPatience, numbers, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.CompleteMessage(ctx, r, nil)
	})
}

// settle settles the messages that are held in some way, for as long as there are answers, and returns those
// that it couldn't. One whose lock was lost is forgotten.
func (d *deliveries) settle(ctx context.Context, patience time.Duration, numbers []int64, how func(context.Context, *azservicebus.ReceivedMessage) error) (failed []int64) {
	ctx, answered, stop := withPatience(ctx, patience)
	defer stop()
	settled := make([]atomic.Bool, len(numbers))
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.each(numbers, func(i int, held *delivery) {
			err := ctx.Err() // which the client looks at only after it has sent something
			if err == nil {
				err = how(ctx, held.received)
			}
			if err == nil || lockLost(err) {
				answered()
				d.forget(numbers[i], held)
			}
			settled[i].Store(err == nil)
		})
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// The client may wait for a peer that has gone silent whatever its context says.
		select {
		case <-done:
		case <-time.After(grace):
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, n := range numbers {
		if !settled[i].Load() {
			failed = append(failed, n)
			if held := d.held[n]; held != nil {
				held.stored = true
			}
		}
	}
	return failed
}

// withPatience returns a context that ends when answered wasn't called for so long.
func withPatience(ctx context.Context, patience time.Duration) (_ context.Context, answered, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	began := time.Now()
	var last atomic.Int64 // nanoseconds since began
	var watching sync.WaitGroup
	watching.Go(func() {
		for left := patience; left > 0; left = patience - time.Since(began) + time.Duration(last.Load()) {
			if !pause(ctx, left) {
				return
			}
		}
		cancel()
	})
	return ctx, func() { last.Store(int64(time.Since(began))) }, func() { cancel(); watching.Wait() }
}

// giveBack ends what is still held, by lock tokens, so that any link can do it. What is stored is completed,
// the rest is abandoned; it says how many messages that were.
func (d *deliveries) giveBack(ctx context.Context, l link) (abandoned int64) {
	var stored, others []int64
	d.mu.Lock()
	for n, held := range d.held {
		switch {
		case held.stored:
			stored = append(stored, n)
		case !held.lost:
			others = append(others, n)
		}
	}
	d.mu.Unlock()
	slices.Sort(others)
	kept := d.settle(ctx, managementPatience, others, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.AbandonMessage(ctx, &azservicebus.ReceivedMessage{LockToken: r.LockToken}, nil)
	})
	d.completeByToken(ctx, l, stored)
	return int64(len(others) - len(kept))
}

// each does something with every one of the messages that is held, many at a time.
func (d *deliveries) each(numbers []int64, do func(i int, held *delivery)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(settling, len(numbers)) {
		workers.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(numbers)) {
					return
				}
				d.mu.Lock()
				held := d.held[numbers[i]]
				d.mu.Unlock()
				if held != nil {
					do(int(i), held)
				}
			}
		})
	}
	workers.Wait()
}

// forget lets go of a message, unless it has been delivered anew.
func (d *deliveries) forget(n int64, held *delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[n] == held {
		delete(d.held, n)
	}
}

// due are the messages whose locks have less than a third of their time left.
func (d *deliveries) due() (numbers []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for n, held := range d.held {
		if !held.lost && held.lasts > 0 && held.until.Sub(now) < held.lasts/3 {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// renewed takes note of a lock that was renewed, or could not be.
func (d *deliveries) renewed(held *delivery, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil && held.received.LockedUntil != nil:
		held.until = time.Now().Add(lockLasts(*held.received.LockedUntil, time.Now()))
	case lockLost(err):
		held.lost = true
	}
}

func (d *deliveries) halfLock() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.window
}

func (d *deliveries) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}

// unstored is how many messages are held that were not stored.
func (d *deliveries) unstored() (n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, held := range d.held {
		if !held.stored {
			n++
		}
	}
	return n
}
