package app

import (
	"net/http"
	"testing"
	"time"

	"persistor/internal/ledger"
	"persistor/internal/store"
)

// A local invoker takes up no run that others have asked for: whoever looks at runs changes none, and what waits in a
// deployed invoker's queue stays that one's.
func TestOpenLocalTakesUpNoRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, 100)
	lookup := func(name string) (string, bool) { value, ok := s.settings[name]; return value, ok }
	var log lines
	url, key, closing, err := OpenLocal(t.Context(), lookup, &log)
	if err != nil {
		t.Fatal(err)
	}
	var mine ledger.Run
	if status, text := call(t, url+"/api/backfill?code="+key, "{}", &mine); status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, text)
	}
	if err := closing(t.Context()); err != nil {
		t.Fatal(err)
	}

	// The same run again, as one that waits for its first wave.
	opened, err := store.Open(t.Context(), store.Options{Location: s.settings["PERSISTOR_STORAGE_CONNECTION_STRING"], Container: s.settings["PERSISTOR_CONTAINER_NAME"]})
	if err != nil {
		t.Fatal(err)
	}
	kept := ledger.New(opened.(ledger.Storage), mine.Source, ledger.Retention{})
	theirs := mine
	theirs.ID, theirs.Alive = "20200101T000000Z-abcdef", time.Now().Add(time.Hour)
	if err := kept.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}

	url, key, closing, err = OpenLocal(t.Context(), lookup, &log)
	if err != nil {
		t.Fatal(err)
	}
	call(t, url+"/api/backfill?code="+key, "{}", &mine)
	var live ledger.Live
	waitFor(t, "the run's end", func() bool {
		call(t, url+"/api/runs/"+mine.ID+"?code="+key, "", &live)
		return live.State.Over()
	})
	call(t, url+"/api/runs/"+theirs.ID+"?code="+key, "", &live)
	if live.State != ledger.Queued || live.Wave != 0 {
		t.Errorf("it is %s, in wave %d", live.State, live.Wave)
	}
	if err := closing(t.Context()); err != nil {
		t.Error(err)
	}
}
