package emulator

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"persistor/emulator/internal/wire"
)

// Queue is a queue of Service Bus. Its name may have slashes in it.
type Queue struct {
	Name string
	// Sessions has the queue require sessions: messages must have a session id, and a receiver gets those of a session
	// whose lock it has.
	Sessions bool
	// LockDuration is how long a receiver has a message or a session, 1 minute by default, 10 ms to 5 minutes.
	LockDuration time.Duration
	// MaxDeliveryCount is how many deliveries of a message may fail before it is dead-lettered, 10 by default.
	MaxDeliveryCount int
	// TTL is how long messages are kept whose senders do not say less; 0 is without an end. They are dropped after
	// that, or dead-lettered with DeadLetterOnExpiration.
	TTL                    time.Duration
	DeadLetterOnExpiration bool
	// DuplicateDetection is for how long message ids are remembered: a message that comes with one of them is dropped.
	// 0 is not at all.
	DuplicateDetection time.Duration
	// MaxMessageSize is how many bytes a message may have, 1 MiB by default, up to 128 MiB. A batch may have 1 MiB at
	// most.
	MaxMessageSize int
	// MaxSize is how many bytes the queue may hold, dead letters aside; 0 is without an end.
	MaxSize int64
	// Synthetic has the queue make its messages up.
	Synthetic *SyntheticQueue
}

// Topic is a topic of Service Bus: what is sent to it goes to its subscriptions.
type Topic struct {
	Name               string
	Subscriptions      []Subscription
	DuplicateDetection time.Duration // as of a queue
	MaxMessageSize     int           // as of a queue
}

// Subscription is a subscription of a topic: a queue that gets copies of the messages that its rules choose. The fields
// are as those of a [Queue].
type Subscription struct {
	Name                   string
	Sessions               bool
	LockDuration           time.Duration
	MaxDeliveryCount       int
	TTL                    time.Duration
	DeadLetterOnExpiration bool
	// Rules choose messages, one that chooses all by default. An empty slice that is not nil is no rule: the subscription
	// gets nothing until one is added.
	Rules []Rule
}

const (
	deadLetterPath   = "/$DeadLetterQueue"
	transferPath     = "/$Transfer/$DeadLetterQueue"
	subscriptionPath = "/Subscriptions/"
)

// addQueue makes a queue and its sub-queues.
func (e *Emulator) addQueue(o Queue) error {
	if err := checkEntityName(o.Name); err != nil {
		return err
	}
	_, err := e.makeQueue(o.Name, o)
	return err
}

// makeQueue makes a queue or a subscription at a path, and its sub-queues. The one for messages that could not be
// passed on is always empty, as nothing is passed on.
func (e *Emulator) makeQueue(path string, o Queue) (*queue, error) {
	setDefault(&o.LockDuration, time.Minute)
	setDefault(&o.MaxDeliveryCount, 10)
	setDefault(&o.MaxMessageSize, defaultMessage)
	switch {
	case o.LockDuration < 10*time.Millisecond || o.LockDuration > 5*time.Minute:
		return nil, fmt.Errorf("a lock duration of %v is not between 10 ms and 5 minutes", o.LockDuration)
	case o.MaxDeliveryCount < 1 || o.MaxDeliveryCount > 2000:
		return nil, fmt.Errorf("a largest delivery count of %d is not between 1 and 2,000", o.MaxDeliveryCount)
	case o.TTL < 0 || o.DuplicateDetection < 0 || o.MaxSize < 0:
		return nil, errors.New("a time or a size is negative")
	case o.MaxMessageSize < 1024 || o.MaxMessageSize > 128<<20:
		return nil, fmt.Errorf("a largest message of %d bytes is not between 1 KiB and 128 MiB", o.MaxMessageSize)
	case o.Synthetic != nil && (o.TTL > 0 || o.DuplicateDetection > 0 || o.MaxSize > 0):
		return nil, errors.New("the messages of a synthetic queue have no end, and it has no size and detects no duplicates")
	}
	q := newQueue(e, path, o)
	q.deadLetter = newDeadLetterQueue(q, path+deadLetterPath)
	if o.Synthetic != nil {
		made, err := newSyntheticMessages(*o.Synthetic, o.Sessions)
		if err != nil {
			return nil, err
		}
		made.fill(q)
	}
	for _, made := range []*queue{q, q.deadLetter, newDeadLetterQueue(q, path+transferPath)} {
		if err := e.register(made); err != nil {
			return nil, err
		}
	}
	return q, nil
}

