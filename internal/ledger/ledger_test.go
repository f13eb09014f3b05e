package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/google/go-cmp/cmp"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/document"
	"persistor/internal/ledger"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

const source = "Namespace.servicebus.windows.net/hub/$Default"

var start = time.Date(2026, 11, 25, 1, 2, 3, 456_789_000, time.UTC)

// each runs a test over either kind of storage.
func each(t *testing.T, test func(t *testing.T, s ledger.Storage)) {
	for name, location := range map[string]func(t *testing.T) string{
		"dir":   func(t *testing.T) string { return "file://" + t.TempDir() },
		"azure": func(t *testing.T) string { return azuritetest.Run(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(t.Context(), store.Options{Location: location(t), Container: azuritetest.Container(t), Create: true})
			if err != nil {
				t.Fatal(err)
			}
			if d, ok := s.(*store.Dir); ok {
				t.Cleanup(func() { d.Close() })
			}
			test(t, s.(ledger.Storage))
		})
	}
}

// newRun is a run that was asked for at a time.
func newRun(at time.Time, suffix string) ledger.Run {
	return ledger.Run{
		ID: at.UTC().Format("20060102T150405Z") + "-" + suffix, Kind: ledger.Backfill, Source: source, State: ledger.Queued,
		Created: at, Alive: at.Add(time.Minute),
	}
}

func create(t *testing.T, l *ledger.Ledger, run ledger.Run) ledger.Run {
	t.Helper()
	if err := l.Create(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	return run
}

func update(t *testing.T, l *ledger.Ledger, id string, change func(*ledger.Run)) ledger.Run {
	t.Helper()
	run, err := l.Update(t.Context(), id, func(r *ledger.Run) error { change(r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestRunComesBack(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{}).At(start.Add(time.Second))
		want := create(t, l, newRun(start, "abcdef"))
		if err := l.Create(t.Context(), want); !errors.Is(err, ledger.ErrRunExists) || !strings.Contains(err.Error(), want.ID) {
			t.Errorf("Create again = %v, want ErrRunExists", err)
		}
		local := start.In(time.FixedZone("somewhere", 3600))
		change := func(r *ledger.Run) {
			r.State, r.Wave, r.Counts.Messages = ledger.Running, 3, 42
			r.CancelRequested, r.Ended = local, local
			r.Partitions = []ledger.Partition{{Partition: "0", From: 5, To: 9, Checkpoint: 4}}
			r.Partitions[0].Done(work.Range{From: 5, To: 6}, "123")
			r.Waves = []ledger.Wave{{Wave: 3, Began: local}}
			r.Errors = []ledger.Error{{Time: local, Unit: -1, Error: "one\nline"}}
			r.Request.From.Time, r.Request.Until.Position = local, "now"
			r.Units = []ledger.Unit{{Unit: 1, State: ledger.UnitFailed, Cells: []work.Cell{{Partition: "0", Range: work.Range{From: 5, To: 9}}}, Error: "bad"}}
		}
		written := update(t, l, want.ID, change)
		change(&want)
		// Times are kept to the millisecond, in UTC.
		short := start.Truncate(time.Millisecond)
		for _, at := range []*time.Time{&want.Created, &want.CancelRequested, &want.Ended, &want.Waves[0].Began, &want.Errors[0].Time, &want.Request.From.Time} {
			*at = short
		}
		want.Updated, want.Alive = short.Add(time.Second), short.Add(time.Minute)
		want.Errors[0].Error = "one line"
		read, err := l.Read(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		for from, got := range map[string]ledger.Run{"Update": written, "Read": read} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", from, diff)
			}
		}
		body, _, err := s.Read(t.Context(), l.Path()+want.ID+".json")
		if err != nil || !strings.HasPrefix(l.Path(), "_runs/") || strings.Count(string(body), "\n") != 1 || strings.Contains(string(body), "0001-01-01") {
			t.Errorf("the document in %s is no line of JSON without empty times: %s, %v", l.Path(), body, err)
		}
	})
}

// Documents lie where the lock of the source's runs is, and apart from those of other sources.
func TestPath(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		queue := ledger.New(s, "ns/q", ledger.Retention{})
		below := ledger.New(s, "ns/q/subscriptions/a b", ledger.Retention{})
		if want := "_runs/" + record.EventHubFolder("ns/q/subscriptions/a b"); below.Path() != want {
			t.Errorf("Path = %s, want %s", below.Path(), want)
		}
		create(t, queue, newRun(start, "1"))
		create(t, below, newRun(start, "2"))
		for l, suffix := range map[*ledger.Ledger]string{queue: "1", below: "2"} {
			if runs, err := l.List(t.Context(), 10); err != nil || len(runs) != 1 || !strings.HasSuffix(runs[0].ID, "-"+suffix) {
				t.Errorf("List of %s = %v, %v", l.Path(), runs, err)
			}
		}
	})
}

func TestUpdateLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		run := create(t, ledger.New(s, source, ledger.Retention{}), newRun(start, "1"))
		const writers, each = 6, 5
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				l := ledger.New(s, source, ledger.Retention{})
				for range each {
					_, err := l.Update(t.Context(), run.ID, func(r *ledger.Run) error { r.Counts.Messages++; return nil })
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got, err := ledger.New(s, source, ledger.Retention{}).Read(t.Context(), run.ID); err != nil || got.Counts.Messages != writers*each {
			t.Errorf("%d updates, and the run says %d, %v", writers*each, got.Counts.Messages, err)
		}
	})
}

// Whoever is slower decides anew, by what the faster one has written; who doesn't want to go on then writes nothing.
func TestUpdateDecidesAnew(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{})
		run := create(t, l, newRun(start, "1"))
		over := errors.New("it is over")
		calls := 0
		_, err := l.Update(t.Context(), run.ID, func(r *ledger.Run) error {
			if calls++; r.State.Over() {
				return over
			}
			if calls == 1 {
				update(t, l, run.ID, func(r *ledger.Run) { r.State = ledger.Cancelled })
			}
			r.State = ledger.Running
			return nil
		})
		if err != over || calls != 2 {
			t.Errorf("Update = %v after %d calls; want the error of change after 2", err, calls)
		}
		if got, err := l.Read(t.Context(), run.ID); err != nil || got.State != ledger.Cancelled {
			t.Errorf("the run is %s, %v", got.State, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = l.Update(ctx, run.ID, func(r *ledger.Run) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), run.ID) {
			t.Errorf("Update = %v, want context.Canceled", err)
		}
	})
}

func TestUnknownRun(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{})
		if _, err := l.Read(t.Context(), "none"); !errors.Is(err, ledger.ErrNoRun) || err.Error() != `there is no run "none", and no other one of this source` {
			t.Errorf("Read = %v", err)
		}
		var ids []string
		for i := range 5 {
			ids = append(ids, create(t, l, newRun(start.Add(time.Duration(i)*time.Second), "a")).ID)
		}
		_, read := l.Read(t.Context(), "none")
		_, updated := l.Update(t.Context(), "none", func(*ledger.Run) error { t.Error("change was called"); return nil })
		want := fmt.Sprintf(`there is no run "none": the newest are %s, %s, %s`, ids[4], ids[3], ids[2])
		for _, err := range []error{read, updated} {
			if !errors.Is(err, ledger.ErrNoRun) || err.Error() != want {
				t.Errorf("%v; want %s", err, want)
			}
		}
	})
}

