package servicebus

import (
	"context"
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
	until    time.Time // when its lock expires, by this process's monotonic clock
	lasts    time.Duration
	lost     bool // its lock is gone
	stored   bool // completing it was tried, and not confirmed
}

// What a lock may last (Service Bus: 5 s to 5 minutes).
const (
	shortestLock = 5 * time.Second
	longestLock  = 5 * time.Minute
)

// lockLasts is how long a lock lasts that the service says expires at until. Its clock and this one's may
// differ, so what no lock can last is not believed; locks that are shorter than the service's shortest are
// an emulator's.
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
func (d *deliveries) take(received []*azservicebus.ReceivedMessage) []message.Message {
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
		made := &delivery{received: r, until: now.Add(lasts), lasts: lasts}
		before := d.held[number(r)]
		d.held[number(r)] = made
		if before == nil || before.stored {
			d.out = append(d.out, message.Message{})
			fromReceived(&d.out[len(d.out)-1], r)
			d.fresh = append(d.fresh, made)
		} else {
			made.strip()
		}
	}
	return d.out
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

// strip keeps what it takes to settle the message.
func (d *delivery) strip() {
	raw := d.received.RawAMQPMessage
	raw.Body, raw.ApplicationProperties, raw.MessageAnnotations, raw.Properties = azservicebus.AMQPAnnotatedMessageBody{}, nil, nil, nil
	d.received.Body, d.received.ApplicationProperties = nil, nil
}

// lostOf forgets and returns those of the messages whose locks are gone.
func (d *deliveries) lostOf(numbers []int64) (lost []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, n := range numbers {
		if held := d.held[n]; held == nil || held.lost || held.lasts > 0 && now.After(held.until) {
			lost = append(lost, n)
			delete(d.held, n)
		}
	}
	return lost
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
	lost := d.forgotten(unconfirmed)
	return append(lost, d.settle(ctx, managementPatience, unconfirmed, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.CompleteMessage(ctx, &azservicebus.ReceivedMessage{LockToken: r.LockToken}, nil)
	})...)
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
	var mu sync.Mutex
	d.each(numbers, func(n int64, held *delivery) {
		err := ctx.Err() // which the client looks at only after it has sent something
		if err == nil {
			err = how(ctx, held.received)
		}
		if err == nil || lockLost(err) {
			answered()
			d.forget(n, held)
		}
		if err == nil {
			return
		}
		d.mu.Lock()
		held.stored = true
		d.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, n)
	})
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

// forgotten are those of the messages that are not held any more.
func (d *deliveries) forgotten(numbers []int64) (gone []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range numbers {
		if d.held[n] == nil {
			gone = append(gone, n)
		}
	}
	return gone
}

// abandon gives back what is still held, by its lock tokens, so that any link can do it; and says how many
// messages that were.
func (d *deliveries) abandon(ctx context.Context, l link) int64 {
	d.mu.Lock()
	numbers := make([]int64, 0, len(d.held))
	for n, held := range d.held {
		if !held.lost {
			numbers = append(numbers, n)
		}
	}
	d.mu.Unlock()
	slices.Sort(numbers)
	kept := d.settle(ctx, managementPatience, numbers, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.AbandonMessage(ctx, &azservicebus.ReceivedMessage{LockToken: r.LockToken}, nil)
	})
	return int64(len(numbers) - len(kept))
}

// each does something with every one of the messages that is held, many at a time.
func (d *deliveries) each(numbers []int64, do func(n int64, held *delivery)) {
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
					do(numbers[i], held)
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
