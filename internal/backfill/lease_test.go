package backfill

import (
	"context"
	"testing"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/store"
)

// lockFunc is a lock that is never had.
type lockFunc func(ctx context.Context) error

func (f lockFunc) Take(ctx context.Context, _ fanout.Run) (func(), error) { return nil, f(ctx) }

// A wave that waits in vain for another run's end gives its number back, though its last try was cut off: that it could
// not begin is no failure.
func TestWaveThatWaitsInVain(t *testing.T) {
	documents, err := store.OpenDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = documents.Close() })
	dispatcher, err := fanout.NewDispatcher(fanout.Options{Workers: []string{"http://127.0.0.1:1/"}, Budget: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	lock := lockFunc(func(ctx context.Context) error {
		if tries++; tries == 1 {
			return &fanout.UnderWayError{Run: "another"}
		}
		<-ctx.Done()
		return ctx.Err()
	})
	chain := NewLocal(nil)
	e := New(Options{Source: "n/h/g", Ledger: ledger.New(documents, "n/h/g", ledger.Retention{}), Chain: chain, Lock: lock, Dispatcher: dispatcher})
	run := ledger.Run{ID: "r", Kind: ledger.Backfill, State: ledger.Queued, Next: 1, Alive: time.Now().Add(time.Minute), Stalled: 2}
	if err := e.Ledger.Create(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if status, err := e.Wave(t.Context(), Message{Run: "r", Wave: 1}); err != nil || status != Postponed {
		t.Fatalf("%q, error %v", status, err)
	}
	now, err := e.Ledger.Read(t.Context(), "r")
	if err != nil || tries != 2 || now.State != ledger.Queued || now.Next != 1 || now.NextAsked.IsZero() || now.Wave != 0 || now.Stalled != 2 || len(now.Waves)+len(now.Errors) != 0 {
		t.Errorf("%v, after %d tries: %+v", err, tries, now)
	}
	if _, wait, ok := chain.next(); ok || wait < time.Second || wait > e.Timing.Busy {
		t.Errorf("asked for again in %v", wait)
	}
}
