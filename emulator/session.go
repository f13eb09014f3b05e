package emulator

import (
	"fmt"
	"slices"
	"time"

	"persistor/emulator/internal/wire"
)

const (
	firstOutgoingID = 1    // next-outgoing-id of a new session, as the service begins
	sessionWindow   = 5000 // frames that either end may send ahead
)

// session is a session of a connection, whose lock guards it.
type session struct {
	c       *connection
	channel uint16
	links   map[uint32]*link // by handle: the client's, which is also the one that frames go out with

	nextIncoming   uint32 // transfer-id of the client's next frame
	incomingWindow uint32 // transfers that the client may send before it is told of more
	nextOutgoing   uint32 // transfer-id of the next frame to the client
	peerWindow     uint32 // transfers that the client takes before it tells of more
	nextDelivery   uint32 // delivery-id of the next delivery to the client

	unsettled map[uint32]delivery // what the client has not settled yet, by delivery-id
	ended     bool                // end went out: the client's is awaited
}

// delivery is a message on its way to a client that is to say what became of it.
type delivery struct {
	link *link
	tag  [16]byte
}

func (c *connection) begin(channel uint16, b *wire.Begin) {
	s := &session{
		c: c, channel: channel, links: map[uint32]*link{}, unsettled: map[uint32]delivery{},
		nextIncoming: b.NextOutgoingID, incomingWindow: sessionWindow,
		nextOutgoing: firstOutgoingID, peerWindow: b.IncomingWindow,
	}
	c.sessions[channel] = s
	c.answer(channel, &wire.Begin{
		RemoteChannel: &channel, NextOutgoingID: firstOutgoingID, IncomingWindow: sessionWindow, OutgoingWindow: sessionWindow,
		HandleMax: uint32(c.e.limits.LinksPerSession - 1),
	})
}

// handle deals with a frame of the session.
func (s *session) handle(p wire.Performative, payload []byte) {
	if _, ok := p.(*wire.End); ok {
		if !s.ended {
			s.c.answer(s.channel, &wire.End{})
		}
		s.release()
		delete(s.c.sessions, s.channel)
		return
	}
	if s.ended {
		return // sent before the client saw the end
	}
	switch p := p.(type) {
	case *wire.Attach:
		s.attach(p)
	case *wire.Flow:
		s.flow(p)
	case *wire.Transfer:
		s.transfer(p, payload)
	case *wire.Disposition:
		s.disposition(p)
	case *wire.Detach:
		s.detach(p)
	default:
		s.c.fail(&wire.Error{Condition: wire.ConditionNotAllowed, Description: wire.Name(p) + " came within a session"})
	}
}

// fail ends the session with an error.
func (s *session) fail(condition, format string, args ...any) {
	s.ended = true
	s.release()
	s.c.answer(s.channel, &wire.End{Error: &wire.Error{Condition: condition, Description: fmt.Sprintf(format, args...)}})
}

// release lets go of the session's links without a word to the client.
func (s *session) release() {
	for _, l := range s.links {
		l.release()
	}
	clear(s.links)
	clear(s.unsettled)
}

// flow takes the client's windows in, and with a handle the credit or the state of a link.
func (s *session) flow(f *wire.Flow) {
	next := uint32(firstOutgoingID)
	if f.NextIncomingID != nil {
		next = *f.NextIncomingID
	}
	// What is on the way counts against the window, part 2.5.6. A window that is overdrawn is none.
	s.peerWindow = uint32(max(int64(int32(next-s.nextOutgoing))+int64(f.IncomingWindow), 0))
	if f.Handle == nil {
		if f.Echo {
			s.answerFlow(nil)
		}
		return
	}
	l := s.links[*f.Handle]
	switch {
	case l == nil:
		s.fail(wire.ConditionUnattachedHandle, "flow came for handle %d, which has no link", *f.Handle)
	case !l.detached:
		l.flow(f)
	}
}

