package hosttest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
	t.Parallel()
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

// checkpointed waits until the partition is done up to a sequence number.
func checkpointed(t *testing.T, h *Host, number int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Await(ctx, func() bool { n, ok := h.Checkpoints("persist")["0"]; return ok && n >= number }); err != nil {
		t.Fatalf("%v: %v %+v", err, h.Checkpoints("persist"), h.Results())
	}
}

func startHub(t *testing.T, e *emulator.Emulator, binding, function, hostJSON string) (*app, *Host) {
	t.Helper()
	if hostJSON != "" {
		hostJSON += `,"customHandler":{"description":{"defaultExecutablePath":"handler"}}`
	}
	a := newApp(t, "persist", hubFunction(binding, function), hostJSON)
	return a, run(t, a.with("HUB=rides", "HUB_CONNECTION="+e.ConnectionString()))
}

// A failure is tried again as the policy says, and then the host goes on as if it had been a success.
func TestEventHubFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, first string
		attempts      int // at the first event
		retries       string
	}{
		{"", "fail", 1, ""},
		{`,"retry":{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:00:00.010"}`, "fail", 3, `"MaxRetryCount":2`},
		{`,"retry":{"strategy":"exponentialBackoff","maxRetryCount":-1,"minimumInterval":"00:00:00.010","maximumInterval":"00:00:01"}`, "fail once", 2, `"MaxRetryCount":-1`},
	} {
		e := newHub(t, c.first, "work")
		a, h := startHub(t, e, `,"dataType":"binary"`, c.policy, "")
		checkpointed(t, h, 1)
		results := h.Results()
		if len(results) != c.attempts+1 || results[c.attempts].Err != nil || results[c.attempts].Numbers[0] != 1 {
			t.Errorf("%s: %+v", c.policy, results)
		}
		for n, i := range a.kept(t)[:c.attempts] {
			context := string(i.Metadata["RetryContext"])
			if want := fmt.Sprintf(`"RetryCount":%d`, n); (context != "") != (c.policy != "") || c.policy != "" && (!strings.Contains(context, want) || !strings.Contains(context, c.retries)) {
				t.Errorf("%s: attempt %d: %s", c.policy, n, context)
			}
		}
	}
}

