package emulator_test

import (
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

func subscriptionOf(t testing.TB, c *azservicebus.Client, name string, o azservicebus.ReceiverOptions) *azservicebus.Receiver {
	t.Helper()
	r, err := c.NewReceiverForSubscription("topic", name, &o)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, r)
	return r
}

// Each subscription gets its own copy of a message, with its own numbers, locks and end.
func TestServiceBusTopic(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Now: clock.now, Topics: []emulator.Topic{{Name: "topic", Subscriptions: []emulator.Subscription{
		{Name: "all"}, {Name: "brief", TTL: time.Minute, DeadLetterOnExpiration: true, MaxDeliveryCount: 1}, {Name: "some", Rules: []emulator.Rule{{Name: "two", Filter: emulator.SQLFilter{Expression: "sys.MessageId = '2'"}}}},
	}}}})
	c := newBus(t, e, sbAtOnce)
	s := newBusSender(t, c, "topic")
	for _, id := range []string{"1", "2", "3"} {
		sendTo(t, s, &azservicebus.Message{Body: []byte(id), MessageID: &id})
	}
	all, brief, some := subscriptionOf(t, c, "all", peekLock), subscriptionOf(t, c, "brief", peekLock), subscriptionOf(t, c, "some", peekLock)
	ms := take(t, all, 3)
	wantTexts(t, ms, "1,2,3")
	m := take(t, some, 1)[0]
	if string(m.Body) != "2" || *m.SequenceNumber != 1 || m.LockToken == ms[1].LockToken || m.ExpiresAt.After(*m.EnqueuedTime) {
		t.Errorf("the subscription some got %s with the number %d", m.Body, *m.SequenceNumber)
	}
	complete(t, all, ms...)
	m = take(t, brief, 1)[0]
	if !m.ExpiresAt.Equal(m.EnqueuedTime.Add(time.Minute)) {
		t.Errorf("the subscription brief has its copy until %v", m.ExpiresAt)
	}
	if err := brief.AbandonMessage(withTimeout(t), m, nil); err != nil {
		t.Fatal(err)
	}
	clock.add(time.Minute)
	dead := take(t, subscriptionOf(t, c, "brief", deadLetter), 3)
	wantTexts(t, dead, "1,2,3")
	for i, want := range []string{"MaxDeliveryCountExceeded", "TTLExpiredException", "TTLExpiredException"} {
		if *dead[i].DeadLetterReason != want || *dead[i].DeadLetterSource != "topic/Subscriptions/brief" {
			t.Errorf("dead letter %d: reason %s, source %s", i, *dead[i].DeadLetterReason, *dead[i].DeadLetterSource)
		}
	}
	wantInfo(t, e, "topic/Subscriptions/all", 0, 0, 0, 0)
	wantInfo(t, e, "topic/subscriptions/some", 1, 0, 0, 0) // the minute was that of its lock, too
}

// What is scheduled for a topic waits there, and goes to the subscriptions when it is time.
func TestServiceBusTopicSchedule(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Now: clock.now, Topics: []emulator.Topic{{Name: "topic", Subscriptions: []emulator.Subscription{{Name: "a"}, {Name: "b"}}}}})
	c := newBus(t, e, sbAtOnce)
	s := newBusSender(t, c, "topic")
	numbers, err := s.ScheduleMessages(withTimeout(t), []*azservicebus.Message{text("cancelled"), text("later")}, clock.now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CancelScheduledMessages(withTimeout(t), numbers[:1], nil); err != nil {
		t.Fatal(err)
	}
	wantInfo(t, e, "topic", 0, 0, 0, 1)
	wantInfo(t, e, "topic/Subscriptions/a", 0, 0, 0, 0)
	clock.add(time.Hour)
	for _, name := range []string{"a", "b"} {
		wantTexts(t, take(t, subscriptionOf(t, c, name, deleting), 1), "later")
	}
}

// A subscription with sessions has those of the messages, and dead-letters messages without.
func TestServiceBusTopicSessions(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Topics: []emulator.Topic{{Name: "topic", Subscriptions: []emulator.Subscription{{Name: "sessions", Sessions: true}, {Name: "none"}}}}})
	c := newBus(t, e, sbAtOnce)
	sendTo(t, newBusSender(t, c, "topic"), text("1", "a"), text("2"))
	r, err := c.AcceptNextSessionForSubscription(withTimeout(t), "topic", "sessions", nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, r)
	wantTexts(t, take(t, r, 1), "1")
	wantTexts(t, take(t, subscriptionOf(t, c, "none", deleting), 2), "1,2")
	m := take(t, subscriptionOf(t, c, "sessions", deadLetter), 1)[0]
	if string(m.Body) != "2" || *m.DeadLetterReason != "Session ID is null" {
		t.Errorf("the dead letter is %s for %v", m.Body, m.DeadLetterReason)
	}
	for pager := c.NewListSessionsForSubscriptionPager("topic", "sessions", nil); pager.More(); {
		if page, err := pager.NextPage(withTimeout(t)); err != nil || len(page.Sessions) != 1 || page.Sessions[0] != "a" {
			t.Errorf("the sessions are %v, %v", page.Sessions, err)
		}
	}
}
