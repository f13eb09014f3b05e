package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/work"
)

// change makes a call that changes a run, and returns what it is then.
func change(t testing.TB, method, url string, want int) (run ledger.Run) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: status %d, want %d: %s", method, url, resp.StatusCode, want, body)
	}
	_ = json.Unmarshal(body, &run)
	return run
}

// slow are settings by which a worker stores little at once, so that there is time to see it at work.
var slow = []string{"BATCH_COUNT=10", "GET_METADATA=TRUE", "WORKER_CONCURRENCY=8", "DELAY_BETWEEN_FUNCS=0"}

// storing waits until a run's workers are seen to store.
func storing(t testing.TB, url, id string) (live ledger.Live) {
	t.Helper()
	waitFor(t, "workers that store", func() bool {
		live = runAt(t, url, id)
		if live.State.Over() {
			t.Fatalf("the run is over already: %+v", live)
		}
		return live.Counts.Messages > 0 && len(live.Progress) > 0
	})
	return live
}

// A run that is cancelled stops at its workers' next batches, and goes on with what is left when it is resumed: also
// where its invoker was killed before it could stop it.
func TestCancelAndResume(t *testing.T) {
	for name, kill := range map[string]bool{"by its invoker": false, "whose invoker is killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const events = 40_000
			s := newSite(t, 2, events)
			s.settings = s.settings.with(slow...)
			worker, at := start(t, "worker", s.settings), newRelay(t)
			at.to(worker)
			s.settings = s.settings.with("FUNC_TO_INVOKE=" + at.url + "/api/pull")
			invoker := start(t, "invoker", s.settings)
			id := beginBackfill(t, invoker.url, "{}")
			live := storing(t, invoker.url, id)
			if live.State != ledger.Running || live.Counts.Remaining >= 2*events || live.Partitions[0].Counts.Messages+live.Partitions[1].Counts.Messages != live.Counts.Messages {
				t.Errorf("under way: %+v", live)
			}
			if kill {
				invoker.kill()
				invoker = start(t, "invoker", s.settings.with("FUNC_TO_INVOKE=http://127.0.0.1:1/"))
			}
			if run := change(t, http.MethodDelete, invoker.url+"/api/runs/"+id, http.StatusAccepted); run.CancelRequested.IsZero() {
				t.Errorf("%+v", run)
			}
			change(t, http.MethodDelete, invoker.url+"/api/runs/"+id, http.StatusAccepted)
			if live = ends(t, invoker.url, id); live.State != ledger.Cancelled || live.Counts.Remaining == 0 {
				t.Errorf("cancelled: %+v", live)
			}
			waitFor(t, "the worker's end", func() bool {
				var now struct{ Busy int }
				call(t, worker.url+"/api/status", "", &now)
				return now.Busy == 0
			})
			s.noHoles(t, invoker.url, hubName)
			change(t, http.MethodPost, invoker.url+"/api/runs/"+id+"/retry", http.StatusConflict)
			at.to(start(t, "worker", s.settings.with("BATCH_COUNT=10000")))
			if kill {
				invoker.kill()
				invoker = start(t, "invoker", s.settings)
			}
			change(t, http.MethodPost, invoker.url+"/api/runs/"+id+"/resume", http.StatusAccepted)
			if live = ends(t, invoker.url, id); live.State != ledger.Succeeded || live.Counts.Remaining != 0 || live.Retries != 1 {
				t.Errorf("resumed: %+v", live)
			}
			change(t, http.MethodDelete, invoker.url+"/api/runs/"+id, http.StatusConflict)
			change(t, http.MethodDelete, invoker.url+"/api/runs/20200101T000000Z-000000", http.StatusNotFound)
			s.noHoles(t, invoker.url, hubName)
			s.audit(t, hubName)
		})
	}
}

