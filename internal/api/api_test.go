package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/fanout"
	"persistor/internal/work"
)

// fake is a Drainer that a test shapes.
type fake struct {
	drain func(context.Context, work.Unit) work.Report
	plan  func(context.Context, fanout.Request) (work.Unit, error)
	// progress may be nil.
	progress func() []Progress
}

func (f fake) Drain(ctx context.Context, u work.Unit) work.Report { return f.drain(ctx, u) }
func (f fake) Plan(ctx context.Context, r fanout.Request) (work.Unit, error) {
	return f.plan(ctx, r)
}
func (f fake) Progress() []Progress {
	if f.progress == nil {
		return nil
	}
	return f.progress()
}

func report(u work.Unit, ended work.Ended) work.Report {
	r := work.Report{Run: u.Run, Unit: u.Unit, Status: fanout.OK, Sources: []work.Source{}}
	for _, id := range u.Partitions {
		r.Sources = append(r.Sources, work.Source{Partition: id, Ended: ended})
		if !ended.OK() {
			r.Status = fanout.Failed
		}
	}
	return r
}

var idle = fake{
	drain: func(_ context.Context, u work.Unit) work.Report { return report(u, work.Drained) },
	plan: func(_ context.Context, r fanout.Request) (work.Unit, error) {
		return work.Unit{Run: "self", Partitions: []string{"0"}, Tasks: r.PerFunc, Batch: r.Batch}, nil
	},
}

type runner func(context.Context, fanout.Request) (fanout.Report, error)

func (f runner) Run(ctx context.Context, r fanout.Request) (fanout.Report, error) { return f(ctx, r) }

func serverOf(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

const unitJSON = `{"run":"r-1","unit":3,"partitions":["0","7"],"owner_level":5,"budget_seconds":9.5}`

// send makes a call and returns its answer, which must be a line of JSON.
func send(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if method != http.MethodHead && (!json.Valid(b) || strings.Index(text, "\n") != len(text)-1 || resp.Header.Get("Content-Type") != "application/json") {
		t.Errorf("%s %s: the answer is no line of JSON: %q", method, url, text)
	}
	return resp, text
}

func TestWorkerPaths(t *testing.T) {
	url := serverOf(t, NewWorker(WorkerOptions{}, idle))
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/", "", 200, "ready"},
		{"HEAD", "/", "", 200, ""},
		{"GET", "/api/status", "", 200, `{"busy":0,"concurrency":1,"sources":[]}`},
		{"POST", "/api/pull", unitJSON, 200, `"partition":"7"`},
		{"GET", "/api/pull", unitJSON, 200, `"partition":"7"`},
		{"GET", "/api/pull", "", 200, `"run":"self"`},
		{"POST", "/api/pull?N=4&batch_store_size=10&code=x", " \n", 200, `"run":"self"`},
		{"PUT", "/api/pull", "", 405, "GET, POST"},
		{"POST", "/api/status", "", 405, "GET"},
		{"GET", "/api/pull/", "", 404, "/api/pull"},
		{"GET", "/api/invoke", "", 404, "/api/status"},
		{"POST", "/api/pull", "{", 400, "ends too early"},
		{"POST", "/api/pull", `{"hub":"x"}`, 400, `unknown field \"hub\"`},
		{"POST", "/api/pull?N=2", unitJSON, 400, `query parameter \"N\"`},
		{"POST", "/api/pull", strings.Repeat("x", maxBody+1), 413, "longer than"},
	} {
		resp, text := send(t, c.method, url+c.path, c.body)
		if resp.StatusCode != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %d %s, want %d with %q", c.method, c.path, resp.StatusCode, text, c.status, c.says)
		}
		if resp.StatusCode == 405 && !strings.Contains(resp.Header.Get("Allow"), "GET") {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, resp.Header.Get("Allow"))
		}
	}
}

