package emulator_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

// all returns what a hub's partitions hold, by partition id, for a hub that nobody sends to meanwhile.
func all(t *testing.T, e *emulator.Emulator, partitions int) map[string][]*azeventhubs.ReceivedEventData {
	t.Helper()
	p := newProducer(t, e, atOnce)
	held := make(map[string][]*azeventhubs.ReceivedEventData)
	for i := range partitions {
		id := strconv.Itoa(i)
		if properties := partitionProperties(t, p, id); !properties.IsEmpty {
			held[id] = receive(t, readFrom(t, e, id), int(properties.LastEnqueuedSequenceNumber-properties.BeginningSequenceNumber+1))
		}
	}
	return held
}

// An event arrives with all that the client can give it, at some partition, with a partition key only
// when it was sent with one.
func TestSendToAnyPartition(t *testing.T) {
	for _, key := range []*string{nil, ptr("a key"), ptr("ключ")} {
		e := run(t, emulator.Options{})
		sent := azeventhubs.EventData{
			Body:          []byte("body"),
			ContentType:   ptr("text/plain"),
			CorrelationID: "correlation",
			MessageID:     ptr("id"),
			Properties:    map[string]any{"hello": "world"},
		}
		before := time.Now().Add(-time.Millisecond)
		sendBatch(t, newProducer(t, e, atOnce), azeventhubs.EventDataBatchOptions{PartitionKey: key}, &sent)
		held := all(t, e, 4)
		if len(held) != 1 {
			t.Fatalf("the event is in %d partitions", len(held))
		}
		for _, events := range held {
			got := events[0]
			if diff := cmp.Diff(sent, got.EventData); len(events) != 1 || diff != "" {
				t.Errorf("%d events, want one as sent:\n%s", len(events), diff)
			}
			if diff := cmp.Diff(key, got.PartitionKey); diff != "" {
				t.Errorf("partition key: %s", diff)
			}
			if got.SequenceNumber != 0 || got.Offset == "" || len(got.SystemProperties) != 0 {
				t.Errorf("sequence number %d, offset %q, further annotations %v", got.SequenceNumber, got.Offset, got.SystemProperties)
			}
			if at := *got.EnqueuedTime; at.Before(before.Truncate(time.Millisecond)) || at.After(time.Now()) {
				t.Errorf("enqueued at %v, want a time since %v", at, before)
			}
		}
	}
}