// A run whose units fail in three waves in a row has failed, and does what is left when it is retried.
func TestRetry(t *testing.T) {
	t.Parallel()
	s := fragileSite(t, 2, 5000)
	s.settings = s.settings.with("INVOKER_TIMEOUT=60")
	broken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(broken.Close)
	worker := newRelay(t)
	worker.to(&process{url: broken.URL})
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + worker.url + "/api/pull")
	invoker := start(t, "invoker", s.settings)
	id := beginBackfill(t, invoker.url, "{}")
	live := ends(t, invoker.url, id)
	if live.State != ledger.Failed || live.Wave != 3 || len(live.Waves) != 3 || live.Waves[2].Failed == 0 || live.Counts.Remaining != 10_000 {
		t.Errorf("%+v", live)
	}
	if last := live.Errors[len(live.Errors)-1].Error; !strings.Contains(last, "3 waves in a row") || !strings.Contains(live.Errors[0].Error, "404") {
		t.Errorf("%+v", live.Errors)
	}
	change(t, http.MethodPost, invoker.url+"/api/runs/"+id+"/resume", http.StatusConflict)
	invoker.kill()
	worker.to(start(t, "worker", s.settings))
	invoker = start(t, "invoker", s.settings)
	if run := change(t, http.MethodPost, invoker.url+"/api/runs/"+id+"/retry", http.StatusAccepted); run.State != ledger.Queued {
		t.Errorf("%+v", run)
	}
	if live = ends(t, invoker.url, id); live.State != ledger.Succeeded || live.Counts.Messages != 10_000 {
		t.Errorf("%+v", live)
	}
	s.audit(t, hubName)
}

// Two backfills and runs over HTTP at once, of two invokers: one run's units are under way at a time.
func TestBackfillsExcludeOtherRuns(t *testing.T) {
	t.Parallel()
	s := fragileSite(t, 2, 40_000)
	worker := start(t, "worker", s.settings)
	inside := newRelay(t)
	inside.to(worker)
	var mu sync.Mutex
	under := map[string]int{}
	counted := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		run := r.Header.Get(fanout.RunHeader)
		mu.Lock()
		if under[run]++; len(under) > 1 {
			t.Errorf("units of several runs are under way: %v", under)
		}
		mu.Unlock()
		inside.proxy.Load().ServeHTTP(w, r)
		mu.Lock()
		if under[run]--; under[run] == 0 {
			delete(under, run)
		}
		mu.Unlock()
	}))
	t.Cleanup(counted.Close)
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + counted.URL + "/api/pull")
	one, two := start(t, "invoker", s.settings), start(t, "invoker", s.settings)
	first, second := beginBackfill(t, one.url, "{}"), beginBackfill(t, two.url, "{}")
	ran, refused := 0, 0
	for done := false; !done; {
		status, text, err := tryCall(two.url+"/api/invoke?N=1", "")
		switch {
		case err == nil && status == http.StatusOK:
			ran++
		case err == nil && status == http.StatusConflict:
			refused++
		default:
			t.Fatalf("status %d, %v: %s", status, err, text)
		}
		done = runAt(t, one.url, first).State.Over() && runAt(t, one.url, second).State.Over()
	}
	for _, id := range []string{first, second} {
		if live := runAt(t, one.url, id); live.State != ledger.Succeeded || live.Counts.Remaining != 0 {
			t.Errorf("%+v", live)
		}
	}
	if refused == 0 {
		t.Error("no call was refused while a backfill was under way")
	}
	t.Logf("%d calls ran, %d were refused", ran, refused)
	s.noHoles(t, one.url, hubName)
	s.audit(t, hubName)
}

