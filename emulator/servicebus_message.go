package emulator

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"unicode/utf16"

	"persistor/emulator/internal/wire"
)

// content is a message as it was sent, in encoded parts. It is not changed once it is made, so that the copies of a
// message that subscriptions hold share it.
type content struct {
	header              [2]byte  // durable and priority, plus one, 0 for null
	ttl                 int64    // ms, 0 for none
	deliveryAnnotations [][]byte // a key and a value in turn, as all annotations here
	annotations         [][]byte
	properties          []byte // the section, with a message-id
	id                  []byte // the message-id, encoded
	application         []byte // the section of application properties, nil without one
	body                []byte // the sections of the body and the footer
	session             *string
	scheduled           int64 // Unix ms, 0 for not
	// made makes the body of a synthetic message of the number, instead of body.
	made   *syntheticMessages
	number int64
}

// The annotations that the service adds, or does something about.
const (
	annotationLockedUntil  = "x-opt-locked-until"
	annotationLockToken    = "x-opt-lock-token"
	annotationOrigin       = "x-opt-enqueue-sequence-number"
	annotationState        = "x-opt-message-state"
	annotationDeadLetterOf = "x-opt-deadletter-source"
	annotationScheduled    = "x-opt-scheduled-enqueue-time"
)

const (
	conditionArgument = "com.microsoft:argument-error"
	maxIDLength       = 128 // characters of a session id or a message id
)

