package replay

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/record"
	"persistor/internal/selection"
)

// MarkProperty is the application property that says where a message was replayed from:
// "{folder}/{partition, or entity}/{sequence number}".
const MarkProperty = "x-replayed-from"

// Change is what a message can't have as it had before.
type Change string

const (
	NewID              Change = "message id made of where it is stored from, for want of one"
	SessionAsKey       Change = "session id sent as partition key, too, so that its order is kept"
	KeyDropped         Change = "partition key left out: Service Bus takes the session id for it"
	LifeDropped        Change = "time to live left out: an Event Hub keeps all events equally long"
	ExpiryRenewed      Change = "absolute expiry time counted anew from the time to live"
	ScheduleDropped    Change = "scheduled enqueue time left out: an Event Hub has none"
	BodyAlone          Change = "stored without GET_METADATA=TRUE: the body alone is sent"
	NoBody             Change = "body without sections sent as none"
	DeathDropped       Change = "dead-letter source left out: the service alone says it; reason and description are application properties"
	EnvelopeIncomplete Change = "members of an Event Grid envelope left out that are objects or lists"
)

// An address says how messages are restored and where in the target they go. It is safe for concurrent use.
type address struct {
	Task
	partitions []string // of a hub that is the target
}

// check says what keeps a blob's messages from going where they should.
func (a *address) check(b *selection.Blob) error {
	if !a.KeepPartition || slices.Contains(a.partitions, b.Partition) {
		return nil
	}
	if b.Kind != selection.Hub {
		return fmt.Errorf("blob %s: it is of no partition, and so can't keep its own: leave --keep-partition out", b.Name)
	}
	return fmt.Errorf("blob %s: the target has no partition %q: it has %d; leave --keep-partition out", b.Name, b.Partition, len(a.partitions))
}

// restore makes of a stored message the one to send. Index counts the selected records of its blob.
func (a *address) restore(b *selection.Blob, index int64, m *message.Message, changed func(Change)) publish.Message {
	to := publish.Message{
		Properties: m.Properties, ID: m.ID, CorrelationID: m.CorrelationID,
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, Subject: m.Subject, To: m.To, ReplyTo: m.ReplyTo,
		GroupSequence: m.GroupSequence, UserID: m.UserID, CreationTime: m.CreationTime, AbsoluteExpiryTime: m.AbsoluteExpiryTime,
		Annotations: m.Annotations, Session: m.SessionID, ReplyToSession: m.ReplyToSessionID, Key: m.PartitionKey,
	}
	if to.Session == nil {
		to.Session = m.GroupID // one thing by two names
	}
	if to.ReplyToSession == nil {
		to.ReplyToSession = m.ReplyToGroupID
	}
	restoreBody(&to, m, changed)
	if m.EnqueuedTime.IsZero() && b.Kind != selection.Event {
		changed(BodyAlone)
	}
	if m.ID == nil || m.ID == "" {
		to.ID = newID(b, index, m)
		changed(NewID)
	}
	if m.DeadLetterSource != nil {
		changed(DeathDropped)
	}
	if b.Kind == selection.Event {
		to.Properties = envelope(m.Properties, changed)
	}
	if a.Mark {
		to.Properties = maps.Clone(to.Properties)
		if to.Properties == nil {
			to.Properties = map[string]any{}
		}
		to.Properties[MarkProperty] = fmt.Sprintf("%s/%s/%d", b.Folder, of(b), m.SequenceNumber)
	}
	if a.ToHub {
		a.toHub(&to, b, m, changed)
	} else {
		a.toQueue(&to, b, m, changed)
	}
	return to
}

func restoreBody(to *publish.Message, m *message.Message, changed func(Change)) {
	if m.Body.Kind == message.Data && len(m.Body.Data) == 1 {
		to.Body = m.Body.Data[0]
		return
	}
	if m.Body.Kind == message.Data && len(m.Body.Data) == 0 || m.Body.Kind == message.Sequence && len(m.Body.Sequence) == 0 {
		changed(NoBody)
	}
	to.Other = &m.Body
}

