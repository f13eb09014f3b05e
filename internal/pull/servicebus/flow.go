package servicebus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// linger is how long to wait for further messages before taking it that there are none for now.
	linger = 50 * time.Millisecond
	// longestCall is how long messages are waited for that keep coming slowly. They are locked already.
	longestCall = time.Second
)

// receiving is the part of the client's two receivers that receives.
type receiving interface {
	ReceiveMessages(ctx context.Context, n int, o *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// flow receives at whatever rate messages come.
//
// The client lets the service send as many messages as a call asks for. When the call ends before they have
// come, they come all the same; and what comes between two calls the client gives back, one message in each
// round trip, while the next call waits (azservicebus 1.11.0, receiver.go, newReleaserFunc). The service
// delivers that again, behind the messages that followed it. So a call ends when it has all that it asked
// for, or when no more seem to come; and it asks for no more than come in its time.
type flow struct {
	slow bool  // it took longer than linger to get what there was
	most int   // to ask for; 0 when that isn't known to matter
	err  error // that came behind messages
	// single is how many calls to come ask for one message alone, since one among them can't be taken.
	single int
	owed   int // messages that were asked for and are still to come, if there are so many
}

// oneByOne is for how many calls a message is kept from taking others with it that can't be taken.
const oneByOne = 200

// receive waits for messages, for as long as ctx allows: for count of them, or for fewer if that takes long.
func (f *flow) receive(ctx context.Context, r receiving, count int) (received []*azservicebus.ReceivedMessage, err error) {
	if err := f.err; err != nil {
		f.err = nil
		return nil, err
	}
	if f.single > 0 {
		f.single--
		count = 1
	}
	if f.most > 0 {
		count = min(count, f.most)
	}
	wait := linger
	if f.slow {
		wait = longestCall
	}
	defer func() { f.owed = max(f.owed, count) - len(received) }()
	received, err = receive(ctx, r, count, wait)
	if errors.As(err, new(unreadable)) {
		f.single = oneByOne
	}
	for 0 < len(received) && len(received) < count {
		more := f.further(ctx, r, count-len(received), linger)
		received = append(received, more...)
		if len(more) == 0 {
			f.slow = false
			return received, nil
		}
		if f.slow {
			// Half of what came takes half the time; but what was asked for is still to come.
			f.most = max(len(received)/2, count-len(received))
			return received, nil
		}
		f.slow = true
		received = append(received, f.further(ctx, r, count-len(received), longestCall)...)
	}
	f.most = min(2*f.most, mostMessages)
	return received, err
}

// further waits for messages that may be on their way. An error is left to the next call of receive.
func (f *flow) further(ctx context.Context, r receiving, count int, wait time.Duration) []*azservicebus.ReceivedMessage {
	if count == 0 || f.err != nil {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	received, err := receive(waiting, r, count, wait)
	if waiting.Err() == nil || errors.As(err, new(unreadable)) {
		f.err = err
	}
	return received
}

// receive calls the client. It waits for the first message for as long as ctx allows, and for others for so
// long after it. The client may first finish what it began after the call before, which can take it a minute
// when its peer is silent: it isn't waited for much longer than ctx allows.
func receive(ctx context.Context, r receiving, count int, others time.Duration) ([]*azservicebus.ReceivedMessage, error) {
	type answer struct {
		received []*azservicebus.ReceivedMessage
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() { answered <- a }()
		defer catch(&a.err)
		a.received, a.err = r.ReceiveMessages(ctx, count, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: others})
	}()
	select {
	case a := <-answered:
		return a.received, a.err
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case a := <-answered:
		return a.received, a.err
	case <-late.C:
		return nil, errStuck
	}
}

// grace is how long the client may take to end a call whose time is over.
const grace = 5 * time.Second

var errStuck = errors.New("the client does not return, as it does when its peer has gone silent")

// peek looks at messages from a sequence number on.
func peek(ctx context.Context, r interface {
	PeekMessages(ctx context.Context, n int, o *azservicebus.PeekMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}, count int, from int64) (seen []*azservicebus.ReceivedMessage, err error) {
	defer catch(&err)
	return r.PeekMessages(ctx, count, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
}

// catch makes an error of the client's panic at a message with a property DeadLetterReason or
// DeadLetterErrorDescription that isn't text (azservicebus 1.11.0, message.go).
func catch(err *error) {
	if p := recover(); p != nil {
		*err = unreadable{fmt.Errorf("a message can't be taken by the client: %v: its property DeadLetterReason or DeadLetterErrorDescription is no text", p)}
	}
}
