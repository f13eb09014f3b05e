package app

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/fanout"
	"persistor/internal/store"
	"persistor/internal/work"
)

// pair is a worker and an invoker that calls it.
func (s *site) pair(t testing.TB, more ...string) (worker, invoker *process) {
	t.Helper()
	worker = start(t, "worker", s.settings.with(more...))
	invoker = start(t, "invoker", s.settings.with(more...).with("FUNC_TO_INVOKE="+worker.url+"/api/pull", "DELAY_BETWEEN_FUNCS=0"))
	return worker, invoker
}

func TestInvokeDrainsEverything(t *testing.T) {
	t.Parallel()
	s := newSite(t, 4, 5000)
	_, invoker := s.pair(t, "GET_METADATA=TRUE", "WORKER_CONCURRENCY=4")
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke?N=3", "", &report)
	if status != 200 || report.Status != fanout.OK || report.Messages != 20_000 || len(report.Units) != 3 || report.RemainingBacklog != 0 {
		t.Fatalf("status %d: %s", status, text)
	}
	s.audit(t, hubName)

	// Nothing is left: an empty report, and well.
	if status, text := call(t, invoker.url+"/api/invoke", "", &report); status != 200 || report.Messages != 0 || len(report.Units) != 0 {
		t.Fatalf("second run: status %d: %s", status, text)
	}
}

func TestPlainPullPlansForItself(t *testing.T) {
	s := newSite(t, 3, 2000)
	worker := start(t, "worker", s.settings.with("GET_METADATA=TRUE"))
	var report work.Report
	if status, text := call(t, worker.url+"/api/pull?N=2&batch_store_size=500", "", &report); status != 200 || report.Messages != 6000 || report.Blobs != 12 {
		t.Fatalf("status %d: %s", status, text)
	}
	s.audit(t, hubName)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, 10)
	worker, invoker := s.pair(t)
	for _, test := range []struct {
		url, body string
		status    int
		says      []string // all of which the error has to say
	}{
		{"/api/invoke?N=0", "", 400, []string{"N"}},
		{"/api/invoke?N=-1", "", 400, []string{"N"}},
		{"/api/invoke?N=abc", "", 400, []string{"N"}},
		{"/api/invoke?N=1000000000", "", 400, []string{"N", "1024"}},
		{"/api/invoke?N_per_func=0", "", 400, []string{"N_per_func"}},
		{"/api/invoke?batch_store_size=0", "", 400, []string{"batch_store_size"}},
		{"/api/invoke?n=1", "", 400, []string{"n", "N"}},
		{"/api/invoke", `{`, 400, []string{"JSON"}},
		{"/api/invoke", `{"hub":"another"}`, 400, []string{"hub"}},
		{"/api/invoke", `{"partitions":["9"]}`, 400, []string{"9", "0, 1"}},
		{"/api/invoke", `{"N":1}` + strings.Repeat(" ", 2<<20), 413, []string{"1"}},
		{"/api/elsewhere", "", 404, []string{"/api/invoke"}},
		{"worker/api/pull?N=0", "", 400, []string{"N"}},
		{"worker/api/pull", `{"run":"r","unit":0,"partitions":["0"],"owner_level":1,"container":"x"}`, 400, []string{"container"}},
		{"worker/api/pull", `{"run":"../r","unit":0,"partitions":["0"],"owner_level":1}`, 400, []string{"run"}},
	} {
		url, onWorker := strings.CutPrefix(test.url, "worker")
		if onWorker {
			url = worker.url + url
		} else {
			url = invoker.url + url
		}
		var answer struct{ Error string }
		status, text := call(t, url, test.body, &answer)
		if status != test.status {
			t.Errorf("%s %.60s: status %d, expected %d: %s", test.url, test.body, status, test.status, text)
		}
		for _, word := range test.says {
			if !strings.Contains(answer.Error, word) {
				t.Errorf("%s %.60s: the error does not say %q: %s", test.url, test.body, word, text)
			}
		}
	}

	// A partition that isn't there, when asked of the worker itself, fails that partition and says so.
	var report work.Report
	status, text := call(t, worker.url+"/api/pull", `{"run":"r","unit":0,"partitions":["9","0"],"owner_level":1}`, &report)
	if status != 502 || report.Sources[0].Ended != work.Failed || report.Sources[1].Ended != work.Drained || !strings.Contains(report.Sources[0].Error, "9") {
		t.Errorf("unknown partition: status %d: %s", status, text)
	}
	t.Log(report.Sources[0].Error)
}

