package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/config"
	"persistor/internal/host/hosttest"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// openFragilePush is OpenPush, but for KILL_AT, as [openFragileWorker] has it.
func openFragilePush(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	step, count, ok := strings.Cut(os.Getenv("KILL_AT"), ":")
	if !ok {
		return OpenPush(ctx, lookup, logs)
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return nil, err
	}
	c, err := config.ReadPush(lookup)
	if err != nil {
		return nil, err
	}
	o, err := pushOptions(ctx, c, newLog(logs, c.Server.LogLevel, "push"))
	if err != nil {
		return nil, err
	}
	k := &killer{step: step}
	k.left.Store(n)
	o.Sink = sink{fragileStore{o.Sink.(sink).Store, k}}
	return newPush(c, o, o.Log, nil), nil
}

// output is what a handler writes, to be read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// pushed is a push program under the double of the Functions host.
type pushed struct {
	*hosttest.Host
	output output
}

// startPush runs a function app with a function persist of such bindings, whose handler is the test binary. More goes into
// host.json.
func startPush(t *testing.T, function, more string, s settings) *pushed {
	t.Helper()
	folder := newFunctionApp(t, `,"initializationTimeout":"00:00:30"`)
	hostJSON := `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"handler"}},` +
		`"extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"}` + more + `}`
	if err := os.MkdirAll(filepath.Join(folder, pushFunction), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"host.json": hostJSON, pushFunction + "/function.json": function} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := s.with("PERSISTOR_TEST_PROCESS=push", "SERVICE_TYPE=BINDING", "AzureWebJobsStorage=UseDevelopmentStorage=true")
	p := new(pushed)
	var err error
	p.Host, err = hosttest.Start(t.Context(), hosttest.Options{Folder: folder, Settings: maps.Clone(all), Output: &p.output, Errors: 1000})
	if err != nil {
		t.Fatalf("%v: %s", err, &p.output)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// await waits until a condition holds, for a minute at most.
func (p *pushed) await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Await(ctx, condition); err != nil {
		t.Fatalf("%s: %v: %s", what, err, &p.output)
	}
}

// hubTrigger is a function.json that an Event Hub triggers, with more bindings.
func hubTrigger(cardinality, more string) string {
	return `{"bindings":[{"type":"eventHubTrigger","direction":"in","name":"message","eventHubName":"%EVENT_HUB_NAME_BINDING%","connection":"EVENT_HUB_BINDING_CONNECTION_STR",` +
		`"consumerGroup":"%CONSUMER_GROUP%","dataType":"binary","cardinality":"` + cardinality + `"}` + more +
		`],"retry":{"strategy":"fixedDelay","maxRetryCount":200,"delayInterval":"00:00:00.050"}}`
}

// push are the settings of a push program that stores what comes of the site's hub.
func (s *site) push(more ...string) settings {
	all := settings{}
	for _, name := range []string{"PERSISTOR_STORAGE_CONNECTION_STRING", "PERSISTOR_CONTAINER_NAME", "PERSISTOR_CREATE_CONTAINER"} {
		all[name] = s.settings[name]
	}
	return all.with("BINDING_SERVICE=EVENT_HUB", "EVENT_HUB_NAME_BINDING="+hubName, "EVENT_HUB_BINDING_CONNECTION_STR="+s.hub.ConnectionString(),
		"CONSUMER_GROUP=$Default", "GET_METADATA=TRUE").with(more...)
}

// done reports whether the host has been through all of the site's events.
func (s *site) done(p *pushed) func() bool {
	return func() bool {
		through := 0
		for _, number := range p.Checkpoints(pushFunction) {
			if number == s.events-1 {
				through++
			}
		}
		return through == s.parts
	}
}

func TestPushedHubIsStoredOnce(t *testing.T) {
	for _, test := range []struct {
		cardinality string
		events      int64
		more        []string
	}{
		{"one", 150, nil}, {"many", 1500, nil}, {"many", 1500, []string{"BATCH_COUNT=7"}},
		{"one", 150, []string{"APPEND=TRUE"}}, {"many", 1500, []string{"TIMED_APPEND=TRUE"}},
	} {
		t.Run(test.cardinality+strings.Join(test.more, ""), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2, test.events)
			p := startPush(t, hubTrigger(test.cardinality, ""), "", s.push(test.more...))
			p.await(t, "deliver", s.done(p))
			before := s.audit(t, hubName)
			for n, from := range []int64{test.events / 2, 3, 0} { // the last from another instance's point of view
				if n == 2 {
					if err := p.Close(); err != nil {
						t.Fatal(err)
					}
					p = startPush(t, hubTrigger(test.cardinality, ""), "", s.push(test.more...))
					p.await(t, "deliver", s.done(p))
				}
				delivered := len(p.Results())
				if err := p.Rewind(pushFunction, "1", from); err != nil {
					t.Fatal(err)
				}
				p.await(t, "deliver again", func() bool { return len(p.Results()) > delivered && s.done(p)() })
			}
			if after := s.audit(t, hubName); after.Blobs != before.Blobs {
				t.Errorf("%d blobs became %d", before.Blobs, after.Blobs)
			}
		})
	}
}