// toHub chooses the partition of an Event Hub: by the same number, by the key, or else so that order is kept.
func (a *address) toHub(to *publish.Message, b *selection.Blob, m *message.Message, changed func(Change)) {
	if m.TimeToLive != nil {
		changed(LifeDropped)
	}
	if m.ScheduledEnqueueTime != nil {
		changed(ScheduleDropped)
	}
	switch {
	case a.KeepPartition:
		to.Partition = b.Partition
	case to.Key != nil, a.AnyPartition:
	case m.SessionID != nil:
		to.Key = m.SessionID
		changed(SessionAsKey)
	case b.Kind == selection.Hub:
		to.Partition = a.partitionFor(b.Partition)
	}
}

// partitionFor is the partition in which the messages of a source's partition stay together.
func (a *address) partitionFor(source string) string {
	if len(a.partitions) == 0 {
		return "" // a preview, which asks nobody
	}
	n, err := strconv.ParseUint(source, 10, 32)
	if err != nil {
		hash := fnv.New32a()
		hash.Write([]byte(source))
		n = uint64(hash.Sum32())
	}
	return a.partitions[n%uint64(len(a.partitions))]
}

func (a *address) toQueue(to *publish.Message, b *selection.Blob, m *message.Message, changed func(Change)) {
	if to.TimeToLive = m.TimeToLive; m.TimeToLive != nil && m.AbsoluteExpiryTime != nil {
		to.AbsoluteExpiryTime = nil // it may be past, and the service sets it
		changed(ExpiryRenewed)
	}
	if to.Session != nil && to.Key != nil && *to.Session != *to.Key {
		to.Key = nil
		changed(KeyDropped)
	}
	if m.ScheduledEnqueueTime != nil {
		to.Annotations = maps.Clone(to.Annotations)
		if to.Annotations == nil {
			to.Annotations = map[string]any{}
		}
		to.Annotations["x-opt-scheduled-enqueue-time"] = *m.ScheduledEnqueueTime
	}
	if b.Kind == selection.Hub && !a.AnyPartition {
		to.Stream = "partition " + b.Partition + " of " + b.Folder
	}
}

// envelope is what of an event's envelope can be application properties.
func envelope(members map[string]any, changed func(Change)) map[string]any {
	flat := maps.Clone(members)
	for name, value := range members {
		switch value.(type) {
		case map[string]any, []any:
			delete(flat, name)
			changed(EnvelopeIncomplete)
		}
	}
	return flat
}

// maxID is the longest message id of Service Bus, in characters.
const maxID = 128

// newID is the id of a message that had none: the same however often it is replayed, so that Service Bus can tell that
// it came before, and no other message's, which Service Bus would drop. Hubs of two folders have the same numbers, and so
// has one that was made anew: folder and time tell these apart.
func newID(b *selection.Blob, index int64, m *message.Message) string {
	if key, ok := eventDigest(m); ok && b.Kind == selection.Event {
		return "persistor-" + key
	}
	if m.SequenceNumber < 0 || of(b) == "" {
		return fmt.Sprintf("persistor-%s-%d", digest(b.Name), index)
	}
	source, when := strings.TrimPrefix(b.Folder, "_failed/")+"/"+of(b), b.Day
	if !m.EnqueuedTime.IsZero() {
		when = m.EnqueuedTime
	}
	id := fmt.Sprintf("persistor-%s-%d-%d", source, m.SequenceNumber, when.UnixMilli())
	if len(id) > maxID {
		id = fmt.Sprintf("persistor-%s-%d-%d", digest(source), m.SequenceNumber, when.UnixMilli())
	}
	return id
}

// eventDigest tells an event of Event Grid from any other, by its source and id, if its envelope is there.
func eventDigest(m *message.Message) (string, bool) {
	source := "topic"
	if m.Properties["specversion"] != nil {
		source = "source"
	}
	of, _ := m.Properties[source].(string)
	id, ok := m.Properties["id"].(string)
	return record.EventDigest(of, id), ok
}

// of is the partition, entity or Event Grid source that a blob's messages come from.
func of(b *selection.Blob) string {
	switch b.Kind {
	case selection.Hub:
		return b.Partition
	case selection.Event:
		return b.Source
	}
	return b.Entity
}

// digest is 16 hexadecimal digits that stand for a text.
func digest(text string) string {
	hash := sha256.Sum256([]byte(text))
	return hex.EncodeToString(hash[:8])
}
