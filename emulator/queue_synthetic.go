package emulator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"persistor/emulator/internal/wire"
)

// SyntheticQueue makes a queue's messages up from their sequence numbers, 1 and so on, when they are received. What is
// not received yet and what was settled takes no memory, so that a queue may have any length. Nothing can be sent to
// it.
type SyntheticQueue struct {
	Messages int64 // 1 and more
	BodySize int   // bytes of a body, 1,024 by default and up to 1 MiB
	// Sessions is over how many sessions the messages of a queue with sessions are spread, one message to each in turn.
	// They are called session-0 and so on.
	Sessions int
	// First is the enqueued time of the first message, 2024-01-01 by default, Interval the time from one to the next, a
	// millisecond by default. Enqueued times have whole milliseconds.
	First    time.Time
	Interval time.Duration
}

// syntheticMessages makes the messages of a queue.
type syntheticMessages struct {
	SyntheticQueue
	filler []byte
}

func newSyntheticMessages(s SyntheticQueue, sessions bool) (*syntheticMessages, error) {
	setDefault(&s.BodySize, 1024)
	setDefault(&s.Interval, time.Millisecond)
	if s.First.IsZero() {
		s.First = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	switch {
	case s.Messages < 1:
		return nil, errors.New("a synthetic queue has at least one message")
	case s.BodySize < 1 || s.BodySize > 1<<20:
		return nil, errors.New("the bodies of a synthetic queue have 1 byte to 1 MiB")
	case s.Interval < 0 || s.Messages > int64(maxSpan/max(s.Interval, 1)):
		return nil, errors.New("the times of a synthetic queue's messages do not fit into 200 years")
	case sessions && (s.Sessions < 1 || int64(s.Sessions) > s.Messages):
		return nil, fmt.Errorf("a synthetic queue with sessions spreads its messages over 1 session to one for each message, not %d", s.Sessions)
	case !sessions && s.Sessions != 0:
		return nil, errors.New("a synthetic queue has sessions, but they are not enabled: set Sessions of the queue")
	}
	made := &syntheticMessages{SyntheticQueue: s, filler: make([]byte, s.BodySize)}
	for i := range made.filler {
		made.filler[i] = 'a' + byte(i%26)
	}
	return made, nil
}

// maxSpan is the longest time that the messages of a synthetic queue may be spread over.
const maxSpan = 200 * 365 * 24 * time.Hour

// fill gives a queue its lanes of messages to be made.
func (s *syntheticMessages) fill(q *queue) {
	q.made = s
	q.last = s.Messages
	q.info.Active, q.info.Sent = s.Messages, s.Messages
	q.lastMade = max(q.lastMade, s.enqueued(s.Messages))
	if !q.Sessions {
		q.lane.made = &madeLane{of: s, next: 1, step: 1}
		q.lane.ready = s.Messages
		return
	}
	for i := range s.Sessions {
		g := q.session("session-" + strconv.Itoa(i))
		g.lane.made = &madeLane{of: s, group: g, next: int64(i) + 1, step: int64(s.Sessions)}
		g.messages = g.lane.made.left()
		g.lane.ready = g.messages
		q.offerSession(g)
	}
}

// purge lets go of the messages that are not made yet.
func (s *syntheticMessages) purge(q *queue) {
	lanes := []*lane{&q.lane}
	for _, g := range q.sessions {
		lanes = append(lanes, &g.lane)
		if made := g.lane.made; made != nil {
			g.messages -= made.left()
		}
	}
	for _, l := range lanes {
		if l.made != nil {
			l.ready -= l.made.left()
			q.info.Active -= l.made.left()
			l.made.next = s.Messages + 1
		}
	}
	for _, g := range q.sessions {
		q.forget(g)
	}
}

// laneOf returns the lane whose message has a sequence number.
func (s *syntheticMessages) laneOf(q *queue, sequence int64) *madeLane {
	if !q.Sessions {
		return q.lane.made
	}
	if g := q.sessions["session-"+strconv.FormatInt((sequence-1)%int64(s.Sessions), 10)]; g != nil {
		return g.lane.made
	}
	return nil // all its messages are gone
}

func (s *syntheticMessages) enqueued(sequence int64) int64 {
	return s.First.Add(time.Duration(sequence-1) * s.Interval).UnixMilli()
}

// make makes a message.
func (s *syntheticMessages) make(sequence int64, group *messageSession) *message {
	c := &content{made: s, number: sequence}
	var digits [20]byte
	c.id = wire.AppendStringBytes(make([]byte, 0, 24), strconv.AppendInt(digits[:0], sequence, 10))
	var fields wire.PropertyFields
	fields[wire.PropertyMessageID] = c.id
	if group != nil {
		c.session = &group.id
		fields[wire.PropertyGroupID] = wire.AppendString(nil, group.id)
	}
	c.properties = wire.AppendPropertyFields(nil, &fields)
	return &message{content: c, sequence: sequence, enqueued: s.enqueued(sequence), expires: never, group: group, position: -1}
}

// appendBody appends the body of a message: {"sequence":1,"filler":"abc..."}, cut or filled to the size.
func (s *syntheticMessages) appendBody(dst []byte, number int64) []byte {
	dst = append(wire.AppendSection(dst, wire.SectionData), 0xb0, 0, 0, 0, 0)
	start := len(dst)
	binary.BigEndian.PutUint32(dst[start-4:], uint32(s.BodySize))
	dst = strconv.AppendInt(append(dst, `{"sequence":`...), number, 10)
	dst = append(dst, `,"filler":"`...)
	if missing := s.BodySize - (len(dst) - start) - 2; missing >= 0 {
		return append(append(dst, s.filler[:missing]...), `"}`...)
	}
	return dst[:start+s.BodySize]
}

// madeLane is the messages of a lane that are not made yet: every step-th from next on.
type madeLane struct {
	of         *syntheticMessages
	group      *messageSession
	next, step int64
}

func (l *madeLane) left() int64 {
	if l.next > l.of.Messages {
		return 0
	}
	return (l.of.Messages-l.next)/l.step + 1
}

func (l *madeLane) take() *message {
	m := l.of.make(l.next, l.group)
	l.next += l.step
	return m
}
