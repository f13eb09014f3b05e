package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

// A session has a lock, a state that outlives it, and its messages in order, whatever comes between them.
func TestServiceBusSession(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	s := newBusSender(t, c, queueName)
	sendTo(t, s, text("1", "a"), text("2", "b"), text("3", "a"), text("4", "b"), text("5", "a"))
	r := acceptSession(t, c, queueName, "a")
	if r.SessionID() != "a" || time.Until(r.LockedUntil()) < 30*time.Second || time.Until(r.LockedUntil()) > 2*time.Minute {
		t.Errorf("the session %q is locked until %v", r.SessionID(), r.LockedUntil())
	}
	ms := take(t, r, 3)
	wantTexts(t, ms, "1,3,5")
	for _, m := range ms {
		if *m.SessionID != "a" || !m.LockedUntil.Equal(r.LockedUntil()) {
			t.Errorf("a message of session %v is locked until %v, the session until %v", m.SessionID, m.LockedUntil, r.LockedUntil())
		}
	}
	complete(t, r, ms...)
	sendTo(t, s, text("6", "a"), text("7", "b"))
	wantTexts(t, take(t, r, 1), "6")
	wantInfo(t, e, queueName, 3, 1, 0, 0)
}

func TestServiceBusSessionState(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	for i, want := range []string{"", "hello", ""} {
		r := acceptSession(t, c, queueName, "a")
		state, err := r.GetSessionState(withTimeout(t), nil)
		if err != nil || string(state) != want || (state == nil) != (want == "") {
			t.Fatalf("the state is %q, %v, want %q", state, err, want)
		}
		next := [][]byte{[]byte("hello"), nil, {}}[i]
		if err := r.SetSessionState(withTimeout(t), next, nil); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(withTimeout(t)); err != nil {
			t.Fatal(err)
		}
	}
	if info := queueInfo(t, e, queueName); info.Sessions != 0 {
		t.Errorf("%d sessions are there without messages or a state", info.Sessions)
	}
}

// The empty session id is one like others, and not the same as none.
func TestServiceBusBlankSession(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	s := newBusSender(t, c, queueName)
	sendTo(t, s, text("other", "x"), text("sent", ""))
	if _, err := s.ScheduleMessages(withTimeout(t), []*azservicebus.Message{text("scheduled", "")}, time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	r := acceptSession(t, c, queueName, "")
	ms := take(t, r, 2)
	wantTexts(t, ms, "sent,scheduled")
	if r.SessionID() != "" || ms[0].SessionID == nil || *ms[0].SessionID != "" {
		t.Errorf("the session is %q, its message's is %v", r.SessionID(), ms[0].SessionID)
	}
	if err := r.Close(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	got := []string{acceptNext(t, c, queueName).SessionID(), acceptNext(t, c, queueName).SessionID()}
	if !slices.Equal(got, []string{"x", ""}) {
		t.Errorf("the next sessions are %q", got)
	}
	err := s.SendMessage(withTimeout(t), text("without"), nil)
	wantCondition(t, err, amqp.ErrCondNotAllowed, "The SessionId was not set on a message")
}

// A session that someone has is refused at once, and for good.
func TestServiceBusSessionLocked(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbQuickly)
	putSession(t, e, queueName, "a", "1")
	r := acceptSession(t, c, queueName, "a")
	_, err := newBus(t, e, sbQuickly).AcceptSessionForQueue(withTimeout(t), queueName, "a", nil)
	wantCondition(t, err, "com.microsoft:session-cannot-be-locked", "The requested session 'a' cannot be accepted. It may be locked by another receiver.")
	if err := r.Close(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, take(t, acceptSession(t, c, queueName, "a"), 1), "1")
}

// Who asks for the next session and gets none is told so before it gives up.
func TestServiceBusNoNextSession(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbQuickly)
	putSession(t, e, queueName, "taken", "1")
	acceptNext(t, c, queueName)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.AcceptNextSessionForQueue(ctx, queueName, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return // the client asks for an answer a hundredth of its time before it gives up, or less
	}
	wantBusCode(t, err, azservicebus.CodeTimeout, "did not complete within the allotted timeout")
}

