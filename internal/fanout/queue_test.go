package fanout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/work"
)

func TestQueuePlan(t *testing.T) {
	for _, c := range []struct {
		backlog int64
		n       int
		units   int // -1 for an ErrRequest
	}{
		{0, 0, 0},
		{0, 8, 0},
		{1, 0, 1},
		{10_000, 0, 1},
		{10_001, 0, 2},
		{320_000, 0, 32},
		{1 << 62, 0, 32},
		{1, 8, 8},
		{1 << 62, 1, 1},
		{1 << 62, 1024, 1024},
		{-1, 4, 4},
		{-1, 0, -1},
	} {
		plan, err := NewQueuePlan(Run{"r", start}, c.backlog, Request{N: c.n, PerFunc: 3, Batch: work.Batch{Count: 7}})
		if c.units < 0 {
			if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "N is missing") {
				t.Errorf("backlog %d: error %v", c.backlog, err)
			}
			continue
		}
		if err != nil || len(plan.Units) != c.units || plan.Waiting != c.backlog || plan.Kind != work.Receivers {
			t.Errorf("backlog %d, N %d: %d units, %d waiting, error %v; want %d units", c.backlog, c.n, len(plan.Units), plan.Waiting, err, c.units)
		}
		for i, u := range plan.Units {
			if diff := cmp.Diff(work.Unit{Run: "r", Unit: i, Tasks: 3, Batch: work.Batch{Count: 7}}, u); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// queue is a Queue and a SessionQueue that a test shapes.
type queue struct {
	backlog  func(context.Context) (int64, error)
	sessions func(context.Context, int) ([]string, bool, error)
}

func (q queue) Backlog(ctx context.Context) (int64, error) { return q.backlog(ctx) }
func (q queue) Sessions(ctx context.Context, most int) ([]string, bool, error) {
	return q.sessions(ctx, most)
}

func holding(messages int64, err error) queue {
	return queue{backlog: func(context.Context) (int64, error) { return messages, err }}
}

func listing(more bool, ids ...string) queue {
	return queue{sessions: func(context.Context, int) ([]string, bool, error) { return ids, more, nil }}
}

func TestQueuePlanner(t *testing.T) {
	forbidden := fmt.Errorf("get queue orders: %w", ErrNoRight)
	for _, c := range []struct {
		name    string
		queue   queue
		req     Request
		units   int
		waiting int64
		request bool   // whether the request is to blame
		says    string // in the error; "" for none
	}{
		{"by the backlog", holding(25_000, nil), Request{}, 3, 25_000, false, ""},
		{"empty", holding(0, nil), Request{N: 8}, 0, 0, false, ""},
		{"N", holding(25_000, nil), Request{N: 8}, 8, 25_000, false, ""},
		{"N without the right", holding(0, forbidden), Request{N: 8}, 8, -1, false, ""},
		{"N, and no answer", holding(0, errors.New("refused")), Request{N: 8}, 8, -1, false, ""},
		{"without the right", holding(0, forbidden), Request{}, 0, 0, true, `?N=4 or {"N":4}`},
		{"without the right", holding(0, forbidden), Request{}, 0, 0, true, "Azure Service Bus Data Owner"},
		{"no answer", holding(0, errors.New("refused")), Request{}, 0, 0, false, "read backlog: refused; a run that gives N"},
		{"partitions", holding(1, nil), Request{Partitions: []string{"0"}}, 0, 0, true, "partitions was given: this invoker drains Service Bus"},
		{"from", holding(1, nil), Request{From: &work.From{Position: "latest"}}, 0, 0, true, "from was given: it is where to start in a partition"},
		{"sessions", holding(1, nil), Request{Sessions: []string{"a"}}, 0, 0, true, "SERVICE_BUS_SESSIONS=TRUE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan, err := QueuePlanner{c.queue}.Plan(t.Context(), NewRun(start), c.req)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrRequest) != c.request {
					t.Errorf("error %v, want one with %q", err, c.says)
				}
				return
			}
			if err != nil || len(plan.Units) != c.units || plan.Waiting != c.waiting {
				t.Errorf("%d units, %d waiting, error %v; want %d and %d", len(plan.Units), plan.Waiting, err, c.units, c.waiting)
			}
		})
	}
}

