package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
)

// documentIs fails the test unless a document is as it should be, for a store that knows nothing of it.
func documentIs(t *testing.T, f *faults, name, body string) (version string) {
	t.Helper()
	got, version, err := f.direct.Read(t.Context(), name)
	if err != nil || string(got) != body {
		t.Errorf("Read(%q) = %q, %v; want %q", name, got, err, body)
	}
	return version
}

// A write takes one request, sent on condition, and the version that it returns needs no look.
func TestAzureDocumentIsOneRequest(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	var requests atomic.Int32
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		requests.Add(1)
		if r.Header.Get("If-Match") == "" && r.Header.Get("If-None-Match") == "" {
			t.Errorf("sent unconditionally: %v", r.Header)
		}
		answer(forward())
	})
	version := ""
	for i := range 200 { // more than the marks that are kept
		now, err := s.Write(t.Context(), "document", fmt.Append(nil, i), version)
		if err != nil || now == version {
			t.Fatalf("Write %d = %q, %v", i, now, err)
		}
		version = now
	}
	if requests.Load() != 200 {
		t.Errorf("%d requests for 200 writes", requests.Load())
	}
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) { answer(forward()) })
	if now := documentIs(t, f, "document", "199"); now != version {
		t.Errorf("version %q, and %q was written", now, version)
	}
	got, err := s.Container().NewBlobClient("document").GetProperties(t.Context(), nil)
	if err != nil || *got.ContentType != "application/json" {
		t.Errorf("content type %q, %v", *got.ContentType, err)
	}
}

// A write whose first answers are lost is carried out, once.
func TestAzureDocumentAnswerLost(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	writes := f.loseAnswers(2)
	first, err := s.Write(t.Context(), "document", []byte("first"), "")
	if err != nil || documentIs(t, f, "document", "first") != first || writes.done.Load() != 1 {
		t.Errorf("Write of a new document = %q, %v, stored %d times", first, err, writes.done.Load())
	}
	writes = f.loseAnswers(2)
	second, err := s.Write(t.Context(), "document", []byte("second"), first)
	if err != nil || documentIs(t, f, "document", "second") != second || writes.done.Load() != 1 {
		t.Errorf("Write = %q, %v, stored %d times", second, err, writes.done.Load())
	}
	removals := f.loseAnswers(1)
	if err := s.Remove(t.Context(), "document", second); err != nil || removals.done.Load() != 1 {
		t.Errorf("Remove = %v, carried out %d times", err, removals.done.Load())
	}
}

// A write whose answer is lost, and that others have gone on from before it is tried again, was carried out: to tell
// its writer otherwise would have it written twice.
func TestAzureDocumentGoneOnFrom(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "there"} {
		s, f := newFaults(t)
		version := ""
		if first != "" {
			version = mustWrite(t, s, first, "")
		}
		lost := false
		f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
			recorded := forward()
			if r.Method == http.MethodPut && !lost {
				lost = true
				others := documentIs(t, f, "document", "ours")
				for i := range 20 {
					others = mustWrite(t, f.direct, fmt.Sprint("theirs ", i), others)
				}
				return
			}
			answer(recorded)
		})
		now, err := s.Write(t.Context(), "document", []byte("ours"), version)
		if err != nil || !lost {
			t.Fatalf("Write = %q, %v; want success", now, err)
		}
		documentIs(t, f, "document", "theirs 19")
		if _, err := s.Write(t.Context(), "document", []byte("ours again"), now); !errors.Is(err, ErrChanged) {
			t.Errorf("Write on what is there no more = %v, want ErrChanged", err)
		}
	}
}

