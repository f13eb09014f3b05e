package replay

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"persistor/internal/record"
	"persistor/internal/selection"
	"persistor/internal/store"
)

// broken is a keeper that fails after a while.
type broken struct {
	Keeper
	saves int
}

func (b *broken) Save(state []byte) error {
	if b.saves--; b.saves < 0 {
		return errors.New("disk full")
	}
	return b.Keeper.Save(state)
}

// What can't be kept isn't sent.
func TestProgressCantBeKept(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	put(t, d, "rides", "0", 0, withMetadata, bodies(10, "x")...)
	_, err := Run(within(t), d, s.toHub("is"), Task{ToHub: true}, &broken{s.file("progress"), 1}, Options{})
	if err == nil || !strings.Contains(err.Error(), "disk full") || s.count("is") != 0 {
		t.Errorf("%v, and the hub holds %d", err, s.count("is"))
	}
}

const fewBlobs = 8

// interrupted is progress in the middle of what d holds, with the first portion behind it.
func interrupted(t *testing.T, s *site, d *store.Dir, blobs int) string {
	t.Helper()
	for i := range blobs {
		put(t, d, "rides", "0", int64(i*2), withMetadata, bodies(2, "x")...)
	}
	path := filepath.Join(s.dir, "progress")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(within(t))
	r, err := begin(d, s.toHub("is"), Task{ToHub: true}, f, Options{Rate: 50, Report: func(r Result) {
		if r.Sent > 2*fewBlobs {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.portion = fewBlobs
	result, err := r.goOn(ctx)
	if err == nil || result.Sent <= 2*fewBlobs {
		t.Fatalf("%+v, %v", result, err)
	}
	return path
}

func TestWhatIsStoredChanges(t *testing.T) {
	t.Parallel()
	const blobs = 5 * fewBlobs
	name := func(i int) string { return record.EventHubName("rides", "0", at, int64(i*2)) }
	for _, test := range []struct {
		what   string
		change func(t *testing.T, d *store.Dir)
		err    string
		missed int64
		sent   int64
	}{
		{what: "nothing", change: func(*testing.T, *store.Dir) {}, sent: 2 * blobs},
		{what: "a blob came before", change: func(t *testing.T, d *store.Dir) {
			put(t, d, "aaa", "0", 0, withMetadata, bodies(1, "new")...)
		}, missed: 1, sent: 2 * blobs},
		{what: "a blob came behind", change: func(t *testing.T, d *store.Dir) {
			put(t, d, "rides", "0", 2*blobs, withMetadata, bodies(1, "new")...)
		}, sent: 2*blobs + 1},
		{what: "a blob that was sent is gone", change: func(t *testing.T, d *store.Dir) { remove(t, d, name(3)) }, err: "there were"},
		{what: "the last one is gone", change: func(t *testing.T, d *store.Dir) { remove(t, d, name(fewBlobs-1)) }, err: "is gone"},
		{what: "one that is under way is gone", change: func(t *testing.T, d *store.Dir) { remove(t, d, name(fewBlobs)) }, err: "of which some was sent, is gone"},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			s, d := oneHub(t)
			path := interrupted(t, s, d, blobs)
			test.change(t, d)
			f, err := OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			result, err := Run(within(t), d, s.toHub("is"), Task{ToHub: true}, f, Options{})
			if test.err != "" {
				if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%+v, %v", result, err)
				}
				return
			}
			if err != nil || result.Missed != test.missed || result.Sent != test.sent || result.Uncertain != 0 || s.count("is") != test.sent {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// remove takes a blob away as a person might: its file, and what the directory knows of it.
func remove(t *testing.T, d *store.Dir, name string) {
	t.Helper()
	for _, path := range []string{name, ".persistor/metadata/" + name} {
		if err := os.Remove(filepath.Join(d.Path(), path)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedProgress(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	put(t, d, "rides", "0", 0, withMetadata, bodies(1, "x")...)
	task := Task{ToHub: true}
	good, err := json.Marshal(newState(task))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "{}", "null", "[]", string(good[:len(good)/2]),
		strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		strings.Replace(string(good), `"complete"`, `"blobs":[{"name":"a","done":[[3,1]]}],"complete"`, 1),
		strings.Replace(string(good), `"complete"`, `"blobs":[{"name":"a","done":[[0,99999999999]]}],"complete"`, 1),
		strings.Replace(string(good), `"complete"`, `"blobs":[null],"complete"`, 1),
	} {
		path := filepath.Join(t.TempDir(), "progress")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(within(t), d, s.toHub("is"), task, f, Options{})
		if err == nil || !strings.HasPrefix(err.Error(), "read progress: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.200s: %v", text, err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%.200s became %.200s", text, now)
		}
		f.Close()
	}
	if n := s.count("is"); n != 0 {
		t.Errorf("%d were sent", n)
	}
}

// A relative time means what it meant when the replay was begun.
func TestSelectionOfTheBeginning(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	put(t, d, "rides", "0", 0, withMetadata, bodies(10, "x")...)
	task := Task{ToHub: true, Selected: "--from 1h", Selection: selection.Selection{From: at.Add(-time.Minute)}}
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	f := s.file("progress")
	if _, err := Run(ctx, d, s.toHub("is"), task, f, Options{}); err == nil {
		t.Error("it was not stopped")
	}
	task.Selection.From = at.Add(time.Minute)
	if result, err := Run(within(t), d, s.toHub("is"), task, f, Options{}); err != nil || result.Sent != 10 {
		t.Errorf("%+v, %v", result, err)
	}
}
