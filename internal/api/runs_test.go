package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
)

// keeper is a Runs that a test shapes.
type keeper struct {
	asked  string
	began  ledger.Request
	limit  int
	state  ledger.State
	answer error
}

func (k *keeper) run(verb, id string) (ledger.Run, error) {
	k.asked = verb + " " + id
	return ledger.Run{ID: id, State: ledger.Running}, k.answer
}

func (k *keeper) Begin(_ context.Context, r ledger.Request) (ledger.Run, error) {
	k.began = r
	return k.run("begin", "r-1")
}
func (k *keeper) List(_ context.Context, limit int, state ledger.State) ([]ledger.Run, error) {
	k.limit, k.state = limit, state
	return nil, k.answer
}
func (k *keeper) Read(_ context.Context, id string) (ledger.Live, error) {
	run, err := k.run("read", id)
	return ledger.Live{Run: run, Progress: []ledger.Progress{{Unit: 4}}}, err
}
func (k *keeper) Cancel(_ context.Context, id string) (ledger.Run, error) { return k.run("cancel", id) }
func (k *keeper) Retry(_ context.Context, id string) (ledger.Run, error)  { return k.run("retry", id) }
func (k *keeper) Resume(_ context.Context, id string) (ledger.Run, error) { return k.run("resume", id) }
func (k *keeper) Standing(context.Context) (Standing, error) {
	return Standing{Source: "n/h/g"}, k.answer
}

func TestRuns(t *testing.T) {
	k := &keeper{}
	url := serverOf(t, NewInvoker(InvokerOptions{Key: "s3cret"}, nil, k))
	for _, c := range []struct {
		method, path, body string
		status             int
		says, asked        string
	}{
		{"POST", "/api/backfill", "", 202, `"id":"r-1"`, "begin r-1"},
		{"POST", "/api/backfill", `{"N":4,"from":{"position":"earliest"},"until":{"sequence_number":0}}`, 202, `"state":"running"`, "begin r-1"},
		{"GET", "/api/runs", "", 200, `{"runs":[]}`, ""},
		{"GET", "/api/runs?limit=7&state=abandoned", "", 200, `{"runs":[]}`, ""},
		{"GET", "/api/runs/r-2", "", 200, `"progress":[{`, "read r-2"},
		{"DELETE", "/api/runs/r-2", "", 202, `"id":"r-2"`, "cancel r-2"},
		{"POST", "/api/runs/r-2/retry", "", 202, `"id":"r-2"`, "retry r-2"},
		{"POST", "/api/runs/r-2/resume", "{}", 202, `"id":"r-2"`, "resume r-2"},
		{"GET", "/api/status", "", 200, `"run":null`, ""},

		{"GET", "/api/backfill", "", 405, "want one of POST", ""},
		{"PUT", "/api/runs/r-2", "", 405, "want one of GET, DELETE", ""},
		{"GET", "/api/runs/r-2/retry", "", 405, "want one of POST", ""},
		{"POST", "/api/runs/r-2/stop", "", 404, "/api/runs/{id}/retry", ""},
		{"GET", "/api/runs?limit=1001", "", 400, "1 to 1000", ""},
		{"GET", "/api/runs?state=lost", "", 400, "abandoned", ""},
		{"GET", "/api/runs?order=up", "", 400, "limit, state", ""},
		{"GET", "/api/runs/r%202", "", 400, "A-Z a-z 0-9", ""},
		{"DELETE", "/api/runs/r-2?force=true", "", 400, "force", ""},
		{"POST", "/api/backfill?N=4", "", 400, "query parameter", ""},
		{"POST", "/api/backfill", `{"hub":"x"}`, 400, "hub", ""},
		{"POST", "/api/backfill", `{"N":5000,"N_per_func":-1,"partitions":["a b"],"max_messages":-3,"from":{"position":"now"},"until":{"time":"2026-11-24T04:05:09Z","position":"now"}}`, 400,
			`N is 5000: want a whole number from 1 to 1024; N_per_func is -1: want a whole number from 1 to 256; max_messages is -3`, ""},
		{"POST", "/api/backfill", `{"from":{"sequence_number":-1}}`, 400, "from.sequence_number is -1", ""},
		{"POST", "/api/backfill", `{"batch":{"count":-1}}`, 400, "batch.count", ""},
		{"POST", "/api/backfill", strings.Repeat("x", maxBody+1), 413, "longer than", ""},
	} {
		k.asked = ""
		resp, text := send(t, c.method, url+c.path, c.body, "x-functions-key", "s3cret")
		if resp.StatusCode != c.status || !strings.Contains(text, c.says) || k.asked != c.asked {
			t.Errorf("%s %s %.80s: %d %s (%s), want %d with %s (%s)", c.method, c.path, c.body, resp.StatusCode, text, k.asked, c.status, c.says, c.asked)
		}
		if resp.StatusCode == 202 && resp.Header.Get("Location") != "/api/runs/"+strings.Fields(k.asked)[1] {
			t.Errorf("%s %s: Location is %q", c.method, c.path, resp.Header.Get("Location"))
		}
		if resp, _ := send(t, c.method, url+c.path, c.body); resp.StatusCode != 401 && c.status < 404 {
			t.Errorf("%s %s without a key: %d", c.method, c.path, resp.StatusCode)
		}
	}
	if k.limit != 7 || k.state != ledger.Abandoned || k.began.N != 4 || k.began.From.Position != "earliest" || *k.began.Until.SequenceNumber != 0 {
		t.Errorf("%+v", k)
	}
}

// What keeps a call from being carried out says so by its status.
func TestRunsThatFail(t *testing.T) {
	k := &keeper{}
	url := serverOf(t, NewInvoker(InvokerOptions{}, nil, k))
	for err, status := range map[error]int{
		fmt.Errorf("begin run: %w: sessions was given", fanout.ErrRequest): http.StatusBadRequest,
		&ledger.NoRunError{ID: "r-2", Newest: []string{"r-9"}}:             http.StatusNotFound,
		fmt.Errorf("retry run r-2: %w", ledger.ErrState):                   http.StatusConflict,
		fmt.Errorf("%w: set PERSISTOR_CONTAINER_NAME", ErrNoRuns):          http.StatusNotImplemented,
		errors.New("storage did not answer"):                               http.StatusBadGateway,
	} {
		k.answer = err
		for _, call := range []string{"POST /api/backfill", "GET /api/runs", "GET /api/runs/r-2", "DELETE /api/runs/r-2", "POST /api/runs/r-2/retry", "POST /api/runs/r-2/resume", "GET /api/status"} {
			method, path, _ := strings.Cut(call, " ")
			if resp, text := send(t, method, url+path, ""); resp.StatusCode != status || !strings.Contains(text, strings.ReplaceAll(err.Error(), `"`, `\"`)) {
				t.Errorf("%s: %d %s, want %d with %s", call, resp.StatusCode, text, status, err)
			}
		}
	}
}