// answerFlow sends the session's windows, and a link's state if there is one.
func (s *session) answerFlow(l *link) {
	f := &wire.Flow{NextIncomingID: &s.nextIncoming, IncomingWindow: s.incomingWindow, NextOutgoingID: s.nextOutgoing, OutgoingWindow: sessionWindow}
	if l != nil {
		f.Handle, f.DeliveryCount, f.LinkCredit, f.Available, f.Drain = &l.handle, &l.count, &l.credit, new(uint32(0)), l.drain
	}
	s.c.answer(s.channel, f)
}

// transfer takes a frame of a message in.
func (s *session) transfer(t *wire.Transfer, payload []byte) {
	if s.incomingWindow == 0 {
		s.fail(wire.ConditionWindowViolation, "more transfers came than the window of %d allows", sessionWindow)
		return
	}
	s.nextIncoming++
	s.incomingWindow--
	if s.incomingWindow <= sessionWindow/2 {
		s.incomingWindow = sessionWindow
		defer s.answerFlow(nil)
	}
	l := s.links[t.Handle]
	switch {
	case l == nil:
		s.fail(wire.ConditionUnattachedHandle, "transfer came for handle %d, which has no link", t.Handle)
	case l.detached: // sent before the client saw the detach
	case l.intake == nil:
		s.c.answer(s.channel, l.close(&wire.Error{Condition: wire.ConditionNotAllowed, Description: "transfer came on a link that the client receives on"}))
	default:
		l.used = time.Now()
		l.receive(t, payload)
	}
}

// disposition takes the client's word on deliveries in. The range is walked by what is unsettled, since a client can
// name four billion deliveries in one frame.
func (s *session) disposition(d *wire.Disposition) {
	if d.Role != wire.RoleReceiver {
		return // of messages that were settled when they were answered
	}
	if _, partly := d.State.(*wire.Received); partly && !d.Settled {
		return
	}
	last := d.First
	if d.Last != nil {
		last = *d.Last
	}
	var told settlement
	if last-d.First < uint32(len(s.unsettled)) {
		for id := d.First; ; id++ {
			s.settle(&told, id, d)
			if id == last {
				break
			}
		}
	} else {
		var ids []uint32
		for id := range s.unsettled {
			if id-d.First <= last-d.First { // serial numbers wrap around
				ids = append(ids, id-d.First)
			}
		}
		slices.Sort(ids)
		for _, offset := range ids {
			s.settle(&told, d.First+offset, d)
		}
	}
	if !told.known && !d.Settled {
		told = settlement{known: true, first: d.First, last: last, outcome: &wire.Rejected{Error: &wire.Error{
			Condition: wire.ConditionNotFound, Description: "there is no such delivery that is not settled"}}}
	}
	s.tell(&told)
}

// settlement is the answer to a disposition, or to a part of it: deliveries side by side that have the same outcome.
type settlement struct {
	known       bool // the client named a delivery that is there
	first, last uint32
	outcome     wire.State // nil for no answer
}

// settle takes the client's word on one delivery in. A client that settles has the last word. One that does not waits
// for the answer: the outcome that it asked for, or why it could not be had.
func (s *session) settle(told *settlement, id uint32, d *wire.Disposition) {
	pending, ok := s.unsettled[id]
	if !ok {
		return
	}
	told.known = true
	delete(s.unsettled, id)
	outcome := pending.link.feed.(settler).settle(pending.tag, d.State)
	pending.link.used = time.Now()
	if d.Settled || s.c.e.loseSettlement(pending.link) {
		return
	}
	if outcome == nil {
		outcome = &wire.Released{}
	}
	if told.outcome != nil && told.last+1 == id && bare(told.outcome) && bare(outcome) {
		told.last = id
		return
	}
	s.tell(told)
	told.first, told.last, told.outcome = id, id, outcome
}

// bare reports whether an outcome is the one that was asked for, and so the same for all deliveries of a disposition.
func bare(outcome wire.State) bool {
	rejected, ok := outcome.(*wire.Rejected)
	return !ok || rejected.Error == nil
}

// tell answers a disposition or a part of it.
func (s *session) tell(t *settlement) {
	if t.outcome != nil {
		s.c.answer(s.channel, &wire.Disposition{Role: wire.RoleSender, First: t.first, Last: &t.last, Settled: true, State: t.outcome})
		t.outcome = nil
	}
}
