package emulator

import (
	"container/list"
	"time"

	"persistor/emulator/internal/wire"
)

const (
	filterSession       = "com.microsoft:session-filter"
	propertyTimeout     = "com.microsoft:timeout"
	propertyLockedUntil = "com.microsoft:locked-until-utc"
	conditionDisabled   = "com.microsoft:entity-disabled"
	conditionLockLost   = "com.microsoft:message-lock-lost"
	conditionDeadLetter = "com.microsoft:dead-letter"
)

// receiver is the feed of a link that a client receives a queue's messages on, or those of a session. The lock of the
// queue guards what it has to do with other receivers.
type receiver struct {
	queue   *queue
	link    *link
	deletes bool // what is received is gone

	// Without sessions, while the client has credit and the queue has no messages for it:
	hunger   *list.Element
	wants    int64 // messages that the client gave credit for
	promised int64 // messages that it was woken for

	// With sessions:
	session *messageSession // whose lock it has
	waits   *list.Element   // while it waits for one
	timeout *time.Timer
}

// attachReceiver gives a link the messages of a queue. A client that settles deliveries locks them; what goes out
// settled is gone.
func (q *queue) attachReceiver(l *link, a *wire.Attach) (granted, *wire.Error) {
	r := &receiver{queue: q, link: l, deletes: a.SenderMode != nil && *a.SenderMode == wire.SenderSettled}
	filter, ofSession := a.Source.Filter(filterSession)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(q.now())
	var g granted
	switch {
	case q.disabled:
		return granted{}, q.isDisabled()
	case q.Sessions && !ofSession:
		return granted{}, &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path,
			"It is not possible for an entity that requires sessions to create a non-sessionful message receiver.")}
	case ofSession && !q.Sessions:
		return granted{}, &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path,
			"A sessionful message receiver cannot be created on an entity that does not require sessions. Ensure RequiresSession is set to true when creating a Queue or Subscription to enable sessionful behavior.")}
	case filter != nil:
		id, ok := filter.(string)
		if !ok {
			return granted{}, &wire.Error{Condition: wire.ConditionInvalidField, Description: "the session filter is neither a string nor null"}
		}
		var refusal *wire.Error
		if g.session, refusal = q.acceptNamed(r, id); refusal != nil {
			return granted{}, refusal
		}
	case ofSession:
		g.session = q.acceptNext(r, sessionWait(a.Properties))
		g.later = g.session == nil
	}
	l.feed, l.unsettled = r, !r.deletes
	q.links[l] = struct{}{}
	return g, nil
}

// sessionWait is how long a client wants to wait for a session.
func sessionWait(properties wire.Map) time.Duration {
	ms, ok := ruleValue(properties.Get(propertyTimeout)).(int64)
	if !ok {
		return nextSessionWait
	}
	return time.Duration(min(max(ms, 0), 1<<32)) * time.Millisecond
}

// properties tell a client until when it has the session, in ticks of 100 ns since the year 1.
func (g *sessionGrant) properties() wire.Map {
	const unixEpoch = 621355968000000000
	return wire.Map{{Key: wire.Symbol(propertyLockedUntil), Value: unixEpoch + g.lockedUntil*10_000}}
}

func (r *receiver) next(dst []byte) (encoded []byte, tag [16]byte, ok bool) {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.sweep(now)
	m := r.take()
	if m == nil {
		return dst, tag, false
	}
	if r.deletes {
		dst = m.append(dst) // which tells of no lock
		q.lock(m, now)
		q.complete(m)
		return dst, tag, true
	}
	q.lock(m, now)
	return m.append(dst), guid(m.lockToken()), true
}

// take takes the next message that the receiver may have out of its lane, nil if there is none.
func (r *receiver) take() *message {
	q, lane := r.queue, &r.queue.lane
	switch {
	case r.link.kicked.Load() != nil:
		return nil
	case q.Sessions:
		if r.session == nil {
			return nil
		}
		lane = &r.session.lane
	case r.promised > 0:
		r.promised--
		q.promised--
	case lane.ready <= q.promised:
		r.starve()
		return nil
	}
	m, made := lane.take()
	switch {
	case m == nil && !q.Sessions:
		r.starve()
	case m != nil && r.hunger != nil:
		r.wants--
	}
	if made {
		q.store.put(m)
		q.info.Bytes += m.size()
	}
	return m
}