// A run that gives N doesn't wait long for a backlog that it can do without.
func TestABacklogThatHangs(t *testing.T) {
	hangs := queue{backlog: func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() }}
	for n, want := range map[int]time.Duration{4: backlogPatience, 0: 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			d := dispatcher(t, Options{Workers: []string{"http://w"}, Budget: 100 * time.Second,
				Transport: roundTrip(func(_ *http.Request, u work.Unit) *http.Response { return respond(200, received(u)) })})
			report, err := d.Run(t.Context(), QueuePlanner{hangs}, NewRun(time.Now()), Request{N: n})
			if took := time.Since(began); took != want || err != nil || len(report.Units) != n || (report.Status == OK) != (n > 0) {
				t.Errorf("N %d: after %v, %v: %+v", n, took, err, report)
			}
		})
	}
}

func TestSessionPlanner(t *testing.T) {
	three := listing(false, "a", "", "c")
	for _, c := range []struct {
		name  string
		queue queue
		req   Request
		units [][]string // nil where an error or nothing is wanted
		says  string     // in the error or a note; "" for neither
	}{
		{"each its own", three, Request{}, [][]string{{"a"}, {""}, {"c"}}, ""},
		{"in turn", three, Request{N: 2}, [][]string{{"a", "c"}, {""}}, ""},
		{"more units than sessions", three, Request{N: 9}, [][]string{{"a"}, {""}, {"c"}}, "N is 9, but there are only 3 sessions"},
		{"none", listing(false), Request{}, nil, ""},
		{"none, N", listing(false), Request{N: 4}, nil, "only 0 sessions"},
		{"one twice", listing(false, "a", "b", "a"), Request{N: 1}, [][]string{{"a", "b"}}, ""},
		{"more than listed", listing(true, "a"), Request{N: 3}, [][]string{{"a"}, nil, nil}, "more sessions than the 1"},
		{"more than listed, none yet", listing(true), Request{N: 1}, [][]string{nil}, "more sessions than the 0"},
		{"no text", listing(false, "\xff", "a", strings.Repeat("ä", 129), strings.Repeat("ä", 128)), Request{N: 1}, [][]string{{"a", strings.Repeat("ä", 128)}}, "2 of 4 sessions are not named"},
		{"asked for", listing(false, "x"), Request{Sessions: []string{"b", "b", "a"}}, [][]string{{"b"}, {"a"}}, ""},
		{"asked for, N", listing(false, "x"), Request{N: 1, Sessions: []string{"b", "a"}}, [][]string{{"b", "a"}}, ""},
		{"down", queue{sessions: func(context.Context, int) ([]string, bool, error) { return nil, false, errors.New("refused") }}, Request{}, nil, "list sessions: refused"},
		{"partitions", three, Request{Partitions: []string{"0"}}, nil, "partitions was given"},
		{"from", three, Request{From: &work.From{}}, nil, "from was given"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan, err := SessionPlanner{c.queue}.Plan(t.Context(), Run{"r", start}, c.req)
			said := fmt.Sprint(err, plan.Notes)
			if c.says == "" && said != "<nil>[]" && said != "<nil> []" || !strings.Contains(said, c.says) {
				t.Errorf("error %v, notes %q, want %q", err, plan.Notes, c.says)
			}
			var units [][]string
			for i, u := range plan.Units {
				units = append(units, u.Sessions)
				if u.Unit != i || u.Run != "r" || u.Tasks != 1 || u.OnlySessions != (len(c.req.Sessions) > 0) {
					t.Errorf("unit %d is %+v", i, u)
				}
			}
			if diff := cmp.Diff(c.units, units); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := (HubPlanner{}).Plan(t.Context(), NewRun(start), Request{Sessions: []string{"a"}}); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "drains an Event Hub") {
		t.Errorf("sessions of an Event Hub: error %v", err)
	}
}

func TestSessionPlannerAsksForWhatFits(t *testing.T) {
	for n, want := range map[int]int{0: 16 * MaxSessions, 1: MaxSessions, 1024: maxListed} {
		asked := 0
		q := queue{sessions: func(_ context.Context, most int) ([]string, bool, error) { asked = most; return nil, false, nil }}
		if _, err := (SessionPlanner{q}).Plan(t.Context(), NewRun(start), Request{N: n}); err != nil || asked != want {
			t.Errorf("N %d: asked for %d, error %v; want %d", n, asked, err, want)
		}
	}
}

// TestSessionPlan holds plans over random sessions to the promises of NewSessionPlan.
func TestSessionPlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		var ids []string
		for i := range rng.IntN(1 << rng.IntN(13)) {
			ids = append(ids, fmt.Sprint(i, strings.Repeat([]string{"x", "<", "\x00", "ü"}[rng.IntN(4)], rng.IntN(100))))
		}
		req := Request{N: rng.IntN(40)}
		plan, err := NewSessionPlan(Run{"r", start}, ids, false, req)
		if err != nil {
			t.Fatal(err)
		}
		want := min(len(ids), defaultSessionUnits)
		if req.N > 0 {
			want = min(len(ids), req.N)
		}
		if len(plan.Units) != want {
			t.Fatalf("round %d: %d units of %d sessions with N %d, want %d", round, len(plan.Units), len(ids), req.N, want)
		}
		seen := map[string]bool{}
		most, least := 0, len(ids)
		for _, u := range plan.Units {
			for _, id := range u.Sessions {
				if seen[id] {
					t.Fatalf("round %d: %q is planned twice", round, id)
				}
				seen[id] = true
			}
			most, least = max(most, len(u.Sessions)), min(least, len(u.Sessions))
			body, err := json.Marshal(u)
			if err != nil || len(body) > MaxSessionBytes+200 || len(u.Sessions) > MaxSessions {
				t.Fatalf("round %d: a unit of %d sessions and %d bytes: %v", round, len(u.Sessions), len(body), err)
			}
		}
		if len(seen) < len(ids) && len(plan.Notes) != 1 || len(seen) == len(ids) && (most-least > 1 && len(ids) > 0) {
			t.Fatalf("round %d: %d of %d sessions are planned, %d to %d in each: %q", round, len(seen), len(ids), least, most, plan.Notes)
		}
		again, _ := NewSessionPlan(Run{"r", start}, ids, false, req)
		if diff := cmp.Diff(plan, again); diff != "" {
			t.Fatalf("round %d: the plan differs from one time to the next: %s", round, diff)
		}
	}
}

