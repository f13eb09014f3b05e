package wire

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestValues encodes values of every type and decodes them again.
func TestValues(t *testing.T) {
	for _, v := range []any{
		nil, true, false, uint8(255), uint16(65535), uint32(0), uint32(255), uint32(256), uint32(math.MaxUint32),
		uint64(0), uint64(255), uint64(math.MaxUint64), int8(-128), int16(-32768), int32(math.MinInt32), int64(math.MinInt64),
		float32(1.5), math.Pi, Char('ж'), Timestamp(-1), UUID{1, 15: 16}, Decimal("abcd"), Decimal("abcdefgh"), Decimal("abcdefghijklmnop"),
		[]byte{}, []byte{1, 2}, bytes.Repeat([]byte{7}, 256), "", "schön", strings.Repeat("x", 256), Symbol("s"), Symbol(strings.Repeat("y", 300)),
		[]any{}, []any{int32(1), "two", []any{nil}}, Map{}, Map{{Key: Symbol("k"), Value: Map{{Key: "n", Value: int64(1)}}}},
		Described{Descriptor: uint64(0x70), Value: "v"}, Described{Descriptor: Symbol("d"), Value: []any{true}},
	} {
		r := NewReader(AppendAny(nil, v))
		got := r.Any()
		if r.Err() != nil || len(r.Rest()) != 0 {
			t.Errorf("%T %v: %v, %d bytes left", v, v, r.Err(), len(r.Rest()))
		}
		if diff := cmp.Diff(v, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", v, diff)
		}
	}
	for _, c := range []struct {
		v    any
		want Array
	}{
		{[]string{"0", "", "2"}, Array{"0", "", "2"}}, {[]int64{1, -2}, Array{int64(1), int64(-2)}}, {[]int64{}, Array{}},
		{[]Timestamp{5, 0}, Array{Timestamp(5), Timestamp(0)}}, {[]UUID{{1}, {15: 2}}, Array{UUID{1}, UUID{15: 2}}},
	} {
		r := NewReader(AppendAny(nil, c.v))
		if diff := cmp.Diff(c.want, r.Any()); diff != "" || r.Err() != nil || len(r.Rest()) != 0 {
			t.Errorf("array %v: %v (-want +got):\n%s", c.v, r.Err(), diff)
		}
	}
}

// TestWithFilter changes one filter of a source, and leaves its descriptor and all others as they are.
func TestWithFilter(t *testing.T) {
	other := Pair{Key: Symbol("other"), Value: []any{nil, "x"}}
	for name, c := range map[string]struct{ asked, want any }{
		"described null": {Described{Descriptor: uint64(7), Value: nil}, Described{Descriptor: uint64(7), Value: "id"}},
		"described":      {Described{Descriptor: Symbol("f"), Value: "old"}, Described{Descriptor: Symbol("f"), Value: "id"}},
		"null":           {nil, "id"},
		"plain":          {"old", "id"},
	} {
		source := NewSource("here", other, Pair{Key: Symbol("f"), Value: c.asked})
		got, want := source.WithFilter("f", "id"), NewSource("here", other, Pair{Key: Symbol("f"), Value: c.want})
		if !bytes.Equal(got.appendTo(nil), want.appendTo(nil)) {
			t.Errorf("%s: got %x, want %x", name, got.appendTo(nil), want.appendTo(nil))
		}
		if same := source.WithFilter("none", "id"); !bytes.Equal(same.appendTo(nil), source.appendTo(nil)) {
			t.Errorf("%s: without the filter got %x", name, same.appendTo(nil))
		}
	}
	if plain := NewSource("here"); !bytes.Equal(plain.WithFilter("f", "id").appendTo(nil), plain.appendTo(nil)) {
		t.Error("a source without filters got one")
	}
}

// TestPropertyFields splits a properties section, whatever a sender left off at its end.
func TestPropertyFields(t *testing.T) {
	fields := PropertyFields{PropertyMessageID: AppendAny(nil, uint64(1)), PropertyReplyToGroupID: AppendAny(nil, "g")}
	for section, err := range Sections(AppendPropertyFields(nil, &fields)) {
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParsePropertyFields(section.Value); err != nil || !cmp.Equal(got, fields) {
			t.Errorf("got %v, %v, want %v", got, err, fields)
		}
	}
	got, err := ParsePropertyFields(AppendAny(nil, []any{"id"}))
	if err != nil || !cmp.Equal(got, PropertyFields{PropertyMessageID: AppendAny(nil, "id")}) {
		t.Errorf("of a short list: %v, %v", got, err)
	}
	if _, err := ParsePropertyFields(AppendAny(nil, "no list")); err == nil {
		t.Error("what is no list has fields")
	}
}

