package app

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"

	"persistor/emulator"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/store"
)

// turnstile stands before a worker, and lets no unit through until it is opened.
type turnstile struct {
	url  string
	open chan struct{}
	mu   sync.Mutex
	runs []string // of the units that came, in their order
}

func newTurnstile(t *testing.T, worker *process) *turnstile {
	t.Helper()
	target, err := url.Parse(worker.url)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // callers are killed
	s := &turnstile{open: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.runs = append(s.runs, r.Header.Get(fanout.RunHeader))
		s.mu.Unlock()
		select {
		case <-s.open:
			forward.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { s.let() })
	s.url = server.URL + "/api/pull"
	return s
}

// let opens it for good.
func (s *turnstile) let() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.open:
	default:
		close(s.open)
	}
}

// waits returns the run of the n-th unit, once it has come.
func (s *turnstile) waits(t testing.TB, n int) (run string) {
	t.Helper()
	waitFor(t, "a unit of the run", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.runs) >= n {
			run = s.runs[n-1]
		}
		return run != ""
	})
	return run
}

// answered is what a call came to.
type answered struct {
	status int
	text   string
	err    error
}

func inBackground(url, body string) chan answered {
	done := make(chan answered, 1)
	go func() {
		status, text, err := tryCall(url, body)
		done <- answered{status, text, err}
	}()
	return done
}

// storages are where a lease may be kept, as settings.
func storages(t *testing.T) map[string][]string {
	return map[string][]string{
		"directory": nil,
		"azure": {"PERSISTOR_STORAGE_CONNECTION_STRING=" + azuritetest.Run(t),
			"PERSISTOR_CONTAINER_NAME=" + azuritetest.Container(t), "EVENT_HUB_CHECKPOINT_CONTAINER=" + azuritetest.Container(t)},
	}
}

// Two invokers, one run at a time: who comes second is told who was first, unless it wants to run all the
// same.
func TestRunsExcludeEachOther(t *testing.T) {
	for name, storage := range storages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2, 2000)
			s.settings = s.settings.with(storage...).with("GET_METADATA=TRUE", "WORKER_CONCURRENCY=4", "DELAY_BETWEEN_FUNCS=0", "LOG_LEVEL=info")
			gate := newTurnstile(t, start(t, "worker", s.settings))
			first := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+gate.url))
			second := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+gate.url))

			began := time.Now().Truncate(time.Second)
			done := inBackground(first.url+"/api/invoke?N=1", "")
			run := gate.waits(t, 1)
			for _, invoker := range []*process{first, second} {
				var refused struct{ Error string }
				status, text := call(t, invoker.url+"/api/invoke?N=1&exclusive=true", "", &refused)
				words := strings.Fields(refused.Error)
				if status != http.StatusConflict || !strings.HasPrefix(refused.Error, "run "+run+" is under way since 2") || !strings.Contains(refused.Error, `"exclusive": false`) {
					t.Fatalf("a second run: status %d: %s", status, text)
				}
				since, err := time.Parse(time.RFC3339, strings.TrimSuffix(words[6], ";"))
				if err != nil || since.Before(began) || since.After(time.Now()) {
					t.Errorf("since %s, %v: the run began after %s", words[6], err, began)
				}
				waitFor(t, "a line on the skip, at info, with the run under way", func() bool {
					line := invoker.logged(`"status":"skipped"`)
					return strings.Contains(line, `"under_way":"`+run+`"`) && strings.Contains(line, `"level":"INFO"`)
				})
			}
			beside := inBackground(second.url+"/api/invoke", `{"N": 1, "exclusive": false}`)
			if other := gate.waits(t, 2); other == run {
				t.Errorf("both are run %s", run)
			}
			gate.let()
			for _, c := range []chan answered{done, beside} {
				if a := <-c; a.status != http.StatusOK {
					t.Errorf("%+v", a)
				}
			}
			if storage == nil {
				s.audit(t, hubName)
			}
			if status, text := call(t, second.url+"/api/invoke", "", nil); status != http.StatusOK {
				t.Errorf("when both have ended: status %d: %s", status, text)
			}
			waitFor(t, "a line on the last run", func() bool {
				line := second.logged("ended a run")
				return strings.Contains(line, `"messages":0`) && strings.Contains(line, `"status":"ok"`)
			})
		})
	}
}

