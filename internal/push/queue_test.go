package push

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/record"
)

// queueMany is an invocation with messages of such sequence numbers, all delivered so often.
func queueMany(t *testing.T, deliveries int, numbers ...int64) *host.Invocation {
	bodies, counts, times, properties, sessions := [][]byte{}, []int{}, []string{}, []any{}, []any{}
	for _, n := range numbers {
		bodies = append(bodies, []byte(bodyOf(n)))
		counts = append(counts, deliveries)
		times = append(times, day.Add(time.Duration(n)*time.Second).Format("2006-01-02T15:04:05.999Z"))
		properties, sessions = append(properties, map[string]any{"n": n}), append(sessions, nil)
	}
	return invocation(t, text(bodies), map[string]string{
		"SequenceNumberArray": text(numbers), "DeliveryCountArray": text(counts), "EnqueuedTimeUtcArray": text(times),
		"ApplicationPropertiesArray": text(properties), "UserPropertiesArray": text(properties), "SessionIdArray": text(sessions),
		"MessageReceiver": `{}`, "Client": `{"IsClosed":false}`,
	})
}

// queueOne is an invocation with one message.
func queueOne(t *testing.T, deliveries int, n int64) *host.Invocation {
	return invocation(t, quoted(base64.StdEncoding.EncodeToString([]byte(bodyOf(n)))), map[string]string{
		"SequenceNumber": text(n), "DeliveryCount": text(deliveries), "ApplicationProperties": fmt.Sprintf(`{"n":%d}`, n),
		"EnqueuedTimeUtc": quoted(day.Add(time.Duration(n) * time.Second).Format("2006-01-02T15:04:05")),
	})
}

func TestQueueDecodes(t *testing.T) {
	t.Parallel()
	one := map[string]string{
		"SequenceNumber": `"17"`, "DeliveryCount": `"2"`, "EnqueuedTimeUtc": `"2026-11-24T10:00:17"`, "EnqueuedTime": `"2026-11-24T10:00:17+00:00"`,
		"ExpiresAtUtc": `"2026-11-25T10:00:17"`, "MessageId": `"\"m\""`, "CorrelationId": `"\"c\""`, "ContentType": `"\"text/plain\""`,
		"Subject": `"\"s\""`, "Label": `"\"l\""`, "To": `"\"t\""`, "ReplyTo": `"\"r\""`, "ReplyToSessionId": `"\"rs\""`, "SessionId": `"\"17\""`,
		"PartitionKey": `"\"k\""`, "DeadLetterSource": `"\"q\""`, "LockToken": `"\"x\""`, "MessageSession": `{}`,
		"ApplicationProperties": `{"a":1,"DeadLetterReason":"why","DeadLetterErrorDescription":"because"}`, "UserProperties": `{"b":1}`,
	}
	many := map[string]string{}
	for name, value := range one {
		if strings.HasSuffix(value, `{}`) {
			continue
		}
		var s string
		raw := json.RawMessage(value)
		if json.Unmarshal(raw, &s) == nil && json.Valid([]byte(s)) {
			raw = json.RawMessage(s)
		}
		many[name+"Array"] = text([]json.RawMessage{raw})
	}
	expires := day.Add(24*time.Hour + 17*time.Second)
	want := message.Message{
		Body: message.Body{Data: [][]byte{{0, 255}}}, SequenceNumber: 17, DeliveryCount: 2, EnqueuedTime: day.Add(17 * time.Second), AbsoluteExpiryTime: &expires,
		ID: "m", CorrelationID: "c", ContentType: new("text/plain"), Subject: new("s"), To: new("t"), ReplyTo: new("r"), ReplyToSessionID: new("rs"),
		SessionID: new("17"), PartitionKey: new("k"), DeadLetterSource: new("q"), DeadLetterReason: new("why"), DeadLetterDescription: new("because"),
		Properties: map[string]any{"a": int64(1), "DeadLetterReason": "why", "DeadLetterErrorDescription": "because"},
	}
	for data, metadata := range map[string]map[string]string{`"AP8="`: one, `"[\"AP8=\"]"`: many} {
		got, isMany, err := decodeQueue(invocation(t, data, metadata))
		if err != nil || len(got) != 1 || isMany != strings.Contains(data, "[") {
			t.Errorf("%s: %d messages, many %t, error %v", data, len(got), isMany, err)
			continue
		}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s: %s", data, diff)
		}
	}
	older := invocation(t, `"\"text\""`, map[string]string{"SequenceNumber": `"1"`, "EnqueuedTime": one["EnqueuedTime"], "Label": `"\"l\""`, "UserProperties": `{"b":1}`, "ExpiresAtUtc": `"9999-12-31T23:59:59"`})
	want = message.Message{Body: message.Body{Data: [][]byte{[]byte("text")}}, SequenceNumber: 1, EnqueuedTime: day.Add(17 * time.Second), Subject: new("l"), Properties: map[string]any{"b": int64(1)}}
	if got, _, err := decodeQueue(older); err != nil || cmp.Diff(want, got[0]) != "" {
		t.Error(cmp.Diff(want, got), err)
	}
}

