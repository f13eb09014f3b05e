package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/store"
)

// appendTo appends or fails the test.
func appendTo(t *testing.T, s store.Store, name string, at int, body string, metadata map[string]string) {
	t.Helper()
	if existing, err := s.Append(t.Context(), name, int64(at), []byte(body), metadata); err != nil || existing != nil {
		t.Fatalf("Append(%q, %d) = %v, %v", name, at, existing, err)
	}
}

// is fails the test unless a blob is as it should be, by every method that shows it.
func is(t *testing.T, s store.Store, name, body string, metadata map[string]string) {
	t.Helper()
	if got := content(t, s, name); string(got) != body {
		t.Errorf("%s holds %.80q, want %.80q", name, got, body)
	}
	got, err := s.Metadata(t.Context(), name)
	if diff := cmp.Diff(metadata, got); err != nil || diff != "" {
		t.Errorf("Metadata(%s): %v, (-want +got)\n%s", name, err, diff)
	}
	want := []store.Blob{{Name: name, Size: int64(len(body)), Metadata: metadata}}
	if diff := cmp.Diff(want, list(t, s, name)); diff != "" {
		t.Errorf("List(%s): (-want +got)\n%s", name, diff)
	}
	if existing, err := s.Create(t.Context(), name, []byte("x"), nil); !errors.Is(err, store.ErrExists) || !cmp.Equal(existing, metadata) {
		t.Errorf("Create(%s) = %v, %v, want what is there", name, existing, err)
	}
}

func grows(t *testing.T, s store.Store) {
	body := ""
	for n, metadata := range []map[string]string{
		{"first": "0", "last": "1", "unsettled": "true"}, {"first": "0", "last": "2"}, {"other": "_ a b\"c'\\~!<>&"}, {"k": strings.Repeat("v", 3000)}, {"k": strings.Repeat("w", 3000)},
	} {
		more := fmt.Sprintf("block %d\n", n)
		appendTo(t, s, "a/b", len(body), more, metadata)
		body += more
		is(t, s, "a/b", body, metadata)
	}
	appendTo(t, s, "a/b", len(body), "x", nil)
	is(t, s, "a/b", body+"x", map[string]string{})
}

func appendedWhereItEnds(t *testing.T, s store.Store) {
	first, other := map[string]string{"n": "1"}, map[string]string{"n": "2"}
	create(t, s, "made", []byte("content"), first)
	appendTo(t, s, "grown", 0, "content", first)
	for _, c := range []struct {
		name string
		at   int64
		body string
		want error
	}{
		{"grown", 0, "content", store.ErrPosition}, {"grown", 0, "x", store.ErrPosition}, {"grown", 6, "x", store.ErrPosition},
		{"grown", 8, "x", store.ErrPosition}, {"grown", 8, "", store.ErrPosition}, {"grown", 1 << 50, "x", store.ErrPosition},
		{"made", 0, "x", store.ErrExists}, {"made", 7, "x", store.ErrExists}, {"made", 7, "", store.ErrExists}, {"made", 1, "x", store.ErrExists},
		{"none", 1, "x", store.ErrNotFound}, {"none", 1, "", store.ErrNotFound},
	} {
		existing, err := s.Append(t.Context(), c.name, c.at, []byte(c.body), other)
		want := first
		if c.want == store.ErrNotFound {
			want = nil
		}
		if !errors.Is(err, c.want) || !cmp.Equal(existing, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Append(%q, %d, %q) = %v, %v; want %v", c.name, c.at, c.body, existing, err, c.want)
		}
	}
	is(t, s, "made", "content", first)
	is(t, s, "grown", "content", first)
	if _, err := s.Metadata(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("appending to what is not there made it: %v", err)
	}
	for name, refused := range map[string]func() error{
		"a negative position": func() error { _, err := s.Append(t.Context(), "none", -1, []byte("x"), nil); return err },
		"nothing at 0":        func() error { _, err := s.Append(t.Context(), "none", 0, nil, first); return err },
		"a bad name":          func() error { _, err := s.Append(t.Context(), "../x", 0, []byte("x"), nil); return err },
		"the store's own keys": func() error {
			_, err := s.Append(t.Context(), "none", 0, []byte("x"), map[string]string{"announced": "x"})
			return err
		},
		"too large a change": func() error {
			appendTo(t, s, "full", 0, "x", map[string]string{"k": strings.Repeat("v", store.MaxMetadata-1)})
			_, err := s.Append(t.Context(), "full", 1, []byte("x"), map[string]string{"k": strings.Repeat("w", store.MaxMetadata-1)})
			return err
		},
		"a cancelled context": func() error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := s.Append(ctx, "none", 0, []byte("x"), nil)
			return err
		},
	} {
		if err := refused(); err == nil || errors.Is(err, store.ErrPosition) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	if got := list(t, s, "none"); got != nil {
		t.Errorf("what was refused is there: %v", got)
	}
}

func metadataWhereItEnds(t *testing.T, s store.Store) {
	appendTo(t, s, "blob", 0, "content", map[string]string{"n": "1", "unsettled": "true"})
	for range 2 {
		appendTo(t, s, "blob", 7, "", map[string]string{"n": "1"})
		is(t, s, "blob", "content", map[string]string{"n": "1"})
	}
	if err := s.SetMetadata(t.Context(), "blob", map[string]string{"n": "2"}); err != nil {
		t.Fatal(err)
	}
	is(t, s, "blob", "content", map[string]string{"n": "2"})
	appendTo(t, s, "blob", 7, " and more", map[string]string{"n": "3"})
	is(t, s, "blob", "content and more", map[string]string{"n": "3"})
}

