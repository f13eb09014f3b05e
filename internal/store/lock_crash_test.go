package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"

	"persistor/internal/azurite/azuritetest"
)

const lockName = "_runs/hub.lock"

// holdLock is a process that takes a lock, says so, and holds it until it is killed.
func holdLock(location string) {
	s := must(Open(context.Background(), Options{Location: location, Container: "locks-of-the-dead", Create: true}))
	if azure, ok := s.(*Azure); ok {
		azure.lease = leaseTimeShortest
	}
	must(s.(Locker).Lock(context.Background(), lockName, Holder{Run: "the dead", Since: time.Now()}))
	fmt.Println("locked")
	<-time.After(time.Hour) // or the runtime takes it for a deadlock
}

// killHolder has a process hold the lock and kills it, after during, where the lock is refused.
func killHolder(t *testing.T, location string, during func(s Store)) Store {
	t.Helper()
	holder := process("holder", location, "")
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the holder said %q, %v", line, err)
	}
	s, err := Open(t.Context(), Options{Location: location, Container: "locks-of-the-dead"})
	if err != nil {
		t.Fatal(err)
	}
	during(s)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	holder.Wait()
	return s
}

func refusedFor(t *testing.T, s Store, run string) {
	t.Helper()
	_, err := s.(Locker).Lock(t.Context(), lockName, Holder{Run: "too early"})
	if locked := (*LockedError)(nil); !errors.As(err, &locked) || locked.Holder.Run != run {
		t.Fatalf("while %q has the lock: %v", run, err)
	}
}

