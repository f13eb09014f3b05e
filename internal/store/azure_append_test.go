package store

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The requests of an Append, and what else may be asked meanwhile.
const (
	asksWhatIsThere = "read"
	announces       = "announce"
	begins          = "begin"
	appendsBlock    = "append"
)

func kindOf(r *http.Request) string {
	switch comp := r.URL.Query().Get("comp"); {
	case r.Method == http.MethodHead:
		return asksWhatIsThere
	case comp == "metadata":
		return announces
	case comp == "appendblock":
		return appendsBlock
	case r.Header.Get("x-ms-blob-type") == "AppendBlob":
		return begins
	}
	return r.Method
}

// recorder passes requests on and notes their kinds.
type recorder struct {
	mu    sync.Mutex
	kinds []string
}

func (c *recorder) note(r *http.Request) (nth int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := kindOf(r)
	c.kinds = append(c.kinds, kind)
	for _, k := range c.kinds {
		if k == kind {
			nth++
		}
	}
	return nth
}

// holds fails the test unless a blob is as it should be, for a store that knows nothing of it.
func holds(t *testing.T, f *faults, name, body string, metadata map[string]string) {
	t.Helper()
	whole(t, f.direct, name, []byte(body))
	if got, err := f.direct.Metadata(t.Context(), name); err != nil || !cmp.Equal(got, metadata) {
		t.Errorf("Metadata = %v, %v; want %v", got, err, metadata)
	}
}

var n1, n2, n3 = map[string]string{"n": "1"}, map[string]string{"n": "2"}, map[string]string{"n": "3"}

func mustAppend(t *testing.T, s Store, at int64, body string, metadata map[string]string) {
	t.Helper()
	if existing, err := s.Append(t.Context(), "blob", at, []byte(body), metadata); err != nil || existing != nil {
		t.Fatalf("Append at %d = %v, %v", at, existing, err)
	}
}

// TestAzureAppendIsTwoRequests counts, and looks at the conditions that the block is sent under.
func TestAzureAppendIsTwoRequests(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	var c recorder
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		c.note(r)
		if kindOf(r) == appendsBlock && (r.Header.Get("If-Match") == "" || r.Header.Get("x-ms-blob-condition-appendpos") == "") {
			t.Errorf("a block is sent unconditionally: %v", r.Header)
		}
		answer(forward())
	})
	mustAppend(t, s, 0, "one", n1)
	mustAppend(t, s, 3, "two", n2)
	mustAppend(t, s, 6, "three", n3)
	mustAppend(t, s, 11, "", n2)
	if want := []string{begins, appendsBlock, announces, appendsBlock, announces, appendsBlock, announces}; !slices.Equal(c.kinds, want) {
		t.Errorf("requests %q, want %q", c.kinds, want)
	}
	holds(t, f, "blob", "onetwothree", n2)
}

// TestAzureAppendAnswerLost loses the first answers to each request of an Append: it is stored, once.
func TestAzureAppendAnswerLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{begins, announces, appendsBlock} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, f := newFaults(t)
			var c recorder
			f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
				nth := c.note(r)
				if recorded := forward(); kindOf(r) != kind || nth > 2 {
					answer(recorded)
				}
			})
			mustAppend(t, s, 0, "one", n1)
			holds(t, f, "blob", "one", n1)
			mustAppend(t, s, 3, "two", n2)
			holds(t, f, "blob", "onetwo", n2)
			mustAppend(t, s, 6, "", n3)
			holds(t, f, "blob", "onetwo", n3)
			mustAppend(t, s, 6, "three", n1)
			holds(t, f, "blob", "onetwothree", n1)
		})
	}
}

// TestAzureAppendAllAnswersLost has the time run out. What was appended is known; what was not is not there,
// and can be appended later.
func TestAzureAppendAllAnswersLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{announces, appendsBlock} {
		for name, carriedOut := range map[string]bool{"carried out": true, "not carried out": false} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				s, f := newFaults(t)
				mustAppend(t, s, 0, "one", n1)
				f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
					switch {
					case kindOf(r) != kind:
						answer(forward())
					case carriedOut:
						forward()
						<-r.Context().Done()
					default:
						hang(r)
					}
				})
				_, err := s.Append(within(t, 4*time.Second), "blob", 3, []byte("two"), n2)
				if kind == appendsBlock && carriedOut {
					if err != nil {
						t.Errorf("Append = %v; want success, since the block is there", err)
					}
					holds(t, f, "blob", "onetwo", n2)
					return
				}
				if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "\n") {
					t.Errorf("Append = %v, want DeadlineExceeded", err)
				}
				holds(t, f, "blob", "one", n1)
				mustAppend(t, f.direct, 3, "other", n3)
				holds(t, f, "blob", "oneother", n3)
			})
		}
	}
}

