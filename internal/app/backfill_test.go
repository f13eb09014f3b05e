package app

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/ledger"
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

// ends waits for a run's end.
func ends(t testing.TB, url, id string) (live ledger.Live) {
	t.Helper()
	waitFor(t, "the run's end", func() bool {
		live = runAt(t, url, id)
		return live.State.Over()
	})
	return live
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

var _ = fmt.Sprint
var _ = strings.Contains
var _ time.Duration
