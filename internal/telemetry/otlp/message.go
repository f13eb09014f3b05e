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

// encodeAttribute writes common.proto: KeyValue.
func encodeAttribute(a attribute.KeyValue) (m message) {
	m.text(1, string(a.Key))
	m.message(2, encodeValue(a.Value))
	return m
}

// encodeValue writes common.proto: AnyValue, a oneof, so that zero values are written, too.
func encodeValue(v attribute.Value) (m message) {
	switch v.Type() {
	case attribute.BOOL:
		return protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), protowire.EncodeBool(v.AsBool()))
	case attribute.INT64:
		return protowire.AppendVarint(protowire.AppendTag(m, 3, protowire.VarintType), uint64(v.AsInt64()))
	case attribute.FLOAT64:
		m.double(4, v.AsFloat64())
		return m
	case attribute.STRINGSLICE:
		var list message // common.proto: ArrayValue
		for _, s := range v.AsStringSlice() {
			list.message(1, encodeValue(attribute.StringValue(s)))
		}
		m.message(5, list)
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), v.String())
}

func (m *message) fixed32(field protowire.Number, n uint32) {
	*m = protowire.AppendFixed32(protowire.AppendTag(*m, field, protowire.Fixed32Type), n)
}