// survivesSetMetadata has others set the metadata of a blob all the time while it grows.
func survivesSetMetadata(t *testing.T, s store.Store) {
	appendTo(t, s, "blob", 0, "x", nil)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := s.SetMetadata(t.Context(), "blob", map[string]string{"set": strconv.Itoa(n)}); err != nil && !strings.Contains(err.Error(), "ConditionNotMet") {
					t.Error(err)
					return
				}
			}
		})
	}
	const blocks = 30
	for n := 1; n <= blocks; n++ {
		if _, err := s.Append(t.Context(), "blob", int64(n), []byte("x"), map[string]string{"n": strconv.Itoa(n)}); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
	if got := content(t, s, "blob"); string(got) != strings.Repeat("x", blocks+1) {
		t.Errorf("the blob holds %d bytes, want %d", len(got), blocks+1)
	}
}

func takesNoMore(t *testing.T, s store.Store) {
	store.LimitBlocks(s, 3)
	for n := range 3 {
		appendTo(t, s, "blob", n, strconv.Itoa(n), map[string]string{"n": strconv.Itoa(n)})
	}
	for range 2 {
		existing, err := s.Append(t.Context(), "blob", 3, []byte("3"), map[string]string{"n": "3"})
		if !errors.Is(err, store.ErrFull) || existing["n"] != "2" {
			t.Errorf("a fourth block: %v, %v; want ErrFull", existing, err)
		}
	}
	appendTo(t, s, "blob", 3, "", map[string]string{"n": "settled"})
	is(t, s, "blob", "012", map[string]string{"n": "settled"})
}

func takesLargeBodies(t *testing.T, s store.Store) {
	size := store.MaxAppend
	if testing.Short() {
		size = 5 << 20 // above what older versions of the service take
	}
	large := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	appendTo(t, s, "blob", 0, string(large), nil)
	appendTo(t, s, "blob", len(large), "more", nil)
	if got := content(t, s, "blob"); !bytes.Equal(got, append(large, "more"...)) {
		t.Errorf("%d bytes came back as %d other ones", len(large)+4, len(got))
	}
	if _, err := s.Append(t.Context(), "blob", int64(len(large))+4, make([]byte, store.MaxAppend+1), nil); err == nil {
		t.Error("a larger body was not refused")
	}
}

// TestAppendersTakeTurns has several writers, each with a store of its own, append numbered lines: what is
// there at the end are all lines of all, each once, and metadata that count them. Others create blobs of
// the same names meanwhile.
func TestAppendersTakeTurns(t *testing.T) {
	locations := map[string]func(t *testing.T) string{
		"dir":   func(t *testing.T) string { return "file://" + t.TempDir() },
		"azure": func(t *testing.T) string { return azuritetest.Run(t) },
	}
	for name, location := range locations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := store.Options{Location: location(t), Container: azuritetest.Container(t), Create: true}
			const writers, lines = 3, 12
			for round := range 3 {
				blob := fmt.Sprint("round/", round)
				var created atomic.Int32
				var wg sync.WaitGroup
				for w := range writers {
					s := open(t, o)
					wg.Go(func() {
						for n := range lines {
							if !appendLine(t, s, blob, fmt.Sprintf("writer %d line %d\n", w, n)) {
								created.Add(1)
								return
							}
						}
					})
				}
				if round == 2 {
					s := open(t, o)
					wg.Go(func() {
						if _, err := s.Create(t.Context(), blob, []byte("created"), map[string]string{"by": "create"}); err != nil && !errors.Is(err, store.ErrExists) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				got := string(content(t, open(t, o), blob))
				if got == "created" && created.Load() == writers {
					continue
				}
				got = strings.TrimPrefix(got, "created")
				for w := range writers {
					for n := range lines {
						if line := fmt.Sprintf("writer %d line %d\n", w, n); strings.Count(got, line) != 1 {
							t.Errorf("%q is there %d times", line, strings.Count(got, line))
						}
					}
				}
				if m, err := open(t, o).Metadata(t.Context(), blob); err != nil || m["bytes"] != fmt.Sprint(len(got)) {
					t.Errorf("metadata %v, %v of %d bytes", m, err, len(got))
				}
			}
		})
	}
}

// appendLine appends a line wherever the blob ends; false means that somebody created it.
func appendLine(t *testing.T, s store.Store, name, line string) bool {
	at := int64(0)
	for range 1000 {
		metadata := map[string]string{"bytes": strconv.FormatInt(at+int64(len(line)), 10)}
		existing, err := s.Append(t.Context(), name, at, []byte(line), maps.Clone(metadata))
		switch {
		case err == nil:
			return true
		case errors.Is(err, store.ErrExists):
			return false
		case !errors.Is(err, store.ErrPosition):
			t.Error(err)
			return true
		}
		if existing["by"] == "create" { // by a Create that found a blob without content
			at = int64(len("created"))
			continue
		}
		if at, err = strconv.ParseInt(existing["bytes"], 10, 64); err != nil {
			t.Error(err)
			return true
		}
	}
	t.Error("never came to append")
	return true
}
