package ledger_test

import (
	"errors"
	"testing"
	"time"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/ledger"
	"persistor/internal/store"
)

const source = "Namespace/hub/$Default"

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

func TestRunComesBack(t *testing.T) {
	each(t, func(t *testing.T, s ledger.Storage) {
		l := ledger.New(s, source, ledger.Retention{})
		run := ledger.Run{ID: "20261125T010203Z-abcdef", Kind: ledger.Backfill, Source: source, State: ledger.Queued, Created: time.Now()}
		if err := l.Create(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		if err := l.Create(t.Context(), run); !errors.Is(err, ledger.ErrRunExists) {
			t.Errorf("Create again = %v", err)
		}
		if _, err := l.Update(t.Context(), run.ID, func(r *ledger.Run) error { r.State = ledger.Running; r.Wave = 3; return nil }); err != nil {
			t.Fatal(err)
		}
		got, err := l.Read(t.Context(), run.ID)
		if err != nil || got.State != ledger.Running || got.Wave != 3 {
			t.Errorf("Read = %+v, %v", got, err)
		}
		if _, err := l.Read(t.Context(), "none"); !errors.Is(err, ledger.ErrNoRun) {
			t.Errorf("Read of none = %v", err)
		}
		if cancel, err := l.Track(t.Context(), run.ID, ledger.Progress{Unit: 7, Rows: []ledger.Row{{Partition: "1", At: -1}}}); cancel || err != nil {
			t.Errorf("Track = %v, %v", cancel, err)
		}
		if p, err := l.Progress(t.Context(), run.ID); err != nil || len(p) != 1 || p[0].Unit != 7 || p[0].Wave != 3 {
			t.Errorf("Progress = %+v, %v", p, err)
		}
		if runs, err := l.List(t.Context(), 10); err != nil || len(runs) != 1 || runs[0].ID != run.ID {
			t.Errorf("List = %+v, %v", runs, err)
		}
		if err := l.ClearProgress(t.Context(), run.ID); err != nil {
			t.Error(err)
		}
		if p, err := l.Progress(t.Context(), run.ID); err != nil || len(p) != 0 {
			t.Errorf("Progress = %+v, %v", p, err)
		}
	})
}
