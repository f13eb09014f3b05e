package eventhub

import (
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/amqpclient"
	"persistor/internal/message"
)

// fromEvent fills m with an event, without copying what it holds.
func fromEvent(m *message.Message, e *azeventhubs.ReceivedEventData, partition string) {
	raw := e.RawAMQPMessage
	*m = message.Message{
		Body:           amqpclient.Body(raw.Body.Data, raw.Body.Value, raw.Body.Sequence),
		Properties:     amqpclient.Map(raw.ApplicationProperties),
		SequenceNumber: e.SequenceNumber,
		Offset:         e.Offset,
		Partition:      partition,
		PartitionKey:   e.PartitionKey,
		Annotations:    amqpclient.Map(e.SystemProperties),
	}
	if e.EnqueuedTime != nil {
		m.EnqueuedTime = e.EnqueuedTime.UTC()
	}
	if p := raw.Properties; p != nil {
		m.ID = amqpclient.Value(p.MessageID)
		m.CorrelationID = amqpclient.Value(p.CorrelationID)
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
