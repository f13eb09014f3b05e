package emulator

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// audit checks that what a queue says of itself is what it holds.
func (q *queue) audit() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var want QueueInfo
	lanes := map[*lane]int64{&q.lane: 0}
	sessions := map[*messageSession]int64{}
	for _, g := range q.sessions {
		lanes[&g.lane] = 0
		if g.lane.made != nil {
			lanes[&g.lane], sessions[g] = g.lane.made.left(), g.lane.made.left()
			want.Active += g.lane.made.left()
		}
		switch {
		case (g.holder != nil) != (g.holding != nil) || g.holder != nil && g.holder.session != g:
			return fmt.Errorf("session %q is held by %p, who holds %p", g.id, g.holder, g.holder.session)
		case (g.listed != nil) != (g.holder == nil && g.lane.ready > 0):
			return fmt.Errorf("session %q with %d messages is listed: %v, held: %v", g.id, g.lane.ready, g.listed != nil, g.holder != nil)
		}
	}
	if q.lane.made != nil {
		lanes[&q.lane] = q.lane.made.left()
		want.Active += q.lane.made.left()
	}
	for m := range q.store.from(1) {
		want.Bytes += m.size()
		switch {
		case m.state == MessageDeferred:
			want.Deferred++
		case m.state == MessageScheduled:
			want.Scheduled++
		case m.locked:
			want.Locked++
		default:
			want.Active++
			lanes[q.laneOf(m)]++
		}
		if m.group != nil {
			sessions[m.group]++
		}
		if q.store.at(m.sequence) != m || m.state == messageGone || m.group != nil && q.sessions[m.group.id] != m.group {
			return fmt.Errorf("message %d is not where it should be", m.sequence)
		}
	}
	if got := q.info; got.Active != want.Active || got.Locked != want.Locked || got.Deferred != want.Deferred || got.Scheduled != want.Scheduled || got.Bytes != want.Bytes {
		return fmt.Errorf("the queue says %+v, and holds %+v", got, want)
	}
	for l, n := range lanes {
		if l.ready != n {
			return fmt.Errorf("a lane says that %d messages are ready, and %d are", l.ready, n)
		}
	}
	for _, g := range q.sessions {
		if g.messages != sessions[g] {
			return fmt.Errorf("session %q says that it has %d messages, and has %d", g.id, g.messages, sessions[g])
		}
	}
	promised := int64(0)
	for e := q.hungry.Front(); e != nil; e = e.Next() {
		promised += e.Value.(*receiver).promised
	}
	if q.promised != promised {
		return fmt.Errorf("%d messages are promised, and the receivers know of %d", q.promised, promised)
	}
	return nil
}

