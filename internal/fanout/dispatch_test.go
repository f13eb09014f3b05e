package fanout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"persistor/internal/work"
)

// drained answers a unit as a worker does that found ten messages in each partition.
func drained(u work.Unit) work.Report {
	r := work.Report{Run: u.Run, Unit: u.Unit, Status: OK}
	for _, id := range u.Partitions {
		r.Sources = append(r.Sources, work.Source{Partition: id, Ended: work.Drained, Messages: 10, Bytes: 100, Blobs: 1, Checkpoint: 9})
		r.Messages, r.Bytes, r.Blobs = r.Messages+10, r.Bytes+100, r.Blobs+1
	}
	return r
}

// failing answers as a worker does that stored four messages and then failed.
func failing(u work.Unit) work.Report {
	r := work.Report{Run: u.Run, Unit: u.Unit, Status: Failed, Messages: 4, Bytes: 40, Blobs: 1}
	for _, id := range u.Partitions {
		r.Sources = append(r.Sources, work.Source{Partition: id, Ended: work.Failed, Error: "container is gone", Messages: 4, Bytes: 40, Blobs: 1, Checkpoint: 3, Backlog: 6})
	}
	return r
}

func answerWith(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// workerAt starts a worker and returns its URL. handle gets each unit that was sent.
func workerAt(t testing.TB, handle func(http.ResponseWriter, *http.Request, work.Unit)) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u work.Unit
		if err := json.NewDecoder(r.Body).Decode(&u); err != nil || r.Method != http.MethodPost {
			t.Errorf("a %s without a unit arrived: %v", r.Method, err)
		}
		io.Copy(io.Discard, r.Body) // from here on the server notices when the caller hangs up
		handle(w, r, u)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/api/pull"
}

func happy(w http.ResponseWriter, _ *http.Request, u work.Unit) {
	answerWith(w, http.StatusOK, drained(u))
}

