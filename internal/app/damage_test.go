package app

import (
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
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/record"
	"persistor/internal/store"
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
