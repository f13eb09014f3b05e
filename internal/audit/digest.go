package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"persistor/internal/message"
)

// Digest stands for everything of a message that its sender decided and that must survive until it is a
// record: the body, message id, correlation id, content type, subject, addresses, session, partition key
// and the application properties with their AMQP types. What the service adds (sequence number, offset,
// enqueued time, partition, delivery count) or may change (time to live) is left out, so that the digest
// of a message about to be sent equals that of its record. It is the first half of a SHA-256.
type Digest [16]byte

// servicesProperties are the application properties in which Service Bus says why it put a message into a
// dead-letter queue.
var servicesProperties = []string{"DeadLetterReason", "DeadLetterErrorDescription"}

// scratch lends the buffers in which digests are prepared: one per goroutine at work, each as large as
// the largest message that it saw.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// DigestOf returns the digest of m. It may be called by several goroutines at once.
//
// Two messages that an AMQP peer can't tell apart have the same digest: times count in milliseconds, any
// NaN is any other, and bytes are the same bytes however many data sections carry them.
func DigestOf(m *message.Message) Digest {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)

	b := append((*buf)[:0], byte(m.Body.Kind))
	switch m.Body.Kind {
	case message.Data:
		size := 0
		for _, section := range m.Body.Data {
			size += len(section)
		}
		b = binary.AppendUvarint(b, uint64(size))
		for _, section := range m.Body.Data {
			b = append(b, section...)
		}
	case message.Value:
		b = appendValue(b, m.Body.Value)
	case message.Sequence:
		for _, list := range m.Body.Sequence {
			b = appendValue(b, list)
		}
	case message.JSON:
		b = binary.AppendUvarint(b, uint64(len(m.Body.JSON)))
		b = append(b, m.Body.JSON...)
	}
	b = appendValue(b, m.ID)
	b = appendValue(b, m.CorrelationID)
	b = appendOptional(b, m.ContentType)
	b = appendOptional(b, m.PartitionKey)
	b = appendOptional(b, m.Subject)
	b = appendOptional(b, m.To)
	b = appendOptional(b, m.ReplyTo)
	b = appendOptional(b, cmp.Or(m.SessionID, m.GroupID)) // one thing by two names
	b = appendOptional(b, cmp.Or(m.ReplyToSessionID, m.ReplyToGroupID))
	b = appendMap(b, m.Properties, servicesProperties...)

	*buf = b
	sum := sha256.Sum256(b)
	return Digest(sum[:16])
}

// appendValue appends one AMQP value as a letter for its type and its bytes. Every form either has a
// fixed length or says its length first, so that no two lists of values give the same bytes.
func appendValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(b, 'n')
	case bool:
		if v {
			return append(b, 'T')
		}
		return append(b, 'F')
	case int8:
		return append(b, 'b', byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(append(b, 'h'), uint16(v))
	case int32:
		return binary.BigEndian.AppendUint32(append(b, 'i'), uint32(v))
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'l'), uint64(v))
	case uint8:
		return append(b, 'B', v)
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, 'H'), v)
	case uint32:
		return binary.BigEndian.AppendUint32(append(b, 'I'), v)
	case uint64:
		return binary.BigEndian.AppendUint64(append(b, 'L'), v)
	case float32:
		if v != v {
			v = float32(math.NaN())
		}
		return binary.BigEndian.AppendUint32(append(b, 'f'), math.Float32bits(v))
	case float64:
		if v != v {
			v = math.NaN()
		}
		return binary.BigEndian.AppendUint64(append(b, 'd'), math.Float64bits(v))
	case string:
		return appendText(append(b, 's'), v)
	case []byte:
		return append(binary.AppendUvarint(append(b, 'x'), uint64(len(v))), v...)
	case time.Time:
		return binary.BigEndian.AppendUint64(append(b, 't'), uint64(v.UnixMilli()))
	case message.UUID:
		return append(append(b, 'u'), v[:]...)
	case []any:
		b = binary.AppendUvarint(append(b, '['), uint64(len(v)))
		for _, item := range v {
			b = appendValue(b, item)
		}
		return b
	case map[string]any:
		return appendMap(append(b, '{'), v)
	default:
		// Arrays of one type and maps with other keys occur in value bodies only, which the Event Hubs
		// clients do not send; fmt sorts maps, so that this form is slow but always the same.
		return appendText(append(b, '?'), fmt.Sprintf("%T %v", v, v))
	}
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendOptional keeps the difference between absent and empty.
func appendOptional(b []byte, s *string) []byte {
	if s == nil {
		return append(b, 'n')
	}
	return appendText(append(b, 's'), *s)
}

// appendMap leaves out the members with the keys to omit.
func appendMap(b []byte, m map[string]any, omit ...string) []byte {
	var few [16]string // room for the usual number of keys without an allocation
	keys := few[:0]
	for key := range m {
		if !slices.Contains(omit, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, key := range keys {
		b = appendValue(appendText(b, key), m[key])
	}
	return b
}