// What a backfill is asked for is what it does, and no more; a checkpoint moves only over what is stored from it on.
func TestBackfillOfARange(t *testing.T) {
	t.Parallel()
	s := fragileSite(t, 2, 5000)
	s.settings = s.settings.with("INVOKER_TIMEOUT=60")
	worker := start(t, "worker", s.settings)
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + worker.url + "/api/pull")
	invoker := start(t, "invoker", s.settings)
	at := time.Date(2026, 11, 24, 23, 59, 30, 0, time.UTC) // of the first event
	for _, c := range []struct {
		request      string
		ranges       map[string]work.Range
		note         string
		checkpoint   int64 // of partition 0
		messages     int64
		remaining    int64
		alreadyThere int64
	}{
		{`{"partitions": ["0"], "from": {"sequence_number": 1000}, "until": {"sequence_number": 1999}}`,
			map[string]work.Range{"0": {From: 1000, To: 1999}}, "", -1, 1000, 0, 0},
		{`{"partitions": ["0"], "max_messages": 500}`, map[string]work.Range{"0": {From: 0, To: 4999}}, "max_messages (500)", 499, 500, 4500, 0},
		{`{"partitions": ["0"], "until": {"sequence_number": 2499}}`, map[string]work.Range{"0": {From: 500, To: 2499}}, "", 2499, 1000, 0, 1000},
		{fmt.Sprintf(`{"partitions": ["1"], "from": {"time": %q}, "until": {"time": %q}}`, at.Format(time.RFC3339), at.Add(-time.Hour).Format(time.RFC3339)), nil, "", 2499, 0, 0, 0},
	} {
		if c.ranges == nil {
			if status, text := call(t, invoker.url+"/api/backfill", c.request, nil); status != http.StatusBadRequest || !strings.Contains(text, "until.time") {
				t.Errorf("%s: status %d: %s", c.request, status, text)
			}
			continue
		}
		live := ends(t, invoker.url, beginBackfill(t, invoker.url, c.request))
		if live.State != ledger.Succeeded || live.Counts.Messages != c.messages || live.Counts.Remaining != c.remaining {
			t.Errorf("%s: %+v", c.request, live)
		}
		for _, p := range live.Partitions {
			if want, ok := c.ranges[p.Partition]; !ok || p.From != want.From || p.To != want.To {
				t.Errorf("%s: %+v", c.request, p)
			}
		}
		if c.note != "" && (len(live.Notes) != 1 || !strings.Contains(live.Notes[0], c.note)) {
			t.Errorf("%s: notes %q", c.request, live.Notes)
		}
		var now struct{ Partitions []struct{ Checkpoint int64 } }
		call(t, invoker.url+"/api/status", "", &now)
		if got := now.Partitions[0].Checkpoint; got != c.checkpoint {
			t.Errorf("%s: the checkpoint is %d, want %d", c.request, got, c.checkpoint)
		}
		s.noHoles(t, invoker.url, hubName)
	}
	for request, want := range map[string]string{
		`{"partitions": ["7"], "sessions": ["a"]}`:                          `partition \"7\" doesn't exist`,
		`{"from": {"position": "now"}, "max_waves": -1}`:                    "max_waves",
		`{"from": {"position": "earliest", "sequence_number": 1}}`:          "one of them",
		`{"from": {"sequence_number": 9}, "until": {"sequence_number": 8}}`: "not below it",
	} {
		if status, text := call(t, invoker.url+"/api/backfill", request, nil); status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: status %d: %s, want %s", request, status, text, want)
		}
	}
}

