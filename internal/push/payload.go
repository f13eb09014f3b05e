package push

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"persistor/internal/host"
)

// contents are the bodies of the messages of one invocation.
type contents struct {
	bodies [][]byte
	many   bool
	// dubious says that the sender may have written what the metadata say: that is so for a single message that
	// comes as text and is a JSON object with a property of such a name. See package host.
	dubious bool
}

// errDubious is why metadata are not believed.
var errDubious = errors.New("its content has properties with names of the host's metadata, which they overwrite where it is handed over as text: set dataType to binary in function.json")

// read takes a payload apart, whatever its dataType. Names are those of the metadata that matter, without the ending
// that they have of many messages.
func read(i *host.Invocation, names []string) (contents, error) {
	_, p, err := i.Payload()
	if err != nil {
		return contents{}, err
	}
	if list, ok := elements(p); ok && i.Metadata["SequenceNumber"+arraySuffix] != nil {
		bodies, err := bodiesOf(list)
		return contents{bodies: bodies, many: true}, err
	}
	if body, err := p.Bytes(); err == nil {
		return contents{bodies: [][]byte{body}}, nil
	}
	var body []byte
	if text, err := p.Text(); err == nil {
		body = []byte(text)
	} else if body, err = p.JSON(); err != nil {
		return contents{}, err
	}
	return contents{bodies: [][]byte{body}, dubious: mentions(body, names)}, nil
}

// elements are those of a payload of cardinality many: an array, or its text in a string.
func elements(p host.Payload) (list []json.RawMessage, ok bool) {
	raw := []byte(p)
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = []byte(text)
	}
	return list, json.Unmarshal(raw, &list) == nil && list != nil
}

// bodiesOf are the bodies that the elements of a payload stand for: base64 with dataType binary, text without, and
// other JSON where there is no dataType.
func bodiesOf(list []json.RawMessage) ([][]byte, error) {
	bodies := make([][]byte, len(list))
	binary := true
	for n, raw := range list {
		var text *string
		switch err := json.Unmarshal(raw, &text); {
		case err == nil && text == nil:
			return nil, fmt.Errorf("decode payload: element %d is null", n)
		case err == nil:
			bodies[n] = []byte(*text)
		default:
			bodies[n], binary = bytes.Clone(raw), false
		}
	}
	decoded := make([][]byte, len(list))
	for n := 0; n < len(bodies) && binary; n++ {
		var err error
		decoded[n], err = base64.StdEncoding.Strict().AppendDecode(nil, bodies[n])
		binary = err == nil
	}
	if binary {
		return decoded, nil
	}
	return bodies, nil
}

// mentions reports whether the host may take a body for an object with a property of one of the names, in any case.
// Its JSON is laxer than ours, so that of what we can't read any mention will do, and any escape.
func mentions(body []byte, names []string) bool {
	body = bytes.TrimSpace(body)
	if !bytes.HasPrefix(body, []byte("{")) || !bytes.HasSuffix(body, []byte("}")) {
		return false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) == nil {
		for key := range members {
			key := strings.TrimSuffix(strings.ToLower(key), strings.ToLower(arraySuffix))
			if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, key) }) {
				return true
			}
		}
		return false
	}
	lower := string(bytes.ToLower(body))
	return strings.Contains(lower, `\`) ||
		slices.ContainsFunc(names, func(name string) bool { return strings.Contains(lower, strings.ToLower(name)) })
}
