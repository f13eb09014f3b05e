package emulator

import (
	"crypto/rand"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"persistor/emulator/internal/wire"
)

// ruleMessage is a message as rules see it. It is taken apart when a rule first looks into it, so that a topic whose
// rules do not pays nothing. It is for one goroutine.
type ruleMessage struct {
	message  []byte // encoded, whole, as it was sent
	sequence int64  // given by the topic
	enqueued time.Time
	expires  time.Time // zero for never

	apart       bool
	head, tail  []byte // the sections before the properties, and those after the application properties
	ttl         any
	annotations wire.Map
	fields      wire.PropertyFields
	application []ruleProperty
}

// ruleProperty is an application property, encoded, so that what no rule touches stays as it was.
type ruleProperty struct {
	name       string
	key, value []byte
}

// takeApart splits the message into sections. It was checked when it was sent, so what cannot be read is not there.
func (m *ruleMessage) takeApart() {
	if m.apart {
		return
	}
	m.apart = true
	m.head = m.message
	for section, err := range wire.Sections(m.message) {
		if err != nil {
			return
		}
		value := wire.NewReader(section.Value)
		switch section.Code {
		case wire.SectionHeader:
			header := value.List()
			header.Raw() // durable
			header.Raw() // priority
			m.ttl = header.Any()
		case wire.SectionMessageAnnotations:
			m.annotations, _ = value.Any().(wire.Map)
		case wire.SectionProperties:
			m.fields, _ = wire.ParsePropertyFields(section.Value)
		case wire.SectionApplicationProperties:
			for pairs := value.Map(); pairs.More(); {
				p := ruleProperty{key: pairs.Raw(), value: pairs.Raw()}
				p.name, _ = wire.NewReader(p.key).Any().(string)
				m.application = append(m.application, p)
			}
		}
		if section.Code >= wire.SectionProperties && len(m.head) == len(m.message) {
			m.head = m.message[:section.Start]
		}
		if section.Code > wire.SectionApplicationProperties {
			m.tail = m.message[section.Start:]
			return
		}
	}
}

// field returns a field of the properties section, nil for null.
func (m *ruleMessage) field(i int) any {
	m.takeApart()
	if m.fields[i] == nil {
		return nil
	}
	return wire.NewReader(m.fields[i]).Any()
}

// text returns a field as text, nil for null and for what has no text: message-id and correlation-id have four types.
func (m *ruleMessage) text(i int) any {
	switch v := m.field(i).(type) {
	case uint64:
		return strconv.FormatUint(v, 10)
	case string, wire.Symbol, wire.UUID:
		return ruleValue(v)
	}
	return nil
}

// property finds an application property, one of the very name before one that differs in case.
func (m *ruleMessage) property(name string) (value any, found bool) {
	i := m.propertyIndex(name)
	if i < 0 {
		return nil, false
	}
	return wire.NewReader(m.application[i].value).Any(), true
}

func (m *ruleMessage) propertyIndex(name string) int {
	m.takeApart()
	if i := slices.IndexFunc(m.application, func(p ruleProperty) bool { return p.name == name }); i >= 0 {
		return i
	}
	return slices.IndexFunc(m.application, func(p ruleProperty) bool { return strings.EqualFold(p.name, name) })
}

// systemProperty is a property that a name after sys. stands for.
type systemProperty struct {
	read func(*ruleMessage) any
	// field is the place in the properties section of what actions can set, -1 of what they can't.
	field int
}

// systemProperties are by lower-cased name those of a message in the service's libraries, old and new. What a message
// has only once it is received, such as a lock, is null.
var systemProperties = func() map[string]systemProperty {
	all := map[string]systemProperty{}
	for name, field := range map[string]int{
		"messageid": wire.PropertyMessageID, "to": wire.PropertyTo, "label": wire.PropertySubject, "subject": wire.PropertySubject, "replyto": wire.PropertyReplyTo,
		"correlationid": wire.PropertyCorrelationID, "contenttype": wire.PropertyContentType, "sessionid": wire.PropertyGroupID,
		"replytosessionid": wire.PropertyReplyToGroupID,
	} {
		all[name] = systemProperty{func(m *ruleMessage) any { return m.text(field) }, field}
	}
	annotation := func(name string) func(*ruleMessage) any {
		return func(m *ruleMessage) any { m.takeApart(); return m.annotations.Get(name) }
	}
	for name, read := range map[string]func(*ruleMessage) any{
		"sequencenumber":          func(m *ruleMessage) any { return m.sequence },
		"enqueuedsequencenumber":  func(m *ruleMessage) any { return m.sequence },
		"enqueuedtimeutc":         func(m *ruleMessage) any { return m.enqueued },
		"enqueuedtime":            func(m *ruleMessage) any { return m.enqueued },
		"expiresatutc":            func(m *ruleMessage) any { return timeOrNull(m.expires) },
		"expiresat":               func(m *ruleMessage) any { return timeOrNull(m.expires) },
		"timetolive":              (*ruleMessage).timeToLive,
		"deliverycount":           func(*ruleMessage) any { return int64(0) },
		"size":                    func(m *ruleMessage) any { return int64(len(m.message)) },
		"partitionkey":            annotation("x-opt-partition-key"),
		"viapartitionkey":         annotation("x-opt-via-partition-key"),
		"transactionpartitionkey": annotation("x-opt-via-partition-key"),
		"scheduledenqueuetimeutc": annotation("x-opt-scheduled-enqueue-time"),
		"scheduledenqueuetime":    annotation("x-opt-scheduled-enqueue-time"),
		"deadlettersource":        func(*ruleMessage) any { return nil },
		"locktoken":               func(*ruleMessage) any { return nil },
		"lockeduntilutc":          func(*ruleMessage) any { return nil },
		"lockeduntil":             func(*ruleMessage) any { return nil },
	} {
		all[name] = systemProperty{read, -1}
	}
	return all
}()

