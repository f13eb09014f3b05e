package servicebus

import (
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/internal/amqpclient"
	"persistor/internal/message"
)

// annotations that have a field of their own in a message, or say something of this delivery alone.
var ownAnnotations = map[string]bool{
	"x-opt-sequence-number": true, "x-opt-enqueued-time": true, "x-opt-locked-until": true,
	"x-opt-partition-key": true, "x-opt-scheduled-enqueue-time": true, "x-opt-enqueue-sequence-number": true,
	"x-opt-deadletter-source": true, "x-opt-message-state": true,
}

// fromReceived fills m with a message, without copying what it holds.
func fromReceived(m *message.Message, r *azservicebus.ReceivedMessage) {
	raw := r.RawAMQPMessage
	*m = message.Message{
		Body:                   amqpclient.Body(raw.Body.Data, raw.Body.Value, raw.Body.Sequence),
		Properties:             amqpclient.Map(r.ApplicationProperties),
		SequenceNumber:         number(r),
		PartitionKey:           r.PartitionKey,
		ScheduledEnqueueTime:   r.ScheduledEnqueueTime,
		EnqueuedSequenceNumber: r.EnqueuedSequenceNumber,
		DeadLetterReason:       r.DeadLetterReason,
		DeadLetterDescription:  r.DeadLetterErrorDescription,
		DeadLetterSource:       r.DeadLetterSource,
	}
	if r.EnqueuedTime != nil {
		m.EnqueuedTime = r.EnqueuedTime.UTC()
	}
	// The client itself looks at the header only where there is a properties section (azservicebus 1.11.0,
	// message.go).
	if h := raw.Header; h != nil {
		m.DeliveryCount = h.DeliveryCount + 1
		if h.TTL > 0 {
			m.TimeToLive = &h.TTL
		}
	}
	for key, value := range raw.MessageAnnotations {
		if name, ok := key.(string); ok && !ownAnnotations[name] {
			if m.Annotations == nil {
				m.Annotations = map[string]any{}
			}
			m.Annotations[name] = amqpclient.Value(value)
		}
	}
	if p := raw.Properties; p != nil {
		m.ID = amqpclient.Value(p.MessageID)
		m.CorrelationID = amqpclient.Value(p.CorrelationID)
		m.ContentType = p.ContentType
		m.ContentEncoding = p.ContentEncoding
		m.Subject = p.Subject
		m.To = p.To
		m.ReplyTo = p.ReplyTo
		m.SessionID = p.GroupID
		m.ReplyToSessionID = p.ReplyToGroupID
		m.GroupSequence = p.GroupSequence
		m.UserID = p.UserID
		m.CreationTime = p.CreationTime
		m.AbsoluteExpiryTime = p.AbsoluteExpiryTime
	}
}

// number is a message's sequence number, which every message has that was received.
func number(r *azservicebus.ReceivedMessage) int64 {
	if r.SequenceNumber == nil {
		return 0
	}
	return *r.SequenceNumber
}
