package fanout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"persistor/internal/work"
)

const (
	// maxRounds is how many failed attempts on each worker make a unit failed for good, some 8 s. A
	// worker that asks to be called later (429, or Retry-After) has not failed, and is waited for as long
	// as the budget lasts.
	maxRounds = 6
	// maxDrains is how many times a unit may run and fail: the worker has retried within each already.
	maxDrains = 3
	// backoffMin and backoffMax bound the wait between two attempts, before jitter.
	backoffMin = 250 * time.Millisecond
	backoffMax = 15 * time.Second
)

// errDrain is the kind of failure where a worker ran the unit, and the unit failed.
var errDrain = errors.New("drain failed")

// errStopped is the failure of a unit that was not sent, or not sent again, because the run is to end.
var errStopped = errors.New("not sent: the run was cancelled")

// call is one unit on its way: sent, and sent again, until it has an answer, has failed for good, or
// the time is up.
//
// go-retryablehttp owns the loop; call answers its three questions: what an attempt is (RoundTrip),
// whether to try again (again), and after how long (backoff). Each attempt is a request of its own,
// because the URL, the budget inside the body and the trace's span differ from one to the next.
type call struct {
	dispatcher *Dispatcher
	unit       work.Unit
	end        deadline
	stopped    <-chan struct{} // see [Request.Stopped]

	began    time.Time
	row      UnitRow
	failures int           // attempts that count towards maxRounds
	drains   int           // attempts that count towards maxDrains
	last     error         // the last attempt's; nil once the unit is done
	wait     time.Duration // before the next attempt
	// notBefore is when each worker may be asked again, as its Retry-After says; zero at first.
	notBefore []time.Time
}

func newCall(d *Dispatcher, unit work.Unit, end deadline) *call {
	return &call{
		dispatcher: d,
		unit:       unit,
		end:        end,
		began:      time.Now(),
		row:        newRow(unit),
		notBefore:  make([]time.Time, len(d.workers)),
	}
}

// do returns the unit's row. It returns soon after ctx is done.
func (c *call) do(ctx context.Context) UnitRow {
	client := retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: c,
			// A redirect would turn the POST into a GET, and take the key to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     math.MaxInt,
		CheckRetry:   c.again,
		Backoff:      func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return c.wait },
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, c.worker().String(), nil)
	if err == nil {
		client.Do(req) // c.last holds what it returns, in better words; RoundTrip has closed the body
	} else {
		c.last = fmt.Errorf("call worker %d: the URL in FUNC_TO_INVOKE is not valid", c.turn()+1)
	}
	if c.last == nil {
		c.row.Ended = worst(c.row.Sources)
	} else {
		c.row.fail(c.last.Error())
	}
	c.row.ElapsedSeconds = time.Since(c.began).Seconds()
	return c.row
}

func (c *call) isStopped() bool {
	select {
	case <-c.stopped:
		return true
	default:
		return false
	}
}

// worker is the one whose turn it is: each unit starts at another one, and goes on to the next.
func (c *call) worker() *url.URL {
	return c.dispatcher.workers[c.turn()]
}

func (c *call) turn() int {
	return (c.unit.Unit + c.row.Attempts) % len(c.dispatcher.workers)
}

// RoundTrip makes one attempt. The request that it is given only carries the context.
func (c *call) RoundTrip(outer *http.Request) (*http.Response, error) {
	resp, err := c.attempt(outer.Context())
	c.last = err
	if resp == nil {
		return nil, err
	}
	return resp, nil
}

