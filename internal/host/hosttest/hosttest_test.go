package hosttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"persistor/internal/host"
)

// The handler that these tests run is the test binary, started again.
func TestMain(m *testing.M) {
	if os.Getenv("HOSTTEST_HANDLER") != "" {
		os.Exit(handle())
	}
	os.Exit(m.Run())
}

// handle is a custom handler. It keeps the body of every invocation in a file below KEEP, and does with it what the first
// order among fail, hang, empty, html, exit N that it finds in it says; HTTP requests below /api it answers with what it got.
func handle() int {
	if status, err := strconv.Atoi(os.Getenv("EXIT_AT_START")); err == nil {
		return status
	}
	if os.Getenv("DEAF") != "" {
		<-time.After(time.Hour) // or the runtime takes it for a deadlock
	}
	var calls atomic.Int64
	do := func(_ context.Context, i *host.Invocation) (host.Response, error) {
		_, p, err := i.Payload()
		if err != nil {
			return host.Response{}, err
		}
		text := string(p)
		for _, decode := range []func() ([]byte, error){p.Bytes, func() ([]byte, error) { all, err := p.ByteArrays(); return bytes.Join(all, nil), err }} {
			if decoded, err := decode(); err == nil {
				text = string(decoded)
			}
		}
		return obey(text)
	}
	functions := map[string]host.Function{"persist": do, "schedule": do, "queue": do}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Id", r.Header.Get(host.InvocationHeader))
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("X-Mine"), body)
		if held := r.Header.Get("X-Held-Until"); held != "" {
			awaitFile(held)
		}
	})
	functions["web"] = host.HTTP(echo, "/api/web")
	inner := host.Handler(functions, echo, nil)
	keep := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n := calls.Add(1)
		name := filepath.Join(os.Getenv("KEEP"), fmt.Sprintf("%d-%06d", os.Getpid(), n))
		if r.Method == http.MethodPost && r.Header.Get(host.InvocationHeader) != "" {
			if err := os.WriteFile(name+".tmp", body, 0o600); err == nil {
				_ = os.Rename(name+".tmp", name)
			}
		}
		switch {
		case bytes.Contains(body, []byte("raw empty")):
			return
		case bytes.Contains(body, []byte("raw html")):
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "{}")
			return
		case bytes.Contains(body, []byte("raw redirect")):
			http.Redirect(w, r, "/persist/", http.StatusMovedPermanently)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		inner.ServeHTTP(w, r)
	})
	fmt.Println("says hello")
	fmt.Fprintln(os.Stderr, "says so on stderr")
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"), keep)
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func obey(text string) (host.Response, error) {
	switch {
	case strings.Contains(text, "fail once"):
		marker := filepath.Join(os.Getenv("KEEP"), "failed.tmp")
		if f, err := os.OpenFile(marker, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
			_ = f.Close()
			return host.Response{}, errors.New("as told, once")
		}
	case strings.Contains(text, "fail"):
		return host.Response{}, errors.New("as told")
	case strings.Contains(text, "hang"):
		select {}
	case strings.Contains(text, "exit "):
		_, after, _ := strings.Cut(text, "exit ")
		var status int
		_, _ = fmt.Sscanf(after, "%d", &status)
		os.Exit(status)
	}
	response := host.Response{Logs: []string{"did it"}}
	if _, output, ok := strings.Cut(text, "blob="); ok {
		response.Outputs = map[string]any{"blob": output}
	}
	return response, nil
}

// app is a function app's folder, made for a test.
type app struct {
	folder, keep string
	settings     map[string]string
	output       lines
}

// lines is an [io.Writer] that a test may read at any time.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const bundle = `"extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"}`

// newApp makes a folder with one function. What is given of host.json goes beside version, bundle and handler.
func newApp(t *testing.T, function, functionJSON, hostJSON string) *app {
	t.Helper()
	a := &app{folder: t.TempDir(), keep: t.TempDir()}
	if hostJSON == "" {
		hostJSON = `"customHandler":{"description":{"defaultExecutablePath":"handler"}}`
	}
	a.write(t, "host.json", `{"version":"2.0",`+bundle+`,`+hostJSON+`}`)
	a.write(t, "local.settings.json", `{"IsEncrypted":false,"Values":{"FUNCTIONS_WORKER_RUNTIME":"custom","AzureWebJobsStorage":"UseDevelopmentStorage=true"}}`)
	a.write(t, filepath.Join(function, "function.json"), functionJSON)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(a.folder, "handler")); err != nil {
		t.Fatal(err)
	}
	a.settings = map[string]string{"HOSTTEST_HANDLER": "1", "KEEP": a.keep}
	return a
}

func (a *app) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(a.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// with is the app's options with more settings, given as NAME=value.
func (a *app) with(more ...string) Options {
	o := Options{Folder: a.folder, Settings: maps.Clone(a.settings), Output: &a.output}
	for _, entry := range more {
		name, value, _ := strings.Cut(entry, "=")
		o.Settings[name] = value
	}
	return o
}

func run(t *testing.T, o Options) *Host {
	t.Helper()
	h, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// kept are the bodies that the handler got, in order.
func (a *app) kept(t *testing.T) (bodies []invocation) {
	t.Helper()
	entries, err := os.ReadDir(a.keep)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".tmp") {
			continue
		}
		body, err := os.ReadFile(filepath.Join(a.keep, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var i invocation
		if err := json.Unmarshal(body, &i); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		bodies = append(bodies, i)
	}
	return bodies
}

// keeps waits until the handler has got so many invocations.
func (a *app) keeps(t *testing.T, n int) []invocation {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if got := a.kept(t); len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("the handler got %d invocations, not %d", len(a.kept(t)), n)
		}
		time.Sleep(time.Millisecond)
	}
}

type invocation struct{ Data, Metadata map[string]json.RawMessage }

// await waits for a number of invocations.
func await(t *testing.T, h *Host, n int) []Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Await(ctx, func() bool { return len(h.Results()) >= n }); err != nil {
		t.Fatalf("%v; there are %+v", err, h.Results())
	}
	return h.Results()
}

const timerFunction = `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"%WHEN%"}]}`

func TestTimer(t *testing.T) {
	t.Parallel()
	a := newApp(t, "schedule", timerFunction, "")
	h := run(t, a.with("WHEN=0 */5 * * * *"))
	if err := h.Tick(t.Context(), "schedule"); err != nil {
		t.Fatal(err)
	}
	got := a.kept(t)[0]
	for _, want := range []string{`"Schedule":{"AdjustForDST":true}`, `"IsPastDue":false`, `"ScheduleStatus":{"Last":"20`} {
		if !strings.Contains(string(got.Data["timer"]), want) {
			t.Errorf("%s lacks %s", got.Data["timer"], want)
		}
	}
	if len(got.Metadata) != 1 || !strings.Contains(string(got.Metadata["sys"]), `"MethodName":"schedule"`) {
		t.Errorf("%s", got.Metadata)
	}
	if r := h.Results()[0]; r.Status != 200 || r.Logs[0] != "did it" || r.Function != "schedule" {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"says hello\n", "says so on stderr\n"} {
		if !strings.Contains(a.output.String(), want) {
			t.Errorf("the output lacks %q: %q", want, a.output.String())
		}
	}
}

// awaitFile waits until there is a file of this name, for ten seconds at most.
func awaitFile(name string) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
	}
}