// announce takes the first step of an Append and no other, as a writer that dies.
func announce(t *testing.T, s *Azure, body string, metadata map[string]string) {
	t.Helper()
	there, err := s.find(t.Context(), "blob")
	if err != nil {
		t.Fatal(err)
	}
	announced, err := there.announced(len(body), metadata, "the dead")
	if err == nil {
		_, err = s.writeMetadata(t.Context(), "blob", there, announced)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAzureAppendAnnounced shows a blob to each method whose writer died after its announcement.
func TestAzureAppendAnnounced(t *testing.T) {
	t.Parallel()
	before, dead := map[string]string{"n": "1", "gone": "x", "same": "y"}, map[string]string{"n": "2", "new": "z", "same": "y"}
	for name, then := range map[string]func(s *Azure) (body string, metadata map[string]string){
		"read": func(*Azure) (string, map[string]string) { return "one", before },
		"appended to": func(s *Azure) (string, map[string]string) {
			mustAppend(t, s, 3, "two", n3)
			return "onetwo", n3
		},
		"metadata appended": func(s *Azure) (string, map[string]string) {
			mustAppend(t, s, 3, "", before) // as they are, but for good
			return "one", before
		},
		"metadata set": func(s *Azure) (string, map[string]string) {
			if err := s.SetMetadata(t.Context(), "blob", n3); err != nil {
				t.Error(err)
			}
			return "one", n3
		},
		"announced to": func(s *Azure) (string, map[string]string) {
			announce(t, s, "three", n3)
			return "one", before
		},
		"created": func(s *Azure) (string, map[string]string) {
			if there, err := s.Create(t.Context(), "blob", nil, nil); !errors.Is(err, ErrExists) || !cmp.Equal(there, before) {
				t.Errorf("Create = %v, %v", there, err)
			}
			return "one", before
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, f := newFaults(t)
			mustAppend(t, f.direct, 0, "one", before)
			announce(t, f.direct, "two", dead)
			body, metadata := then(f.direct)
			holds(t, f, "blob", body, metadata)
			for b, err := range f.direct.List(t.Context(), "") {
				if err != nil || !cmp.Equal(b, Blob{"blob", int64(len(body)), metadata}) {
					t.Errorf("List yields %v, %v", b, err)
				}
			}
		})
	}
}

// TestAzureAppendOverruled has another writer announce, append or set metadata just before a block arrives:
// the block is not appended under metadata that are not its own.
func TestAzureAppendOverruled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(s *Azure)
		want      error
		body      string
		metadata  map[string]string
	}{
		"announced":           {func(s *Azure) { announce(t, s, "TWO", n3) }, nil, "onetwo", n2},
		"metadata set":        {func(s *Azure) { _ = s.SetMetadata(t.Context(), "blob", n3) }, nil, "onetwo", n2},
		"metadata appended":   {func(s *Azure) { mustAppend(t, s, 3, "", n3) }, nil, "onetwo", n2},
		"appended":            {func(s *Azure) { mustAppend(t, s, 3, "TWO", n3) }, ErrPosition, "oneTWO", n3},
		"appended the same":   {func(s *Azure) { mustAppend(t, s, 3, "two", n2) }, ErrPosition, "onetwo", n2},
		"appended twice":      {func(s *Azure) { mustAppend(t, s, 3, "TWO", n3); mustAppend(t, s, 6, "THREE", n1) }, ErrPosition, "oneTWOTHREE", n1},
		"appended, announced": {func(s *Azure) { mustAppend(t, s, 3, "TWO", n3); announce(t, s, "THREE", n1) }, ErrPosition, "oneTWO", n3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := newFaults(t)
			mustAppend(t, s, 0, "one", n1)
			var once sync.Once
			f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
				if kindOf(r) == appendsBlock {
					once.Do(func() { c.meanwhile(f.direct) })
				}
				answer(forward())
			})
			there, err := s.Append(t.Context(), "blob", 3, []byte("two"), n2)
			if !errors.Is(err, c.want) || err != nil && !cmp.Equal(there, c.metadata) {
				t.Errorf("Append = %v, %v; want %v", there, err, c.want)
			}
			holds(t, f, "blob", c.body, c.metadata)
		})
	}
}

