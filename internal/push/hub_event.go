package push

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"persistor/internal/host"
	"persistor/internal/message"
)

// hubNames are the metadata of an event that are read: of one event as they are, of many with Array behind them. They
// are those that the Event Hubs extension gives (azure-sdk-for-net: EventHubTriggerBindingStrategy).
var hubNames = []string{
	"PartitionContext", "PartitionKey", "Offset", "SequenceNumber", "EnqueuedTimeUtc", "Properties", "SystemProperties",
}

// decodeHub reads the events of an invocation, which are all of one partition, in the order of their sequence numbers.
func decodeHub(i *host.Invocation) (partition string, events []message.Message, many bool, err error) {
	c, err := read(i, hubNames)
	switch {
	case err != nil:
		return "", nil, false, err
	case c.dubious:
		return "", nil, false, errDubious
	}
	var context struct{ PartitionId string }
	if _, err := i.Metadata.Into("PartitionContext", &context); err != nil {
		return "", nil, false, err
	}
	if context.PartitionId == "" {
		return "", nil, false, errors.New("metadata have no PartitionContext with a PartitionId")
	}
	f := newFields(i.Metadata, c.many, len(c.bodies))
	events = make([]message.Message, len(c.bodies))
	for n, body := range c.bodies {
		m := &events[n]
		m.Body.Data, m.Partition = [][]byte{body}, context.PartitionId
		if err := readHubEvent(f, n, m); err != nil {
			return "", nil, false, fmt.Errorf("event %d of %d: %w", n+1, len(c.bodies), err)
		}
	}
	slices.SortStableFunc(events, func(a, b message.Message) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) })
	return context.PartitionId, events, c.many, nil
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

// ownSystem are system properties that the metadata have under other names.
var ownSystem = []string{"x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time", "x-opt-partition-key"}

// setSystem takes a system property, which is one of the properties section (AMQP 1.0 part 3, 3.2.4) by its name there, or
// an annotation.
func setSystem(m *message.Message, name string, value any) {
	texts := map[string]**string{
		"content-type": &m.ContentType, "content-encoding": &m.ContentEncoding, "subject": &m.Subject, "to": &m.To,
		"reply-to": &m.ReplyTo, "group-id": &m.GroupID, "reply-to-group-id": &m.ReplyToGroupID,
	}
	text, isText := value.(string)
	switch field := texts[name]; {
	case slices.Contains(ownSystem, name):
		return
	case field != nil && isText:
		*field = &text
		return
	case name == "message-id" && isText:
		m.ID = text
		return
	case name == "correlation-id" && isText:
		m.CorrelationID = text
		return
	}
	if m.Annotations == nil {
		m.Annotations = map[string]any{}
	}
	m.Annotations[name] = value
}
