package emulator

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"persistor/emulator/internal/wire"
)

// queue holds messages for receivers: it is a queue, a subscription or the dead-letter queue of one of them; and for a
// topic it holds what is scheduled, and passes the rest on.
//
// Its lock is taken after that of a connection, a topic's before its subscriptions', and a queue's before that of its
// dead-letter queue. Links are kicked and connections woken while it is held, for which no other lock is needed.
type queue struct {
	Queue
	e          *Emulator
	path       string // as it was made: orders, or topic/Subscriptions/audit
	deadLetter *queue // nil if this is a dead-letter queue
	topic      *topic // of a topic's own queue
	rules      *rules // of a subscription

	mu         sync.Mutex
	disabled   bool
	closed     bool
	links      map[*link]struct{} // that are attached
	store      messageStore
	made       *syntheticMessages // of a synthetic queue
	last       int64              // sequence number of the last message
	lastMade   int64              // enqueued time of the last message, Unix ms
	lane       lane               // without sessions
	locks      lockList           // without sessions
	hungry     list.List          // of *receiver: those that want messages, the longest waiting first
	promised   int64              // messages that hungry receivers were woken for
	sessions   map[string]*messageSession
	available  list.List // of *messageSession: those that a receiver can accept next
	held       list.List // of *messageSession: those that are locked, by the end of their locks
	waiting    list.List // of *receiver: those that wait for a session to accept
	expiring   byTime    // messages that have an end and can be received
	scheduled  byTime
	duplicates duplicates
	info       QueueInfo
	armed      int64 // when the timer rings
	timer      *time.Timer
}

// System reasons for which messages are dead-lettered.
const (
	reasonDeliveries = "MaxDeliveryCountExceeded"
	reasonExpired    = "TTLExpiredException"
	reasonNoSession  = "Session ID is null"
)

const (
	propertyReason      = "DeadLetterReason"
	propertyDescription = "DeadLetterErrorDescription"
)

func newQueue(e *Emulator, path string, o Queue) *queue {
	q := &queue{Queue: o, e: e, path: path, links: map[*link]struct{}{}, sessions: map[string]*messageSession{}, armed: never}
	q.expiring.due = func(m *message) int64 { return m.expires }
	q.scheduled.due = func(m *message) int64 { return m.content.scheduled }
	q.duplicates.window = o.DuplicateDetection.Milliseconds()
	return q
}

// newDeadLetterQueue makes the dead-letter queue of a queue.
func newDeadLetterQueue(of *queue, path string) *queue {
	return newQueue(of.e, path, Queue{Name: of.Name, LockDuration: of.LockDuration, MaxMessageSize: of.MaxMessageSize})
}

func (q *queue) now() int64 { return q.e.now().UnixMilli() }

// laneOf is where a message waits to be received.
func (q *queue) laneOf(m *message) *lane {
	if m.group != nil {
		return &m.group.lane
	}
	return &q.lane
}

func (q *queue) locksOf(m *message) *lockList {
	if m.group != nil {
		return &m.group.locks
	}
	return &q.locks
}

// send takes messages in that a client sent, all or none.
func (q *queue) send(contents []*content) *wire.Error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.sweep(now)
	if refusal := q.refuse(contents); refusal != nil {
		return refusal
	}
	for _, c := range contents {
		q.receive(c, now)
	}
	q.arm(now)
	return nil
}

// refuse says why messages cannot be sent.
func (q *queue) refuse(contents []*content) *wire.Error {
	if q.disabled {
		return q.isDisabled()
	}
	size := q.info.Bytes
	for _, c := range contents {
		size += c.size()
		if q.Sessions && c.session == nil {
			return &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path,
				"The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have session support enabled can only receive messages that have the SessionId set to a valid value.")}
		}
	}
	if q.MaxSize > 0 && size > q.MaxSize {
		return &wire.Error{Condition: wire.ConditionResourceLimitExceeded, Description: q.e.describe(q.path,
			"The maximum entity size has been reached or exceeded: the entity '%s' is full. Its size is %d bytes, the maximum is %d.", q.path, q.info.Bytes, q.MaxSize)}
	}
	return nil
}

