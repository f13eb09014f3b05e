package servicebus

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/internal/amqpclient"
	"persistor/internal/message"
	"persistor/internal/pull"
)

// ErrSessionLocked says that another receiver has the session.
var ErrSessionLocked = errors.New("the session is locked by another receiver")

// Acceptor takes sessions of an entity, one after the other, over one connection. Not safe for concurrent
// use.
type Acceptor struct {
	entity   *Entity
	client   *azservicebus.Client
	appetite appetite
	length   int  // messages of the session that was drained last
	slow     bool // messages of the session before came with gaps longer than linger
	most     int  // that came lately in half of longestCall; 0 when they are not slow
}

// OpenAcceptor prepares to take sessions, as one of loops that run at once in a unit. Nothing is asked of
// the service yet.
func (e *Entity) OpenAcceptor(loops int) (*Acceptor, error) {
	client, err := e.connect()
	if err != nil {
		return nil, e.explain("connect to", err)
	}
	return &Acceptor{entity: e, client: client, appetite: e.appetite(loops)}, nil
}

// Close ends the connection, and gives back what the service has locked for it.
func (a *Acceptor) Close(ctx context.Context) error { return a.client.Close(ctx) }

// Accept takes the session with the given id, whether it holds messages or not. The error is
// ErrSessionLocked when another receiver has it.
func (a *Acceptor) Accept(ctx context.Context, id string) (*Session, error) {
	s, err := a.accept(ctx, func(ctx context.Context) (*azservicebus.SessionReceiver, error) {
		o := a.entity.options
		if o.Queue != "" {
			return a.client.AcceptSessionForQueue(ctx, o.Queue, id, nil)
		}
		return a.client.AcceptSessionForSubscription(ctx, o.Topic, o.Subscription, id, nil)
	})
	switch {
	case condition(err) == conditionSessionLocked:
		return nil, ErrSessionLocked
	case err != nil:
		return nil, a.entity.explain("accept session "+pull.QuoteSession(id)+" of", err)
	}
	return s, nil
}

// Next takes the next session that has messages and isn't locked. It returns nil when the service has none
// to give while wait lasts.
func (a *Acceptor) Next(ctx context.Context, wait time.Duration) (*Session, error) {
	s, err := a.accept(ctx, func(ctx context.Context) (*azservicebus.SessionReceiver, error) {
		ctx, cancel := context.WithTimeout(ctx, wait+answerTakes)
		defer cancel()
		return a.next(answered{ctx, wait})
	})
	switch {
	case condition(err) == conditionTimeout:
		return nil, nil
	case err != nil:
		return nil, a.entity.explain("accept the next session of", err)
	}
	s.promised = true
	return s, nil
}

// answered is a context for a question that the service answers after a time: the client has it wait until
// the context's deadline, and would give up itself just before that answer has come. It says at any moment
// that its deadline is so far away, for the client also goes by it when it writes.
type answered struct {
	context.Context
	after time.Duration
}

// answerTakes is how much longer the service's answer is waited for.
const answerTakes = 10 * time.Second

// Deadline implements [context.Context].
func (a answered) Deadline() (time.Time, bool) { return time.Now().Add(a.after), true }

func (a *Acceptor) next(ctx context.Context) (*azservicebus.SessionReceiver, error) {
	o := a.entity.options
	if o.Queue != "" {
		return a.client.AcceptNextSessionForQueue(ctx, o.Queue, nil)
	}
	return a.client.AcceptNextSessionForSubscription(ctx, o.Topic, o.Subscription, nil)
}

// accept tries until it has a session, or an error that trying again can't mend.
func (a *Acceptor) accept(ctx context.Context, open func(context.Context) (*azservicebus.SessionReceiver, error)) (*Session, error) {
	began := time.Now()
	for attempt := 0; ; attempt++ {
		receiver, err := open(ctx)
		if err == nil {
			return newSession(a, receiver), nil
		}
		if condition(err) == conditionTimeout || fatal(err) || time.Since(began) > outage || !amqpclient.Pause(ctx, attempt) {
			return nil, err
		}
	}
}