// A host that is stopped sets no checkpoint for what it was doing.
func TestEventHubStop(t *testing.T) {
	t.Parallel()
	e := newHub(t, "fail")
	_, h := startHub(t, e, `,"dataType":"binary"`, `,"retry":{"strategy":"fixedDelay","maxRetryCount":-1,"delayInterval":"00:00:00.010"}`, "")
	await(t, h, 2)
	_ = h.Close()
	if got := h.Checkpoints("persist"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestEventHubPositions(t *testing.T) {
	t.Parallel()
	e := newHub(t, "a", "b", "c", "d")
	a := newApp(t, "persist", hubFunction(`,"dataType":"binary"`, ""), "")
	o := a.with("HUB=rides", "HUB_CONNECTION="+e.ConnectionString())
	o.Checkpoints = map[string]map[string]int64{"persist": {"0": 1}}
	h := run(t, o)
	checkpointed(t, h, 3)
	if err := h.Rewind("persist", "0", 1); err != nil {
		t.Fatal(err)
	}
	await(t, h, 5)
	putEvents(t, e, "e")
	checkpointed(t, h, 4)
	e.DropConnections()
	putEvents(t, e, "f")
	checkpointed(t, h, 5)
	var numbers []int64
	for _, r := range h.Results() {
		numbers = append(numbers, r.Numbers...)
	}
	if want := []int64{2, 3, 1, 2, 3, 4, 5}; !slices.Equal(numbers, want) {
		t.Errorf("%v, want %v", numbers, want)
	}
	if err := h.Rewind("persist", "9", 1); err == nil {
		t.Error("rewound what there is not")
	}
}

func TestEventHubBatches(t *testing.T) {
	t.Parallel()
	e := newHub(t, "a", "b", "c", "d", "e")
	_, h := startHub(t, e, `,"dataType":"binary","cardinality":"many"`, "", `"extensions":{"eventHubs":{"maxEventBatchSize":2,"batchCheckpointFrequency":2}}`)
	await(t, h, 3)
	if got := h.Checkpoints("persist")["0"]; got != 3 {
		t.Errorf("checkpoint %d, want that of every second batch", got)
	}
	for n, r := range h.Results() {
		if want := [][]int64{{0, 1}, {2, 3}, {4}}[n]; !slices.Equal(r.Numbers, want) {
			t.Errorf("%v, want %v", r.Numbers, want)
		}
	}
}

// A batch waits for the least number of events, but not for ever.
func TestEventHubLeastBatch(t *testing.T) {
	t.Parallel()
	e := newHub(t, "a", "b")
	_, h := startHub(t, e, `,"dataType":"binary","cardinality":"many"`, "", `"extensions":{"eventHubs":{"minEventBatchSize":4,"maxEventBatchSize":4,"maxWaitTime":"00:00:02"}}`)
	await(t, h, 1)
	putEvents(t, e, "c", "d", "e", "f", "g")
	await(t, h, 3)
	for n, r := range h.Results() {
		if want := [][]int64{{0, 1}, {2, 3, 4, 5}, {6}}[n]; !slices.Equal(r.Numbers, want) {
			t.Errorf("%v, want %v", r.Numbers, want)
		}
	}
	_, h = startHub(t, e, `,"dataType":"binary"`, "", `"extensions":{"eventHubs":{"minEventBatchSize":4}}`)
	await(t, h, 7) // single events don't wait
}

// The shapes of the other data types, and what they bring with them.
func TestEventHubText(t *testing.T) {
	t.Parallel()
	const spoof = `{"SequenceNumber":77,"properties":{"a":1},"list":[1],"none":null}`
	for _, c := range []struct {
		binding string
		bodies  []string
		data    string
		number  string
	}{
		{`,"dataType":"string"`, []string{`a"b`}, `"\"a\\\"b\""`, `"0"`},
		{`,"dataType":"string"`, []string{spoof}, wireText(t, spoof), `"\"77\""`},
		{``, []string{spoof}, wireText(t, spoof), `"\"77\""`},
		{`,"dataType":"binary"`, []string{spoof}, "", `"0"`},
		{`,"dataType":"string","cardinality":"many"`, []string{"a", spoof}, "", ""},
		{`,"cardinality":"many"`, []string{`{"a":1}`}, `"[{\"a\":1}]"`, ""},
	} {
		a, h := startHub(t, newHub(t, c.bodies...), c.binding, "", "")
		await(t, h, 1)
		got := a.kept(t)[0]
		if c.data != "" && string(got.Data["m"]) != c.data || string(got.Metadata["SequenceNumber"]) != c.number {
			t.Errorf("%s: %s %s", c.binding, got.Data["m"], got.Metadata["SequenceNumber"])
		}
		if strings.Contains(c.number, "77") && (string(got.Metadata["Properties"]) != `{"a":1}` || got.Metadata["list"] != nil) {
			t.Errorf("%s: %s", c.binding, got.Metadata)
		}
	}
}

func wireText(t *testing.T, text string) string {
	t.Helper()
	once, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := json.Marshal(string(once))
	if err != nil {
		t.Fatal(err)
	}
	return string(twice)
}

// Without a dataType one event that is no JSON takes its batch with it, and the handler never hears of either.
func TestEventHubUnbindable(t *testing.T) {
	t.Parallel()
	a, h := startHub(t, newHub(t, `{"a":1}`, "b"), `,"cardinality":"many"`, "", "")
	checkpointed(t, h, 1)
	if r := h.Results()[0]; r.Err == nil || !strings.Contains(r.Err.Error(), "bind m") || len(a.kept(t)) != 0 {
		t.Errorf("%+v", r)
	}
}
