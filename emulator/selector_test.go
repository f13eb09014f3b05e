package emulator

import (
	"math"
	"strings"
	"testing"
)

func TestParseSelector(t *testing.T) {
	for _, c := range []struct {
		text string
		want selector
	}{
		{"amqp.annotation.x-opt-offset > '-1'", selector{field: byOffset, offset: "-1"}},
		{"amqp.annotation.x-opt-offset >= '-1'", selector{field: byOffset, offset: "-1", inclusive: true}},
		{"amqp.annotation.x-opt-offset > '@latest'", selector{field: byOffset, offset: "@latest"}},
		{"amqp.annotation.x-opt-offset >= '@latest'", selector{field: byOffset, offset: "@latest", inclusive: true}},
		{"amqp.annotation.x-opt-offset > '4294967296'", selector{field: byOffset, offset: "4294967296"}},
		{"amqp.annotation.x-opt-offset > '2:3:98765'", selector{field: byOffset, offset: "2:3:98765"}},
		{"amqp.annotation.x-opt-offset>='12'", selector{field: byOffset, offset: "12", inclusive: true}},
		{"  amqp.annotation.x-opt-offset  >  12  ", selector{field: byOffset, offset: "12"}},
		{"amqp.annotation.x-opt-sequence-number > '0'", selector{field: bySequenceNumber}},
		{"amqp.annotation.x-opt-sequence-number >= '9223372036854775807'", selector{field: bySequenceNumber, number: math.MaxInt64, inclusive: true}},
		{"amqp.annotation.x-opt-sequence-number > -1", selector{field: bySequenceNumber, number: -1}},
		{"amqp.annotation.x-opt-enqueued-time > '1709208000123'", selector{field: byEnqueuedTime, number: 1709208000123}},
		{"amqp.annotation.x-opt-enqueued-time >= '1709208000123'", selector{field: byEnqueuedTime, number: 1709208000123, inclusive: true}},
		{"amqp.annotation.x-opt-enqueuedtimeutc > '-62135596800000'", selector{field: byEnqueuedTime, number: -62135596800000}},
	} {
		got, err := parseSelector(c.text)
		if err != nil || got != c.want {
			t.Errorf("parseSelector(%q) = %+v, %v; want %+v", c.text, got, err, c.want)
		}
		if got.fromBeginning() != (c.want.offset == "-1") || got.fromEnd() != (c.want.offset == "@latest") {
			t.Errorf("parseSelector(%q): fromBeginning %v, fromEnd %v", c.text, got.fromBeginning(), got.fromEnd())
		}
	}
}

func TestParseSelectorErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "no > or >="},
		{"amqp.annotation.x-opt-offset = '1'", "no > or >="},
		{"amqp.annotation.x-opt-offset < '1'", "no > or >="},
		{"amqp.annotation.x-opt-offset > ''", "the value is empty"},
		{"amqp.annotation.x-opt-offset >", "the value is empty"},
		{"amqp.annotation.x-opt-offset > '", "one end only"},
		{"amqp.annotation.x-opt-offset > '1", "one end only"},
		{"amqp.annotation.x-opt-offset > 1'", "one end only"},
		{"amqp.annotation.x-opt-offset > '1' AND x > '2'", "followed by more"},
		{"amqp.annotation.x-opt-offset >> '1'", "one end only"},
		{"amqp.annotation.x-opt-offset => 1", "unknown field"},
		{"x-opt-offset > '1'", `unknown field "x-opt-offset"`},
		{"amqp.annotation.x-opt-colour > '1'", `unknown field "amqp.annotation.x-opt-colour"`},
		{"amqp.annotation.x-opt-sequence-number > '1.5'", `"1.5" of field "amqp.annotation.x-opt-sequence-number" is not an integer`},
		{"amqp.annotation.x-opt-sequence-number > '@latest'", "not an integer"},
		{"amqp.annotation.x-opt-enqueued-time > '2024-02-29'", "not an integer"},
		{"amqp.annotation.x-opt-sequence-number > '9223372036854775808'", "not an integer of 64 bits"},
		{"amqp.annotation.x-opt-offset > '" + strings.Repeat("1", maxSelectorBytes) + "'", "more than 512"},
	} {
		got, err := parseSelector(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("parseSelector(%q) = %+v, %v; want an error with %q", c.text, got, err, c.want)
		}
	}
}