// A killed invoker's lease is free at once in a directory, and within a minute in Blob Storage. One that is told
// to end gives it back everywhere.
func TestLeaseOfAnInvokerThatEnds(t *testing.T) {
	for name, storage := range storages(t) {
		for _, kill := range []bool{true, false} {
			if kill && storage != nil && !isSoak() {
				continue // it takes the minute; package store has a test with the service's shortest lease
			}
			t.Run(map[bool]string{true: "killed ", false: "terminated "}[kill]+name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, 2, 2000)
				s.settings = s.settings.with(storage...).with("GET_METADATA=TRUE", "WORKER_CONCURRENCY=4", "DELAY_BETWEEN_FUNCS=0")
				gate := newTurnstile(t, start(t, "worker", s.settings))
				first := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+gate.url))
				second := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+gate.url))
				done := inBackground(first.url+"/api/invoke?N=1", "")
				gate.waits(t, 1)
				if status, text := call(t, second.url+"/api/invoke?N=1", "", nil); status != http.StatusConflict {
					t.Fatalf("status %d: %s", status, text)
				}
				if kill {
					first.kill()
				} else if status := first.terminate(t); status != ExitOK {
					t.Errorf("exit status %d: %s", status, first.stderr)
				}
				<-done
				gate.let()
				ended := time.Now()
				status, text := call(t, second.url+"/api/invoke?N=1", "", nil)
				for kill && storage != nil && status == http.StatusConflict && time.Since(ended) < 65*time.Second {
					time.Sleep(time.Second)
					status, text = call(t, second.url+"/api/invoke?N=1", "", nil)
				}
				if status != http.StatusOK {
					t.Fatalf("the run after it, %v later: status %d: %s", time.Since(ended), status, text)
				}
				if storage == nil {
					s.audit(t, hubName)
				}
			})
		}
	}
}

// A lease that can't be taken fails the run in time, with what to look at.
func TestLeaseWithoutStorage(t *testing.T) {
	t.Parallel()
	shut, connection := newGate(t, azuritetest.Run(t))
	shut.close()
	bus := newQueueSite(t, emulator.Queue{})
	for _, test := range []struct {
		settings []string
		want     string
	}{
		{[]string{"PERSISTOR_STORAGE_CONNECTION_STRING=" + connection}, "storage did not answer"},
		{[]string{"PERSISTOR_CREATE_CONTAINER=FALSE"}, "PERSISTOR_CREATE_CONTAINER=TRUE"},
	} {
		invoker := start(t, "invoker", bus.settings.with(test.settings...).with("FUNC_TO_INVOKE=http://127.0.0.1:1/", "INVOKER_TIMEOUT=5"))
		began := time.Now()
		var report fanout.Report
		status, text := call(t, invoker.url+"/api/invoke?N=1", "", &report)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("answered after %v of 5 s", took)
		}
		if status != http.StatusBadGateway || report.Status != fanout.Failed || !strings.Contains(report.Error, test.want) || !strings.Contains(report.Error, "run's lease") {
			t.Errorf("status %d: %s", status, text)
		}
		waitFor(t, "a line on the failure", func() bool { return invoker.logged("a run failed") != "" })
	}
}