// A partition key chooses the partition by the hash that the clients' buffered producers mirror. The
// hashes are those of the clients' own tests.
func TestPartitionKeys(t *testing.T) {
	const partitions = 32
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: partitions}}})
	p := newProducer(t, e, atOnce)
	want := make(map[string][]string)
	for _, v := range []struct {
		key  string
		hash int
	}{
		{"7", -15263}, {"131", 30562}, {"7149583486996073602", 12977}, {"FWfAT", -22341}, {"sOdeEAsyQoEuEFPGerWO", -6503},
		{"!c*_!I@1^c", 15372}, {"$0cb", 26269}, {"p4*!jioeO/z-!-;w:dh", -3104}, {"-4189260826195535198", 453},
	} {
		id := strconv.Itoa(int(math.Abs(float64(v.hash % partitions))))
		for range 2 { // each time to the same partition
			sendBatch(t, p, azeventhubs.EventDataBatchOptions{PartitionKey: &v.key}, &azeventhubs.EventData{Body: []byte(v.key)}, &azeventhubs.EventData{Body: []byte(v.key)})
			want[id] = append(want[id], v.key, v.key)
		}
	}
	got := make(map[string][]string)
	for id, events := range all(t, e, partitions) {
		got[id] = bodies(events)
		for _, event := range events {
			if event.PartitionKey == nil || *event.PartitionKey != string(event.Body) {
				t.Errorf("the event of key %q has the key %v", event.Body, event.PartitionKey)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Without a key a batch goes to one partition, and batches go round all of them.
func TestNoKeyGoesRound(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	for i := range 8 {
		sendBatch(t, p, azeventhubs.EventDataBatchOptions{}, &azeventhubs.EventData{Body: []byte(fmt.Sprint(i))}, &azeventhubs.EventData{Body: []byte(fmt.Sprint(i))})
	}
	held := all(t, e, 4)
	for id := range 4 {
		events := bodies(held[strconv.Itoa(id)])
		if len(events) != 4 || events[0] != events[1] || events[2] != events[3] {
			t.Errorf("partition %d holds %q, want two whole batches", id, events)
		}
	}
}

// Every kind of body and every part of a message that the service keeps comes out as it went in.
func TestMessagesSurvive(t *testing.T) {
	at := time.Date(2024, 2, 29, 12, 34, 56, 789e6, time.UTC)
	properties := map[string]any{
		"null": nil, "true": true, "false": false,
		"int8": int8(-8), "int16": int16(-16), "int32": int32(-32), "int64": int64(math.MinInt64),
		"uint8": uint8(8), "uint16": uint16(16), "uint32": uint32(math.MaxUint32), "uint64": uint64(math.MaxUint64),
		"float32": float32(1.5), "float64": math.SmallestNonzeroFloat64,
		"string": "żółć", "empty": "", "binary": []byte{0, 1, 255}, "time": at, "uuid": amqp.UUID{1, 2, 3},
		strings.Repeat("long name ", 100): strings.Repeat("v", 1000),
	}
	messages := []*azeventhubs.AMQPAnnotatedMessage{
		{Body: azeventhubs.AMQPAnnotatedMessageBody{Data: [][]byte{{}}}},
		{Body: azeventhubs.AMQPAnnotatedMessageBody{Data: [][]byte{{0xff, 0xfe, 0}}}, ApplicationProperties: properties},
		{Body: azeventhubs.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("hello"), {}, []byte("world")}}},
		{Body: azeventhubs.AMQPAnnotatedMessageBody{Data: [][]byte{bytes.Repeat([]byte("x"), 255), bytes.Repeat([]byte("y"), 256)}}},
		{Body: azeventhubs.AMQPAnnotatedMessageBody{Value: int64(999)}},
		{Body: azeventhubs.AMQPAnnotatedMessageBody{Value: map[string]any{"a": []any{"b", int64(-1), nil}}}},
		{Body: azeventhubs.AMQPAnnotatedMessageBody{Sequence: [][]any{{"hello", "world"}, {"howdy", int64(1), true}}}},
		{
			Body:               azeventhubs.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("all")}},
			MessageAnnotations: map[any]any{"mine": int64(101), "x-opt-mine": "text"},
			Footer:             map[any]any{"foot": "note"},
			Properties: &azeventhubs.AMQPAnnotatedMessageProperties{
				AbsoluteExpiryTime: &at, ContentEncoding: ptr("gzip"), ContentType: ptr("text/plain"), CorrelationID: uint64(7),
				CreationTime: &at, GroupID: ptr("group"), GroupSequence: ptr(uint32(3)), MessageID: amqp.UUID{9}, ReplyTo: ptr("reply"),
				ReplyToGroupID: ptr("reply group"), Subject: ptr("subject"), To: ptr("to"), UserID: []byte("user"),
			},
		},
	}
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	batch, err := p.NewEventDataBatch(withTimeout(t), &azeventhubs.EventDataBatchOptions{PartitionID: ptr("0")})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := batch.AddAMQPAnnotatedMessage(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.SendEventDataBatch(withTimeout(t), batch, nil); err != nil {
		t.Fatal(err)
	}
	for i, event := range receive(t, readFrom(t, e, "0"), len(messages)) {
		want, got := messages[i], event.RawAMQPMessage
		for name, parts := range map[string][2]any{
			"body":       {want.Body, got.Body},
			"properties": {want.ApplicationProperties, got.ApplicationProperties},
			"footer":     {want.Footer, got.Footer},
		} {
			if diff := cmp.Diff(parts[0], parts[1]); diff != "" {
				t.Errorf("message %d, %s: %s", i, name, diff)
			}
		}
		if want.Properties != nil {
			if diff := cmp.Diff(want.Properties, got.Properties); diff != "" {
				t.Errorf("message %d, properties: %s", i, diff)
			}
		}
		annotations := maps.Clone(want.MessageAnnotations)
		if annotations == nil {
			annotations = make(map[any]any)
		}
		annotations["x-opt-sequence-number"] = int64(i)
		annotations["x-opt-offset"] = event.Offset
		annotations["x-opt-enqueued-time"] = *event.EnqueuedTime
		if diff := cmp.Diff(annotations, got.MessageAnnotations); diff != "" {
			t.Errorf("message %d, annotations: %s", i, diff)
		}
	}
}

