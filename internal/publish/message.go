package publish

import (
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/internal/amqpclient"
	"persistor/internal/message"
)

// Message is one message to send; an Event Hub calls it an event.
type Message struct {
	// Body is the one data section that the body is, unless Other says otherwise.
	Body []byte
	// Other is a body of another form, nil for Body. AMQP's clients can't send a body of no sections: that, and one of
	// a null value, comes out as none.
	Other *message.Body
	// Properties are the application properties: AMQP scalars as [message.Message] lists them. They are
	// not changed.
	Properties map[string]any
	// ID and CorrelationID are nil, string, uint64, [message.UUID] or []byte. The SDKs make up an id where
	// there is none, or an empty one.
	ID            any
	CorrelationID any

	ContentType, ContentEncoding, Subject, To, ReplyTo *string
	// ReplyToSession is what AMQP calls reply-to-group-id.
	ReplyToSession *string
	// GroupSequence is the message's place within its session or group.
	GroupSequence                    *uint32
	UserID                           []byte
	CreationTime, AbsoluteExpiryTime *time.Time
	// TimeToLive is after how long a message of Service Bus expires, in milliseconds; nil for never. An Event Hub
	// looks at its retention alone.
	TimeToLive *time.Duration
	// Annotations are further message annotations. A service puts its own in place of those that it sets.
	Annotations map[string]any

	// Session is the id of the session that the message belongs to, nil for none. A queue with sessions takes
	// no message without. An Event Hub has no sessions, and keeps the id as AMQP's group-id.
	Session *string
	// Key is the partition key, nil for none. The service chooses the partition by it, and since all of a
	// batch have one key then, many keys mean small batches, as many sessions do.
	Key *string
	// Partition is the id of the partition of an Event Hub to send to, "" for any. With it the key is only
	// written into the event: so events of many keys fill one batch.
	Partition string
	// Stream keeps messages in order that have neither session, key nor partition: those of one stream follow each
	// other. Those of "" need not.
	Stream string
}

// Size is that of the body in bytes, where it is bytes.
func (m *Message) Size() (bytes int) {
	if m.Other == nil {
		return len(m.Body)
	}
	for _, section := range m.Other.Data {
		bytes += len(section)
	}
	return bytes + len(m.Other.JSON)
}

// partitionKeyAnnotation carries the partition key, as the SDKs write it.
const partitionKeyAnnotation = "x-opt-partition-key"

// The types of the two SDKs are alike, so what makes those of Service Bus serves both.

func (m *Message) body() (b azservicebus.AMQPAnnotatedMessageBody) {
	switch {
	case m.Other == nil:
		b.Data = [][]byte{m.Body}
	case m.Other.Kind == message.Value:
		b.Value = amqpclient.Sendable(m.Other.Value)
	case m.Other.Kind == message.Sequence:
		b.Sequence = make([][]any, len(m.Other.Sequence))
		for i, section := range m.Other.Sequence {
			b.Sequence[i] = amqpclient.Sendable(section).([]any)
		}
	case m.Other.Kind == message.JSON:
		b.Data = [][]byte{m.Other.JSON}
	default:
		b.Data = m.Other.Data
	}
	return b
}

func (m *Message) properties() azservicebus.AMQPAnnotatedMessageProperties {
	return azservicebus.AMQPAnnotatedMessageProperties{
		MessageID:          amqpclient.Sendable(m.ID),
		CorrelationID:      amqpclient.Sendable(m.CorrelationID),
		ContentType:        m.ContentType,
		ContentEncoding:    m.ContentEncoding,
		Subject:            m.Subject,
		To:                 m.To,
		ReplyTo:            m.ReplyTo,
		GroupID:            m.Session,
		GroupSequence:      m.GroupSequence,
		ReplyToGroupID:     m.ReplyToSession,
		UserID:             m.UserID,
		CreationTime:       m.CreationTime,
		AbsoluteExpiryTime: m.AbsoluteExpiryTime,
	}
}

// annotations are the message annotations, with the key if the client doesn't write it; nil for none.
func (m *Message) annotations(withKey bool) map[any]any {
	withKey = withKey && m.Key != nil
	if len(m.Annotations) == 0 && !withKey {
		return nil
	}
	annotations := make(map[any]any, len(m.Annotations)+1)
	for name, value := range m.Annotations {
		annotations[name] = amqpclient.Sendable(value)
	}
	if withKey {
		annotations[partitionKeyAnnotation] = *m.Key
	}
	return annotations
}
