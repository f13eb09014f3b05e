package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/message"
)

// messages has every kind of body, every type in every place, and what is awkward about each.
func messages() map[string]message.Message {
	scalars := []any{
		nil, true, false, "", "text", "\xff\"", int8(math.MinInt8), int16(math.MinInt16), int32(math.MinInt32), int64(math.MinInt64),
		uint8(math.MaxUint8), uint16(math.MaxUint16), uint32(math.MaxUint32), uint64(math.MaxUint64),
		float32(math.MaxFloat32), float32(2), float32(math.Inf(1)), 0.1, 2.0, 1e21, 1e-9, math.MaxFloat64, math.SmallestNonzeroFloat64,
		math.NaN(), math.Inf(1), math.Inf(-1), []byte{}, []byte("text"), []byte{0xff, 0}, enqueued, time.Time{},
		time.UnixMilli(math.MaxInt64 / 2).UTC(), time.UnixMilli(-1e15).UTC(), message.UUID{1, 15: 0xfe},
	}
	arrays := []any{
		[]bool{true, false}, []int8{-1}, []int16{-1}, []int32{-1}, []int64{-1}, []uint16{1}, []uint32{1}, []uint64{math.MaxUint64},
		[]float32{1, float32(math.NaN())}, []float64{1, math.Inf(-1)}, [][]byte{{0xff}, {}}, []time.Time{enqueued}, []message.UUID{{1}},
		[]string{"a", ""}, []string{"a", "\xff"}, []int32{}, []map[any]any{{"a": int32(1), uint8(1): nil}, {}},
	}
	maps := []any{
		map[string]any{}, map[string]any{"": int32(1), "a\"\n": "x", "é": nil, "deep": map[string]any{"x": []any{uint8(1), int64(1)}}},
		map[string]any{"\xff": uint8(1), "\xfe": int64(1), "ok": map[string]any{"\xff": "\xff"}},
		map[any]any{}, map[any]any{int32(1): "a", int64(1): "b", "1": "c", nil: "d", true: uint8(1), message.UUID{1}: []any{}, enqueued: nil, 1.5: nil, "\xff": map[any]any{uint8(1): uint8(1)}},
	}
	system := message.Message{
		Body: data("x"), SequenceNumber: math.MaxInt64, Offset: "o\xff", EnqueuedTime: enqueued, Partition: "p", PartitionKey: new(""), CorrelationID: []byte{1},
		ContentType: new("c"), ContentEncoding: new("\xff"), Subject: new("s"), To: new("t"), ReplyTo: new("r"), GroupID: new("g"), ReplyToGroupID: new("rg"),
		GroupSequence: new(uint32(math.MaxUint32)), UserID: []byte{0xff}, CreationTime: new(enqueued), AbsoluteExpiryTime: new(time.UnixMilli(math.MaxInt64 / 2).UTC()),
		Annotations: map[string]any{"a": int8(1), "list": []any{int16(1)}, "\xff": "x"},
	}
	queued := message.Message{
		Body: data("x"), SequenceNumber: 1, EnqueuedTime: enqueued, DeliveryCount: math.MaxUint32, SessionID: new("s\xff"), ReplyToSessionID: new(""),
		TimeToLive: new(time.Duration(math.MaxInt64).Truncate(time.Millisecond)), ScheduledEnqueueTime: new(time.UnixMilli(1e15).UTC()), EnqueuedSequenceNumber: new(int64(math.MinInt64)),
		DeadLetterReason: new(""), DeadLetterDescription: new("a\nb \xff"), DeadLetterSource: new("topic/Subscriptions/é"), GroupSequence: new(uint32(0)),
	}

	all := map[string]message.Message{
		"zero": {}, "system": system, "queued": queued, "no time to live": {Body: data("x"), DeliveryCount: 1, TimeToLive: new(time.Duration(0)), EnqueuedSequenceNumber: new(int64(0))}, "empty user id": {Body: data("x"), UserID: []byte{}},
		"text": {Body: data("abc é 🚕 \u2028 \" \\ \n \x00")}, "binary": {Body: data("\xff\xfe")}, "sections": {Body: data("a", "", "\xff", "b")},
		"cut rune": {Body: data("\xf0\x9f", "\x9a\x95")}, "empty section": {Body: data("")}, "empty sections": {Body: data("", "")},
		"sequence":       {Body: message.Body{Kind: message.Sequence, Sequence: [][]any{scalars, {}, arrays, maps}}},
		"empty sequence": {Body: message.Body{Kind: message.Sequence}},
		"json":           {Body: jsonBody(`{"a":[null,1e400,-0.0,123456789012345678901234567890,"\ud800","é\n",{"":{}}]}`), Properties: map[string]any{"id": "7"}},
		"json scalar":    {Body: jsonBody(`"a"`)}, "json null": {Body: jsonBody(`null`)}, "json number": {Body: jsonBody(`7`)},
		"deep json": {Body: jsonBody(strings.Repeat("[", 5000) + strings.Repeat("]", 5000))},
	}
	properties := map[string]any{}
	for _, values := range [][]any{scalars, arrays, maps} {
		for i, v := range values {
			key := fmt.Sprintf("%T %d", v, i)
			properties[key] = v
			all["value "+key] = message.Message{Body: value(v)}
			all["list "+key] = message.Message{Body: value([]any{int64(0), v})}
			all["map "+key] = message.Message{Body: value(map[any]any{int8(0): v})}
			all["property "+key] = message.Message{Body: data(""), Properties: map[string]any{"": v, "z": "z"}}
			all["annotation "+key] = message.Message{Body: data(""), Annotations: map[string]any{"a": v}}
		}
	}
	all["properties"] = message.Message{Body: data("x"), Properties: properties}
	for i, id := range []any{"", "id", "\xff", uint64(math.MaxUint64), message.UUID{15: 1}, []byte{0xff}} {
		all[fmt.Sprint("id ", i)] = message.Message{Body: data("x"), ID: id, CorrelationID: id}
	}
	return all
}

