package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/config"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// landed is a container of real blobs, to be damaged.
type landed struct {
	store.Store
	t     *testing.T
	names []string // of all blobs, in order
}

func (s *site) landed(t *testing.T) *landed {
	t.Helper()
	opened, err := store.Open(t.Context(), store.Options{Location: s.settings["PERSISTOR_STORAGE_CONNECTION_STRING"], Container: s.settings["PERSISTOR_CONTAINER_NAME"]})
	if err != nil {
		t.Fatal(err)
	}
	if dir, ok := opened.(*store.Dir); ok {
		t.Cleanup(func() { dir.Close() })
	}
	l := &landed{Store: opened, t: t}
	for b, err := range opened.List(t.Context(), hubName+"/") {
		if err != nil {
			t.Fatal(err)
		}
		l.names = append(l.names, b.Name)
	}
	return l
}

// a saved blob can be put back.
type saved struct {
	name     string
	content  []byte
	metadata map[string]string
}

func (l *landed) get(name string) saved {
	l.t.Helper()
	metadata, err := l.Metadata(l.t.Context(), name)
	var content []byte
	if err == nil {
		var opened io.ReadCloser
		if opened, err = l.Open(l.t.Context(), name); err == nil {
			defer opened.Close()
			content, err = io.ReadAll(opened)
		}
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return saved{name, content, metadata}
}

func (l *landed) put(b saved) {
	l.t.Helper()
	if held, err := l.Create(l.t.Context(), b.name, b.content, b.metadata); err != nil {
		l.t.Fatalf("%v, %v", held, err)
	}
}

// remove takes a blob away as nothing of Persistor's does.
func (l *landed) remove(name string) {
	l.t.Helper()
	var err error
	switch s := l.Store.(type) {
	case *store.Azure:
		_, err = s.Container().NewBlobClient(name).Delete(l.t.Context(), nil)
	case *store.Dir:
		err = errors.Join(os.Remove(filepath.Join(s.Path(), ".persistor", "metadata", name)), os.Remove(filepath.Join(s.Path(), name)))
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// change replaces a blob by what becomes of it.
func (l *landed) change(name string, how func(b *saved)) {
	l.t.Helper()
	b := l.get(name)
	b.metadata = maps.Clone(b.metadata)
	how(&b)
	l.remove(name)
	l.put(b)
}

// edit changes metadata alone.
func (l *landed) edit(name string, keysAndValues ...string) {
	l.change(name, func(b *saved) {
		for pair := range slices.Chunk(keysAndValues, 2) {
			b.metadata[pair[0]] = pair[1]
		}
	})
}

// of are the names of one partition.
func (l *landed) of(partition string) (names []string) {
	for _, name := range l.names {
		if b, err := record.ParseEventHubName(name); err == nil && b.Partition == partition {
			names = append(names, name)
		}
	}
	return names
}

// numbered is a blob's name with another first number.
func numbered(name string, first int64) string {
	return name[:strings.LastIndexByte(name, '-')+1] + fmt.Sprintf("%020d.txt", first)
}

// TestVerifyFindsDamage drains a real hub, to a directory and to Blob Storage, and damages what is stored: each damage is
// found, and named, by names and metadata where they tell it.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"directory", "azurite"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			s := newSiteOf(t, emulator.Hub{Partitions: 2, Synthetic: &emulator.Synthetic{
				Events: 4000, Body: eventBody, First: time.Date(2026, 11, 24, 23, 59, 30, 0, time.UTC), Interval: 10 * time.Millisecond, // midnight is at 3,000
			}}, 4000)
			if storage == "azurite" {
				azuritetest.Run(t)
				s.onAzurite(t)
			}
			worker := start(t, "worker", s.settings.with("GET_METADATA=TRUE", "BATCH_COUNT=500"))
			if status, text := call(t, worker.url+"/api/pull?N=2", "", nil); status != 200 {
				t.Fatalf("status %d: %s", status, text)
			}
			l := s.landed(t)
			s.expectProof(t, l, "when nothing is damaged", "", "", "")
			blobs := l.of("0")
			midnight := slices.IndexFunc(blobs, func(name string) bool { return strings.Contains(name, "/25/") })
			if len(blobs) != 8 || midnight != 6 {
				t.Fatalf("unexpected blobs: %q", blobs)
			}
			for _, d := range damages(blobs, midnight) {
				before := make(map[string]saved)
				for _, name := range l.names {
					before[name] = l.get(name)
				}
				d.do(l)
				s.expectProof(t, l, d.what, d.shallow, d.deep, d.hub)
				l.restore(before)
			}
			s.expectProof(t, l, "when all is restored", "", "", "")
		})
	}
}

