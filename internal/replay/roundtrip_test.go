package replay

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/emulator"
	"persistor/internal/message"
	"persistor/internal/publish"
)

var at = time.Date(2026, 3, 9, 4, 5, 6, 70e6, time.UTC)

// scalars and composites have every AMQP type that the clients can send, and what is awkward about each.
var (
	scalars = []any{
		nil, true, false, "", "text", "é 🚕 \u2028 \" \\ \n \x00", int8(math.MinInt8), int16(math.MinInt16), int32(math.MinInt32), int64(math.MinInt64),
		int32(1), int64(1), uint8(math.MaxUint8), uint16(math.MaxUint16), uint32(math.MaxUint32), uint64(math.MaxUint64), uint32(0), uint64(0),
		float32(math.MaxFloat32), float32(2), float32(math.Inf(1)), 0.1, 2.0, 1e21, math.SmallestNonzeroFloat64, math.Inf(-1),
		[]byte{}, []byte("text"), []byte{0xff, 0}, at, time.UnixMilli(0).UTC(), message.UUID{1, 15: 0xfe},
	}
	composites = []any{
		[]bool{true, false}, []int8{-1}, []int16{-1}, []int32{-1, 1}, []int64{-1}, []uint16{1}, []uint32{1}, []uint64{math.MaxUint64},
		[]float32{1}, []float64{1, math.Inf(-1)}, [][]byte{{0xff}, {}}, []time.Time{at}, []message.UUID{{1}}, []string{"a", ""},
		[]any{}, []any{"x", nil, uint8(3), message.UUID{7}, []any{int16(1)}},
		map[string]any{"a": int32(1), "b": []any{"x", message.UUID{1}}, "": nil},
		[]map[any]any{{"a": int32(1), uint8(1): nil}, {message.UUID{3}: "x"}},
		map[any]any{int32(1): "a", int64(1): message.UUID{2}, "1": "c", true: uint8(1), message.UUID{1}: []any{}},
	}
)

