package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/ledger"
)

const day = 24 * time.Hour

// filled is a ledger of runs in all states and of all ages, and the names of their documents.
func filled(t *testing.T, s ledger.Storage) map[string]string {
	t.Helper()
	l := ledger.New(s, source, ledger.Retention{Age: 10000 * day, Count: 10000}).At(start)
	names := map[string]string{}
	fill := func(name string, created time.Time, state ledger.State, ended, alive time.Time) {
		run := newRun(created, strings.ReplaceAll(name, " ", "-"))
		run.State, run.Ended, run.Alive = state, ended, alive
		create(t, l.At(created), run)
		if !state.Over() {
			track(t, l.At(created), run.ID, ledger.Progress{Wave: 1, Unit: 1})
		} else if err := s.Overwrite(t.Context(), l.Path()+run.ID+"/1-1.json", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		names[name] = run.ID + ".json"
	}
	ago := func(d time.Duration) time.Time { return start.Add(-d) }
	none, soon := time.Time{}, start.Add(time.Minute)
	fill("old and over", ago(40*day), ledger.Succeeded, ago(31*day), none)
	fill("old and failed", ago(40*day), ledger.Failed, ago(31*day), none)
	fill("long and over since yesterday", ago(41*day), ledger.Cancelled, ago(1*day), none)
	fill("long and running", ago(42*day), ledger.Running, none, soon)
	fill("long and queued", ago(43*day), ledger.Queued, none, soon)
	fill("abandoned", ago(44*day), ledger.Running, none, ago(day))
	fill("abandoned for long", ago(45*day), ledger.Running, none, ago(31*day))
	fill("abandoned before it began", ago(46*day), ledger.Queued, none, none)
	fill("new and over", ago(day), ledger.Succeeded, ago(day), none)
	fill("new and running", ago(day), ledger.Running, none, soon)
	fill("newest", ago(time.Hour), ledger.Succeeded, ago(time.Hour), none)
	return names
}

func TestTrim(t *testing.T) {
	long := []string{"old and over", "old and failed", "abandoned for long", "abandoned before it began"}
	for name, c := range map[string]struct {
		keep ledger.Retention
		gone []string
	}{
		"by age":             {ledger.Retention{Age: 30 * day, Count: 100}, long},
		"as if nothing is":   {ledger.Retention{}, long}, // the defaults
		"nothing is too old": {ledger.Retention{Age: 50 * day, Count: 100}, nil},
		// Of the oldest six one is over.
		"by count":            {ledger.Retention{Age: 50 * day, Count: 5}, []string{"long and over since yesterday"}},
		"down to the newest":  {ledger.Retention{Age: 50 * day, Count: 1}, []string{"old and over", "old and failed", "long and over since yesterday", "new and over"}},
		"by count and by age": {ledger.Retention{Age: 30 * day, Count: 1}, append([]string{"long and over since yesterday", "new and over"}, long...)},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s ledger.Storage) {
				want := filled(t, s)
				l := ledger.New(s, source, c.keep).At(start)
				removed, err := l.Trim(t.Context())
				if err != nil || removed != len(c.gone) {
					t.Errorf("Trim = %d, %v; want %d", removed, err, len(c.gone))
				}
				for _, gone := range c.gone {
					id := strings.TrimSuffix(want[gone], ".json")
					if all := progressOf(t, l, id); all != nil {
						t.Errorf("of %q, which is gone, there is %v", gone, all)
					}
					delete(want, gone)
				}
				got := map[string]bool{}
				for _, name := range left(t, s, l) {
					got[name] = true
				}
				for name, document := range want {
					if !got[document] {
						t.Errorf("%q is gone", name)
					}
					delete(got, document)
					if all := progressOf(t, l, strings.TrimSuffix(document, ".json")); len(all) != 1 {
						t.Errorf("of %q, which stays, there is %v", name, all)
					}
				}
				if len(got) > 0 {
					t.Errorf("there is still %v", got)
				}
			})
		})
	}
}

