package emulator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

func newSubscription(t testing.TB, c *azservicebus.Client, topic, subscription string) *azservicebus.Receiver {
	t.Helper()
	r, err := c.NewReceiverForSubscription(topic, subscription, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, r)
	return r
}

// Each subscription of a topic gets what its rules choose, as it was sent or as their actions change it.
func TestRulesOfSubscriptions(t *testing.T) {
	t.Parallel()
	red := emulator.SQLFilter{Expression: "sys.Label = 'red' AND quantity * 2 >= 20"}
	rules := map[string][]emulator.Rule{
		"all":         nil,
		"nothing":     {},
		"red":         {{Name: "red", Filter: red}},
		"correlation": {{Name: "high", Filter: emulator.CorrelationFilter{CorrelationID: "high", Properties: map[string]any{"quantity": 5}}}},
		"changed": {{
			Name: "half", Filter: red,
			Action: "SET quantity = quantity / 2; REMOVE priority; SET sys.CorrelationId = 'low'; SET source = sys.To",
		}},
	}
	var subscriptions []emulator.Subscription
	for name, list := range rules {
		subscriptions = append(subscriptions, emulator.Subscription{Name: name, Rules: list})
	}
	e := run(t, emulator.Options{Topics: []emulator.Topic{{Name: "colours", Subscriptions: subscriptions}}})
	bus := newBus(t, e, sbAtOnce)
	message := func(body, colour, correlation string, quantity int32) *azservicebus.Message {
		m := text(body)
		m.Subject, m.CorrelationID, m.To, m.MessageID = &colour, &correlation, ptr("stock"), ptr("id-"+body)
		m.ApplicationProperties = map[string]any{"quantity": quantity, "priority": "p"}
		return m
	}
	sendTo(t, newBusSender(t, bus, "colours"),
		message("a", "red", "high", 10), message("b", "red", "high", 5), message("c", "blue", "low", 10), message("d", "red", "low", 20))

	for name, want := range map[string]string{"all": "a,b,c,d", "red": "a,d", "correlation": "b", "changed": "a,d"} {
		wantTexts(t, take(t, newSubscription(t, bus, "colours", name), len(want)/2+1), want)
		wantInfo(t, e, "colours/Subscriptions/"+name, 0, int64(len(want)/2+1), 0, 0)
	}
	wantInfo(t, e, "colours/Subscriptions/nothing", 0, 0, 0, 0)

	changed, err := newSubscription(t, bus, "colours", "changed").PeekMessages(withTimeout(t), 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: ptr(int64(0))})
	if err != nil || len(changed) != 1 {
		t.Fatalf("%d messages, %v", len(changed), err)
	}
	want := map[string]any{"quantity": int32(5), "source": "stock", "RuleName": "half"}
	if diff := cmp.Diff(want, changed[0].ApplicationProperties); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	if m := changed[0]; *m.CorrelationID != "low" || *m.Subject != "red" || m.MessageID != "id-a" || string(m.Body) != "a" {
		t.Errorf("correlation id %s, subject %s, message id %s, body %s", *m.CorrelationID, *m.Subject, m.MessageID, m.Body)
	}
}

// An action can choose the session that a message gets into.
func TestActionSetsSession(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Topics: []emulator.Topic{{Name: "rides", Subscriptions: []emulator.Subscription{
		{Name: "cars", Sessions: true, Rules: []emulator.Rule{{Name: "r", Action: "SET sys.SessionId = car"}}},
	}}}})
	bus := newBus(t, e, sbAtOnce)
	sender := newBusSender(t, bus, "rides")
	for body, car := range map[string]any{"one": "car-1", "two": 2} {
		m := text(body)
		m.ApplicationProperties = map[string]any{"car": car}
		sendTo(t, sender, m)
	}
	for session, want := range map[string]string{"car-1": "one", "2": "two"} {
		r, err := bus.AcceptSessionForSubscription(withTimeout(t), "rides", "cars", session, nil)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, r)
		wantTexts(t, take(t, r, 1), want)
	}
}

// Clients list, add and remove rules at a subscription's $management, and messages sent after that go by them.
func TestRulesByManagement(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{
		AllowAnyToken: true, Queues: []emulator.Queue{{Name: queueName}},
		Topics: []emulator.Topic{{Name: "colours", Subscriptions: []emulator.Subscription{{Name: "s"}}}},
	})
	const path = "colours/Subscriptions/s"
	conn := dialAMQP(t, e)
	request := func(node, operation string, body map[string]any) *amqp.Message {
		t.Helper()
		if _, err := call(withTimeout(t), conn, "$cbs", putToken(e, node, "any")); err != nil {
			t.Fatal(err)
		}
		reply, err := call(withTimeout(t), conn, node+"/$management", &amqp.Message{
			Value: body, ApplicationProperties: map[string]any{"operation": "com.microsoft:" + operation},
		})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	wantStatus := func(reply *amqp.Message, status int32) {
		t.Helper()
		if got := reply.ApplicationProperties["status-code"]; got != status {
			t.Errorf("status %v, want %d: %v", got, status, reply.ApplicationProperties["status-description"])
		}
	}
	// wantRule wants one rule at most, whose text, as go-amqp writes a described value, has parts in it.
	wantRule := func(parts ...string) {
		t.Helper()
		body, _ := request(path, "enumerate-rules", map[string]any{"top": int32(100), "skip": int32(0)}).Value.(map[string]any)
		list, _ := body["rules"].([]any)
		if (len(list) == 1) != (len(parts) > 0) {
			t.Errorf("%d rules: %v", len(list), list)
			return
		}
		for _, part := range parts {
			if got := fmt.Sprint(list[0]); !strings.Contains(got, part) {
				t.Errorf("the rule is %s, want %s in it", got, part)
			}
		}
	}
	rule := func(name, expression, action string) map[string]any {
		return map[string]any{"rule-name": name, "rule-description": map[string]any{
			"sql-filter": map[string]any{"expression": expression}, "sql-rule-action": map[string]any{"expression": action},
		}}
	}
	wantRule("descriptor: 1335734829060", "descriptor: 83483426823", "$Default")
	wantStatus(request(path, "remove-rule", map[string]any{"rule-name": "$Default"}), 200)
	wantRule()
	wantStatus(request(path, "add-rule", rule("big", "size > 5", "SET size = 6")), 200)
	wantStatus(request(path, "add-rule", rule("big", "1=1", "")), 409)
	wantStatus(request(path, "add-rule", rule("other", "size >", "")), 400)
	wantStatus(request(path, "remove-rule", map[string]any{"rule-name": "$Default"}), 404)
	wantStatus(request(queueName, "enumerate-rules", map[string]any{}), 400)
	wantRule("big", "size > 5", "SET size = 6")

	bus := newBus(t, e, sbAtOnce)
	sender := newBusSender(t, bus, "colours")
	for body, size := range map[string]any{"small": 5, "large": 50} {
		m := text(body)
		m.ApplicationProperties = map[string]any{"size": size}
		m.TimeToLive = ptr(time.Hour)
		sendTo(t, sender, m)
	}
	got := take(t, newSubscription(t, bus, "colours", "s"), 1)
	wantTexts(t, got, "large")
	if size := got[0].ApplicationProperties["size"]; size != int64(6) || *got[0].TimeToLive != time.Hour {
		t.Errorf("size %v, time to live %v", size, *got[0].TimeToLive)
	}
	wantInfo(t, e, path, 0, 1, 0, 0)
}