// settableProperties are the names that actions can set, for errors.
var settableProperties = func() string {
	names := slices.Sorted(maps.Keys(systemProperties))
	names = slices.DeleteFunc(names, func(name string) bool { return systemProperties[name].field < 0 })
	return strings.Join(names, ", ")
}()

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

func (m *ruleMessage) timeToLive() any {
	if m.takeApart(); m.ttl == nil {
		return nil
	}
	ms, _ := ruleValue(m.ttl).(int64)
	return time.Duration(ms) * time.Millisecond
}

// ruleValue makes a value of a message one of the few types that operators know: nil for null, string, bool, int64,
// float64, time.Time and time.Duration. Any other stays as it is: it is there, but goes together with nothing.
func ruleValue(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int8:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case uint8:
		return int64(v)
	case uint16:
		return int64(v)
	case uint32:
		return int64(v)
	case uint64:
		if v > math.MaxInt64 {
			return float64(v)
		}
		return int64(v)
	case float32:
		return float64(v)
	case wire.Symbol:
		return string(v)
	case wire.Char:
		return string(rune(v))
	case wire.UUID:
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:])
	case wire.Timestamp:
		return time.UnixMilli(int64(v)).UTC()
	}
	return v
}

// changed returns a copy of the message that a rule's action has run on.
func (m *ruleMessage) changed(rule *compiledRule) []byte {
	m.takeApart()
	changed := *m
	changed.application = slices.Clone(m.application)
	changed.set(ruleNameAdded, rule.Name)
	for _, statement := range rule.action {
		statement(&changed)
	}
	return changed.encode()
}

// set sets an application property. A number takes the type of the one that it replaces if it fits.
func (m *ruleMessage) set(name string, v any) {
	i := m.propertyIndex(name)
	if i < 0 {
		i = len(m.application)
		m.application = append(m.application, ruleProperty{name: name, key: wire.AppendString(nil, name)})
	} else {
		v = fitInto(wire.NewReader(m.application[i].value).Any(), v)
	}
	m.application[i].value = wire.AppendAny(nil, storable(v))
}

// setField sets a field of the properties section to the text of a value, or to null.
func (m *ruleMessage) setField(i int, v any) {
	switch v := ruleValue(v).(type) {
	case string:
		m.fields[i] = wire.AppendString(nil, v)
	case bool, int64, float64:
		m.fields[i] = wire.AppendString(nil, fmt.Sprint(v))
	case time.Time:
		m.fields[i] = wire.AppendString(nil, v.UTC().Format(time.RFC3339Nano))
	default:
		m.fields[i] = nil
	}
}

func (m *ruleMessage) remove(name string) {
	if i := m.propertyIndex(name); i >= 0 {
		m.application = slices.Delete(m.application, i, i+1)
	}
}

func (m *ruleMessage) encode() []byte {
	b := slices.Clone(m.head)
	if slices.ContainsFunc(m.fields[:], func(f []byte) bool { return f != nil }) {
		b = wire.AppendPropertyFields(b, &m.fields)
	}
	if len(m.application) > 0 {
		b = wire.AppendMap(wire.AppendSection(b, wire.SectionApplicationProperties), len(m.application), func(b []byte) []byte {
			for _, p := range m.application {
				b = wire.AppendRaw(wire.AppendRaw(b, p.key), p.value)
			}
			return b
		})
	}
	return append(b, m.tail...)
}

// fitInto gives a number the type of the one it replaces, unless that would change it.
func fitInto(old, v any) any {
	var fitted any
	switch n := v.(type) {
	case float64:
		if _, single := old.(float32); single {
			fitted = float32(n)
		}
	case int64:
		switch old.(type) {
		case int8:
			fitted = int8(n)
		case int16:
			fitted = int16(n)
		case int32:
			fitted = int32(n)
		case uint8:
			fitted = uint8(n)
		case uint16:
			fitted = uint16(n)
		case uint32:
			fitted = uint32(n)
		case uint64:
			fitted = uint64(n)
		}
	}
	if same, _ := equalKind(ruleValue(fitted), v); !same {
		return v
	}
	return fitted
}

// storable returns a value as it can stand among the application properties, null for what can't.
func storable(v any) any {
	switch v := v.(type) {
	case time.Time:
		return wire.Timestamp(v.UnixMilli())
	case time.Duration:
		// As the service's clients for .NET write one: hundreds of nanoseconds.
		return wire.Described{Descriptor: wire.Symbol("com.microsoft:timespan"), Value: int64(v / 100)}
	case int:
		return int64(v)
	case bool, string, []byte, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float32, float64,
		wire.Symbol, wire.Timestamp, wire.UUID, wire.Char, wire.Decimal:
		return v
	}
	return nil
}

// newID is what the function newid returns.
func newID(*ruleMessage) any {
	var id wire.UUID
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}
