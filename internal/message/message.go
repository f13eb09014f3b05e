// Package message holds one message as every source delivers it and as a record keeps it.
package message

import "time"

// Message is one event or message, with body, application properties and system properties, whatever
// service it came from. A receiver fills it; nobody changes it afterwards, so that slices and maps may
// be shared. The zero value is an empty message.
//
// Values typed any hold the Go form of an AMQP 1.0 scalar: nil, bool, int8, int16, int32, int64, uint8,
// uint16, uint32, uint64, float32, float64, string, []byte, time.Time, [UUID]; inside a body value also
// []any, map[string]any, map[any]any and slices of one scalar type (AMQP arrays).
type Message struct {
	Body Body

	// Properties are the application properties; nil when there are none.
	Properties map[string]any

	// SequenceNumber counts from 0 within a partition of an Event Hub, and from 1 within a Service Bus
	// entity: a queue, a subscription or the dead-letter queue of one.
	SequenceNumber int64
	// Offset is opaque: Event Hubs promises nothing about its form.
	Offset string
	// EnqueuedTime is when the service accepted the message, in UTC, to the millisecond.
	EnqueuedTime time.Time
	// Partition is the partition's id, "" where the service has none.
	Partition string
	// PartitionKey is nil when the sender gave none.
	PartitionKey *string

	// The properties section (AMQP 1.0 part 3, 3.2.4). ID and CorrelationID are nil, string, uint64,
	// UUID or []byte.
	ID                 any
	CorrelationID      any
	ContentType        *string
	ContentEncoding    *string
	Subject            *string
	To                 *string
	ReplyTo            *string
	GroupID            *string
	ReplyToGroupID     *string
	GroupSequence      *uint32
	UserID             []byte
	CreationTime       *time.Time
	AbsoluteExpiryTime *time.Time

	// What Service Bus adds. SessionID and ReplyToSessionID are what AMQP calls group-id and
	// reply-to-group-id: a message has them here or there, never in both. The id "" is a session's like
	// any other.
	SessionID        *string
	ReplyToSessionID *string
	// DeliveryCount is how many times the message has been delivered, this time included, so 1 or more;
	// 0 means that the service didn't say. In a dead-letter queue it no longer grows.
	DeliveryCount uint32
	// TimeToLive counts from EnqueuedTime, in milliseconds; nil when the message does not expire.
	TimeToLive           *time.Duration
	ScheduledEnqueueTime *time.Time
	// EnqueuedSequenceNumber is the number that the message had in the entity it was forwarded from.
	EnqueuedSequenceNumber *int64
	// Why a message is in a dead-letter queue, and the entity in which it was before. Reason and
	// description are what the service delivers as the application properties DeadLetterReason and
	// DeadLetterErrorDescription.
	DeadLetterReason      *string
	DeadLetterDescription *string
	DeadLetterSource      *string

	// Annotations are the message annotations that have no field above; nil when there are none.
	Annotations map[string]any
}

// Kind is which of the three AMQP body kinds a message has, or that it has none of them.
type Kind uint8

const (
	Data     Kind = iota // any number of data sections: opaque bytes
	Value                // one amqp-value section
	Sequence             // amqp-sequence sections
	JSON                 // none of AMQP's: the data of an Event Grid event
)

// Body is a message's body (AMQP 1.0 part 3, 3.2.6 to 3.2.8, and JSON): the field that Kind names is set.
type Body struct {
	Kind     Kind
	Data     [][]byte
	Value    any
	Sequence [][]any
	JSON     []byte // one JSON value, in UTF-8
}

// UUID is an AMQP uuid in network byte order.
type UUID [16]byte