// Pull and push into one folder are one chain.
func TestPullAndPushAgree(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, 3000)
	s.settings["GET_METADATA"] = "TRUE"
	p := startPush(t, hubTrigger("many", ""), `,"extensions":{"eventHubs":{"maxEventBatchSize":73}}`, s.push())
	worker := start(t, "worker", s.settings.with("BATCH_COUNT=100"))
	if status, text := call(t, worker.url+"/api/pull", s.unit("both", 1, 1), nil); status != 200 {
		t.Fatalf("status %d: %s", status, text)
	}
	p.await(t, "deliver", s.done(p))
	s.audit(t, hubName)
}

// A push program that is killed where it stores, again and again, loses and repeats nothing.
func TestPushKilledAtEveryStep(t *testing.T) {
	for _, step := range []string{"before create", "after create", "before append", "after append"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2, 1200)
			p := startPush(t, hubTrigger("many", ""), "", s.push("BATCH_COUNT=60", "APPEND="+strconv.FormatBool(strings.HasSuffix(step, "append")), "KILL_AT="+step+":3"))
			p.await(t, "deliver", s.done(p))
			s.audit(t, hubName)
			if n := strings.Count(p.output.String(), "listening"); n < 4 {
				t.Errorf("the program began %d times: the step is not on the way", n)
			}
		})
	}
}

// Storage that is away for less than the time of an invocation delays it; for longer, the second account has
// what the host will not bring again.
func TestPushWithStorageDown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		down time.Duration
	}{{"for less than the deadline", 2 * time.Second}, {"for more", 0}} {
		t.Run(test.name, func(t *testing.T) {
			gate, connection := newGate(t, azuritetest.Run(t))
			s := newSite(t, 1, 1000)
			spare := t.TempDir()
			s.settings = s.settings.with("PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "PERSISTOR_CONTAINER_NAME="+azuritetest.Container(t))
			gate.shutAfter(6) // requests, so that it is in the middle
			if test.down > 0 {
				time.AfterFunc(test.down, gate.open)
			}
			p := startPush(t, hubTrigger("many", ""), "", s.push("BINDING_TIMEOUT=8", "FAILED_STORAGE_CONNECTION_STRING=file://"+filepath.ToSlash(spare)))
			stored := func() int64 { return s.events }
			if test.down == 0 {
				p.await(t, "store apart", func() bool {
					return len(p.Results()) > 0 && strings.Contains(p.output.String(), "stored messages apart")
				})
				gate.open()
				stored = func() int64 { return s.apart(t, p, spare) }
			}
			p.await(t, "deliver", s.done(p))
			for _, r := range p.Results() {
				if r.Err != nil || r.Took > 8*time.Second {
					t.Errorf("%+v", r)
				}
			}
			blobs, err := store.Open(t.Context(), store.Options{Location: connection, Container: s.settings["PERSISTOR_CONTAINER_NAME"]})
			if err != nil {
				t.Fatal(err)
			}
			found, err := audit.Run(t.Context(), blobs, hubName, audit.Expectation{Partitions: map[string]work.Range{"0": {From: 0, To: s.events - 1}}, Contents: madeUp{s}})
			if err != nil || found.Messages != stored() || found.Duplicates != 0 || found.Altered != 0 {
				t.Errorf("%d are stored, expected %d: %v: %+v", found.Messages, stored(), err, found)
			}
		})
	}
}

// apart checks what is stored apart, and says how many messages that leaves.
func (s *site) apart(t *testing.T, p *pushed, dir string) int64 {
	t.Helper()
	spare, err := store.OpenDir(filepath.Join(dir, s.settings["PERSISTOR_CONTAINER_NAME"]), false)
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Close()
	found, err := audit.Run(t.Context(), spare, "_failed/"+hubName, audit.Expectation{Partitions: map[string]work.Range{}, Contents: madeUp{s}})
	if err != nil || found.Messages == 0 || found.Altered != 0 || found.Duplicates != 0 {
		t.Errorf("apart: %v: %+v", err, found)
	}
	if !strings.Contains(p.output.String(), "FAILED_STORAGE_CONNECTION_STRING") {
		t.Error("the log doesn't say where")
	}
	return s.events - found.Messages
}

