package emulator

import (
	"slices"

	"persistor/emulator/internal/wire"
)

// rpcNode is a node that answers requests: a client sends them on one link and receives the replies on another. It is
// what $cbs and $management have in common.
//
// Left out: a request's time to live and its server-timeout, since every answer is immediate.
type rpcNode struct {
	name  string
	most  uint64 // bytes of a request
	serve func(*request) *reply
}

// request is a request taken apart.
type request struct {
	properties wire.Map // the application properties
	body       any      // of an amqp-value section
}

// reply is the answer to a request. Its status is that of HTTP.
type reply struct {
	status      int32
	description string
	condition   string
	body        wire.Map
	lost        bool // it is not sent
}

const (
	maxReplies = 1000     // replies that may wait for a client that gives no credit
	maxRequest = 64 << 10 // bytes of a request where nothing else is said
)

func (n *rpcNode) attach(l *link, a *wire.Attach) (granted, *wire.Error) {
	if a.Role == wire.RoleReceiver {
		l.feed = &replies{node: n.name}
	} else {
		l.intake, l.maxMessage = n, n.most
	}
	return granted{}, nil
}

func (n *rpcNode) release() {}

// receive answers a request on the link that it asks the reply on.
func (n *rpcNode) receive(l *link, _ uint32, body []byte) wire.State {
	var properties wire.Properties
	var r request
	for section, err := range wire.Sections(body) {
		if err == nil {
			switch section.Code {
			case wire.SectionProperties:
				properties, err = wire.ParseProperties(section.Value)
			case wire.SectionApplicationProperties:
				r.properties, _ = wire.NewReader(section.Value).Any().(wire.Map)
			case wire.SectionValue:
				r.body = wire.NewReader(section.Value).Any()
			}
		}
		if err != nil {
			return &wire.Rejected{Error: asAMQP(err)}
		}
	}
	to := l.s.replyLink(n.name, properties.ReplyTo)
	if to == nil {
		return &wire.Rejected{Error: &wire.Error{Condition: wire.ConditionNotFound, Description: "no link is attached to receive the reply on"}}
	}
	queue := to.feed.(*replies)
	if len(queue.waiting) >= maxReplies {
		to.kick(&wire.Error{Condition: wire.ConditionResourceLimitExceeded, Description: "too many replies wait for credit"})
		return &wire.Accepted{}
	}
	answer := l.s.c.e.faults.throttleRequest(n.name)
	if answer == nil {
		answer = n.serve(&r)
	}
	if !answer.lost {
		queue.waiting = append(queue.waiting, answer.encode(properties.MessageID))
	}
	return &wire.Accepted{}
}

// replyLink finds the link that a reply goes out on: the one whose target address or name the request gives as its
// reply-to, or else the node's, in this session before others of this connection. It never looks at other connections,
// as there are clients that use the same reply-to on all of theirs.
func (s *session) replyLink(node, replyTo string) *link {
	var best *link
	rank := 0
	for _, l := range s.c.outgoing {
		queue, ok := l.feed.(*replies)
		if !ok || queue.node != node {
			continue
		}
		r := 1
		if replyTo != "" && (l.replyTo == replyTo || l.name == replyTo) {
			r += 2
		}
		if l.s == s {
			r++
		}
		if r > rank {
			best, rank = l, r
		}
	}
	return best
}

// encode encodes the reply to a request with the given message-id, whose type the correlation-id keeps. Clients look
// for the status under different names.
func (r *reply) encode(messageID []byte) []byte {
	b := wire.AppendReplyProperties(nil, messageID)
	properties := wire.Map{
		{Key: "status-code", Value: r.status}, {Key: "statusCode", Value: r.status},
		{Key: "status-description", Value: r.description}, {Key: "statusDescription", Value: r.description},
	}
	if r.condition != "" {
		properties = append(properties,
			wire.Pair{Key: "errorCondition", Value: wire.Symbol(r.condition)}, wire.Pair{Key: "error-condition", Value: wire.Symbol(r.condition)})
	}
	b = wire.AppendAny(wire.AppendSection(b, wire.SectionApplicationProperties), properties)
	b = wire.AppendSection(b, wire.SectionValue)
	if r.body == nil {
		return wire.AppendNull(b)
	}
	return wire.AppendAny(b, r.body)
}

// replies is the feed of a link that a client receives replies on.
type replies struct {
	node    string
	waiting [][]byte
}

func (q *replies) next(dst []byte) (message []byte, tag [16]byte, ok bool) {
	if len(q.waiting) == 0 {
		return dst, tag, false
	}
	dst = append(dst, q.waiting[0]...)
	q.waiting = slices.Delete(q.waiting, 0, 1)
	return dst, tag, true
}

func (q *replies) release() { q.waiting = nil }