// everyType is a message for each type in each place, without what an Event Hub can't carry.
func everyType() (all []publish.Message) {
	for _, v := range scalars {
		all = append(all, publish.Message{Other: &message.Body{Kind: message.Value, Value: v}},
			publish.Message{Body: []byte("x"), Properties: map[string]any{"a": v, "z": "z"}, Annotations: map[string]any{"x-custom": v}})
	}
	for _, v := range composites {
		all = append(all, publish.Message{Other: &message.Body{Kind: message.Value, Value: v}},
			publish.Message{Other: &message.Body{Kind: message.Sequence, Sequence: [][]any{{v}, {}, {"x", v}}}},
			publish.Message{Other: &message.Body{Kind: message.Value, Value: []any{v, map[string]any{"in": v}}}})
	}
	for _, id := range []any{"id", uint64(7), message.UUID{15: 1}, []byte{0xff}} {
		all = append(all, publish.Message{Body: []byte("id"), ID: id, CorrelationID: id})
	}
	for _, sections := range [][][]byte{{{}}, {{}, {}}, {[]byte("a"), {}, {0xff, 0xfe}}, {[]byte("\xf0\x9f"), []byte("\x9a\x95")}} {
		all = append(all, publish.Message{Other: &message.Body{Data: sections}})
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	return append(all,
		publish.Message{Body: every}, publish.Message{Body: []byte("{\"DATA\":\"x\"}\n\n{\"DATA\":")},
		publish.Message{
			Body: []byte("all"), ContentType: new("application/json"), ContentEncoding: new("gzip"), Subject: new(""), To: new("t"), ReplyTo: new("r"),
			ReplyToSession: new("rs"), GroupSequence: new(uint32(math.MaxUint32)), UserID: []byte{0xff, 0}, CreationTime: new(at), AbsoluteExpiryTime: new(at.AddDate(200, 0, 0)),
		},
		publish.Message{Body: []byte("zeros"), ContentType: new(""), GroupSequence: new(uint32(0)), UserID: []byte("u"), ReplyToSession: new("")},
	)
}

// random is a message with anything in it.
func random(r *rand.Rand) publish.Message {
	any1 := func() any {
		if r.IntN(3) == 0 {
			return composites[r.IntN(len(composites))]
		}
		return scalars[r.IntN(len(scalars))]
	}
	text := func() *string {
		if r.IntN(2) == 0 {
			return nil
		}
		return new(fmt.Sprintf("%x", r.Uint32()))
	}
	m := publish.Message{
		Properties: map[string]any{}, ID: fmt.Sprint("id ", r.Uint64()), ContentType: text(), ContentEncoding: text(), Subject: text(), To: text(), ReplyTo: text(),
	}
	for range r.IntN(5) {
		m.Properties[fmt.Sprint("p", r.IntN(20))] = scalars[r.IntN(len(scalars))]
	}
	switch r.IntN(4) {
	case 0:
		m.Other = &message.Body{Kind: message.Value, Value: any1()}
	case 1:
		m.Other = &message.Body{Kind: message.Sequence, Sequence: [][]any{{any1(), any1()}, {any1()}}}
	case 2:
		m.Other = &message.Body{Data: [][]byte{[]byte(fmt.Sprint(r.Uint64())), {byte(r.Uint32())}}}
	default:
		m.Body = []byte(strings.Repeat(fmt.Sprint(r.Uint64()), r.IntN(30)))
	}
	return m
}

// asStored is how a message is stored that was published.
func asStored(m publish.Message, hub bool) *message.Message {
	s := &message.Message{
		Body: message.Body{Data: [][]byte{m.Body}}, Properties: m.Properties, ID: m.ID, CorrelationID: m.CorrelationID,
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, Subject: m.Subject, To: m.To, ReplyTo: m.ReplyTo,
		GroupSequence: m.GroupSequence, UserID: m.UserID, CreationTime: m.CreationTime, AbsoluteExpiryTime: m.AbsoluteExpiryTime,
		PartitionKey: m.Key, TimeToLive: m.TimeToLive, Annotations: maps.Clone(m.Annotations),
	}
	if m.Other != nil {
		s.Body = *m.Other
	}
	if len(m.Properties) == 0 {
		s.Properties = nil
	}
	if scheduled, ok := s.Annotations["x-opt-scheduled-enqueue-time"].(time.Time); ok {
		s.ScheduledEnqueueTime = &scheduled
		delete(s.Annotations, "x-opt-scheduled-enqueue-time")
	}
	if len(s.Annotations) == 0 {
		s.Annotations = nil
	}
	if hub {
		s.GroupID, s.ReplyToGroupID = m.Session, m.ReplyToSession
	} else {
		s.SessionID, s.ReplyToSessionID = m.Session, m.ReplyToSession
	}
	return s
}

// asPublished fails the test unless the messages that are stored are those that were published.
func asPublished(t *testing.T, published []publish.Message, stored []*message.Message) {
	t.Helper()
	byID := map[string]*message.Message{}
	for _, m := range stored {
		byID[fmt.Sprint(m.ID)] = m
	}
	for _, m := range published {
		is := byID[fmt.Sprint(m.ID)]
		if is == nil {
			t.Fatalf("message %v isn't stored", m.ID)
		}
		want := sent(asStored(m, is.SessionID == nil))
		if want.CreationTime == nil && want.TimeToLive != nil {
			want.CreationTime = is.CreationTime // the service's
		}
		if diff := cmp.Diff(want, sent(is)); diff != "" {
			t.Fatalf("message %v (-published +stored):\n%s", m.ID, diff)
		}
	}
	if len(published) != len(stored) {
		t.Fatalf("of %d messages %d are stored", len(published), len(stored))
	}
}

// identified gives each message an id.
func identified(all []publish.Message) []publish.Message {
	for i := range all {
		if all[i].ID == nil {
			all[i].ID = fmt.Sprint("message ", i)
		}
	}
	return all
}

// sent is a message without what the service gave it.
func sent(m *message.Message) *message.Message {
	c := *m
	c.SequenceNumber, c.Offset, c.EnqueuedTime, c.Partition, c.DeliveryCount = 0, "", time.Time{}, "", 0
	if c.TimeToLive != nil {
		c.AbsoluteExpiryTime = nil // which the service counts from the enqueued time
	}
	return &c
}

// same fails the test unless both hold the same messages, in the same order within each group.
func same(t *testing.T, was, is []*message.Message, group func(*message.Message) string) {
	t.Helper()
	if len(was) != len(is) {
		t.Fatalf("%d messages became %d", len(was), len(is))
	}
	groups := map[string][]*message.Message{}
	for _, m := range is {
		groups[group(m)] = append(groups[group(m)], m)
	}
	for i, m := range was {
		g := group(m)
		if len(groups[g]) == 0 {
			t.Fatalf("message %d of group %q is missing", i, g)
		}
		if diff := cmp.Diff(sent(m), sent(groups[g][0])); diff != "" {
			t.Fatalf("message %d of group %q (-was +is):\n%s", i, g, diff)
		}
		groups[g] = groups[g][1:]
	}
}

func seeds(t *testing.T) int {
	if os.Getenv("PERSISTOR_SOAK") != "" && !testing.Short() {
		return 2000
	}
	return 100
}

func byPartition(m *message.Message) string { return m.Partition }
func bySession(m *message.Message) string   { return fmt.Sprint(m.SessionID == nil, *cmpOr(m.SessionID)) }
func cmpOr(s *string) *string {
	if s == nil {
		return new("")
	}
	return s
}

// A hub that is drained, replayed into another one and drained again is the same, message by message: body,
// properties, annotations and ids with their types, keys, and order.
func TestHubComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, emulator.Options{Hubs: []emulator.Hub{{Name: "was", Partitions: 4}, {Name: "is", Partitions: 4}, {Name: "keyed", Partitions: 4}}})
	r := rand.New(rand.NewPCG(1, 2))
	all := identified(everyType())
	for range seeds(t) {
		all = append(all, random(r))
	}
	for i := range all {
		if key := fmt.Sprint("key ", i%7); i%3 > 0 {
			all[i].Key = &key
		}
		if i%3 < 2 {
			all[i].Partition = fmt.Sprint(i % 7 % 4)
		}
		if all[i].Session == nil && i%5 == 0 {
			all[i].Session = new(fmt.Sprint("group ", i%2))
		}
	}
	s.send(s.toHub("was"), all...)
	from := s.drainHub("was", "was", nil)
	was := s.messages(from)
	asPublished(t, all, was)

	s.replay(from, s.toHub("is"), Task{ToHub: true, KeepPartition: true}, Options{}, int64(len(all)))
	same(t, was, s.messages(s.drainHub("is", "is", nil)), byPartition)

	s.replay(from, s.toHub("keyed"), Task{ToHub: true}, Options{}, int64(len(all)))
	same(t, was, s.messages(s.drainHub("keyed", "keyed", nil)), func(m *message.Message) string {
		if m.PartitionKey != nil {
			return "key " + *m.PartitionKey
		}
		return "partition " + m.Partition
	})
}

func TestSessionsComeBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, emulator.Options{Queues: []emulator.Queue{{Name: "was", Sessions: true}, {Name: "is", Sessions: true}}})
	sessions := []string{"", "a/b", "..", "ü 界"}
	r := rand.New(rand.NewPCG(3, 4))
	all := identified(everyType())
	for range seeds(t) {
		all = append(all, random(r))
	}
	for i := range all {
		all[i].Session = &sessions[i%len(sessions)]
		if i%4 == 0 {
			all[i].TimeToLive = new(time.Duration(i+1) * time.Hour)
		}
		if i%11 == 0 {
			all[i].Annotations = maps.Clone(all[i].Annotations)
			if all[i].Annotations == nil {
				all[i].Annotations = map[string]any{}
			}
			all[i].Annotations["x-opt-scheduled-enqueue-time"] = at
		}
	}
	s.send(s.toQueue("was"), all...)
	from := s.drainQueue("was", "was", nil, sessions...)
	was := s.messages(from)
	asPublished(t, all, was)
	s.replay(from, s.toQueue("is"), Task{}, Options{}, int64(len(all)))
	same(t, was, s.messages(s.drainQueue("is", "is", nil, sessions...)), bySession)
}
