package record

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"persistor/internal/message"
)

// maxJSONDepth bounds what is read: what Append writes lies within it.
const maxJSONDepth = 2*MaxDepth + 10

var errTypes = errors.New("the type under TYPES does not fit the value")

// value reads a value of the given type: an element of TYPES as value itself returns it, nil for the
// natural type.
func (s *scanner) value(types any, depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("lists and objects are nested deeper than %d at position %d", maxJSONDepth, s.at)
	}
	switch t := types.(type) {
	case nil, map[string]any:
		return s.natural(types, depth)
	case string:
		return s.typed(t, nil, depth)
	case []any:
		if len(t) == 2 {
			if name, ok := t[0].(string); ok {
				return s.typed(name, t[1], depth)
			}
		}
	}
	return nil, errTypes
}

// natural reads a value whose JSON tells its type; types are those of its elements.
func (s *scanner) natural(types any, depth int) (any, error) {
	switch s.peek() {
	case '{':
		inner, _ := types.(map[string]any)
		m := map[string]any{}
		err := s.members(func(key []byte) error {
			k := string(key)
			if _, twice := m[k]; twice {
				return fmt.Errorf("member %.40q is there twice", k)
			}
			v, err := s.value(inner[k], depth+1)
			m[k] = v
			return err
		})
		return m, err
	case '[':
		inner, _ := types.(map[string]any)
		list := []any{}
		err := s.elements('[', ']', func() error {
			var t any
			if inner != nil {
				t = inner[strconv.Itoa(len(list))]
			}
			v, err := s.value(t, depth+1)
			list = append(list, v)
			return err
		})
		return list, err
	}
	if types != nil {
		return nil, errTypes
	}
	if s.peek() == '"' {
		t, err := s.text()
		return string(t), err
	}
	w, err := s.word()
	if err != nil {
		return nil, err
	}
	switch {
	case w == "null":
		return nil, nil
	case w == "true" || w == "false":
		return w == "true", nil
	case !isJSONNumber(w):
		return nil, fmt.Errorf("%.40q is no JSON value", w)
	case strings.ContainsAny(w, ".eE"):
		return parseFloat(w, 64)
	}
	return parseInt(w, 64)
}

// typed reads a value of the named type.
func (s *scanner) typed(name string, inner any, depth int) (any, error) {
	switch name {
	case "map", mapOfStrings, arrayOfMap:
		v, err := s.natural(inner, depth)
		if err != nil {
			return nil, err
		}
		switch name {
		case "map":
			return mapFromPairs[any](v)
		case mapOfStrings:
			return mapFromPairs[string](v)
		}
		return mapsFromPairs(v)
	}
	if inner != nil {
		return nil, errTypes
	}
	if elem, ok := strings.CutPrefix(name, arrayOf); ok {
		return s.array(elem)
	}
	return s.scalar(name)
}

// scalar reads a value of the named scalar type.
func (s *scanner) scalar(name string) (any, error) {
	if s.peek() == '"' {
		t, err := s.text()
		if err != nil {
			return nil, err
		}
		return fromText(name, t)
	}
	w, err := s.word()
	if err != nil {
		return nil, err
	}
	return fromWord(name, w)
}

// fromText is the value of the named type that a JSON string stands for.
func fromText(name string, t []byte) (any, error) {
	switch name {
	case "string", unsupported:
		return string(t), nil
	case stringInBase64:
		b, err := fromBase64(t)
		return string(b), err
	case "binary":
		return fromBase64(t)
	case "timestamp":
		at, err := time.Parse(time.RFC3339Nano, string(t))
		if err != nil {
			return nil, fmt.Errorf("%.40q is no RFC 3339 time", t)
		}
		return at.UTC(), nil
	case "uuid":
		return parseUUID(t)
	case "float", "double":
		f, ok := map[string]float64{notANumber: math.NaN(), infinity: math.Inf(1), negativeInfinity: math.Inf(-1)}[string(t)]
		switch {
		case !ok:
			return nil, fmt.Errorf("%.40q is no %s", t, name)
		case name == "float":
			return float32(f), nil
		}
		return f, nil
	}
	return nil, fmt.Errorf("%w: a string of type %.40q", errTypes, name)
}

// fromWord is the value of the named type that true, false, null or a number stands for.
func fromWord(name, w string) (any, error) {
	switch {
	case name == "boolean" && (w == "true" || w == "false"):
		return w == "true", nil
	case name == tooDeep && w == "null":
		return nil, nil
	case !isJSONNumber(w):
		return nil, fmt.Errorf("%w: %.40q of type %.40q", errTypes, w, name)
	}
	switch name {
	case "byte":
		return narrow[int8](parseInt(w, 8))
	case "short":
		return narrow[int16](parseInt(w, 16))
	case "int":
		return narrow[int32](parseInt(w, 32))
	case "long":
		return narrow[int64](parseInt(w, 64))
	case "ubyte":
		return narrow[uint8](parseUint(w, 8))
	case "ushort":
		return narrow[uint16](parseUint(w, 16))
	case "uint":
		return narrow[uint32](parseUint(w, 32))
	case "ulong":
		return narrow[uint64](parseUint(w, 64))
	case "float":
		return narrow[float32](parseFloat(w, 32))
	case "double":
		return narrow[float64](parseFloat(w, 64))
	case "timestamp":
		ms, err := parseInt(w, 64)
		return time.UnixMilli(ms).UTC(), err
	}
	return nil, fmt.Errorf("%w: a number of type %.40q", errTypes, name)
}

