// Package amqpclient is what the clients of Event Hubs and Service Bus have in common beneath: the values
// and the errors of go-amqp, brought into the form that the rest of Persistor knows.
package amqpclient

import (
	"maps"
	"reflect"

	"github.com/Azure/go-amqp"

	"persistor/internal/message"
)

// What follows turns the values that a client delivers, which have types of go-amqp, into those of package
// message. Nothing is copied: what it is given is changed in place.

// Body tells the kinds of body apart. A message without any section of a body comes out as one with a
// null value, since the clients don't keep them apart.
func Body(data [][]byte, value any, sequence [][]any) message.Body {
	switch {
	case data != nil:
		return message.Body{Kind: message.Data, Data: data}
	case sequence != nil:
		for _, section := range sequence {
			list(section)
		}
		return message.Body{Kind: message.Sequence, Sequence: sequence}
	default:
		return message.Body{Kind: message.Value, Value: Value(value)}
	}
}

// Value replaces the types of go-amqp in a value by the ones of package message, also within it.
func Value(v any) any {
	switch v := v.(type) {
	case amqp.UUID:
		return message.UUID(v)
	case []amqp.UUID:
		uuids := make([]message.UUID, len(v))
		for i, u := range v {
			uuids[i] = message.UUID(u)
		}
		return uuids
	case amqp.Symbol:
		return string(v)
	case []amqp.Symbol:
		texts := make([]string, len(v))
		for i, s := range v {
			texts[i] = string(s)
		}
		return texts
	case []any:
		list(v)
	case map[string]any:
		Map(v)
	case map[any]any:
		valueKeys(v)
	case []map[any]any:
		for _, m := range v {
			valueKeys(m)
		}
	default:
		// An AMQP array of ubyte is a type that the client doesn't export.
		if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8 {
			return r.Bytes()
		}
	}
	return v
}

// valueKeys does it for a map's keys, too.
func valueKeys(m map[any]any) {
	for key, value := range m {
		m[key] = Value(value)
	}
	for key := range maps.Clone(m) {
		if is := Value(key); is != key {
			m[is] = m[key]
			delete(m, key)
		}
	}
}

func list(values []any) {
	for i, v := range values {
		values[i] = Value(v)
	}
}

// Map does the same for properties; nil when there are none. It changes m itself, and only where it has to:
// it is on the path of every message.
func Map(m map[string]any) map[string]any {
	for key, v := range m {
		switch v.(type) {
		case amqp.UUID, []amqp.UUID, amqp.Symbol, []amqp.Symbol, []any, map[string]any, map[any]any, []map[any]any:
			m[key] = Value(v)
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// Sendable is a value in the types that the clients send: what [Value] replaces, put back. It is copied where
// something in it has to change, at whatever depth, and is never changed itself. What was a symbol is sent as a
// string.
func Sendable(v any) any {
	switch v := v.(type) {
	case message.UUID:
		return amqp.UUID(v)
	case []message.UUID:
		uuids := make([]amqp.UUID, len(v))
		for i, u := range v {
			uuids[i] = amqp.UUID(u)
		}
		return uuids
	case []any:
		sendable := make([]any, len(v))
		for i, element := range v {
			sendable[i] = Sendable(element)
		}
		return sendable
	case map[string]any:
		return SendableMap(v)
	case map[any]any:
		return sendableKeys(v)
	case []map[any]any:
		sendable := make([]map[any]any, len(v))
		for i, m := range v {
			sendable[i] = sendableKeys(m)
		}
		return sendable
	}
	return v
}

func sendableKeys(m map[any]any) map[any]any {
	sendable := make(map[any]any, len(m))
	for key, value := range m {
		sendable[Sendable(key)] = Sendable(value)
	}
	return sendable
}

// SendableMap is Sendable for properties: m itself when all that it holds is sent as it is.
func SendableMap(m map[string]any) map[string]any {
	for _, value := range m {
		switch value.(type) {
		case message.UUID, []message.UUID, []any, map[string]any, map[any]any, []map[any]any:
			return sendableStrings(m)
		}
	}
	return m
}

func sendableStrings(m map[string]any) map[string]any {
	sendable := make(map[string]any, len(m))
	for name, value := range m {
		sendable[name] = Sendable(value)
	}
	return sendable
}