func TestSessionsThatDontFit(t *testing.T) {
	var ids []string
	for i := range 3 * MaxSessions {
		ids = append(ids, fmt.Sprint(i))
	}
	plan, err := NewSessionPlan(Run{"r", start}, ids, false, Request{N: 2})
	if err != nil || len(plan.Units) != 2 || len(plan.Units[0].Sessions) != MaxSessions || len(plan.Units[1].Sessions) != MaxSessions ||
		len(plan.Notes) != 1 || !strings.Contains(plan.Notes[0], "2000 of 6000 sessions are not named") {
		t.Errorf("%d units, notes %q, error %v", len(plan.Units), plan.Notes, err)
	}
	_, err = NewSessionPlan(Run{"r", start}, nil, false, Request{N: 2, Sessions: ids})
	if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "2000 of 6000 sessions don't fit into 2 units") {
		t.Errorf("error %v", err)
	}
	// A unit without room is passed over: here the first one, whose turn would be each long id's.
	ids = nil
	for i := range 700 {
		ids = append(ids, fmt.Sprint(i, strings.Repeat("\x00", 100)), fmt.Sprint(i)) // 600 bytes as JSON, and a few
	}
	units, left := deal(ids, 2)
	if left != 0 || len(units[0]) > 700 || len(units[1]) < 700 {
		t.Errorf("%d and %d sessions dealt, %d left", len(units[0]), len(units[1]), left)
	}
}

// received answers a unit as a worker does whose receivers stored ten messages each.
func received(u work.Unit) work.Report {
	var rows []work.Source
	for i := range max(1, u.Tasks) {
		rows = append(rows, work.Source{Receiver: &i, Ended: work.Drained, Messages: 10, Bytes: 100, Blobs: 1, Checkpoint: -1, Backlog: -1, Sessions: 2})
	}
	return work.NewReport(u, rows, time.Second)
}

// edited is the same with changes to the first row.
func edited(u work.Unit, edit func(*work.Source)) work.Report {
	rows := received(u).Sources
	edit(&rows[0])
	return work.NewReport(u, rows, time.Second)
}