// Once an hour is enough, and each time a bounded number goes, the oldest first.
func TestTrimIsCheap(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		fill := ledger.New(s, source, ledger.Retention{Age: 10000 * day, Count: 10000}).At(start)
		for i := range 120 {
			run := newRun(start.Add(time.Duration(i)*time.Minute-100*day), "a")
			run.State, run.Ended = ledger.Succeeded, run.Created
			create(t, fill, run)
		}
		counting := &reading{Storage: s}
		l := ledger.New(counting, source, ledger.Retention{Age: 30 * day})
		for _, c := range []struct {
			at   time.Time
			want int
		}{{start, 100}, {start.Add(59 * time.Minute), 0}, {start.Add(time.Hour), 20}, {start.Add(2 * time.Hour), 0}} {
			counting.reads.Store(0)
			if removed, err := l.At(c.at).Trim(t.Context()); err != nil || removed != c.want || int(counting.reads.Load()) != c.want {
				t.Errorf("at %v Trim = %d, %v, for %d reads; want %d", c.at, removed, err, counting.reads.Load(), c.want)
			}
		}
		old := newRun(start.Add(-50*day), "b")
		old.State, old.Ended = ledger.Succeeded, old.Created
		create(t, l, old)
		if removed, err := l.TrimNow(t.Context()); err != nil || removed != 1 {
			t.Errorf("TrimNow = %d, %v; want 1 at once", removed, err)
		}
	})
}

// A run that somebody goes on with at the very moment in which it would be removed stays.
func TestTrimLeavesWhatIsResumed(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		plain := ledger.New(s, source, ledger.Retention{Age: 1000 * day}).At(start)
		run := newRun(start.Add(-100*day), "a")
		run.State, run.Ended = ledger.Failed, run.Created
		create(t, plain, run)
		resuming := &meanwhile{Storage: s, read: func() {
			update(t, plain, run.ID, func(r *ledger.Run) { r.State, r.Alive = ledger.Queued, start.Add(time.Hour) })
		}}
		if removed, err := ledger.New(resuming, source, ledger.Retention{}).At(start).TrimNow(t.Context()); err != nil || removed != 0 || resuming.read != nil {
			t.Errorf("TrimNow = %d, %v; want the run left", removed, err)
		}
		if got, err := plain.Read(t.Context(), run.ID); err != nil || got.State != ledger.Queued {
			t.Errorf("the run is %s, %v", got.State, err)
		}
	})
}

// meanwhile has something else happen once a document was read.
type meanwhile struct {
	ledger.Storage
	read func()
}

func (m *meanwhile) Read(ctx context.Context, name string) ([]byte, string, error) {
	body, version, err := m.Storage.Read(ctx, name)
	if happens := m.read; happens != nil && strings.HasSuffix(name, "-a.json") {
		m.read = nil
		happens()
	}
	return body, version, err
}

// What can't be removed doesn't keep a run from being created, nor others from being removed.
func TestTrimFails(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		fill := ledger.New(s, source, ledger.Retention{}).At(start.Add(-100 * day))
		var ids []string
		for i := range 3 {
			run := newRun(start.Add(-100*day), fmt.Sprint(i))
			run.State, run.Ended = ledger.Succeeded, run.Created
			ids = append(ids, create(t, fill, run).ID)
		}
		l := ledger.New(stubborn{s, ids[1]}, source, ledger.Retention{}).At(start)
		last := create(t, l, newRun(start, "new"))
		if diff := cmp.Diff([]string{ids[1] + ".json", last.ID + ".json"}, left(t, s, l)); diff != "" {
			t.Errorf("after Create: (-want +got)\n%s", diff)
		}
		removed, err := l.TrimNow(t.Context())
		if removed != 0 || !errors.Is(err, errStubborn) || !strings.Contains(err.Error(), ids[1]) || strings.Contains(err.Error(), "\n") {
			t.Errorf("TrimNow = %d, %v; want the run named", removed, err)
		}
	})
}

// stubborn lets nobody remove a run's document.
type stubborn struct {
	ledger.Storage
	id string
}

var errStubborn = errors.New("it stays")

func (s stubborn) Remove(ctx context.Context, name, version string) error {
	if strings.Contains(name, s.id) {
		return errStubborn
	}
	return s.Storage.Remove(ctx, name, version)
}

// A document that nobody can read goes with its age, by its name; what isn't named as a run stays.
func TestTrimOfWhatIsDamaged(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{}).At(start)
		stays := []string{"notes.json", "readme.txt", newRun(start.Add(-29*day), "a").ID + ".json"}
		for _, name := range append(stays, newRun(start.Add(-31*day), "a").ID+".json") {
			if err := s.Overwrite(t.Context(), l.Path()+name, []byte("{")); err != nil {
				t.Fatal(err)
			}
		}
		if removed, err := l.Trim(t.Context()); err != nil || removed != 1 {
			t.Errorf("Trim = %d, %v; want 1", removed, err)
		}
		if got := left(t, s, l); len(got) != len(stays) {
			t.Errorf("there is %v, want %v", got, stays)
		}
	})
}