// array reads an AMQP array with elements of the named type.
func (s *scanner) array(name string) (any, error) {
	switch name {
	case "boolean":
		return readArray[bool](s, name)
	case "byte":
		return readArray[int8](s, name)
	case "short":
		return readArray[int16](s, name)
	case "int":
		return readArray[int32](s, name)
	case "long":
		return readArray[int64](s, name)
	case "ushort":
		return readArray[uint16](s, name)
	case "uint":
		return readArray[uint32](s, name)
	case "ulong":
		return readArray[uint64](s, name)
	case "float":
		return readArray[float32](s, name)
	case "double":
		return readArray[float64](s, name)
	case "binary":
		return readArray[[]byte](s, name)
	case "timestamp":
		return readArray[time.Time](s, name)
	case "uuid":
		return readArray[message.UUID](s, name)
	case "string", stringInBase64:
		return readArray[string](s, name)
	}
	return nil, fmt.Errorf("%w: no array holds %.40q", errTypes, name)
}

func readArray[T any](s *scanner, name string) (any, error) {
	array := []T{}
	err := s.elements('[', ']', func() error {
		v, err := s.scalar(name)
		if err != nil {
			return err
		}
		array = append(array, v.(T))
		return nil
	})
	return array, err
}

// mapFromPairs undoes pairs and stringPairs.
func mapFromPairs[K comparable](value any) (map[K]any, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, errTypes
	}
	m := make(map[K]any, len(list))
	for _, element := range list {
		pair, ok := element.([]any)
		if !ok || len(pair) != 2 {
			return nil, errors.New("an element of a map is not a [key, value]")
		}
		if !isKey(pair[0]) {
			return nil, errors.New("a map's key is not a scalar")
		}
		key, ok := pair[0].(K)
		if !ok && any(key) != pair[0] {
			return nil, errTypes
		}
		if _, twice := m[key]; twice {
			return nil, fmt.Errorf("map key %.40q is there twice", fmt.Sprint(key))
		}
		m[key] = pair[1]
	}
	return m, nil
}

func mapsFromPairs(value any) (any, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, errTypes
	}
	array := make([]map[any]any, len(list))
	for i, element := range list {
		var err error
		if array[i], err = mapFromPairs[any](element); err != nil {
			return nil, err
		}
	}
	return array, nil
}

// isKey reports whether v can be the key of a Go map.
func isKey(v any) bool {
	switch v.(type) {
	case nil, bool, string, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
		float32, float64, time.Time, message.UUID:
		return true
	}
	return false
}

func fromBase64(t []byte) ([]byte, error) {
	b := make([]byte, base64.StdEncoding.DecodedLen(len(t)))
	n, err := base64.StdEncoding.Strict().Decode(b, t)
	if err != nil {
		return nil, fmt.Errorf("base64: %w", err)
	}
	return b[:n], nil
}

func parseUUID(t []byte) (u message.UUID, err error) {
	if len(t) == 36 && t[8] == '-' && t[13] == '-' && t[18] == '-' && t[23] == '-' {
		digits := strings.ReplaceAll(string(t), "-", "")
		if n, err := hex.Decode(u[:], []byte(digits[:min(32, len(digits))])); err == nil && n == len(u) {
			return u, nil
		}
	}
	return u, fmt.Errorf("%.40q is no uuid", t)
}

// isJSONNumber reports whether w is a number as JSON writes them; strconv accepts more.
func isJSONNumber(w string) bool {
	digits := func() bool {
		rest := strings.TrimLeft(w, "0123456789")
		some := len(rest) < len(w)
		w = rest
		return some
	}
	w = strings.TrimPrefix(w, "-")
	if len(w) > 1 && w[0] == '0' && '0' <= w[1] && w[1] <= '9' || !digits() {
		return false
	}
	if fraction, ok := strings.CutPrefix(w, "."); ok {
		if w = fraction; !digits() {
			return false
		}
	}
	if w != "" && (w[0] == 'e' || w[0] == 'E') {
		if w = w[1:]; w != "" && (w[0] == '+' || w[0] == '-') {
			w = w[1:]
		}
		if !digits() {
			return false
		}
	}
	return w == ""
}

func parseInt(w string, bits int) (int64, error) {
	n, err := strconv.ParseInt(w, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no whole number of %d bits", w, bits)
	}
	return n, nil
}

func parseUint(w string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(w, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no whole number from 0 up of %d bits", w, bits)
	}
	return n, nil
}

func parseFloat(w string, bits int) (float64, error) {
	f, err := strconv.ParseFloat(w, bits)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no number of %d bits", w, bits)
	}
	return f, nil
}

// narrow converts a number that was parsed with To's number of bits.
func narrow[To, From int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64](n From, err error) (any, error) {
	return To(n), err
}
