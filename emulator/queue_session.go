package emulator

import (
	"container/list"
	"time"

	"persistor/emulator/internal/wire"
)

// messageSession is a session of a queue, whose lock guards it: the messages of one session id, of which one receiver
// at a time has the lock, and a state that receivers leave to the next.
type messageSession struct {
	id          string
	lane        lane
	locks       lockList
	messages    int64     // active, locked or deferred; of a synthetic queue also those that it has not made
	holder      *receiver // that has the lock
	lockedUntil int64     // Unix ms
	holding     *list.Element
	listed      *list.Element // among those that can be accepted next
	state       []byte        // nil for none
	stateSet    int64         // when, Unix ms
}

const (
	conditionSessionLocked = "com.microsoft:session-cannot-be-locked"
	conditionSessionLost   = "com.microsoft:session-lock-lost"
	conditionTimeout       = "com.microsoft:timeout"
	// nextSessionWait is how long a receiver waits for a session if it doesn't say.
	nextSessionWait = time.Minute
)

// session finds a session, or begins it.
func (q *queue) session(id string) *messageSession {
	g := q.sessions[id]
	if g == nil {
		g = &messageSession{id: id}
		q.sessions[id] = g
	}
	return g
}

// forget takes a session that has nothing to receive off those that can be accepted next, and lets go of one of which
// there is nothing to remember.
func (q *queue) forget(g *messageSession) {
	if g.lane.ready == 0 {
		q.unlist(g)
	}
	if g.messages == 0 && g.holder == nil && g.state == nil {
		delete(q.sessions, g.id)
	}
}

// offerSession tells whoever may want it that a session has something to receive: its receiver, or one that waits for
// the next session.
func (q *queue) offerSession(g *messageSession) {
	switch {
	case g.holder != nil:
		g.holder.link.s.c.wake()
		return
	case g.lane.ready == 0 || g.listed != nil:
		return
	}
	g.listed = q.available.PushBack(g)
	for q.waiting.Len() > 0 && q.available.Len() > 0 {
		r := q.waiting.Front().Value.(*receiver)
		q.stopWaiting(r)
		g := q.available.Front().Value.(*messageSession)
		q.grant(g, r)
		r.link.decide(decision{granted: granted{session: &sessionGrant{g.id, g.lockedUntil}}})
	}
}

func (q *queue) unlist(g *messageSession) {
	if g.listed != nil {
		q.available.Remove(g.listed)
		g.listed = nil
	}
}

// sessionGrant is the session that a receiver got.
type sessionGrant struct {
	id          string
	lockedUntil int64 // Unix ms
}

// acceptNamed gives a receiver a session by its id, which need not exist.
func (q *queue) acceptNamed(r *receiver, id string) (*sessionGrant, *wire.Error) {
	if tooLong(id) {
		return nil, &wire.Error{Condition: conditionArgument, Description: q.e.describe(q.path, "The session id has more than %d characters.", maxIDLength)}
	}
	g := q.session(id)
	if g.holder != nil {
		return nil, &wire.Error{Condition: conditionSessionLocked, Description: q.e.describe(q.path,
			"The requested session '%s' cannot be accepted. It may be locked by another receiver.", id)}
	}
	q.grant(g, r)
	return &sessionGrant{g.id, g.lockedUntil}, nil
}

// acceptNext gives a receiver the session that has waited longest, or has it wait for one and returns nil.
func (q *queue) acceptNext(r *receiver, wait time.Duration) *sessionGrant {
	if first := q.available.Front(); first != nil {
		g := first.Value.(*messageSession)
		q.grant(g, r)
		return &sessionGrant{g.id, g.lockedUntil}
	}
	r.waits = q.waiting.PushBack(r)
	r.timeout = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.stopWaiting(r)
		// If it got one in the last moment, that is what counts.
		r.link.decide(decision{refusal: &wire.Error{Condition: conditionTimeout, Description: q.e.describe(q.path,
			"The operation did not complete within the allotted timeout of %s. The time allotted to this operation may have been a portion of a longer timeout.", clock(wait))}})
	})
	return nil
}

func (q *queue) stopWaiting(r *receiver) {
	if r.waits != nil {
		q.waiting.Remove(r.waits)
		r.waits = nil
		r.timeout.Stop()
	}
}

// grant locks a session for a receiver.
func (q *queue) grant(g *messageSession, r *receiver) {
	q.unlist(g)
	g.holder, r.session = r, g
	g.holding = q.held.PushBack(g)
	q.renewSession(g)
}

// renewSession has the lock of a session begin anew.
func (q *queue) renewSession(g *messageSession) {
	now := q.now()
	g.lockedUntil = now + q.LockDuration.Milliseconds()
	after := q.held.Back()
	for after != nil && (after == g.holding || after.Value.(*messageSession).lockedUntil > g.lockedUntil) {
		after = after.Prev()
	}
	if after == nil {
		q.held.MoveToFront(g.holding)
	} else {
		q.held.MoveAfter(g.holding, after)
	}
	q.arm(now)
}

// releaseSession ends the lock of a session whose receiver is gone. Its messages come back as if they had not been
// received.
func (q *queue) releaseSession(g *messageSession, now int64) {
	q.freeSession(g, func(m *message) { q.release(m, now) })
}

// loseSession ends the lock of a session whose time is over. Its messages' deliveries have failed.
func (q *queue) loseSession(g *messageSession, now int64) {
	g.holder.link.kick(q.sessionLost())
	q.freeSession(g, func(m *message) { q.abandon(m, now) })
}

func (q *queue) freeSession(g *messageSession, end func(*message)) {
	// Its messages come back before others can have it.
	for g.locks.first != nil {
		end(g.locks.first)
	}
	g.holder.session = nil
	g.holder = nil
	q.held.Remove(g.holding)
	g.holding = nil
	q.offerSession(g)
	q.forget(g)
}

func (q *queue) sessionLost() *wire.Error {
	return &wire.Error{Condition: conditionSessionLost, Description: q.e.describe(q.path,
		"The session lock has expired on the MessageSession. Accept a new MessageSession.")}
}
