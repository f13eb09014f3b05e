package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"persistor/internal/message"
)

// A parser reads one record at a time. Since TYPES comes last but is needed first, it finds the members
// before it reads any.
type parser struct {
	members [len(memberNames)][]byte // as found in the record, nil when absent
}

// The members of a record, in the order in which Append writes them.
const (
	memberData = iota
	memberEncoding
	memberSections
	memberBody
	memberMetadata
	memberSystem
	memberTypes
)

var memberNames = [...]string{"DATA", "ENCODING", "SECTIONS", "BODY", "METADATA", "SYSTEM", "TYPES"}

func (p *parser) message(line []byte) (*message.Message, error) {
	if !utf8.Valid(line) {
		return nil, errors.New("the record is not UTF-8")
	}
	if err := p.find(line); err != nil {
		return nil, err
	}
	types, err := p.types()
	if err != nil {
		return nil, fmt.Errorf("TYPES: %w", err)
	}
	m := new(message.Message)
	if err := p.body(&m.Body, types["DATA"]); err != nil {
		return nil, err
	}
	if raw := p.members[memberMetadata]; raw != nil {
		if m.Properties, err = readMap(&scanner{line: raw}, types["METADATA"]); err != nil {
			return nil, fmt.Errorf("METADATA: %w", err)
		}
	}
	if raw := p.members[memberSystem]; raw != nil {
		if err := readSystem(&scanner{line: raw}, m, types["SYSTEM"]); err != nil {
			return nil, fmt.Errorf("SYSTEM: %w", err)
		}
	}
	return m, nil
}

// find finds the members of the record that the line holds, in any order.
func (p *parser) find(line []byte) error {
	clear(p.members[:])
	s := scanner{line: line}
	err := s.members(func(key []byte) error {
		for i, name := range memberNames {
			if string(key) != name {
				continue
			}
			if p.members[i] != nil {
				return fmt.Errorf("%s is there twice", name)
			}
			s.peek()
			start := s.at
			err := s.skip()
			p.members[i] = line[start:s.at]
			return err
		}
		return fmt.Errorf("unknown member %.40q", key)
	})
	if err != nil {
		return err
	}
	if s.peek(); s.at < len(line) {
		return s.fail("nothing more")
	}
	if p.members[memberData] == nil {
		return errors.New("DATA is missing")
	}
	return nil
}

func (p *parser) types() (map[string]any, error) {
	raw := p.members[memberTypes]
	if raw == nil {
		return nil, nil
	}
	types, err := readMap(&scanner{line: raw}, nil)
	if err != nil {
		return nil, err
	}
	for key := range types {
		if key != "DATA" && key != "METADATA" && key != "SYSTEM" {
			return nil, fmt.Errorf("unknown member %.40q", key)
		}
	}
	return types, nil
}

// body reads DATA as ENCODING, SECTIONS and BODY say.
func (p *parser) body(b *message.Body, types any) error {
	encoding, sections, kind := p.members[memberEncoding], p.members[memberSections], p.members[memberBody]
	s := &scanner{line: p.members[memberData]}
	if kind != nil && (encoding != nil || sections != nil) || kind == nil && types != nil {
		return errors.New("BODY goes with TYPES, and not with ENCODING or SECTIONS")
	}
	var err error
	switch {
	case kind == nil:
		b.Data, err = readData(s, encoding, sections)
	case string(kind) == `"value"`:
		b.Kind = message.Value
		b.Value, err = s.value(types, 0)
	case string(kind) == `"sequence"`:
		b.Kind = message.Sequence
		b.Sequence, err = readSequence(s, types)
	case string(kind) == `"json"` && types == nil:
		b.Kind = message.JSON
		b.JSON, err = readJSON(s)
	default:
		return fmt.Errorf("BODY is %.40s, expected \"value\", \"sequence\" or \"json\", the last without TYPES", kind)
	}
	if err != nil {
		return fmt.Errorf("DATA: %w", err)
	}
	return nil
}

func readData(s *scanner, encoding, sections []byte) ([][]byte, error) {
	raw, escaped, err := s.rawText()
	if err != nil {
		return nil, err
	}
	var data []byte
	switch {
	case escaped:
		if data, err = unescapeText(raw); err != nil {
			return nil, err
		}
	case encoding == nil:
		data = bytes.Clone(raw)
	default:
		data = raw
	}
	if encoding != nil {
		if string(encoding) != `"base64"` {
			return nil, fmt.Errorf("ENCODING is %.40s, expected \"base64\"", encoding)
		}
		if data, err = fromBase64(data); err != nil {
			return nil, err
		}
	}
	if sections == nil {
		return [][]byte{data}, nil
	}
	return cutSections(data, &scanner{line: sections})
}

// cutSections cuts data into sections of the lengths that s lists.
func cutSections(data []byte, s *scanner) ([][]byte, error) {
	var sections [][]byte
	err := s.elements('[', ']', func() error {
		v, err := s.scalar("uint")
		if err != nil {
			return err
		}
		n := int(v.(uint32))
		if n > len(data) {
			return errors.New("SECTIONS add up to more than there is")
		}
		sections = append(sections, data[:n:n])
		data = data[n:]
		return nil
	})
	if err == nil && len(data) > 0 {
		err = errors.New("SECTIONS add up to less than there is")
	}
	return sections, err
}