func TestPullPassesOnWhatWasAsked(t *testing.T) {
	var drained work.Unit
	d := idle
	d.drain = func(_ context.Context, u work.Unit) work.Report { drained = u; return report(u, work.Drained) }
	url := serverOf(t, NewWorker(WorkerOptions{}, d))
	send(t, "POST", url+"/api/pull", unitJSON, "Content-Type", "text/plain")
	if drained.Run != "r-1" || drained.Unit != 3 || len(drained.Partitions) != 2 || drained.OwnerLevel != 5 || drained.BudgetSeconds != 9.5 {
		t.Errorf("drained %+v", drained)
	}
	send(t, "GET", url+"/api/pull?N=4&batch_store_size=10", "")
	if drained.Run != "self" || drained.Tasks != 4 || drained.Batch.Count != 10 {
		t.Errorf("drained %+v", drained)
	}
}

// TestQueuePull holds a worker of Service Bus to draining what its units say, or with N receivers.
func TestQueuePull(t *testing.T) {
	var drained work.Unit
	d := fake{
		drain: func(_ context.Context, u work.Unit) work.Report {
			drained = u
			var rows []work.Source
			for i := range max(1, u.Tasks) {
				rows = append(rows, work.Source{Receiver: &i, Ended: work.Drained, Checkpoint: -1, Backlog: -1})
			}
			return work.NewReport(u, rows, time.Second)
		},
		plan: func(_ context.Context, r fanout.Request) (work.Unit, error) {
			return work.Unit{Run: "self", Tasks: r.PerFunc, Batch: r.Batch}, nil
		},
		progress: func() []Progress {
			return []Progress{{Run: "r-1", Receiver: new(0), Last: -1}, {Run: "r-1", Partition: "7", Last: 9}}
		},
	}
	queue := serverOf(t, NewWorker(WorkerOptions{ServiceBus: true}, d))
	sessions := serverOf(t, NewWorker(WorkerOptions{ServiceBus: true, Sessions: true}, d))
	hub := serverOf(t, NewWorker(WorkerOptions{Sessions: true}, d)) // which has none, whatever the setting says
	const unit, named = `{"run":"r-1","unit":3,"tasks":2}`, `{"run":"r-1","sessions":["b","a"],"only_sessions":true}`
	for _, c := range []struct {
		url, query, body string
		status           int
		says             string
		want             work.Unit // that is drained; none where the status is not 200
	}{
		{queue, "", unit, 200, `"receiver":1`, work.Unit{Run: "r-1", Unit: 3, Tasks: 2}},
		{sessions, "", unit, 200, `"receiver":1`, work.Unit{Run: "r-1", Unit: 3, Tasks: 2}},
		{sessions, "", named, 200, `"receiver":0`, work.Unit{Run: "r-1", Sessions: []string{"b", "a"}, OnlySessions: true}},
		{queue, "", "", 200, `"run":"self"`, work.Unit{Run: "self", Tasks: 1}},
		{queue, "?N=4&batch_store_size=10", "", 200, `"receiver":3`, work.Unit{Run: "self", Tasks: 4, Batch: work.Batch{Count: 10}}},
		{sessions, "?N=2", "", 200, `"receiver":1`, work.Unit{Run: "self", Tasks: 2}},
		{queue, "", named, 400, "SERVICE_BUS_SESSIONS", work.Unit{}},
		{queue, "", unitJSON, 400, "partitions was given", work.Unit{}},
		{sessions, "", unitJSON, 400, "partitions was given", work.Unit{}},
		{hub, "", unit, 400, "partitions is empty", work.Unit{}},
		{hub, "", named, 400, "sessions was given", work.Unit{}},
		{queue, "?N=257", "", 400, "1 to 256", work.Unit{}},
	} {
		drained = work.Unit{}
		resp, text := send(t, "POST", c.url+"/api/pull"+c.query, c.body)
		if resp.StatusCode != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %d %s, want %d with %q", c.query, c.body, resp.StatusCode, text, c.status, c.says)
		}
		if diff := cmp.Diff(c.want, drained); diff != "" {
			t.Errorf("%s %s: drained %s", c.query, c.body, diff)
		}
	}
	_, text := send(t, "GET", queue+"/api/status", "")
	const want = `[{"run":"r-1","unit":0,"receiver":0,"received":0,"stored":0,"last":-1},{"run":"r-1","unit":0,"partition":"7","received":0,"stored":0,"last":9}]`
	if !strings.Contains(text, want) {
		t.Errorf("status %s, want %s", text, want)
	}
}

