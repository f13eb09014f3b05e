package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"persistor/internal/api"
	"persistor/internal/backfill"
	"persistor/internal/fanout"
	"persistor/internal/host"
)

// invokerFunctions are the invoker's functions by their folder's names: those of HTTP, where the host doesn't forward
// it; schedule, a timer; queue, a storage queue's messages; and backfill, those of the queue by which waves are asked
// for. maxBudget is the most that a message may ask for; waves has no engine where no runs are kept.
func invokerFunctions(runs api.Runner, waves toldWaves, h http.Handler, maxBudget time.Duration, log *slog.Logger) map[string]host.Function {
	t := &triggers{runs, waves, maxBudget, log}
	return map[string]host.Function{
		"invoke": host.HTTP(h, "/api/invoke"), "schedule": t.schedule, "queue": t.queue, "backfill": t.backfill,
		"backfill_start": host.HTTP(h, "/api/backfill"), "runs": host.HTTP(h, "/api/runs", "id", "action"), "state": host.HTTP(h, "/api/status"),
	}
}

// triggers start runs for the Functions host. Their reports go to the log, and in a word to the host's: it
// has no use for a return value, and drops all that is said of a failure.
type triggers struct {
	runs      api.Runner
	waves     toldWaves
	maxBudget time.Duration
	log       *slog.Logger
}

// schedule has a run for each tick of a timer, but for those that come while another run is under way. A run
// that failed fails the function, which shows in the app's monitoring; the next tick makes good for it.
func (t *triggers) schedule(ctx context.Context, i *host.Invocation) (host.Response, error) {
	var timer struct{ IsPastDue bool }
	if _, payload, err := i.Payload(); err == nil {
		if state, err := payload.JSON(); err == nil {
			_ = json.Unmarshal(state, &timer) // what can't be read is no reason not to run
		}
	}
	if timer.IsPastDue {
		t.log.InfoContext(ctx, "the timer is past due: the app did not run when it was its time; the run begins now", "invocation", i.ID)
	}
	report, err := t.runs.Run(ctx, fanout.Request{})
	if busy := (*fanout.UnderWayError)(nil); errors.As(err, &busy) {
		return host.Response{Logs: []string{"skipped: " + busy.Error()}}, nil
	}
	return respond(report, err)
}

// queue has a run for each message. It waits for a run that is under way; what fails has the message come
// again, until the host moves it to the poison queue.
func (t *triggers) queue(ctx context.Context, i *host.Invocation) (host.Response, error) {
	_, payload, err := i.Payload()
	var message json.RawMessage
	if err == nil {
		message, err = payload.JSON()
	}
	var req fanout.Request
	if err == nil {
		req, err = api.ParseMessage(message, t.maxBudget)
	}
	if err != nil {
		return host.Response{}, fmt.Errorf("read message: %w; it can't ever work, and ends in the poison queue", err)
	}
	req.Wait = true
	return respond(t.runs.Run(ctx, req))
}

// backfill carries out a wave for each message. One that fails comes again.
func (t *triggers) backfill(ctx context.Context, i *host.Invocation) (host.Response, error) {
	_, payload, err := i.Payload()
	var text json.RawMessage
	if err == nil {
		text, err = payload.JSON()
	}
	var m backfill.Message
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil && (m.Run == "" || m.Wave < 1) {
		err = errors.New(`want {"run": "...", "wave": 1}`)
	}
	switch {
	case err != nil:
		return host.Response{}, fmt.Errorf("read message: %w; it can't ever work, and ends in the poison queue", err)
	case t.waves.Engine == nil:
		return host.Response{}, errNoStorage
	}
	if err := t.waves.Wave(ctx, m); err != nil {
		return host.Response{}, err
	}
	return host.Response{Logs: []string{fmt.Sprintf("wave %d of run %s is done with", m.Wave, m.Run)}}, nil
}

// respond says what became of a run.
func respond(report fanout.Report, err error) (host.Response, error) {
	if err != nil {
		return host.Response{}, err
	}
	if report.Status != fanout.OK {
		return host.Response{}, fmt.Errorf("run %s failed: %s", report.Run, report.Why())
	}
	return host.Response{Logs: []string{fmt.Sprintf("run %s stored %d messages, of %d bytes, in %d blobs; %d units; remaining backlog %d",
		report.Run, report.Messages, report.Bytes, report.Blobs, len(report.Units), report.RemainingBacklog)}}, nil
}