// readJSON reads a value that stands for itself.
func readJSON(s *scanner) ([]byte, error) {
	if !json.Valid(s.line) {
		return nil, errors.New("no JSON value")
	}
	return bytes.Clone(s.line), nil
}

func readSequence(s *scanner, types any) ([][]any, error) {
	v, err := s.value(types, 0)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("a sequence body is not a list of lists")
	}
	var sequence [][]any
	for _, v := range list {
		section, ok := v.([]any)
		if !ok {
			return nil, errors.New("a sequence body is not a list of lists")
		}
		sequence = append(sequence, section)
	}
	return sequence, nil
}

// readSystem reads the members of SYSTEM into m.
func readSystem(s *scanner, m *message.Message, types any) error {
	inner, ok := types.(map[string]any)
	if types != nil && !ok {
		return errTypes
	}
	var seen [32]string
	keys := seen[:0]
	return s.members(func(key []byte) error {
		for _, k := range keys {
			if k == string(key) {
				return fmt.Errorf("%s is there twice", k)
			}
		}
		name := string(key)
		keys = append(keys, name)
		if err := readSystemMember(s, m, name, inner[name]); err != nil {
			return fmt.Errorf("%.40q: %w", name, err)
		}
		return nil
	})
}

func readSystemMember(s *scanner, m *message.Message, name string, types any) (err error) {
	switch name {
	case "sequence_number":
		m.SequenceNumber, err = read[int64](s, "long")
	case "enqueued_time":
		m.EnqueuedTime, err = read[time.Time](s, "timestamp")
	case "creation_time":
		m.CreationTime, err = readPointer[time.Time](s, "timestamp")
	case "absolute_expiry_time":
		m.AbsoluteExpiryTime, err = readPointer[time.Time](s, "timestamp")
	case "scheduled_enqueue_time":
		m.ScheduledEnqueueTime, err = readPointer[time.Time](s, "timestamp")
	case "time_to_live_ms":
		m.TimeToLive, err = readMilliseconds(s)
	case "delivery_count":
		m.DeliveryCount, err = read[uint32](s, "uint")
	case "enqueued_sequence_number":
		m.EnqueuedSequenceNumber, err = readPointer[int64](s, "long")
	case "group_sequence":
		m.GroupSequence, err = readPointer[uint32](s, "uint")
	case "user_id":
		m.UserID, err = read[[]byte](s, "binary")
	case "message_id":
		m.ID, err = s.value(types, 0)
	case "correlation_id":
		m.CorrelationID, err = s.value(types, 0)
	case "annotations":
		m.Annotations, err = readMap(s, types)
	default:
		return readText(s, m, name, types)
	}
	return err
}

// readText reads a member of SYSTEM that is a string.
func readText(s *scanner, m *message.Message, name string, types any) error {
	kind := "string"
	if types != nil {
		if types != stringInBase64 {
			return errTypes
		}
		kind = stringInBase64
	}
	value, err := readPointer[string](s, kind)
	if err != nil {
		return err
	}
	switch name {
	case "offset":
		m.Offset = *value
	case "partition":
		m.Partition = *value
	case "partition_key":
		m.PartitionKey = value
	case "content_type":
		m.ContentType = value
	case "content_encoding":
		m.ContentEncoding = value
	case "subject":
		m.Subject = value
	case "to":
		m.To = value
	case "reply_to":
		m.ReplyTo = value
	case "group_id":
		m.GroupID = value
	case "reply_to_group_id":
		m.ReplyToGroupID = value
	case "session_id":
		m.SessionID = value
	case "reply_to_session_id":
		m.ReplyToSessionID = value
	case "dead_letter_reason":
		m.DeadLetterReason = value
	case "dead_letter_description":
		m.DeadLetterDescription = value
	case "dead_letter_source":
		m.DeadLetterSource = value
	default:
		return errors.New("unknown member")
	}
	return nil
}

// readMap reads a map with strings for keys, the whole of what s holds or a part of it.
func readMap(s *scanner, types any) (map[string]any, error) {
	v, err := s.value(types, 0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	return m, nil
}

// readMilliseconds reads a duration, which is a whole number of milliseconds.
func readMilliseconds(s *scanner) (*time.Duration, error) {
	ms, err := read[int64](s, "long")
	if err != nil {
		return nil, err
	}
	d := time.Duration(ms) * time.Millisecond
	if d.Milliseconds() != ms {
		return nil, fmt.Errorf("%d milliseconds are more than 292 years", ms)
	}
	return &d, nil
}

// read reads a scalar of the named type, whose Go form is T.
func read[T any](s *scanner, name string) (value T, err error) {
	v, err := s.scalar(name)
	if err != nil {
		return value, err
	}
	return v.(T), nil
}

func readPointer[T any](s *scanner, name string) (*T, error) {
	value, err := read[T](s, name)
	if err != nil {
		return nil, err
	}
	return &value, nil
}