// What a sender puts where the service writes its own is overwritten; header and delivery annotations
// are between neighbours and end here.
func TestSenderCannotForge(t *testing.T) {
	e := run(t, emulator.Options{})
	sender := newSender(t, e, hub+"/Partitions/0", nil)
	m := amqp.NewMessage([]byte("forged"))
	m.Header = &amqp.MessageHeader{Durable: true, DeliveryCount: 100}
	m.DeliveryAnnotations = amqp.Annotations{"between": "neighbours"}
	m.Annotations = amqp.Annotations{
		"x-opt-sequence-number": int64(1 << 40), "x-opt-offset": "1", "x-opt-enqueued-time": time.Unix(0, 0), "mine": "stays",
	}
	if err := sender.Send(withTimeout(t), m, nil); err != nil {
		t.Fatal(err)
	}
	got := receive(t, readFrom(t, e, "0"), 1)[0]
	if got.SequenceNumber != 0 || got.EnqueuedTime.Before(time.Now().Add(-time.Hour)) || got.SystemProperties["mine"] != "stays" {
		t.Errorf("sequence number %d, enqueued %v, annotations %v", got.SequenceNumber, got.EnqueuedTime, got.RawAMQPMessage.MessageAnnotations)
	}
	if raw := got.RawAMQPMessage; len(raw.MessageAnnotations) != 4 || len(raw.DeliveryAnnotations) != 0 || (raw.Header != nil && raw.Header.DeliveryCount != 0) {
		t.Errorf("annotations %v, delivery annotations %v, header %v", raw.MessageAnnotations, raw.DeliveryAnnotations, raw.Header)
	}
}

// A batch of the largest size that the link allows, some 16 frames long, arrives whole and in order,
// and one event more does not fit.
func TestLargestBatch(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	batch, err := p.NewEventDataBatch(withTimeout(t), &azeventhubs.EventDataBatchOptions{PartitionID: ptr("0")})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for {
		body := strings.Repeat(fmt.Sprintf("%d ", len(want)), 1+len(want)%300)
		if err = batch.AddEventData(&azeventhubs.EventData{Body: []byte(body)}, nil); err != nil {
			break
		}
		want = append(want, body)
	}
	if !errors.Is(err, azeventhubs.ErrEventDataTooLarge) || len(want) < 500 {
		t.Fatalf("after %d events: %v", len(want), err)
	}
	if err := p.SendEventDataBatch(withTimeout(t), batch, nil); err != nil {
		t.Fatal(err)
	}
	if got := bodies(receive(t, readFrom(t, e, "0"), len(want))); !slices.Equal(got, want) {
		t.Error("the events are not those sent")
	}
}

// One event of nearly a mebibyte goes through in many frames, both ways.
func TestLargestEvent(t *testing.T) {
	e := run(t, emulator.Options{})
	want := strings.Repeat("0123456789abcdef", 65000)
	publish(t, newProducer(t, e, atOnce), "0", want)
	if got := receive(t, readFrom(t, e, "0"), 1); string(got[0].Body) != want {
		t.Errorf("received %d bytes, want %d as sent", len(got[0].Body), len(want))
	}
}