func lockNow(t *testing.T, s Store, run string) *Lease {
	t.Helper()
	l, err := s.(Locker).Lock(t.Context(), lockName, Holder{Run: run})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Release(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestDirKilledHolder(t *testing.T) {
	t.Parallel()
	for range 3 {
		s := killHolder(t, "file://"+t.TempDir(), func(s Store) { refusedFor(t, s, "the dead") })
		lockNow(t, s, "the living")
		refusedFor(t, s, "the living")
	}
}

// A lease outlasts its time while its holder lives.
func TestAzureLockRenewed(t *testing.T) {
	if testing.Short() {
		t.Skip("the service's shortest lease has to pass")
	}
	t.Parallel()
	s, err := OpenAzure(t.Context(), Options{Location: azuritetest.Run(t), Container: azuritetest.Container(t), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	s.lease = leaseTimeShortest
	l := lockNow(t, s, "patient")
	for began := time.Now(); time.Since(began) < leaseTimeShortest+2*time.Second; sleep(t.Context(), 200*time.Millisecond) {
		refusedFor(t, s, "patient")
	}
	select {
	case err := <-l.Lost():
		t.Error(err)
	default:
	}
}

// When the holder is dead the lease ends with its time.
func TestAzureKilledHolder(t *testing.T) {
	if testing.Short() {
		t.Skip("the service's shortest lease has to pass")
	}
	t.Parallel()
	s := killHolder(t, azuritetest.Run(t), func(s Store) { refusedFor(t, s, "the dead") })
	killed := time.Now()
	refusedFor(t, s, "the dead")
	for time.Since(killed) < leaseTimeShortest+5*time.Second {
		l, err := s.(Locker).Lock(t.Context(), lockName, Holder{Run: "the living"})
		if err == nil {
			t.Logf("free %v after the kill", time.Since(killed).Round(time.Millisecond))
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
			return
		}
		if !errors.Is(err, ErrLocked) {
			t.Fatal(err)
		}
		sleep(t.Context(), 200*time.Millisecond)
	}
	t.Fatal("the lease did not run out")
}

// Answers that get lost leave one holder, and a lock that is given back is free.
func TestAzureLockAnswersLost(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	var seen atomic.Int32
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		recorded := forward()
		if r.Method == http.MethodPut && seen.Add(1)%2 == 1 {
			return
		}
		answer(recorded)
	})
	for _, run := range []string{"first", "second"} {
		l, err := s.Lock(t.Context(), lockName, Holder{Run: run})
		if err != nil {
			t.Fatal(err)
		}
		refusedFor(t, f.direct, run)
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h := f.direct.holder(t.Context(), lockName); h != (Holder{}) {
			t.Errorf("after its end %+v has it", h)
		}
	}
}

// Whoever loses a lock learns of it: when it is taken away, and when the service is silent for so long
// that it may have been.
func TestAzureLockLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, f *faults){
		"broken": func(t *testing.T, f *faults) {
			client, err := lease.NewBlobClient(f.direct.container.NewBlobClient(lockName), nil)
			if err != nil {
				t.Fatal(err)
			}
			now := int32(0)
			if _, err := client.BreakLease(t.Context(), &lease.BlobBreakOptions{BreakPeriod: &now}); err != nil {
				t.Fatal(err)
			}
		},
		"removed": func(t *testing.T, f *faults) {
			f.set(func(r *http.Request, _ forwardFunc, answer answerFunc) { answer(refused(404, "BlobNotFound")) })
		},
		"silence": func(_ *testing.T, f *faults) {
			f.set(func(r *http.Request, _ forwardFunc, _ answerFunc) { hang(r) })
		},
		"outage": func(_ *testing.T, f *faults) {
			f.set(func(r *http.Request, _ forwardFunc, answer answerFunc) { answer(status(503)) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := newFaults(t)
			s.lease = 3 * time.Second // the service's is longer, so this one is lost by its own account
			l, err := s.Lock(t.Context(), lockName, Holder{Run: "unlucky"})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			lose(t, f)
			select {
			case err := <-l.Lost():
				t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), err)
				if !strings.Contains(err.Error(), lockName) || strings.Contains(err.Error(), "\n") {
					t.Errorf("the error does not name the lock in a line: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("nobody was told")
			}
			_ = l.Release(within(t, time.Second)) // comes to an end
		})
	}
}

// A short outage is survived.
func TestAzureLockOutage(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	s.lease = 6 * time.Second
	l := lockNow(t, s, "lucky")
	var renewals atomic.Int32
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if r.URL.Query().Get("comp") == "lease" && renewals.Add(1) <= 2 {
			answer(status(503))
			return
		}
		answer(forward())
	})
	for renewals.Load() < 5 {
		select {
		case err := <-l.Lost():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	refusedFor(t, f.direct, "lucky")
}

// Where blobs can't be changed a lock still locks, without words.
func TestAzureLockImmutable(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if r.Method == http.MethodPut && r.URL.RawQuery == "" && r.Header.Get("If-None-Match") == "" {
			io.Copy(io.Discard, r.Body)
			answer(refused(http.StatusConflict, "BlobImmutableDueToPolicy"))
			return
		}
		answer(forward())
	})
	l, err := s.Lock(t.Context(), lockName, Holder{Run: "wordless"})
	if err != nil {
		t.Fatal(err)
	}
	refusedFor(t, f.direct, "")
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	lockNow(t, f.direct, "next")
}

// A lock that can't be described is given back.
func TestAzureLockWithoutWords(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if r.Method == http.MethodPut && r.URL.RawQuery == "" && r.Header.Get("If-None-Match") == "" {
			io.Copy(io.Discard, r.Body)
			answer(refused(http.StatusForbidden, "AuthorizationPermissionMismatch"))
			return
		}
		answer(forward())
	})
	if _, err := s.Lock(t.Context(), lockName, Holder{Run: "mute"}); err == nil || errors.Is(err, ErrLocked) {
		t.Fatalf("locked without a word: %v", err)
	}
	lockNow(t, f.direct, "next")
}

// TestAzureLockAnswerLost has the answer to a request for a lease get lost until there is no more time: the lease is given
// back, and somebody else can have the lock at once.
func TestAzureLockAnswerLost(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		recorded := forward()
		if r.Header.Get("X-Ms-Lease-Action") == "acquire" && recorded.Code < 300 {
			<-r.Context().Done()
			return
		}
		answer(recorded)
	})
	if _, err := s.Lock(within(t, 2*time.Second), "lock", Holder{Run: "r1"}); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("Lock = %v, want that storage did not answer", err)
	}
	l, err := f.direct.Lock(t.Context(), "lock", Holder{Run: "r2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
