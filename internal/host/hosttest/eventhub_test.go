package hosttest

import (
	"fmt"
	"testing"
	"time"

	"persistor/emulator"
)

// newHub is an emulated hub of one partition with so many events.
func newHub(t *testing.T, bodies ...string) *emulator.Emulator {
	t.Helper()
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: "rides"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	putEvents(t, e, bodies...)
	return e
}

func putEvents(t *testing.T, e *emulator.Emulator, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		err := e.Put("rides", "0", emulator.Event{Body: []byte(body), PartitionKey: "k", Enqueued: time.Date(2026, 11, 25, 10, 11, 12, 345e6, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// hubFunction is a function.json of an event hub trigger with more properties of binding and function.
func hubFunction(binding, function string) string {
	return fmt.Sprintf(`{"bindings":[{"type":"eventHubTrigger","direction":"in","name":"m","eventHubName":"%%HUB%%","connection":"HUB_CONNECTION","consumerGroup":"$Default"%s}]%s}`, binding, function)
}

func TestEventHub(t *testing.T) {
	for _, c := range []struct {
		binding     string
		invocations int
		data        string // of the first
		metadata    map[string]string
	}{
		{`,"dataType":"binary"`, 2, `"YeQ="`, map[string]string{
			"SequenceNumber": `"0"`, "EnqueuedTimeUtc": `"2026-11-25T10:11:12"`, "PartitionKey": `"\"k\""`, "Properties": `{}`,
		}},
		{`,"cardinality":"many","dataType":"binary"`, 1, `"[\"YeQ=\",\"Yg==\"]"`, map[string]string{
			"SequenceNumberArray": `"[0,1]"`, "EnqueuedTimeUtcArray": `"[\"2026-11-25T10:11:12.345\",\"2026-11-25T10:11:12.345\"]"`,
			"PartitionKeyArray": `"[\"k\",\"k\"]"`, "PropertiesArray": `"[{},{}]"`,
		}},
	} {
		t.Run(c.binding, func(t *testing.T) {
			e := newHub(t, "a\xe4", "b")
			a := newApp(t, "persist", hubFunction(c.binding, ""), "")
			h := run(t, a.with("HUB=rides", "HUB_CONNECTION="+e.ConnectionString()))
			for _, r := range await(t, h, c.invocations) {
				if r.Err != nil {
					t.Errorf("%+v", r)
				}
			}
			got := a.kept(t)[0]
			if string(got.Data["m"]) != c.data {
				t.Errorf("data %s, want %s", got.Data["m"], c.data)
			}
			for name, want := range c.metadata {
				if string(got.Metadata[name]) != want {
					t.Errorf("%s is %s, want %s", name, got.Metadata[name], want)
				}
			}
		})
	}
}