func (q *queue) isDisabled() *wire.Error {
	return &wire.Error{Condition: conditionDisabled, Description: q.e.describe(q.path, "Messaging entity '%s' is currently disabled.", q.path)}
}

// receive takes one message in, unless it is a duplicate, and returns its sequence number.
func (q *queue) receive(c *content, now int64) int64 {
	q.info.Sent++
	if q.duplicates.seen(c, now) {
		q.info.Duplicates++
		return 0
	}
	if c.scheduled > now {
		m := q.add(c, MessageScheduled, now)
		q.scheduled.add(m)
		q.info.Scheduled++
		return m.sequence
	}
	return q.enqueue(c, now)
}

// enqueue makes a message active, or passes it on if this is a topic. It returns its sequence number.
func (q *queue) enqueue(c *content, now int64) int64 {
	if q.topic != nil {
		q.last++
		q.topic.publish(c, q.last, now)
		return q.last
	}
	if q.Sessions && c.session == nil {
		q.last++
		q.info.DeadLettered++
		q.deadLetter.accept(c.rejected(reasonNoSession, "The message has no session id, which the entity requires."), 0, q.path, q.last, now)
		return q.last
	}
	m := q.add(c, MessageActive, now)
	q.laneOf(m).add(m)
	q.info.Active++
	q.watch(m)
	q.offer(m)
	return m.sequence
}

// add stores a new message.
func (q *queue) add(c *content, state MessageState, now int64) *message {
	// The service never dates a message before the one that it follows, whatever its clocks do.
	q.lastMade = max(q.lastMade, now)
	q.last++
	m := &message{content: c, sequence: q.last, enqueued: q.lastMade, state: state, expires: never, position: -1}
	if state == MessageActive {
		q.limit(m)
	}
	if q.Sessions && state == MessageActive {
		m.group = q.session(*c.session)
		m.group.messages++
	}
	q.store.put(m)
	q.info.Bytes += m.size()
	return m
}

// limit gives a message its end: the sooner of what its sender and what the queue say.
func (q *queue) limit(m *message) {
	ttl := m.ttl
	if most := q.TTL.Milliseconds(); most > 0 && (ttl == 0 || ttl > most) {
		ttl = most
	}
	if ttl == 0 {
		return
	}
	m.expires = m.enqueued + ttl
	limited := *m.content
	limited.ttl = ttl
	limited.properties = nil
	for section := range wire.Sections(m.properties) {
		fields, _ := wire.ParsePropertyFields(section.Value)
		fields[wire.PropertyAbsoluteExpiryTime] = wire.AppendTimestamp(nil, m.expires)
		if fields[wire.PropertyCreationTime] == nil {
			fields[wire.PropertyCreationTime] = wire.AppendTimestamp(nil, m.enqueued)
		}
		limited.properties = wire.AppendPropertyFields(nil, &fields)
	}
	m.content = &limited
}

// watch sees that an active message goes when its time is over.
func (q *queue) watch(m *message) {
	if m.expires != never && m.position < 0 {
		q.expiring.add(m)
	}
}

// offer tells whoever may want it that there is a message more.
func (q *queue) offer(m *message) {
	if m.group != nil {
		q.offerSession(m.group)
		return
	}
	q.feed()
}

// feed wakes hungry receivers, the longest waiting first, for what there is to receive. What a receiver was woken for is
// promised to it, so that none that comes later takes it away.
func (q *queue) feed() {
	for e := q.hungry.Front(); e != nil && q.lane.ready > q.promised; e = e.Next() {
		r := e.Value.(*receiver)
		if n := min(r.wants-r.promised, q.lane.ready-q.promised); n > 0 {
			if r.promised == 0 {
				r.link.s.c.wake()
			}
			r.promised += n
			q.promised += n
		}
	}
}