func TestRoundTrip(t *testing.T) {
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) { roundTrip(t, &m) })
	}
}

// roundTrip writes m and reads it back, and expects the same again, types included.
func roundTrip(t *testing.T, m *message.Message) {
	t.Helper()
	f := Format{Metadata: true}
	written := f.Append(nil, m)
	r := NewReader(bytes.NewReader(written), len(written))
	got, err := r.Next()
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, written)
	}
	if diff := cmp.Diff(m, got, equalFloats, equalNaNs); diff != "" {
		t.Errorf("got (+), want (-):\n%.4000s\n%.2000s", diff, written)
	}
	if again := f.Append(nil, got); !bytes.Equal(again, written) {
		t.Errorf("written again:\n%.2000s\nwant\n%.2000s", again, written)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("then %v, want io.EOF", err)
	}
}

// roundTripBytes writes a message whose body is no JSON, and expects to read its bytes.
func roundTripBytes(t *testing.T, m *message.Message, want []byte) {
	t.Helper()
	written := Format{}.Append(nil, m)
	got, err := NewReader(bytes.NewReader(written), len(written)).Next()
	if err != nil || got.Body.Kind != message.Data || len(got.Body.Data) != 1 || !bytes.Equal(got.Body.Data[0], want) {
		t.Errorf("%q became %s: %v, %v", want, written, got, err)
	}
}

// Two NaNs are equal here, and 0 and -0 are not.
var equalFloats = cmp.Comparer(func(a, b float64) bool {
	return math.IsNaN(a) && math.IsNaN(b) || math.Float64bits(a) == math.Float64bits(b)
})

var equalNaNs = cmp.Comparer(func(a, b float32) bool { return a != a && b != b || a == b })

// MaxDepth itself is not too deep, in a body and below a property. (cmp takes forever here.)
func TestDeep(t *testing.T) {
	for _, m := range []message.Message{
		{Body: value(deep(MaxDepth))},
		{Body: data(""), Properties: map[string]any{"a": deep(MaxDepth - 1)}},
		{Body: message.Body{Kind: message.Sequence, Sequence: [][]any{{deep(MaxDepth - 2)}}}},
	} {
		written := Format{Metadata: true}.Append(nil, &m)
		got, err := NewReader(bytes.NewReader(written), len(written)).Next()
		if err != nil || !reflect.DeepEqual(got, &m) {
			t.Errorf("%.3000s\nread back as %v, %v", written, got, err)
		}
	}
}