func dispatcher(t testing.TB, o Options) *Dispatcher {
	if o.Budget == 0 {
		o.Budget = 20 * time.Second
	}
	d, err := NewDispatcher(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// planOf is a plan of n units with a partition each, and ten messages in each.
func planOf(t testing.TB, n int) Plan {
	var parts []Partition
	for i := range n {
		parts = append(parts, Partition{ID: fmt.Sprint(i), Last: 9, Checkpoint: -1})
	}
	plan, err := NewPlan(NewRun(time.Now()), parts, Request{})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestDispatch(t *testing.T) {
	var got sync.Map
	check := func(w http.ResponseWriter, r *http.Request, u work.Unit) {
		got.Store(u.Unit, r.Host)
		if r.Header.Get("x-functions-key") != "secret" || r.Header.Get("x-persistor-run") != u.Run || r.ContentLength <= 0 {
			t.Errorf("key %q, run %q, length %d", r.Header.Get("x-functions-key"), r.Header.Get("x-persistor-run"), r.ContentLength)
		}
		if u.BudgetSeconds < 15 || u.BudgetSeconds > 18.1 {
			t.Errorf("budget %v s: want the run's 20 s less twice its margin", u.BudgetSeconds)
		}
		happy(w, r, u)
	}
	d := dispatcher(t, Options{Workers: []string{workerAt(t, check), workerAt(t, check)}, Key: "secret"})
	plan := planOf(t, 5)
	report := d.Dispatch(t.Context(), plan, Request{})
	if report.Status != OK || report.Messages != 50 || report.Bytes != 500 || report.Blobs != 5 || report.RemainingBacklog != 0 || report.Run != plan.Run.ID {
		t.Errorf("report %+v", report)
	}
	for i, row := range report.Units {
		host, _ := got.Load(i)
		other, _ := got.Load((i + 1) % 2)
		if row.Unit != i || row.Status != OK || row.Ended != work.Drained || row.Attempts != 1 || len(row.Sources) != 1 ||
			!strings.Contains(row.Worker, host.(string)) || i > 1 && (host == other) {
			t.Errorf("row %d: %+v from %v", i, row, host)
		}
	}
}

func TestReportJSON(t *testing.T) {
	b, err := json.Marshal(newReport(Plan{Run: Run{ID: "r"}}, []UnitRow{}, time.Second))
	want := `{"run":"r","status":"ok","messages":0,"bytes":0,"blobs":0,"remaining_backlog":0,"elapsed_seconds":1,"units":[]}`
	if err != nil || string(b) != want {
		t.Errorf("%s, want %s", b, want)
	}
}

// TestRetry holds each way a worker can fail at first to being tried again, or not.
func TestRetry(t *testing.T) {
	status := func(code int, body string) func(http.ResponseWriter, work.Unit) {
		return func(w http.ResponseWriter, _ work.Unit) { w.WriteHeader(code); io.WriteString(w, body) }
	}
	for _, c := range []struct {
		name  string
		first func(http.ResponseWriter, work.Unit)
		again bool
		says  string
	}{
		{"busy", func(w http.ResponseWriter, _ work.Unit) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) }, true, ""},
		{"408", status(408, ""), true, ""},
		{"500", status(500, "oops"), true, ""},
		{"503", status(503, ""), true, ""},
		{"connection cut", func(http.ResponseWriter, work.Unit) { panic(http.ErrAbortHandler) }, true, ""},
		{"answer cut", func(w http.ResponseWriter, _ work.Unit) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		}, true, ""},
		{"told to stop", func(w http.ResponseWriter, u work.Unit) {
			r := drained(u)
			r.Sources[0].Ended = work.Cancelled
			answerWith(w, 503, r)
		}, true, ""},
		{"failed", func(w http.ResponseWriter, u work.Unit) { answerWith(w, 502, failing(u)) }, true, ""},
		{"400", status(400, `{"error":"run is odd"}`), false, "run is odd"},
		{"401", status(401, ""), false, "WORKER_KEY"},
		{"403", status(403, ""), false, "WORKER_KEY"},
		{"404", status(404, ""), false, "FUNC_TO_INVOKE"},
		{"redirect", func(w http.ResponseWriter, _ work.Unit) { w.Header().Set("Location", "/x"); w.WriteHeader(301) }, false, "FUNC_TO_INVOKE"},
		{"empty", status(200, ""), false, "not a report"},
		{"null", status(200, "null"), false, "it is for run"},
		{"a page", status(200, "<html>"), false, "not a report"},
		{"202", status(202, ""), false, "202"},
		{"too long", status(200, strings.Repeat(" ", maxAnswer+1)), false, "longer than"},
		{"another run", func(w http.ResponseWriter, u work.Unit) { u.Run = "x"; answerWith(w, 200, drained(u)) }, false, `run "x"`},
		{"another unit", func(w http.ResponseWriter, u work.Unit) { u.Unit = 7; answerWith(w, 200, drained(u)) }, false, "unit 7"},
		{"another partition", func(w http.ResponseWriter, u work.Unit) { u.Partitions[0] = "9"; answerWith(w, 200, drained(u)) }, false, `"partition 9"`},
		{"a partition twice", func(w http.ResponseWriter, u work.Unit) {
			u.Partitions = append(u.Partitions, u.Partitions[0])
			answerWith(w, 200, drained(u))
		}, false, "twice"},
		{"no partition", func(w http.ResponseWriter, u work.Unit) { u.Partitions = nil; answerWith(w, 200, drained(u)) }, false, "nothing about"},
		{"odd status", func(w http.ResponseWriter, u work.Unit) { r := drained(u); r.Status = "fine"; answerWith(w, 200, r) }, false, `"fine"`},
		{"failed with 200", func(w http.ResponseWriter, u work.Unit) { answerWith(w, 200, failing(u)) }, false, "container is gone"},
		{"ok with a failed source", func(w http.ResponseWriter, u work.Unit) { r := failing(u); r.Status = OK; answerWith(w, 200, r) }, false, "container is gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			url := workerAt(t, func(w http.ResponseWriter, r *http.Request, u work.Unit) {
				if calls.Add(1) == 1 {
					c.first(w, u)
					return
				}
				happy(w, r, u)
			})
			report := dispatcher(t, Options{Workers: []string{url + "?code=hush"}}).Dispatch(t.Context(), planOf(t, 1), Request{})
			row := report.Units[0]
			if c.again && (row.Status != OK || row.Attempts != 2 || row.Error != "") {
				t.Errorf("row %+v: want ok at the second attempt", row)
			}
			if !c.again && (report.Status != Failed || row.Status != Failed || row.Ended != work.Failed || row.Attempts != 1 || !strings.Contains(row.Error, c.says)) {
				t.Errorf("row %+v: want failed at once, with %q", row, c.says)
			}
			if strings.Contains(fmt.Sprint(report), "hush") {
				t.Errorf("the key is in the report: %+v", report)
			}
		})
	}
}