// Session receives the messages of one session, in their order; it is a [pull.Locks]. The session is
// locked until it is closed, or the lock is lost.
//
// Once a call has brought fewer messages than it asked for, the service may send more at any time, and what
// comes between two calls the client gives back, to be delivered again behind its successors (see [flow]).
// So a Session ends there, with [Session.More] set if it holds more by then; taken anew, it begins with the
// first message that isn't settled.
type Session struct {
	acceptor   *Acceptor
	receiver   *azservicebus.SessionReceiver
	deliveries deliveries
	failing    time.Time
	received   int   // messages
	last       int64 // the highest sequence number received; -1 for none
	promised   bool  // there is a message to be received
	spent      bool  // a call has brought fewer messages than it asked for
	more       bool
	linked     bool // there is a link, as far as is known

	lost     atomic.Bool // the session's lock is gone
	renewing sync.WaitGroup
	stop     context.CancelFunc
}

func newSession(a *Acceptor, r *azservicebus.SessionReceiver) *Session {
	s := &Session{acceptor: a, receiver: r, last: -1, linked: true}
	var renewing context.Context
	renewing, s.stop = context.WithCancel(context.Background())
	s.renewing.Go(func() { s.renew(renewing) })
	return s
}

// ID is the session's id, which may be empty.
func (s *Session) ID() string { return s.receiver.SessionID() }

// More reports whether the session was ended although it holds more. It is called when Receive has returned
// for the last time.
func (s *Session) More() bool { return s.more }

// Receive implements [pull.Source]. It knows when the session is drained, for the service shows what is
// left in it.
func (s *Session) Receive(ctx context.Context, count int) ([]message.Message, error) {
	s.deliveries.strip()
	for attempt := 0; ; attempt++ {
		if s.lost.Load() {
			return nil, pull.ErrSuperseded
		}
		messages, err := s.next(ctx, count)
		switch {
		case len(messages) > 0:
			s.failing = time.Time{}
			return messages, nil
		case errors.Is(err, pull.ErrDrained):
			return nil, err
		case condition(err) == conditionSessionLocked || lockLost(err):
			s.lost.Store(true)
			continue
		case s.linked && ctx.Err() != nil:
			return nil, nil
		case s.linked:
			continue // the message that was seen is yet to come
		}
		if err := s.acceptor.entity.endure(ctx, &s.failing, err); err != nil {
			return nil, err
		}
		amqpclient.Pause(ctx, attempt)
	}
}