// heldBy counts how often each sequence number is stored.
func heldBy(t *testing.T, f folder) map[int64]int {
	t.Helper()
	stored := map[int64]int{}
	for _, m := range f.records(t, "") {
		stored[m.SequenceNumber]++
		if string(m.Body.Data[0]) != bodyOf(m.SequenceNumber) {
			t.Errorf("message %d is %s", m.SequenceNumber, m.Body.Data)
		}
	}
	for b, err := range f.Dir.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if h, err := record.ParseHolding(b.Metadata); err != nil || !h.Unsettled || h.Entity != "orders" {
			t.Errorf("%s: %+v, error %v", b.Name, h, err)
		}
	}
	return stored
}

// Messages that come again, in whatever grouping, are stored once.
func TestQueueStoresOnce(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	deliver := func(i *host.Invocation) {
		t.Helper()
		if _, err := NewQueue("orders", false, options(f, l)).Persist(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	deliver(queueMany(t, 1, 1, 3, 5, 7))
	deliver(queueMany(t, 1, 2, 4))
	if f.lists != 0 {
		t.Errorf("%d looks for messages that come for the first time", f.lists)
	}
	deliver(queueMany(t, 2, 1, 3, 5, 7)) // as before
	deliver(queueMany(t, 2, 5, 4, 6))    // others
	deliver(queueMany(t, 3, 7))
	deliver(queueMany(t, 2, 1, 2, 3, 4, 5, 6, 7, 8))
	stored := heldBy(t, f.folder)
	for n := int64(1); n <= 8; n++ {
		if stored[n] != 1 {
			t.Errorf("message %d is stored %d times", n, stored[n])
		}
	}
	if len(stored) != 8 || l.String() != "" {
		t.Error(stored, l)
	}
}

// Where messages are appended they are stored once, too, be they alone or in whatever grouping.
func TestQueueAppendsOnce(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	o := options(f, l)
	o.Append, o.AppendBytes, o.MaxAppend = pull.Joined, 1<<20, 1<<20
	q := NewQueue("orders", false, o)
	appends := 0
	f.after = func(string, string) error { // answers get lost
		if appends++; appends%4 == 2 {
			return errDown
		}
		return nil
	}
	done := make(chan error)
	for w := range int64(4) {
		go func() {
			var err error
			for n := 1 + 10*w; n <= 10*w+9 && err == nil; n += 3 {
				_, err = q.Persist(t.Context(), queueOne(t, 1, n))
				if err == nil {
					_, err = q.Persist(t.Context(), queueMany(t, 1, n+1, n+2))
				}
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	f.after = nil
	for _, i := range []*host.Invocation{queueOne(t, 2, 5), queueMany(t, 2, 4, 9, 11, 40), queueMany(t, 3, 1, 40)} {
		if _, err := q.Persist(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewQueue("orders", false, o).Persist(t.Context(), queueMany(t, 2, 31, 39, 41)); err != nil { // another process
		t.Fatal(err)
	}
	stored := heldBy(t, f.folder)
	for n, times := range stored {
		if times != 1 {
			t.Errorf("message %d is stored %d times", n, times)
		}
	}
	if len(stored) != 38 {
		t.Error(len(stored), f.names(t))
	}
}

// One message has its name to itself: nothing has to be looked for.
func TestQueueStoresSinglesWithoutALook(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	q := NewQueue("orders", false, options(f, l))
	for deliveries := 1; deliveries < 4; deliveries++ {
		for n := int64(1); n < 9; n++ {
			if _, err := q.Persist(t.Context(), queueOne(t, deliveries, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if stored := heldBy(t, f.folder); len(stored) != 8 || len(f.names(t)) != 8 || f.lists != 0 {
		t.Errorf("stored %v in %v after %d looks", stored, f.names(t), f.lists)
	}
}

// Where a delivery count tells nothing, everything is looked for.
func TestQueueLooksWhereCountsTellNothing(t *testing.T) {
	t.Parallel()
	session := func(i *host.Invocation) *host.Invocation {
		i.Metadata["SessionIdArray"] = json.RawMessage(strings.ReplaceAll(string(i.Metadata["SessionIdArray"]), "null", `\"s\"`))
		return i
	}
	uncounted := func(i *host.Invocation) *host.Invocation { delete(i.Metadata, "DeliveryCountArray"); return i }
	same := func(i *host.Invocation) *host.Invocation { return i }
	for name, test := range map[string]struct {
		deadLetter bool
		as         func(*host.Invocation) *host.Invocation
	}{"dead-letter queue": {true, same}, "session": {false, session}, "no count": {false, uncounted}} {
		f, l := newFolder(t), &logged{}
		q := NewQueue("orders", test.deadLetter, options(f, l))
		for _, numbers := range [][]int64{{1, 2, 3}, {2, 3, 4}, {1, 4, 5}} {
			if _, err := q.Persist(t.Context(), test.as(queueMany(t, 1, numbers...))); err != nil {
				t.Fatal(name, err)
			}
		}
		for n, times := range heldBy(t, f) {
			if times != 1 {
				t.Errorf("%s: message %d is stored %d times", name, n, times)
			}
		}
	}
}

// A failure is one of the host's, too, which gives the messages back; what was stored is not stored again.
func TestQueueFails(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	o := options(f, l)
	o.Timeout, o.Limits.Count = time.Second, 2
	q := NewQueue("orders", false, o)
	fails := true
	f.before = func(_, name string) error {
		if fails && strings.Contains(name, "0003-") {
			return errDown
		}
		return nil
	}
	began := time.Now()
	if _, err := q.Persist(t.Context(), queueMany(t, 1, from(1, 5)...)); err == nil || !strings.Contains(err.Error(), "of orders") || !errors.Is(err, errDown) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > o.Timeout+2*time.Second {
		t.Errorf("took %v", took)
	}
	fails = false
	if _, err := q.Persist(t.Context(), queueMany(t, 2, from(1, 5)...)); err != nil {
		t.Error(err)
	}
	if stored := heldBy(t, f.folder); len(stored) != 5 || slices.ContainsFunc(from(1, 5), func(n int64) bool { return stored[n] != 1 }) {
		t.Error(stored)
	}
}

// What can't be identified, or not believed, is for the dead-letter queue.
func TestQueueRefusesStrangers(t *testing.T) {
	t.Parallel()
	spoofed := queueOne(t, 1, 5)
	spoofed.Data["message"] = json.RawMessage(quoted(quoted(`{"deliverycount":"9"}`)))
	nameless := queueOne(t, 1, 5)
	delete(nameless.Metadata, "SequenceNumber")
	f, l := newFolder(t), &logged{}
	for _, i := range []*host.Invocation{spoofed, nameless} {
		if _, err := NewQueue("orders", false, options(f, l)).Persist(t.Context(), i); err == nil || len(f.names(t)) > 0 {
			t.Errorf("error %v, blobs %v", err, f.names(t))
		}
	}
}

func TestQueueOutput(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	o := options(f, l)
	o.Output, o.Format = true, record.Format{}
	q := NewQueue("orders", false, o)
	r, err := q.Persist(t.Context(), queueOne(t, 1, 10))
	if want := "{\"DATA\":\"message 10\"}\n\n"; err != nil || r.Outputs[Blob] != want || len(f.names(t)) > 0 {
		t.Errorf("outputs %v, error %v, want %q", r.Outputs, err, want)
	}
	for range 2 {
		if r, err := q.Persist(t.Context(), queueMany(t, 1, 1, 2)); err != nil || len(r.Outputs) > 0 {
			t.Errorf("outputs %v, error %v", r.Outputs, err)
		}
	}
	if n := strings.Count(l.String(), "cardinality"); n != 1 || len(f.names(t)) != 1 {
		t.Errorf("%d warnings, blobs %v", n, f.names(t))
	}
}