// restore makes all blobs what they were.
func (l *landed) restore(before map[string]saved) {
	l.t.Helper()
	for b, err := range l.List(l.t.Context(), "") {
		if err != nil {
			l.t.Fatal(err)
		}
		was, there := before[b.Name]
		if now := l.get(b.Name); there && string(now.content) == string(was.content) && maps.Equal(now.metadata, was.metadata) {
			delete(before, b.Name)
			continue
		}
		l.remove(b.Name)
	}
	for _, b := range before {
		l.put(b)
	}
}

// damage is something done to a partition's blobs, and what is said of it: by names and metadata, by contents, and in
// comparison with the hub; "" is that nothing is found.
type damage struct {
	what               string
	do                 func(l *landed)
	shallow, deep, hub string
}

// found is a damage that names and metadata tell.
func found(what, says string, do func(l *landed)) damage { return damage{what, do, says, says, says} }

func damages(blobs []string, midnight int) []damage {
	mid, last := blobs[1], blobs[len(blobs)-1]
	return []damage{
		found("a blob in the middle is gone", "gap 500 to 999", func(l *landed) { l.remove(mid) }),
		found("the last blob of a day is gone", "gap ", func(l *landed) { l.remove(blobs[midnight-1]) }),
		found("the first blob of a day is gone", "gap ", func(l *landed) { l.remove(blobs[midnight]) }),
		{"the first blob is gone", func(l *landed) { l.remove(blobs[0]) }, "", "", "gap 0 to 499"},
		{"the last blob is gone", func(l *landed) { l.remove(last) }, "", "", "its checkpoint says that all is stored up to 3999, but the last in a blob is "},
		found("a blob has another number in its name", mid[:len(mid)-8]+"0501.txt: its metadata say that it begins at 500", func(l *landed) {
			l.change(mid, func(b *saved) { b.name = numbered(mid, 501) })
		}),
		{"a blob is among another partition's", func(l *landed) {
			l.change(last, func(b *saved) {
				b.name = strings.Replace(last, "/0000-", "/0007-", 1)
			})
		}, "", `of partition "7"`, "the hub has no such partition"},
		found("a blob is on another day", "its metadata say that it is of 2026-11-24", func(l *landed) {
			l.change(mid, func(b *saved) { b.name = strings.Replace(mid, "/24/", "/23/", 1) })
		}),
		found("a blob is cut short", mid+": it has ", func(l *landed) {
			l.change(mid, func(b *saved) { b.content = b.content[:len(b.content)/2] })
		}),
		found("a blob has grown", mid+": it has ", func(l *landed) {
			l.change(mid, func(b *saved) { b.content = append(b.content, b.content[:200]...) })
		}),
		{"a record is another's", func(l *landed) {
			l.change(mid, func(b *saved) {
				b.content = []byte(strings.Replace(string(b.content), `"sequence_number":777,`, `"sequence_number":778,`, 1))
			})
		}, "", mid + `: record 277 is number 778 of partition "0", expected number 777`, ""},
		found("metadata tell of more", "count is 500, but from first 500 to last 1000", func(l *landed) { l.edit(mid, "last", "1000") }),
		found("metadata tell of fewer", "gap 999 to 999", func(l *landed) { l.edit(mid, "last", "998", "count", "499") }),
		found("metadata tell of another length", mid+": it has ", func(l *landed) { l.edit(mid, "bytes", "1000") }),
		found("metadata tell of a loss", "lost 500 to 999", func(l *landed) {
			l.remove(mid)
			l.edit(blobs[2], "after", "499")
		}),
		found("metadata tell of another hub", "gap 500 to 999", func(l *landed) { l.edit(mid, "hub", "ns.servicebus.windows.net/other") }),
		found("a blob is there twice, cut elsewhere", "are in another blob", func(l *landed) {
			b := l.get(mid)
			records := strings.SplitAfter(string(b.content), "\n\n")
			b.name, b.content, b.metadata = numbered(mid, 600), []byte(strings.Join(records[100:], "")), maps.Clone(b.metadata)
			for key, n := range map[string]int{"first": 600, "count": 400, "after": 599, "bytes": len(b.content)} {
				b.metadata[key] = strconv.Itoa(n)
			}
			l.put(b)
		}),
		{"a blob is there again, under numbers of its own", func(l *landed) {
			b := l.get(last)
			b.metadata = maps.Clone(b.metadata)
			count, _ := strconv.Atoi(b.metadata["count"])
			b.name = numbered(last, 4000)
			for key, n := range map[string]int{"first": 4000, "last": 3999 + count, "after": 3999} {
				b.metadata[key] = strconv.Itoa(n)
			}
			l.put(b)
		}, "", "expected number 4000", "is stored, but the hub's last is 3999"},
	}
}

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

func (s settings) lookup(name string) (string, bool) {
	value, ok := s[name]
	return value, ok
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
