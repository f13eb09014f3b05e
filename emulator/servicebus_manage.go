package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"persistor/emulator/internal/wire"
)

const (
	operationPrefix = "com.microsoft:"
	propertyLink    = "associated-link-name"
	maxPeek         = 1 << 20 // bytes of the messages of one reply, unless the first alone has more
	maxListed       = 1000    // messages or sessions of one reply
)

// attachManagement gives a link the queue's own $management node. Its requests are answered at once, each with a status
// as HTTP has them.
//
// Left out: a request's server-timeout, since no request waits.
func (q *queue) attachManagement(l *link, a *wire.Attach) (granted, *wire.Error) {
	c := l.s.c
	n := &rpcNode{
		name: strings.ToLower(q.path) + "/" + managementNode, most: uint64(q.MaxMessageSize) + maxRequest,
		serve: func(r *request) *reply { return q.manage(c, r) },
	}
	return n.attach(l, a)
}

// An operation is what a request to a queue's $management asks for: something of the queue, or of its rules.
type operation struct {
	right   right
	do      func(*management) (wire.Map, error)
	ofRules func(*rules, wire.Map) *reply
}

// management is a request to a queue's $management while it is answered, with the queue's lock.
type management struct {
	queue *queue
	now   int64
	body  wire.Map
	link  string // the name of the receiver's or sender's link that the request belongs to, empty for none
}

// An emptyReply is the error of a request that found nothing, which is none to the client.
type emptyReply struct{}

func (emptyReply) Error() string { return "nothing was found" }

// operations are those that there are, by name without its prefix.
var operations = map[string]operation{
	"renew-lock":                 {right: rightListen, do: (*management).renewLocks},
	"renew-session-lock":         {right: rightListen, do: (*management).renewSession},
	"peek-message":               {right: rightListen, do: (*management).peek},
	"receive-by-sequence-number": {right: rightListen, do: (*management).receiveDeferred},
	"update-disposition":         {right: rightListen, do: (*management).updateDisposition},
	"schedule-message":           {right: rightSend, do: (*management).schedule},
	"cancel-scheduled-message":   {right: rightSend, do: (*management).cancelScheduled},
	"get-session-state":          {right: rightListen, do: (*management).sessionState},
	"set-session-state":          {right: rightListen, do: (*management).setSessionState},
	"get-message-sessions":       {right: rightListen, do: (*management).listSessions},
	"batch-delete-messages":      {right: rightListen, do: (*management).deleteBatch},
	"add-rule":                   {right: rightListen, ofRules: (*rules).addRule},
	"remove-rule":                {right: rightListen, ofRules: (*rules).removeRule},
	"enumerate-rules":            {right: rightListen, ofRules: (*rules).enumerateRules},
}