// parseContent takes a message apart; the parts are slices of b.
func parseContent(b []byte) (*content, error) {
	c := &content{}
	var open *[]byte // the part that ends where the next section begins
	var start int
	var fields wire.PropertyFields
	for section, err := range wire.Sections(b) {
		if err != nil {
			return nil, err
		}
		if open != nil && open != &c.body {
			*open, open = b[start:section.Start:section.Start], nil
		}
		switch section.Code {
		case wire.SectionHeader:
			err = c.parseHeader(section.Value)
		case wire.SectionDeliveryAnnotations:
			c.deliveryAnnotations = c.annotate(section.Value)
		case wire.SectionMessageAnnotations:
			c.annotations = c.annotate(section.Value)
		case wire.SectionProperties:
			open, start = &c.properties, section.Start
			fields, err = wire.ParsePropertyFields(section.Value)
		case wire.SectionApplicationProperties:
			open, start = &c.application, section.Start
		default:
			if open == nil {
				open, start = &c.body, section.Start
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if open != nil {
		*open = b[start:len(b):len(b)]
	}
	return c, c.identify(&fields)
}

func (c *content) parseHeader(value []byte) error {
	r := wire.NewReader(value)
	fields := r.List()
	if durable := fields.OptionalBool(); durable != nil {
		c.header[0] = 1
		if *durable {
			c.header[0] = 2
		}
	}
	if priority := fields.Uint8(); priority != nil && *priority < math.MaxUint8 {
		c.header[1] = *priority + 1
	}
	c.ttl = int64(fields.Uint32Or(0))
	return fields.Err()
}

// annotate returns those of a message's annotations that the service passes on, and takes note of when the message is
// to be enqueued.
func (c *content) annotate(annotations []byte) [][]byte {
	var kept [][]byte
	pairs := wire.NewReader(annotations).Map()
	for pairs.More() {
		name, value := pairs.Raw(), pairs.Raw()
		switch wire.NewReader(name).Any() {
		case wire.Symbol(annotationSequence), wire.Symbol(annotationEnqueued), wire.Symbol(annotationLockedUntil), wire.Symbol(annotationLockToken),
			wire.Symbol(annotationOrigin), wire.Symbol(annotationState), wire.Symbol(annotationDeadLetterOf):
			continue // the service's own
		case wire.Symbol(annotationScheduled):
			due, _ := wire.NewReader(wire.AppendRaw(nil, value)).Any().(wire.Timestamp)
			c.scheduled = int64(due)
		}
		kept = append(kept, name, value)
	}
	return kept
}

// identify checks the session id, and sees that there is a message id.
func (c *content) identify(fields *wire.PropertyFields) error {
	if raw := fields[wire.PropertyGroupID]; raw != nil {
		id, ok := wire.NewReader(raw).Any().(string)
		if !ok {
			return &wire.Error{Condition: wire.ConditionInvalidField, Description: "the group-id, which is the session id, is no string"}
		}
		if tooLong(id) {
			return &wire.Error{Condition: conditionArgument, Description: fmt.Sprintf("The session id has more than %d characters.", maxIDLength)}
		}
		c.session = &id
	}
	switch raw := fields[wire.PropertyMessageID]; {
	case raw == nil:
		var id [16]byte
		rand.Read(id[:])
		fields[wire.PropertyMessageID] = wire.AppendString(nil, hex.EncodeToString(id[:]))
		c.properties = wire.AppendPropertyFields(nil, fields)
	case len(raw) > maxIDLength:
		if id, ok := wire.NewReader(raw).Any().(string); ok && tooLong(id) {
			return &wire.Error{Condition: conditionArgument, Description: fmt.Sprintf("The message id has more than %d characters.", maxIDLength)}
		}
	}
	c.id = fields[wire.PropertyMessageID]
	return nil
}

// tooLong counts as the service does, in UTF-16.
func tooLong(id string) bool {
	return len(id) > maxIDLength && len(utf16.Encode([]rune(id))) > maxIDLength
}

// size is what the message counts for in a queue's size.
func (c *content) size() int64 {
	n := len(c.properties) + len(c.application) + len(c.body)
	if c.made != nil {
		n += c.made.BodySize
	}
	for _, part := range c.deliveryAnnotations {
		n += len(part)
	}
	for _, part := range c.annotations {
		n += len(part)
	}
	return int64(n)
}

func (c *content) appendHeader(dst []byte, deliveries uint32) []byte {
	switch c.header[0] {
	case 0:
		dst = wire.AppendNull(dst)
	default:
		dst = wire.AppendBool(dst, c.header[0] == 2)
	}
	if c.header[1] == 0 {
		dst = wire.AppendNull(dst)
	} else {
		dst = wire.AppendAny(dst, c.header[1]-1)
	}
	if c.ttl == 0 {
		dst = wire.AppendNull(dst)
	} else {
		dst = wire.AppendUint(dst, uint32(min(c.ttl, math.MaxUint32)))
	}
	return wire.AppendUint(wire.AppendNull(dst), deliveries)
}

// appendRest appends the sections behind the annotations.
func (c *content) appendRest(dst []byte) []byte {
	dst = append(append(dst, c.properties...), c.application...)
	if c.made != nil {
		return c.made.appendBody(dst, c.number)
	}
	return append(dst, c.body...)
}

// property returns an application property, nil if there is none.
func (c *content) property(name string) any {
	for section := range wire.Sections(c.application) {
		properties, _ := wire.NewReader(section.Value).Any().(wire.Map)
		return properties.Get(name)
	}
	return nil
}

// withProperties returns the message with application properties set to other values. A value of a type that cannot
// stand there is an error.
func (c *content) withProperties(changes wire.Map) (*content, error) {
	if len(changes) == 0 {
		return c, nil
	}
	for _, p := range changes {
		if _, ok := p.Key.(string); !ok {
			if _, ok := p.Key.(wire.Symbol); !ok {
				return nil, &wire.Error{Condition: wire.ConditionInvalidField, Description: fmt.Sprintf("the name of a property is no string but %T", p.Key)}
			}
		}
		if !wire.Simple(p.Value) {
			return nil, &wire.Error{Condition: wire.ConditionInvalidField, Description: fmt.Sprintf("a property cannot be of the type %T", p.Value)}
		}
	}
	count := len(changes)
	var kept []byte
	for section := range wire.Sections(c.application) {
		pairs := wire.NewReader(section.Value).Map()
		for pairs.More() {
			name, value := pairs.Raw(), pairs.Raw()
			if key, ok := wire.NewReader(wire.AppendRaw(nil, name)).OptionalString(); ok && has(changes, key) {
				continue
			}
			kept = wire.AppendRaw(wire.AppendRaw(kept, name), value)
			count++
		}
	}
	changed := *c
	changed.application = wire.AppendMap(wire.AppendSection(nil, wire.SectionApplicationProperties), count, func(dst []byte) []byte {
		dst = append(dst, kept...)
		for _, p := range changes {
			if name, ok := p.Key.(wire.Symbol); ok {
				p.Key = string(name)
			}
			dst = wire.AppendAny(wire.AppendAny(dst, p.Key), p.Value)
		}
		return dst
	})
	return &changed, nil
}

func has(m wire.Map, key string) bool {
	for _, p := range m {
		if p.Key == key || p.Key == wire.Symbol(key) {
			return true
		}
	}
	return false
}

// encode encodes the message as it was sent.
func (c *content) encode() []byte {
	m := message{content: c}
	b := m.appendHeaderSection(make([]byte, 0, c.size()+100))
	b = appendRawPairs(b, wire.SectionDeliveryAnnotations, c.deliveryAnnotations)
	b = appendRawPairs(b, wire.SectionMessageAnnotations, c.annotations)
	return c.appendRest(b)
}

func appendRawPairs(dst []byte, section byte, pairs [][]byte) []byte {
	return wire.AppendMap(wire.AppendSection(dst, section), len(pairs)/2, func(dst []byte) []byte {
		for _, raw := range pairs {
			dst = wire.AppendRaw(dst, raw)
		}
		return dst
	})
}

// MessageState is what a message in a queue waits for.
type MessageState uint8

const (
	MessageActive    MessageState = iota // a receiver
	MessageLocked                        // to be settled by the receiver that has it
	MessageDeferred                      // to be received by its sequence number; it may be locked too
	MessageScheduled                     // its time
	messageGone                          // it is in the queue no more
)

func (s MessageState) String() string {
	switch s {
	case MessageActive:
		return "active"
	case MessageLocked:
		return "locked"
	case MessageDeferred:
		return "deferred"
	case MessageScheduled:
		return "scheduled"
	}
	return "gone"
}

// message is a message in a queue, whose lock guards it.
type message struct {
	*content
	sequence   int64
	enqueued   int64 // Unix ms
	expires    int64 // Unix ms, math.MaxInt64 for never
	state      MessageState
	deliveries uint32          // that failed
	group      *messageSession // nil in a queue without sessions
	source     string          // the queue that it was dead-lettered in
	origin     int64           // its sequence number there

	locked         bool
	token          uint64 // one half of the lock token, whose other half is the sequence number
	lockedUntil    int64  // Unix ms
	earlier, later *message
	position       int // in the heap that it is in, -1 if it is in none
}

const never = math.MaxInt64

// append appends the message as a client receives it.
func (m *message) append(dst []byte) []byte {
	dst = m.appendHeaderSection(slices.Grow(dst, int(m.size())+256))
	if m.locked || len(m.deliveryAnnotations) > 0 {
		dst = m.appendDeliveryAnnotations(dst)
	}
	return m.appendRest(m.appendAnnotations(dst))
}

func (m *message) appendHeaderSection(dst []byte) []byte {
	return wire.AppendList(wire.AppendSection(dst, wire.SectionHeader), 5, func(dst []byte) []byte { return m.appendHeader(dst, m.deliveries) })
}

func (m *message) appendDeliveryAnnotations(dst []byte) []byte {
	count := len(m.deliveryAnnotations) / 2
	if m.locked {
		count++
	}
	return wire.AppendMap(wire.AppendSection(dst, wire.SectionDeliveryAnnotations), count, func(dst []byte) []byte {
		for _, raw := range m.deliveryAnnotations {
			dst = wire.AppendRaw(dst, raw)
		}
		if m.locked {
			dst = wire.AppendUUID(wire.AppendSymbol(dst, annotationLockToken), m.lockToken())
		}
		return dst
	})
}

func (m *message) appendAnnotations(dst []byte) []byte {
	count := 2 + len(m.annotations)/2
	for _, more := range []bool{m.locked, m.state != MessageActive, m.source != "", m.origin != 0} {
		if more {
			count++
		}
	}
	return wire.AppendMap(wire.AppendSection(dst, wire.SectionMessageAnnotations), count, func(dst []byte) []byte {
		for _, raw := range m.annotations {
			dst = wire.AppendRaw(dst, raw)
		}
		dst = wire.AppendLong(wire.AppendSymbol(dst, annotationSequence), m.sequence)
		dst = wire.AppendTimestamp(wire.AppendSymbol(dst, annotationEnqueued), m.enqueued)
		if m.locked {
			dst = wire.AppendTimestamp(wire.AppendSymbol(dst, annotationLockedUntil), m.lockedUntil)
		}
		switch m.state {
		case MessageDeferred:
			dst = wire.AppendAny(wire.AppendSymbol(dst, annotationState), int32(1))
		case MessageScheduled:
			dst = wire.AppendAny(wire.AppendSymbol(dst, annotationState), int32(2))
		}
		if m.source != "" {
			dst = wire.AppendString(wire.AppendSymbol(dst, annotationDeadLetterOf), m.source)
		}
		if m.origin != 0 {
			dst = wire.AppendLong(wire.AppendSymbol(dst, annotationOrigin), m.origin)
		}
		return dst
	})
}