func auditAll(t testing.TB, e *Emulator) {
	t.Helper()
	for path, q := range e.queues {
		if err := q.audit(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// FuzzServiceBusMessage takes messages in, and hands on only what others can read.
func FuzzServiceBusMessage(f *testing.F) {
	properties := wire.AppendPropertyFields(nil, &wire.PropertyFields{wire.PropertyMessageID: wire.AppendAny(nil, uint64(7)), wire.PropertyGroupID: wire.AppendString(nil, "s")})
	application := wire.AppendAny(wire.AppendSection(nil, wire.SectionApplicationProperties), wire.Map{{Key: "DeadLetterReason", Value: int64(1)}, {Key: wire.Symbol("p"), Value: true}})
	annotations := wire.AppendAny(wire.AppendSection(nil, wire.SectionMessageAnnotations), wire.Map{{Key: wire.Symbol(annotationScheduled), Value: wire.Timestamp(1 << 50)}, {Key: wire.Symbol(annotationSequence), Value: "x"}})
	header := wire.AppendAny(wire.AppendSection(nil, wire.SectionHeader), []any{true, uint8(255), uint32(5), nil, uint32(9)})
	whole := bytes.Join([][]byte{header, annotations, properties, application, dataMessage("body")}, nil)
	f.Add(false, []byte{})
	f.Add(false, whole)
	f.Add(false, append(header, wire.AppendNull(wire.AppendSection(nil, wire.SectionValue))...))
	f.Add(true, append(dataMessage(string(whole)), dataMessage(string(dataMessage("second")))...))
	e := openQueue(f, Queue{TTL: time.Hour, DeadLetterOnExpiration: true, DuplicateDetection: time.Minute})
	q := e.queues["q"]
	f.Fuzz(func(t *testing.T, batch bool, b []byte) {
		format := uint32(0)
		if batch {
			format = batchFormat
		}
		contents, err := parseContents(format, bytes.Clone(b))
		if err != nil {
			if asAMQP(err) == nil {
				t.Fatalf("the error is %T %v", err, err)
			}
			return
		}
		if refusal := q.send(contents); refusal != nil {
			t.Fatal(refusal)
		}
		e.queues["t"].send(contents)
		for _, path := range []string{"q", "t/Subscriptions/a"} {
			q, _ := e.queue(path)
			q.mu.Lock()
			for m, _ := q.lane.take(); m != nil; m, _ = q.lane.take() {
				q.lock(m, q.now())
				readable(t, m.append(nil))
				if err := q.deadLetterAs(m, wire.Map{{Key: propertyReason, Value: "why"}, {Key: "p", Value: int64(1)}}); err != nil {
					t.Error(err)
				}
			}
			q.mu.Unlock()
			dead, _ := e.Messages(path + deadLetterPath)
			for m := range dead {
				if readable(t, m.Message); m.DeadLetterReason != "why" {
					t.Errorf("the reason is %q", m.DeadLetterReason)
				}
			}
		}
		auditAll(t, e)
		for path := range e.queues {
			if _, err := e.Purge(path); err != nil {
				t.Error(err)
			}
		}
		auditAll(t, e)
	})
}

func readable(t *testing.T, message []byte) {
	t.Helper()
	for _, err := range wire.Sections(message) {
		if err != nil {
			t.Fatalf("message %x: %v", message, err)
		}
	}
}

// FuzzServiceBusRequest answers requests to $management, whatever is in them, and keeps its books in order.
func FuzzServiceBusRequest(f *testing.F) {
	names := []string{"fly"}
	for name := range operations {
		names = append(names, operationPrefix+name)
	}
	for i := range names {
		for _, body := range []any{
			nil, "text", wire.Map{}, wire.Map{{Key: "session-id", Value: "a"}, {Key: "session-state", Value: []byte("x")}, {Key: "lock-tokens", Value: []wire.UUID{{15: 1}}},
				{Key: "sequence-numbers", Value: []int64{1, 2, 3}}, {Key: "from-sequence-number", Value: int64(-1)}, {Key: "message-count", Value: int32(2)},
				{Key: "messages", Value: []any{wire.Map{{Key: "message", Value: dataMessage("x")}}}}, {Key: "skip", Value: int32(-5)}, {Key: "top", Value: int64(1 << 62)},
				{Key: "enqueued-time-utc", Value: wire.Timestamp(1 << 50)}, {Key: "disposition-status", Value: "suspended"}, {Key: "rule-name", Value: "$Default"}},
		} {
			f.Add(byte(i), byte(i), wire.AppendAny(nil, body))
		}
	}
	e := openQueue(f, Queue{})
	c := &connection{e: e, claims: map[string]claim{"": {send: true, listen: true, expires: time.Unix(maxUnixSeconds, 0)}}}
	holder := &receiver{queue: e.queues["s"], link: &link{s: &session{c: c}}}
	paths := []string{"q", "s", "t", "t/subscriptions/a", "q/$deadletterqueue"}
	f.Fuzz(func(t *testing.T, path, operation byte, b []byte) {
		for _, q := range []string{"q", "s"} {
			putBodies(t, e, q, "a1", "a2", "a3", "b1")
		}
		s := e.queues["s"]
		s.mu.Lock()
		if _, refusal := s.acceptNamed(holder, "a"); refusal != nil {
			t.Fatal(refusal)
		}
		s.mu.Unlock()
		for _, q := range []*queue{e.queues["q"], s} { // one message is locked, by a token that is its number, and one deferred
			q.mu.Lock()
			lane := &q.lane
			if q == s {
				lane = &q.sessions["a"].lane
			}
			var locked *message
			for range 2 {
				locked, _ = lane.take()
				q.lock(locked, q.now())
				locked.token = 0
			}
			q.deferMessage(locked)
			q.mu.Unlock()
		}
		r := &request{properties: wire.Map{{Key: "operation", Value: names[int(operation)%len(names)]}}}
		r.body = wire.NewReader(b).Any()
		q := e.queues[paths[int(path)%len(paths)]]
		reply := q.manage(c, r)
		if encoded := reply.encode(nil); reply.status < 200 || reply.status > 599 || len(encoded) > 8<<20 {
			t.Errorf("the reply has the status %d and %d bytes", reply.status, len(encoded))
		} else {
			readable(t, encoded)
		}
		auditAll(t, e)
		holder.release()
		for path, q := range e.queues {
			if _, err := e.Purge(path); err != nil {
				t.Error(err)
			}
			q.last, q.store = 0, messageStore{} // for the next to find its messages by their numbers
		}
		auditAll(t, e)
	})
}

// FuzzServiceBusConnection writes bytes to a connection that receives from queues, and sends to them and their
// $management. Whatever they are, the emulator ends the connection in time, and its queues' books are in order.
func FuzzServiceBusConnection(f *testing.F) {
	frame := func(p wire.Performative, payload ...byte) []byte { return wire.AppendFrame(nil, 0, p, payload) }
	flow := func(handle uint32) []byte {
		return frame(&wire.Flow{NextIncomingID: new(uint32(1)), IncomingWindow: 100, OutgoingWindow: 100, Handle: &handle, DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(10))})
	}
	prefix := bytes.Join([][]byte{
		[]byte(wire.HeaderSASL), wire.AppendSASLFrame(nil, &wire.Init{Mechanism: "PLAIN", Response: []byte("\x00k\x00v")}), []byte(wire.HeaderAMQP),
		frame(plainOpen), frame(&wire.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 255}),
		frame(locking("r", 0, "q")), flow(0), frame(ofSession(locking("s", 1, "s"), true, nil)), flow(1), frame(attachSender("to", 2, "q")),
		frame(attachReceiver("replies", 3, "q/$management")), flow(3), frame(attachSender("requests", 4, "q/$management")),
	}, nil)
	send := func(handle, id uint32, payload []byte) []byte {
		return frame(&wire.Transfer{Handle: handle, DeliveryID: &id, DeliveryTag: []byte{1}, MessageFormat: new(uint32(0))}, payload...)
	}
	request := wire.AppendAny(wire.AppendSection(nil, wire.SectionApplicationProperties), wire.Map{{Key: "operation", Value: operationPrefix + "peek-message"}})
	request = wire.AppendAny(wire.AppendSection(request, wire.SectionValue), wire.Map{{Key: "message-count", Value: int32(3)}})
	for _, b := range [][]byte{
		send(2, 0, dataMessage("a")), send(4, 0, request), bytes.Join([][]byte{send(2, 0, dataMessage("a")), send(4, 1, request), frame(&wire.Detach{Handle: 1, Closed: true})}, nil),
		frame(&wire.Disposition{Role: wire.RoleReceiver, First: 0, Last: new(uint32(1<<32 - 1)), State: &wire.Modified{Undeliverable: true}}),
		frame(&wire.Disposition{Role: wire.RoleReceiver, First: 1, Last: new(uint32(2)), State: &wire.Rejected{Error: &wire.Error{Condition: conditionDeadLetter, Info: wire.Map{{Key: propertyReason, Value: "r"}}}}}),
		frame(&wire.Flow{IncomingWindow: 5000, Handle: new(uint32(0)), LinkCredit: new(uint32(3)), Drain: true, Echo: true}), frame(ofSession(locking("again", 5, "s"), false, "a")), frame(&wire.End{}),
	} {
		f.Add(b)
	}
	e := openQueue(f, Queue{LockDuration: 10 * time.Millisecond})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		putBodies(t, e, "q", "a1", "a2")
		putBodies(t, e, "s", "a1", "b1")
		conn, err := net.Dial("tcp", e.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = conn.Write(append(bytes.Clone(prefix), b...))
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("the emulator did not end the connection: %v", err)
		}
		<-sent
		auditAll(t, e)
		for path := range e.queues {
			if _, err := e.Purge(path); err != nil {
				t.Error(err)
			}
		}
	})
}