// The host writes the blob of the output binding, under a name made of what identifies the event.
func TestPushedHubAsOutput(t *testing.T) {
	t.Parallel()
	connection := azuritetest.Run(t)
	s := newSite(t, 1, 20)
	name := azuritetest.Container(t)
	p := startPush(t, hubTrigger("one", `,{"type":"blob","direction":"out","name":"blob","connection":"PERSISTOR_STORAGE_CONNECTION_STRING","path":"`+hubPath+`"}`), "",
		s.push("PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "PERSISTOR_CONTAINER_NAME="+name, "PERSISTOR_OUTPUT_BINDING=TRUE", "STORE_PARAM=kept"))
	p.await(t, "deliver", s.done(p))
	delivered := len(p.Results())
	if err := p.Rewind(pushFunction, "0", 10); err != nil {
		t.Fatal(err)
	}
	p.await(t, "deliver again", func() bool { return len(p.Results()) >= delivered+10 && s.done(p)() })
	blobs, err := store.Open(t.Context(), store.Options{Location: connection, Container: name})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for b, err := range blobs.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, b.Name)
		content, err := blobs.Open(t.Context(), b.Name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := record.NewReader(content, 1<<20).Next()
		content.Close()
		if err != nil || !strings.HasSuffix(b.Name, fmt.Sprintf("/0-%d.txt", m.SequenceNumber)) || string(m.Body.Data[0]) != string(eventBody(nil, "0", m.SequenceNumber)) {
			t.Errorf("%s: %+v, %v", b.Name, m, err)
		}
	}
	if len(names) != 20 || !strings.HasPrefix(names[0], "kept/2026/11/2") {
		t.Errorf("%q", names)
	}
}

// hubPath is the path of a blob that the host writes for an event.
const hubPath = "%PERSISTOR_CONTAINER_NAME%/%STORE_PARAM%/{EnqueuedTimeUtc:yyyy}/{EnqueuedTimeUtc:MM}/{EnqueuedTimeUtc:dd}/{PartitionContext.PartitionId}-{SequenceNumber}.txt"

// queueTrigger is a function.json that a queue triggers.
func queueTrigger(cardinality string) string {
	return `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"message","queueName":"%SERVICE_BUS_BINDING_QUEUE_NAME%",` +
		`"connection":"SERVICE_BUS_BINDING_CONNECTION_STRING","dataType":"binary","cardinality":"` + cardinality + `"}]}`
}

// push are the settings of a push program that stores what comes of the site's queue.
func (s *queueSite) push(more ...string) settings {
	all := settings{}
	for _, name := range []string{"PERSISTOR_STORAGE_CONNECTION_STRING", "PERSISTOR_CONTAINER_NAME", "PERSISTOR_CREATE_CONTAINER", "GET_METADATA"} {
		all[name] = s.settings[name]
	}
	return all.with("BINDING_SERVICE=SERVICE_BUS", "SERVICE_BUS_BINDING_QUEUE_NAME=orders", "SERVICE_BUS_BINDING_CONNECTION_STRING="+s.bus.ConnectionString()).with(more...)
}

// Messages of a queue are stored once and completed, whatever happens to the program on the way.
func TestPushedQueueIsStoredOnce(t *testing.T) {
	for _, cardinality := range []string{"one", "many"} {
		for _, kill := range []string{"", "before create:5", "after create:5", "before append:9", "after append:9"} {
			if testing.Short() && cardinality == "one" && kill != "" {
				continue
			}
			t.Run(cardinality+" "+kill, func(t *testing.T) {
				t.Parallel()
				s := newQueueSite(t, emulator.Queue{MaxDeliveryCount: 1000})
				s.put(t, 1, 300, 0)
				p := startPush(t, queueTrigger(cardinality), `,"extensions":{"serviceBus":{"maxMessageBatchSize":10,"maxConcurrentCalls":4}}`, s.push("KILL_AT="+kill, "APPEND="+strconv.FormatBool(strings.Contains(kill, "append"))))
				p.await(t, "deliver", func() bool {
					info, err := s.bus.Queue(s.path)
					return err == nil && info.Active == 0 && info.Locked == 0
				})
				s.once(t, 300)
				if n := strings.Count(p.output.String(), "listening"); kill != "" && n < 3 {
					t.Errorf("the program began %d times: the step is not on the way", n)
				}
				holdings, _ := s.blobs(t)
				if slices.ContainsFunc(holdings, func(h record.Holding) bool { return !h.Unsettled }) {
					t.Error("a blob says that its messages are settled, which nobody knows")
				}
			})
		}
	}
}

// The host writes the blob of a queue's message, too, under its sequence number.
func TestPushedQueueAsOutput(t *testing.T) {
	t.Parallel()
	connection := azuritetest.Run(t)
	s := newQueueSite(t, emulator.Queue{})
	s.put(t, 1, 10, 0)
	name := azuritetest.Container(t)
	path := "%PERSISTOR_CONTAINER_NAME%/%STORE_PARAM%/{EnqueuedTimeUtc:yyyy}/{EnqueuedTimeUtc:MM}/{EnqueuedTimeUtc:dd}/{SequenceNumber}.txt"
	trigger := strings.TrimSuffix(queueTrigger("one"), "]}") + `,{"type":"blob","direction":"out","name":"blob","connection":"PERSISTOR_STORAGE_CONNECTION_STRING","path":"` + path + `"}]}`
	p := startPush(t, trigger, "", s.push("PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "PERSISTOR_CONTAINER_NAME="+name, "PERSISTOR_OUTPUT_BINDING=TRUE", "STORE_PARAM=kept"))
	p.await(t, "deliver", func() bool {
		info, err := s.bus.Queue(s.path)
		return err == nil && info.Active == 0 && info.Locked == 0
	})
	blobs, err := store.Open(t.Context(), store.Options{Location: connection, Container: name})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for b, err := range blobs.List(t.Context(), "kept/") {
		if n++; err != nil || b.Size == 0 {
			t.Errorf("%s: %d bytes, %v", b.Name, b.Size, err)
		}
	}
	if n != 10 {
		t.Errorf("%d blobs, expected 10", n)
	}
}

// Events of Event Grid are stored once, however often they are delivered, and whatever happens on the way.
func TestPushedEventsAreStoredOnce(t *testing.T) {
	for _, test := range []struct{ cardinality, kill string }{{"one", "after create:45"}, {"many", "after create:45"}, {"many", "before append:2"}, {"many", "after append:2"}} {
		t.Run(test.cardinality+" "+test.kill, func(t *testing.T) {
			t.Parallel()
			appends := strings.Contains(test.kill, "append")
			dir := t.TempDir()
			trigger := `{"bindings":[{"type":"eventGridTrigger","direction":"in","name":"message","cardinality":"` + test.cardinality + `"}]}`
			s := settings{
				"BINDING_SERVICE": "EVENT_GRID", "PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + filepath.ToSlash(dir), "PERSISTOR_CONTAINER_NAME": "blobs",
				"PERSISTOR_CREATE_CONTAINER": "TRUE", "KILL_AT": test.kill, "APPEND": strconv.FormatBool(appends),
			}
			p := startPush(t, trigger, "", s)
			for first := 1; first <= 41; first += 20 { // overlapping by half
				var events []json.RawMessage
				for n := first; n < first+40; n++ {
					events = append(events, json.RawMessage(fmt.Sprintf(`{"id":"%d","topic":"/subscriptions/5/t","subject":"s","eventType":"e","eventTime":"2026-11-24T23:59:58Z","data":{"n":%d},"dataVersion":"1"}`, n, n)))
				}
				for attempt := 0; p.Deliver(t.Context(), pushFunction, events...) != nil; attempt++ {
					if attempt > 50 {
						t.Fatalf("not delivered: %s", &p.output)
					}
				}
			}
			blobs, err := store.OpenDir(filepath.Join(dir, "blobs"), false)
			if err != nil {
				t.Fatal(err)
			}
			defer blobs.Close()
			n := int64(0)
			for b, err := range blobs.List(t.Context(), "") {
				e, parseErr := record.ParseEvent(b.Metadata)
				if err != nil || parseErr != nil || !strings.HasPrefix(b.Name, "5/2026/11/24/235958-") || !appends && e.Count != 1 {
					t.Errorf("%s: %+v, %v, %v", b.Name, e, err, parseErr)
				}
				n += e.Count
			}
			if n != 80 {
				t.Errorf("%d events are stored, expected 80", n)
			}
			for _, deep := range []bool{false, true} {
				found, err := audit.Container(t.Context(), blobs, audit.Scope{Deep: deep}, audit.Expectation{})
				if err != nil || !found.Complete || found.Messages != 80 || found.Folders[0].Events.Messages != 80 {
					t.Errorf("verified: %v, %+v", err, found)
				}
			}
			if n := strings.Count(p.output.String(), "listening"); n < 3 && !appends || n < 2 {
				t.Errorf("the program began %d times: the step is not on the way", n)
			}
		})
	}
}
