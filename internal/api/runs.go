package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
)

// Runs keeps what runs have become, and begins those that take several waves. Its methods may be called concurrently.
// Their errors are an [fanout.ErrRequest], a [ledger.ErrNoRun], a [ledger.ErrState], an [ErrNoRuns], or say what can't be
// reached.
type Runs interface {
	Begin(ctx context.Context, req ledger.Request) (ledger.Run, error)
	// List gives the newest runs first, at most so many, in the state that they show as, without units and errors; of one state unless that is "".
	List(ctx context.Context, limit int, state ledger.State) ([]ledger.Run, error)
	Read(ctx context.Context, id string) (ledger.Live, error)
	Cancel(ctx context.Context, id string) (ledger.Run, error)
	Retry(ctx context.Context, id string) (ledger.Run, error)
	Resume(ctx context.Context, id string) (ledger.Run, error)
	// Standing is how far the source is drained.
	Standing(ctx context.Context) (Standing, error)
}

// ErrNoRuns is the kind of error of an invoker that keeps no runs, because its settings don't say where.
var ErrNoRuns = errors.New("no runs are kept")

// Standing is what GET /api/status of an invoker answers.
type Standing struct {
	// Source is what is drained, as in a run's document, and Service which of the two services it is of.
	Source  string `json:"source"`
	Service string `json:"service"`
	// Partitions are those of an Event Hub, in order of ids.
	Partitions []PartitionStanding `json:"partitions,omitempty"`
	// Waiting is how many messages of Service Bus wait; -1 when that isn't known, and 0 for an Event Hub.
	Waiting int64 `json:"waiting"`
	// Backlog is what waits to be stored, as [fanout.Partition.Backlog] counts; of Service Bus it is Waiting.
	Backlog int64 `json:"backlog"`
	// Run is the one under way, null if none is, without its units and errors.
	Run *ledger.Run `json:"run"`
}

// PartitionStanding is how far a partition is drained.
type PartitionStanding struct {
	Partition string `json:"partition"`
	// First and Last are the sequence numbers of the oldest and the newest event, and Checkpoint is the one up to
	// which everything is stored: -1 for none.
	First        int64     `json:"first"`
	Last         int64     `json:"last"`
	Checkpoint   int64     `json:"checkpoint"`
	Backlog      int64     `json:"backlog"`
	LastEnqueued time.Time `json:"last_enqueued,omitzero"`
	Empty        bool      `json:"empty"`
}

const (
	defaultRuns = 20   // that a list has, unless limit says it
	maxRuns     = 1000 // that limit may say
	// startTimeout bounds calls about runs, none of which waits for one's end.
	startTimeout = 2 * time.Minute
)

// runs serves a [Runs].
type runs struct{ Runs }

// runRoutes are the routes of runs.
func runRoutes(r Runs) []route {
	s := runs{r}
	return []route{
		{path: "/api/backfill", methods: []string{http.MethodPost}, handle: bounded(s.backfill)},
		{path: "/api/runs", methods: []string{http.MethodGet}, handle: bounded(s.list)},
		{path: "/api/runs/{id}", methods: []string{http.MethodGet, http.MethodDelete}, handle: bounded(s.run)},
		{path: "/api/runs/{id}/retry", methods: []string{http.MethodPost}, handle: bounded(s.again(Runs.Retry))},
		{path: "/api/runs/{id}/resume", methods: []string{http.MethodPost}, handle: bounded(s.again(Runs.Resume))},
		{path: "/api/status", methods: []string{http.MethodGet}, handle: bounded(s.standing)},
	}
}

// bounded ends a call's context after a time.
func bounded(handle handler) handler {
	return func(w http.ResponseWriter, r *http.Request) answer {
		ctx, cancel := context.WithTimeout(r.Context(), startTimeout)
		defer cancel()
		return handle(w, r.WithContext(ctx))
	}
}

func (s runs) backfill(w http.ResponseWriter, r *http.Request) answer {
	body, refused := readBody(w, r)
	if refused != nil {
		return *refused
	}
	req, err := parseBackfill(r.URL.Query(), body)
	if err != nil {
		return failure(http.StatusBadRequest, err)
	}
	run, err := s.Begin(r.Context(), req)
	return accepted(run, err)
}

func (s runs) list(_ http.ResponseWriter, r *http.Request) answer {
	query := r.URL.Query()
	err := onlyParams(query, "limit", "state")
	limit := 0
	if err == nil {
		limit, err = number(query, "limit", nil, maxRuns)
	}
	state := ledger.State(query.Get("state"))
	if err == nil && state != "" && !slices.Contains(states, state) {
		err = fmt.Errorf("state is %s: want one of %v", quote(string(state)), states)
	}
	if err != nil {
		return failure(http.StatusBadRequest, err)
	}
	if limit == 0 {
		limit = defaultRuns
	}
	list, err := s.List(r.Context(), limit, state)
	if err != nil {
		return runFailure(err)
	}
	if list == nil {
		list = []ledger.Run{}
	}
	return answer{status: http.StatusOK, body: struct {
		Runs []ledger.Run `json:"runs"`
	}{list}}
}

