package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/document"
	"persistor/internal/store"
)

// The promises of Documents, to which TestConformance holds every implementation.

func documents(s store.Store) store.Documents { return s.(store.Documents) }

func write(t *testing.T, s store.Store, name, body, version string) string {
	t.Helper()
	now, err := documents(s).Write(t.Context(), name, []byte(body), version)
	if err != nil || now == "" {
		t.Fatalf("Write(%q) = %q, %v", name, now, err)
	}
	return now
}

// reads fails the test unless a document has a body and a version.
func reads(t *testing.T, s store.Store, name, body, version string) {
	t.Helper()
	got, now, err := documents(s).Read(t.Context(), name)
	if err != nil || string(got) != body || now != version {
		t.Errorf("Read(%q) = %.80q in version %q, %v; want %.80q in %q", name, got, now, err, body, version)
	}
}

func documentRoundTrip(t *testing.T, s store.Store) {
	for name, body := range map[string]string{
		"empty":                      "",
		"_runs/a/b/binary":           "\x00\xff\r\n\xc3",
		"_runs/größe ✓?.json":        `{"a":1}`,
		strings.Repeat("n", 255):     "the longest segment",
		"the largest":                strings.Repeat("0123456789abcdef", document.MaxBody/16),
		"_runs/ns/hub/$Default/x.js": "x",
	} {
		version := write(t, s, name, body, "")
		reads(t, s, name, body, version)
		// It is a blob like any other.
		if got := content(t, s, name); string(got) != body {
			t.Errorf("Open(%q) = %.80q", name, got)
		}
		if diff := cmp.Diff([]store.Blob{{Name: name, Size: int64(len(body)), Metadata: map[string]string{}}}, list(t, s, name)); diff != "" {
			t.Errorf("List(%q): (-want +got)\n%s", name, diff)
		}
		version = write(t, s, name, "second", version)
		reads(t, s, name, "second", version)
		if got := content(t, s, name); string(got) != "second" {
			t.Errorf("Open(%q) = %.80q after a second Write", name, got)
		}
		if err := documents(s).Overwrite(t.Context(), name, []byte(body)); err != nil {
			t.Error(err)
		}
		if got, _, err := documents(s).Read(t.Context(), name); err != nil || string(got) != body {
			t.Errorf("Read(%q) = %.80q, %v after Overwrite", name, got, err)
		}
	}
}

func documentConditions(t *testing.T, s store.Store) {
	d := documents(s)
	const name = "_runs/document.json"
	changed := func(what, body, version string) {
		t.Helper()
		if now, err := d.Write(t.Context(), name, []byte(body), version); !errors.Is(err, store.ErrChanged) || now != "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("Write %s = %q, %v; want ErrChanged", what, now, err)
		}
	}
	if _, _, err := d.Read(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Read of what is not there = %v", err)
	}
	changed("of what is not there, with a version", "x", "version")
	first := write(t, s, name, "first", "")
	changed("without a version", "x", "")
	changed("with another version", "x", "version")
	second := write(t, s, name, "second", first)
	changed("with an old version", "x", first)
	reads(t, s, name, "second", second)
	if err := d.Overwrite(t.Context(), name, []byte("third")); err != nil {
		t.Error(err)
	}
	changed("of what was overwritten", "x", second)
	if err := d.Remove(t.Context(), name, second); !errors.Is(err, store.ErrChanged) {
		t.Errorf("Remove of an old version = %v, want ErrChanged", err)
	}
	body, third, err := d.Read(t.Context(), name)
	if err != nil || string(body) != "third" {
		t.Errorf("Read = %q, %v", body, err)
	}
	if err := d.Remove(t.Context(), name, third); err != nil {
		t.Error(err)
	}
	changed("of what was removed", "x", third)
	for _, version := range []string{"", third} {
		if err := d.Remove(t.Context(), name, version); err != nil {
			t.Errorf("Remove of what is not there = %v", err)
		}
	}
	if blobs := list(t, s, ""); blobs != nil {
		t.Errorf("after Remove there is %v", blobs)
	}
	fourth := write(t, s, name, "fourth", "")
	reads(t, s, name, "fourth", fourth)
	if err := d.Remove(t.Context(), name, ""); err != nil {
		t.Error(err)
	}
}

