package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"persistor/internal/host/hosttest"
	"persistor/internal/work"
)

// newFunctionApp is a function app of HTTP functions whose handler is the test binary.
func newFunctionApp(t *testing.T, handler string, functions ...string) string {
	t.Helper()
	folder := t.TempDir()
	files := map[string]string{"host.json": `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"handler"}` + handler + `}}`}
	for _, name := range functions {
		files[name+"/function.json"] = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"function","methods":["get","post"],"route":"` +
			name + `"},{"type":"http","direction":"out","name":"res"}]}`
	}
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(folder, "handler"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func hostApp(t *testing.T, folder, program string, s settings, more ...string) *hosttest.Host {
	t.Helper()
	h, err := hosttest.Start(t.Context(), hosttest.Options{Folder: folder, Settings: maps.Clone(s.with(append(more, "PERSISTOR_TEST_PROCESS="+program)...))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// Worker and invoker do a whole run as function apps, whether the host forwards HTTP requests or not.
func TestFunctionApps(t *testing.T) {
	t.Parallel()
	for _, forwarding := range []string{``, `,"enableForwardingHttpRequest":true`, `,"enableProxyingHttpRequest":true`} {
		s := newSite(t, 2, 500)
		worker := hostApp(t, newFunctionApp(t, forwarding, "pull", "status"), "worker", s.settings, "GET_METADATA=TRUE")
		invoker := hostApp(t, newFunctionApp(t, forwarding, "invoke"), "invoker", s.settings,
			"FUNC_TO_INVOKE="+worker.URL()+"/api/pull?code="+worker.FunctionKey(), "DELAY_BETWEEN_FUNCS=0")

		var report struct {
			Status   string
			Messages int64
			Units    []json.RawMessage
		}
		status, text := call(t, invoker.URL()+"/api/invoke?N=2&code="+invoker.FunctionKey(), "", &report)
		if status != http.StatusOK || report.Status != "ok" || report.Messages != 1000 || len(report.Units) != 2 {
			t.Errorf("%q: %d %s", forwarding, status, text)
		}
		s.audit(t, hubName)
		if status, text := call(t, worker.URL()+"/api/status?code="+worker.FunctionKey(), "", nil); status != http.StatusOK || !strings.Contains(text, `"busy":0`) {
			t.Errorf("%q: %d %s", forwarding, status, text)
		}
		if status, text := call(t, worker.URL()+"/api/pull", "[]", nil, "x-functions-key", worker.FunctionKey()); status != http.StatusBadRequest || !strings.Contains(text, `"error"`) {
			t.Errorf("%q: %d %s", forwarding, status, text)
		}
		for _, r := range append(worker.Results(), invoker.Results()...) {
			if r.Err != nil {
				t.Errorf("%q: %+v", forwarding, r)
			}
		}
	}
}

// WORKER_KEY holds beside the host's function keys: of the two keys the one in the header is the host's.
func TestWorkerKeyUnderTheHost(t *testing.T) {
	t.Parallel()
	for _, forwarding := range []string{``, `,"enableForwardingHttpRequest":true`} {
		s := newSite(t, 1, 1)
		h := hostApp(t, newFunctionApp(t, forwarding, "status"), "worker", s.settings, "WORKER_KEY=an-own-key-0123456789")
		for _, c := range []struct {
			key, code string
			want      int
		}{
			{h.FunctionKey(), "", 401}, {"an-own-key-0123456789", "", 401}, {"an-own-key-0123456789", h.FunctionKey(), 401},
			{h.FunctionKey(), "an-own-key-0123456789", 200},
		} {
			if status, text, err := tryCall(h.URL()+"/api/status?code="+c.code, "", "x-functions-key", c.key); err != nil || status != c.want {
				t.Errorf("%q: %d %s, error %v, want %d", forwarding, status, text, err, c.want)
			}
		}
	}
}

// Functions are served under the host alone, which never again starts a handler that ended with status 0.
func TestProgramKnowsItsHost(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, 1)
	alone := start(t, "worker", s.settings)
	if status, text := call(t, alone.url+"/pull", "{}", nil, "X-Azure-Functions-InvocationId", "1"); status != 404 || !strings.Contains(text, "/api/pull") {
		t.Errorf("by itself it serves functions: %d %s", status, text)
	}
	if got := alone.terminate(t); got != ExitOK {
		t.Errorf("by itself: exit status %d", got)
	}
	port := fmt.Sprint(hosttest.Port(t))
	p := start(t, "worker", s.settings.with("FUNCTIONS_CUSTOMHANDLER_PORT="+port))
	if !strings.HasSuffix(p.url, ":"+port) {
		t.Errorf("listens at %s", p.url)
	}
	if status, text := call(t, p.url+"/nobody", "{}", nil, "X-Azure-Functions-InvocationId", "1"); status != 404 || !strings.Contains(text, `\"pull\", \"status\"`) {
		t.Errorf("%d %s", status, text)
	}
	if got := p.terminate(t); got != ExitRestart {
		t.Errorf("under the host: exit status %d", got)
	}
}

// A unit that is under way when the handler is killed is done by the one that the host starts after it.
func TestHandlerIsKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, 2000)
	h := hostApp(t, newFunctionApp(t, `,"enableForwardingHttpRequest":true`, "pull"), "worker", s.settings, "KILL_AT=after create:6", "BATCH_COUNT=500", "GET_METADATA=TRUE", "EVENT_HUB_CHECKPOINT_UPDATE_RATE=1")
	url := h.URL() + "/api/pull?code=" + h.FunctionKey()
	if status, text, err := tryCall(url, s.unit("r", 2, 1)); err != nil || status != http.StatusInternalServerError {
		t.Errorf("%d %s, error %v", status, text, err)
	}
	var report work.Report
	for level := int64(2); report.Status != "ok"; level++ {
		if level > 3 {
			t.Fatalf("%+v", report)
		}
		status, text, err := tryCall(url, s.unit("r", 2, level))
		if err != nil {
			t.Fatal(err)
		}
		if status == http.StatusOK {
			if err := json.Unmarshal([]byte(text), &report); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.audit(t, hubName)
}
