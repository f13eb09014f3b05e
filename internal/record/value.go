package record

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"persistor/internal/message"
)

// MaxDepth is how deep lists and maps may lie within each other. What lies deeper is written as null,
// and TYPES says "too deep" of it: the one loss that a record can have. AMQP sets no bound, but those
// who read JSON do, many at 1,000 levels, and TYPES can take two for each of these.
const MaxDepth = 400

// Names of types that are not AMQP's own; see typeOf.
const (
	stringInBase64   = "string in base64" // bytes that are not UTF-8, in what AMQP calls a string
	mapOfStrings     = "map of strings"   // a map with such strings for keys, as a list of pairs
	arrayOf          = "array of "
	arrayOfMap       = arrayOf + "map"
	tooDeep          = "too deep"
	unsupported      = "unsupported" // no Go form of an AMQP value; written as fmt prints it
	notANumber       = "NaN"
	infinity         = "Infinity"
	negativeInfinity = "-Infinity"
)

// appendValue appends an AMQP value as the JSON that reads most naturally. depth counts the lists and
// maps around it.
func appendValue(dst []byte, v any, depth int) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		if utf8.ValidString(v) {
			return appendString(dst, v)
		}
		return appendBase64(dst, []byte(v))
	case int8:
		return strconv.AppendInt(dst, int64(v), 10)
	case int16:
		return strconv.AppendInt(dst, int64(v), 10)
	case int32:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case uint8:
		return strconv.AppendUint(dst, uint64(v), 10)
	case uint16:
		return strconv.AppendUint(dst, uint64(v), 10)
	case uint32:
		return strconv.AppendUint(dst, uint64(v), 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case float32:
		return appendFloat(dst, float64(v), 32)
	case float64:
		return appendFloat(dst, v, 64)
	case []byte:
		return appendBase64(dst, v)
	case time.Time:
		return appendTime(dst, v)
	case message.UUID:
		return appendUUID(dst, v)
	case []any:
		return appendList(dst, v, depth)
	case map[string]any:
		return appendMap(dst, v, depth)
	case map[any]any:
		return appendList(dst, pairs(v), depth)
	case []map[any]any:
		return appendList(dst, listOfPairs(v), depth)
	}
	return appendArray(dst, v)
}

func appendList(dst []byte, list []any, depth int) []byte {
	if depth >= MaxDepth {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i, v := range list {
		dst = appendComma(dst, i)
		dst = appendValue(dst, v, depth+1)
	}
	return append(dst, ']')
}

func appendMap(dst []byte, m map[string]any, depth int) []byte {
	if depth >= MaxDepth {
		return append(dst, "null"...)
	}
	if !validKeys(m) {
		return appendList(dst, stringPairs(m), depth)
	}
	var room [fewKeys]string
	dst = append(dst, '{')
	for i, key := range sortedKeys(room[:0], m) {
		dst = appendComma(dst, i)
		dst = appendString(dst, key)
		dst = append(dst, ':')
		dst = appendValue(dst, m[key], depth+1)
	}
	return append(dst, '}')
}

// appendArray appends an AMQP array: a slice of one scalar type.
func appendArray(dst []byte, v any) []byte {
	switch v := v.(type) {
	case []bool:
		return appendElements(dst, v)
	case []int8:
		return appendElements(dst, v)
	case []int16:
		return appendElements(dst, v)
	case []int32:
		return appendElements(dst, v)
	case []int64:
		return appendElements(dst, v)
	case []uint16:
		return appendElements(dst, v)
	case []uint32:
		return appendElements(dst, v)
	case []uint64:
		return appendElements(dst, v)
	case []float32:
		return appendElements(dst, v)
	case []float64:
		return appendElements(dst, v)
	case [][]byte:
		return appendElements(dst, v)
	case []time.Time:
		return appendElements(dst, v)
	case []message.UUID:
		return appendElements(dst, v)
	case []string:
		if validStrings(v) {
			return appendElements(dst, v)
		}
		binaries := make([][]byte, len(v))
		for i, s := range v {
			binaries[i] = []byte(s)
		}
		return appendElements(dst, binaries)
	}
	return appendString(dst, strings.ToValidUTF8(fmt.Sprint(v), "\uFFFD"))
}

func appendElements[T any](dst []byte, array []T) []byte {
	dst = append(dst, '[')
	for i, v := range array {
		dst = appendComma(dst, i)
		dst = appendValue(dst, v, 0)
	}
	return append(dst, ']')
}

// appendFloat keeps a point or an exponent in every number, so that 2.0 is not read back as a long. The
// payload of a NaN is not kept.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return appendString(dst, notANumber)
	case math.IsInf(f, 1):
		return appendString(dst, infinity)
	case math.IsInf(f, -1):
		return appendString(dst, negativeInfinity)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'g', -1, bits)
	if !bytes.ContainsAny(dst[start:], ".e") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// appendTime appends a timestamp as RFC 3339 in UTC, to the millisecond, which is as fine as AMQP's are;
// years that RFC 3339 has no digits for, as the number of milliseconds since 1970.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return strconv.AppendInt(dst, t.UnixMilli(), 10)
	}
	hour, minute, second := t.Clock()
	dst = append(dst, '"')
	dst = appendDigits(dst, year/100)
	dst = appendDigits(dst, year%100)
	dst = append(dst, '-')
	dst = appendDigits(dst, int(month))
	dst = append(dst, '-')
	dst = appendDigits(dst, day)
	dst = append(dst, 'T')
	dst = appendDigits(dst, hour)
	dst = append(dst, ':')
	dst = appendDigits(dst, minute)
	dst = append(dst, ':')
	dst = appendDigits(dst, second)
	dst = append(dst, '.')
	milli := t.Nanosecond() / int(time.Millisecond)
	dst = append(dst, byte('0'+milli/100))
	dst = appendDigits(dst, milli%100)
	return append(dst, 'Z', '"')
}

// appendDigits appends n, 0 to 99, as two digits.
func appendDigits(dst []byte, n int) []byte {
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

func appendUUID(dst []byte, u message.UUID) []byte {
	dst = append(dst, '"')
	for i, part := range [][]byte{u[0:4], u[4:6], u[6:8], u[8:10], u[10:16]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return append(dst, '"')
}

// pairs is a map with keys of any type as a list of [key, value], in the order of the keys as written.
func pairs(m map[any]any) []any {
	type entry struct {
		pair  []any
		order []byte
	}
	entries := make([]entry, 0, len(m))
	for k, v := range m {
		name, _ := typeOf(k, 0)
		order := append(appendValue(nil, k, 0), name...)
		entries = append(entries, entry{[]any{k, v}, order})
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.order, b.order) })

	list := make([]any, len(entries))
	for i, e := range entries {
		list[i] = e.pair
	}
	return list
}

// stringPairs is pairs for a map whose keys are strings.
func stringPairs(m map[string]any) []any {
	list := make([]any, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, []any{k, m[k]})
	}
	return list
}

func listOfPairs(array []map[any]any) []any {
	list := make([]any, len(array))
	for i, m := range array {
		list[i] = pairs(m)
	}
	return list
}

// sortedKeys appends the keys of m to keys, which the caller may have room for on its stack, in order.
func sortedKeys(keys []string, m map[string]any) []string {
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func validKeys(m map[string]any) bool {
	for key := range m {
		if !utf8.ValidString(key) {
			return false
		}
	}
	return true
}

func validStrings(array []string) bool {
	return !slices.ContainsFunc(array, func(s string) bool { return !utf8.ValidString(s) })
}