// What lies too deep is the one thing that is lost, and marked.
func TestTooDeep(t *testing.T) {
	for name, v := range map[string]any{
		"lists": deep(MaxDepth + 1), "many lists": deep(100 * MaxDepth),
		"map": []any{deep(MaxDepth - 1), map[string]any{"a": deep(MaxDepth - 1)}},
	} {
		written := Format{}.Append(nil, &message.Message{Body: value(v)})
		if n := bytes.Count(written, []byte(`"too deep"`)); n != 1 {
			t.Errorf("%s: marked %d times", name, n)
		}
		if _, err := NewReader(bytes.NewReader(written), len(written)).Next(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The record of one message is always the same, though Go's maps have no order.
func TestAppendIsDeterministic(t *testing.T) {
	m := messages()["properties"]
	f := Format{Metadata: true}
	want := f.Append(nil, &m)
	for range 20 {
		if got := f.Append(nil, &m); !bytes.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("text"), "key", "value", int64(1), 1.5, byte(0))
	f.Add([]byte("\xff\x00\xc3\xa9"), "\xff", "\xfe\"", int64(-1), math.NaN(), byte(1))
	f.Add([]byte(strings.Repeat("\x01", 30)), "", "\\", int64(math.MinInt64), math.Inf(1), byte(2))
	f.Fuzz(func(t *testing.T, body []byte, key, text string, number int64, float float64, cut byte) {
		at := min(int(cut), len(body))
		properties := map[string]any{
			key: text, key + "b": body, key + "n": number, key + "f": float, key + "g": float32(float), key + "u": uint64(number), key + "i": int32(number),
			key + "m": map[any]any{text: number, number: []any{float, []string{key, text}}}, key + "t": time.UnixMilli(number).UTC(),
		}
		roundTrip(t, &message.Message{Body: message.Body{Data: [][]byte{body}}, Properties: properties, PartitionKey: &key, ID: text})
		roundTrip(t, &message.Message{Body: message.Body{Data: [][]byte{body}}, SequenceNumber: number, DeliveryCount: uint32(number), SessionID: &text, DeadLetterReason: &key,
			DeadLetterDescription: &text, TimeToLive: new(time.Duration(number) / time.Millisecond * time.Millisecond), EnqueuedSequenceNumber: &number})
		roundTrip(t, &message.Message{Body: message.Body{Data: [][]byte{body[:at], body[at:]}}, Annotations: properties, Offset: text, ID: body})
		roundTrip(t, &message.Message{Body: value(properties)})
		if compact := new(bytes.Buffer); utf8.Valid(body) && json.Compact(compact, body) == nil {
			roundTrip(t, &message.Message{Body: jsonBody(compact.String()), Properties: properties})
		} else {
			roundTripBytes(t, &message.Message{Body: message.Body{Kind: message.JSON, JSON: body}}, body)
		}
	})
}

// Whatever bytes it is given, the reader returns or refuses them, and what it returns round-trips.
func FuzzReader(f *testing.F) {
	for _, m := range messages() {
		f.Add(Format{Metadata: true}.Append(nil, &m))
	}
	f.Add([]byte("{\"DATA\": \"as of old\"}\n\n{\"METADATA\":{\"a\":1},\"DATA\":\"\\ud83d\\ude95\\u00e9\"}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := NewReader(bytes.NewReader(content), 1<<16)
		for range len(content) + 1 {
			m, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if m != nil || !utf8.ValidString(err.Error()) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v with %v", err, m)
				}
				continue
			}
			normal := Format{Metadata: true}.Append(nil, m)
			again, err := NewReader(bytes.NewReader(normal), len(normal)).Next()
			if err != nil {
				t.Fatalf("%v\n%s", err, normal)
			}
			if twice := (Format{Metadata: true}).Append(nil, again); !bytes.Equal(twice, normal) {
				t.Fatalf("%s\nbecame\n%s", normal, twice)
			}
		}
	})
}
