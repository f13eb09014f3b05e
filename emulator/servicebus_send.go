package emulator

import (
	"fmt"

	"persistor/emulator/internal/wire"
)

// propertyBatchSize tells a client how large a batch may be, where a single message may be larger.
const propertyBatchSize = "com.microsoft:max-message-batch-size"

const maxBatchSize = 1 << 20 // bytes

// publisher is the intake of a link that messages are sent on, to a queue or a topic.
type publisher struct {
	queue *queue
	link  *link
}

func (q *queue) attachSender(l *link) (granted, *wire.Error) {
	if reason := q.unsendable(); reason != "" {
		return granted{}, &wire.Error{Condition: wire.ConditionNotAllowed, Description: q.e.describe(q.path, "%s", reason)}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.disabled {
		return granted{}, q.isDisabled()
	}
	l.maxMessage = uint64(q.MaxMessageSize)
	l.intake = &publisher{q, l}
	q.links[l] = struct{}{}
	return granted{properties: wire.Map{{Key: wire.Symbol(propertyBatchSize), Value: uint64(min(q.MaxMessageSize, maxBatchSize))}}}, nil
}

// unsendable says why no client may send to the queue, empty if clients may.
func (q *queue) unsendable() string {
	switch {
	case q.rules != nil:
		return "messages cannot be sent to a subscription; send to its topic"
	case q.deadLetter == nil && q.topic == nil:
		return "messages cannot be sent to a dead-letter queue"
	case q.made != nil:
		return "the queue is synthetic and takes no messages"
	}
	return ""
}

func (p *publisher) release() {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	delete(p.queue.links, p.link)
}

func (p *publisher) receive(_ *link, format uint32, body []byte) wire.State {
	q := p.queue
	if busy := q.e.throttled(&q.e.faults.sends, q.path); busy != nil {
		return &wire.Rejected{Error: busy}
	}
	contents, err := parseContents(format, append([]byte(nil), body...))
	if err != nil {
		return &wire.Rejected{Error: asAMQP(err)}
	}
	if refusal := q.send(contents); refusal != nil {
		return &wire.Rejected{Error: refusal}
	}
	return &wire.Accepted{}
}

// parseContents takes a transfer apart: one message, or a batch, whose messages are complete in themselves, so that
// nothing of its own sections counts.
func parseContents(format uint32, body []byte) ([]*content, error) {
	switch format {
	case 0:
		c, err := parseContent(body)
		return []*content{c}, err
	case batchFormat:
	default:
		return nil, &wire.Error{Condition: wire.ConditionNotImplemented, Description: fmt.Sprintf("message-format 0x%08x is not known", format)}
	}
	if len(body) > maxBatchSize {
		return nil, &wire.Error{Condition: wire.ConditionMessageSizeExceeded, Description: fmt.Sprintf("The batch has %d bytes, more than the %d that it may have.", len(body), maxBatchSize)}
	}
	var contents []*content
	for section, err := range wire.Sections(body) {
		if err != nil {
			return nil, err
		}
		if section.Code == wire.SectionData {
			c, err := parseContent(wire.NewReader(section.Value).Binary())
			if err != nil {
				return nil, err
			}
			contents = append(contents, c)
		}
	}
	if len(contents) == 0 {
		return nil, &wire.Error{Condition: wire.ConditionInvalidField, Description: "the batch holds no messages"}
	}
	return contents, nil
}