// lock gives a message a lock with a new token.
func (q *queue) lock(m *message, now int64) {
	m.locked = true
	m.token = rand.Uint64()
	m.lockedUntil = now + q.LockDuration.Milliseconds()
	if m.group != nil {
		m.lockedUntil = m.group.lockedUntil
	}
	q.locksOf(m).add(m)
	if m.state == MessageActive {
		q.info.Active--
		q.info.Locked++
	}
	q.expiring.remove(m)
	q.arm(now)
}

func (q *queue) unlock(m *message) {
	m.locked = false
	q.locksOf(m).remove(m)
	if m.state == MessageActive {
		q.info.Locked--
		q.info.Active++
	}
}

// lockToken is a lock's token: what tells this lock from others of the message, and the message's number to find it by.
func (m *message) lockToken() wire.UUID {
	var token wire.UUID
	binary.BigEndian.PutUint64(token[:], m.token)
	binary.BigEndian.PutUint64(token[8:], uint64(m.sequence))
	return token
}

// withLock finds the message that has the lock of a token, nil if it is lost.
func (q *queue) withLock(token wire.UUID) *message {
	m := q.store.at(int64(binary.BigEndian.Uint64(token[8:])))
	if m == nil || !m.locked || m.token != binary.BigEndian.Uint64(token[:]) {
		return nil
	}
	return m
}

// guid reorders a token as delivery tags have it, in the order of a .NET GUID; a second time it reorders it back.
func guid(t [16]byte) [16]byte {
	return [16]byte{t[3], t[2], t[1], t[0], t[5], t[4], t[7], t[6], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15]}
}

// remove takes a message out of the queue for good.
func (q *queue) remove(m *message) {
	waits := m.state == MessageActive && !m.locked
	if m.locked {
		q.unlock(m)
	}
	switch m.state {
	case MessageActive:
		q.info.Active--
		q.expiring.remove(m)
	case MessageDeferred:
		q.info.Deferred--
	case MessageScheduled:
		q.info.Scheduled--
		q.scheduled.remove(m)
	}
	q.info.Bytes -= m.size()
	q.store.remove(m)
	m.state, m.content = messageGone, nil
	if waits {
		q.laneOf(m).drop()
	}
	if m.group != nil {
		m.group.messages--
		q.forget(m.group)
	}
}

// complete removes a message that was dealt with.
func (q *queue) complete(m *message) {
	q.info.Completed++
	q.remove(m)
}

// release ends a message's lock as if it had never been. A message whose time is over goes with the next sweep.
func (q *queue) release(m *message, now int64) {
	q.unlock(m)
	if m.state == MessageDeferred {
		return
	}
	q.laneOf(m).giveBack(m)
	q.watch(m)
	q.offer(m)
	q.arm(now)
}

// abandon ends a message's lock and counts a failed delivery. One that failed too often is dead-lettered; in a
// dead-letter queue the count stands still.
func (q *queue) abandon(m *message, now int64) {
	q.info.Abandoned++
	if q.deadLetter != nil {
		m.deliveries++
		if m.deliveries >= uint32(q.MaxDeliveryCount) {
			q.bury(m, m.rejected(reasonDeliveries, fmt.Sprintf("Message could not be consumed after %d delivery attempts.", q.MaxDeliveryCount)))
			return
		}
	}
	q.release(m, now)
}

// deferMessage sets a message aside until it is asked for by its number.
func (q *queue) deferMessage(m *message) {
	q.unlock(m)
	if m.state == MessageActive {
		q.info.Active--
		q.info.Deferred++
		m.state = MessageDeferred
	}
}

// expire ends a message whose time is over.
func (q *queue) expire(m *message) {
	q.info.Expired++
	if q.DeadLetterOnExpiration && q.deadLetter != nil {
		q.bury(m, m.rejected(reasonExpired, "The message expired and was dead lettered."))
		return
	}
	q.remove(m)
}

