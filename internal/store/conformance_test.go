package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/store"
)

// TestConformance holds every implementation of Store to the same promises.
func TestConformance(t *testing.T) {
	implementations := []struct {
		name string
		open func(t *testing.T) store.Store // on an empty container of its own
	}{
		{"dir", func(t *testing.T) store.Store {
			return open(t, store.Options{Location: "file://" + t.TempDir(), Container: "a-container", Create: true})
		}},
		{"azure", func(t *testing.T) store.Store {
			return open(t, store.Options{Location: azuritetest.Run(t), Container: azuritetest.Container(t), Create: true})
		}},
	}
	promises := []struct {
		name string
		hold func(t *testing.T, s store.Store)
	}{
		{"a blob comes back as it was", roundTrip},
		{"metadata come back as they were", metadataRoundTrip},
		{"metadata are replaced as a whole", metadataReplaced},
		{"of many who set metadata one is the last", oneIsLast},
		{"a name is given once", createdOnce},
		{"of many creators one wins", oneWinner},
		{"a lock is one holder's", lockHeld},
		{"of many who lock one wins", oneLocks},
		{"a lock is no blob of another's", lockApart},
		{"names are refused alike", badNames},
		{"metadata are refused alike", badMetadata},
		{"what is not there is not found", notFound},
		{"a list is in order of names", listOrder},
		{"a list can be left", listLeft},
		{"a cancelled context stores nothing", cancelled},
		{"a blob grows at its end", grows},
		{"a blob is appended to where it ends", appendedWhereItEnds},
		{"metadata are replaced where a blob ends", metadataWhereItEnds},
		{"a blob grows whoever sets its metadata", survivesSetMetadata},
		{"a blob that is full takes no more", takesNoMore},
		{"a large body is appended", takesLargeBodies},
		{"a document comes back as it was written last", documentRoundTrip},
		{"a document is written on condition", documentConditions},
		{"documents are refused alike", documentsRefused},
		{"a cancelled context writes no document", documentsCancelled},
		{"a folder's documents are named in order", documentNames},
		{"of many who count up nothing is lost", nothingLost},
		{"documents come and go without disturbing others", documentsApart},
	}
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) {
			for _, p := range promises {
				t.Run(p.name, func(t *testing.T) { p.hold(t, i.open(t)) })
			}
		})
	}
}

// TestMissingContainer holds every implementation to saying which setting helps.
func TestMissingContainer(t *testing.T) {
	locations := map[string]func(t *testing.T) string{
		"dir":   func(t *testing.T) string { return "file://" + t.TempDir() },
		"azure": func(t *testing.T) string { return azuritetest.Run(t) },
	}
	for name, location := range locations {
		t.Run(name, func(t *testing.T) {
			o := store.Options{Location: location(t), Container: azuritetest.Container(t)}
			_, err := store.Open(t.Context(), o)
			if !errors.Is(err, store.ErrNoContainer) {
				t.Fatalf("Open of a missing container: %v, want ErrNoContainer", err)
			}
			for _, setting := range []string{"PERSISTOR_CONTAINER_NAME", "PERSISTOR_CREATE_CONTAINER=TRUE"} {
				if !strings.Contains(err.Error(), setting) {
					t.Errorf("error %q does not name %s", err, setting)
				}
			}
			o.Create = true
			var wg sync.WaitGroup
			for range 8 { // who loses the race to create it is served all the same
				wg.Go(func() { open(t, o) })
			}
			wg.Wait()
			o.Create = false
			open(t, o)
		})
	}
}

func open(t *testing.T, o store.Options) store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Error(err)
		return nil
	}
	if d, ok := s.(*store.Dir); ok {
		t.Cleanup(func() { d.Close() })
	}
	return s
}

func create(t *testing.T, s store.Store, name string, body []byte, metadata map[string]string) {
	t.Helper()
	if existing, err := s.Create(t.Context(), name, body, metadata); err != nil || existing != nil {
		t.Fatalf("Create(%q) = %v, %v", name, existing, err)
	}
}