func queuePlanOf(t *testing.T, units int, backlog int64) Plan {
	plan, err := NewQueuePlan(NewRun(time.Now()), backlog, Request{N: units, PerFunc: 2})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestDispatchReceivers(t *testing.T) {
	url := workerAt(t, func(w http.ResponseWriter, _ *http.Request, u work.Unit) {
		if len(u.Partitions) != 0 || u.Tasks != 2 {
			t.Errorf("unit %+v", u)
		}
		answerWith(w, 200, received(u))
	})
	report := dispatcher(t, Options{Workers: []string{url}}).Dispatch(t.Context(), queuePlanOf(t, 3, -1), Request{})
	if report.Status != OK || report.Messages != 60 || report.Blobs != 6 || report.Sessions != 12 || report.RemainingBacklog != 0 {
		t.Errorf("report %+v", report)
	}
	for i, row := range report.Units {
		if row.Unit != i || row.Receivers != 2 || row.Partitions != nil || row.Ended != work.Drained || len(row.Sources) != 2 {
			t.Errorf("row %+v", row)
		}
	}
	b, err := json.Marshal(report.Units[0].Sources[0])
	const want = `{"receiver":0,"ended":"drained","messages":10,"bytes":100,"blobs":1,"checkpoint":-1,"backlog":-1,"sessions":2,"elapsed_seconds":0}`
	if err != nil || string(b) != want {
		t.Errorf("a row is %s, want %s", b, want)
	}
}

// TestReceiverAnswers holds what is wrong with a report about receivers to being said.
func TestReceiverAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(work.Unit) work.Report
		says   string
	}{
		"a partition": {func(u work.Unit) work.Report {
			return edited(u, func(s *work.Source) { s.Receiver, s.Partition = nil, "0" })
		}, `"partition 0", which was not asked for`},
		"nobody":         {func(u work.Unit) work.Report { return edited(u, func(s *work.Source) { s.Receiver = nil }) }, `"partition ", which was not asked for`},
		"one twice":      {func(u work.Unit) work.Report { return edited(u, func(s *work.Source) { s.Receiver = new(1) }) }, "about receiver 1 twice"},
		"one too many":   {func(u work.Unit) work.Report { u.Tasks = 3; return received(u) }, `"receiver 2", which was not asked for`},
		"a negative one": {func(u work.Unit) work.Report { return edited(u, func(s *work.Source) { s.Receiver = new(-1) }) }, `"receiver -1", which`},
		"one missing":    {func(u work.Unit) work.Report { u.Tasks = 1; return received(u) }, "nothing about receiver 1"},
		"nothing":        {func(u work.Unit) work.Report { return work.NewReport(u, nil, 0) }, "nothing about receiver 0"},
		"failed, but not so": {func(u work.Unit) work.Report {
			r := edited(u, func(s *work.Source) { s.Ended, s.Error = work.Failed, "queue orders is disabled" })
			r.Status = OK
			return r
		}, "receiver 0: queue orders is disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := workerAt(t, func(w http.ResponseWriter, _ *http.Request, u work.Unit) { answerWith(w, 200, c.answer(u)) })
			report := dispatcher(t, Options{Workers: []string{url}}).Dispatch(t.Context(), queuePlanOf(t, 1, 500), Request{})
			row := report.Units[0]
			if report.Status != Failed || row.Attempts != 1 || !strings.Contains(row.Error, c.says) {
				t.Errorf("row %+v: want failed at once, with %q", row, c.says)
			}
		})
	}
}

func TestReceiversAddUp(t *testing.T) {
	skipped := []work.SkippedSession{{Session: "a", Reason: "it is locked by another receiver"}}
	calls := 0
	url := workerAt(t, func(w http.ResponseWriter, _ *http.Request, u work.Unit) {
		if calls++; calls == 1 {
			answerWith(w, 502, edited(u, func(s *work.Source) {
				s.Ended, s.Error, s.Messages, s.AlreadyStored, s.RedeliveryExpected, s.Abandoned = work.Failed, "link lost", 4, 5, 6, 7
				s.Skipped, s.SkippedSessions = 1, skipped
			}))
			return
		}
		answerWith(w, 200, received(u))
	})
	report := dispatcher(t, Options{Workers: []string{url}}).Dispatch(t.Context(), queuePlanOf(t, 1, 500), Request{})
	row := report.Units[0].Sources[0]
	if report.Status != OK || report.Messages != 34 || report.AlreadyStored != 5 || report.RedeliveryExpected != 6 || report.Abandoned != 7 || report.Sessions != 8 ||
		row.Messages != 14 || row.Ended != work.Drained || row.Skipped != 0 || report.Skipped != 0 || report.RemainingBacklog != 500-34-5 {
		t.Errorf("report %+v: want the sum of both attempts, and the last one's state", report)
	}
}

