package emulator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// TestServiceBusSynthetic makes up as many messages as there are said to be, keeps none that was settled, and puts back
// those that were not.
func TestServiceBusSynthetic(t *testing.T) {
	const n = 20_000
	first := time.Date(2024, 5, 6, 0, 0, 0, 0, time.UTC)
	e := openQueue(t, Queue{Synthetic: &SyntheticQueue{Messages: n, BodySize: 100, First: first, Interval: time.Second}})
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	seen := map[string]int{}
	deliveries := uint32(0)
	released := 0
	for len(seen) < n || released > 0 {
		p.send(&wire.Flow{NextIncomingID: new(firstOutgoingID + deliveries), IncomingWindow: 5000, OutgoingWindow: 5000, Handle: new(uint32(0)), DeliveryCount: &deliveries, LinkCredit: new(uint32(min(1000, n-len(seen)+released)))})
		start := deliveries
		for range min(1000, n-len(seen)+released) {
			_, message := expectPayload[*wire.Transfer](p)
			body := string(bodyOf(t, message))
			if len(body) != 100 {
				t.Fatalf("the body %q has %d bytes", body, len(body))
			}
			seen[body]++
			if seen[body] == 2 {
				released--
			}
			deliveries++
		}
		if start == 3000 {
			p.settle(start, start+9, false, &wire.Released{})
			expect[*wire.Disposition](p)
			released = 10
			start += 10
		}
		p.settle(start, deliveries-1, false, &wire.Accepted{})
		expect[*wire.Disposition](p)
	}
	q := e.queues["q"]
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.store.chunks) > 1 || q.info.Completed != n || q.info.Active != 0 || q.info.Locked != 0 || q.info.Bytes != 0 {
		t.Errorf("%d chunks are left, and the queue says %+v", len(q.store.chunks), q.info)
	}
}

// TestServiceBusSyntheticSessions spreads messages over sessions, and shows those that nobody has taken.
func TestServiceBusSyntheticSessions(t *testing.T) {
	first := time.Date(2024, 5, 6, 0, 0, 0, 0, time.UTC)
	e, err := Start(Options{AllowAnyToken: true, Queues: []Queue{{Name: "s", Sessions: true, Synthetic: &SyntheticQueue{Messages: 10, Sessions: 3, BodySize: 30, First: first, Interval: time.Minute}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	shown := func() string {
		t.Helper()
		messages, err := e.Messages("s")
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for m := range messages {
			if want := first.Add(time.Duration(m.SequenceNumber-1) * time.Minute); !m.Enqueued.Equal(want) || !strings.HasPrefix(string(m.Body), fmt.Sprintf(`{"sequence":%d,`, m.SequenceNumber)) {
				t.Errorf("message %d has the time %v and the body %s", m.SequenceNumber, m.Enqueued, m.Body)
			}
			s = append(s, fmt.Sprintf("%d%s%v", m.SequenceNumber, strings.TrimPrefix(*m.SessionID, "session"), m.State)[:5])
		}
		return strings.Join(s, " ")
	}
	if got, want := shown(), "1-0ac 2-1ac 3-2ac 4-0ac 5-1ac 6-2ac 7-0ac 8-1ac 9-2ac 10-0a"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
	p := authorized(t, e, plainOpen)
	for handle := range uint32(2) {
		p.send(ofSession(locking(fmt.Sprint("r", handle), handle, "s"), true, nil))
		expect[*wire.Attach](p)
		p.credit(handle, 0, 2)
		expect[*wire.Transfer](p)
		expect[*wire.Transfer](p)
	}
	p.settle(0, 0, false, &wire.Accepted{})
	expect[*wire.Disposition](p)
	p.settle(3, 3, false, &wire.Rejected{})
	expect[*wire.Disposition](p)
	if got, want := shown(), "2-1lo 3-2ac 4-0lo 6-2ac 7-0ac 8-1ac 9-2ac 10-0a"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
	dead, err := e.Messages("s/$DeadLetterQueue")
	if err != nil {
		t.Fatal(err)
	}
	for m := range dead {
		if string(m.Body) != `{"sequence":5,"filler":"abcde"}`[:29]+`"}`[:1] && len(m.Body) != 30 {
			t.Errorf("the dead letter has the body %s", m.Body)
		}
	}
	if n, err := e.Purge("s"); n != 8 || err != nil || shown() != "" {
		t.Errorf("purged %d, %v, and left %s", n, err, shown())
	}
	if got := counts(t, e, "s"); got != "0 active, 0 locked, 0 deferred" {
		t.Errorf("after the purge there are %s", got)
	}
}