func TestIDsAreChecked(t *testing.T) {
	s, err := store.OpenDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := ledger.New(s, source, ledger.Retention{})
	for _, id := range []string{"", ".", "..", ".a", "a.", "a/b", "../a", `a\b`, "a b", "é", "a\n", strings.Repeat("a", 65)} {
		_, read := l.Read(t.Context(), id)
		_, updated := l.Update(t.Context(), id, func(*ledger.Run) error { return nil })
		_, tracked := l.Track(t.Context(), id, ledger.Progress{})
		_, progress := l.Progress(t.Context(), id)
		for method, err := range map[string]error{
			"Create": l.Create(t.Context(), ledger.Run{ID: id}), "Read": read, "Update": updated, "Track": tracked,
			"Progress": progress, "ClearProgress": l.ClearProgress(t.Context(), id),
		} {
			if err == nil || errors.Is(err, ledger.ErrNoRun) || !strings.Contains(err.Error(), "1 to 64") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s(%q) = %v, want the id refused", method, id, err)
			}
		}
	}
	for _, id := range []string{"a", "-", "_", "a.b", strings.Repeat("a", 64)} {
		if err := l.Create(t.Context(), ledger.Run{ID: id}); err != nil {
			t.Error(err)
		}
	}
}

// reading counts the documents that are read.
type reading struct {
	ledger.Storage
	reads atomic.Int32
}

func (r *reading) Read(ctx context.Context, name string) ([]byte, string, error) {
	r.reads.Add(1)
	return r.Storage.Read(ctx, name)
}

func TestListIsOfTheNewest(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		counting := &reading{Storage: s}
		l := ledger.New(counting, source, ledger.Retention{}).At(start)
		var ids []string
		for i := range 30 {
			run := newRun(start.Add(time.Duration(i)*time.Hour-48*time.Hour), "a")
			run.Units, run.Errors = []ledger.Unit{{}}, []ledger.Error{{Error: "e"}}
			run.Waves = []ledger.Wave{{Wave: 1}}
			ids = append(ids, create(t, l, run).ID)
			if _, err := l.Track(t.Context(), run.ID, ledger.Progress{Unit: i}); err != nil {
				t.Fatal(err)
			}
		}
		for limit, want := range map[int]int{-1: 0, 0: 0, 1: 1, 10: 10, 30: 30, 1 << 30: 30} {
			counting.reads.Store(0)
			runs, err := l.List(t.Context(), limit)
			if err != nil || len(runs) != want || int(counting.reads.Load()) != want {
				t.Fatalf("List(%d) = %d runs, %v, for %d reads; want %d", limit, len(runs), err, counting.reads.Load(), want)
			}
			for i, run := range runs {
				if run.ID != ids[len(ids)-1-i] || run.Units != nil || run.Errors != nil || len(run.Waves) != 1 {
					t.Errorf("List(%d): number %d is %+v", limit, i, run)
				}
			}
		}
	})
}

// A document that is none is said to be so: by its name where it is asked for, and in its place in a list.
func TestDamagedDocuments(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{}).At(start)
		before, after := create(t, l, newRun(start.Add(-time.Hour), "a")), create(t, l, newRun(start.Add(time.Hour), "a"))
		plan := func(partition string) string {
			return fmt.Sprintf(`{"id":%q,"state":"queued","wave":1,"partitions":[{"partition":"0",%s}]}`, newRun(start, "b").ID, partition)
		}
		for what, body := range map[string]string{
			"out of order": plan(`"from":0,"to":90,"stored":[{"from":50,"to":60},{"from":0,"to":9}]`), "overlapping": plan(`"from":0,"to":90,"stored":[{"from":0,"to":20},{"from":10,"to":60}]`),
			"inverted": plan(`"from":0,"to":90,"stored":[{"from":50,"to":40}]`), "endless": plan(`"from":0,"to":9223372036854775807`), "below 0": plan(`"from":-5,"to":3`),
			"torn": `{"id":"20261125T0`, "another's": `{"id":"other"}`, "large": strings.Repeat("x", document.MaxBody+1), "empty": "", "list": "[]",
		} {
			damaged := newRun(start, "b").ID
			name := l.Path() + damaged + ".json"
			if _, err := s.(store.Store).Create(t.Context(), name, []byte(body), nil); err != nil {
				t.Fatal(err)
			}
			_, read := l.Read(t.Context(), damaged)
			_, updated := l.Update(t.Context(), damaged, func(*ledger.Run) error { return nil })
			for _, err := range []error{read, updated} {
				if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "restore or remove it") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v; want the blob named", what, err)
				}
			}
			runs, err := l.List(t.Context(), 10)
			if err != nil || len(runs) != 3 || runs[0].ID != after.ID || runs[2].ID != before.ID {
				t.Fatalf("%s: List = %+v, %v", what, runs, err)
			}
			if r := runs[1]; r.ID != damaged || r.StateAt(start) != ledger.Unreadable || len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Error, name) || !r.Created.Equal(start.Truncate(time.Second)) {
				t.Errorf("%s: in the list it is %+v", what, r)
			}
			if err := s.Remove(t.Context(), name, ""); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What may grow is cut, so that the largest run there can be is a document.