func TestAttemptsAddUp(t *testing.T) {
	var calls atomic.Int32
	url := workerAt(t, func(w http.ResponseWriter, r *http.Request, u work.Unit) {
		if calls.Add(1) == 1 {
			answerWith(w, 502, failing(u))
			return
		}
		happy(w, r, u)
	})
	report := dispatcher(t, Options{Workers: []string{url}}).Dispatch(t.Context(), planOf(t, 1), Request{})
	source := report.Units[0].Sources[0]
	if report.Messages != 14 || report.Blobs != 2 || source.Messages != 14 || source.Checkpoint != 9 || source.Ended != work.Drained || report.RemainingBacklog != 0 {
		t.Errorf("report %+v: want the sum of both attempts, and the last one's state", report)
	}
}

func TestAFailureLeavesTheOthersAlone(t *testing.T) {
	url := workerAt(t, func(w http.ResponseWriter, r *http.Request, u work.Unit) {
		if u.Unit == 1 {
			answerWith(w, 502, failing(u))
			return
		}
		happy(w, r, u)
	})
	report := dispatcher(t, Options{Workers: []string{url}}).Dispatch(t.Context(), planOf(t, 3), Request{})
	if row := report.Units[1]; row.Attempts != maxDrains || row.Messages != 4*maxDrains || !strings.Contains(row.Error, "container is gone") {
		t.Errorf("row %+v: want %d attempts", row, maxDrains)
	}
	if report.Status != Failed || report.Units[0].Status != OK || report.Units[2].Status != OK || report.RemainingBacklog != 6 {
		t.Errorf("report %+v", report)
	}
}

// TestAWorkerThatHangs holds the invoker to its own budget, and the worker to hearing of it.
func TestAWorkerThatHangs(t *testing.T) {
	hungUp := make(chan struct{}, 1)
	url := workerAt(t, func(w http.ResponseWriter, r *http.Request, u work.Unit) {
		if u.Unit == 0 {
			<-r.Context().Done()
			hungUp <- struct{}{}
			return
		}
		happy(w, r, u)
	})
	began := time.Now()
	report := dispatcher(t, Options{Workers: []string{url}, Budget: 600 * time.Millisecond}).Dispatch(t.Context(), planOf(t, 2), Request{})
	if elapsed := time.Since(began); elapsed > 600*time.Millisecond {
		t.Errorf("answered after %v, want it within 600 ms", elapsed)
	}
	if row := report.Units[0]; row.Status != Failed || !strings.Contains(row.Error, "no answer within") || !strings.Contains(row.Error, "may still be running") {
		t.Errorf("row %+v", row)
	}
	if report.Units[1].Status != OK || report.RemainingBacklog != 10 {
		t.Errorf("report %+v", report)
	}
	<-hungUp
}

// An attempt is unheard of if a worker may have begun it and has given no report.
func TestUnheardAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		first http.HandlerFunc
		want  int
	}{
		"died": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1},
		"died half way": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			w.Write([]byte("{"))
		}, 1},
		"behind a gateway":    {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) }, 1},
		"busy":                {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "{}", http.StatusTooManyRequests) }, 0},
		"said that it failed": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			url := workerAt(t, func(w http.ResponseWriter, r *http.Request, u work.Unit) {
				switch {
				case calls.Add(1) > 1:
					happy(w, r, u)
				case c.first == nil:
					answerWith(w, 502, failing(u))
				default:
					c.first(w, r)
				}
			})
			row := dispatcher(t, Options{Workers: []string{url}}).Dispatch(t.Context(), planOf(t, 1), Request{}).Units[0]
			if row.Status != OK || row.Attempts != 2 || row.Unheard != c.want {
				t.Errorf("%+v, want %d unheard", row, c.want)
			}
		})
	}
}

func TestADeadWorkerIsPassedOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String() + "/api/pull"
	l.Close()
	report := dispatcher(t, Options{Workers: []string{dead, workerAt(t, happy)}}).Dispatch(t.Context(), planOf(t, 2), Request{})
	if report.Status != OK || report.Units[0].Attempts != 2 || report.Units[0].Unheard != 0 || report.Units[1].Attempts != 1 {
		t.Errorf("report %+v", report)
	}
}

func TestCancelledRun(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	url := workerAt(t, func(_ http.ResponseWriter, r *http.Request, _ work.Unit) {
		cancel(errors.New("terminated"))
		<-r.Context().Done()
	})
	report := dispatcher(t, Options{Workers: []string{url}}).Dispatch(ctx, planOf(t, 1), Request{})
	if row := report.Units[0]; row.Status != Failed || !strings.Contains(row.Error, "terminated") {
		t.Errorf("row %+v", row)
	}
}

// roundTrip is a worker without a network, for tests in which time is virtual.
type roundTrip func(*http.Request, work.Unit) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	var u work.Unit
	if err := json.NewDecoder(r.Body).Decode(&u); err != nil {
		return nil, err
	}
	return f(r, u), nil
}

func respond(status int, body any, header ...string) *http.Response {
	b, _ := json.Marshal(body)
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(b)))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// TestStagger holds calls that take a minute to starting one delay apart, side by side.
func TestStagger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		d := dispatcher(t, Options{Workers: []string{"http://w/api/pull"}, Delay: 250 * time.Millisecond, Budget: 3 * time.Minute,
			Transport: roundTrip(func(_ *http.Request, u work.Unit) *http.Response {
				if at, want := time.Since(began), time.Duration(u.Unit)*250*time.Millisecond; at != want {
					t.Errorf("unit %d started after %v, want %v", u.Unit, at, want)
				}
				time.Sleep(time.Minute)
				return respond(200, drained(u))
			})})
		report := d.Dispatch(t.Context(), planOf(t, 9), Request{})
		if took := time.Since(began); took != 62*time.Second || report.Status != OK {
			t.Errorf("took %v, want 62 s; %+v", took, report)
		}
	})
}

func TestStaggerLeavesTimeForTheLast(t *testing.T) {
	d := dispatcher(t, Options{Workers: []string{"http://w"}, Delay: time.Second, Budget: 40 * time.Second})
	if got, want := d.stagger(1000, 40*time.Second), 10*time.Millisecond; got != want {
		t.Errorf("delay %v, want %v", got, want)
	}
}

// TestRetryAfter holds the wait to what the worker asked for, as seconds and as a date, for as long as
// the budget lasts, and the budget that is sent to what is left of it.
func TestRetryAfter(t *testing.T) {
	for _, asDate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			began, calls := time.Now(), 0
			d := dispatcher(t, Options{Workers: []string{"http://w"}, Budget: 100 * time.Second,
				Transport: roundTrip(func(_ *http.Request, u work.Unit) *http.Response {
					if want := 90 - time.Since(began).Seconds(); u.BudgetSeconds < want-.001 || u.BudgetSeconds > want+.001 {
						t.Errorf("budget %v s, want %v", u.BudgetSeconds, want)
					}
					if calls++; calls > 8 {
						return respond(200, drained(u))
					}
					if asDate {
						return respond(429, nil, "Retry-After", time.Now().UTC().Add(7*time.Second).Format(http.TimeFormat))
					}
					return respond(429, nil, "Retry-After", "7")
				})})
			report := d.Dispatch(t.Context(), planOf(t, 1), Request{})
			// Dates are cut to the second.
			if took := time.Since(began); report.Status != OK || took < 8*6*time.Second || took > 8*7*time.Second+8*backoffMin {
				t.Errorf("took %v: %+v", took, report)
			}
		})
	}
}

func TestRetryAfterBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		d := dispatcher(t, Options{Workers: []string{"http://w"}, Budget: 100 * time.Second,
			Transport: roundTrip(func(*http.Request, work.Unit) *http.Response { return respond(429, nil, "Retry-After", "3600") })})
		report := d.Dispatch(t.Context(), planOf(t, 1), Request{})
		if row := report.Units[0]; row.Attempts != 1 || !strings.Contains(row.Error, "budget ends before") || !strings.Contains(row.Error, "WORKER_CONCURRENCY") || time.Since(began) > time.Second {
			t.Errorf("after %v: %+v", time.Since(began), row)
		}
	})
}

// TestBusyWorkersTakeTurns holds a unit to asking the next worker at once, and each one again only when
// it said so.
func TestBusyWorkersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		asked := map[string][]time.Duration{}
		d := dispatcher(t, Options{Workers: []string{"http://a", "http://b", "http://c"}, Budget: 100 * time.Second,
			Transport: roundTrip(func(r *http.Request, u work.Unit) *http.Response {
				asked[r.URL.Host] = append(asked[r.URL.Host], time.Since(began))
				if len(asked[r.URL.Host]) == 2 {
					return respond(200, drained(u))
				}
				return respond(429, nil, "Retry-After", "5")
			})})
		report := d.Dispatch(t.Context(), planOf(t, 1), Request{})
		if report.Status != OK || len(asked["c"]) != 1 || asked["c"][0] > 100*time.Millisecond || len(asked["a"]) != 2 || asked["a"][1] < 5*time.Second {
			t.Errorf("asked %v: %+v", asked, report)
		}
	})
}

// TestBackoff holds a worker that stays down to a growing, bounded number of attempts.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		d := dispatcher(t, Options{Workers: []string{"http://w"}, Budget: 200 * time.Second,
			Transport: roundTrip(func(*http.Request, work.Unit) *http.Response {
				at = append(at, time.Since(began))
				return respond(503, nil)
			})})
		report := d.Dispatch(t.Context(), planOf(t, 1), Request{})
		if row := report.Units[0]; row.Attempts != maxRounds || !strings.Contains(row.Error, "given up after 6 attempts") {
			t.Errorf("row %+v", row)
		}
		for i := 1; i < len(at); i++ {
			want := backoffMin << (i - 1)
			if wait := at[i] - at[i-1]; wait < want/2 || wait > want*3/2 {
				t.Errorf("wait %d was %v, want %v give or take half", i, wait, want)
			}
		}
	})
}

// TestLimit: units that have no turn within the budget say so; nothing is sent without a budget.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		d := dispatcher(t, Options{Workers: []string{"http://w"}, Budget: 10 * time.Second, Limit: 1,
			Transport: roundTrip(func(r *http.Request, u work.Unit) *http.Response {
				if u.BudgetSeconds <= 0 {
					t.Errorf("unit %d was sent with a budget of %v s", u.Unit, u.BudgetSeconds)
				}
				time.Sleep(9100 * time.Millisecond)
				return respond(200, drained(u))
			})})
		report := d.Dispatch(t.Context(), planOf(t, 2), Request{})
		if row := report.Units[1]; row.Attempts != 0 || !strings.HasPrefix(row.Error, "not sent") || time.Since(began) > 10*time.Second {
			t.Errorf("row %+v", row)
		}
	})
}

type hub func(context.Context) ([]Partition, error)

func (h hub) Partitions(ctx context.Context) ([]Partition, error) { return h(ctx) }

