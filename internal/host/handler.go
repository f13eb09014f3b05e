package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// Handler serves functions at exactly POST /NAME, and leaves every other path to next, which serves the
// HTTP functions that the host forwards and the probe of /; it may be nil. A call that names no function of
// these is answered 404, with the names there are.
//
// A success is answered 200 with the response, and a failure 500 with {"error": "..."}; either is logged, with
// the invocation's id. A nil log drops the lines.
func Handler(functions map[string]Function, next http.Handler, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &handler{functions, next, log, maxBody}
}

type handler struct {
	functions map[string]Function
	next      http.Handler
	log       *slog.Logger
	most      int64 // bytes of an invocation
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	function, known := h.functions[name]
	switch {
	case known && r.Method == http.MethodPost:
		h.invoke(w, r, name, function)
	case known:
		w.Header().Set("Allow", http.MethodPost)
		h.refuse(w, http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed here: want POST", r.Method))
	case h.next != nil && !isInvocation(r):
		h.next.ServeHTTP(w, r)
	case r.URL.Path == "/": // the host wants any answer at all
		h.write(w, http.StatusOK, map[string]string{"status": "ready"})
	default:
		h.refuse(w, http.StatusNotFound, fmt.Errorf("no function %.100q: want one of %s", name, listed(h.functions, "none")))
	}
}

// isInvocation tells a call of a function from a forwarded HTTP request, which has a path of two parts at least,
// for function apps serve HTTP below /api.
func isInvocation(r *http.Request) bool {
	return r.Method == http.MethodPost && r.Header.Get(InvocationHeader) != "" && strings.LastIndex(r.URL.Path, "/") == 0 && r.URL.Path != "/"
}

// invoke carries out a call and answers it.
func (h *handler) invoke(w http.ResponseWriter, r *http.Request, name string, function Function) {
	began := time.Now()
	i, err := readInvocation(w, r, name, h.most)
	if err != nil {
		h.log.ErrorContext(r.Context(), "refused an invocation", "function", name, "invocation", r.Header.Get(InvocationHeader), "error", err)
		status := http.StatusBadRequest
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		h.refuse(w, status, err)
		return
	}
	log := h.log.With("function", name, "invocation", i.ID)
	if i.Trace != "" {
		log = log.With("traceparent", i.Trace)
	}
	body, err := call(r.Context(), function, i, log)
	elapsed := time.Since(began).Seconds()
	if err != nil {
		log.ErrorContext(r.Context(), "a function failed", "error", err, "elapsed_seconds", elapsed)
		h.refuse(w, http.StatusInternalServerError, err)
		return
	}
	log.InfoContext(r.Context(), "carried out a function", "elapsed_seconds", elapsed)
	h.send(w, http.StatusOK, body)
}

// call runs a function and encodes its response. A panic is an error, with its stack in the log alone.
func call(ctx context.Context, function Function, i *Invocation, log *slog.Logger) (body []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(ctx, "a function panicked", "panic", p, "stack", string(debug.Stack()))
			body, err = nil, errors.New("internal error: the log says more")
		}
	}()
	response, err := function(ctx, i)
	if err != nil {
		return nil, err
	}
	if body, err = response.encode(); err != nil {
		return nil, fmt.Errorf("encode response: %w", err)
	}
	return body, nil
}

// refuse answers in one line; the host drops it, a person with curl reads it.
func (h *handler) refuse(w http.ResponseWriter, status int, err error) {
	h.write(w, status, map[string]string{"error": strings.Join(strings.Fields(err.Error()), " ")})
}

func (h *handler) write(w http.ResponseWriter, status int, v map[string]string) {
	body, err := encode(v)
	if err != nil {
		h.log.Error("encode answer", "error", err)
	}
	h.send(w, status, body)
}

func (h *handler) send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json") // the host takes no other
	w.WriteHeader(status)
	_, _ = w.Write(body) // a host that has gone is no concern of ours
}
