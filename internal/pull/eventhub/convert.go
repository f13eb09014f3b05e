package eventhub

import (
	"reflect"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"

	"persistor/internal/message"
)

// fromEvent fills m with an event, without copying what it holds.
func fromEvent(m *message.Message, e *azeventhubs.ReceivedEventData, partition string) {
	raw := e.RawAMQPMessage
	*m = message.Message{
		Body:           fromBody(&raw.Body),
		Properties:     fromMap(raw.ApplicationProperties),
		SequenceNumber: e.SequenceNumber,
		Offset:         e.Offset,
		Partition:      partition,
		PartitionKey:   e.PartitionKey,
		Annotations:    fromMap(e.SystemProperties),
	}
	if e.EnqueuedTime != nil {
		m.EnqueuedTime = e.EnqueuedTime.UTC()
	}
	if p := raw.Properties; p != nil {
		m.ID = fromValue(p.MessageID)
		m.CorrelationID = fromValue(p.CorrelationID)
		m.ContentType = p.ContentType
		m.ContentEncoding = p.ContentEncoding
		m.Subject = p.Subject
		m.To = p.To
		m.ReplyTo = p.ReplyTo
		m.GroupID = p.GroupID
		m.ReplyToGroupID = p.ReplyToGroupID
		m.GroupSequence = p.GroupSequence
		m.UserID = p.UserID
		m.CreationTime = p.CreationTime
		m.AbsoluteExpiryTime = p.AbsoluteExpiryTime
	}
}

// fromBody tells the kinds of body apart. A message without any section of a body comes out as one
// with a null value, since the client doesn't keep them apart.
func fromBody(b *azeventhubs.AMQPAnnotatedMessageBody) message.Body {
	switch {
	case b.Data != nil:
		return message.Body{Kind: message.Data, Data: b.Data}
	case b.Sequence != nil:
		for _, section := range b.Sequence {
			fromList(section)
		}
		return message.Body{Kind: message.Sequence, Sequence: b.Sequence}
	default:
		return message.Body{Kind: message.Value, Value: fromValue(b.Value)}
	}
}

// fromValue replaces the client's own types by the ones of package message.
func fromValue(v any) any {
	switch v := v.(type) {
	case amqp.UUID:
		return message.UUID(v)
	case []amqp.UUID:
		uuids := make([]message.UUID, len(v))
		for i, u := range v {
			uuids[i] = message.UUID(u)
		}
		return uuids
	case amqp.Symbol:
		return string(v)
	case []amqp.Symbol:
		texts := make([]string, len(v))
		for i, s := range v {
			texts[i] = string(s)
		}
		return texts
	case []any:
		fromList(v)
	case map[string]any:
		fromMap(v)
	case map[any]any:
		for key, value := range v {
			v[key] = fromValue(value)
		}
	default:
		// An AMQP array of ubyte is a type that the client doesn't export.
		if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8 {
			return r.Bytes()
		}
	}
	return v
}

func fromList(list []any) {
	for i, v := range list {
		list[i] = fromValue(v)
	}
}

// fromMap changes m itself, and only where it has to: it is on the path of every event.
func fromMap(m map[string]any) map[string]any {
	for key, v := range m {
		switch v.(type) {
		case amqp.UUID, []amqp.UUID, amqp.Symbol, []amqp.Symbol, []any, map[string]any, map[any]any:
			m[key] = fromValue(v)
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}