// TestPerformatives encodes performatives and decodes them again, and counts their fields: all are always there.
func TestPerformatives(t *testing.T) {
	reason := &Error{Condition: ConditionNotFound, Description: "no such thing", Info: Map{{Key: Symbol("k"), Value: "v"}}}
	for _, c := range []struct {
		p      Performative
		fields byte
	}{
		{&Open{ContainerID: "c", Hostname: "h", MaxFrameSize: 512, ChannelMax: 9, IdleTimeout: new(uint32(1000))}, 10},
		{&Open{ContainerID: "c"}, 10},
		{&Begin{RemoteChannel: new(uint16(3)), NextOutgoingID: 1, IncomingWindow: 2, OutgoingWindow: 3, HandleMax: 4}, 8},
		{&Begin{}, 8},
		{&Attach{Name: "n", Handle: 300, Role: RoleReceiver, SenderMode: new(uint8(1)), ReceiverMode: new(uint8(0)), InitialDeliveryCount: new(uint32(0)),
			MaxMessageSize: math.MaxUint64, Offered: []string{"a"}, Desired: []string{"b", "c"}, Properties: Map{{Key: Symbol("p"), Value: int64(1)}}}, 14},
		{&Attach{}, 14},
		{&Flow{NextIncomingID: new(uint32(1)), IncomingWindow: 2, NextOutgoingID: 3, OutgoingWindow: 4, Handle: new(uint32(0)),
			DeliveryCount: new(uint32(5)), LinkCredit: new(uint32(6)), Available: new(uint32(7)), Drain: true, Echo: true}, 11},
		{&Flow{}, 11},
		{&Transfer{Handle: 1, DeliveryID: new(uint32(2)), DeliveryTag: []byte{3}, MessageFormat: new(uint32(4)), Settled: new(true), More: true, State: &Accepted{}, Aborted: true, Batch: true}, 11},
		{&Transfer{}, 11},
		{&Disposition{Role: RoleReceiver, First: 1, Last: new(uint32(2)), Settled: true, State: &Rejected{Error: reason}}, 6},
		{&Disposition{State: &Modified{Failed: true, Undeliverable: true, Annotations: Map{{Key: Symbol("a"), Value: nil}}}}, 6},
		{&Disposition{State: &Released{}}, 6},
		{&Disposition{State: &Rejected{}}, 6},
		{&Disposition{State: &Received{Section: 1, Offset: math.MaxUint64}}, 6},
		{&Detach{Handle: 1, Closed: true, Error: reason}, 3},
		{&End{Error: reason}, 1},
		{&Close{}, 1},
		{&Mechanisms{Names: []string{"A", "B"}}, 1},
		{&Init{Mechanism: "A", Response: []byte{0}}, 3},
		{&Outcome{Code: 1}, 2},
	} {
		payload := []byte("payload")
		frame := AppendFrame(nil, 7, c.p, payload)
		var buf []byte
		f, err := ReadFrame(bytes.NewReader(frame), 4096, &buf)
		if err != nil || f.Channel != 7 || f.Type != TypeAMQP {
			t.Errorf("%s: read frame: %+v, %v", Name(c.p), f, err)
			continue
		}
		if f.Body[3] != codeList32 || f.Body[11] != c.fields {
			t.Errorf("%s: it has %d fields, want %d", Name(c.p), f.Body[11], c.fields)
		}
		got, rest, err := Parse(f.Body)
		if err != nil || string(rest) != "payload" {
			t.Errorf("%s: parse: %v, %q left", Name(c.p), err, rest)
			continue
		}
		if diff := cmp.Diff(c.p, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", Name(c.p), diff)
		}
	}
}

