package record

import (
	"strconv"
	"time"
	"unicode/utf8"

	"persistor/internal/message"
)

// fewKeys is how many keys are sorted without an allocation.
const fewKeys = 32

// appendMetadata appends METADATA, the application properties, and SYSTEM, everything else that came
// with the message. What a message doesn't have is left out, and SYSTEM where it would say nothing.
func appendMetadata(dst []byte, m *message.Message) []byte {
	if len(m.Properties) > 0 {
		dst = append(dst, `,"METADATA":`...)
		dst = appendValue(dst, m.Properties, 0)
	}
	const system = `,"SYSTEM":{"sequence_number":`
	start := len(dst)
	dst = append(dst, system...)
	dst = strconv.AppendInt(dst, m.SequenceNumber, 10)
	if m.DeliveryCount != 0 {
		dst = append(dst, `,"delivery_count":`...)
		dst = strconv.AppendUint(dst, uint64(m.DeliveryCount), 10)
	}
	if !m.EnqueuedTime.IsZero() {
		dst = append(dst, `,"enqueued_time":`...)
		dst = appendTime(dst, m.EnqueuedTime)
	}
	for _, t := range texts(m) {
		if t.value != nil {
			dst = append(dst, ',', '"')
			dst = append(dst, t.key...)
			dst = append(dst, '"', ':')
			if utf8.ValidString(*t.value) {
				dst = appendString(dst, *t.value)
			} else {
				dst = appendBase64(dst, []byte(*t.value))
			}
		}
	}
	if m.ID != nil {
		dst = append(dst, `,"message_id":`...)
		dst = appendValue(dst, m.ID, 0)
	}
	if m.CorrelationID != nil {
		dst = append(dst, `,"correlation_id":`...)
		dst = appendValue(dst, m.CorrelationID, 0)
	}
	if m.GroupSequence != nil {
		dst = append(dst, `,"group_sequence":`...)
		dst = strconv.AppendUint(dst, uint64(*m.GroupSequence), 10)
	}
	if m.UserID != nil {
		dst = append(dst, `,"user_id":`...)
		dst = appendBase64(dst, m.UserID)
	}
	dst = appendOptionalTime(dst, `,"creation_time":`, m.CreationTime)
	dst = appendOptionalTime(dst, `,"absolute_expiry_time":`, m.AbsoluteExpiryTime)
	if m.TimeToLive != nil {
		dst = append(dst, `,"time_to_live_ms":`...)
		dst = strconv.AppendInt(dst, m.TimeToLive.Milliseconds(), 10)
	}
	dst = appendOptionalTime(dst, `,"scheduled_enqueue_time":`, m.ScheduledEnqueueTime)
	if m.EnqueuedSequenceNumber != nil {
		dst = append(dst, `,"enqueued_sequence_number":`...)
		dst = strconv.AppendInt(dst, *m.EnqueuedSequenceNumber, 10)
	}
	if len(m.Annotations) > 0 {
		dst = append(dst, `,"annotations":`...)
		dst = appendValue(dst, m.Annotations, 0)
	}
	if string(dst[start:]) == system+"0" {
		return dst[:start] // an event of Event Grid: it is nowhere in a sequence
	}
	return append(dst, '}')
}

// appendSystemTypes appends the types under SYSTEM that are open: those of the ids and the annotations,
// and strings that are not UTF-8. The other members have one type each, which their name tells.
func appendSystemTypes(dst []byte, object int, m *message.Message) []byte {
	start := len(dst)
	dst = appendKey(dst, object, "SYSTEM")
	system := len(dst)
	for _, t := range texts(m) {
		if t.value != nil && !utf8.ValidString(*t.value) {
			dst = appendKey(dst, system, t.key)
			dst = appendString(dst, stringInBase64)
		}
	}
	dst = appendMemberType(dst, system, "message_id", m.ID, 0)
	dst = appendMemberType(dst, system, "correlation_id", m.CorrelationID, 0)
	if len(m.Annotations) > 0 {
		dst = appendMemberType(dst, system, "annotations", m.Annotations, 0)
	}
	if len(dst) == system {
		return dst[:start]
	}
	return append(dst, '}')
}

// A text is a member of SYSTEM that is a string; its value is nil when the message has none.
type text struct {
	key   string
	value *string
}

func texts(m *message.Message) [15]text {
	return [...]text{
		{"offset", notEmpty(&m.Offset)},
		{"partition", notEmpty(&m.Partition)},
		{"partition_key", m.PartitionKey},
		{"content_type", m.ContentType},
		{"content_encoding", m.ContentEncoding},
		{"subject", m.Subject},
		{"to", m.To},
		{"reply_to", m.ReplyTo},
		{"group_id", m.GroupID},
		{"reply_to_group_id", m.ReplyToGroupID},
		{"session_id", m.SessionID},
		{"reply_to_session_id", m.ReplyToSessionID},
		{"dead_letter_reason", m.DeadLetterReason},
		{"dead_letter_description", m.DeadLetterDescription},
		{"dead_letter_source", m.DeadLetterSource},
	}
}

func notEmpty(s *string) *string {
	if *s == "" {
		return nil
	}
	return s
}

func appendOptionalTime(dst []byte, key string, t *time.Time) []byte {
	if t == nil {
		return dst
	}
	return appendTime(append(dst, key...), *t)
}