func TestDocumentIsBounded(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{})
		run := newRun(start, "1")
		for i := range 1100 {
			cells := []work.Cell{{Partition: fmt.Sprint(i), Range: work.Range{From: 1 << 50, To: 1<<50 + 1<<18}}}
			run.Units = append(run.Units, ledger.Unit{Unit: i, State: ledger.UnitFailed, Cells: cells})
			run.Errors = append(run.Errors, ledger.Error{Unit: i, Error: strings.Repeat("é\n", 1000)})
			run.Waves = append(run.Waves, ledger.Wave{Wave: i, Began: start, Ended: start})
		}
		run.Units[0].Error = strings.Repeat("x", 1000)
		for i := range 1024 {
			p := ledger.Partition{Partition: fmt.Sprint(i), From: 1 << 50, To: 1 << 51, Checkpoint: 1<<50 - 1}
			for j := range int64(3) {
				p.Done(work.Range{From: 1<<50 + j*100, To: 1<<50 + j*100 + 50}, "1234567890123")
			}
			run.Partitions = append(run.Partitions, p)
		}
		create(t, l, run)
		got, err := l.Read(t.Context(), run.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Units) != 1024 || len(got.Errors) != ledger.MaxErrors || len(got.Waves) != ledger.MaxWaves || len(got.Units[0].Error) > 500 || len(got.Partitions) != 1024 {
			t.Errorf("%d units, %d errors, %d waves, %d partitions", len(got.Units), len(got.Errors), len(got.Waves), len(got.Partitions))
		}
		if e := got.Errors[ledger.MaxErrors-1]; e.Unit != 1099 || len(e.Error) > 500 || !strings.HasSuffix(e.Error, "...") || strings.Contains(e.Error, "\ufffd") {
			t.Errorf("the last error is %+v", e)
		}
		if len(run.Units) != 1100 || len(run.Units[0].Error) != 1000 {
			t.Error("Create has changed its caller's run")
		}

		// Where that is not enough, what is done is told in less words; and then it is refused.
		many := make([]work.Cell, 20)
		update(t, l, run.ID, func(r *ledger.Run) {
			for i := range r.Units {
				r.Units[i].Cells = many
				if i > 0 {
					r.Units[i].State = ledger.UnitDone
				}
			}
		})
		got, err = l.Read(t.Context(), run.ID)
		if err != nil || len(got.Units) != 1024 || len(got.Units[0].Cells) != 20 || got.Units[1].Cells != nil {
			t.Errorf("of %d units the failed one has %d cells, and those that are done %d, %v", len(got.Units), len(got.Units[0].Cells), len(got.Units[1].Cells), err)
		}
		_, err = l.Update(t.Context(), run.ID, func(r *ledger.Run) error {
			for i := range r.Units {
				r.Units[i].State, r.Units[i].Cells = ledger.UnitPlanned, many
			}
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "fewer") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Update to more than fits = %v", err)
		}
	})
}

