package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"persistor/internal/store"
)

// The promises of Locker, to which TestConformance holds every implementation.

func lock(t *testing.T, s store.Store, name, run string) (*store.Lease, error) {
	t.Helper()
	return s.(store.Locker).Lock(t.Context(), name, store.Holder{Run: run, Since: time.Date(2026, 11, 25, 5, 6, 7, 890, time.UTC)})
}

func mustLock(t *testing.T, s store.Store, name, run string) *store.Lease {
	t.Helper()
	l, err := lock(t, s, name, run)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func unlock(t *testing.T, l *store.Lease) {
	t.Helper()
	if err := l.Release(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func lockHeld(t *testing.T, s store.Store) {
	const name = "_runs/a hub/group.lock"
	for _, run := range []string{"first", "second"} {
		l := mustLock(t, s, name, run)
		_, err := lock(t, s, name, "another")
		var locked *store.LockedError
		if !errors.Is(err, store.ErrLocked) || !errors.As(err, &locked) || locked.Holder.Run != run || !locked.Holder.Since.Equal(time.Date(2026, 11, 25, 5, 6, 7, 0, time.UTC)) {
			t.Fatalf("locked twice: %v, %+v", err, locked)
		}
		if text := err.Error(); !strings.Contains(text, run) || !strings.Contains(text, "2026-11-25T05:06:07Z") || strings.Contains(text, "\n") {
			t.Errorf("the error doesn't say who has it and since when in a line: %s", text)
		}
		unlock(t, mustLock(t, s, "_runs/b.lock", "beside")) // another name is another lock
		select {
		case err := <-l.Lost():
			t.Errorf("lost: %v", err)
		default:
		}
		unlock(t, l)
		unlock(t, l)
	}
	for _, bad := range []string{"", "../a", "a/", ".a"} {
		if _, err := lock(t, s, bad, "run"); err == nil || errors.Is(err, store.ErrLocked) {
			t.Errorf("Lock(%q) = %v, want it refused", bad, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.(store.Locker).Lock(ctx, name, store.Holder{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Lock = %v, want context.Canceled", err)
	}
	// What ends is the asking, not the lock.
	ctx, cancel = context.WithCancel(t.Context())
	l, err := s.(store.Locker).Lock(ctx, name, store.Holder{Run: "outlives its context"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := lock(t, s, name, "another"); !errors.Is(err, store.ErrLocked) {
		t.Errorf("the lock went with the context that it was asked in: %v", err)
	}
	unlock(t, l)
}

func oneLocks(t *testing.T, s store.Store) {
	for round := range 3 {
		var won atomic.Int32
		var wg sync.WaitGroup
		leases := make(chan *store.Lease, 16)
		for i := range cap(leases) {
			wg.Go(func() {
				l, err := lock(t, s, "_runs/one.lock", fmt.Sprint(i))
				switch {
				case err == nil:
					won.Add(1)
					leases <- l
				case !errors.Is(err, store.ErrLocked):
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d have the lock", round, won.Load())
		}
		unlock(t, <-leases)
	}
}

func lockApart(t *testing.T, s store.Store) {
	l := mustLock(t, s, "_runs/hub.lock", "run")
	create(t, s, "hub/2026/01/31/0-1", []byte("content"), nil)
	create(t, s, "_runs.txt", nil, nil)
	if blobs := list(t, s, "hub/"); len(blobs) != 1 {
		t.Errorf("beside a lock the folder has %v", blobs)
	}
	unlock(t, l)
	unlock(t, mustLock(t, s, "_runs/hub.lock", "run"))
}
