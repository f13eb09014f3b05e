package emulator

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"persistor/emulator/internal/wire"
)

// link is a link of a session; the connection's lock guards it, except for kicked.
type link struct {
	s       *session
	name    string
	handle  uint32
	address string // of the node, as the client wrote it
	claims  []claimNeed
	used    time.Time // of the last transfer, flow or disposition
	// kicked is why the link is to be detached. Anyone may set it; the connection's writer acts on it.
	kicked   atomic.Pointer[wire.Error]
	detached bool // detach went out: the client's is awaited
	// pending is the answer to an attach that has to wait, and decided is what it waits for. Anyone may set that; the
	// connection's writer acts on it.
	pending  *wire.Attach
	decided  atomic.Pointer[decision]
	released bool

	feed   feed   // of a link that the client receives on
	intake intake // of a link that the client sends on

	credit uint32 // deliveries that may be sent, by this end or the client's
	count  uint32 // delivery-count
	drain  bool   // the client wants the credit used up or given back

	// Of a link that the client receives on:
	unsettled bool   // the client says what became of each delivery
	replyTo   string // address of the client's target
	header    []byte // a transfer's frame header and performative, to be filled in
	rest      []byte // of a message of several frames: what has not been sent

	// Of a link that the client sends on:
	maxMessage uint64 // bytes
	partial    *partial
}

// partial is a message of which not all frames have come.
type partial struct {
	id      uint32
	format  uint32
	settled bool
	body    []byte
}

// A node is what the address of a link names. attach gives the link a feed, if the client receives, or an intake, if
// it sends, or says why not. It may set maxMessage and unsettled, and returns the capabilities and properties that the
// client is told.
type node interface {
	attach(l *link, a *wire.Attach) (granted, *wire.Error)
}

type granted struct {
	offered    []string
	properties wire.Map
	session    *sessionGrant // of a queue that the client receives the messages of
	later      bool          // whether the link is attached is told by link.decide
}

// decision is whether a link whose attach had to wait is attached.
type decision struct {
	granted
	refusal *wire.Error
}

// A feed is where the messages come from that a client receives. It is called with the connection's lock held, and
// wakes the connection when next has something after it had nothing. release is called once.
type feed interface {
	// next appends the next message to dst, encoded. It is false if there is none now. The tag identifies a delivery
	// of an unsettled link, for which the feed is also a settler.
	next(dst []byte) (message []byte, tag [16]byte, ok bool)
	release()
}

// A settler is told what a client made of a delivery: accepted, rejected, released, modified or, when it only settled,
// nil. It returns the outcome that the client is told: one of the same type, or a rejection with an error.
type settler interface {
	settle(tag [16]byte, s wire.State) wire.State
}

// An intake takes the messages that a client sends; body is valid during the call. It returns the outcome. release is
// called once.
type intake interface {
	receive(l *link, format uint32, body []byte) wire.State
	release()
}

const (
	intakeCredit   = 1000 // messages that a client may send ahead
	noMaxMessage   = math.MaxUint64
	maxLinkName    = 1024
	defaultMessage = 1 << 20 // bytes of a message that a client sends, where nothing else is said
)

// attach answers a client's attach. The answer has the client's name, modes, source and target as they came; together
// with the credit for a link that it sends on it goes out in one write.
func (s *session) attach(a *wire.Attach) {
	c := s.c
	if a.Handle >= uint32(c.e.limits.LinksPerSession) {
		c.fail(&wire.Error{Condition: wire.ConditionFramingError, Description: fmt.Sprintf("handle %d is above the handle-max of %d", a.Handle, c.e.limits.LinksPerSession-1)})
		return
	}
	if s.links[a.Handle] != nil {
		s.fail(wire.ConditionHandleInUse, "handle %d has a link already", a.Handle)
		return
	}
	l := &link{s: s, name: a.Name, handle: a.Handle, used: time.Now(), maxMessage: defaultMessage}
	reply := &wire.Attach{
		Name: a.Name, Handle: a.Handle, Role: !a.Role, SenderMode: a.SenderMode, ReceiverMode: a.ReceiverMode,
		Source: a.Source, Target: a.Target, MaxMessageSize: noMaxMessage,
	}
	clientReceives := a.Role == wire.RoleReceiver
	if clientReceives {
		reply.InitialDeliveryCount = new(uint32(0))
	} else if a.InitialDeliveryCount != nil {
		l.count = *a.InitialDeliveryCount
	}
	granted, refusal := l.admit(a)
	s.links[l.handle] = l
	c.links++
	c.linked = true
	if refusal == nil && clientReceives {
		l.header = transferHeader(s.channel, l.handle, !l.unsettled)
		c.outgoing = append(c.outgoing, l)
	}
	if granted.later {
		l.pending = reply
		return
	}
	l.answerAttach(reply, decision{granted, refusal})
}

