package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"persistor/internal/fanout"
)

// Runner carries out runs; it may be called concurrently. An error is for a request that can't be
// carried out (an [fanout.ErrRequest]), a [fanout.UnderWayError], or for an invoker that can't work; what
// goes wrong with a run is in its report.
type Runner interface {
	Run(ctx context.Context, req fanout.Request) (fanout.Report, error)
}

// InvokerOptions are an invoker's settings.
type InvokerOptions struct {
	// Key, unless empty, is what calls to /api/* must bring along (WORKER_KEY).
	Key string
	// MaxBudget is the longest budget that a request may ask for (INVOKER_TIMEOUT).
	MaxBudget time.Duration
	// Log takes a line for each call; nil drops them.
	Log *slog.Logger
}

// NewInvoker returns the invoker's surface:
//
//	GET, POST /api/invoke  start a run, and answer with its report when it is over: N units, N_per_func
//	                       pull loops in each, batch_store_size messages a blob; the same and more in a
//	                       JSON body: partitions, sessions, from, batch, budget_seconds. While another
//	                       run is under way it answers 409, unless exclusive is false
//	POST      /api/backfill         begin a run of several waves, and answer 202 with its document: partitions, N,
//	                                N_per_func, batch, from, until, max_waves, max_messages
//	GET       /api/runs             the newest runs, limit of them, of one state
//	GET       /api/runs/ID          a run, with what its workers have done by now
//	DELETE    /api/runs/ID          cancel it: its workers stop at the next batch
//	POST      /api/runs/ID/retry    do again what failed
//	POST      /api/runs/ID/resume   go on with what was abandoned or cancelled
//	GET       /api/status           how far the source is drained
//	GET       /            200, for the Functions host
//
// Calls about runs answer 404 where there is no such run, 409 where its state doesn't allow what is asked, and 501
// where the settings don't say where runs are kept.
func NewInvoker(o InvokerOptions, r Runner, runs Runs) http.Handler {
	invoker := &invoker{runner: r, maxBudget: o.MaxBudget}
	return newHandler(append([]route{
		{path: "/", methods: []string{http.MethodGet, http.MethodHead}, handle: ready, open: true},
		{path: "/api/invoke", methods: []string{http.MethodGet, http.MethodPost}, handle: invoker.invoke},
	}, runRoutes(runs)...), o.Key, o.Log)
}

type invoker struct {
	runner    Runner
	maxBudget time.Duration
}

func (i *invoker) invoke(rw http.ResponseWriter, r *http.Request) answer {
	body, refused := readBody(rw, r)
	if refused != nil {
		return *refused
	}
	req, err := parseInvocation(r.URL.Query(), body, i.maxBudget)
	if err != nil {
		return failure(http.StatusBadRequest, err)
	}
	report, err := i.runner.Run(r.Context(), req)
	switch {
	case errors.Is(err, fanout.ErrRequest):
		return failure(http.StatusBadRequest, err)
	case errors.As(err, new(*fanout.UnderWayError)):
		return failure(http.StatusConflict, err)
	case err != nil:
		return failure(http.StatusBadGateway, err)
	}
	a := answer{status: http.StatusOK, body: report, header: http.Header{fanout.RunHeader: {report.Run}}}
	if report.Status != fanout.OK {
		a.status = http.StatusBadGateway
	}
	return a
}