func TestPullStatus(t *testing.T) {
	for _, c := range []struct {
		ended  work.Ended
		status int
	}{
		{work.Drained, 200}, {work.Deadline, 200}, {work.Idle, 200}, {work.Superseded, 200}, {work.Failed, 502},
		{work.Cancelled, 200}, // as its run is: neither the caller has gone, nor is the worker to stop
	} {
		d := idle
		d.drain = func(_ context.Context, u work.Unit) work.Report { return report(u, c.ended) }
		resp, text := send(t, "POST", serverOf(t, NewWorker(WorkerOptions{}, d))+"/api/pull", unitJSON)
		if resp.StatusCode != c.status || !strings.Contains(text, `"ended":"`+string(c.ended)) || resp.Header.Get("X-Persistor-Run") != "r-1" {
			t.Errorf("%s: %d %s, want %d and the report", c.ended, resp.StatusCode, text, c.status)
		}
	}
}

func TestPullPlansForItself(t *testing.T) {
	d := idle
	d.plan = func(context.Context, fanout.Request) (work.Unit, error) { return work.Unit{Run: "self"}, nil }
	d.drain = func(context.Context, work.Unit) work.Report { panic("nothing to drain") }
	resp, text := send(t, "GET", serverOf(t, NewWorker(WorkerOptions{}, d))+"/api/pull", "")
	if resp.StatusCode != 200 || !strings.Contains(text, `"run":"self"`) || !strings.Contains(text, `"sources":[]`) {
		t.Errorf("nothing to do: %d %s", resp.StatusCode, text)
	}
	d.plan = func(context.Context, fanout.Request) (work.Unit, error) { return work.Unit{}, errors.New("no hub") }
	resp, text = send(t, "GET", serverOf(t, NewWorker(WorkerOptions{}, d))+"/api/pull", "")
	if resp.StatusCode != 502 || !strings.Contains(text, "no hub") {
		t.Errorf("no hub: %d %s", resp.StatusCode, text)
	}
}

func TestABusyWorkerTurnsCallsAway(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	d := idle
	d.drain = func(_ context.Context, u work.Unit) work.Report {
		inside <- struct{}{}
		<-leave
		return report(u, work.Drained)
	}
	url := serverOf(t, NewWorker(WorkerOptions{Concurrency: 2}, d))
	status := make(chan int, 2)
	for range 2 {
		go func() {
			resp, err := http.Post(url+"/api/pull", "", strings.NewReader(unitJSON))
			if err != nil {
				t.Error(err)
				status <- 0
				return
			}
			resp.Body.Close()
			status <- resp.StatusCode
		}()
		<-inside
	}
	resp, text := send(t, "POST", url+"/api/pull", unitJSON)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" || !resp.Close || !strings.Contains(text, "WORKER_CONCURRENCY") {
		t.Errorf("third call: %d %v %s", resp.StatusCode, resp.Header, text)
	}
	if _, text := send(t, "GET", url+"/api/status", ""); !strings.Contains(text, `"busy":2`) {
		t.Errorf("status: %s", text)
	}
	close(leave)
	for range 2 {
		if got := <-status; got != 200 {
			t.Errorf("a call that had a slot: %d", got)
		}
	}
	go func() { <-inside }()
	if resp, _ := send(t, "POST", url+"/api/pull", unitJSON); resp.StatusCode != 200 {
		t.Errorf("a call after them: %d, want its slot back", resp.StatusCode)
	}
}

