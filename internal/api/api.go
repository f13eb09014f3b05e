// Package api is the HTTP surface of the two programs: the invoker, which starts runs, and the worker,
// which drains the units of a run.
//
// Every answer is JSON and ends in a newline. One rule holds for both programs: 200 when all is well,
// 502 when a unit failed for good, and in both cases the report is the body. Every other status comes
// with {"error": "..."}. The status says it once more because callers such as timers, probes and
// curl -f read nothing else. (The Functions host drops the body of a status that isn't 2xx unless the
// app's host.json enables forwarding or proxying of HTTP requests, so ours does.)
package api

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"persistor/internal/fanout"
)

const (
	// maxBody caps a request's body, in bytes: a unit of 1,024 partitions is a hundredth of it, one that
	// names as many sessions as it may a quarter.
	maxBody = 1 << 20
	// bodyTimeout and answerTimeout bound how long a caller may take to send a body and to take the
	// answer. Between the two the call runs for as long as its budget says.
	bodyTimeout   = 30 * time.Second
	answerTimeout = 30 * time.Second
)

// route is one path of a program. Paths are matched exactly, for the Functions host follows a redirect
// to the tidier path with GET, and a unit's body would be lost.
type route struct {
	path    string
	methods []string
	handle  handler
	// open routes need no key: the Functions host probes them without one.
	open bool
}

// handler serves a route and returns what to answer. It writes nothing itself: the ResponseWriter is
// there for the connection's deadlines.
type handler func(http.ResponseWriter, *http.Request) answer

// answer is a status and a body that encodes as JSON.
type answer struct {
	status int
	body   any
	header http.Header // more headers; may be nil
	// written says that the handler has answered by itself, with 200 and something else than JSON.
	written bool
}

// failure is the answer to a call that can't be carried out.
func failure(status int, err error) answer {
	// A line stays a line, whatever a caller had in its input.
	text := strings.Join(strings.Fields(err.Error()), " ")
	return answer{status: status, body: struct {
		Error string `json:"error"`
	}{text}}
}

// newHandler serves the routes. An empty key leaves them all open.
func newHandler(routes []route, key string, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	router := chi.NewRouter()
	var known []string
	for _, r := range routes {
		handle := r.handle
		if !r.open {
			handle = guard(handle, key)
		}
		for _, method := range r.methods {
			router.Method(method, r.path, serve(handle, log))
		}
		known = append(known, r.path)
	}
	router.NotFound(serve(func(http.ResponseWriter, *http.Request) answer {
		return failure(http.StatusNotFound, fmt.Errorf("no such path: want one of %s", strings.Join(known, ", ")))
	}, log))
	router.MethodNotAllowed(serve(func(_ http.ResponseWriter, r *http.Request) answer {
		want := allowed(routes, r.URL.Path)
		a := failure(http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed here: want one of %s", r.Method, want))
		a.header = http.Header{"Allow": {want}}
		return a
	}, log))
	return router
}

// allowed lists the methods of the route that a path has.
func allowed(routes []route, path string) string {
	i := slices.IndexFunc(routes, func(r route) bool {
		return slices.EqualFunc(strings.Split(r.path, "/"), strings.Split(path, "/"), func(of, is string) bool {
			return of == is || strings.HasPrefix(of, "{") && is != ""
		})
	})
	if i < 0 {
		return ""
	}
	return strings.Join(routes[i].methods, ", ")
}

// serve turns a handler into net/http's: it writes the answer, logs a line, and answers 500 when the
// handler panics, with the stack in the log alone.
func serve(handle handler, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		a := recovered(handle, w, r, log)
		if a.written {
			return
		}
		write(w, r, a, log)
		// The path alone: the query may hold a key.
		log.InfoContext(r.Context(), "answered a call", "method", r.Method, "path", r.URL.Path, "status", a.status, "elapsed_seconds", time.Since(began).Seconds())
	}
}

func recovered(handle handler, w http.ResponseWriter, r *http.Request, log *slog.Logger) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(r.Context(), "a call panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			a = failure(http.StatusInternalServerError, errors.New("internal error: the log says more"))
		}
	}()
	return handle(w, r)
}

func write(w http.ResponseWriter, r *http.Request, a answer, log *slog.Logger) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(a.body); err != nil {
		log.ErrorContext(r.Context(), "encode answer", "path", r.URL.Path, "error", err)
		http.Error(w, `{"error":"internal error: the log says more"}`, http.StatusInternalServerError)
		return
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// Not every ResponseWriter has deadlines; the server's has.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	w.WriteHeader(a.status)
	w.Write(body.Bytes()) // a caller that has gone is no concern of ours
}

// guard lets only calls with the key through, from the header, or from the query as Azure Functions has
// it. Either will do, for under the Functions host a caller has two keys to present, and the header is where the host looks
// for its own first. Hashes are compared, so that the time taken says nothing about the key or its length.
func guard(handle handler, key string) handler {
	if key == "" {
		return handle
	}
	want := sha256.Sum256([]byte(key))
	is := func(given string) bool {
		got := sha256.Sum256([]byte(given))
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}
	return func(w http.ResponseWriter, r *http.Request) answer {
		header, query := r.Header.Get(fanout.KeyHeader), r.URL.Query().Get("code")
		switch {
		case is(header), is(query):
			return handle(w, r)
		case header == "" && query == "":
			return failure(http.StatusUnauthorized, errors.New("no key: send the value of WORKER_KEY in the header x-functions-key, or as ?code="))
		}
		return failure(http.StatusUnauthorized, errors.New("wrong key: the header x-functions-key, or ?code=, must hold the value of WORKER_KEY"))
	}
}

// ready answers the Functions host's probe.
func ready(http.ResponseWriter, *http.Request) answer {
	return answer{status: http.StatusOK, body: map[string]string{"status": "ready"}}
}

// readBody returns a request's body, of any content type, without white space around it. A refusal is
// not nil when there is no body to go on with.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, refusal *answer) {
	connection := http.NewResponseController(w)
	connection.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		// The deadline must go: the server reads on, to notice a caller that hangs up, and would take its
		// end for one. Where the body failed it must stay, for the server waits for the rest of it.
		connection.SetReadDeadline(time.Time{})
		return bytes.TrimSpace(body), nil
	}
	a := failure(http.StatusBadRequest, fmt.Errorf("read body: %w", err))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		a = failure(http.StatusRequestEntityTooLarge, fmt.Errorf("read body: it is longer than %d bytes", maxBody))
	}
	return nil, &a
}