func TestWrongHubAndKey(t *testing.T) {
	s := newSite(t, 1, 10)
	for _, test := range []struct{ name, setting, says string }{
		{"unknown hub", "EVENT_HUB_NAME=nothere", "EVENT_HUB_NAME"},
		{"wrong key", "EVENT_HUB_CONN_STRING=" + s.hub.ConnectionStringFor("RootManageSharedAccessKey", "d3Jvbmcga2V5IHRoYXQgaXMgbm90IHJpZ2h0"), "EVENT_HUB_CONN_STRING"},
		{"unknown key", "EVENT_HUB_CONN_STRING=" + s.hub.ConnectionStringFor("nobody", "d3Jvbmcga2V5IHRoYXQgaXMgbm90IHJpZ2h0"), "EVENT_HUB_CONN_STRING"},
		{"unknown group", "EVENT_HUB_CONSUMER_GROUP=nothere", "EVENT_HUB_CONSUMER_GROUP"},
		{"hub out of reach", "EVENT_HUB_CONN_STRING=Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=k;SharedAccessKey=d3Jvbmcga2V5IHRoYXQgaXMgbm90IHJpZ2h0;UseDevelopmentEmulator=true", "127.0.0.1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, invoker := s.pair(t, test.setting, "INVOKER_TIMEOUT=12", "WORKER_TIMEOUT=10")
			began := time.Now()
			var report fanout.Report
			status, text := call(t, invoker.url+"/api/invoke?exclusive=false", "", &report)
			if status != 502 || report.Status != fanout.Failed || !strings.Contains(text, test.says) {
				t.Errorf("status %d, expected 502 and %q: %s", status, test.says, text)
			}
			if took := time.Since(began); took > 12*time.Second {
				t.Errorf("answered after %v, later than its budget", took)
			}
			if strings.Contains(text, "d3Jvbmc") || strings.Contains(text, "\\n") || strings.Contains(text, "TrackingId") {
				t.Errorf("a secret, several lines or noise: %s", text)
			}
			t.Log(text)
		})
	}
}

func TestContainerMustExist(t *testing.T) {
	s := newSite(t, 1, 10)
	_, err := tryStart(t, "worker", s.settings.with("PERSISTOR_CREATE_CONTAINER="))
	if err == nil || !strings.Contains(err.Error(), "PERSISTOR_CREATE_CONTAINER") || !strings.Contains(err.Error(), "PERSISTOR_CONTAINER_NAME") {
		t.Fatalf("a missing container: %v", err)
	}
	t.Log(err)
	if _, err := os.Stat(filepath.Join(s.dir, "blobs")); err == nil {
		t.Error("it was created all the same")
	}
	start(t, "worker", s.settings)
	if _, err := os.Stat(filepath.Join(s.dir, "blobs")); err != nil {
		t.Errorf("PERSISTOR_CREATE_CONTAINER=TRUE: %v", err)
	}
}

func TestSettingsAreReportedAtOnce(t *testing.T) {
	s := newSite(t, 1, 10)
	worker, err := tryStart(t, "worker", s.settings.with("BATCH_AGE=soon", "BATCH_COUNT=0", "EVENT_HUB_CHECKPOINT_CONTAINER=", "EVENT_HUB_CONN_STRING=Endpoint=sb://x/;SharedAccessKey=c2VjcmV0c2VjcmV0"))
	if err == nil {
		worker.kill()
		t.Fatal("started with wrong settings")
	}
	for _, setting := range []string{"BATCH_AGE", "BATCH_COUNT", "EVENT_HUB_CHECKPOINT_CONTAINER", "EVENT_HUB_CONN_STRING", "ended with 2"} {
		if !strings.Contains(err.Error(), setting) {
			t.Errorf("does not say %s: %v", setting, err)
		}
	}
	if strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("shows the key: %v", err)
	}
}