func TestKey(t *testing.T) {
	worker := serverOf(t, NewWorker(WorkerOptions{Key: "s3cret"}, idle))
	invoker := serverOf(t, NewInvoker(InvokerOptions{Key: "s3cret"}, runner(func(context.Context, fanout.Request) (fanout.Report, error) {
		return fanout.Report{Status: fanout.OK}, nil
	}), nil))
	for _, c := range []struct {
		url, key string
		status   int
	}{
		{worker + "/", "", 200},
		{invoker + "/", "", 200},
		{worker + "/api/pull", "", 401},
		{worker + "/api/pull", "s3cre", 401},
		{worker + "/api/pull", "s3cret", 200},
		{worker + "/api/pull?code=s3cret", "", 200},
		{worker + "/api/pull?code=wrong", "", 401},
		{worker + "/api/pull?code=s3cret", "the host's own", 200},
		{worker + "/api/pull?code=theirs", "s3cret", 200},
		{worker + "/api/status", "", 401},
		{worker + "/api/status", "s3cret", 200},
		{invoker + "/api/invoke", "", 401},
		{invoker + "/api/invoke", "S3cret", 401},
		{invoker + "/api/invoke", "s3cret", 200},
	} {
		resp, text := send(t, "GET", c.url, "", "x-functions-key", c.key)
		if resp.StatusCode != c.status || c.status == 401 && (!strings.Contains(text, "x-functions-key") || strings.Contains(text, "s3cre")) {
			t.Errorf("%s with %q: %d %s, want %d", c.url, c.key, resp.StatusCode, text, c.status)
		}
	}
}

func TestPanicStaysInside(t *testing.T) {
	var log bytes.Buffer
	d := idle
	d.drain = func(context.Context, work.Unit) work.Report { panic("boom") }
	url := serverOf(t, NewWorker(WorkerOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}, d))
	for range 2 { // the second finds its slot free
		resp, text := send(t, "POST", url+"/api/pull?code=hush", unitJSON)
		if resp.StatusCode != 500 || strings.Contains(text, "boom") || strings.Contains(text, "goroutine") {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
	if !strings.Contains(log.String(), "boom") || strings.Contains(log.String(), "hush") {
		t.Errorf("the log: %s", log.String())
	}
}

func TestInvoke(t *testing.T) {
	var asked fanout.Request
	status := fanout.OK
	var fails error
	url := serverOf(t, NewInvoker(InvokerOptions{MaxBudget: time.Minute}, runner(func(_ context.Context, r fanout.Request) (fanout.Report, error) {
		asked = r
		return fanout.Report{Run: "r-9", Status: status, Units: []fanout.UnitRow{}}, fails
	}), nil)) + "/api/invoke"
	resp, text := send(t, "POST", url+"?N=4&N_per_func=2", `{"batch_store_size":50,"partitions":["1"],"sessions":["s 1",""],"from":{"position":"latest"},"batch":{"bytes":1000},"budget_seconds":30}`)
	if resp.StatusCode != 200 || !strings.Contains(text, `"run":"r-9"`) || resp.Header.Get("X-Persistor-Run") != "r-9" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if asked.N != 4 || asked.PerFunc != 2 || asked.Batch != (work.Batch{Count: 50, Bytes: 1000}) || asked.Partitions[0] != "1" || len(asked.Sessions) != 2 || asked.Sessions[0] != "s 1" || asked.From.Position != "latest" || asked.Budget != 30*time.Second {
		t.Errorf("asked %+v", asked)
	}
	status = fanout.Failed
	if resp, text := send(t, "GET", url, ""); resp.StatusCode != 502 || !strings.Contains(text, `"run":"r-9"`) {
		t.Errorf("failed run: %d %s, want 502 and the report", resp.StatusCode, text)
	}
	fails = fanout.ErrRequest
	if resp, _ := send(t, "GET", url, ""); resp.StatusCode != 400 {
		t.Errorf("bad request: %d", resp.StatusCode)
	}
	fails = &fanout.UnderWayError{Run: "r-8", Since: time.Date(2026, 11, 25, 5, 6, 7, 0, time.UTC)}
	if resp, text := send(t, "GET", url, ""); resp.StatusCode != 409 || !strings.Contains(text, "run r-8 is under way since 2026-11-25T05:06:07Z; ") {
		t.Errorf("a run is under way: %d %s", resp.StatusCode, text)
	}
	fails = errors.New("broken")
	if resp, _ := send(t, "GET", url, ""); resp.StatusCode != 502 {
		t.Errorf("broken invoker: %d", resp.StatusCode)
	}
}

// TestServeStops holds a stop to what a pull loop relies on: its context ends at once, and its answer
// still arrives.
func TestServeStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	inside := make(chan struct{})
	d := idle
	d.drain = func(ctx context.Context, u work.Unit) work.Report {
		close(inside)
		<-ctx.Done()
		if cause := context.Cause(ctx); cause == nil || cause.Error() != "terminated" {
			t.Errorf("cause %v", cause)
		}
		return report(u, work.Cancelled)
	}
	l := listen(t)
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, NewWorker(WorkerOptions{}, d), 10*time.Second) }()
	go func() { <-inside; cancel(errors.New("terminated")) }()
	resp, text := send(t, "POST", "http://"+l.Addr().String()+"/api/pull", unitJSON)
	if resp.StatusCode != 503 || !strings.Contains(text, "cancelled") {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeCutsOffWhatDoesNotStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	leave := make(chan struct{})
	defer close(leave)
	l := listen(t)
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel(); <-leave }), 20*time.Millisecond)
	}()
	if resp, err := http.Get("http://" + l.Addr().String()); err == nil {
		resp.Body.Close()
		t.Error("a call that never ends was answered")
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("serve: %v", err)
	}
}

