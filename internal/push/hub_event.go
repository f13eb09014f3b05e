package push

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/record"
)

// hubNames are the metadata of an event that are read: of one event as they are, of many with Array behind them. They
// are those that the Event Hubs extension gives (azure-sdk-for-net: EventHubTriggerBindingStrategy).
var hubNames = []string{
	"PartitionContext", "PartitionKey", "Offset", "SequenceNumber", "EnqueuedTimeUtc", "Properties", "SystemProperties",
}

// origin is where events come from.
type origin struct {
	hub       string // as record.HubText writes it; "" when the host doesn't say
	partition string
}

// decodeHub reads the events of an invocation, which are all of one partition, in the order of their sequence numbers.
func decodeHub(i *host.Invocation) (from origin, events []message.Message, many bool, err error) {
	c, err := read(i, hubNames)
	switch {
	case err != nil:
		return origin{}, nil, false, err
	case c.dubious:
		return origin{}, nil, false, errDubious
	}
	var context struct{ FullyQualifiedNamespace, EventHubName, PartitionId string }
	if _, err := i.Metadata.Into("PartitionContext", &context); err != nil {
		return origin{}, nil, false, err
	}
	if context.PartitionId == "" {
		return origin{}, nil, false, errors.New("metadata have no PartitionContext with a PartitionId")
	}
	f := newFields(i.Metadata, c.many, len(c.bodies))
	events = make([]message.Message, len(c.bodies))
	for n, body := range c.bodies {
		m := &events[n]
		m.Body.Data, m.Partition = [][]byte{body}, context.PartitionId
		if err := readHubEvent(f, n, m); err != nil {
			return origin{}, nil, false, fmt.Errorf("event %d of %d: %w", n+1, len(c.bodies), err)
		}
	}
	slices.SortStableFunc(events, func(a, b message.Message) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) })
	return origin{record.HubText(context.FullyQualifiedNamespace, context.EventHubName), context.PartitionId}, events, c.many, nil
}

// readHubEvent fills in what the metadata say of event n.
func readHubEvent(f *fields, n int, m *message.Message) (err error) {
	if m.SequenceNumber, err = f.number(n, "SequenceNumber"); err != nil {
		return err
	}
	if m.SequenceNumber < 0 {
		return fmt.Errorf("metadata have the SequenceNumber %d", m.SequenceNumber)
	}
	if m.EnqueuedTime, err = f.time(n, "EnqueuedTimeUtc"); err != nil {
		return err
	}
	offset, err := f.text(n, "Offset")
	if err != nil {
		return err
	}
	if offset != nil {
		m.Offset = *offset
	}
	if m.PartitionKey, err = f.text(n, "PartitionKey"); err != nil {
		return err
	}
	if m.Properties, err = f.object(n, "Properties"); err != nil {
		return err
	}
	system, err := f.object(n, "SystemProperties")
	for name, value := range system {
		setSystem(m, name, value)
	}
	return err
}

// ownSystem are system properties that the metadata have under names of their own.
var ownSystem = []string{
	"x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time", "x-opt-partition-key",
	"SequenceNumber", "Offset", "EnqueuedTimeUtc", "PartitionKey",
}

// setSystem takes a system property: one of the properties section (AMQP 1.0 part 3, 3.2.4) by its name there, or an
// annotation. One that has another type than there is an annotation, too.
func setSystem(m *message.Message, name string, value any) {
	if value == nil || slices.Contains(ownSystem, name) || setText(m, name, value) || setOther(m, name, value) {
		return
	}
	if m.Annotations == nil {
		m.Annotations = map[string]any{}
	}
	m.Annotations[name] = value
}

// setText takes a property that is a string.
func setText(m *message.Message, name string, value any) bool {
	text, ok := value.(string)
	if !ok {
		return false
	}
	switch name {
	case "message-id":
		m.ID = text
	case "correlation-id":
		m.CorrelationID = text
	case "content-type":
		m.ContentType = &text
	case "content-encoding":
		m.ContentEncoding = &text
	case "subject":
		m.Subject = &text
	case "to":
		m.To = &text
	case "reply-to":
		m.ReplyTo = &text
	case "group-id":
		m.GroupID = &text
	case "reply-to-group-id":
		m.ReplyToGroupID = &text
	default:
		return false
	}
	return true
}

// setOther takes a property that is not a string in AMQP.
func setOther(m *message.Message, name string, value any) bool {
	text, _ := value.(string)
	at, timeErr := parseTime(text)
	binary, binaryErr := base64.StdEncoding.DecodeString(text)
	number, isNumber := value.(int64)
	switch {
	case name == "group-sequence" && isNumber && number >= 0 && number <= math.MaxUint32:
		m.GroupSequence = new(uint32(number))
	case name == "message-id" && isNumber && number >= 0:
		m.ID = uint64(number)
	case name == "correlation-id" && isNumber && number >= 0:
		m.CorrelationID = uint64(number)
	case name == "user-id" && text != "" && binaryErr == nil:
		m.UserID = binary
	case name == "creation-time" && timeErr == nil:
		m.CreationTime = &at
	case name == "absolute-expiry-time" && timeErr == nil:
		m.AbsoluteExpiryTime = &at
	default:
		return false
	}
	return true
}
