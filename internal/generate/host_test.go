package generate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"persistor/emulator"
	"persistor/functions"
	"persistor/internal/app"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/host/hosttest"
)

// runProgram runs one of the real programs, for the test binary is the handler of the apps that tests generate.
func runProgram(name string) int {
	programs := map[string]func(context.Context) int{
		"worker":  func(ctx context.Context) int { return app.Main(ctx, app.OpenWorker) },
		"invoker": func(ctx context.Context) int { return app.Main(ctx, app.OpenInvoker) },
		"push":    func(ctx context.Context) int { return app.Main(ctx, app.OpenPush) },
	}
	return programs[name](context.Background())
}

// site is what function apps are attached to.
type site struct {
	emulator *emulator.Emulator
	output   string // the folder of the apps
	stored   string // the folder of the blobs
}

func newSite(t *testing.T, config string) *site {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the test's own program stands for the handlers, and has to be a Linux program")
	}
	e, err := emulator.Start(emulator.Options{
		Hubs:   []emulator.Hub{{Name: "rides"}},
		Queues: []emulator.Queue{{Name: "orders"}},
		Topics: []emulator.Topic{{Name: "prices", Subscriptions: []emulator.Subscription{{Name: "all"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s := &site{emulator: e, output: t.TempDir(), stored: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := t.TempDir()
	for _, program := range functions.Programs() {
		if err := os.Symlink(self, filepath.Join(programs, program)); err != nil {
			t.Fatal(err)
		}
	}
	generateInto(t, s.output, config, func(o *Options) { o.Handler = programs })
	return s
}

// host runs the app of a name as it was generated, with what a user fills in.
func (s *site) host(t *testing.T, name, program string, more ...string) *hosttest.Host {
	t.Helper()
	settings := map[string]string{
		"PERSISTOR_TEST_PROCESS":              program,
		"PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + s.stored, "PERSISTOR_CONTAINER_NAME": "messages", "PERSISTOR_CREATE_CONTAINER": "TRUE",
		"EVENT_HUB_NAME_BINDING": "rides", "EVENT_HUB_BINDING_CONNECTION_STR": s.emulator.ConnectionString(),
		"SERVICE_BUS_BINDING_QUEUE_NAME": "orders", "SERVICE_BUS_BINDING_CONNECTION_STRING": s.emulator.ConnectionString(),
		"EVENT_HUB_NAME": "rides", "EVENT_HUB_CONN_STRING": s.emulator.ConnectionString(), "EVENT_HUB_CHECKPOINT_CONTAINER": "checkpoints",
		"SERVICE_BUS_QUEUE_NAME": "orders", "SERVICE_BUS_CONNECTION_STRING": s.emulator.ConnectionString(),
	}
	for i := 0; i < len(more); i += 2 {
		settings[more[i]] = more[i+1]
	}
	h, err := hosttest.Start(t.Context(), hosttest.Options{Folder: filepath.Join(s.output, name), Settings: settings, Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// records counts the records of all blobs that are stored, and those that hold the first message as it was.
func (s *site) records(t *testing.T) (all, first int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.stored, "messages"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".txt" && !strings.Contains(path, "/.") {
			all += strings.Count(string(read(t, path)), `{"DATA":`)
			first += strings.Count(string(read(t, path)), `{"DATA":"`+firstBody+`"`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, first
}

// firstBody is the body of the first message, which is no text, as a record has it.
const firstBody = "bWVzc2FnZSAwIP8="

// put sends messages to the hub, the queue and the topic.
func (s *site) put(t *testing.T, count int) {
	t.Helper()
	for i := range count {
		body := fmt.Appendf(nil, "message %d \xff", i)
		if err := s.emulator.Put("rides", "0", emulator.Event{Body: body, Enqueued: time.Date(2026, 11, 25, 10, 11, 12, 0, time.UTC)}); err != nil {
			t.Fatal(err)
		}
		for _, entity := range []string{"orders", "prices/Subscriptions/all"} {
			if err := s.emulator.PutMessages(entity, emulator.QueueMessage{Body: body}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// await waits until the condition holds. No invocation may fail.
func await(t *testing.T, h *hosttest.Host, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Await(ctx, condition); err != nil {
		t.Error(err)
	}
	for _, r := range h.Results() {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Function, r.Err)
		}
	}
}

// awaitRecords waits until so many messages are stored.
func (s *site) awaitRecords(t *testing.T, h *hosttest.Host, want int) {
	t.Helper()
	await(t, h, func() bool { all, _ := s.records(t); return all >= want })
	if all, first := s.records(t); all != want || first != 1 {
		t.Errorf("%d messages are stored, and the first %d times, want %d and once", all, first, want)
	}
}

// Every push app that can be generated runs under the host as it is written, and stores what comes.
func TestPushAppsRun(t *testing.T) {
	const batch = 100 // what event-hub-many waits for
	for _, test := range []struct {
		options  string
		messages int
	}{
		{"source: event-hub, cardinality: one", 3},
		{"source: event-hub, cardinality: many", batch},
		{"source: service-bus-queue, cardinality: one", 3},
		{"source: service-bus-queue, cardinality: many", batch},
		{"source: service-bus-topic, cardinality: one", 3},
		{"source: service-bus-topic, cardinality: many", batch},
	} {
		t.Run(test.options, func(t *testing.T) {
			s := newSite(t, "apps: [{name: a, approach: push, metadata: true, "+test.options+"}]")
			s.put(t, test.messages)
			h := s.host(t, "a", "push", entityOf(test.options)...)
			s.awaitRecords(t, h, test.messages)
			if strings.HasSuffix(test.options, "one") {
				await(t, h, func() bool { return len(h.Results()) == test.messages })
			} else if n := len(h.Results()); n == test.messages {
				t.Errorf("%d invocations for as many messages", n)
			}
		})
	}
}

// entityOf are the settings by which an app reads a topic and no queue.
func entityOf(options string) []string {
	if !strings.Contains(options, "topic") {
		return nil
	}
	return []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_TOPIC_NAME", "prices", "SERVICE_BUS_BINDING_SUB_NAME", "all",
		"SERVICE_BUS_QUEUE_NAME", "", "SERVICE_BUS_TOPIC_NAME", "prices", "SERVICE_BUS_SUB_NAME", "all"}
}

func TestEventGridAppsRun(t *testing.T) {
	event := func(id string) json.RawMessage {
		return json.RawMessage(`{"id": "` + id + `", "topic": "/subscriptions/7c02/resourceGroups/g", "subject": "s", "eventType": "t", "eventTime": "2026-11-25T10:11:12Z", "dataVersion": "1", "data": {"a": 1}}`)
	}
	for _, cardinality := range []string{"one", "many"} {
		s := newSite(t, "apps: [{name: a, source: event-grid, cardinality: "+cardinality+"}]")
		h := s.host(t, "a", "push")
		for range 2 { // the second delivery repeats the first
			if err := h.Deliver(t.Context(), "persist", event("1"), event("2")); err != nil {
				t.Errorf("%s: %v", cardinality, err)
			}
		}
		if n, _ := s.records(t); n != 2 {
			t.Errorf("%s: %d events are stored, want 2", cardinality, n)
		}
	}
}

// The host writes the blobs of an output binding, by names that are those of the messages.
func TestOutputBindingAppsRun(t *testing.T) {
	azurite := azuritetest.Run(t)
	client, err := azblob.NewClientFromConnectionString(azurite, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ source, first string }{
		{"event-hub", "event-hub/2026/11/25/0-0.txt"},
		{"service-bus-queue", "/1.txt"},
		{"service-bus-topic", "/1.txt"},
	} {
		t.Run(test.source, func(t *testing.T) {
			container := azuritetest.Container(t)
			s := newSite(t, "apps: [{name: a, approach: push, output: binding, source: "+test.source+"}]")
			s.put(t, 2)
			h := s.host(t, "a", "push", append(entityOf(test.source), "PERSISTOR_STORAGE_CONNECTION_STRING", azurite, "PERSISTOR_CONTAINER_NAME", container)...)
			await(t, h, func() bool { return len(h.Results()) >= 2 })
			var names []string
			for pages := client.NewListBlobsFlatPager(container, nil); pages.More(); {
				page, err := pages.NextPage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range page.Segment.BlobItems {
					names = append(names, *b.Name)
				}
			}
			if len(names) != 2 || !strings.HasPrefix(names[0], test.source+"/") || !strings.HasSuffix(names[0], test.first) {
				t.Fatalf("blobs %q, want 2, and the first to be ...%s", names, test.first)
			}
			content := make([]byte, 1000)
			n, err := client.DownloadBuffer(t.Context(), container, names[0], content, nil)
			if want := `{"DATA":"` + firstBody + `"`; err != nil || !strings.HasPrefix(string(content[:n]), want) {
				t.Errorf("%s has %s, %v, want it to begin with %s", names[0], content[:n], err, want)
			}
		})
	}
}

// An invoker's app calls its workers', and both answer on their routes.
func TestPullAppsRun(t *testing.T) {
	azurite := azuritetest.Run(t) // the invoker's queue is there
	for _, source := range []string{"event-hub", "service-bus-queue", "service-bus-topic"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel() // a queue is drained after 3 s of silence
			s := newSite(t, "apps: [{name: a, approach: pull, invoker: true, source: "+source+"}]")
			s.put(t, 50)
			workers := s.host(t, "a", "worker", entityOf(source)...)
			invoker := s.host(t, "a-invoker", "invoker", append(entityOf(source), "FUNC_TO_INVOKE", workers.URL()+"/api/pull?code="+workers.FunctionKey(),
				"PERSISTOR_STORAGE_CONNECTION_STRING", azurite)...)
			get(t, workers.URL()+"/api/status?code="+workers.FunctionKey(), `"busy":0`)
			get(t, invoker.URL()+"/api/invoke?N=1&code="+invoker.FunctionKey(), `"status":"ok"`)
			if all, first := s.records(t); all != 50 || first != 1 {
				t.Errorf("%d messages are stored, and the first %d times, want 50 and once", all, first)
			}
		})
	}
}

// get expects an answer of 200 with some text in it.
func get(t *testing.T, url, want string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(answer), want) {
		t.Fatalf("%s: %d %s, %v, want 200 and %s", url, response.StatusCode, answer, err, want)
	}
}