// TestAzureAppendLate has a block arrive after its writer is gone, and another one has announced in its stead.
func TestAzureAppendLate(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	mustAppend(t, s, 0, "one", n1)
	late := make(chan int, 1)
	var once sync.Once
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if kindOf(r) != appendsBlock {
			answer(forward())
			return
		}
		once.Do(func() {
			announce(t, f.direct, "TWO", n3)
			late <- forward().Code
		})
		hang(r)
	})
	if _, err := s.Append(within(t, 2*time.Second), "blob", 3, []byte("two"), n2); err == nil {
		t.Error("Append succeeded")
	}
	if code := <-late; code != http.StatusPreconditionFailed {
		t.Errorf("the late block was answered %d", code)
	}
	holds(t, f, "blob", "one", n1)
}

// TestAzureBegunOnly shows a blob that was begun, and never appended to, to each method: it isn't there.
func TestAzureBegunOnly(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(s *Azure) error{
		"Append":             func(s *Azure) error { _, err := s.Append(t.Context(), "blob", 0, []byte("new"), n2); return err },
		"Create":             func(s *Azure) error { _, err := s.Create(t.Context(), "blob", []byte("new"), n2); return err },
		"Create of no bytes": func(s *Azure) error { _, err := s.Create(t.Context(), "blob", nil, n2); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, f := newFaults(t)
			s := f.direct
			announced, err := azureBlob{}.announced(3, n1, "the dead")
			if err == nil {
				_, err = s.begin(t.Context(), "blob", announced)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Metadata(t.Context(), "blob"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Metadata: %v, want ErrNotFound", err)
			}
			if _, err := s.Open(t.Context(), "blob"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Open: %v, want ErrNotFound", err)
			}
			if err := s.SetMetadata(t.Context(), "blob", n3); !errors.Is(err, ErrNotFound) {
				t.Errorf("SetMetadata: %v, want ErrNotFound", err)
			}
			if _, err := s.Append(t.Context(), "blob", 3, []byte("x"), n3); !errors.Is(err, ErrNotFound) {
				t.Errorf("Append at 3: %v, want ErrNotFound", err)
			}
			if got := names(t, s, ""); got != nil {
				t.Errorf("List = %q", got)
			}
			if err := then(s); err != nil {
				t.Fatal(err)
			}
			body := "new"
			if name == "Create of no bytes" {
				body = ""
			}
			holds(t, f, "blob", body, n2)
			if there, err := s.Create(t.Context(), "blob", nil, nil); !errors.Is(err, ErrExists) || !cmp.Equal(there, n2) {
				t.Errorf("Create of what is there = %v, %v", there, err)
			}
		})
	}
}

// TestAzureAppendRefused has storage refuse for good: that is final, said in one line, and soon.
func TestAzureAppendRefused(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	mustAppend(t, s, 0, "one", n1)
	for code, want := range map[string]error{
		"BlobImmutableDueToPolicy": ErrImmutable, "BlockCountExceedsLimit": ErrFull,
		"AuthorizationPermissionMismatch": nil, "InvalidBlobType": nil, "LeaseIdMissing": nil,
	} {
		for _, kind := range []string{announces, appendsBlock} {
			var c recorder
			f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
				c.note(r)
				if kindOf(r) == kind {
					answer(refused(http.StatusConflict, code))
					return
				}
				answer(forward())
			})
			there, err := s.Append(t.Context(), "blob", 3, []byte("two"), n2)
			if err == nil || want != nil && !errors.Is(err, want) || strings.Contains(err.Error(), "\n") || len(c.kinds) > 6 {
				t.Errorf("%s of %s: %v after %q, want %v", code, kind, err, c.kinds, want)
			}
			if want == ErrFull && !cmp.Equal(there, n1) {
				t.Errorf("%s: metadata %v", code, there)
			}
			holds(t, f, "blob", "one", n1)
		}
	}
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) { answer(forward()) })
	mustAppend(t, s, 3, "two", n2)

	// What can't be announced is not tried.
	var c recorder
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) { c.note(r); answer(forward()) })
	large := func(v string) map[string]string { return map[string]string{"k": strings.Repeat(v, MaxMetadata-1)} }
	mustAppend(t, s, 6, "", large("v"))
	if _, err := s.Append(t.Context(), "blob", 6, []byte("three"), large("w")); err == nil || len(c.kinds) > 1 {
		t.Errorf("too large a change: %v after %q", err, c.kinds)
	}
	mustAppend(t, s, 6, "", large("w"))
}

// TestAzureAppendUnreachable has storage answer no more, neither the write nor the question of what came of it.
func TestAzureAppendUnreachable(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	mustAppend(t, s, 0, "one", n1)
	f.set(func(r *http.Request, _ forwardFunc, _ answerFunc) { hang(r) })
	_, err := s.Append(within(t, 3*time.Second), "blob", 3, []byte("two"), n2)
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Append = %v, want DeadlineExceeded in one line", err)
	}
}