func (e *Emulator) register(q *queue) error {
	name := strings.ToLower(q.path)
	if e.queues[name] != nil || e.entities[name] != nil {
		return errors.New("the name is there twice; names differ by more than case")
	}
	e.queues[name] = q
	return nil
}

// topic is a topic with its subscriptions. Its own queue holds what is scheduled.
type topic struct {
	subscriptions []*queue
}

func (e *Emulator) addTopic(o Topic) error {
	if err := checkEntityName(o.Name); err != nil {
		return err
	}
	own := Queue{Name: o.Name, DuplicateDetection: o.DuplicateDetection, MaxMessageSize: o.MaxMessageSize}
	setDefault(&own.MaxMessageSize, defaultMessage)
	q := newQueue(e, o.Name, own)
	q.topic = &topic{}
	if err := e.register(q); err != nil {
		return err
	}
	for _, s := range o.Subscriptions {
		if s.Name == "" || strings.ContainsAny(s.Name, "/ $") {
			return fmt.Errorf("subscription %q: the name must not be empty, or have a slash, a space or a $ in it", s.Name)
		}
		made, err := e.makeQueue(o.Name+subscriptionPath+s.Name, Queue{
			Name: s.Name, Sessions: s.Sessions, LockDuration: s.LockDuration, MaxDeliveryCount: s.MaxDeliveryCount,
			TTL: s.TTL, DeadLetterOnExpiration: s.DeadLetterOnExpiration, MaxMessageSize: own.MaxMessageSize,
		})
		if err != nil {
			return fmt.Errorf("subscription %q: %w", s.Name, err)
		}
		if made.rules, err = newRules(e, made.path, s.Rules); err != nil {
			return fmt.Errorf("subscription %q: %w", s.Name, err)
		}
		q.topic.subscriptions = append(q.topic.subscriptions, made)
	}
	return nil
}

// checkEntityName keeps names apart from the addresses of what entities have below them.
func checkEntityName(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.ContainsAny(part, " $") || strings.EqualFold(part, strings.Trim(subscriptionPath, "/")) {
			return errors.New("the name must not be empty, have an empty part, a space or a $ in it, or a part called Subscriptions")
		}
	}
	return nil
}

// publish gives each subscription what its rules choose of a message, which the topic has given a sequence number. The
// lock of the topic's own queue is held.
func (t *topic) publish(c *content, sequence, now int64) {
	routed := &ruleMessage{message: c.encode(), sequence: sequence, enqueued: time.UnixMilli(now).UTC()}
	if c.ttl > 0 {
		routed.expires = time.UnixMilli(now + c.ttl).UTC()
	}
	for _, s := range t.subscriptions {
		plain, changed := s.rules.route(routed)
		var copies []*content
		if plain {
			copies = append(copies, c)
		}
		for _, encoded := range changed {
			if made, err := parseContent(encoded); err == nil { // an action can make a session id too long
				copies = append(copies, made)
			}
		}
		s.take(copies)
	}
}

// take takes in what a topic has for its subscription.
func (q *queue) take(copies []*content) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.sweep(now)
	for _, c := range copies {
		q.info.Sent++
		q.enqueue(c, now)
	}
	q.arm(now)
}

// queueNode is a queue as the address of a link names it, or its management:
//
//	<queue>, <topic> or <topic>/Subscriptions/<subscription>
//	<queue or subscription>/$DeadLetterQueue
//	<queue or subscription>/$Transfer/$DeadLetterQueue
//	<any of these>/$management
type queueNode struct {
	queue      *queue
	management bool
}

func (n *queueNode) attach(l *link, a *wire.Attach) (granted, *wire.Error) {
	q := n.queue
	need := claimNeed{path: strings.ToLower(entityPath(l.address)), right: rightSend}
	switch {
	case n.management:
		need.right = anyRight // what is asked for is checked with each request
	case a.Role == wire.RoleReceiver:
		need.right = rightListen
	}
	if refusal := l.s.c.authorize(need); refusal != nil {
		return granted{}, refusal
	}
	if busy := q.e.throttled(&q.e.faults.attaches, q.path); busy != nil {
		return granted{}, busy
	}
	l.claims = append(l.claims, need)
	switch {
	case n.management:
		return q.attachManagement(l, a)
	case a.Role == wire.RoleSender:
		return q.attachSender(l)
	case q.topic != nil:
		return granted{}, &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path,
			"a topic has no messages to receive; receive from one of its subscriptions")}
	}
	return q.attachReceiver(l, a)
}
