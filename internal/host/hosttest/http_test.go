package hosttest

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const webFunction = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"function","methods":["get","post"],"route":"web"},{"type":"http","direction":"out","name":"res"}]}`

func webHost(properties string) string {
	return `"customHandler":{"description":{"defaultExecutablePath":"handler"}` + properties + `}`
}

func ask(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// Whether a request is forwarded or not, the function sees the same and so does its caller.
func TestHTTP(t *testing.T) {
	t.Parallel()
	for _, forwarding := range []string{"", `,"enableForwardingHttpRequest":true`, `,"enableProxyingHttpRequest":true`} {
		a := newApp(t, "web", webFunction, webHost(forwarding))
		h := run(t, a.with())
		for _, c := range []struct {
			method, path, body, kind, key string
			status                        int
			says                          string
		}{
			{"GET", "/api/web?a=b%20c", "", "", h.FunctionKey(), 418, "GET /api/web?a=b%20c mine "},
			{"POST", "/api/web", `{"N":1}`, "application/json", h.FunctionKey(), 418, `POST /api/web mine {"N":1}`},
			{"POST", "/api/web", "\x00é", "application/octet-stream", h.FunctionKey(), 418, "POST /api/web mine \x00é"},
			{"GET", "/api/web?code=" + h.FunctionKey(), "", "", "", 418, "mine"},
			{"GET", "/api/web", "", "", "", 401, ""},
			{"GET", "/api/web", "", "", "wrong", 401, ""},
			{"PUT", "/api/web", "", "", h.FunctionKey(), 404, ""},
			{"GET", "/web", "", "", h.FunctionKey(), 404, ""},
		} {
			resp, text := ask(t, c.method, h.URL()+c.path, c.body, "X-Mine", "mine", "Content-Type", c.kind, "x-functions-key", c.key)
			if resp.StatusCode != c.status || !strings.Contains(text, c.says) {
				t.Errorf("%q: %s %s: %d %q, want %d with %q", forwarding, c.method, c.path, resp.StatusCode, text, c.status, c.says)
			}
			if c.status == 418 && (resp.Header.Get("X-Id") == "" || resp.Header.Get("Content-Type") != "text/plain") {
				t.Errorf("%q: %v", forwarding, resp.Header)
			}
		}
		if n := len(h.Results()); n != 4 {
			t.Errorf("%q: %d invocations", forwarding, n)
		}
	}
}

// Without a Content-Length the handler gets no body, unless the request is proxied.
func TestHTTPWithoutLength(t *testing.T) {
	t.Parallel()
	for forwarding, want := range map[string]string{"": "", `,"enableForwardingHttpRequest":true`: "", `,"enableProxyingHttpRequest":true`: "body"} {
		a := newApp(t, "web", webFunction, webHost(forwarding))
		h := run(t, a.with())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL()+"/api/web", io.MultiReader(strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-functions-key", h.FunctionKey())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want = "POST /api/web  " + want; string(text) != want {
			t.Errorf("%q: %q, want %q", forwarding, text, want)
		}
	}
}

// The caller's patience ends before the invocation does.
func TestHTTPTimeout(t *testing.T) {
	t.Parallel()
	a := newApp(t, "web", webFunction, webHost(""))
	o := a.with()
	o.HTTPTimeout = 50 * time.Millisecond
	h := run(t, o)
	held := filepath.Join(t.TempDir(), "go on")
	if resp, _ := ask(t, "GET", h.URL()+"/api/web", "", "X-Held-Until", held, "x-functions-key", h.FunctionKey()); resp.StatusCode != 504 {
		t.Error(resp.Status)
	}
	touch(t, held)
	if r := await(t, h, 1)[0]; r.Err != nil {
		t.Errorf("%+v", r)
	}
}

// A worker takes one request at a time where host.json says so: others wait their turn, or are turned away when too many do.
func TestHTTPThrottle(t *testing.T) {
	t.Parallel()
	a := newApp(t, "web", webFunction, `"extensions":{"http":{"maxConcurrentRequests":1,"maxOutstandingRequests":2}},`+webHost(`,"enableForwardingHttpRequest":true`))
	h := run(t, a.with())
	held := filepath.Join(t.TempDir(), "go on")
	statuses := make(chan int)
	for range 4 {
		go func() {
			req, _ := http.NewRequest(http.MethodGet, h.URL()+"/api/web", nil)
			req.Header.Set("X-Held-Until", held)
			req.Header.Set("x-functions-key", h.FunctionKey())
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				statuses <- 0
				return
			}
			_ = resp.Body.Close()
			statuses <- resp.StatusCode
		}()
	}
	count := map[int]int{}
	for n := range 4 {
		if n == 2 { // two were turned away, so the others are there
			touch(t, held)
		}
		count[<-statuses]++
	}
	results := h.Results()
	if count[418] != 2 || count[429] != 2 || len(results) != 2 || results[1].Began.Before(results[0].Began.Add(results[0].Took)) {
		t.Errorf("%v, %+v", count, results)
	}
}

// touch makes an empty file.
func touch(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
}