// next receives once. Where it isn't known that there is another message it looks first: to wait for one
// that doesn't come would take longer, and leave credit behind. Looking fetches the message, so where they
// are large it waits, and looks when none has come.
func (s *Session) next(ctx context.Context, count int) ([]message.Message, error) {
	appetite := &s.acceptor.appetite
	wait := longestWait
	switch large := appetite.large >= largeMessage; {
	case s.promised:
	case large && !s.spent:
		wait = drainedWait
	default:
		found, err := s.look(ctx)
		if s.linked = err == nil; err != nil {
			return nil, err
		}
		if !found {
			s.acceptor.length, s.acceptor.slow, s.acceptor.most = s.received, false, 0
			return nil, pull.ErrDrained
		}
	}
	if s.spent {
		if s.received == 0 {
			return nil, errWithheld
		}
		s.more, s.acceptor.slow = true, true
		return nil, pull.ErrDrained
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	count = appetite.count(count)
	if s.received == 0 && s.acceptor.length > 0 {
		// A guess: nothing is waited for if the session is as long as the one before.
		count = min(count, s.acceptor.length)
	}
	// In one call: between two, what comes is given back, and would come out of its turn.
	others := linger
	if s.acceptor.slow {
		others = longestCall
	}
	if s.acceptor.most > 0 {
		count = min(count, s.acceptor.most)
	}
	received, err := receive(waiting, s.receiver, count, others)
	if s.acceptor.slow && len(received) < count {
		s.acceptor.most = max(len(received)/2, 1)
	}
	s.promised, s.spent = false, len(received) < count
	if len(received) == 0 {
		// The client tells of none when it has only lost its link.
		s.linked = err != nil && waiting.Err() != nil
		return nil, err
	}
	s.linked = true
	appetite.observe(received)
	s.received += len(received)
	for _, r := range received {
		s.last = max(s.last, number(r))
	}
	return s.deliveries.take(received)
}

// errWithheld says that a session has a message that it doesn't deliver.
var errWithheld = errors.New("the service shows a message of the session, and does not deliver it")

const (
	// longestWait is how long a message may take that is known to be there.
	longestWait = 10 * time.Second
	// drainedWait is after what time without a message a session of large messages counts as drained.
	drainedWait = 2 * time.Second
	// largeMessage is what it is too much to fetch twice, in bytes.
	largeMessage = 256 << 10
)

// look reports whether the session holds a message to be received behind the last one. Those that are
// deferred or scheduled don't count.
func (s *Session) look(ctx context.Context) (bool, error) {
	from, count := s.last+1, 1
	for {
		seen, err := peek(ctx, s.receiver, count, from)
		if errors.As(err, new(unreadable)) {
			return true, nil // receiving it says more
		}
		if err != nil || len(seen) == 0 {
			return false, err
		}
		if slices.ContainsFunc(seen, s.receives) {
			return true, nil
		}
		from, count = number(seen[len(seen)-1])+1, 16
	}
}

// receives reports whether a message that was seen is one to be received.
func (s *Session) receives(m *azservicebus.ReceivedMessage) bool {
	return m.State == azservicebus.MessageStateActive && (m.SessionID == nil || *m.SessionID == s.ID())
}

// Check implements [pull.Locks]: with the session's lock, all are lost.
func (s *Session) Check(numbers []int64) (lost, again []int64) {
	if s.lost.Load() {
		return numbers, nil
	}
	return nil, nil
}

// Complete implements [pull.Locks]. With its link a session's lock is gone, so what the link doesn't confirm
// is left to whoever has the session next.
func (s *Session) Complete(ctx context.Context, numbers []int64) []int64 {
	unconfirmed := s.deliveries.completeOnLink(ctx, s.receiver, numbers)
	if len(unconfirmed) > 0 {
		s.lost.Store(true)
	}
	return unconfirmed
}

// Window implements [pull.Locks].
func (s *Session) Window() time.Duration {
	if half := s.deliveries.halfLock(); half > 0 {
		return half
	}
	return math.MaxInt64
}

// Room implements [pull.Locks].
func (s *Session) Room() int { return s.acceptor.appetite.room() }

// renew renews the session's lock when a third of its time is left, until ctx ends or the lock is lost.
func (s *Session) renew(ctx context.Context) {
	lasts := lockLasts(s.receiver.LockedUntil(), time.Now())
	until := time.Now().Add(lasts)
	for pause(ctx, lasts/20) {
		if time.Until(until) > lasts/3 {
			continue
		}
		renewing, cancel := context.WithDeadline(ctx, until)
		err := s.receiver.RenewSessionLock(renewing, nil)
		cancel()
		switch {
		case err == nil:
			lasts = lockLasts(s.receiver.LockedUntil(), time.Now())
			until = time.Now().Add(lasts)
		case ctx.Err() == nil && (lockLost(err) || time.Until(until) <= 0):
			s.lost.Store(true)
			return
		}
	}
}

// Close gives the session back, with what was received of it and not settled, and says how many messages
// that were.
func (s *Session) Close(ctx context.Context) (abandoned int64, err error) {
	s.stop()
	s.renewing.Wait()
	return s.deliveries.unstored(), s.receiver.Close(ctx)
}
