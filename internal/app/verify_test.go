package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/store"
	"persistor/internal/work"
)

// expectProof verifies what is stored in three ways, and expects each to say something; "" expects a proof.
func (s *site) expectProof(t *testing.T, l *landed, what, shallow, deep, hub string) {
	t.Helper()
	folder := hubName
	drained, err := config.ReadDrained(s.settings.lookup)
	if err != nil {
		t.Fatal(err)
	}
	for way, says := range map[string]string{"shallow": shallow, "deep": deep, "hub": hub} {
		scope, expect := audit.Scope{Folder: &folder, Deep: way == "deep"}, audit.Expectation{}
		if way == "hub" {
			var closing func(context.Context) error
			if expect, closing, err = ExpectOfHub(t.Context(), drained); err != nil {
				t.Fatal(err)
			}
			defer closing(context.Background())
		}
		summary, err := audit.Container(t.Context(), l, scope, expect)
		told := toldBy(summary)
		if err != nil || !summary.Finished || summary.Complete != (says == "") || !strings.Contains(told, says) {
			t.Errorf("%s (%s): %v, complete %t: %s\nexpected %q", what, way, err, summary.Complete, told, says)
		}
	}
}

// toldBy is everything that a summary tells of what is wrong, in words.
func toldBy(s audit.Summary) string {
	told := s.Problems
	for _, r := range s.Folders {
		told = append(told, r.Problems...)
		for _, p := range r.Partitions {
			for _, g := range p.Gaps {
				told = append(told, fmt.Sprintf("gap %d to %d", g.From, g.To))
			}
			for _, g := range p.LostToRetention {
				told = append(told, fmt.Sprintf("lost %d to %d", g.From, g.To))
			}
		}
	}
	return strings.Join(told, "\n")
}

// What is removed from a directory by hand, and what grew in Blob Storage, and what a second hub stored in the same
// folder.
func TestVerifyRealContainers(t *testing.T) {
	t.Parallel()
	t.Run("a file is removed by hand", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 1, 2000)
		worker := start(t, "worker", s.settings.with("BATCH_COUNT=500"))
		call(t, worker.url+"/api/pull", "", nil)
		l := s.landed(t)
		if err := os.Remove(filepath.Join(s.dir, "blobs", l.names[1])); err != nil {
			t.Fatal(err)
		}
		s.expectProof(t, l, "by hand", l.names[1], "gap 500 to 999", l.names[1])
	})
	for mode, settings := range appendModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2, 5000)
			s.onAzurite(t)
			worker := start(t, "worker", s.settings.with(settings...).with("BATCH_COUNT=300", "GET_METADATA=TRUE"))
			call(t, worker.url+"/api/pull?N=2", "", nil)
			s.expectProof(t, s.landed(t), mode, "", "", "")
		})
	}
	t.Run("two hubs in one folder", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 1, 3000)
		other := newSiteOf(t, emulator.Hub{Partitions: 1, Synthetic: &emulator.Synthetic{Events: 1000, Body: eventBody}}, 1000) // of another year
		theirs := other.settings.with("PERSISTOR_STORAGE_CONNECTION_STRING="+s.settings["PERSISTOR_STORAGE_CONNECTION_STRING"], "STORE_PARAM="+hubName,
			"EVENT_HUB_CONN_STRING="+strings.Replace(other.settings["EVENT_HUB_CONN_STRING"], "127.0.0.1", "localhost", 1), "EVENT_HUB_CHECKPOINT_CONTAINER=theirs")
		for _, settings := range []settings{s.settings, theirs} {
			worker := start(t, "worker", settings.with("BATCH_COUNT=500"))
			if status, text := call(t, worker.url+"/api/pull", "", nil); status != 200 {
				t.Fatalf("status %d: %s", status, text)
			}
		}
		summary := s.verifyAgainstHub(t)
		if p := summary.Folders[0].Partitions; !summary.Complete || len(p) != 2 || p[0].Hub != "127.0.0.1/telemetry" || p[0].To != 2999 || p[1].Hub != "localhost/telemetry" || p[1].To != 999 {
			t.Errorf("%+v", summary)
		}
		s.expectProof(t, s.landed(t), "two hubs", "", "", "")
	})
}

// A backlog is nothing wrong, and counted; what retention took before it could be stored is.
func TestVerifyBacklogAndLoss(t *testing.T) {
	t.Parallel()
	s := newSiteOf(t, emulator.Hub{Partitions: 1, RetentionCount: 100}, 0)
	put := func(n int) {
		for range n {
			if err := s.hub.Put(hubName, "0", emulator.Event{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	worker := start(t, "worker", s.settings)
	verify := func(complete bool, backlog int64, lost ...work.Range) {
		t.Helper()
		summary := s.verifyAgainstHub(t)
		var p audit.Partition
		if len(summary.Folders[0].Partitions) == 1 {
			p = summary.Folders[0].Partitions[0]
		}
		if summary.Complete != complete || summary.Gaps != 0 || summary.Backlog != backlog || !slices.Equal(p.LostToRetention, lost) {
			t.Errorf("%+v", summary)
		}
	}
	verify(true, 0)
	put(60)
	verify(true, 60)
	call(t, worker.url+"/api/pull", "", nil)
	verify(true, 0)
	put(70)
	verify(true, 70)
	put(70) // of which the first 40 that were not stored are gone
	verify(false, 100, work.Range{From: 60, To: 99})
	call(t, worker.url+"/api/pull", "", nil)
	verify(false, 0, work.Range{From: 60, To: 99})
	put(40)
	verify(false, 40, work.Range{From: 60, To: 99})
}

// verifyAgainstHub compares what a site has stored with its hub.
func (s *site) verifyAgainstHub(t *testing.T) audit.Summary {
	t.Helper()
	drained, err := config.ReadDrained(s.settings.lookup)
	if err != nil {
		t.Fatal(err)
	}
	for _, container := range []string{"blobs", "checkpoints"} { // verifying creates none
		if err := os.MkdirAll(filepath.Join(s.dir, container), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	expect, closing, err := ExpectOfHub(t.Context(), drained)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(context.Background())
	folder := hubName
	summary, err := audit.Container(t.Context(), s.landed(t), audit.Scope{Folder: &folder}, expect)
	if err != nil || !summary.Finished {
		t.Fatalf("%v: %+v", err, summary)
	}
	return summary
}

// Verifying creates nothing: neither the checkpoints' container nor anything in a directory that is none.
func TestVerifyCreatesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, 10)
	drained, err := config.ReadDrained(s.settings.lookup)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ExpectOfHub(t.Context(), drained); !errors.Is(err, store.ErrNoContainer) || !strings.Contains(err.Error(), "EVENT_HUB_CHECKPOINT_CONTAINER") {
		t.Errorf("without checkpoints: %v", err)
	}
	if _, err := OpenContainer(t.Context(), s.dir, s.settings.lookup); err == nil {
		t.Error("a directory passes as a container")
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	// Who keeps checkpoints elsewhere compares all the same.
	drained.Checkpoint = config.Checkpoint{}
	expect, closing, err := ExpectOfHub(t.Context(), drained)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(context.Background())
	if expect.Hub != "127.0.0.1/telemetry" || expect.Partitions["0"] != (work.Range{From: 0, To: 9}) || len(expect.Checkpoints) != 0 || expect.Checkpoints == nil {
		t.Errorf("%+v", expect)
	}
}
