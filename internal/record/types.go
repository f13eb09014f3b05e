package record

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"persistor/internal/message"
)

// A type is written only where a value's JSON leaves it open, and mirrors that JSON:
//
//	"int"                   the value itself
//	{"a": "int"}            members of an object
//	{"0": "int"}            elements of a list, by index
//	["map", {"0": ...}]     the value itself, and elements of the list that stands for it
//
// Without one, the AMQP type is the natural one: null, boolean, string, long (a number with neither
// point nor exponent), double (any other number), list, or map with strings for keys.

// appendTypes appends the TYPES member, or nothing when every type is natural.
func appendTypes(dst []byte, f Format, m *message.Message) []byte {
	start := len(dst)
	dst = append(dst, `,"TYPES":`...)
	object := len(dst)
	switch m.Body.Kind {
	case message.Value:
		dst = appendMemberType(dst, object, "DATA", m.Body.Value, 0)
	case message.Sequence:
		dst = appendMemberType(dst, object, "DATA", sections(m.Body.Sequence), 0)
	}
	if f.Metadata {
		if len(m.Properties) > 0 {
			dst = appendMemberType(dst, object, "METADATA", m.Properties, 0)
		}
		dst = appendSystemTypes(dst, object, m)
	}
	if len(dst) == object {
		return dst[:start]
	}
	return append(dst, '}')
}

// appendMemberType appends what value's type needs, under key, to the object that begins at object in
// dst and isn't closed yet: nothing when the type is natural.
func appendMemberType(dst []byte, object int, key string, value any, depth int) []byte {
	name, nested := typeOf(value, depth)
	if name == "" && !nested {
		return dst
	}
	start := len(dst)
	dst = appendKey(dst, object, key)
	empty := len(dst)
	switch {
	case !nested:
		dst = appendString(dst, name)
	case name == "":
		dst = appendInnerTypes(dst, value, depth)
	default:
		dst = append(dst, '[')
		dst = appendString(dst, name)
		dst = append(dst, ',')
		inner := len(dst)
		dst = appendInnerTypes(dst, value, depth)
		if len(dst) == inner {
			dst = appendString(dst[:empty], name)
		} else {
			dst = append(dst, ']')
		}
	}
	if len(dst) == empty {
		return dst[:start]
	}
	return dst
}

// appendInnerTypes appends the types of what is in a list or a map, or nothing.
func appendInnerTypes(dst []byte, value any, depth int) []byte {
	object := len(dst)
	var list []any
	switch v := value.(type) {
	case map[string]any:
		if validKeys(v) {
			var room [fewKeys]string
			for _, key := range sortedKeys(room[:0], v) {
				dst = appendMemberType(dst, object, key, v[key], depth+1)
			}
		} else {
			list = stringPairs(v)
		}
	case []any:
		list = v
	case map[any]any:
		list = pairs(v)
	case []map[any]any:
		list = listOfPairs(v)
	}
	for i, v := range list {
		dst = appendMemberType(dst, object, strconv.Itoa(i), v, depth+1)
	}
	if len(dst) > object {
		dst = append(dst, '}')
	}
	return dst
}

// appendKey begins a member of the object that begins at object in dst; the first one opens it.
func appendKey(dst []byte, object int, key string) []byte {
	if len(dst) == object {
		dst = append(dst, '{')
	} else {
		dst = append(dst, ',')
	}
	dst = appendString(dst, key)
	return append(dst, ':')
}

// typeOf names a value's type, "" when it is natural, and says whether the value holds others, which may
// need a type of their own.
func typeOf(value any, depth int) (name string, nested bool) {
	switch v := value.(type) {
	case nil, bool, int64:
		return "", false
	case string:
		if utf8.ValidString(v) {
			return "", false
		}
		return stringInBase64, false
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "double", false
		}
		return "", false
	case int8:
		return "byte", false
	case int16:
		return "short", false
	case int32:
		return "int", false
	case uint8:
		return "ubyte", false
	case uint16:
		return "ushort", false
	case uint32:
		return "uint", false
	case uint64:
		return "ulong", false
	case float32:
		return "float", false
	case []byte:
		return "binary", false
	case time.Time:
		return "timestamp", false
	case message.UUID:
		return "uuid", false
	case []any:
		name = ""
	case map[string]any:
		if !validKeys(v) {
			name = mapOfStrings
		}
	case map[any]any:
		name = "map"
	case []map[any]any:
		name = arrayOfMap
	default:
		return arrayType(value), false
	}
	if depth >= MaxDepth {
		return tooDeep, false
	}
	return name, true
}

func arrayType(value any) string {
	switch v := value.(type) {
	case []bool:
		return arrayOf + "boolean"
	case []int8:
		return arrayOf + "byte"
	case []int16:
		return arrayOf + "short"
	case []int32:
		return arrayOf + "int"
	case []int64:
		return arrayOf + "long"
	case []uint16:
		return arrayOf + "ushort"
	case []uint32:
		return arrayOf + "uint"
	case []uint64:
		return arrayOf + "ulong"
	case []float32:
		return arrayOf + "float"
	case []float64:
		return arrayOf + "double"
	case [][]byte:
		return arrayOf + "binary"
	case []time.Time:
		return arrayOf + "timestamp"
	case []message.UUID:
		return arrayOf + "uuid"
	case []string:
		if validStrings(v) {
			return arrayOf + "string"
		}
		return arrayOf + stringInBase64
	}
	return unsupported
}

// sections is a sequence body as a list of lists.
func sections(sequence [][]any) []any {
	list := make([]any, len(sequence))
	for i, section := range sequence {
		list[i] = section
	}
	return list
}
