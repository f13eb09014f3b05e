package host

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Payload is the data of a binding as the host wrote it. Its methods undo the host's encodings; which one applies
// is a matter of the binding's cardinality and dataType in function.json. What they return shares no memory
// with the payload unless it is JSON.
type Payload json.RawMessage

// Bytes is a payload of cardinality one with dataType binary, which is sent as base64.
func (p Payload) Bytes() ([]byte, error) {
	var text *string
	if err := json.Unmarshal(p, &text); err != nil || text == nil {
		return nil, fmt.Errorf("decode payload: want base64 in a string, as of cardinality one and dataType binary, not %s", p.kind())
	}
	decoded, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		return nil, fmt.Errorf("decode payload: %w: set dataType to binary in function.json", err)
	}
	return decoded, nil
}

// ByteArrays is a payload of cardinality many with dataType binary: the JSON text of an array of base64,
// in a JSON string. An array as it is will do, too.
func (p Payload) ByteArrays() ([][]byte, error) {
	if all, ok := p.plainByteArrays(); ok {
		return all, nil
	}
	var all [][]byte
	if err := json.Unmarshal(p.unquoted(), &all); err != nil || all == nil {
		return nil, fmt.Errorf("decode payload: want an array of base64, as of cardinality many and dataType binary, not %s", p.kind())
	}
	for n, b := range all {
		if b == nil {
			return nil, fmt.Errorf("decode payload: element %d is null, and not base64", n)
		}
	}
	return all, nil
}

// plainByteArrays decodes what the host writes as a rule, "[\"AP8=\",\"YQ==\"]" to the letter, without the copies
// and passes that a JSON decoder needs. It leaves everything else, and every error, to one.
func (p Payload) plainByteArrays() ([][]byte, bool) {
	rest, ok := bytes.CutPrefix(p, []byte(`"[\"`))
	if ok {
		rest, ok = bytes.CutSuffix(rest, []byte(`\"]"`))
	}
	if !ok {
		return nil, false
	}
	all := make([][]byte, 0, 1+bytes.Count(rest, []byte{','}))
	for text := range bytes.SplitSeq(rest, []byte(`\",\"`)) {
		decoded := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Decode(decoded, text)
		if err != nil {
			return nil, false
		}
		all = append(all, decoded[:n])
	}
	return all, true
}

// Text is a payload of dataType string, or with none, of cardinality one: the JSON text of a string, in a JSON
// string. A string that is encoded but once will do, too, as long as it isn't such a text itself.
func (p Payload) Text() (string, error) {
	var once, twice *string
	if err := json.Unmarshal(p, &once); err != nil || once == nil {
		return "", fmt.Errorf("decode payload: want a string, not %s", p.kind())
	}
	if json.Unmarshal([]byte(*once), &twice) == nil && twice != nil {
		return *twice, nil
	}
	return *once, nil
}

// JSON is a payload that is an object: nested, or as text in a string that is encoded once or twice. So are
// Event Grid's events, a timer's state, and messages of cardinality one whose content is an object.
func (p Payload) JSON() (json.RawMessage, error) {
	raw := p.bare()
	if len(raw) == 0 || raw[0] != '{' || !json.Valid(raw) {
		return nil, fmt.Errorf("decode payload: want a JSON object, not %s", p.kind())
	}
	return raw, nil
}

// JSONs is a payload of cardinality many whose elements are objects: an array, or its text in a string.
// Elements that are strings are taken for the text of objects.
func (p Payload) JSONs() ([]json.RawMessage, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(p.bare(), &all); err != nil || all == nil {
		return nil, fmt.Errorf("decode payload: want an array of JSON objects, as of cardinality many, not %s", p.kind())
	}
	for n, raw := range all {
		object, err := Payload(raw).JSON()
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", n, err)
		}
		all[n] = object
	}
	return all, nil
}

// unquoted is the text in the string that p is, or p as it is.
func (p Payload) unquoted() json.RawMessage {
	var text string
	if raw := bytes.TrimSpace(p); len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return raw
	}
	return json.RawMessage(text)
}

// bare is p without the strings around it, which are two at most.
func (p Payload) bare() json.RawMessage {
	return bytes.TrimSpace(Payload(p.unquoted()).unquoted())
}

// kind says what a payload is, and nothing of its content.
func (p Payload) kind() string {
	raw := bytes.TrimSpace(p)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return fmt.Sprintf("a string of %d bytes", len(raw))
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	}
	return "a number"
}

// Metadata is what the host says beside the data. Values are JSON text within a JSON string, or nested objects;
// arrays of a batch (such as SequenceNumberArray) are text, too.
type Metadata map[string]json.RawMessage

// Into undoes the JSON-in-a-string of the value of that name, once, and decodes it into v as [json.Unmarshal]
// does. A string that holds no JSON that fits v, as times do, is decoded as it is. It says whether the value is there;
// null is not.
func (m Metadata) Into(name string, v any) (there bool, err error) {
	raw, ok := m[name]
	if !ok || string(bytes.TrimSpace(raw)) == "null" {
		return false, nil
	}
	text := Payload(raw).unquoted()
	if err = json.Unmarshal(text, v); err == nil {
		return true, nil
	}
	if json.Unmarshal(raw, v) == nil {
		return true, nil
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		err = errors.New("it is no JSON of that kind")
	}
	return true, fmt.Errorf("decode metadata %.60q: %w", name, err)
}

// Retry says how often this invocation was tried before, and how often it may be by the function's retry
// policy; most -1 is without end. It is not ok where no policy is active.
func (m Metadata) Retry() (count, most int, ok bool) {
	var raw map[string]json.RawMessage
	if there, err := m.Into("RetryContext", &raw); !there || err != nil {
		return 0, 0, false
	}
	context := Metadata(raw)
	if there, err := context.Into("RetryCount", &count); !there || err != nil {
		return 0, 0, false
	}
	if there, err := context.Into("MaxRetryCount", &most); !there || err != nil {
		return 0, 0, false
	}
	return count, most, true
}
