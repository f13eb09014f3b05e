package backfill

import (
	"context"
	"errors"
	"testing"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/store"
)

// lease is the lease of a name in storage.
type lease struct {
	*store.Dir
	name string
}

func (l lease) Take(ctx context.Context, run fanout.Run) (func(), error) {
	held, err := l.Lock(ctx, l.name, store.Holder{Run: run.ID, Since: run.Start})
	if locked := (*store.LockedError)(nil); errors.As(err, &locked) {
		return nil, &fanout.UnderWayError{Run: locked.Holder.Run, Since: locked.Holder.Since}
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = held.Release(ctx) }, nil
}

// What became of a message is told from a wave that was carried out.
func TestWaveStatus(t *testing.T) {
	s, err := store.Open(t.Context(), store.Options{Location: "file://" + t.TempDir(), Container: "blobs", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := s.(*store.Dir)
	defer dir.Close()
	now := time.Now()
	release, err := lease{dir, "taken.lock"}.Take(t.Context(), fanout.NewRun(now))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	dispatcher, err := fanout.NewDispatcher(fanout.Options{Workers: []string{"http://127.0.0.1:1/"}, Budget: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		run  ledger.Run
		lock Lock
		want Status
		next int // that is asked for; 0 for none
	}{
		"under way elsewhere":      {ledger.Run{State: ledger.Running, Wave: 1, Alive: now.Add(time.Hour)}, nil, Postponed, 1},
		"another run is under way": {ledger.Run{State: ledger.Queued, Next: 1}, lease{dir, "taken.lock"}, Postponed, 1},
		"over":                     {ledger.Run{State: ledger.Succeeded, Wave: 1}, nil, Dropped, 0},
		"to be cancelled":          {ledger.Run{State: ledger.Queued, Next: 1, CancelRequested: now}, nil, Dropped, 0},
		"no successor asked for":   {ledger.Run{State: ledger.Queued, Wave: 1, Next: 2}, nil, Dropped, 2},
		"no lease":                 {ledger.Run{State: ledger.Queued, Next: 1, Request: ledger.Request{MaxWaves: 1}}, lease{dir, "../outside.lock"}, Failed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			chain := NewLocal(nil)
			e := New(Options{Source: "ns/hub/group", Ledger: ledger.New(dir, "ns/hub/group", ledger.Retention{}), Chain: chain, Lock: test.lock, Dispatcher: dispatcher})
			test.run.ID, test.run.Kind, test.run.Source, test.run.Created = fanout.NewRun(now).ID, ledger.Backfill, "ns/hub/group", now
			if err := e.Ledger.Create(t.Context(), test.run); err != nil {
				t.Fatal(err)
			}
			got, err := e.Wave(t.Context(), Message{test.run.ID, 1})
			if got != test.want || err != nil {
				t.Errorf("%q, error %v, want %q", got, err, test.want)
			}
			next := 0
			if len(chain.asked) > 0 {
				next = chain.asked[0].Wave
			}
			if next != test.next {
				t.Errorf("asked for wave %d, want %d", next, test.next)
			}
		})
	}
	e := New(Options{Ledger: ledger.New(dir, "ns/hub/group", ledger.Retention{}), Dispatcher: dispatcher})
	if got, err := e.Wave(t.Context(), Message{"20261125T120000Z-abcdef", 1}); got != Dropped || err != nil {
		t.Errorf("of no run: %q, error %v", got, err)
	}
}