// answerAttach tells the client whether the link is attached.
func (l *link) answerAttach(reply *wire.Attach, d decision) {
	s, c := l.s, l.s.c
	if d.refusal != nil {
		if reply.Role == wire.RoleSender {
			reply.Source = nil
		} else {
			reply.Target = nil
		}
		c.e.log.Debug("link refused", "connection", c.id, "address", l.address, "error", d.refusal)
		c.answer(s.channel, reply)
		c.answer(s.channel, l.close(d.refusal))
		return
	}
	reply.Offered, reply.Properties = d.offered, d.properties
	if d.session != nil {
		reply.Source = reply.Source.WithFilter(filterSession, d.session.id)
		reply.Properties = d.session.properties()
	}
	if reply.ReceiverMode == nil {
		reply.ReceiverMode = new(uint8(wire.ReceiverFirst))
	}
	if reply.Role == wire.RoleSender {
		if reply.SenderMode == nil && !l.unsettled {
			reply.SenderMode = new(uint8(wire.SenderSettled))
		}
		c.answer(s.channel, reply)
	} else {
		l.credit = intakeCredit
		reply.MaxMessageSize = l.maxMessage
		c.answer(s.channel, reply)
		s.answerFlow(l)
	}
	c.e.log.Debug("link attached", "connection", c.id, "address", l.address, "receives", reply.Role == wire.RoleSender)
}

// decide has an attach answered that waits, soon, by the connection's writer. The first decision counts. It may be called
// with any locks held.
func (l *link) decide(d decision) {
	if l.decided.CompareAndSwap(nil, &d) {
		l.s.c.wake()
	}
}

// answerPending answers an attach that waits and need not any more.
func (l *link) answerPending() {
	if d := l.decided.Load(); d != nil && l.pending != nil {
		reply := l.pending
		l.pending = nil
		l.answerAttach(reply, *d)
	}
}

// admit finds the node that the link is for and attaches the link to it.
func (l *link) admit(a *wire.Attach) (granted, *wire.Error) {
	terminus := a.Target
	if a.Role == wire.RoleReceiver {
		terminus = a.Source
		if a.Target != nil {
			l.replyTo = a.Target.Address
		}
	}
	switch {
	case a.Target.IsCoordinator():
		return granted{}, &wire.Error{Condition: wire.ConditionNotImplemented, Description: "transactions are not supported"}
	case len(a.Name) > maxLinkName:
		return granted{}, &wire.Error{Condition: wire.ConditionInvalidField, Description: fmt.Sprintf("the link's name has %d bytes, more than %d", len(a.Name), maxLinkName)}
	case terminus == nil || terminus.Address == "":
		return granted{}, &wire.Error{Condition: wire.ConditionInvalidField, Description: "attach names no address"}
	}
	l.address = terminus.Address
	l.s.c.steal(l, a.Role)
	n, refusal := l.s.c.resolve(l)
	if refusal != nil {
		return granted{}, refusal
	}
	return n.attach(l, a)
}

// steal detaches a link of the same name and role that the connection has already: a client attaches it again when it
// believes that it is gone.
func (c *connection) steal(by *link, role bool) {
	for _, s := range c.sessions {
		for _, l := range s.links {
			if l != by && !l.detached && l.name == by.name && (l.feed != nil) == (role == wire.RoleReceiver) {
				c.answer(s.channel, l.close(&wire.Error{Condition: wire.ConditionStolen, Description: fmt.Sprintf("a link of the name '%s' was attached again", l.name)}))
			}
		}
	}
}

// kick has the link detached with an error, soon, by its connection's writer. It may be called with any locks held.
func (l *link) kick(reason *wire.Error) {
	if l.kicked.CompareAndSwap(nil, reason) {
		l.s.c.wake()
	}
}

// evict detaches a kicked link.
func (l *link) evict() {
	detach := l.close(l.kicked.Load())
	l.s.c.e.log.Debug("link detached", "connection", l.s.c.id, "address", l.address, "error", detach.Error)
	l.s.c.answer(l.s.channel, detach)
}

// close lets go of the link and returns the detach that tells the client. The handle is free when the client answers.
func (l *link) close(reason *wire.Error) *wire.Detach {
	if reply := l.pending; reply != nil {
		l.pending = nil
		reply.Source = nil // it is not attached, and never was
		l.s.c.answer(l.s.channel, reply)
	}
	l.release()
	l.detached = true
	return &wire.Detach{Handle: l.handle, Closed: true, Error: reason}
}

// detach takes the client's detach in: as an answer, or to be answered.
func (s *session) detach(d *wire.Detach) {
	l := s.links[d.Handle]
	if l == nil {
		s.fail(wire.ConditionUnattachedHandle, "detach came for handle %d, which has no link", d.Handle)
		return
	}
	if !l.detached {
		s.c.answer(s.channel, l.close(nil))
	}
	delete(s.links, d.Handle)
}