// Those who wait for the next session get one each when there are some, the first first.
func TestServiceBusWaitForSession(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	got := make(chan string, 3)
	for i := range 3 {
		c := newBus(t, e, sbAtOnce)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, err := c.AcceptNextSessionForQueue(ctx, queueName, nil)
			if err != nil {
				got <- err.Error()
				return
			}
			ms, err := r.ReceiveMessages(ctx, 1, nil)
			got <- fmt.Sprint(i, r.SessionID(), texts(ms), err)
		}()
		eventually(t, "it waits", func() bool {
			return len(slices.DeleteFunc(e.Links(), func(l emulator.Link) bool { return l.Address != queueName })) == i+1
		})
	}
	for i, want := range []string{"0a1<nil>", "1b2<nil>", "2c3<nil>"} {
		putSession(t, e, queueName, string(rune('a'+i)), fmt.Sprint(i+1))
		if line := <-got; line != want {
			t.Errorf("got %s, want %s", line, want)
		}
	}
}

// A client that stops waiting gets no session, and no one else is kept from it.
func TestServiceBusStopWaiting(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	for _, gone := range []string{"wait", "connection"} {
		c := newBus(t, e, sbAtOnce)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := c.AcceptNextSessionForQueue(ctx, queueName, nil)
			done <- err
		}()
		eventually(t, "it waits", func() bool {
			return slices.ContainsFunc(e.Links(), func(l emulator.Link) bool { return l.Address == queueName })
		})
		if gone == "connection" {
			e.DropConnections()
		}
		cancel()
		if err := <-done; err == nil {
			t.Fatal("a session came from nowhere")
		}
		eventually(t, "it waits no more", func() bool {
			return !slices.ContainsFunc(e.Links(), func(l emulator.Link) bool { return l.Address == queueName })
		})
	}
	putSession(t, e, queueName, "a", "1")
	wantTexts(t, take(t, acceptNext(t, newBus(t, e, sbAtOnce), queueName), 1), "1")
}

// A receiver that closes gives its session back at once, with the messages that it did not settle in their places and
// no delivery counted. So does one whose connection breaks.
func TestServiceBusCloseSession(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	putSession(t, e, queueName, "a", "1", "2", "3", "4")
	for _, gone := range []string{"receiver", "connection"} {
		c := newBus(t, e, sbAtOnce)
		r := acceptSession(t, c, queueName, "a")
		ms := take(t, r, 3)
		wantTexts(t, ms, "1,2,3")
		if gone == "receiver" {
			if err := r.Close(withTimeout(t)); err != nil {
				t.Fatal(err)
			}
		} else {
			e.DropConnections()
			eventually(t, "the connection is gone", func() bool { return queueInfo(t, e, queueName).Locked == 0 })
		}
		wantInfo(t, e, queueName, 4, 0, 0, 0)
		// The token is worth nothing any more.
		c = newBus(t, e, sbAtOnce)
		r = acceptSession(t, c, queueName, "a")
		reply := request(t, dialBus(t, e), queueName, "update-disposition", map[string]any{"disposition-status": "completed", "lock-tokens": []amqp.UUID{ms[0].LockToken}})
		if status := reply.ApplicationProperties["status-code"]; status != int32(410) {
			t.Errorf("after the %s is gone, settling by the token is answered with %v", gone, status)
		}
		for i, m := range take(t, r, 4) {
			if string(m.Body) != fmt.Sprint(i+1) || m.DeliveryCount != 1 {
				t.Errorf("after the %s is gone, message %s has the count %d", gone, m.Body, m.DeliveryCount)
			}
		}
		if err := r.Close(withTimeout(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// A session whose lock ends is another's, and its messages count a failed delivery. The first receiver can do nothing
// with it any more, but the client takes it again when it is free.
func TestServiceBusSessionLockExpires(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"by time", "by command"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			o := emulator.Queue{Sessions: true}
			if how == "by time" {
				o.LockDuration = 50 * time.Millisecond
			}
			e := runQueue(t, o)
			putSession(t, e, queueName, "a", "1", "2", "3")
			r := acceptSession(t, newBus(t, e, sbAtOnce), queueName, "a")
			ms := take(t, r, 2)
			if how == "by command" {
				if held, err := e.ExpireSessionLock(queueName, "a"); !held || err != nil {
					t.Fatal(held, err)
				}
			}
			eventually(t, "the session is lost", func() bool { return queueInfo(t, e, queueName).Locked == 0 })
			eventually(t, "its link is detached", func() bool {
				return !slices.ContainsFunc(e.Links(), func(l emulator.Link) bool { return l.Address == queueName })
			})
			c := newBus(t, e, sbAtOnce)
			other, err := c.AcceptNextSessionForQueue(withTimeout(t), queueName, &azservicebus.SessionReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
			if err != nil {
				t.Fatal(err)
			}
			closeLater(t, other)
			for i, m := range take(t, other, 3) {
				if want := []uint32{2, 2, 1}[i]; m.DeliveryCount != want {
					t.Errorf("message %s has the count %d, want %d", m.Body, m.DeliveryCount, want)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := r.CompleteMessage(ctx, ms[0], nil); err == nil {
				t.Error("a message of a lost session was completed")
			}
			if held, err := e.ExpireSessionLock(queueName, "b"); held || err != nil {
				t.Errorf("a session that nobody has: %v, %v", held, err)
			}
		})
	}
}

// A session's lock is renewed, and lasts as long as it is.
func TestServiceBusRenewSession(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName, Sessions: true}}, Now: clock.now})
	putSession(t, e, queueName, "a", "1")
	putSession(t, e, queueName, "b", "2")
	c := newBus(t, e, sbAtOnce)
	r, lost := acceptSession(t, c, queueName, "a"), acceptSession(t, c, queueName, "b")
	m := take(t, r, 1)[0]
	for range 3 {
		clock.add(40 * time.Second)
		if err := r.RenewSessionLock(withTimeout(t), nil); err != nil {
			t.Fatal(err)
		}
		if want := clock.now().Add(time.Minute); !r.LockedUntil().Equal(want) {
			t.Fatalf("it is renewed until %v, want %v", r.LockedUntil(), want)
		}
	}
	complete(t, r, m)
	wantBusCode(t, lost.RenewSessionLock(withTimeout(t), nil), azservicebus.CodeLockLost, "The session lock has expired on the MessageSession. Accept a new MessageSession.")
}

