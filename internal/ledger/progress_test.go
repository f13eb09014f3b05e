package ledger_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/ledger"
	"persistor/internal/work"
)

func track(t *testing.T, l *ledger.Ledger, run string, p ledger.Progress) {
	t.Helper()
	if cancel, err := l.Track(t.Context(), run, p); cancel || err != nil {
		t.Fatalf("Track = %v, %v", cancel, err)
	}
}

func progressOf(t *testing.T, l *ledger.Ledger, run string) []ledger.Progress {
	t.Helper()
	all, err := l.Progress(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestProgressIsOfTheLastWave(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{}).At(start)
		run, other := create(t, l, newRun(start, "1")).ID, create(t, l, newRun(start, "2")).ID
		if all := progressOf(t, l, run); all != nil {
			t.Errorf("before anybody has written any there is %v", all)
		}
		receiver := 3
		want := []ledger.Progress{
			{Wave: 11, Unit: 2, Rows: []ledger.Row{{Partition: "7", Cell: &work.Range{From: 5, To: 9}, Received: 4, Stored: 2, At: 6}}},
			{Wave: 11, Unit: 10, Rows: []ledger.Row{{Receiver: &receiver, Received: 1, At: -1}}},
		}
		update(t, l, run, func(r *ledger.Run) { r.Wave = 9 })
		for unit := range 12 {
			track(t, l, run, ledger.Progress{Unit: unit})
		}
		track(t, l, run, ledger.Progress{Wave: 10, Unit: 5})
		update(t, l, run, func(r *ledger.Run) { r.Wave = 11 })
		track(t, l, other, ledger.Progress{Wave: 12, Unit: 1})
		for i := range want {
			track(t, l, run, ledger.Progress{Unit: want[i].Unit})
			p := want[i]
			p.Wave = 0
			track(t, l, run, p) // what it wrote before is replaced
			want[i].Updated = start.Truncate(time.Millisecond)
		}
		if err := s.Overwrite(t.Context(), l.Path()+run+"/11-4.json", []byte("{")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, progressOf(t, l, run)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if err := l.ClearProgress(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		if all := progressOf(t, l, run); all != nil {
			t.Errorf("after ClearProgress there is %v", all)
		}
		if all := progressOf(t, l, other); len(all) != 1 {
			t.Errorf("of the other run there is %v", all)
		}
		if _, err := l.Read(t.Context(), run); err != nil {
			t.Error(err)
		}
	})
}

// Whoever tracks a run that is not to go on learns of it, and leaves nothing behind.
func TestTrackTellsWhenToStop(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{})
		for i, stop := range []func(r *ledger.Run){
			func(r *ledger.Run) { r.CancelRequested = start },
			func(r *ledger.Run) { r.State = ledger.Cancelled },
			func(r *ledger.Run) { r.State = ledger.Failed },
			func(r *ledger.Run) { r.State = ledger.Succeeded },
		} {
			run := create(t, l, newRun(start, fmt.Sprint(i))).ID
			update(t, l, run, func(r *ledger.Run) { r.State = ledger.Running })
			track(t, l, run, ledger.Progress{Unit: 1})
			update(t, l, run, stop)
			if cancel, err := l.Track(t.Context(), run, ledger.Progress{Unit: 2}); !cancel || err != nil {
				t.Errorf("%d: Track = %v, %v; want it to stop", i, cancel, err)
			}
			if all := progressOf(t, l, run); len(all) != 1 || all[0].Unit != 1 {
				t.Errorf("%d: there is %v", i, all)
			}
		}
		if cancel, err := l.Track(t.Context(), "gone", ledger.Progress{}); cancel || !errors.Is(err, ledger.ErrNoRun) {
			t.Errorf("Track of a run that is kept elsewhere = %v, %v; want an error, and not that it stops", cancel, err)
		}
		if all := progressOf(t, l, "gone"); all != nil {
			t.Errorf("of a run that is gone there is %v", all)
		}
	})
}

// An abandoned run is one that may be resumed, so its units go on.
func TestTrackOfAnAbandonedRun(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{}).At(start.Add(time.Hour))
		run := newRun(start, "1")
		create(t, l, run)
		if state := run.StateAt(start.Add(time.Hour)); state != ledger.Abandoned {
			t.Fatalf("the run is %s", state)
		}
		track(t, l, run.ID, ledger.Progress{})
	})
}

// left returns the names of all documents of runs.
func left(t *testing.T, s ledger.Storage, l *ledger.Ledger) []string {
	t.Helper()
	var all []string
	for name, err := range s.Names(t.Context(), l.Path()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name[len(l.Path()):])
	}
	return all
}
