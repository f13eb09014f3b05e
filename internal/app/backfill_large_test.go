package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/ledger"
	"persistor/internal/record"
	"persistor/internal/store"
)

// names is a store that keeps names and metadata, and drops what was to be stored.
type names struct {
	mu    sync.Mutex
	blobs map[string]map[string]string
}

func (n *names) Create(_ context.Context, name string, _ []byte, metadata map[string]string) (map[string]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if held, ok := n.blobs[name]; ok {
		return held, store.ErrExists
	}
	n.blobs[name] = metadata
	return nil, nil
}

func (n *names) Append(context.Context, string, int64, []byte, map[string]string) (map[string]string, error) {
	return nil, fmt.Errorf("append: %w", store.ErrFull)
}

func (n *names) SetMetadata(context.Context, string, map[string]string) error {
	return store.ErrImmutable
}

func (n *names) Metadata(_ context.Context, name string) (map[string]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if held, ok := n.blobs[name]; ok {
		return held, nil
	}
	return nil, store.ErrNotFound
}

func (n *names) List(_ context.Context, prefix string) iter.Seq2[store.Blob, error] {
	n.mu.Lock()
	all := maps.Clone(n.blobs)
	n.mu.Unlock()
	return func(yield func(store.Blob, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(name, prefix) && !yield(store.Blob{Name: name, Metadata: all[name]}, nil) {
				return
			}
		}
	}
}

func (n *names) Open(context.Context, string) (io.ReadCloser, error) { return nil, store.ErrNotFound }

// audit fails the test unless each partition's names are a chain over so many events, none twice.
func (n *names) audit(t *testing.T, partitions int, events int64) {
	t.Helper()
	chains := map[string][]record.Span{}
	for name, metadata := range n.blobs {
		of, err := record.ParseEventHubName(name)
		span, wrong := record.ParseSpan(metadata)
		if err != nil || wrong != nil {
			t.Fatalf("blob %s: %v, %v", name, err, wrong)
		}
		chains[of.Partition] = append(chains[of.Partition], span)
	}
	if len(chains) != partitions {
		t.Errorf("%d partitions have blobs, want %d", len(chains), partitions)
	}
	for partition, chain := range chains {
		slices.SortFunc(chain, func(a, b record.Span) int { return cmp.Compare(a.First, b.First) })
		next := int64(0)
		for _, s := range chain {
			if s.First != next || s.After != next-1 || s.Count != s.Last-s.First+1 || s.First/record.CellSize != s.Last/record.CellSize {
				t.Fatalf("partition %s: a blob from %d to %d, after %d, of %d messages: want one from %d", partition, s.First, s.Last, s.After, s.Count, next)
			}
			next = s.Last + 1
		}
		if next != events {
			t.Errorf("partition %s is stored up to %d, want %d", partition, next-1, events-1)
		}
	}
}

// A large backlog, of many cells, into a store that drops what it is given: what was named is each event once.
func TestBackfillOfManyEvents(t *testing.T) {
	t.Parallel()
	const partitions = 4
	events := int64(500_000)
	switch {
	case isSoak():
		events = 5_000_000
	case testing.Short():
		events = 50_000
	}
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: hubName, Partitions: partitions, Synthetic: &emulator.Synthetic{
		Events: events, Interval: time.Millisecond, Body: func(dst []byte, _ string, sequence int64) []byte { return fmt.Append(dst, sequence) },
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s := newSite(t, 1, 1)
	s.settings = s.settings.with("EVENT_HUB_CONN_STRING="+e.ConnectionString(), "WORKER_CONCURRENCY=8", "MEMORY_LIMIT=256MiB", "DELAY_BETWEEN_FUNCS=0", "INVOKER_TIMEOUT=20")
	kept := &names{blobs: map[string]map[string]string{}}
	var urls []string
	for range 2 {
		urls = append(urls, dropping(t, s.settings, kept)+"/api/pull")
	}
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+strings.Join(urls, ",")))
	began := time.Now()
	live := endsWithin(t, 20*time.Minute, invoker.url, beginBackfill(t, invoker.url, `{"N": 8}`))
	if live.State != ledger.Succeeded || live.Counts.Messages > partitions*events || live.Counts.Remaining != 0 { // what a unit that answered too late has stored isn't counted
		t.Errorf("%+v", live)
	}
	for _, p := range live.Partitions {
		if p.Checkpoint != events-1 {
			t.Errorf("%+v", p)
		}
	}
	t.Logf("%d events in %v, %d waves, %d blobs", partitions*events, time.Since(began).Round(time.Millisecond), live.Wave, len(kept.blobs))
	kept.audit(t, partitions, events)
}

// dropping runs a worker in this process that stores in memory.
func dropping(t *testing.T, s settings, kept *names) (url string) {
	t.Helper()
	c, err := config.ReadWorker(func(name string) (string, bool) { value, ok := s[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewHubDrainer(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(d.Store)
	d.Store = kept
	server := httptest.NewServer(api.NewWorker(api.WorkerOptions{Concurrency: c.Concurrency}, d))
	t.Cleanup(func() { server.Close(); _ = d.Close(context.Background()) })
	return server.URL
}