// A run that follows stores what comes, until it is cancelled.
func TestBackfillThatFollows(t *testing.T) {
	t.Parallel()
	s := fragileSite(t, 1, 1)
	s.settings = s.settings.with("INVOKER_TIMEOUT=60")
	hub, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: hubName, Partitions: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	s.hub, s.settings = hub, s.settings.with("EVENT_HUB_CONN_STRING="+hub.ConnectionString())
	put := func(from, n int) {
		for i := from; i < from+n; i++ {
			if err := s.hub.Put(hubName, "0", emulator.Event{Body: eventBody(nil, "0", int64(i))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 100)
	s.events = 300
	worker := start(t, "worker", s.settings)
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull"))
	id := beginBackfill(t, invoker.url, `{"until": {"position": "follow"}}`)
	for n := 100; n <= 300; n += 100 {
		waitFor(t, fmt.Sprintf("%d messages", n), func() bool { return runAt(t, invoker.url, id).Counts.Messages == int64(n) })
		if n < 300 {
			put(n, 100)
		}
	}
	change(t, http.MethodDelete, invoker.url+"/api/runs/"+id, http.StatusAccepted)
	if live := ends(t, invoker.url, id); live.State != ledger.Cancelled || live.Counts.Remaining != 0 || live.Partitions[0].Checkpoint != 299 {
		t.Errorf("%+v", live)
	}
	s.audit(t, hubName)
}

// A run that is one invocation has a document, too: it can be watched, cancelled, and resumed in waves when its invoker has died.
func TestInvocationsAreKept(t *testing.T) {
	t.Parallel()
	const events = 40_000
	s := newSite(t, 2, events)
	s.settings = s.settings.with(slow...)
	worker := newRelay(t)
	worker.to(start(t, "worker", s.settings))
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + worker.url + "/api/pull")
	invoker := start(t, "invoker", s.settings)
	called := inBackground(invoker.url+"/api/invoke?N=2", "")
	var id string
	waitFor(t, "the run's document", func() bool { id = newest(t, invoker); return id != "" })
	live := storing(t, invoker.url, id)
	if live.Kind != ledger.Invoke || live.State != ledger.Running || len(live.Units) != 2 || len(live.Partitions) != 2 || live.Partitions[1].To != events-1 {
		t.Errorf("under way: %+v", live)
	}
	change(t, http.MethodPost, invoker.url+"/api/runs/"+id+"/resume", http.StatusConflict)
	change(t, http.MethodDelete, invoker.url+"/api/runs/"+id, http.StatusAccepted)
	if a := <-called; a.err != nil || !strings.Contains(a.text, id) {
		t.Errorf("%+v", a)
	}
	if live = runAt(t, invoker.url, id); live.State != ledger.Cancelled || live.Counts.Messages == 0 || live.Units[0].State == ledger.UnitPlanned {
		t.Errorf("cancelled: %+v", live)
	}
	called = inBackground(invoker.url+"/api/invoke?N=2", "")
	waitFor(t, "the next run", func() bool { return newest(t, invoker) != id })
	id = newest(t, invoker)
	storing(t, invoker.url, id)
	invoker.kill()
	<-called
	invoker = start(t, "invoker", s.settings)
	worker.to(start(t, "worker", s.settings.with("BATCH_COUNT=10000")))
	waitFor(t, "the run to show as abandoned", func() bool { return runAt(t, invoker.url, id).State == ledger.Abandoned })
	change(t, http.MethodPost, invoker.url+"/api/runs/"+id+"/resume", http.StatusAccepted)
	if live = ends(t, invoker.url, id); live.State != ledger.Succeeded || live.Wave < 2 || live.Counts.Remaining != 0 {
		t.Errorf("resumed: %+v", live)
	}
	s.noHoles(t, invoker.url, hubName)
	s.audit(t, hubName)
}

// An invocation whose document can't be written stores all the same, and says so.
func TestInvocationWithoutADocument(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, 1000)
	s.settings = s.settings.with("GET_METADATA=TRUE")
	worker := start(t, "worker", s.settings)
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull", "LOG_LEVEL=info"))
	waitFor(t, "an invoker that runs", func() bool { return newest(t, invoker) == "" })
	namespace := strings.TrimSuffix(strings.TrimPrefix(s.source(t), "/"), "/")
	in := filepath.Join(s.dir, "blobs", "_runs", filepath.Dir(namespace))
	if err := os.MkdirAll(in, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(in, filepath.Base(namespace)), []byte("in the way"), 0o666); err != nil {
		t.Fatal(err)
	}
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke", "", &report)
	if status != http.StatusOK || report.Messages != 1000 || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "document") {
		t.Errorf("status %d: %s", status, text)
	}
	waitFor(t, "a warning", func() bool { return strings.Contains(invoker.logged("can't keep a document"), "WARN") })
	s.audit(t, hubName)
}

// What can't be asked of Service Bus is refused with the reason, and sessions are drained in waves.
func TestBackfillOfServiceBus(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Sessions: true})
	s.put(t, 1, 200, 5)
	worker := start(t, "worker", s.settings.with("WORKER_CONCURRENCY=4"))
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull", "DELAY_BETWEEN_FUNCS=0"))
	status, text := call(t, invoker.url+"/api/backfill", `{"partitions": ["0"], "from": {"position": "earliest"}, "until": {"position": "now"}}`, nil)
	if status != http.StatusBadRequest || !strings.Contains(text, "partitions") || !strings.Contains(text, "from was given") || !strings.Contains(text, "until was given") {
		t.Errorf("status %d: %s", status, text)
	}
	live := ends(t, invoker.url, beginBackfill(t, invoker.url, `{"N": 2}`))
	if live.State != ledger.Succeeded || live.Counts.Messages != 200 {
		t.Errorf("%+v", live)
	}
	s.once(t, 200)
	s.empty(t)
}