func documentsRefused(t *testing.T, s store.Store) {
	d := documents(s)
	for _, name := range []string{"", "/a", "a/", "../a", "a/../b", ".hidden", "a.", `a\b`, "a\nb", strings.Repeat("n", 256)} {
		_, _, read := d.Read(t.Context(), name)
		_, written := d.Write(t.Context(), name, nil, "")
		for method, err := range map[string]error{
			"Read": read, "Write": written, "Overwrite": d.Overwrite(t.Context(), name, nil), "Remove": d.Remove(t.Context(), name, ""),
		} {
			if err == nil || errors.Is(err, store.ErrNotFound) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s(%q) = %v, want it refused in a line", method, name, err)
			}
		}
	}
	large := make([]byte, document.MaxBody+1)
	if _, err := d.Write(t.Context(), "large", large, ""); err == nil {
		t.Error("Write of a body that is too large was not refused")
	}
	if err := d.Overwrite(t.Context(), "large", large); err == nil {
		t.Error("Overwrite with a body that is too large was not refused")
	}
	if blobs := list(t, s, ""); blobs != nil {
		t.Errorf("refused documents were stored: %v", blobs)
	}
	create(t, s, "large", large, nil)
	if _, _, err := d.Read(t.Context(), "large"); !errors.Is(err, document.ErrTooLarge) {
		t.Errorf("Read of a blob that is too large = %v", err)
	}
}

func documentsCancelled(t *testing.T, s store.Store) {
	version := write(t, s, "there", "first", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := documents(s)
	_, _, read := d.Read(ctx, "there")
	_, written := d.Write(ctx, "there", []byte("second"), version)
	_, created := d.Write(ctx, "new", []byte("second"), "")
	var listed error
	for _, err := range d.Names(ctx, "") {
		listed = err
	}
	for method, err := range map[string]error{
		"Read": read, "Write": written, "Write of a new one": created, "Names": listed,
		"Overwrite": d.Overwrite(ctx, "there", nil), "Remove": d.Remove(ctx, "there", ""),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v, want context.Canceled", method, err)
		}
	}
	reads(t, s, "there", "first", version)
	if got := list(t, s, ""); len(got) != 1 {
		t.Errorf("after cancelled calls there is %v", got)
	}
}

func documentNames(t *testing.T, s store.Store) {
	for _, name := range []string{"a", "f/b-c", "f/b.json", "f/b/x.json", "f/b/y/z", "f/é", "g"} {
		write(t, s, name, name, "")
	}
	create(t, s, "f/blob", nil, nil)
	for folder, want := range map[string][]string{
		"":       {"a", "g"},
		"f/":     {"f/b-c", "f/b.json", "f/blob", "f/é"},
		"f/b/":   {"f/b/x.json"},
		"f/b/y/": {"f/b/y/z"},
		"none/":  nil,
		"a/":     nil,
	} {
		var got []string
		for name, err := range documents(s).Names(t.Context(), folder) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Names(%q): (-want +got)\n%s", folder, diff)
		}
	}
	for range documents(s).Names(t.Context(), "f/") {
		break
	}
}

// countUp adds one to the number in a document, as often as it takes.
func countUp(ctx context.Context, d store.Documents, name string) error {
	for {
		body, version, err := d.Read(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(body))
		if _, err = d.Write(ctx, name, fmt.Append(nil, n+1), version); !errors.Is(err, store.ErrChanged) {
			return err
		}
	}
}

func nothingLost(t *testing.T, s store.Store) {
	const writers, each = 8, 6
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := countUp(t.Context(), documents(s), "_runs/counter"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := content(t, s, "_runs/counter"); string(got) != fmt.Sprint(writers*each) {
		t.Errorf("%d times counted up, the document says %s", writers*each, got)
	}
}

// documentsApart has documents come, change and go while blobs and documents beside them are listed and read.
func documentsApart(t *testing.T, s store.Store) {
	create(t, s, "hub/1.txt", nil, nil)
	write(t, s, "_runs/stays.json", "stays", "")
	done := make(chan struct{})
	var writing sync.WaitGroup
	defer writing.Wait()
	for i := range 4 {
		writing.Go(func() {
			name := fmt.Sprintf("_runs/run/%d.json", i%2)
			for range 12 {
				if err := documents(s).Overwrite(t.Context(), name, bytes.Repeat([]byte("progress\n"), 1000)); err != nil {
					t.Error(err)
				}
				if err := documents(s).Remove(t.Context(), name, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writing.Wait(); close(done) }()
	for looking := true; looking; {
		select {
		case <-done:
			looking = false
		default:
		}
		seen := map[string]bool{}
		for _, b := range list(t, s, "") {
			seen[b.Name] = true
		}
		if !seen["hub/1.txt"] || !seen["_runs/stays.json"] {
			t.Errorf("List misses what stays: %v", seen)
		}
		body, _, err := documents(s).Read(t.Context(), "_runs/run/0.json")
		if !errors.Is(err, store.ErrNotFound) && (err != nil || len(body) != 9000) {
			t.Errorf("Read of what comes and goes: %d bytes, %v", len(body), err)
		}
	}
	if got := list(t, s, "_runs/run/"); got != nil {
		t.Errorf("at the end there is %v", got)
	}
}