// TestTerminus gives back what it was given, be it known or not.
func TestTerminus(t *testing.T) {
	filters := Map{{Key: Symbol("f"), Value: Described{Descriptor: uint64(0x468C00000004), Value: "v"}}, {Key: Symbol("plain"), Value: "w"}}
	source := AppendList(AppendDescriptor(nil, descSource), 9, func(dst []byte) []byte {
		dst = AppendString(dst, "address")
		dst = append(dst, codeUint0, codeNull, codeUint0, codeFalse, codeNull, codeNull)
		return AppendNull(AppendAny(dst, filters))
	})
	r := NewReader(source)
	terminus := r.terminus()
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	if f, ok := terminus.Filter("f"); !ok || f != "v" {
		t.Errorf("a described filter: got %v, %v", f, ok)
	}
	if f, ok := terminus.Filter("plain"); !ok || f != "w" {
		t.Errorf("a plain filter: got %v, %v", f, ok)
	}
	encoded := terminus.appendTo(nil)
	// Two fields more, null each; the count is the last byte of the list's head of nine, the descriptor three before.
	want := append(append([]byte(nil), source...), codeNull, codeNull)
	want[7] += 2
	want[11] = sourceFields
	if !bytes.Equal(encoded, want) {
		t.Errorf("encoded again:\n%x, want\n%x", encoded, want)
	}
}

// TestLies has values that claim more than there is: an error each, and no memory for the claim.
func TestLies(t *testing.T) {
	deep := []byte{codeNull}
	for range maxDepth + 2 {
		deep = AppendList(nil, 1, func(dst []byte) []byte { return append(dst, deep...) })
	}
	for name, b := range map[string][]byte{
		"nothing":                nil,
		"no constructor":         {0x57},
		"cut off":                {codeUint, 1, 2},
		"size cut off":           {codeBin32, 0, 0},
		"size too large":         {codeBin32, 0xff, 0xff, 0xff, 0xff},
		"list of too many":       {codeList8, 3, 200, codeNull, codeNull},
		"list with more":         {codeList8, 3, 1, codeNull, codeNull},
		"map of an odd number":   {codeMap8, 2, 1, codeNull},
		"array of many nulls":    {codeArray32, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, codeNull},
		"array without items":    {codeArray8, 3, 2, codeUint, 0},
		"string of no UTF-8":     {codeStr8, 1, 0xff},
		"described without":      {codeDescribed, codeSmallUlong, 1},
		"too deep":               deep,
		"described by described": bytes.Repeat([]byte{codeDescribed}, 100),
	} {
		if err := Check(b); err == nil {
			t.Errorf("%s: no error", name)
		} else if e, ok := err.(*Error); !ok || e.Condition != ConditionDecodeError {
			t.Errorf("%s: got %v, want %s", name, err, ConditionDecodeError)
		}
	}
	// Arrays of nulls within a list share one bound, or 64 KiB would make gigabytes.
	array := []byte{codeArray32, 0, 0, 0, 5, 0, 0, 0xff, 0, codeNull}
	list := AppendList(nil, 100, func(dst []byte) []byte {
		for range 100 {
			dst = append(dst, array...)
		}
		return dst
	})
	if err := Check(list); err == nil {
		t.Error("a list of many arrays of nulls: no error")
	}
}

// TestSections refuses what no client could decode.
func TestSections(t *testing.T) {
	data := AppendBinary(AppendSection(nil, SectionData), []byte("d"))
	properties := AppendList(AppendSection(nil, SectionProperties), 0, nothing)
	for name, c := range map[string]struct {
		message []byte
		want    string // codes of the sections, or the beginning of an error
	}{
		"empty":             {nil, ""},
		"in order":          {append(append(append([]byte(nil), properties...), data...), data...), "\x73\x75\x75"},
		"out of order":      {append(append([]byte(nil), data...), properties...), "amqp:decode-error"},
		"twice":             {append(append([]byte(nil), properties...), properties...), "amqp:decode-error"},
		"no section":        {AppendString(nil, "x"), "amqp:decode-error"},
		"unknown section":   {AppendNull(AppendSection(nil, 0x79)), "amqp:decode-error"},
		"data of a string":  {AppendString(AppendSection(nil, SectionData), "x"), "amqp:decode-error"},
		"map of a list":     {AppendList(AppendSection(nil, SectionFooter), 0, nothing), "amqp:decode-error"},
		"broken further in": {AppendList(AppendSection(nil, SectionSequence), 1, func(dst []byte) []byte { return append(dst, codeStr8, 9) }), "amqp:decode-error"},
	} {
		got := ""
		for s, err := range Sections(c.message) {
			if err != nil {
				got = err.Error()
				break
			}
			got += string(rune(s.Code))
		}
		if got != c.want && !(strings.HasPrefix(c.want, "amqp") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