// manage answers a request. The lock of the connection is held.
func (q *queue) manage(c *connection, r *request) *reply {
	name := r.properties.String("operation")
	short, _ := strings.CutPrefix(name, operationPrefix)
	o, ok := operations[short]
	if !ok || short == name {
		return refuse(http.StatusNotImplemented, wire.ConditionNotImplemented, "there is no operation "+quoteShort(name))
	}
	if refusal := c.authorize(claimNeed{path: strings.ToLower(q.path) + "/" + managementNode, right: o.right}); refusal != nil {
		return refuse(http.StatusUnauthorized, refusal.Condition, refusal.Description)
	}
	m := &management{queue: q, link: r.properties.String(propertyLink)}
	m.body, _ = r.body.(wire.Map)
	c.use(m.link)
	if o.ofRules != nil {
		if q.rules == nil {
			return refuse(http.StatusBadRequest, wire.ConditionNotAllowed, "only a subscription has rules, not "+q.path)
		}
		return o.ofRules(q.rules, m.body)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.disabled {
		return refusal(q.isDisabled())
	}
	m.now = q.now()
	q.sweep(m.now)
	body, err := o.do(m)
	q.arm(m.now)
	switch err := err.(type) {
	case nil:
		lost := short == "update-disposition" && q.e.faults.take(&q.e.faults.settlements)
		return &reply{status: http.StatusOK, description: "OK", body: body, lost: lost}
	case emptyReply:
		return &reply{status: http.StatusNoContent, description: "No Content", body: wire.Map{}}
	case *wire.Error:
		return refusal(err)
	default:
		return refuse(http.StatusBadRequest, conditionArgument, err.Error())
	}
}

// use takes note that a link of the connection is not idle.
func (c *connection) use(name string) {
	if name == "" {
		return
	}
	for _, s := range c.sessions {
		for _, l := range s.links {
			if l.name == name {
				l.used = time.Now()
			}
		}
	}
}

// refusal is the reply that goes with an error.
func refusal(err *wire.Error) *reply {
	status, ok := map[string]int{
		conditionLockLost: http.StatusGone, conditionSessionLost: http.StatusGone, conditionNoMessage: http.StatusNotFound,
		wire.ConditionNotFound: http.StatusNotFound, conditionDisabled: http.StatusForbidden, wire.ConditionResourceLimitExceeded: http.StatusForbidden,
	}[err.Condition]
	if !ok {
		status = http.StatusBadRequest
	}
	return refuse(status, err.Condition, err.Description)
}

const conditionNoMessage = "com.microsoft:message-not-found"

func (m *management) noMessage(sequence int64) *wire.Error {
	return &wire.Error{Condition: conditionNoMessage, Description: m.queue.e.describe(m.queue.path,
		"Failed to lock one or more specified messages: the message %d does not exist.", sequence)}
}

// integer returns an integer of any width that a request has, or otherwise if it has none.
func (m *management) integer(key string, otherwise int64) (int64, error) {
	v := m.body.Get(key)
	if v == nil {
		return otherwise, nil
	}
	n, ok := ruleValue(v).(int64)
	if !ok {
		return 0, fmt.Errorf("the request's %s is no integer but %T", key, v)
	}
	return n, nil
}

// values returns the values of an array, or of a list, that a request has.
func values[T any](m *management, key string) ([]T, error) {
	var items []any
	switch v := m.body.Get(key).(type) {
	case wire.Array:
		items = v
	case []any:
		items = v
	default:
		return nil, fmt.Errorf("the request's %s is no array but %T", key, v)
	}
	all := make([]T, len(items))
	for i, item := range items {
		v, ok := item.(T)
		if !ok {
			return nil, fmt.Errorf("the request's %s holds a %T", key, item)
		}
		all[i] = v
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the request's %s is empty", key)
	}
	return all, nil
}

// locked returns the messages that have the locks of the request's tokens: all or an error.
func (m *management) locked() ([]*message, error) {
	tokens, err := values[wire.UUID](m, "lock-tokens")
	if err != nil {
		return nil, err
	}
	messages := make([]*message, len(tokens))
	for i, token := range tokens {
		messages[i] = m.queue.withLock(token)
		if messages[i] == nil || slices.Contains(messages[:i], messages[i]) {
			return nil, m.queue.lockLost()
		}
	}
	return messages, nil
}

func (m *management) renewLocks() (wire.Map, error) {
	q := m.queue
	messages, err := m.locked()
	if err != nil {
		return nil, err
	}
	expirations := make([]wire.Timestamp, len(messages))
	for i, message := range messages {
		if message.group == nil {
			q.locks.remove(message)
			message.lockedUntil = m.now + q.LockDuration.Milliseconds()
			q.locks.add(message)
			expirations[i] = wire.Timestamp(message.lockedUntil)
		} else { // its lock is that of the session
			expirations[i] = wire.Timestamp(message.group.lockedUntil)
		}
	}
	return wire.Map{{Key: "expirations", Value: expirations}}, nil
}

// session returns the session that the request is about, which the receiver must have.
func (m *management) session() (*messageSession, error) {
	q := m.queue
	if !q.Sessions {
		return nil, &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path, "the entity does not require sessions")}
	}
	id, ok := m.body.Get("session-id").(string)
	if !ok {
		return nil, fmt.Errorf("the request's session-id is no string but %T", m.body.Get("session-id"))
	}
	if g := q.sessions[id]; g != nil && m.holds(g) {
		return g, nil
	}
	return nil, q.sessionLost()
}

// holds reports whether the receiver that makes the request has the session. One that doesn't tell its link is believed.
func (m *management) holds(g *messageSession) bool {
	return g.holder != nil && (m.link == "" || g.holder.link.name == m.link)
}

func (m *management) renewSession() (wire.Map, error) {
	g, err := m.session()
	if err != nil {
		return nil, err
	}
	m.queue.renewSession(g)
	return wire.Map{{Key: "expiration", Value: wire.Timestamp(g.lockedUntil)}}, nil
}

func (m *management) sessionState() (wire.Map, error) {
	g, err := m.session()
	if err != nil {
		return nil, err
	}
	if g.state == nil {
		return wire.Map{{Key: "session-state", Value: nil}}, nil
	}
	return wire.Map{{Key: "session-state", Value: g.state}}, nil
}