func TestStateAt(t *testing.T) {
	for _, c := range []struct {
		state ledger.State
		after time.Duration // since Alive
		want  ledger.State
	}{
		{ledger.Queued, 0, ledger.Queued}, {ledger.Queued, 1, ledger.Abandoned},
		{ledger.Running, 0, ledger.Running}, {ledger.Running, 1, ledger.Abandoned},
		{ledger.Succeeded, 1, ledger.Succeeded}, {ledger.Failed, 1, ledger.Failed}, {ledger.Cancelled, 1, ledger.Cancelled},
		{ledger.Unreadable, 1, ledger.Unreadable},
	} {
		r := ledger.Run{State: c.state, Alive: start}
		if got := r.StateAt(start.Add(c.after)); got != c.want {
			t.Errorf("%s %v after its lease shows as %s, want %s", c.state, c.after, got, c.want)
		}
	}
}

// Who has no right to write is told which right is needed.
func TestRightsAreNamed(t *testing.T) {
	connection := azuritetest.Run(t)
	name := azuritetest.Container(t)
	s, err := store.OpenAzure(t.Context(), store.Options{Location: connection, Container: name, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	run := create(t, ledger.New(s, source, ledger.Retention{}), newRun(start, "1"))
	client, err := container.NewClientFromConnectionString(connection, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := client.GetSASURL(sas.ContainerPermissions{Read: true, List: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	at, query, _ := strings.Cut(signed, "?")
	reader, err := store.OpenAzure(t.Context(), store.Options{Location: strings.TrimSuffix(at, "/"+name) + "?" + query, Container: name})
	if err != nil {
		t.Fatal(err)
	}
	l := ledger.New(reader, source, ledger.Retention{})
	_, updated := l.Update(t.Context(), run.ID, func(r *ledger.Run) error { r.Wave++; return nil })
	_, tracked := l.Track(t.Context(), run.ID, ledger.Progress{})
	for method, err := range map[string]error{"Create": l.Create(t.Context(), newRun(start, "2")), "Update": updated, "Track": tracked} {
		if err == nil || !strings.Contains(err.Error(), "the right to read, write, list and delete") || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "sig=") {
			t.Errorf("%s without the right to write = %v", method, err)
		}
	}
	if _, err := l.Read(t.Context(), run.ID); err != nil {
		t.Error(err)
	}
}

// The document can be read by any tool as it lies in storage.
func TestDocumentIsPlainJSON(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{})
		run := create(t, l, newRun(start, "1"))
		r, err := s.(store.Store).Open(t.Context(), l.Path()+run.ID+".json")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var got map[string]any
		body, err := io.ReadAll(r)
		if err = errors.Join(err, json.Unmarshal(body, &got)); err != nil || got["id"] != run.ID || got["state"] != "queued" || got["alive_until"] != "2026-11-25T01:03:03.456Z" {
			t.Errorf("the blob holds %s, %v", body, err)
		}
	})
}

// One document that a directory has lost the other half of is no reason to show, or take up, none of the others.
func TestDocumentDamagedInDirectory(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Location: "file://" + dir, Container: "runs", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.(*store.Dir).Close() })
	l := ledger.New(s.(ledger.Storage), source, ledger.Retention{}).At(start)
	damaged, whole := create(t, l, newRun(start, "a")), create(t, l, newRun(start.Add(time.Hour), "a"))
	beside := filepath.Join(s.(*store.Dir).Path(), ".persistor", "metadata", filepath.FromSlash(l.Path()), damaged.ID+".json")
	if err := os.WriteFile(beside, []byte("damaged"), 0o666); err != nil {
		t.Fatal(err)
	}
	runs, err := l.List(t.Context(), 10)
	if err != nil || len(runs) != 2 || runs[0].ID != whole.ID || runs[1].State != ledger.Unreadable || len(runs[1].Errors) != 1 {
		t.Errorf("List = %+v, %v", runs, err)
	}
}