func mustWrite(t *testing.T, s *Azure, body, version string) string {
	t.Helper()
	now, err := s.Write(t.Context(), "document", []byte(body), version)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// A write whose answers are all lost is looked up in the time that was kept back for that.
func TestAzureDocumentAllAnswersLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		stores    bool // the requests are carried out
		meanwhile string
		want      error
	}{
		{"it is ours", true, "", nil},
		{"somebody was faster", true, "theirs", ErrChanged},
		{"somebody was faster, and no request came through", false, "theirs", ErrChanged},
		{"nothing was written", false, "", context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, f := newFaults(t)
			version := mustWrite(t, s, "before", "")
			if c.meanwhile != "" {
				mustWrite(t, f.direct, c.meanwhile, version)
			}
			f.answerNoPut(c.stores)
			ctx := within(t, 4*time.Second)
			if now, err := s.Write(ctx, "document", []byte("ours"), version); !errors.Is(err, c.want) {
				t.Errorf("Write = %q, %v; want %v", now, err, c.want)
			}
			if ctx.Err() != nil {
				t.Error("no time was kept back to find out")
			}
		})
	}
}

// Many count up in a document while a third of all answers is lost: each counts once.
func TestAzureDocumentCountsOnce(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	var requests atomic.Int32
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if recorded := forward(); requests.Add(1)%3 != 0 {
			answer(recorded)
		}
	})
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := countUp(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	documentIs(t, f, "counter", fmt.Sprint(writers*each))
}

// What storage refuses for good is said in a line, after one request, and at most a look.
func TestAzureDocumentRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		code   string
		want   error
		text   string
	}{
		{409, "BlobImmutableDueToPolicy", ErrImmutable, "immutability"},
		{409, "BlobImmutableDueToLegalHold", ErrImmutable, "immutability"},
		{404, "ContainerNotFound", ErrNoContainer, "PERSISTOR_CONTAINER_NAME"},
		{403, "AuthorizationPermissionMismatch", ErrForbidden, "403"},
		{403, "AuthenticationFailed", ErrForbidden, "403"},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			s, f := newFaults(t)
			version := mustWrite(t, s, "before", "")
			var requests atomic.Int32
			f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
				if requests.Add(1); r.Method == http.MethodPut || r.Method == http.MethodDelete {
					answer(refused(c.status, c.code))
					return
				}
				answer(forward())
			})
			_, written := s.Write(t.Context(), "document", []byte("after"), version)
			_, created := s.Write(t.Context(), "another", []byte("after"), "")
			for method, err := range map[string]error{
				"Write": written, "Write of a new one": created,
				"Overwrite": s.Overwrite(t.Context(), "document", nil), "Remove": s.Remove(t.Context(), "document", ""),
			} {
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s = %v; want %v in a line", method, err, c.want)
				}
			}
			if n := requests.Load(); n > 6 {
				t.Errorf("%d requests for four calls", n)
			}
			documentIs(t, f, "document", "before")
		})
	}
}

// TestAzureDocumentContainerGone removes the container itself.
func TestAzureDocumentContainerGone(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	version := mustWrite(t, s, "before", "")
	if _, err := f.direct.Container().Delete(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_, _, read := s.Read(t.Context(), "document")
	_, written := s.Write(t.Context(), "document", nil, version)
	for method, err := range map[string]error{
		"Read": read, "Write": written, "Overwrite": s.Overwrite(t.Context(), "document", nil), "Remove": s.Remove(t.Context(), "document", ""),
	} {
		if !errors.Is(err, ErrNoContainer) {
			t.Errorf("%s = %v, want ErrNoContainer", method, err)
		}
	}
}

// A document with snapshots can be removed, and one that changes while it is read is read again.
func TestAzureDocumentReadMeanwhile(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	first := strings.Repeat("first", 100_000)
	version := mustWrite(t, s, first, "")
	if _, err := s.Container().NewBlobClient("document").CreateSnapshot(t.Context(), new(blob.CreateSnapshotOptions)); err != nil {
		t.Fatal(err)
	}
	reads := 0
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		recorded := forward()
		if r.Method == http.MethodGet {
			if reads++; reads == 1 {
				recorded.Body.Truncate(1000)
				mustWrite(t, f.direct, "second", version)
			}
		}
		answer(recorded)
	})
	if body, _, err := s.Read(t.Context(), "document"); err != nil || string(body) != "second" || reads < 2 {
		t.Errorf("Read = %.20q, %v in %d requests; want what is there now", body, err, reads)
	}
	if err := s.Remove(t.Context(), "document", ""); err != nil {
		t.Error(err)
	}
}
