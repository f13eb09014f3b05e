package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"persistor/internal/host"
)

// fields are what the host says of the messages of one invocation: of one message by NAME, of many by NAMEArray.
type fields struct {
	metadata host.Metadata
	many     bool
	count    int // messages
	arrays   map[string][]json.RawMessage
}

// arraySuffix ends the name of what is said of many messages.
const arraySuffix = "Array"

func newFields(m host.Metadata, many bool, count int) *fields {
	return &fields{metadata: m, many: many, count: count, arrays: map[string][]json.RawMessage{}}
}

// of is what is said of message n by name, nil for nothing.
func (f *fields) of(n int, name string) (json.RawMessage, error) {
	if !f.many {
		var value json.RawMessage
		there, err := f.metadata.Into(name, &value)
		if !there || err != nil || isNull(value) {
			return nil, err
		}
		return value, nil
	}
	array, known := f.arrays[name]
	if !known {
		there, err := f.metadata.Into(name+arraySuffix, &array)
		if err != nil {
			return nil, err
		}
		if there && len(array) != f.count {
			return nil, fmt.Errorf("metadata %s tells of %d messages, but there are %d", name+arraySuffix, len(array), f.count)
		}
		f.arrays[name] = array
	}
	if array == nil || isNull(array[n]) {
		return nil, nil
	}
	return array[n], nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// number is a whole number that must be there.
func (f *fields) number(n int, name string) (number int64, err error) {
	raw, err := f.of(n, name)
	switch {
	case err != nil:
		return 0, err
	case raw == nil:
		return 0, fmt.Errorf("metadata have no %s", name)
	}
	if err := json.Unmarshal(raw, &number); err != nil {
		return 0, fmt.Errorf("metadata %s is no whole number", name)
	}
	return number, nil
}

// time is a time that must be there, in UTC.
func (f *fields) time(n int, name string) (time.Time, error) {
	raw, err := f.of(n, name)
	if err == nil && raw == nil {
		err = fmt.Errorf("metadata have no %s", name)
	}
	if err != nil {
		return time.Time{}, err
	}
	at, err := parseTime(textOf(raw))
	if err != nil {
		return time.Time{}, fmt.Errorf("metadata %s: %w", name, err)
	}
	return at, nil
}

// text is a string, nil when there is none. A number is its digits.
func (f *fields) text(n int, name string) (*string, error) {
	raw, err := f.of(n, name)
	if raw == nil || err != nil {
		return nil, err
	}
	text := textOf(raw)
	return &text, nil
}

// object is an object's members, nil when there are none.
func (f *fields) object(n int, name string) (map[string]any, error) {
	raw, err := f.of(n, name)
	if raw == nil || err != nil {
		return nil, err
	}
	var text string
	if json.Unmarshal(raw, &text) == nil { // as text, as other values are
		raw = json.RawMessage(text)
	}
	members, err := objectOf(raw)
	if err != nil {
		return nil, fmt.Errorf("metadata %s: %w", name, err)
	}
	return members, nil
}

// objectOf decodes an object. Numbers become the AMQP types that a record writes without naming a type, as long as
// they fit into one; else they stay the text they are.
func objectOf(raw json.RawMessage) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var members map[string]any
	if err := decoder.Decode(&members); err != nil {
		return nil, errors.New("it is no JSON object")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("more than a JSON object")
	}
	if len(members) == 0 {
		return nil, nil
	}
	for key, value := range members {
		members[key] = natural(value)
	}
	return members, nil
}

// natural is a decoded value with natural types for its numbers.
func natural(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
			return f
		}
		return v.String()
	case []any:
		for i := range v {
			v[i] = natural(v[i])
		}
	case map[string]any:
		for key := range maps.Keys(v) {
			v[key] = natural(v[key])
		}
	}
	return value
}

// textOf is the string that raw is, or the text of what it is instead.
func textOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// timeForms are how times come: as RFC 3339; as .NET writes a UTC time whose kind it has forgotten.
var timeForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"}

// parseTime reads a time of the years 1 to 9999, to the millisecond, which is as fine as AMQP's are.
func parseTime(text string) (time.Time, error) {
	for _, form := range timeForms {
		at, err := time.Parse(form, text)
		if at = at.UTC().Truncate(time.Millisecond); err == nil && at.Year() >= 1 && at.Year() <= 9999 {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no time such as 2026-01-31T08:00:00Z", text)
}
