package publish

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"persistor/internal/message"
)

// ParseProperty reads an application property as a command line has it: "name=value" for a string, or
// "name:type=value" with the AMQP name of another type: boolean (true, false), byte, short, int, long,
// ubyte, ushort, uint, ulong, float, double, timestamp (RFC 3339), uuid, binary (base64), string.
func ParseProperty(text string) (name string, value any, err error) {
	name, written, ok := strings.Cut(text, "=")
	if !ok {
		return "", nil, errors.New(`parse property: there is no "=": expected name=value or name:type=value`)
	}
	kind := "string"
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name, kind = name[:i], name[i+1:]
	}
	if name == "" {
		return "", nil, errors.New("parse property: it has no name: expected name=value or name:type=value")
	}
	parse, ok := propertyTypes[kind]
	if !ok {
		return "", nil, fmt.Errorf("parse property %q: there is no type %q: expected one of %s", name, kind, strings.Join(PropertyTypes(), ", "))
	}
	value, err = parse(written)
	if err != nil {
		return "", nil, fmt.Errorf("parse property %q: %q is no %s", name, written, kind)
	}
	return name, value, nil
}

// PropertyTypes are the names of types that [ParseProperty] knows, sorted.
func PropertyTypes() []string {
	var names []string
	for name := range propertyTypes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var propertyTypes = map[string]func(string) (any, error){
	"string":    func(s string) (any, error) { return s, nil },
	"boolean":   func(s string) (any, error) { return strconv.ParseBool(s) },
	"byte":      signed[int8](8),
	"short":     signed[int16](16),
	"int":       signed[int32](32),
	"long":      signed[int64](64),
	"ubyte":     unsigned[uint8](8),
	"ushort":    unsigned[uint16](16),
	"uint":      unsigned[uint32](32),
	"ulong":     unsigned[uint64](64),
	"float":     float[float32](32),
	"double":    float[float64](64),
	"timestamp": func(s string) (any, error) { t, err := time.Parse(time.RFC3339, s); return t.UTC(), err },
	"uuid":      parseUUID,
	"binary":    func(s string) (any, error) { return base64.StdEncoding.DecodeString(s) },
}

func signed[T int8 | int16 | int32 | int64](bits int) func(string) (any, error) {
	return func(s string) (any, error) { n, err := strconv.ParseInt(s, 10, bits); return T(n), err }
}

func unsigned[T uint8 | uint16 | uint32 | uint64](bits int) func(string) (any, error) {
	return func(s string) (any, error) { n, err := strconv.ParseUint(s, 10, bits); return T(n), err }
}

func float[T float32 | float64](bits int) func(string) (any, error) {
	return func(s string) (any, error) { n, err := strconv.ParseFloat(s, bits); return T(n), err }
}

func parseUUID(s string) (any, error) {
	var id message.UUID
	plain := strings.ReplaceAll(s, "-", "")
	if len(plain) != 2*len(id) {
		return nil, errors.New("wrong length")
	}
	_, err := hex.Decode(id[:], []byte(plain))
	return id, err
}