// attempt sends the unit once and takes the answer into the row. It returns the response, its body read
// and closed, when there was one, and an error unless the unit is done.
func (c *call) attempt(ctx context.Context) (resp *http.Response, err error) {
	if c.isStopped() {
		return nil, errStopped
	}
	worker, budget := c.turn(), time.Until(c.end.worker)
	if ctx.Err() != nil || budget <= 0 {
		return nil, c.unanswered(ctx)
	}
	req, err := c.request(ctx, budget)
	if err != nil {
		return nil, err
	}
	c.row.Attempts++
	c.row.Worker = redact(req.URL)
	c.notBefore[worker] = time.Time{}
	span := c.span(ctx, req)
	defer func() { endSpan(span, resp, err) }()
	resp, err = c.dispatcher.transport.RoundTrip(req)
	if err != nil {
		if dial := (*net.OpError)(nil); !errors.As(err, &dial) || dial.Op != "dial" {
			c.row.Unheard++
		}
		if ctx.Err() != nil {
			return nil, c.unanswered(ctx)
		}
		return nil, fmt.Errorf("call %s: %w", c.row.Worker, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	resp.Body = http.NoBody
	if err != nil {
		c.row.Unheard++
		if ctx.Err() != nil {
			return nil, c.unanswered(ctx)
		}
		return nil, fmt.Errorf("read answer of %s: %w", c.row.Worker, err)
	}
	c.notBefore[worker] = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	return resp, c.take(resp, body)
}

// request is the next attempt's, for a worker that has budget left.
func (c *call) request(ctx context.Context, budget time.Duration) (*http.Request, error) {
	unit := c.unit
	unit.BudgetSeconds = budget.Seconds()
	body, err := json.Marshal(unit)
	if err != nil {
		return nil, fmt.Errorf("encode unit: %w", err)
	}
	// A reader whose length is known, and with it a Content-Length: without one the Functions host may
	// hand its worker an empty body (azure-functions-host #4926).
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.worker().String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call worker %d: the URL in FUNC_TO_INVOKE is not valid", c.turn()+1)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set(RunHeader, c.unit.Run)
	if c.dispatcher.key != "" {
		req.Header.Set(KeyHeader, c.dispatcher.key)
	}
	return req, nil
}

// again is go-retryablehttp's CheckRetry: whether a worker may do better on another attempt, in time.
// It never returns an error: c.last has what went wrong.
func (c *call) again(ctx context.Context, resp *http.Response, _ error) (bool, error) {
	if c.last == nil || ctx.Err() != nil || time.Until(c.end.worker) <= 0 || c.isStopped() || c.final(resp) {
		return false, nil
	}
	c.wait = c.backoff()
	if c.end.worker.Before(time.Now().Add(c.wait)) {
		c.last = fmt.Errorf("%w: given up after %d attempts: the budget ends before the next, in %v",
			c.last, c.row.Attempts, c.wait.Round(time.Millisecond))
		return false, nil
	}
	return true, nil
}

// final reports whether the last attempt's failure is one for good, and counts it.
func (c *call) final(resp *http.Response) bool {
	if resp != nil {
		code := resp.StatusCode
		if code != http.StatusRequestTimeout && code != http.StatusTooManyRequests && code < 500 {
			return true
		}
		if code == http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "" {
			return false
		}
	}
	c.failures++
	if errors.Is(c.last, errDrain) {
		c.drains++
	}
	if c.failures >= maxRounds*len(c.dispatcher.workers) || c.drains >= maxDrains {
		c.last = fmt.Errorf("%w: given up after %d attempts", c.last, c.row.Attempts)
		return true
	}
	return false
}

// backoff is how long to wait before the next attempt. Where the worker whose turn it is has said when
// to come back, until then. Else twice as long after each round of all workers, and next to nothing
// within a round, for what keeps one worker from answering is no reason to spare the next. Part of it
// is chance, so that units that failed together don't come back together.
func (c *call) backoff() time.Duration {
	workers := len(c.dispatcher.workers)
	switch at := c.notBefore[c.turn()]; {
	case !at.IsZero():
		return max(0, time.Until(at)) + rand.N(backoffMin)
	case c.row.Attempts%workers != 0:
		return rand.N(backoffMin / 10)
	}
	round := min(c.row.Attempts/workers, 10) // from 1
	wait := min(backoffMin<<(round-1), backoffMax)
	return wait/2 + rand.N(wait)
}

// unanswered says why there is no answer although the time is up, or ctx was cancelled.
func (c *call) unanswered(ctx context.Context) error {
	waited := time.Since(c.began).Round(time.Millisecond)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("cancelled after %v (%w); it may still be running; a next run is safe", waited, context.Cause(ctx))
	case c.row.Attempts == 0:
		return errors.New("not sent: the budget was over before its turn came; a next run takes it on")
	}
	return fmt.Errorf("no answer within %v; it may still be running; a next run is safe", waited)
}
