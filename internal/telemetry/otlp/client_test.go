package otlp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answers is a collector that gives one answer after the other, the last one again and again; 0 hangs up, -1 never answers.
func answers(t *testing.T, requests *atomic.Int32, statuses ...int) string {
	t.Helper()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n := int(requests.Add(1))
		switch status := statuses[min(n, len(statuses))-1]; {
		case status == 0:
			panic(http.ErrAbortHandler)
		case status < 0:
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case status/100 == 3:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		default:
			w.WriteHeader(status)
			_, _ = w.Write([]byte("you sent " + r.Header.Get("Api-Key")))
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	return server.URL
}

func TestSend(t *testing.T) {
	for name, test := range map[string]struct {
		statuses []int
		timeout  time.Duration
		requests int32
		err      string // "" for none
	}{
		"taken":                     {[]int{200}, 5 * time.Second, 1, ""},
		"taken in the end":          {[]int{503, 200}, 5 * time.Second, 2, ""},
		"hangs up first":            {[]int{0, 200}, 5 * time.Second, 2, ""},
		"refused":                   {[]int{401}, 5 * time.Second, 1, "OTEL_EXPORTER_OTLP_HEADERS"},
		"broken":                    {[]int{500}, 5 * time.Second, 1, "status 500"},
		"elsewhere":                 {[]int{307}, 5 * time.Second, 1, "status 307"},
		"down":                      {[]int{503}, 700 * time.Millisecond, 2, "status 503"},
		"never answers":             {[]int{-1}, 300 * time.Millisecond, 1, "deadline exceeded"},
		"no time for a second time": {[]int{503}, 100 * time.Millisecond, 1, "status 503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			c := newClient(Options{URL: answers(t, &requests, test.statuses...), Timeout: test.timeout, Headers: map[string]string{"api-key": "hunter2"}})
			began := time.Now()
			err := c.send(t.Context(), []byte("body"))
			if took := time.Since(began); took > test.timeout+time.Second {
				t.Errorf("took %v", took)
			}
			if (err == nil) != (test.err == "") || err != nil && (!strings.Contains(err.Error(), test.err) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if n := requests.Load(); n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
		})
	}
}

// Whoever asks to be called later is; but not beyond the time that there is.
func TestRetryAfter(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	began := time.Now()
	err := newClient(Options{URL: server.URL, Timeout: 5 * time.Second}).send(t.Context(), nil)
	if err == nil || requests.Load() != 1 || time.Since(began) > 2*time.Second {
		t.Errorf("%d requests in %v, error %v", requests.Load(), time.Since(began), err)
	}
}

// Trouble is told when it begins, and when it is over.
func TestTroubleIsToldOnce(t *testing.T) {
	var requests atomic.Int32
	var told []string
	c := newClient(Options{
		URL: answers(t, &requests, 500, 500, 500, 200, 200, 500), Timeout: time.Second,
		Trouble: func(error) { told = append(told, "trouble") }, Recovered: func() { told = append(told, "recovered") },
	})
	for range 6 {
		_ = c.send(t.Context(), nil)
	}
	if got := strings.Join(told, " "); got != "trouble recovered trouble" {
		t.Error(got)
	}
}

// An export ends with its caller's patience.
func TestSendIsCancelled(t *testing.T) {
	var requests atomic.Int32
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := newClient(Options{URL: answers(t, &requests, -1), Timeout: time.Minute}).send(ctx, nil); err == nil || errors.Is(err, context.Canceled) || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
