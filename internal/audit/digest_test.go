package audit

import (
	"fmt"
	"math"
	"testing"
	"time"

	"persistor/internal/message"
)

func text(s string) *string { return &s }

// Anything that a sender decides changes the digest: each of these messages differs from all others.
func TestDigestTellsMessagesApart(t *testing.T) {
	messages := []message.Message{
		{},
		{Body: message.Body{Data: [][]byte{[]byte("a")}}},
		{Body: message.Body{Data: [][]byte{[]byte("b")}}},
		{Body: message.Body{Kind: message.Value, Value: []byte("a")}},
		{Body: message.Body{Kind: message.Value, Value: "a"}},
		{Body: message.Body{Kind: message.Sequence, Sequence: [][]any{{"a"}}}},
		{Body: message.Body{Kind: message.Sequence, Sequence: [][]any{{"a"}, {}}}},
		{Body: message.Body{Kind: message.JSON, JSON: []byte("1")}},
		{Body: message.Body{Kind: message.JSON, JSON: []byte("2")}},
		{ContentType: text("")},
		{ContentType: text("a")},
		{Subject: text("a")}, {To: text("a")}, {ReplyTo: text("a")}, {SessionID: text("")}, {SessionID: text("a")}, {ReplyToSessionID: text("a")},
		{PartitionKey: text("")},
		{PartitionKey: text("a")},
		{ID: ""}, {ID: "a"}, {ID: uint64(1)}, {ID: []byte("a")}, {ID: message.UUID{1}},
		{CorrelationID: ""}, {CorrelationID: "a"}, {CorrelationID: uint64(1)},
		{Properties: map[string]any{"a": "b"}},
		{Properties: map[string]any{"ab": ""}},
		{Properties: map[string]any{"": "ab"}},
		{Properties: map[string]any{"a": "b", "c": nil}},
	}
	// The same number in every type, and values that are easily mixed up.
	for _, v := range []any{
		nil, true, false, int8(1), int16(1), int32(1), int64(1), uint8(1), uint16(1), uint32(1), uint64(1),
		float32(1), float64(1), math.NaN(), math.Inf(1), math.Copysign(0, -1), float64(0), "1", "", []byte("1"), []byte{},
		time.UnixMilli(1), message.UUID{15: 1}, []any{}, []any{int8(1)}, map[string]any{}, map[string]any{"1": int8(1)},
		map[any]any{int8(1): int8(1)}, []int32{1}, []int64{1},
	} {
		messages = append(messages, message.Message{Properties: map[string]any{"p": v}})
	}
	seen := make(map[Digest]string)
	for _, m := range messages {
		what := fmt.Sprintf("%#v", m)
		if other, ok := seen[DigestOf(&m)]; ok {
			t.Errorf("two messages have one digest:\n%s\n%s", other, what)
		}
		seen[DigestOf(&m)] = what
	}
}

// What the service adds, and what no AMQP peer can tell apart, does not change the digest.
func TestDigestIgnoresWhatIsNotTheSenders(t *testing.T) {
	sent := message.Message{
		Body:       message.Body{Data: [][]byte{[]byte("one body")}},
		Properties: map[string]any{"at": time.UnixMilli(5).UTC(), "nan": math.NaN()},
	}
	stored := message.Message{
		Body:           message.Body{Data: [][]byte{[]byte("one "), nil, []byte("body")}},
		Properties:     map[string]any{"at": time.UnixMilli(5).In(time.FixedZone("", 3600)).Add(999), "nan": math.Float64frombits(0x7ff8000000000002)},
		SequenceNumber: 7, Offset: "8", EnqueuedTime: time.UnixMilli(9), Partition: "1",
		Annotations: map[string]any{"x-opt-other": int32(1)},
	}
	if DigestOf(&sent) != DigestOf(&stored) {
		t.Error("the digest of a record differs from that of the message sent")
	}
	sent.GroupID, sent.ReplyToGroupID = text("car-7"), text("car-8")
	stored.SessionID, stored.ReplyToSessionID = text("car-7"), text("car-8")
	stored.DeliveryCount, stored.DeadLetterReason, stored.DeadLetterSource, stored.EnqueuedSequenceNumber = 10, text("x"), text("orders"), new(int64(1))
	stored.TimeToLive = new(time.Hour)
	stored.Properties["DeadLetterReason"], stored.Properties["DeadLetterErrorDescription"] = "x", "y"
	if DigestOf(&sent) != DigestOf(&stored) {
		t.Error("the digest of a dead letter's record differs from that of the message sent")
	}
}