func content(t *testing.T, s store.Store, name string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func list(t *testing.T, s store.Store, prefix string) []store.Blob {
	t.Helper()
	var blobs []store.Blob
	for b, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, b)
	}
	return blobs
}

func roundTrip(t *testing.T, s store.Store) {
	large := make([]byte, 20<<20)
	for i := range large {
		large[i] = byte(i * i >> 7)
	}
	for name, body := range map[string][]byte{
		"empty":                   {},
		"binary":                  {0, 255, '\r', '\n', 0xc3},
		"hub/2026/01/31/large":    large,
		"hub/2026/01/31/größe ✓?": []byte("a name need not be ASCII"),
		"hub/a%2fb#c":             []byte("nor fit for a URL"),
		strings.Repeat("n", 255):  []byte("the longest segment"),
	} {
		create(t, s, name, body, nil)
		if got := content(t, s, name); !bytes.Equal(got, body) {
			t.Errorf("%q: %d bytes came back as %d other ones", name, len(body), len(got))
		}
		if blobs := list(t, s, name); len(blobs) != 1 || blobs[0].Name != name || blobs[0].Size != int64(len(body)) {
			t.Errorf("List(%q) = %v, want that blob of %d bytes", name, blobs, len(body))
		}
	}
}

func metadataRoundTrip(t *testing.T, s store.Store) {
	for name, metadata := range map[string]map[string]string{
		"none": nil,
		"some": {"first": "0", "last": "262143", "_odd": "a b\"c'\\~!"},
		"most": {"k": strings.Repeat("v", store.MaxMetadata-1)},
	} {
		create(t, s, name, []byte("x"), metadata)
		want := metadata
		if want == nil {
			want = map[string]string{}
		}
		got, err := s.Metadata(t.Context(), name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Metadata(%q): %v, (-want +got)\n%s", name, err, diff)
		}
		if diff := cmp.Diff([]store.Blob{{Name: name, Size: 1, Metadata: want}}, list(t, s, name)); diff != "" {
			t.Errorf("List(%q): (-want +got)\n%s", name, diff)
		}
	}
}

func metadataReplaced(t *testing.T, s store.Store) {
	create(t, s, "a/b", []byte("content"), map[string]string{"first": "0", "unsettled": "true"})
	for _, metadata := range []map[string]string{
		{"first": "0"}, {"first": "0"}, {}, nil, {"other": "x", "_odd": "a b\"c'\\~!"}, {"k": strings.Repeat("v", store.MaxMetadata-1)},
	} {
		if err := s.SetMetadata(t.Context(), "a/b", metadata); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(metadata)
		if want == nil {
			want = map[string]string{}
		}
		got, err := s.Metadata(t.Context(), "a/b")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Metadata: %v, (-want +got)\n%s", err, diff)
		}
		if diff := cmp.Diff([]store.Blob{{Name: "a/b", Size: 7, Metadata: want}}, list(t, s, "")); diff != "" {
			t.Errorf("List: (-want +got)\n%s", diff)
		}
		existing, err := s.Create(t.Context(), "a/b", nil, nil)
		if diff := cmp.Diff(want, existing); !errors.Is(err, store.ErrExists) || diff != "" {
			t.Errorf("Create of what is there: %v, (-want +got)\n%s", err, diff)
		}
		if got := content(t, s, "a/b"); string(got) != "content" {
			t.Errorf("with other metadata the blob holds %q", got)
		}
	}
	for _, name := range []string{"a", "a/c", "a/b/c", "b"} {
		if err := s.SetMetadata(t.Context(), name, map[string]string{"k": "v"}); !errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrImmutable) {
			t.Errorf("SetMetadata(%q) = %v, want ErrNotFound", name, err)
		}
	}
	if got := list(t, s, ""); len(got) != 1 {
		t.Errorf("setting metadata of what is not there made blobs: %v", got)
	}
}