// What a request wants of a session that its receiver has not is refused.
func TestServiceBusForeignSession(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	acceptSession(t, c, queueName, "a")
	conn := dialBus(t, e)
	for _, operation := range []string{"renew-session-lock", "get-session-state", "set-session-state"} {
		for _, session := range []any{"a", "nobody's", nil} {
			reply := request(t, conn, queueName, operation, map[string]any{"session-id": session, "session-state": []byte("x")}, "another link")
			want := int32(410)
			if session == nil {
				want = 400
			}
			if got := reply.ApplicationProperties["statusCode"]; got != want {
				t.Errorf("%s of %v: status %v, want %d", operation, session, got, want)
			}
		}
	}
}

// A client whose link is detached takes the same session again, and goes on.
func TestServiceBusSessionRecovers(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbQuickly)
	r := acceptSession(t, c, queueName, "a")
	putSession(t, e, queueName, "a", "1", "2")
	for _, want := range []string{"1", "2"} {
		if n := e.DetachLinks(linksTo(queueName), "amqp:link:detach-forced", "a test wants it"); n != 1 {
			t.Fatalf("detached %d links", n)
		}
		if err := r.SetSessionState(withTimeout(t), []byte(want), nil); err != nil {
			t.Fatal(err)
		}
		e.DropConnections()
		ms := take(t, r, 1)
		wantTexts(t, ms, want)
		complete(t, r, ms...)
	}
}

