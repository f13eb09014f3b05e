package otlp

import (
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a protobuf message as it is written. Fields are left out that have the zero value, as proto3 does.
type message []byte

func (m *message) text(field protowire.Number, s string) {
	if s != "" {
		*m = protowire.AppendString(protowire.AppendTag(*m, field, protowire.BytesType), s)
	}
}

func (m *message) bytes(field protowire.Number, b []byte) {
	if len(b) > 0 {
		*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), b)
	}
}

// message writes a message within this one, also an empty one.
func (m *message) message(field protowire.Number, inner message) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), inner)
}

func (m *message) varint(field protowire.Number, n uint64) {
	if n != 0 {
		*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), n)
	}
}

func (m *message) flag(field protowire.Number, on bool) {
	if on {
		m.varint(field, 1)
	}
}

// fixed64 and double are written also when they are zero: they are members of a oneof, or optional.
func (m *message) fixed64(field protowire.Number, n uint64) {
	*m = protowire.AppendFixed64(protowire.AppendTag(*m, field, protowire.Fixed64Type), n)
}

func (m *message) double(field protowire.Number, f float64) { m.fixed64(field, math.Float64bits(f)) }

func (m *message) time(field protowire.Number, t time.Time) {
	if !t.IsZero() {
		m.fixed64(field, uint64(t.UnixNano()))
	}
}

// encodeResource writes resource.proto: Resource.
func encodeResource(r *resource.Resource) (m message) {
	for i := r.Iter(); i.Next(); {
		m.message(1, encodeAttribute(i.Attribute()))
	}
	return m
}

// encodeScope writes common.proto: InstrumentationScope.
func encodeScope(s instrumentation.Scope) (m message) {
	m.text(1, s.Name)
	m.text(2, s.Version)
	return m
}

// attributes writes a repeated KeyValue.
func (m *message) attributes(field protowire.Number, all []attribute.KeyValue) {
	for _, a := range all {
		m.message(field, encodeAttribute(a))
	}
}

// encodeAttribute writes common.proto: KeyValue, of the types that this program has.
func encodeAttribute(a attribute.KeyValue) (m message) {
	m.text(1, string(a.Key))
	var value message
	switch a.Value.Type() {
	case attribute.BOOL:
		n := uint64(0)
		if a.Value.AsBool() {
			n = 1
		}
		value = protowire.AppendVarint(protowire.AppendTag(value, 2, protowire.VarintType), n)
	case attribute.INT64:
		value = protowire.AppendVarint(protowire.AppendTag(value, 3, protowire.VarintType), uint64(a.Value.AsInt64()))
	case attribute.FLOAT64:
		value.double(4, a.Value.AsFloat64())
	default:
		value = protowire.AppendString(protowire.AppendTag(value, 1, protowire.BytesType), a.Value.String())
	}
	m.message(2, value)
	return m
}

func (m *message) fixed32(field protowire.Number, n uint32) {
	*m = protowire.AppendFixed32(protowire.AppendTag(*m, field, protowire.Fixed32Type), n)
}