// states are those that a run shows as.
var states = []ledger.State{ledger.Queued, ledger.Running, ledger.Cancelled, ledger.Succeeded, ledger.Failed, ledger.Abandoned}

func (s runs) run(_ http.ResponseWriter, r *http.Request) answer {
	id, refused := runOf(r)
	if refused != nil {
		return *refused
	}
	if r.Method == http.MethodDelete {
		return accepted(s.Cancel(r.Context(), id))
	}
	live, err := s.Read(r.Context(), id)
	if err != nil {
		return runFailure(err)
	}
	return answer{status: http.StatusOK, body: live}
}

func (s runs) again(do func(Runs, context.Context, string) (ledger.Run, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request) answer {
		id, refused := runOf(r)
		if refused != nil {
			return *refused
		}
		return accepted(do(s.Runs, r.Context(), id))
	}
}

func (s runs) standing(_ http.ResponseWriter, r *http.Request) answer {
	if err := onlyParams(r.URL.Query()); err != nil {
		return failure(http.StatusBadRequest, err)
	}
	now, err := s.Standing(r.Context())
	if err != nil {
		return runFailure(err)
	}
	return answer{status: http.StatusOK, body: now}
}

// runOf is the run that a path names.
func runOf(r *http.Request) (id string, refused *answer) {
	err := onlyParams(r.URL.Query())
	if id = chi.URLParam(r, "id"); err == nil && !runID.MatchString(id) {
		err = fmt.Errorf("run is %s: want 1 to 64 of A-Z a-z 0-9 . _ -", quote(id))
	}
	if err != nil {
		a := failure(http.StatusBadRequest, err)
		return "", &a
	}
	return id, nil
}

// accepted answers with a run that is going to change.
func accepted(run ledger.Run, err error) answer {
	if err != nil {
		return runFailure(err)
	}
	return answer{status: http.StatusAccepted, body: run, header: http.Header{"Location": {"/api/runs/" + run.ID}, fanout.RunHeader: {run.ID}}}
}

// runFailure is the answer to a call about runs that can't be carried out.
func runFailure(err error) answer {
	switch {
	case errors.Is(err, fanout.ErrRequest):
		return failure(http.StatusBadRequest, err)
	case errors.Is(err, ledger.ErrNoRun):
		return failure(http.StatusNotFound, err)
	case errors.Is(err, ledger.ErrState):
		return failure(http.StatusConflict, err)
	case errors.Is(err, ErrNoRuns):
		return failure(http.StatusNotImplemented, err)
	}
	return failure(http.StatusBadGateway, err)
}

// maxWaves and the like bound what a backfill may ask for.
const (
	maxWavesAsked    = 1_000_000
	maxMessagesAsked = 1 << 53 // what JSON's numbers hold in every reader
	// The sessions that a run's document names, and the bytes of their ids.
	maxSessionsKept      = 1000
	maxSessionsKeptBytes = 128 << 10
)

// parseBackfill reads what a backfill is asked for, all of it in the body.
func parseBackfill(query map[string][]string, body []byte) (ledger.Request, error) {
	var req ledger.Request
	if err := onlyParams(query); err != nil {
		return req, err
	}
	if err := decode(body, &req); err != nil {
		return req, err
	}
	errs := []error{
		within("N", int64(req.N), fanout.MaxUnits), within("N_per_func", int64(req.PerFunc), fanout.MaxTasks),
		within("max_waves", int64(req.MaxWaves), maxWavesAsked), within("max_messages", req.MaxMessages, maxMessagesAsked),
		checkPartitions(req.Partitions), checkSessions(req.Sessions, maxSessionsKept, maxSessionsKeptBytes), checkBatch(req.Batch),
		checkBound("from", req.From, "checkpoint", "earliest"), checkBound("until", req.Until, "now", "follow"),
	}
	return req, oneLine(errors.Join(errs...))
}

// within checks a number that may be left out, as 0.
func within(name string, n, most int64) error {
	if n < 0 || n > most {
		return fmt.Errorf("%s is %d: want a whole number from 1 to %d", name, n, most)
	}
	return nil
}

// checkBound checks one end of a range.
func checkBound(name string, b ledger.Bound, positions ...string) error {
	given := 0
	for _, is := range []bool{b.Position != "", !b.Time.IsZero(), b.SequenceNumber != nil} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return fmt.Errorf("%s has %d of position, time and sequence_number: want one of them", name, given)
	case b.Position != "" && !slices.Contains(positions, b.Position):
		return fmt.Errorf("%s.position is %s: want %q or %q", name, quote(b.Position), positions[0], positions[1])
	case b.Time.Year() > 9999:
		return fmt.Errorf(`%s.time is out of range: want one such as "2026-11-24T04:05:09Z"`, name)
	case b.SequenceNumber != nil && *b.SequenceNumber < 0:
		return fmt.Errorf("%s.sequence_number is %s: want 0 or more", name, strconv.FormatInt(*b.SequenceNumber, 10))
	}
	return nil
}
