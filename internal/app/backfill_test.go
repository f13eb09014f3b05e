package app

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/ledger"
	"persistor/internal/record"
)

// runAt reads a run from an invoker.
func runAt(t testing.TB, url, id string) (live ledger.Live) {
	t.Helper()
	status, text := call(t, url+"/api/runs/"+id, "", &live)
	if status != http.StatusOK {
		t.Fatalf("run %s: status %d: %s", id, status, text)
	}
	return live
}

// backfill begins a run.
func beginBackfill(t testing.TB, url, request string) string {
	t.Helper()
	var run ledger.Run
	status, text := call(t, url+"/api/backfill", request, &run)
	if status != http.StatusAccepted || run.ID == "" {
		t.Fatalf("status %d: %s", status, text)
	}
	return run.ID
}

// ends waits for a run's end, three minutes at most.
func ends(t testing.TB, url, id string) ledger.Live {
	t.Helper()
	return endsWithin(t, 3*time.Minute, url, id)
}

func endsWithin(t testing.TB, patience time.Duration, url, id string) (live ledger.Live) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); ; <-ticker.C {
		if live = runAt(t, url, id); live.State.Over() {
			return live
		}
		if time.Now().After(end) {
			text, _ := json.Marshal(live)
			t.Fatalf("the run has not ended after %v: %s", patience, text)
		}
	}
}

// A queue is drained in waves, by an invoker on its own.
func TestBackfillOfAQueue(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{})
	s.put(t, 1, 300, 0)
	worker := start(t, "worker", s.settings.with("WORKER_CONCURRENCY=4"))
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull", "DELAY_BETWEEN_FUNCS=0", "LOG_LEVEL=info"))
	id := beginBackfill(t, invoker.url, `{"N": 2}`)
	live := ends(t, invoker.url, id)
	if live.State != ledger.Succeeded || live.Counts.Messages != 300 || live.Counts.Remaining != 0 {
		t.Errorf("%+v\n%v", live, invoker.log)
	}
	s.once(t, 300)
}

// A hub is drained in waves, whose cells go to several workers, and ends with its checkpoints at its end.
func TestBackfillOfAHub(t *testing.T) {
	t.Parallel()
	events := int64(600_000) // three cells
	if testing.Short() {
		events = 270_000 // two
	}
	s := newSite(t, 2, events)
	s.settings = s.settings.with("GET_METADATA=TRUE", "WORKER_CONCURRENCY=8", "MEMORY_LIMIT=256MiB")
	one, two := start(t, "worker", s.settings), start(t, "worker", s.settings)
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+one.url+"/api/pull,"+two.url+"/api/pull", "DELAY_BETWEEN_FUNCS=0", "LOG_LEVEL=info"))
	id := beginBackfill(t, invoker.url, `{}`)
	live := ends(t, invoker.url, id)
	if live.State != ledger.Succeeded || live.Counts.Messages != 2*events || live.Counts.Remaining != 0 {
		t.Errorf("%+v", live)
	}
	var now api.Standing
	call(t, invoker.url+"/api/status", "", &now)
	if now.Backlog != 0 || now.Run != nil || len(now.Partitions) != 2 || now.Partitions[1].Checkpoint != events-1 {
		t.Errorf("%+v", now)
	}
	s.audit(t, hubName)
}

// The same in one process, with the worker's settings alone.
func TestOpenLocal(t *testing.T) {
	t.Parallel()
	const events = 20_000
	s := newSite(t, 2, events)
	s.settings = s.settings.with("GET_METADATA=TRUE")
	var log lines
	url, key, closing, err := OpenLocal(t.Context(), s.settings.lookup, &log)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := call(t, url+"/api/runs", "", nil); status != http.StatusUnauthorized {
		t.Errorf("without the key: status %d: %s", status, text)
	}
	var run ledger.Run
	status, text := call(t, url+"/api/backfill?code="+key, "{}", &run)
	if status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, text)
	}
	var live ledger.Live
	waitFor(t, "the run's end", func() bool {
		call(t, url+"/api/runs/"+run.ID+"?code="+key, "", &live)
		return live.State.Over()
	})
	if err := closing(t.Context()); err != nil {
		t.Error(err)
	}
	if live.State != ledger.Succeeded || log.String() != "" {
		t.Errorf("%+v\n%s", live, log.String())
	}
	s.audit(t, hubName)
	if _, _, err := tryCall(url+"/", ""); err == nil {
		t.Error("it still listens")
	}
	delete(s.settings, "EVENT_HUB_NAME")
	if _, _, _, err := OpenLocal(t.Context(), s.settings.lookup, &log); !errors.As(err, new(*config.Error)) {
		t.Errorf("without the hub's name: %v", err)
	}
}

// source is the folder of a site's runs, below _runs.
func (s *site) source(t testing.TB) string {
	t.Helper()
	c, err := config.ReadWorker(s.settings.lookup)
	if err != nil {
		t.Fatal(err)
	}
	return record.EventHubFolder(c.Source())
}