// A hub's own limit is what the client sees on its link.
func TestMessageSizeLimit(t *testing.T) {
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 1, MaxMessageSize: 10_000}}})
	if got := newSender(t, e, hub, nil).MaxMessageSize(); got != 10_000 {
		t.Errorf("the link's max-message-size is %d, want 10000", got)
	}
	err := trySend(withTimeout(t), newProducer(t, e, atOnce), azeventhubs.EventDataBatchOptions{}, &azeventhubs.EventData{Body: make([]byte, 10_000)})
	if !errors.Is(err, azeventhubs.ErrEventDataTooLarge) {
		t.Errorf("send a larger event: %v, want ErrEventDataTooLarge", err)
	}
}

// Plain messages, settled or not, are events too: devices send them so.
func TestSendPlainMessages(t *testing.T) {
	e := run(t, emulator.Options{})
	var want []string
	for _, mode := range []amqp.SenderSettleMode{amqp.SenderSettleModeUnsettled, amqp.SenderSettleModeMixed, amqp.SenderSettleModeSettled} {
		sender := newSender(t, e, hub+"/Partitions/0", &amqp.SenderOptions{SettlementMode: &mode})
		want = append(want, fmt.Sprint("mode ", mode))
		if err := sender.Send(withTimeout(t), amqp.NewMessage([]byte(want[len(want)-1])), nil); err != nil {
			t.Fatal(err)
		}
		receiveFrom(t, e, "0", earliest, len(want)) // a settled one is not answered: it is there when it is
	}
	if got := bodies(receive(t, readFrom(t, e, "0"), 3)); !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
}

// A batch in which one event is broken is rejected, and nothing of it is stored.
func TestBrokenBatchIsRejectedWhole(t *testing.T) {
	e := run(t, emulator.Options{})
	sender := newSender(t, e, hub+"/Partitions/0", nil)
	good, err := amqp.NewMessage([]byte("good")).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		data [][]byte
	}{
		{"not a message", [][]byte{good, []byte("no AMQP at all")}},
		{"a message cut short", [][]byte{good, good[:len(good)-1]}},
		{"a lying length", [][]byte{good, {0x00, 0x53, 0x75, 0xb0, 0xff, 0xff, 0xff, 0xff}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := sender.Send(withTimeout(t), &amqp.Message{Format: 0x80013700, Data: c.data}, nil)
			var rejected *amqp.Error
			if !errors.As(err, &rejected) {
				t.Fatalf("send: %v, want a rejection", err)
			}
			if p := partitionProperties(t, newProducer(t, e, atOnce), "0"); !p.IsEmpty {
				t.Fatalf("the partition holds %d events of the batch", p.LastEnqueuedSequenceNumber+1)
			}
		})
	}
	// The link is still good.
	if err := sender.Send(withTimeout(t), &amqp.Message{Format: 0x80013700, Data: [][]byte{good}}, nil); err != nil {
		t.Error(err)
	}
}

// Many senders to one partition at once: every event arrives once, each sender's in its order.
func TestManySenders(t *testing.T) {
	const senders, batches = 8, 50
	e := run(t, emulator.Options{})
	t.Run("send", func(t *testing.T) {
		for s := range senders {
			t.Run(strconv.Itoa(s), func(t *testing.T) {
				t.Parallel()
				p := newProducer(t, e, atOnce)
				for i := range batches {
					publish(t, p, "0", fmt.Sprintf("%d %d", s, 2*i), fmt.Sprintf("%d %d", s, 2*i+1))
				}
			})
		}
	})
	next := make(map[int]int)
	for _, body := range bodies(receive(t, readFrom(t, e, "0"), senders*batches*2)) {
		var s, i int
		if _, err := fmt.Sscan(body, &s, &i); err != nil || next[s] != i {
			t.Fatalf("received %q, want event %d of sender %d", body, next[s], s)
		}
		next[s]++
	}
}