func TestKeyIsRequired(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, 10)
	const key = "0123456789abcdef-test-key"
	worker, invoker := s.pair(t, "WORKER_KEY="+key)
	for _, url := range []string{worker.url + "/api/pull", worker.url + "/api/status", invoker.url + "/api/invoke"} {
		for _, header := range [][]string{nil, {"x-functions-key", "wrong"}} {
			if status, text := call(t, url, "", nil, header...); status != 401 || !strings.Contains(text, "x-functions-key") {
				t.Errorf("%s with %v: status %d: %s", url, header, status, text)
			}
		}
	}
	if status, _ := call(t, worker.url+"/", "", nil); status != 200 {
		t.Errorf("the probe needs no key: status %d", status)
	}
	var report fanout.Report
	if status, text := call(t, invoker.url+"/api/invoke", "", &report, "x-functions-key", key); status != 200 || report.Messages != 10 {
		t.Errorf("with the key: status %d: %s", status, text)
	}
}

func TestDroppedConnections(t *testing.T) {
	s := newSite(t, 4, 40_000)
	worker := start(t, "worker", s.settings.with("BATCH_COUNT=1000", "GET_METADATA=TRUE", "EVENT_HUB_PREFETCH=300"))
	done := make(chan struct{})
	var dropping sync.WaitGroup
	dropping.Go(func() {
		for ticker := time.NewTicker(250 * time.Millisecond); ; {
			select {
			case <-done:
				ticker.Stop()
				return
			case <-ticker.C:
				s.hub.DropConnections()
			}
		}
	})
	var report work.Report
	status, text := call(t, worker.url+"/api/pull", s.unit("drops", 4, 1), &report)
	close(done)
	dropping.Wait()
	for attempt := 0; status != 200 && attempt < 5; attempt++ { // the first question may have met a drop
		status, text = call(t, worker.url+"/api/pull", s.unit("drops", 4, int64(2+attempt)), &report)
	}
	if status != 200 || !drained(report) {
		t.Fatalf("status %d: %s", status, text)
	}
	s.audit(t, hubName)
}

// A link that the service detaches, for any reason but another owner, is opened again.
func TestDetachedLinks(t *testing.T) {
	s := newSite(t, 2, 30_000)
	worker := start(t, "worker", s.settings.with("BATCH_COUNT=1000", "GET_METADATA=TRUE", "EVENT_HUB_PREFETCH=300"))
	done := make(chan struct{})
	var detaching sync.WaitGroup
	detaching.Go(func() {
		for ticker := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-done:
				ticker.Stop()
				return
			case <-ticker.C:
				s.hub.DetachLinks(func(l emulator.Link) bool { return strings.Contains(l.Address, "Partitions") }, "amqp:link:detach-forced", "the test did it")
			}
		}
	})
	var report work.Report
	status, text := call(t, worker.url+"/api/pull", s.unit("detach", 2, 1), &report)
	close(done)
	detaching.Wait()
	if status != 200 || !drained(report) {
		t.Fatalf("status %d: %s", status, text)
	}
	s.audit(t, hubName)
}

// At its deadline a loop stores and settles what it holds, and says what is left.
func TestDeadline(t *testing.T) {
	s := newSite(t, 2, 5_000_000)
	worker := start(t, "worker", s.settings)
	began := time.Now()
	var report work.Report
	body := strings.TrimSuffix(s.unit("deadline", 2, 1), "}") + `,"budget_seconds":3}`
	status, text := call(t, worker.url+"/api/pull", body, &report)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("answered after %v with a budget of 3 s", took)
	}
	if status != 200 {
		t.Fatalf("status %d: %s", status, text)
	}
	for _, source := range report.Sources {
		if source.Ended != work.Deadline || source.Messages == 0 || source.Checkpoint+1 != source.Messages || source.Backlog != s.events-source.Messages {
			t.Errorf("%+v", source)
		}
	}
}

