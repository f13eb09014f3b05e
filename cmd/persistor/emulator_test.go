package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/emulator"
)

func TestEntityFlags(t *testing.T) {
	t.Parallel()
	flags := entityFlags{
		hubs:   []string{"rides:4", "logs"},
		queues: []string{"orders", "journeys:sessions"},
		topics: []string{"prices/audit", "eu/prices/billing", "PRICES/billing:sessions"},
	}
	got, err := flags.config()
	if err != nil {
		t.Fatal(err)
	}
	want := emulator.Config{
		Hubs:   []emulator.Hub{{Name: "rides", Partitions: 4}, {Name: "logs", Partitions: 1}},
		Queues: []emulator.Queue{{Name: "orders"}, {Name: "journeys", Sessions: true}},
		Topics: []emulator.Topic{
			{Name: "prices", Subscriptions: []emulator.Subscription{{Name: "audit"}, {Name: "billing", Sessions: true}}},
			{Name: "eu/prices", Subscriptions: []emulator.Subscription{{Name: "billing"}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestAnnounceEmulator(t *testing.T) {
	t.Parallel()
	e, err := emulator.Start(emulator.Options{Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var out strings.Builder
	announceEmulator(&out, e, emulator.Config{
		Hubs:   []emulator.Hub{{Name: "rides", Partitions: 4}, {Name: "logs"}},
		Queues: []emulator.Queue{{Name: "orders"}, {Name: "journeys", Sessions: true}},
		Topics: []emulator.Topic{{Name: "prices", Subscriptions: []emulator.Subscription{
			{Name: "audit"}, {Name: "billing", Sessions: true, Rules: []emulator.Rule{{Name: "a"}, {Name: "b"}}}, {Name: "none", Rules: []emulator.Rule{}},
		}}},
	})
	want := `Emulator of Event Hubs and Service Bus on ADDRESS, until Ctrl-C
  rides: Event Hub, 4 partitions
  logs: Event Hub, 1 partitions
  orders: queue
  journeys: queue with sessions
  prices: topic
  prices/audit: subscription
  prices/billing: subscription with sessions, 2 rules
  prices/none: subscription, 0 rules
Connection string:
  Endpoint=sb://ADDRESS;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=k;UseDevelopmentEmulator=true
For example, in another terminal, a line is a message:
  persistor publish FILE --hub rides --connection-string 'Endpoint=sb://ADDRESS;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=k;UseDevelopmentEmulator=true'
`
	if diff := cmp.Diff(want, strings.ReplaceAll(out.String(), e.Address(), "ADDRESS")); diff != "" {
		t.Errorf("what is printed (-want +got):\n%s", diff)
	}
}