func oneIsLast(t *testing.T, s store.Store) {
	create(t, s, "blob", []byte("content"), map[string]string{"a": "0", "b": "0"})
	const writers = 8
	read := make(chan struct{})
	var writing, reading sync.WaitGroup
	reading.Go(func() {
		for {
			if m, err := s.Metadata(t.Context(), "blob"); err != nil || len(m) != 2 || m["a"] != m["b"] {
				t.Errorf("read meanwhile: %v, %v; want both from one writer", m, err)
				return
			}
			select {
			case <-read:
				return
			default:
			}
		}
	})
	for i := range writers {
		writing.Go(func() {
			for j := range 5 {
				me := fmt.Sprint(i, "-", j)
				if err := s.SetMetadata(t.Context(), "blob", map[string]string{"a": me, "b": me}); err != nil {
					t.Errorf("writer %s: %v", me, err)
				}
			}
		})
	}
	writing.Wait()
	close(read)
	reading.Wait()
	m, err := s.Metadata(t.Context(), "blob")
	if err != nil || !strings.HasSuffix(m["a"], "-4") || m["a"] != m["b"] || string(content(t, s, "blob")) != "content" {
		t.Errorf("at the end: %v, %v; want what a writer wrote last", m, err)
	}
}

func createdOnce(t *testing.T, s store.Store) {
	create(t, s, "a/b", []byte("first"), map[string]string{"last": "7"})
	existing, err := s.Create(t.Context(), "a/b", []byte("second"), map[string]string{"last": "9"})
	if !errors.Is(err, store.ErrExists) || !cmp.Equal(existing, map[string]string{"last": "7"}) {
		t.Errorf("second Create = %v, %v; want the first one's metadata and ErrExists", existing, err)
	}
	if got := content(t, s, "a/b"); string(got) != "first" {
		t.Errorf("after a second Create the blob holds %q", got)
	}
}