// bury moves a message to the dead-letter queue, with the properties that say why.
func (q *queue) bury(m *message, as *content) {
	q.remove(m)
	q.info.DeadLettered++
	q.deadLetter.accept(as, m.deliveries, q.path, m.sequence, m.enqueued)
}

// rejected returns a message with the properties that say why it was dead-lettered.
func (c *content) rejected(reason, description string) *content {
	rejected, err := c.withProperties(wire.Map{{Key: propertyReason, Value: reason}, {Key: propertyDescription, Value: description}})
	if err != nil {
		panic(err) // strings are simple
	}
	return rejected
}

// accept takes a message in that was dead-lettered. It keeps its enqueued time and its number, unless the number is taken
// by one that a test put here, and from now on has no end.
func (q *queue) accept(c *content, deliveries uint32, source string, origin, enqueued int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.sweep(now)
	q.info.Sent++
	sequence := origin
	if q.store.at(sequence) != nil {
		sequence = q.last + 1
	}
	q.last = max(q.last, sequence)
	m := &message{content: c, sequence: sequence, enqueued: enqueued, expires: never, deliveries: deliveries, source: source, origin: origin, position: -1}
	q.store.put(m)
	q.info.Bytes += c.size()
	q.info.Active++
	q.lane.giveBack(m) // numbers come in any order
	q.offer(m)
}

// sweep does what is due: it ends locks and messages, and enqueues what was scheduled.
func (q *queue) sweep(now int64) {
	for q.locks.next() <= now {
		q.abandon(q.locks.first, now)
	}
	for e := q.held.Front(); e != nil && e.Value.(*messageSession).lockedUntil <= now; e = q.held.Front() {
		q.loseSession(e.Value.(*messageSession), now)
	}
	for q.expiring.next() <= now {
		q.expire(q.expiring.bySequence[0])
	}
	for q.scheduled.next() <= now {
		m := q.scheduled.bySequence[0]
		c := m.content
		q.remove(m)
		q.enqueue(c, now)
	}
}

// arm sets the timer for what is due next.
func (q *queue) arm(now int64) {
	due := min(q.locks.next(), q.expiring.next(), q.scheduled.next())
	if e := q.held.Front(); e != nil {
		due = min(due, e.Value.(*messageSession).lockedUntil)
	}
	if due >= q.armed || q.closed {
		return
	}
	q.armed = due
	wait := time.Duration(max(due-now, 0)) * time.Millisecond
	if q.e.options.Now != nil { // whose clock may be set
		wait = min(wait, clockPoll)
	}
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.ring)
	} else {
		q.timer.Reset(wait)
	}
}

// clockPoll is how often a clock is looked at that is not the real one, while something is due at some time.
const clockPoll = 10 * time.Millisecond

func (q *queue) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.armed = never
	now := q.now()
	q.sweep(now)
	q.arm(now)
}

// close ends what the queue does by itself.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	for e := q.waiting.Front(); e != nil; e = e.Next() {
		e.Value.(*receiver).timeout.Stop()
	}
}

// duplicates knows the messages that were sent within a window of time.
type duplicates struct {
	window int64 // ms, 0 for none
	known  map[string]int64
	order  []*sentID // oldest first
}

type sentID struct {
	id string
	at int64
}

// seen reports whether a message of the same id was sent before, and takes note of it if not.
func (d *duplicates) seen(c *content, now int64) bool {
	if d.window == 0 {
		return false
	}
	for len(d.order) > 0 && d.order[0].at+d.window <= now {
		delete(d.known, d.order[0].id)
		d.order = d.order[1:]
	}
	id := string(c.id) // its type with its value
	if _, known := d.known[id]; known {
		return true
	}
	if d.known == nil {
		d.known = map[string]int64{}
	}
	d.known[id] = now
	d.order = append(d.order, &sentID{id, now})
	return false
}