func TestRun(t *testing.T) {
	d := dispatcher(t, Options{Workers: []string{workerAt(t, happy)}})
	run := func(h Hub, req Request) (Report, error) {
		return d.Run(t.Context(), HubPlanner{h}, NewRun(time.Now()), req)
	}
	two := hub(func(context.Context) ([]Partition, error) {
		return []Partition{{ID: "0", Last: 9, Checkpoint: -1}, {ID: "1", Last: 9, Checkpoint: -1}}, nil
	})
	if report, err := run(two, Request{}); err != nil || report.Status != OK || report.Messages != 20 {
		t.Errorf("report %+v, error %v", report, err)
	}
	if _, err := run(two, Request{Partitions: []string{"5"}}); !errors.Is(err, ErrRequest) {
		t.Errorf("error %v, want an ErrRequest", err)
	}
	down := hub(func(context.Context) ([]Partition, error) { return nil, errors.New("hub is gone") })
	if report, err := run(down, Request{}); err != nil || report.Status != Failed || report.RemainingBacklog != -1 || !strings.Contains(report.Error, "hub is gone") || report.Units == nil {
		t.Errorf("report %+v, error %v", report, err)
	}
}

func TestAHubThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		hangs := hub(func(ctx context.Context) ([]Partition, error) { <-ctx.Done(); return nil, ctx.Err() })
		d := dispatcher(t, Options{Workers: []string{"http://w"}})
		report, err := d.Run(t.Context(), HubPlanner{hangs}, NewRun(time.Now()), Request{Budget: 4 * time.Second})
		if took := time.Since(began); took != 2*time.Second || err != nil || report.Status != Failed {
			t.Errorf("after %v: %+v, %v", took, report, err)
		}
	})
}

func TestBadSettings(t *testing.T) {
	for _, o := range []Options{
		{Budget: time.Second},
		{Workers: []string{"http://w"}},
		{Workers: []string{"w/api/pull?code=hush"}, Budget: time.Second},
		{Workers: []string{"ftp://w?code=hush"}, Budget: time.Second},
		{Workers: []string{"http://u:hush@w:x/"}, Budget: time.Second},
	} {
		if _, err := NewDispatcher(o); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v: error %v: want one without the key", o.Workers, err)
		}
	}
}

func TestTrace(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, c := range []struct {
		parent string
		ok     bool
	}{
		{"00-" + id + "-00f067aa0ba902b7-01", true},
		{"cc-" + id + "-00f067aa0ba902b7-01-more", true},
		{"", false},
		{"00-" + id + "-00f067aa0ba902b7-01-more", false},
		{"ff-" + id + "-00f067aa0ba902b7-01", false},
		{"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01", false},
		{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", false},
		{"00-" + id + "-0000000000000000-01", false},
		{"00_" + id + "-00f067aa0ba902b7-01", false},
	} {
		var mu sync.Mutex
		spans := map[string]bool{}
		var trace string
		d := dispatcher(t, Options{Workers: []string{"http://w"}, Transport: roundTrip(func(r *http.Request, u work.Unit) *http.Response {
			mu.Lock()
			defer mu.Unlock()
			parent := r.Header.Get("traceparent")
			if len(parent) != 55 || c.ok != strings.HasSuffix(parent, "-01") || c.ok != (r.Header.Get("tracestate") == "a=b") {
				t.Errorf("%q became %q with state %q", c.parent, parent, r.Header.Get("tracestate"))
			}
			trace = parent[3:35]
			spans[parent[36:52]] = true
			return respond(200, drained(u))
		})})
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": c.parent, "tracestate": "a=b"})
		report := d.Dispatch(ctx, planOf(t, 3), Request{})
		if (trace == id) != c.ok || report.Trace != trace || len(spans) != 3 {
			t.Errorf("%q: trace %q, in the report %q, %d spans", c.parent, trace, report.Trace, len(spans))
		}
	}
}

// BenchmarkDispatch is what fanning out costs per unit, against workers that have nothing to do.
func BenchmarkDispatch(b *testing.B) {
	for _, units := range []int{1, 4, 16, 64, 256} {
		b.Run(fmt.Sprintf("units=%d", units), func(b *testing.B) {
			d := dispatcher(b, Options{Workers: []string{workerAt(b, happy)}})
			for b.Loop() {
				for _, row := range d.Dispatch(b.Context(), planOf(b, units), Request{}).Units {
					if row.Status != OK || row.Attempts != 1 {
						b.Fatalf("%+v", row)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*units), "us/unit")
		})
	}
}