func TestRemainingInAQueue(t *testing.T) {
	for _, c := range []struct {
		name    string
		backlog int64
		edit    func(*work.Source)
		want    int64
	}{
		{"drained", 500, func(*work.Source) {}, 0},
		{"idle", -1, func(s *work.Source) { s.Ended = work.Idle }, 0},
		{"deadline", 500, func(s *work.Source) { s.Ended, s.AlreadyStored = work.Deadline, 3 }, 477},
		{"deadline, backlog unknown", -1, func(s *work.Source) { s.Ended = work.Deadline }, -1},
		{"more came than waited", 5, func(s *work.Source) { s.Ended = work.Deadline }, 0},
		{"cancelled", -1, func(s *work.Source) { s.Ended = work.Cancelled }, -1},
		{"failed", 500, func(s *work.Source) { s.Ended = work.Failed }, 480},
		{"skipped a session", -1, func(s *work.Source) { s.Skipped = 1 }, -1},
	} {
		plan := queuePlanOf(t, 1, c.backlog)
		row := newRow(plan.Units[0])
		row.add(edited(plan.Units[0], c.edit))
		if report := newReport(plan, []UnitRow{row}, time.Second); report.RemainingBacklog != c.want {
			t.Errorf("%s: %d remain, want %d", c.name, report.RemainingBacklog, c.want)
		}
	}
	// A unit that never answered may have left all it should have taken.
	for backlog, want := range map[int64]int64{500: 480, -1: -1} {
		plan := queuePlanOf(t, 2, backlog)
		rows := []UnitRow{newRow(plan.Units[0]), newRow(plan.Units[1])}
		rows[0].add(received(plan.Units[0]))
		rows[1].fail("no answer")
		if report := newReport(plan, rows, time.Second); report.RemainingBacklog != want || report.Status != Failed {
			t.Errorf("%d remain, want %d: %+v", report.RemainingBacklog, want, report)
		}
	}
}

func TestSkippedSessionsAreBounded(t *testing.T) {
	plan, err := NewSessionPlan(NewRun(start), []string{"a", "b", "c"}, false, Request{})
	if err != nil {
		t.Fatal(err)
	}
	var rows []UnitRow
	for _, u := range plan.Units {
		row := newRow(u)
		row.add(edited(u, func(s *work.Source) {
			s.Skipped = 300
			s.SkippedSessions = make([]work.SkippedSession, 300)
			s.SkippedSessions[0].Session = u.Sessions[0]
		}))
		if n := len(row.Sources[0].SkippedSessions); n != work.MaxSkipped {
			t.Errorf("a worker names %d", n)
		}
		rows = append(rows, row)
	}
	report := newReport(plan, rows, time.Second)
	if report.Skipped != 900 || len(report.SkippedSessions) != work.MaxSkipped || report.SkippedSessions[0].Session != "a" || report.Status != OK {
		t.Errorf("%d skipped, %d named", report.Skipped, len(report.SkippedSessions))
	}
	b, err := json.Marshal(Skipped{2, work.SkippedSession{Session: "a", Reason: "locked"}})
	if want := `{"unit":2,"session":"a","reason":"locked"}`; err != nil || string(b) != want {
		t.Errorf("%s, want %s", b, want)
	}
}

// Every end that a loop can have has its place, the worst at the end.
func TestWorst(t *testing.T) {
	ends := []work.Ended{work.Drained, work.Idle, work.Deadline, work.Cancelled, work.Superseded, work.Failed}
	var sources []work.Source
	for _, end := range ends {
		sources = append(sources, work.Source{Ended: end})
		if got := worst(sources); got != end {
			t.Errorf("the worst of %d ends is %s, want %s", len(sources), got, end)
		}
	}
	if got := worst(nil); got != work.Failed {
		t.Errorf("without a source: %s", got)
	}
}

func TestAnEmptyQueueIsASuccess(t *testing.T) {
	d := dispatcher(t, Options{Workers: []string{"http://127.0.0.1:1/api/pull"}}) // called by nobody
	for name, p := range map[string]Planner{"queue": QueuePlanner{holding(0, nil)}, "sessions": SessionPlanner{listing(false)}} {
		report, err := d.Run(t.Context(), p, NewRun(time.Now()), Request{})
		b, _ := json.Marshal(report)
		if err != nil || report.Status != OK || report.RemainingBacklog != 0 || !strings.Contains(string(b), `"units":[]`) {
			t.Errorf("%s: %s, error %v", name, b, err)
		}
	}
	report, err := d.Run(t.Context(), QueuePlanner{holding(0, errors.New("queue orders doesn't exist"))}, NewRun(time.Now()), Request{})
	if err != nil || report.Status != Failed || report.RemainingBacklog != -1 || !strings.Contains(report.Error, "doesn't exist") {
		t.Errorf("report %+v, error %v", report, err)
	}
}
