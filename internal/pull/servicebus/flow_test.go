package servicebus

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// trickle is a client to which a service sends messages at some rate, as many as it was asked for. What comes
// between two calls it gives back.
type trickle struct {
	every  time.Duration // from one message to the next
	left   int
	credit int
	next   time.Time // when the next message comes, if there is credit
	back   int       // messages given back
}

func (r *trickle) ReceiveMessages(ctx context.Context, n int, o *azservicebus.ReceiveMessagesOptions) (received []*azservicebus.ReceivedMessage, err error) {
	for ; r.credit > 0 && r.left > 0 && !r.next.After(time.Now()); r.next = r.next.Add(r.every) {
		r.credit--
		r.back++
	}
	if r.credit == 0 {
		r.next = time.Now().Add(r.every)
	}
	r.credit = max(r.credit, n)
	for len(received) < n {
		next := r.next
		if r.left == 0 {
			next = next.Add(time.Hour)
		}
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			switch {
			case !next.After(time.Now()): // it comes at that very moment, and is taken: chance is not to decide
			case len(received) > 0:
				return received, nil
			default:
				return nil, ctx.Err()
			}
		}
		received = append(received, &azservicebus.ReceivedMessage{})
		r.credit--
		r.left--
		r.next = r.next.Add(r.every)
		if len(received) == 1 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.TimeAfterFirstMessage)
			defer cancel()
		}
	}
	return received, nil
}

// Whatever the rate, calls end when what they asked for has come.
func TestFlowLeavesLittleOnTheWay(t *testing.T) {
	const messages = 20_000
	for _, test := range []struct {
		perSecond int
		back      int // at most
	}{
		{100_000, 0}, {20_000, 0}, {5000, 0}, {1500, 0}, {700, 10}, {100, 0}, {15, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &trickle{every: time.Second / time.Duration(test.perSecond), left: messages}
			var f flow
			began, calls := time.Now(), 0
			for got := 0; got < messages; calls++ {
				received, err := f.receive(t.Context(), r, 1000)
				if err != nil {
					t.Fatal(err)
				}
				got += len(received)
				time.Sleep(5 * time.Millisecond) // what it takes to look whether there is more
			}
			t.Logf("%d/s: %d calls in %v, %d given back", test.perSecond, calls, time.Since(began), r.back)
			if r.back > test.back {
				t.Errorf("%d/s: %d messages were given back, expected %d at most", test.perSecond, r.back, test.back)
			}
		})
	}
}