// release lets go of what the link holds. The second time it does nothing.
func (l *link) release() {
	if l.released {
		return
	}
	l.released = true
	c := l.s.c
	if l.feed != nil {
		l.feed.release()
		for i, o := range c.outgoing {
			if o == l {
				c.outgoing = append(c.outgoing[:i], c.outgoing[i+1:]...)
				break
			}
		}
	}
	if l.intake != nil {
		l.intake.release()
	}
	for id, d := range l.s.unsettled {
		if d.link == l {
			delete(l.s.unsettled, id)
		}
	}
	l.rest, l.partial = nil, nil
	c.links--
	if c.links == 0 {
		c.linkless = time.Now()
	}
}

// check detaches the link when it has been idle for too long, or its token has expired.
func (l *link) check(now time.Time) {
	if l.detached {
		return
	}
	c := l.s.c
	if limit := c.e.limits.LinkIdle; passed(l.used, now, limit) {
		l.kick(&wire.Error{Condition: wire.ConditionDetachForced, Description: c.e.describe(l.address, "The link '%s' is force detached. Code: %s. Details: Idle timeout: %s.",
			l.name, l.side(), clock(limit))})
		return
	}
	for _, need := range l.claims {
		if refusal := c.authorize(need); refusal != nil {
			l.kick(refusal)
			return
		}
	}
}

func (l *link) side() string {
	if l.feed != nil {
		return "consumer"
	}
	return "publisher"
}

// clock formats a duration as the service does, hours:minutes:seconds.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

// flow takes the client's credit in, or the state of a link that it sends on. Clients repeat flows, and some count
// deliveries wrongly, so the credit is worked out from both counts and never runs below zero.
func (l *link) flow(f *wire.Flow) {
	l.used = time.Now()
	if l.feed == nil {
		if f.DeliveryCount != nil && l.partial == nil {
			// A sender that drained moves its count on.
			if skipped := *f.DeliveryCount - l.count; int32(skipped) > 0 && skipped <= l.credit {
				l.count += skipped
				l.credit -= skipped
			}
		}
		l.topUp(f.Echo)
		return
	}
	if f.LinkCredit != nil {
		count := uint32(0)
		if f.DeliveryCount != nil {
			count = *f.DeliveryCount
		}
		l.credit = uint32(min(max(int64(int32(count-l.count))+int64(*f.LinkCredit), 0), math.MaxUint32))
	}
	l.drain = f.Drain
	if f.Echo && !f.Drain { // a drain is answered when it is done
		l.s.answerFlow(l)
	}
}

// topUp renews the credit of a link that the client sends on when half of it is used.
func (l *link) topUp(always bool) {
	if l.credit <= intakeCredit/2 {
		l.credit = intakeCredit
		always = true
	}
	if always {
		l.s.answerFlow(l)
	}
}

// receive takes a frame of a message in, and with the last one hands the message over and answers it.
func (l *link) receive(t *wire.Transfer, payload []byte) {
	c := l.s.c
	p := l.partial
	if p == nil {
		if l.credit == 0 {
			c.answer(l.s.channel, l.close(&wire.Error{Condition: wire.ConditionTransferLimitExceeded, Description: "a message came without credit"}))
			return
		}
		if t.DeliveryID == nil {
			c.answer(l.s.channel, l.close(&wire.Error{Condition: wire.ConditionInvalidField, Description: "the first transfer of a message has no delivery-id"}))
			return
		}
		p = &partial{id: *t.DeliveryID}
		if t.MessageFormat != nil {
			p.format = *t.MessageFormat
		}
	}
	p.settled = p.settled || t.Settled != nil && *t.Settled
	if t.Aborted {
		l.partial = nil
		l.taken()
		return
	}
	if size := uint64(len(p.body) + len(payload)); size > l.maxMessage {
		c.answer(l.s.channel, l.close(&wire.Error{Condition: wire.ConditionMessageSizeExceeded, Description: c.e.describe(l.address,
			"The received message (delivery-id:%d, size:%d bytes) exceeds the limit (%d bytes) currently allowed on the link.", p.id, size, l.maxMessage)}))
		return
	}
	if t.More {
		p.body = append(p.body, payload...)
		l.partial = p
		return
	}
	l.partial = nil
	if p.body != nil {
		payload = append(p.body, payload...)
	}
	outcome := l.intake.receive(l, p.format, payload)
	if !p.settled && !l.detached {
		c.answer(l.s.channel, &wire.Disposition{Role: wire.RoleReceiver, First: p.id, Last: &p.id, Settled: true, State: outcome})
	}
	l.taken()
}

// taken counts a message that the client sent.
func (l *link) taken() {
	l.credit--
	l.count++
	l.topUp(false)
}
