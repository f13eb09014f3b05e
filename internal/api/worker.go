package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/work"
)

// Drainer does a worker's work. Its methods may be called concurrently.
type Drainer interface {
	// Drain runs a unit, within its budget or else the worker's own, and reports every partition or cell of it,
	// also one whose turn did not come; of Service Bus, every one of its receivers. When ctx ends it stops receiving, stores and settles what it
	// holds, and returns.
	Drain(ctx context.Context, unit work.Unit) work.Report
	// Plan makes one unit out of everything that has a backlog, with req.PerFunc tasks; of an Event Hub, a
	// unit without partitions when there is nothing to do. It returns soon after ctx is done.
	Plan(ctx context.Context, req fanout.Request) (work.Unit, error)
	// Progress says how far the units that Drain is running are, at once.
	Progress() []Progress
}

// Progress is how far one pull loop is.
type Progress struct {
	Run  string `json:"run"`
	Unit int    `json:"unit"`
	// Partition is what the loop drains of an Event Hub; Receiver is its number within the unit, of Service
	// Bus.
	Partition string `json:"partition,omitempty"`
	Receiver  *int   `json:"receiver,omitempty"`
	// Cell is the part of the partition that the loop drains, nil for all of it.
	Cell *work.Range `json:"cell,omitempty"`
	// Received and Stored count the messages since the loop began.
	Received int64 `json:"received"`
	Stored   int64 `json:"stored"`
	// Last is the sequence number at which the loop will be done; -1 while it isn't known, as ever on
	// Service Bus.
	Last int64 `json:"last"`
}

// WorkerOptions are a worker's settings.
type WorkerOptions struct {
	// Key, unless empty, is what calls to /api/* must bring along (WORKER_KEY).
	Key string
	// Concurrency is how many units run at once (WORKER_CONCURRENCY); less than 1 means 1.
	Concurrency int
	// ServiceBus tells that units are of Service Bus (SERVICE_TYPE), and Sessions that they may name
	// sessions (SERVICE_BUS_SESSIONS). Units of another kind are refused.
	ServiceBus, Sessions bool
	// Log takes a line for each call; nil drops them.
	Log *slog.Logger
}

// worker serves a Drainer.
type worker struct {
	drainer Drainer
	kind    work.Kind
	slots   chan struct{} // holds a token for each unit that runs
}

// NewWorker returns the worker's surface:
//
//	GET, POST /api/pull    drain the work unit in the body; without a body, plan for itself and drain
//	                       all that has a backlog, N partitions at a time, or with N receivers
//	GET       /api/status  the pull loops that run now
//	GET       /            200, for the Functions host
//
// A pull answers 200 with its report, or with the report and 502 when a source failed, or 503 when it
// was cut short because the worker was told to stop. The latter two are worth another attempt, on
// whatever worker; one that goes wrong the same way every time costs the invoker three. While all slots
// are taken a pull answers 429, so that the call lands on another instance.
func NewWorker(o WorkerOptions, d Drainer) http.Handler {
	w := &worker{drainer: d, slots: make(chan struct{}, max(1, o.Concurrency))}
	switch {
	case o.ServiceBus && o.Sessions:
		w.kind = work.Sessions
	case o.ServiceBus:
		w.kind = work.Receivers
	}
	return newHandler([]route{
		{path: "/", methods: []string{http.MethodGet, http.MethodHead}, handle: ready, open: true},
		{path: "/api/pull", methods: []string{http.MethodGet, http.MethodPost}, handle: w.pull},
		{path: "/api/status", methods: []string{http.MethodGet}, handle: w.status},
	}, o.Key, o.Log)
}

func (w *worker) pull(rw http.ResponseWriter, r *http.Request) answer {
	body, refused := readBody(rw, r)
	if refused != nil {
		return *refused
	}
	var unit work.Unit
	var req fanout.Request
	var err error
	if len(body) > 0 {
		unit, err = parseUnit(r.URL.Query(), body, w.kind)
	} else {
		req, err = parsePull(r.URL.Query())
	}
	if err != nil {
		return failure(http.StatusBadRequest, err)
	}

	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	default:
		return w.busy()
	}
	if len(body) == 0 {
		if unit, err = w.drainer.Plan(r.Context(), req); err != nil {
			return failure(http.StatusBadGateway, err)
		}
	}
	if w.kind == work.Partitions && len(unit.Partitions) == 0 && len(unit.Cells) == 0 {
		return answer{status: http.StatusOK, body: work.Report{Run: unit.Run, Status: fanout.OK, Sources: []work.Source{}}}
	}
	report := w.drainer.Drain(r.Context(), unit)
	return answer{status: statusOf(r.Context(), report), body: report, header: http.Header{fanout.RunHeader: {unit.Run}}}
}

// statusOf says a report's outcome as an HTTP status. A unit that was cut short since its run is cancelled is done: no
// other worker is to take it on.
func statusOf(ctx context.Context, r work.Report) int {
	switch {
	case r.Status != fanout.OK:
		return http.StatusBadGateway
	case ctx.Err() != nil && slices.ContainsFunc(r.Sources, func(s work.Source) bool { return s.Ended == work.Cancelled }):
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// busy turns a call away. The connection goes too: where a load balancer deals out connections, the
// next attempt on this one would land here again.
func (w *worker) busy() answer {
	const wait = time.Second
	a := failure(http.StatusTooManyRequests,
		fmt.Errorf("busy: %d of %d units run here (WORKER_CONCURRENCY): try again in %v", len(w.slots), cap(w.slots), wait))
	a.header = http.Header{"Retry-After": {fmt.Sprint(int(wait.Seconds()))}, "Connection": {"close"}}
	return a
}

// status answers with what runs now.
func (w *worker) status(http.ResponseWriter, *http.Request) answer {
	sources := w.drainer.Progress()
	if sources == nil {
		sources = []Progress{}
	}
	return answer{status: http.StatusOK, body: Status{Busy: len(w.slots), Concurrency: cap(w.slots), Sources: sources}}
}

// Status is what /api/status answers.
type Status struct {
	// Busy is how many units run, of at most Concurrency.
	Busy        int `json:"busy"`
	Concurrency int `json:"concurrency"`
	// Sources are the pull loops of those units; never null.
	Sources []Progress `json:"sources"`
}