func (m *management) setSessionState() (wire.Map, error) {
	g, err := m.session()
	if err != nil {
		return nil, err
	}
	switch state := m.body.Get("session-state").(type) {
	case nil:
		g.state = nil
	case []byte:
		g.state = state
		if len(state) == 0 { // which the client for Go says for nil
			g.state = nil
		}
	default:
		return nil, fmt.Errorf("the request's session-state is no binary but %T", state)
	}
	g.stateSet = m.now
	return nil, nil
}

// forever is the time before which clients ask for sessions when they mean those with messages or a state; they write
// it differently.
const forever = 253402300799000

// listSessions lists the sessions with messages that are active or a state, or those whose state was set after some
// time.
func (m *management) listSessions() (wire.Map, error) {
	q := m.queue
	after, ok := m.body.Get("last-updated-time").(wire.Timestamp)
	if !ok {
		after = forever
	}
	skip, err := m.integer("skip", 0)
	if err != nil {
		return nil, err
	}
	top, err := m.integer("top", maxListed)
	if err != nil {
		return nil, err
	}
	var ids []string
	for id, g := range q.sessions {
		if after < forever && g.state != nil && g.stateSet > int64(after) || after >= forever && (g.state != nil || g.active() > 0) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	ids = ids[min(max(skip, 0), int64(len(ids))):]
	ids = ids[:min(max(top, 0), maxListed, int64(len(ids)))]
	if len(ids) == 0 {
		return nil, emptyReply{}
	}
	return wire.Map{{Key: "skip", Value: int32(skip) + int32(len(ids))}, {Key: "sessions-ids", Value: ids}}, nil
}

// active is how many messages of the session can be received or are locked.
func (g *messageSession) active() int64 {
	n := g.lane.ready
	for m := range g.locks.all() {
		if m.state == MessageActive {
			n++
		}
	}
	return n
}

// peek lists messages in whatever state, and leaves them as they are.
func (m *management) peek() (wire.Map, error) {
	from, err := m.integer("from-sequence-number", 0)
	if err != nil {
		return nil, err
	}
	count, err := m.integer("message-count", 1)
	if err != nil {
		return nil, err
	}
	bare, _ := m.body.Get("omit-message-body").(bool)
	session, ofSession := m.body.Get("session-id").(string)
	if g := m.holding(); g != nil && !ofSession {
		session, ofSession = g.id, true
	}
	var messages []any
	size := 0
	for found := range m.queue.all(from) {
		if int64(len(messages)) >= min(count, maxListed) {
			break
		}
		if ofSession && (found.session == nil || *found.session != session) {
			continue
		}
		peeked := *found
		peeked.locked = false // of the lock nothing is told
		if bare {
			head := *found.content
			head.body, head.made = nil, nil
			peeked.content = &head
		}
		encoded := peeked.append(nil)
		if size += len(encoded); size > maxPeek && len(messages) > 0 {
			break
		}
		messages = append(messages, wire.Map{{Key: "message", Value: encoded}})
	}
	if len(messages) == 0 {
		return nil, emptyReply{}
	}
	return wire.Map{{Key: "messages", Value: messages}}, nil
}

// holding is the session that the receiver has which makes the request, nil if it has none.
func (m *management) holding() *messageSession {
	if m.link == "" {
		return nil
	}
	for e := m.queue.held.Front(); e != nil; e = e.Next() {
		if g := e.Value.(*messageSession); m.holds(g) {
			return g
		}
	}
	return nil
}

// receiveDeferred receives deferred messages by their numbers: all or none.
func (m *management) receiveDeferred() (wire.Map, error) {
	q := m.queue
	sequences, err := values[int64](m, "sequence-numbers")
	if err != nil {
		return nil, err
	}
	mode, err := m.integer("receiver-settle-mode", wire.ReceiverSecond)
	if err != nil {
		return nil, err
	}
	session, ofSession := m.body.Get("session-id").(string)
	found := make([]*message, len(sequences))
	for i, sequence := range sequences {
		message := q.store.at(sequence)
		switch {
		case message == nil || message.state != MessageDeferred || message.locked || slices.Contains(found[:i], message),
			ofSession && (message.group == nil || message.group.id != session):
			return nil, m.noMessage(sequence)
		case message.group != nil && !m.holds(message.group):
			return nil, q.sessionLost()
		}
		found[i] = message
	}
	messages := make([]any, len(found))
	for i, message := range found {
		if mode == wire.ReceiverFirst {
			messages[i] = wire.Map{{Key: "message", Value: message.append(nil)}}
			q.complete(message)
			continue
		}
		q.lock(message, m.now)
		messages[i] = wire.Map{{Key: "lock-token", Value: message.lockToken()}, {Key: "message", Value: message.append(nil)}}
	}
	return wire.Map{{Key: "messages", Value: messages}}, nil
}

// updateDisposition settles messages by their lock tokens, of whatever link they were received on: all or none.
func (m *management) updateDisposition() (wire.Map, error) {
	messages, err := m.locked()
	if err != nil {
		return nil, err
	}
	changes, _ := m.body.Get("properties-to-modify").(wire.Map)
	if _, err := messages[0].withProperties(changes); err != nil {
		return nil, err
	}
	var outcome wire.State
	switch status := m.body.String("disposition-status"); status {
	case "completed":
		outcome = &wire.Accepted{}
	case "abandoned":
		outcome = &wire.Modified{Annotations: changes}
	case "defered", "deferred":
		outcome = &wire.Modified{Undeliverable: true, Annotations: changes}
	case "suspended":
		info := wire.Map{{Key: propertyReason, Value: m.body.Get("deadletter-reason")}, {Key: propertyDescription, Value: m.body.Get("deadletter-description")}}
		outcome = &wire.Rejected{Error: &wire.Error{Condition: conditionDeadLetter, Info: append(info, changes...)}}
	default:
		return nil, fmt.Errorf("the disposition-status %s is not known", quoteShort(status))
	}
	for _, message := range messages {
		if _, err := m.queue.settle(message, outcome, m.now); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// schedule takes messages in that are to be enqueued later, all or none, and returns their numbers.
func (m *management) schedule() (wire.Map, error) {
	q := m.queue
	entries, err := values[wire.Map](m, "messages")
	if err != nil {
		return nil, err
	}
	contents := make([]*content, len(entries))
	for i, entry := range entries {
		encoded, ok := entry.Get("message").([]byte)
		if !ok {
			return nil, fmt.Errorf("a message of the request is no binary but %T", entry.Get("message"))
		}
		if contents[i], err = parseContent(encoded); err != nil {
			return nil, err
		}
	}
	if reason := q.unsendable(); reason != "" {
		return nil, &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path, "%s", reason)}
	}
	if refusal := q.refuse(contents); refusal != nil {
		return nil, refusal
	}
	sequences := make([]int64, len(contents))
	for i, c := range contents {
		sequences[i] = q.receive(c, m.now)
	}
	return wire.Map{{Key: "sequence-numbers", Value: sequences}}, nil
}

// cancelScheduled forgets messages whose time has not come: all or none.
func (m *management) cancelScheduled() (wire.Map, error) {
	sequences, err := values[int64](m, "sequence-numbers")
	if err != nil {
		return nil, err
	}
	found := make([]*message, len(sequences))
	for i, sequence := range sequences {
		found[i] = m.queue.store.at(sequence)
		if found[i] == nil || found[i].state != MessageScheduled || slices.Contains(found[:i], found[i]) {
			return nil, m.noMessage(sequence)
		}
	}
	for _, message := range found {
		m.queue.remove(message)
	}
	return nil, nil
}

// deleteBatch deletes messages that can be received and were enqueued before a time, the oldest first.
func (m *management) deleteBatch() (wire.Map, error) {
	q := m.queue
	count, err := m.integer("message-count", 0)
	if err != nil {
		return nil, err
	}
	if count < 1 || count > maxDeleted {
		return nil, fmt.Errorf("the request's message-count is %d, not between 1 and %d", count, maxDeleted)
	}
	before, ok := m.body.Get("enqueued-time-utc").(wire.Timestamp)
	if !ok {
		return nil, fmt.Errorf("the request's enqueued-time-utc is no timestamp but %T", m.body.Get("enqueued-time-utc"))
	}
	var gone []*message
	for message := range q.store.from(1) {
		if int64(len(gone)) == count {
			break
		}
		if message.state == MessageActive && !message.locked && message.enqueued < int64(before) {
			gone = append(gone, message)
		}
	}
	if len(gone) == 0 {
		return nil, emptyReply{}
	}
	for _, message := range gone {
		q.remove(message)
	}
	return wire.Map{{Key: "message-count", Value: int32(len(gone))}}, nil
}

const maxDeleted = 4000 // messages that one request deletes