func oneWinner(t *testing.T, s store.Store) {
	const creators = 16
	for round := range 4 {
		name := fmt.Sprintf("round/%d", round)
		var won atomic.Int32
		var wg sync.WaitGroup
		var winners [creators]string
		for i := range creators {
			wg.Go(func() {
				me := fmt.Sprint(i)
				body := bytes.Repeat([]byte(me+"\n"), 10_000)
				existing, err := s.Create(t.Context(), name, body, map[string]string{"creator": me})
				switch {
				case err == nil:
					won.Add(1)
					winners[i] = me
				case errors.Is(err, store.ErrExists):
					winners[i] = existing["creator"]
				default:
					t.Errorf("creator %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := won.Load(); n != 1 {
			t.Fatalf("%d creators of %d were told that they stored %s", n, creators, name)
		}
		if all := slices.Compact(winners[:]); len(all) != 1 {
			t.Fatalf("creators were told of different winners: %v", all)
		}
		if body := bytes.Repeat([]byte(winners[0]+"\n"), 10_000); !bytes.Equal(content(t, s, name), body) {
			t.Errorf("%s does not hold what its creator %s wrote", name, winners[0])
		}
	}
}

func badNames(t *testing.T, s store.Store) {
	for _, name := range []string{
		"", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".hidden", "a/.hidden/b", "a.", "a./b",
		`a\b`, "a\nb", "a\x00b", "a\x7fb", "\xff", strings.Repeat("n", 256), strings.Repeat("nn/", 342),
	} {
		if _, err := s.Create(t.Context(), name, nil, nil); err == nil {
			t.Errorf("Create(%q) was not refused", name)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("Create(%q): error of several lines: %v", name, err)
		}
		if _, err := s.Metadata(t.Context(), name); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("Metadata(%q) = %v, want it refused", name, err)
		}
		if _, err := s.Open(t.Context(), name); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("Open(%q) = %v, want it refused", name, err)
		}
		if err := s.SetMetadata(t.Context(), name, nil); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("SetMetadata(%q) = %v, want it refused", name, err)
		}
	}
	if blobs := list(t, s, ""); blobs != nil {
		t.Errorf("refused names were stored: %v", blobs)
	}
}

func badMetadata(t *testing.T, s store.Store) {
	create(t, s, "good", nil, map[string]string{"k": "v"})
	for _, metadata := range []map[string]string{
		{"": "x"}, {"Upper": "x"}, {"9": "x"}, {"a-b": "x"}, {"a.b": "x"}, {strings.Repeat("k", 65): "x"}, {"writer": "x"}, {"announced": "x"},
		{"k": ""}, {"k": " x"}, {"k": "x "}, {"k": "a\nb"}, {"k": "é"}, {"k": strings.Repeat("v", store.MaxMetadata)},
	} {
		if _, err := s.Create(t.Context(), "blob", nil, metadata); err == nil {
			t.Fatalf("metadata %.80v were not refused", metadata)
		}
		if err := s.SetMetadata(t.Context(), "good", metadata); err == nil {
			t.Fatalf("SetMetadata did not refuse %.80v", metadata)
		}
	}
	if m, err := s.Metadata(t.Context(), "good"); err != nil || !cmp.Equal(m, map[string]string{"k": "v"}) {
		t.Errorf("after refused metadata: %v, %v", m, err)
	}
	if _, err := s.Metadata(t.Context(), "blob"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a blob of refused metadata: %v, want ErrNotFound", err)
	}
}

func notFound(t *testing.T, s store.Store) {
	create(t, s, "a/b/c", nil, nil)
	for _, name := range []string{"a", "a/b", "a/b/d", "a/b/c/d", "b"} {
		if _, err := s.Metadata(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Metadata(%q) = %v, want ErrNotFound", name, err)
		}
		if _, err := s.Open(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Open(%q) = %v, want ErrNotFound", name, err)
		}
		if name != "a" && name != "a/b" && list(t, s, name) != nil {
			t.Errorf("List(%q) is not empty", name)
		}
	}
}

func listOrder(t *testing.T, s store.Store) {
	// "-" and "." sort before "/", digits and letters behind it: a walk of folders gets this wrong.
	names := []string{
		"a", "b-c", "b.c", "b/c", "b/c-d", "b0", "c-", "c/d-e/f", "c/d/a", "c/d/b/x", "c/d0", "c0", "d/1", "d/2", "e",
	}
	shuffled := slices.Clone(names)
	slices.SortFunc(shuffled, func(a, b string) int { return strings.Compare(reversed(a), reversed(b)) })
	for _, name := range shuffled {
		create(t, s, name, []byte(name), nil)
	}
	for _, prefix := range []string{"", "a", "b", "b/", "b-", "b/c", "c", "c/", "c/d", "c/d/", "c/d/b", "d/2", "z", "c/d/b/x/y", "c/d/b/x/", "c/d/b/y/z", "x/y/z", "c//", "./", "../"} {
		var want, got []string
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		for _, b := range list(t, s, prefix) {
			got = append(got, b.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("List(%q): (-want +got)\n%s", prefix, diff)
		}
	}
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func listLeft(t *testing.T, s store.Store) {
	for i := range 5 {
		create(t, s, fmt.Sprintf("%d/x", i), nil, nil)
	}
	seen := 0
	for _, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 2 {
			break
		}
	}
	if seen != 2 {
		t.Errorf("saw %d blobs before the break, want 2", seen)
	}
}

func cancelled(t *testing.T, s store.Store) {
	create(t, s, "there", nil, map[string]string{"k": "v"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SetMetadata(ctx, "there", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("SetMetadata = %v, want context.Canceled", err)
	}
	if m, err := s.Metadata(t.Context(), "there"); err != nil || len(m) != 1 {
		t.Errorf("after a cancelled SetMetadata: %v, %v", m, err)
	}
	if _, err := s.Create(ctx, "blob", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Create = %v, want context.Canceled", err)
	}
	if _, err := s.Metadata(ctx, "blob"); !errors.Is(err, context.Canceled) {
		t.Errorf("Metadata = %v, want context.Canceled", err)
	}
	if _, err := s.Open(ctx, "blob"); !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v, want context.Canceled", err)
	}
	for b, err := range s.List(ctx, "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("List yields %v, %v; want context.Canceled", b, err)
		}
	}
	if _, err := s.Metadata(t.Context(), "blob"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after a cancelled Create: %v, want ErrNotFound", err)
	}
}