// An invoker of Service Bus that knows no storage works as ever, and says that runs may overlap.
func TestRunsWithoutLease(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{}, "LOG_LEVEL=warn")
	s.put(t, 1, 100, 0)
	gate := newTurnstile(t, start(t, "worker", s.settings.with("WORKER_CONCURRENCY=4")))
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+gate.url, "PERSISTOR_STORAGE_CONNECTION_STRING=", "PERSISTOR_CONTAINER_NAME="))
	waitFor(t, "a warning at the start", func() bool {
		return strings.Contains(invoker.logged("PERSISTOR_CONTAINER_NAME"), "don't exclude each other")
	})
	one, two := inBackground(invoker.url+"/api/invoke?N=1", ""), inBackground(invoker.url+"/api/invoke?N=1", "")
	gate.waits(t, 2)
	gate.let()
	for _, c := range []chan answered{one, two} {
		if a := <-c; a.status != http.StatusOK {
			t.Errorf("%+v", a)
		}
	}
	s.once(t, 100)
}

// newRunner is a runner whose lease is in a container of its own, with a planner.
func newRunner(t *testing.T, storage config.Storage, plan plannerFunc, log io.Writer) *runner {
	t.Helper()
	d, err := fanout.NewDispatcher(fanout.Options{Workers: []string{"http://127.0.0.1:1/"}, Budget: 50 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return &runner{dispatcher: d, planner: plan, lock: &runLock{storageOnDemand: &storageOnDemand{at: storage}, name: "_runs/hub.lock", log: newLog(log, slog.LevelInfo, "invoker")}, log: newLog(log, slog.LevelInfo, "invoker")}
}

type plannerFunc func(ctx context.Context, run fanout.Run) (fanout.Plan, error)

func (f plannerFunc) Plan(ctx context.Context, run fanout.Run, _ fanout.Request) (fanout.Plan, error) {
	return f(ctx, run)
}

// A run that panics gives its lease back.
func TestLeaseOfARunThatPanics(t *testing.T) {
	storage := config.Storage{Connection: config.Connection{ConnectionString: config.Secret("file://" + t.TempDir())}, Container: "runs", CreateContainer: true}
	panics := true
	r := newRunner(t, storage, func(_ context.Context, run fanout.Run) (fanout.Plan, error) {
		if panics {
			panic("a plan gone wrong")
		}
		return fanout.Plan{Run: run}, nil
	}, io.Discard)
	func() {
		defer func() { _ = recover() }()
		_, _ = r.Run(t.Context(), fanout.Request{})
		t.Error("it did not panic")
	}()
	panics = false
	if report, err := r.Run(t.Context(), fanout.Request{}); err != nil || report.Status != fanout.OK {
		t.Errorf("the run after it: %v: %+v", err, report)
	}
}

// A run whose lease is taken away goes on, and the log says so.
func TestLeaseLostInARun(t *testing.T) {
	if testing.Short() {
		t.Skip("a third of a lease has to pass, 20 s")
	}
	t.Parallel()
	storage := config.Storage{Connection: config.Connection{ConnectionString: config.Secret(azuritetest.Run(t))}, Container: azuritetest.Container(t), CreateContainer: true}
	var log lines
	r := newRunner(t, storage, func(ctx context.Context, run fanout.Run) (fanout.Plan, error) {
		opened, err := openStore(ctx, storage.Connection, storage.Container, false)
		if err != nil {
			return fanout.Plan{}, err
		}
		client, err := lease.NewBlobClient(opened.(*store.Azure).Container().NewBlobClient("_runs/hub.lock"), nil)
		if err != nil {
			return fanout.Plan{}, err
		}
		now := int32(0)
		if _, err := client.BreakLease(ctx, &lease.BlobBreakOptions{BreakPeriod: &now}); err != nil {
			return fanout.Plan{}, err
		}
		for ctx.Err() == nil && !strings.Contains(log.String(), "lost the run's lease") {
			time.Sleep(20 * time.Millisecond)
		}
		return fanout.Plan{Run: run}, ctx.Err()
	}, &log)
	if report, err := r.Run(t.Context(), fanout.Request{}); err != nil || report.Status != fanout.OK {
		t.Errorf("%v: %+v", err, report)
	}
	for line := range strings.Lines(log.String()) {
		var entry struct{ Level, Msg, Run string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Run == "" || strings.Contains(entry.Msg, "lost") && entry.Level != "WARN" {
			t.Errorf("%v: %s", err, line)
		}
	}
}

// lines are a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
