package generate

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"persistor/internal/azurite/azuritetest"
)

// Every push app that can be generated runs under the host as it is written, and stores what comes.
func TestPushAppsRun(t *testing.T) {
	t.Parallel()
	const batch = 100 // more than event-hub-many waits for
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
	t.Parallel()
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
	t.Parallel()
	azurite := azuritetest.Run(t)
	client, err := azblob.NewClientFromConnectionString(azurite, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ source, first string }{
		{"event-hub", "event-hub/2026/11/25/rides/0/101112-0.txt"},
		{"service-bus-queue", "-1.txt"},
		{"service-bus-topic", "-1.txt"},
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
	t.Parallel()
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
