package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"persistor/internal/ledger"
)

// answering is an invoker at something that answers as it is told, and how often it was called.
func answering(t *testing.T, handle http.HandlerFunc) (*Invoker, *atomic.Int64) {
	t.Helper()
	calls := new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	i, err := New(Options{URL: server.URL + "/api/invoke?code=s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	i.client.RetryWaitMin, i.client.RetryWaitMax = time.Millisecond, time.Millisecond
	return i, calls
}

func says(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// What is wrong is told in a line that says what to do, without the key.
func TestErrors(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with the key %q", r.Header.Get("x-functions-key"))
	}))
	defer elsewhere.Close()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
		is     error
	}{
		"no key":        {says(401, "application/json", `{"error":"give a key"}`), "PERSISTOR_KEY", ErrKey},
		"wrong key":     {says(403, "text/html", "<html>"), "PERSISTOR_KEY", ErrKey},
		"unknown run":   {says(404, "application/json", `{"error":"there is no run \"x\": the newest are y"}`), `the newest are y`, nil},
		"no invoker":    {says(404, "text/html", "<html>Not Found</html>"), "is the URL right?", ErrNoInvoker},
		"a web site":    {says(200, "text/html", "<html>Welcome</html>"), "is the URL right?", ErrNoInvoker},
		"other JSON":    {says(200, "application/json", `[1]`), "have both in one version", ErrNoInvoker},
		"it is over":    {says(409, "application/json; charset=utf-8", `{"error":"run x has succeeded"}`), "run x has succeeded", nil},
		"it says what":  {says(409, "application/json", `{"error":"read run x: no"}`), ": no", nil},
		"several lines": {says(500, "application/json", `{"error":"a\n  b\u001b[31m"}`), "a b[31m", nil},
		"says nothing":  {says(500, "text/plain", "panic"), "500 Internal Server Error, and doesn't say why", nil},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/x?y=z", http.StatusFound)
		}, "sends callers on to " + elsewhere.URL + ":", nil},
		"breaks off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", nil},
	} {
		t.Run(name, func(t *testing.T) {
			i, _ := answering(t, test.answer)
			_, err := i.Run(t.Context(), "x")
			if err == nil || !strings.HasPrefix(err.Error(), "read run x at 127.0.0.1:") || !strings.Contains(err.Error(), test.want) ||
				strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "s3cret") || strings.Count(err.Error(), "read run x") > 1 || test.is != nil && !errors.Is(err, test.is) {
				t.Error(err)
			}
		})
	}
}

// Where there is nobody to answer, the address is to blame, and that is said.
func TestUnreachable(t *testing.T) {
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for url, want := range map[string]string{
		"http://" + free.Addr().String():   "nothing listens there",
		"http://" + silent.Addr().String(): "no answer within 300ms",
		"http://no-such-host.invalid":      "no-such-host.invalid",
		"https" + plain.URL[len("http"):]:  "it doesn't speak TLS: the URL has to begin with http://",
	} {
		i, err := New(Options{URL: url, Timeout: 300 * time.Millisecond, Key: "s3cret"})
		if err != nil {
			t.Fatal(err)
		}
		i.client.RetryWaitMin, i.client.RetryWaitMax = time.Millisecond, time.Millisecond
		_, err = i.Status(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
		// What nobody has received has not been carried out.
		if strings.Contains(want, "listens") && Unanswered(err) || strings.Contains(want, "no answer") && !Unanswered(err) {
			t.Errorf("unanswered: %t, %v", Unanswered(err), err)
		}
	}
}

// What may be repeated is, until it is answered; a start isn't, since it may have been carried out.
func TestRepeats(t *testing.T) {
	var first atomic.Bool
	i, calls := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			says(503, "text/plain", "restarting")(w, r)
			return
		}
		says(200, "application/json", fmt.Sprintf(`{"id":"x","key":%q}`, r.Header.Get("x-functions-key")))(w, r)
	})
	if run, err := i.Run(t.Context(), "x"); err != nil || run.ID != "x" || calls.Load() != 2 {
		t.Errorf("%+v, %v, after %d calls", run, err, calls.Load())
	}
	for _, post := range []func(context.Context) (ledger.Run, error){
		func(ctx context.Context) (ledger.Run, error) { return i.Start(ctx, ledger.Request{}) },
		func(ctx context.Context) (ledger.Run, error) { return i.Retry(ctx, "x") },
		func(ctx context.Context) (ledger.Run, error) { return i.Resume(ctx, "x") },
	} {
		first.Store(false)
		calls.Store(0)
		if _, err := post(t.Context()); err == nil || Unanswered(err) || calls.Load() != 1 {
			t.Errorf("%v, after %d calls", err, calls.Load())
		}
	}
	first.Store(false)
	calls.Store(0)
	if _, err := i.Cancel(t.Context(), "x"); err != nil || calls.Load() != 2 {
		t.Errorf("%v, after %d calls", err, calls.Load())
	}
}

func TestNew(t *testing.T) {
	for url, want := range map[string]string{
		"":                                   "expected https://HOST",
		"my-invoker.azurewebsites.net":       "expected https://HOST",
		"ftp://host":                         "expected https://HOST",
		"https://user:s3cret@host":           "expected https://HOST",
		"https://host/api/pull?code=s3cret":  `has the path "/api/pull"`,
		"https://host?code=another":          "keep one of them",
		"https://host/api/runs/?code=s3cret": "",
		"http://host:8081/":                  "",
	} {
		_, err := New(Options{URL: url, Key: "s3cret"})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := New(Options{URL: "http://host", Key: "two\nlines"}); err == nil {
		t.Error("a key of two lines is taken")
	}
	for url, want := range map[string]bool{"http://host": true, "http://127.0.0.1:1": false, "http://localhost": false, "https://host": false} {
		if i, err := New(Options{URL: url, Key: "k"}); err != nil || i.InClear() != want {
			t.Errorf("%s: %v", url, err)
		}
	}
}
