package hosttest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The binding data of an invocation are values of these types: nil, string, int, int32, int64, bool, []byte, slices,
// map[string]any for objects and dictionaries, time.Time for .NET's DateTime of no kind, utcTime for one of kind UTC, and
// offsetTime for its DateTimeOffset.
type (
	bindingData map[string]any
	utcTime     time.Time
	offsetTime  time.Time
)

// wireValue is a value as the host writes it (ScriptInvocationContextExtensions.GetHttpScriptInvocationContextValue): bytes
// are base64, times are cut to seconds, objects are nested, and all else is JSON text, which the encoder makes a string of.
func wireValue(v any) any {
	switch v := v.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05")
	case utcTime:
		return wireValue(time.Time(v)) // its kind is lost
	case offsetTime:
		return time.Time(v).UTC().Format("2006-01-02T15:04:05+00:00")
	case map[string]any:
		return dictionary(v)
	case bindingData:
		return dictionary(v)
	case json.RawMessage:
		return v // an object that is nested as it is
	}
	return jsonText(plain(v))
}

// dictionary is an object within which values are plain JSON.
func dictionary(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for name, v := range m {
		out[name] = plain(v)
	}
	return out
}

// plain is a value as Newtonsoft's serializer writes it within an array or an object.
func plain(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.9999999")
	case offsetTime:
		return time.Time(v).UTC().Format("2006-01-02T15:04:05.9999999+00:00")
	case utcTime:
		return time.Time(v).UTC().Format("2006-01-02T15:04:05.9999999Z")
	case map[string]any:
		return dictionary(v)
	case []time.Time:
		return each(v)
	case []any:
		return each(v)
	case json.Number:
		return v
	case fmt.Stringer: // an AMQP UUID
		return v.String()
	case []map[string]any:
		return each(v)
	}
	return v
}

func each[T any](all []T) []any {
	out := make([]any, len(all))
	for n, v := range all {
		out[n] = plain(v)
	}
	return out
}

func jsonText(v any) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "null"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wireBody is the body of an invocation. Nulls and what ends in "trigger" are left out of the metadata.
func wireBody(name string, data any, metadata bindingData) ([]byte, error) {
	sent := map[string]any{}
	for key, value := range metadata {
		if value != nil && !strings.HasSuffix(strings.ToLower(key), "trigger") {
			sent[key] = wireValue(value)
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(map[string]any{"Data": map[string]any{name: data}, "Metadata": sent})
	return b.Bytes(), err
}

// messageData is the data of a trigger with one message, by its binding's dataType: base64, or a string.
func messageData(b binding, body []byte) any {
	if b.binary() {
		return wireValue(body)
	}
	return wireValue(string(body))
}

// messagesData is the data of a trigger with many messages. Without a dataType the host reads them as JSON
// objects, and its error is that of the invocation, of which the handler never hears.
func messagesData(b binding, bodies [][]byte) (any, error) {
	switch {
	case b.binary():
		return wireValue(bodies), nil
	case b.text():
		texts := make([]string, len(bodies))
		for n, body := range bodies {
			texts[n] = string(body)
		}
		return wireValue(texts), nil
	}
	objects := make([]map[string]any, len(bodies))
	for n, body := range bodies {
		if err := json.Unmarshal(body, &objects[n]); err != nil {
			return nil, err
		}
	}
	return wireValue(objects), nil
}

// applyPayload adds the top-level properties of a string that is a JSON object to the binding data, whatever is there by
// their names (Utility.ApplyBindingData); arrays and nulls aside.
func applyPayload(data bindingData, payload string) {
	text := strings.TrimSpace(payload)
	if !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
		return
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var object map[string]any
	if decoder.Decode(&object) != nil {
		return
	}
	for name, value := range object {
		for known := range data { // names are compared without case
			if strings.EqualFold(known, name) {
				name = known
			}
		}
		switch value := value.(type) {
		case nil, []any:
		case map[string]any:
			data[name] = value
		case bool:
			data[name] = map[bool]string{true: "True", false: "False"}[value]
		case json.Number:
			data[name] = value.String()
		case string:
			data[name] = value
		}
	}
}
