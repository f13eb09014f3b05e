package fanout

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"
)

const (
	// RunHeader carries the run id of every call to a worker.
	RunHeader = "X-Persistor-Run"
	// KeyHeader carries the key that both programs may require, as Azure Functions does.
	KeyHeader = "X-Functions-Key"
)

// Options are a [Dispatcher]'s settings.
type Options struct {
	// Workers are the URLs that take a POSTed unit (FUNC_TO_INVOKE): one in front of a load balancer, or
	// several, used in turn. A URL's query and user info are sent, and never reported.
	Workers []string
	// Key is sent as x-functions-key when it isn't empty (WORKER_KEY).
	Key string
	// Delay lies between the starts of one unit's call and the next's (DELAY_BETWEEN_FUNCS). It is cut
	// where all of them together would take more than a quarter of the budget.
	Delay time.Duration
	// Budget bounds a run from its start to its report (INVOKER_TIMEOUT).
	Budget time.Duration
	// Limit is how many calls are open at once; 0 means MaxUnits.
	Limit int
	// Transport sends the requests; nil means one made for this: HTTP/1.1, and a connection a unit.
	Transport http.RoundTripper
	// Tracer makes the spans of the calls; nil records none.
	Tracer trace.Tracer
	// Ended, unless nil, is told of every unit that has ended; it may be called concurrently.
	Ended func(context.Context, UnitRow)
}

// Dispatcher sends units to workers. It may be used by several runs at once.
type Dispatcher struct {
	workers   []*url.URL
	key       string
	delay     time.Duration
	budget    time.Duration
	limit     int
	transport http.RoundTripper
	tracer    trace.Tracer
	ended     func(context.Context, UnitRow)
}

// NewDispatcher checks o.
func NewDispatcher(o Options) (*Dispatcher, error) {
	if len(o.Workers) == 0 {
		return nil, errors.New("read worker URLs: FUNC_TO_INVOKE is empty: want at least one URL")
	}
	if o.Budget <= 0 {
		return nil, fmt.Errorf("read budget: INVOKER_TIMEOUT is %v: want more than 0", o.Budget)
	}
	d := &Dispatcher{key: o.Key, delay: max(0, o.Delay), budget: o.Budget, limit: o.Limit, transport: o.Transport, tracer: o.Tracer, ended: o.Ended}
	for i, raw := range o.Workers {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			// Not the URL itself, nor url.Parse's error, which quotes it: a key may be in it.
			return nil, fmt.Errorf("read worker URLs: FUNC_TO_INVOKE, URL %d: want http:// or https://, a host and a path", i+1)
		}
		d.workers = append(d.workers, u)
	}
	if d.limit <= 0 {
		d.limit = MaxUnits
	}
	if d.tracer == nil {
		d.tracer = noop.Tracer{}
	}
	if d.transport == nil {
		d.transport = newTransport()
	}
	return d, nil
}

// newTransport returns a transport for many long calls to few hosts. It keeps to HTTP/1.1: HTTP/2 would
// put every unit on one connection, and a load balancer that deals out connections would then give all
// of them to one worker.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.MaxIdleConns = MaxUnits
	t.MaxIdleConnsPerHost = MaxUnits
	return t
}

// Budget is how long a run may take at most: the request's budget where it is shorter than the
// dispatcher's.
func (d *Dispatcher) Budget(req Request) time.Duration {
	if req.Budget > 0 {
		return min(req.Budget, d.budget)
	}
	return d.budget
}

// Dispatch sends every unit of the plan and reports what became of it. It returns by the run's start
// plus the budget, whatever the workers do: a request's budget, where it is shorter, else the
// dispatcher's. One unit's failure leaves the others alone; ctx's end fails those that have no answer
// yet.
func (d *Dispatcher) Dispatch(ctx context.Context, plan Plan, req Request) Report {
	began := time.Now()
	ctx = traced(ctx)
	end := newDeadline(plan.Run.Start, d.Budget(req))
	ctx, cancel := context.WithDeadline(ctx, end.answer)
	defer cancel()

	rows := make([]UnitRow, len(plan.Units))
	delay := d.stagger(len(plan.Units), d.Budget(req))
	var telling sync.Mutex
	var calls errgroup.Group // without a context: nobody's failure is the others' concern
	calls.SetLimit(d.limit)
	for i, unit := range plan.Units {
		sleep(ctx, time.Until(began.Add(time.Duration(i)*delay)))
		calls.Go(func() error {
			c := newCall(d, unit, end)
			c.stopped = req.Stopped
			rows[i] = c.do(ctx)
			if d.ended != nil {
				d.ended(ctx, rows[i])
			}
			if req.Ended != nil {
				telling.Lock()
				defer telling.Unlock()
				req.Ended(rows[i])
			}
			return nil
		})
	}
	calls.Wait()
	report := newReport(plan, rows, time.Since(plan.Run.Start))
	report.Trace = trace.SpanContextFromContext(ctx).TraceID().String()
	return report
}

// stagger is the time between two starts: the setting, unless the last unit would then start after a
// quarter of the budget.
func (d *Dispatcher) stagger(units int, budget time.Duration) time.Duration {
	return min(d.delay, budget/4/time.Duration(max(1, units)))
}

// deadline is how a run's budget is shared out at its end.
type deadline struct {
	// answer is when the invoker stops waiting for workers, so that its report is out in time.
	answer time.Time
	// worker is when a worker should have answered: early enough for that to arrive.
	worker time.Time
}

// newDeadline keeps a twentieth of the budget, at most 5 s, for the report, and again for the way back.
func newDeadline(start time.Time, budget time.Duration) deadline {
	margin := min(budget/20, 5*time.Second)
	answer := start.Add(budget - margin)
	return deadline{answer: answer, worker: answer.Add(-margin)}
}

// Run has a run planned and dispatches it. It returns within the budget from the run's start, and an error (an [ErrRequest]) only
// where the request can't be carried out; every other failure is in the report.
func (d *Dispatcher) Run(ctx context.Context, planner Planner, run Run, req Request) (Report, error) {
	plan, err := d.plan(ctx, planner, run, req)
	if errors.Is(err, ErrRequest) {
		return Report{}, err
	}
	if err != nil {
		return FailedReport(run, err), nil
	}
	return d.Dispatch(ctx, plan, req), nil
}

// plan takes half of the budget at most.
func (d *Dispatcher) plan(ctx context.Context, planner Planner, run Run, req Request) (Plan, error) {
	ctx, cancel := context.WithDeadline(ctx, run.Start.Add(d.Budget(req)/2))
	defer cancel()
	return planner.Plan(ctx, run, req)
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