// SIGTERM is a deadline that comes at once.
func TestTerminated(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, 5_000_000)
	worker := start(t, "worker", s.settings)
	answered := make(chan string, 1)
	go func() {
		_, text, err := tryCall(worker.url+"/api/pull", s.unit("term", 1, 1))
		if err != nil {
			text = err.Error()
		}
		answered <- text
	}()
	waitFor(t, "messages to be stored", func() bool {
		_, text, err := tryCall(worker.url+"/api/status", "")
		return err == nil && strings.Contains(text, `"partition":"0"`) && !strings.Contains(text, `"stored":0,`)
	})
	if status := worker.terminate(t); status != 0 {
		t.Errorf("exit status %d: %s", status, worker.stderr)
	}
	if text := <-answered; !strings.Contains(text, `"ended":"cancelled"`) || strings.Contains(text, `"messages":0,`) {
		t.Errorf("the call in flight was answered with: %s", text)
	}
}

// An invoker answers within its own budget, whatever its workers do.
func TestHangingWorker(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, 1000)
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hanging.Close()
	defer close(release)
	good := start(t, "worker", s.settings)
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+good.url+"/api/pull,"+hanging.URL+"/api/pull", "INVOKER_TIMEOUT=5", "DELAY_BETWEEN_FUNCS=0"))
	began := time.Now()
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke?N=2", "", &report)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("answered after %v with a budget of 5 s", took)
	}
	if status != 502 || report.Messages != 1000 || report.RemainingBacklog != 1000 || report.Units[1].Status != fanout.Failed || report.Units[0].Status != fanout.OK {
		t.Errorf("status %d: %s", status, text)
	}
	t.Log(report.Units[1].Error)
}

// Storage that is away for a while delays a run; one that is away for longer than the deadline fails
// it, and the next run stores everything. Nothing is stored twice in either case.
func TestStorageDown(t *testing.T) {
	connection := azuritetest.Run(t)
	gate, connection := newGate(t, connection)
	s := newSite(t, 2, 20_000)
	s.settings = s.settings.with("PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "BATCH_COUNT=1000",
		"PERSISTOR_CONTAINER_NAME="+azuritetest.Container(t), "EVENT_HUB_CHECKPOINT_CONTAINER="+azuritetest.Container(t), "GET_METADATA=TRUE")
	worker := start(t, "worker", s.settings)

	gate.shutAfter(5) // requests, so that it is in the middle
	began := time.Now()
	var report work.Report
	body := strings.TrimSuffix(s.unit("down", 2, 1), "}") + `,"budget_seconds":4}`
	status, text := call(t, worker.url+"/api/pull", body, &report)
	if took := time.Since(began); took > 4500*time.Millisecond {
		t.Errorf("answered after %v with a budget of 4 s", took)
	}
	if status != 502 || !strings.Contains(text, `"ended":"failed"`) {
		t.Errorf("storage down beyond the deadline: status %d: %s", status, text)
	}
	t.Log(report.Sources[0].Error)

	time.AfterFunc(5*time.Second, gate.open)
	began = time.Now()
	for level := int64(2); ; level++ {
		status, text = call(t, worker.url+"/api/pull", s.unit("up", 2, level), &report)
		if status == 200 {
			break
		}
		if time.Since(began) > 40*time.Second {
			t.Fatalf("still not drained: status %d: %s", status, text)
		}
	}
	if time.Since(began) < 4*time.Second {
		t.Error("drained before storage was back")
	}
	blobs, err := store.Open(t.Context(), store.Options{Location: connection, Container: s.settings["PERSISTOR_CONTAINER_NAME"]})
	if err != nil {
		t.Fatal(err)
	}
	found, err := audit.Run(t.Context(), blobs, hubName, audit.Expectation{
		Partitions: map[string]work.Range{"0": {From: 0, To: s.events - 1}, "1": {From: 0, To: s.events - 1}}, Contents: madeUp{s},
	})
	if err != nil || !found.Complete {
		t.Errorf("the audit does not hold: %v: %+v", err, found)
	}
}

// waitFor waits until a condition holds.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ticker := time.NewTicker(10 * time.Millisecond); ; {
		if condition() {
			ticker.Stop()
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
