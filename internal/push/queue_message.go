package push

import (
	"fmt"
	"math"
	"time"

	"persistor/internal/host"
	"persistor/internal/message"
)

// queueNames are the metadata of a message that are read: of one message as they are, of many with Array behind them.
// They are those that the Service Bus extension gives (azure-sdk-for-net: ServiceBusTriggerBindingStrategy).
var queueNames = []string{
	"SequenceNumber", "DeliveryCount", "EnqueuedTimeUtc", "EnqueuedTime", "ExpiresAtUtc", "MessageId", "CorrelationId", "ContentType",
	"Subject", "Label", "To", "ReplyTo", "ReplyToSessionId", "SessionId", "PartitionKey", "DeadLetterSource", "ApplicationProperties", "UserProperties",
}

// decodeQueue reads the messages of an invocation, in the order in which they came.
func decodeQueue(i *host.Invocation) (messages []message.Message, many bool, err error) {
	c, err := read(i, queueNames)
	switch {
	case err != nil:
		return nil, false, err
	case c.dubious:
		return nil, false, errDubious
	}
	f := newFields(i.Metadata, c.many, len(c.bodies))
	messages = make([]message.Message, len(c.bodies))
	for n, body := range c.bodies {
		messages[n].Body.Data = [][]byte{body}
		if err := readQueueMessage(f, n, &messages[n]); err != nil {
			return nil, false, fmt.Errorf("message %d of %d: %w", n+1, len(c.bodies), err)
		}
	}
	return messages, c.many, nil
}

// readQueueMessage fills in what the metadata say of message n.
func readQueueMessage(f *fields, n int, m *message.Message) (err error) {
	if m.SequenceNumber, err = f.number(n, "SequenceNumber"); err != nil {
		return err
	}
	if m.EnqueuedTime, err = firstTime(f, n, "EnqueuedTimeUtc", "EnqueuedTime"); err != nil {
		return err
	}
	if count, err := f.number(n, "DeliveryCount"); err == nil && count > 0 && count <= math.MaxUint32 {
		m.DeliveryCount = uint32(count)
	}
	for name, into := range map[string]**string{
		"ContentType": &m.ContentType, "To": &m.To, "ReplyTo": &m.ReplyTo, "ReplyToSessionId": &m.ReplyToSessionID,
		"SessionId": &m.SessionID, "PartitionKey": &m.PartitionKey, "DeadLetterSource": &m.DeadLetterSource, "Subject": &m.Subject,
	} {
		if *into, err = f.text(n, name); err != nil {
			return err
		}
	}
	if m.Subject == nil { // its name before 2020
		if m.Subject, err = f.text(n, "Label"); err != nil {
			return err
		}
	}
	for name, into := range map[string]*any{"MessageId": &m.ID, "CorrelationId": &m.CorrelationID} {
		text, err := f.text(n, name)
		if err != nil {
			return err
		}
		if text != nil {
			*into = *text
		}
	}
	if expires, err := f.time(n, "ExpiresAtUtc"); err == nil && expires.Year() < 9999 { // that year stands for never
		m.AbsoluteExpiryTime = &expires
	}
	return readProperties(f, n, m)
}

// firstTime is the first of several times that is there.
func firstTime(f *fields, n int, names ...string) (at time.Time, err error) {
	for _, name := range names {
		if at, err = f.time(n, name); err == nil {
			return at, nil
		}
	}
	return f.time(n, names[0])
}

// readProperties fills in the application properties, and why a message was dead-lettered, which the service puts
// among them.
func readProperties(f *fields, n int, m *message.Message) error {
	var err error
	for _, name := range []string{"ApplicationProperties", "UserProperties"} { // the latter before 2020
		if m.Properties, err = f.object(n, name); err != nil || m.Properties != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	for name, into := range map[string]**string{"DeadLetterReason": &m.DeadLetterReason, "DeadLetterErrorDescription": &m.DeadLetterDescription} {
		if text, ok := m.Properties[name].(string); ok {
			*into = &text
		}
	}
	return nil
}
