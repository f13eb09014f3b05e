package publish

import (
	"maps"

	"github.com/Azure/go-amqp"

	"persistor/internal/message"
)

// Message is one message to send; an Event Hub calls it an event.
type Message struct {
	Body []byte
	// Properties are the application properties: AMQP scalars as [message.Message] lists them. They are
	// not changed.
	Properties           map[string]any
	ContentType, Subject *string
	// ID and CorrelationID are nil, string, uint64, [message.UUID] or []byte. The SDKs make up an id where
	// there is none.
	ID            any
	CorrelationID any

	// Session is the id of the session that the message belongs to, nil for none. A queue with sessions takes
	// no message without. An Event Hub has no sessions, and keeps the id as AMQP's group-id.
	Session *string
	// Key is the partition key, nil for none. The service chooses the partition by it, and since all of a
	// batch have one key then, many keys mean small batches, as many sessions do.
	Key *string
	// Partition is the id of the partition of an Event Hub to send to, "" for any. With it the key is only
	// written into the event: so events of many keys fill one batch.
	Partition string
}

// partitionKeyAnnotation carries the partition key, as the SDKs write it.
const partitionKeyAnnotation = "x-opt-partition-key"

// sendable is a value in the types of the clients, which have a UUID of their own.
func sendable(value any) any {
	if id, ok := value.(message.UUID); ok {
		return amqp.UUID(id)
	}
	return value
}

// sendableMap is m itself, or a copy where something in it has to change.
func sendableMap(m map[string]any) map[string]any {
	cloned := false
	for name, value := range m {
		if _, ok := value.(message.UUID); !ok {
			continue
		}
		if !cloned {
			m, cloned = maps.Clone(m), true
		}
		m[name] = sendable(value)
	}
	return m
}
