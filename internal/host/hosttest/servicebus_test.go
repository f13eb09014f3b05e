package hosttest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
)

// busFunction is a function.json of a service bus trigger with more properties of its binding.
func busFunction(binding string) string {
	return fmt.Sprintf(`{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"m","connection":"BUS","dataType":"binary"%s}]}`, binding)
}

func newBus(t *testing.T, o emulator.Options) *emulator.Emulator {
	t.Helper()
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// settled waits until nothing is left in an entity.
func settled(t *testing.T, h *Host, e *emulator.Emulator, path string) emulator.QueueInfo {
	t.Helper()
	var info emulator.QueueInfo
	deadline := time.Now().Add(20 * time.Second)
	for {
		var err error
		if info, err = e.Queue(path); err != nil {
			t.Fatal(err)
		}
		if info.Active+info.Locked == 0 {
			return info
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v; %+v", info, h.Results())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestServiceBus(t *testing.T) {
	t.Parallel()
	session := "s"
	for _, c := range []struct {
		name, binding, path string
		sessions            bool
		invocations         int
		data                string
		metadata            map[string]string
	}{
		{"queue, one", `,"queueName":"orders"`, "orders", false, 2, `"YQ=="`, map[string]string{
			"DeliveryCount": `"1"`, "SequenceNumber": `"1"`, "MessageId": `"\"id\""`, "EnqueuedTimeUtc": `"2026-11-25T10:11:12"`,
			"EnqueuedTime": `"2026-11-25T10:11:12+00:00"`, "ApplicationProperties": `{}`, "MessageReceiver": `{}`,
			"ExpiresAtUtc": `"9999-12-31T23:59:59"`,
		}},
		{"queue, many", `,"queueName":"orders","cardinality":"many"`, "orders", false, 1, `"[\"YQ==\",\"Yg==\"]"`, map[string]string{
			"DeliveryCountArray": `"[1,1]"`, "SequenceNumberArray": `"[1,2]"`, "MessageIdArray": `"[\"id\",\"id\"]"`,
			"EnqueuedTimeUtcArray": `"[\"2026-11-25T10:11:12.345Z\",\"2026-11-25T10:11:12.345Z\"]"`, "SessionIdArray": `"[null,null]"`,
		}},
		{"subscription, one", `,"topicName":"prices","subscriptionName":"all"`, "prices/Subscriptions/all", false, 2, `"YQ=="`, nil},
		{"sessions, one", `,"queueName":"orders","isSessionsEnabled":true`, "orders", true, 2, `"YQ=="`, map[string]string{"SessionId": `"\"s\""`, "MessageSession": "{}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newBus(t, emulator.Options{
				Queues: []emulator.Queue{{Name: "orders", Sessions: c.sessions}},
				Topics: []emulator.Topic{{Name: "prices", Subscriptions: []emulator.Subscription{{Name: "all"}}}},
			})
			messages := []emulator.QueueMessage{{Body: []byte("a"), MessageID: "id"}, {Body: []byte("b"), MessageID: "id"}}
			for n := range messages {
				messages[n].Enqueued = time.Date(2026, 11, 25, 10, 11, 12, 345e6, time.UTC)
				if c.sessions {
					messages[n].SessionID = &session
				}
			}
			entity, _, _ := strings.Cut(c.path, "/")
			if err := e.PutMessages(entity, messages...); err != nil {
				t.Fatal(err)
			}
			a := newApp(t, "persist", busFunction(c.binding), `"extensions":{"serviceBus":{"maxConcurrentCalls":1}},"customHandler":{"description":{"defaultExecutablePath":"handler"}}`)
			h := run(t, a.with("BUS="+e.ConnectionString()))
			await(t, h, c.invocations)
			settled(t, h, e, c.path)
			got := a.kept(t)
			if len(got) != c.invocations || string(got[0].Data["m"]) != c.data {
				t.Errorf("%d invocations, data %s, want %d and %s", len(got), got[0].Data["m"], c.invocations, c.data)
			}
			for name, want := range c.metadata {
				if string(got[0].Metadata[name]) != want {
					t.Errorf("%s is %s, want %s", name, got[0].Metadata[name], want)
				}
			}
		})
	}
}

// What fails is abandoned, comes again with a higher delivery count, and ends in the dead-letter queue.
func TestServiceBusFailure(t *testing.T) {
	t.Parallel()
	e := newBus(t, emulator.Options{Queues: []emulator.Queue{{Name: "orders", MaxDeliveryCount: 3}}})
	if err := e.PutMessages("orders", emulator.QueueMessage{Body: []byte("fail")}); err != nil {
		t.Fatal(err)
	}
	a := newApp(t, "persist", busFunction(`,"queueName":"orders"`), "")
	h := run(t, a.with("BUS="+e.ConnectionString()))
	await(t, h, 3)
	if info := settled(t, h, e, "orders"); info.DeadLettered != 1 || info.Abandoned != 3 || info.Completed != 0 {
		t.Errorf("%+v", info)
	}
	for n, i := range a.kept(t) {
		if want := fmt.Sprintf(`"%d"`, n+1); string(i.Metadata["DeliveryCount"]) != want {
			t.Errorf("delivery count %s, want %s", i.Metadata["DeliveryCount"], want)
		}
	}
}

// A batch is settled as a whole, and one comes after the other.
func TestServiceBusBatchFailure(t *testing.T) {
	t.Parallel()
	e := newBus(t, emulator.Options{Queues: []emulator.Queue{{Name: "orders", MaxDeliveryCount: 5}}})
	if err := e.PutMessages("orders", emulator.QueueMessage{Body: []byte("a")}, emulator.QueueMessage{Body: []byte("fail once")}); err != nil {
		t.Fatal(err)
	}
	a := newApp(t, "persist", busFunction(`,"queueName":"orders","cardinality":"many"`), "")
	h := run(t, a.with("BUS="+e.ConnectionString()))
	await(t, h, 2)
	if info := settled(t, h, e, "orders"); info.Abandoned != 2 || info.Completed != 2 {
		t.Errorf("%+v", info)
	}
	// Abandoned one by one, messages may come again in two batches.
	for n, r := range h.Results()[1:] {
		if r.Err != nil || r.Began.Before(h.Results()[n].Began.Add(h.Results()[n].Took)) {
			t.Errorf("%+v", r)
		}
	}
}

// The lock of a single message is renewed while its function runs, and a killed handler costs one delivery.
func TestServiceBusKill(t *testing.T) {
	t.Parallel()
	e := newBus(t, emulator.Options{Queues: []emulator.Queue{{Name: "orders", LockDuration: 1500 * time.Millisecond}}})
	if err := e.PutMessages("orders", emulator.QueueMessage{Body: []byte("hang")}); err != nil {
		t.Fatal(err)
	}
	a := newApp(t, "persist", busFunction(`,"queueName":"orders"`), "")
	h := run(t, a.with("BUS="+e.ConnectionString()))
	a.keeps(t, 1)
	<-time.After(2 * time.Second) // longer than a lock
	if info, err := e.Queue("orders"); err != nil || info.Locked != 1 || info.Abandoned != 0 {
		t.Errorf("%+v, error %v", info, err)
	}
	if err := h.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := string(a.keeps(t, 2)[1].Metadata["DeliveryCount"]); got != `"2"` {
		t.Errorf("delivery count %s", got)
	}
}
