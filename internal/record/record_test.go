package record

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"persistor/internal/message"
)

var enqueued = time.Date(2026, 3, 9, 4, 5, 6, 70_000_000, time.UTC)

func data(sections ...string) message.Body {
	var b message.Body
	for _, s := range sections {
		b.Data = append(b.Data, []byte(s))
	}
	return b
}

func jsonBody(text string) message.Body { return message.Body{Kind: message.JSON, JSON: []byte(text)} }

func value(v any) message.Body { return message.Body{Kind: message.Value, Value: v} }

// deep is a list within a list, so many times over.
func deep(levels int) any {
	var v any = "core"
	for range levels {
		v = []any{v}
	}
	return v
}

// These are the records that users and their programs have: a change here is a change of the format.
func TestAppend(t *testing.T) {
	all := Format{Metadata: true}
	for name, test := range map[string]struct {
		format Format
		m      message.Message
		want   string
	}{
		"text":        {Format{}, message.Message{Body: data("payload")}, `{"DATA":"payload"}`},
		"escapes":     {Format{}, message.Message{Body: data("a\"b\\c\n\r\t\x00\x1f\x7f/<\u2028é🚕")}, `{"DATA":"a\"b\\c\n\r\t\u0000\u001f` + "\x7f/<\u2028é🚕" + `"}`},
		"binary":      {Format{}, message.Message{Body: data("\xff\x00\x01")}, `{"DATA":"/wAB","ENCODING":"base64"}`},
		"empty":       {Format{}, message.Message{Body: data("")}, `{"DATA":""}`},
		"no section":  {Format{}, message.Message{}, `{"DATA":"","SECTIONS":[]}`},
		"sections":    {Format{}, message.Message{Body: data("ab", "", "c")}, `{"DATA":"abc","SECTIONS":[2,0,1]}`},
		"cut rune":    {Format{}, message.Message{Body: data("\xc3", "\xa9")}, `{"DATA":"é","SECTIONS":[1,1]}`},
		"value":       {Format{}, message.Message{Body: value(int32(7))}, `{"DATA":7,"BODY":"value","TYPES":{"DATA":"int"}}`},
		"null value":  {Format{}, message.Message{Body: value(nil)}, `{"DATA":null,"BODY":"value"}`},
		"natural":     {Format{}, message.Message{Body: value([]any{"a", true, int64(1), 2.0, nil, map[string]any{"k": 1e300}})}, `{"DATA":["a",true,1,2.0,null,{"k":1e+300}],"BODY":"value"}`},
		"sequence":    {Format{}, message.Message{Body: message.Body{Kind: message.Sequence, Sequence: [][]any{{int64(1), uint8(2)}, {}}}}, `{"DATA":[[1,2],[]],"BODY":"sequence","TYPES":{"DATA":{"0":{"1":"ubyte"}}}}`},
		"array":       {Format{}, message.Message{Body: value([]int32{1, -2})}, `{"DATA":[1,-2],"BODY":"value","TYPES":{"DATA":"array of int"}}`},
		"map":         {Format{}, message.Message{Body: value(map[any]any{int32(2): "b", true: nil})}, `{"DATA":[[2,"b"],[true,null]],"BODY":"value","TYPES":{"DATA":["map",{"0":{"0":"int"}}]}}`},
		"plain map":   {Format{}, message.Message{Body: value(map[any]any{})}, `{"DATA":[],"BODY":"value","TYPES":{"DATA":"map"}}`},
		"bad string":  {Format{}, message.Message{Body: value("\xff")}, `{"DATA":"/w==","BODY":"value","TYPES":{"DATA":"string in base64"}}`},
		"bad key":     {Format{}, message.Message{Body: value(map[string]any{"\xff": int64(1)})}, `{"DATA":[["/w==",1]],"BODY":"value","TYPES":{"DATA":["map of strings",{"0":{"0":"string in base64"}}]}}`},
		"far year":    {Format{}, message.Message{Body: value(time.UnixMilli(1e15))}, `{"DATA":1000000000000000,"BODY":"value","TYPES":{"DATA":"timestamp"}}`},
		"unsupported": {Format{}, message.Message{Body: value(struct{ A int }{1})}, `{"DATA":"{1}","BODY":"value","TYPES":{"DATA":"unsupported"}}`},
		"no metadata": {Format{}, message.Message{Body: data("x"), Properties: map[string]any{"a": int8(1)}, ID: uint64(1)}, `{"DATA":"x"}`},
		"bare":        {all, message.Message{Body: data("x")}, `{"DATA":"x"}`},
		"first":       {all, message.Message{Body: data("x"), EnqueuedTime: enqueued}, `{"DATA":"x","SYSTEM":{"sequence_number":0,"enqueued_time":"2026-03-09T04:05:06.070Z"}}`},
		"json":        {all, message.Message{Body: jsonBody("{ \"a\" : [1, 2.50],\n \"<b>\":\"\u2028\\u00e9 c\" }"), Properties: map[string]any{"id": "7"}}, "{\"DATA\":{\"a\":[1,2.50],\"<b>\":\"\u2028\\u00e9 c\"},\"BODY\":\"json\",\"METADATA\":{\"id\":\"7\"}}"},
		"json null":   {all, message.Message{Body: jsonBody("null")}, `{"DATA":null,"BODY":"json"}`},
		"no json":     {all, message.Message{Body: jsonBody("{a}\n")}, `{"DATA":"{a}\n"}`},
		"bad json":    {all, message.Message{Body: jsonBody("\"\xff\"")}, `{"DATA":"Iv8i","ENCODING":"base64"}`},
		"event": {all, message.Message{
			Body: data("x"), SequenceNumber: 42, Offset: "4294967296", EnqueuedTime: enqueued, Partition: "3", PartitionKey: new("car-7"),
			ID: message.UUID{0x12, 0x34, 15: 0xff}, ContentType: new("text/plain"),
			Properties: map[string]any{"temp": int32(21), "at": enqueued, "b": 1.5, "a": "z"},
		}, `{"DATA":"x","METADATA":{"a":"z","at":"2026-03-09T04:05:06.070Z","b":1.5,"temp":21},` +
			`"SYSTEM":{"sequence_number":42,"enqueued_time":"2026-03-09T04:05:06.070Z","offset":"4294967296","partition":"3","partition_key":"car-7",` +
			`"content_type":"text/plain","message_id":"12340000-0000-0000-0000-0000000000ff"},` +
			`"TYPES":{"METADATA":{"at":"timestamp","temp":"int"},"SYSTEM":{"message_id":"uuid"}}}`},
		"queued": {all, message.Message{Body: data("x"), SequenceNumber: 42, DeliveryCount: 1, EnqueuedTime: enqueued, ID: "m"},
			`{"DATA":"x","SYSTEM":{"sequence_number":42,"delivery_count":1,"enqueued_time":"2026-03-09T04:05:06.070Z","message_id":"m"}}`},
		"dead-lettered": {all, message.Message{
			Body: data("x"), SequenceNumber: 42, DeliveryCount: 10, EnqueuedTime: enqueued, PartitionKey: new("car-7"), Subject: new("ride"),
			SessionID: new(""), ReplyToSessionID: new("car-8"), TimeToLive: new(90 * time.Second), ScheduledEnqueueTime: new(enqueued), EnqueuedSequenceNumber: new(int64(0)),
			DeadLetterReason: new("MaxDeliveryCountExceeded"), DeadLetterDescription: new("\xff"), DeadLetterSource: new("rides"),
		}, `{"DATA":"x","SYSTEM":{"sequence_number":42,"delivery_count":10,"enqueued_time":"2026-03-09T04:05:06.070Z","partition_key":"car-7","subject":"ride",` +
			`"session_id":"","reply_to_session_id":"car-8","dead_letter_reason":"MaxDeliveryCountExceeded","dead_letter_description":"/w==","dead_letter_source":"rides",` +
			`"time_to_live_ms":90000,"scheduled_enqueue_time":"2026-03-09T04:05:06.070Z","enqueued_sequence_number":0},` +
			`"TYPES":{"SYSTEM":{"dead_letter_description":"string in base64"}}}`},
		"scalars": {all, message.Message{Body: data(""), Properties: map[string]any{
			"": nil, "byte": int8(-1), "short": int16(-2), "long": int64(math.MinInt64), "ubyte": uint8(1), "ushort": uint16(2), "uint": uint32(3), "ulong": uint64(math.MaxUint64),
			"float": float32(0.1), "nan": math.NaN(), "inf": math.Inf(-1), "zero": math.Copysign(0, -1), "bin": []byte{0xff}, "bool": false,
		}}, `{"DATA":"","METADATA":{"":null,"bin":"/w==","bool":false,"byte":-1,"float":0.1,"inf":"-Infinity","long":-9223372036854775808,"nan":"NaN","short":-2,"ubyte":1,"uint":3,"ulong":18446744073709551615,"ushort":2,"zero":-0.0},` +
			`"TYPES":{"METADATA":{"bin":"binary","byte":"byte","float":"float","inf":"double","nan":"double","short":"short","ubyte":"ubyte","uint":"uint","ulong":"ulong","ushort":"ushort"}}}`},
		"annotations": {all, message.Message{Body: data(""), Annotations: map[string]any{"x-opt-a": int32(1)}, Subject: new("\xff")},
			`{"DATA":"","SYSTEM":{"sequence_number":0,"subject":"/w==","annotations":{"x-opt-a":1}},"TYPES":{"SYSTEM":{"subject":"string in base64","annotations":{"x-opt-a":"int"}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := string(test.format.Append([]byte("before "), &test.m))
			if want := "before " + test.want + "\n\n"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// A record is one line of valid JSON, whatever the message holds, and the separator ends it.
func TestAppendIsOneLineOfJSON(t *testing.T) {
	for name, m := range messages() {
		for _, separator := range []string{OneNewline, TwoNewlines} {
			got := string(Format{Metadata: true, Separator: separator}.Append(nil, &m))
			line, ok := strings.CutSuffix(got, separator)
			if !ok || strings.Contains(line, "\n") {
				t.Errorf("%s: %q is not one line and %q", name, got, separator)
			}
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: encoding/json refuses %.2000s", name, line)
			}
		}
	}
}

// encoding/json reads every string as we meant it, wherever in a word of eight bytes its escapes lie.
func TestAppendTextAgainstEncodingJSON(t *testing.T) {
	for c := range rune(0x180) {
		for at := range 20 {
			want := strings.Repeat("x", at) + string(c) + strings.Repeat("y", 19-at) + string(c)
			var got string
			if err := json.Unmarshal(appendString(nil, want), &got); err != nil || got != want {
				t.Fatalf("%q read back as %q, %v", want, got, err)
			}
		}
	}
}

// A large body is text unless base64 is shorter, so that it fits into a blob in any case.
func TestAppendLargeBody(t *testing.T) {
	for data, want := range map[string]bool{
		"abc": true, "\n__": true, "\n\n_": false, "\n__\n__": true, "\n__\n\n_": false, "\x01": false, "\x01a": false, "\x01abcdefghijklmn": true, "\x01abcdefghijkl\"\\": false, "": true,
	} {
		if got := textIsShort([]byte(data)); got != want {
			t.Errorf("%q: %t", data, got)
		}
	}
	every := make([]byte, 128)
	for i := range every {
		every[i] = byte(i)
	}
	if got, want := textLen(every), len(appendText(nil, every))-2; got != want {
		t.Errorf("text of %d bytes, foretold %d", want, got)
	}
	body := bytes.Repeat([]byte{1}, largeBody)
	written := Format{}.Append(nil, &message.Message{Body: message.Body{Data: [][]byte{body}}})
	if !bytes.HasSuffix(written, []byte("\"ENCODING\":\"base64\"}\n\n")) {
		t.Errorf("%d control characters became %d bytes of text", len(body), len(written))
	}
	body = bytes.Repeat([]byte("x"), largeBody)
	written = Format{}.Append(written[:0], &message.Message{Body: message.Body{Data: [][]byte{body}}})
	if len(written) != len(body)+len(`{"DATA":""}`)+2 {
		t.Errorf("%d plain characters became %d bytes", len(body), len(written))
	}
}

func TestParseSeparator(t *testing.T) {
	for name, want := range map[string]string{"one": "\n", "two": "\n\n"} {
		if got, err := ParseSeparator(name); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := ParseSeparator("three"); err == nil || !strings.Contains(err.Error(), `"three" is not one of: one, two`) {
		t.Errorf("three: got %v", err)
	}
}

// A buffer that has room is all that an ordinary event needs.
func TestAppendAllocatesNothing(t *testing.T) {
	event := ordinary(1024)
	queued := event
	queued.SessionID, queued.DeliveryCount, queued.TimeToLive = new("car-7"), 2, new(time.Minute)
	f := Format{Metadata: true}
	for _, m := range []message.Message{event, queued} {
		dst := f.Append(nil, &m)
		if n := testing.AllocsPerRun(100, func() { dst = f.Append(dst[:0], &m) }); n != 0 {
			t.Errorf("%v allocations a record", n)
		}
	}
}

// ordinary is an event as telemetry sends them, with a text of so many bytes.
func ordinary(size int) message.Message {
	return message.Message{
		Body:           data(strings.Repeat("The quick brown fox jumps over. ", size/32+1)[:size]),
		Properties:     map[string]any{"device": "sensor-17", "reading": int32(42), "site": "north", "at": int64(1)},
		SequenceNumber: 123456, Offset: "987654321", EnqueuedTime: enqueued, Partition: "5",
		PartitionKey: new("sensor-17"), ID: "a1b2c3", ContentType: new("text/plain"),
	}
}