func TestServeReportsALostListener(t *testing.T) {
	l := listen(t)
	l.Close()
	if err := Serve(t.Context(), l, http.NotFoundHandler(), time.Second); err == nil {
		t.Error("want an error")
	}
}

// TestDeadlines: a body that doesn't come is given up after bodyTimeout, and a call that has its body
// may run for longer than that, and is still told when its caller hangs up.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1) // how long a drain ran
		d := idle
		d.drain = func(ctx context.Context, u work.Unit) work.Report {
			began := time.Now()
			select {
			case <-ctx.Done():
			case <-time.After(time.Hour):
			}
			ended <- time.Since(began)
			return report(u, work.Drained)
		}
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, l, NewWorker(WorkerOptions{}, d), time.Second) }()
		head := "POST /api/pull HTTP/1.1\r\nHost: w\r\nContent-Length: " + strconv.Itoa(len(unitJSON)) + "\r\n\r\n"

		slow, began := l.dial(), time.Now()
		go io.WriteString(slow, head+unitJSON[:10])
		resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
		if err != nil || resp.StatusCode != 400 || time.Since(began) != bodyTimeout {
			t.Errorf("a body that doesn't come: %v %v after %v", resp, err, time.Since(began))
		}
		slow.Close()

		long := l.dial()
		go io.WriteString(long, head+unitJSON)
		if resp, err = http.ReadResponse(bufio.NewReader(long), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("a call of an hour: %v %v", resp, err)
		}
		if took := <-ended; took != time.Hour {
			t.Errorf("a call of an hour ended after %v", took)
		}
		long.Close()

		gone := l.dial()
		go func() { io.WriteString(gone, head+unitJSON); time.Sleep(time.Minute); gone.Close() }()
		if took := <-ended; took != time.Minute {
			t.Errorf("a caller that hung up after a minute was noticed after %v", took)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pipes is a listener within the test, for virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