// starve puts the receiver in line for the next messages. What it was woken for is not there any more.
func (r *receiver) starve() {
	r.queue.promised -= r.promised
	r.promised = 0
	r.wants = int64(r.link.credit)
	if r.hunger == nil {
		r.hunger = r.queue.hungry.PushBack(r)
	}
}

// eat takes the receiver out of the line, and leaves what was promised to it to others.
func (r *receiver) eat() {
	q := r.queue
	q.hungry.Remove(r.hunger)
	q.promised -= r.promised
	r.hunger, r.promised = nil, 0
	q.feed()
}

// sated is told that the client can take no message at the moment, whatever it could before.
func (r *receiver) sated() {
	if r.hunger == nil { // which no other goroutine changes
		return
	}
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	r.eat()
}

// release lets go of the session at once. Messages without a session stay locked until their locks end: the client may
// settle them by $management.
func (r *receiver) release() {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.links, r.link)
	q.stopWaiting(r)
	if r.hunger != nil {
		r.eat()
	}
	if r.session != nil {
		q.releaseSession(r.session, q.now())
	}
}

func (r *receiver) settle(tag [16]byte, s wire.State) wire.State {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.sweep(now)
	m := q.withLock(guid(tag))
	if m == nil {
		if q.Sessions && r.session == nil {
			return &wire.Rejected{Error: q.sessionLost()}
		}
		return &wire.Rejected{Error: q.lockLost()}
	}
	outcome, err := q.settle(m, s, now)
	if err != nil {
		return &wire.Rejected{Error: asAMQP(err)}
	}
	return outcome
}

func (q *queue) lockLost() *wire.Error {
	return &wire.Error{Condition: conditionLockLost, Description: q.e.describe(q.path,
		"The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue, or was received by a different receiver instance.")}
}

// settle does with a locked message what a client says, and returns the outcome that it is told. It is of the same
// type, but bare: to a client, an error in it means that it was refused.
func (q *queue) settle(m *message, s wire.State, now int64) (wire.State, error) {
	switch s := s.(type) {
	case *wire.Accepted:
		q.complete(m)
	case *wire.Modified:
		if err := q.modify(m, s.Annotations); err != nil {
			return nil, err
		}
		if s.Undeliverable {
			q.deferMessage(m)
		} else {
			q.abandon(m, now)
		}
		return &wire.Modified{Failed: s.Failed, Undeliverable: s.Undeliverable}, nil
	case *wire.Rejected:
		var info wire.Map
		if s.Error != nil {
			info = s.Error.Info
		}
		return &wire.Rejected{}, q.deadLetterAs(m, info)
	default: // released, or settled without an outcome
		q.release(m, now)
	}
	return s, nil
}

// modify sets application properties of a message.
func (q *queue) modify(m *message, changes wire.Map) error {
	changed, err := m.content.withProperties(changes)
	if err != nil {
		return err
	}
	q.info.Bytes += changed.size() - m.size()
	m.content = changed
	return nil
}

// deadLetterAs dead-letters a message as its receiver wants it: with a reason and a description, if they are text, and
// other properties. From a dead-letter queue there is no further way.
func (q *queue) deadLetterAs(m *message, info wire.Map) error {
	if q.deadLetter == nil {
		return &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path, "a message in a dead-letter queue cannot be dead-lettered")}
	}
	var properties wire.Map
	for _, p := range info {
		name := ruleValue(p.Key) // a string, of symbols too
		if _, isText := p.Value.(string); !isText && (name == propertyReason || name == propertyDescription) {
			continue
		}
		properties = append(properties, p)
	}
	rejected, err := m.withProperties(properties)
	if err != nil {
		return err
	}
	q.bury(m, rejected)
	return nil
}
