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
	var log lines
	url, key, closing, err := OpenLocal(t.Context(), s.settings.lookup, &log)
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

	url, key, closing, err = OpenLocal(t.Context(), s.settings.lookup, &log)
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

// What a local run does is told of as it is where the programs run by themselves.
func TestOpenLocalIsToldOf(t *testing.T) {
	t.Parallel()
	c, s := newCollector(t), newSite(t, 2, 800)
	s.settings = s.settings.with(c.told()...)
	var log lines
	url, key, closing, err := OpenLocal(t.Context(), s.settings.lookup, &log)
	if err != nil {
		t.Fatal(err)
	}
	var run ledger.Run
	if status, text := call(t, url+"/api/backfill?code="+key, "{}", &run); status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, text)
	}
	waitFor(t, "the run's end", func() bool {
		var live ledger.Live
		call(t, url+"/api/runs/"+run.ID+"?code="+key, "", &live)
		return live.State.Over()
	})
	if err := closing(t.Context()); err != nil {
		t.Error(err)
	}
	waves := c.named("wave")
	if len(waves) == 0 || attribute(waves[0].Attributes, "persistor.run") != run.ID || len(c.named("store")) == 0 {
		t.Errorf("%d waves, %d stores: %v", len(waves), len(c.named("store")), waves)
	}
	if n := c.sum("persistor-worker", "persistor.messages", "", ""); n != 1600 {
		t.Errorf("%d messages are counted, want 1600", n)
	}
}