// Sessions come in the order in which they got something to receive; one that is left with something goes to the end.
func TestServiceBusSessionsInTurn(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	for range 2 {
		for i := range 5 {
			putSession(t, e, queueName, fmt.Sprint("s", i), fmt.Sprint(i))
		}
	}
	var order []string
	for range 10 {
		r := acceptNext(t, c, queueName)
		m := take(t, r, 1)[0]
		if *m.SessionID != r.SessionID() {
			t.Fatalf("session %s has a message of %s", r.SessionID(), *m.SessionID)
		}
		complete(t, r, m)
		order = append(order, r.SessionID())
		if err := r.Close(withTimeout(t)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := strings.Join(order, " "), "s0 s1 s2 s3 s4 s0 s1 s2 s3 s4"; got != want {
		t.Errorf("the sessions came in the order %s, want %s", got, want)
	}
	wantInfo(t, e, queueName, 0, 0, 0, 0)
}

// Messages of a session are peeked, deferred and received again by the receiver that has it, and nobody else.
func TestServiceBusSessionDefer(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	putSession(t, e, queueName, "a", "a1", "a2")
	putSession(t, e, queueName, "b", "b1")
	a, b := acceptSession(t, c, queueName, "a"), acceptSession(t, c, queueName, "b")
	m := take(t, a, 1)[0]
	if err := a.DeferMessage(withTimeout(t), m, nil); err != nil {
		t.Fatal(err)
	}
	ms, err := a.PeekMessages(withTimeout(t), 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, ms, "a1,a2")
	if _, err := b.ReceiveDeferredMessages(withTimeout(t), []int64{*m.SequenceNumber}, nil); err == nil {
		t.Error("a deferred message of one session was received by another")
	}
	ms, err = a.ReceiveDeferredMessages(withTimeout(t), []int64{*m.SequenceNumber}, nil)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, a, ms...)
	wantInfo(t, e, queueName, 2, 0, 0, 0)
}

// A dead letter of a session is received without one.
func TestServiceBusSessionDeadLetter(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true, MaxDeliveryCount: 1})
	c := newBus(t, e, sbAtOnce)
	putSession(t, e, queueName, "a", "1")
	r := acceptSession(t, c, queueName, "a")
	if err := r.AbandonMessage(withTimeout(t), take(t, r, 1)[0], nil); err != nil {
		t.Fatal(err)
	}
	if m := take(t, newBusReceiver(t, c, queueName, deadLetter), 1)[0]; *m.SessionID != "a" || string(m.Body) != "1" {
		t.Errorf("the dead letter is %+v", m)
	}
}

// Sessions are listed with messages or a state, over pages, or by when their states were set.
func TestServiceBusListSessions(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	list := func(after *time.Time) []string {
		t.Helper()
		var ids []string
		for pager := c.NewListSessionsForQueuePager(queueName, &azservicebus.ListSessionsOptions{SessionStateUpdatedAfter: after}); pager.More(); {
			page, err := pager.NextPage(withTimeout(t))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, page.Sessions...)
		}
		return ids
	}
	if got := list(nil); len(got) != 0 {
		t.Errorf("the sessions of an empty queue are %q", got)
	}
	var want []string
	for i := range 220 {
		want = append(want, fmt.Sprintf("session-%03d", i))
		putSession(t, e, queueName, want[i], "message")
	}
	state := acceptSession(t, c, queueName, "state alone")
	if err := state.SetSessionState(withTimeout(t), []byte("state"), nil); err != nil {
		t.Fatal(err)
	}
	acceptSession(t, c, queueName, "a lock alone")
	// A message that is locked is there, one that is deferred is not.
	take(t, acceptSession(t, c, queueName, want[0]), 1)
	r := acceptSession(t, c, queueName, want[1])
	if err := r.DeferMessage(withTimeout(t), take(t, r, 1)[0], nil); err != nil {
		t.Fatal(err)
	}
	want = append(slices.Delete(want, 1, 2), "state alone")
	if got := list(nil); !slices.Equal(got, want) {
		t.Errorf("the sessions are %q", got)
	}
	if got := list(ptr(time.Now().Add(-time.Hour))); !slices.Equal(got, []string{"state alone"}) {
		t.Errorf("the sessions whose state was set within an hour are %q", got)
	}
	if got := list(ptr(time.Now().Add(time.Hour))); len(got) != 0 {
		t.Errorf("the sessions whose state is set in an hour are %q", got)
	}
}

// A receiver of sessions that deletes has the lock as well.
func TestServiceBusSessionReceiveAndDelete(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	putSession(t, e, queueName, "a", counted(100)...)
	r, err := c.AcceptSessionForQueue(withTimeout(t), queueName, "a", &azservicebus.SessionReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, r)
	wantTexts(t, take(t, r, 100), strings.Join(counted(100), ","))
	wantInfo(t, e, queueName, 0, 0, 0, 0)
	_, err = newBus(t, e, sbAtOnce).AcceptSessionForQueue(withTimeout(t), queueName, "a", nil)
	if !errors.As(err, new(*amqp.Error)) {
		t.Errorf("a session that someone has: %v", err)
	}
}
