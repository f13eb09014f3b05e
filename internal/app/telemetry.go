package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"persistor/internal/api"
	"persistor/internal/backfill"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/host"
	"persistor/internal/store"
	"persistor/internal/telemetry"
	"persistor/internal/work"
)

// toldDrainer is a drainer whose units are told of.
type toldDrainer struct {
	api.Drainer
	telemetry *telemetry.Telemetry
	kind      telemetry.Source
	budget    time.Duration // of a unit that has none of its own
}

// Drain implements [api.Drainer]. A part of the unit's budget is kept for telemetry, where that is on.
func (d toldDrainer) Drain(ctx context.Context, unit work.Unit) work.Report {
	budget := unitBudget(unit, d.budget)
	reserve := d.telemetry.Reserve(budget)
	deadline := time.Now().Add(budget - reserve/2)
	ctx, end := d.telemetry.Unit(ctx, unit, d.kind)
	if reserve > 0 {
		unit.BudgetSeconds = (budget - reserve).Seconds()
	}
	report := d.Drainer.Drain(told(ctx, d.telemetry), unit)
	end(report, time.Until(deadline))
	return report
}

// told has the retries of requests to storage counted.
func told(ctx context.Context, t *telemetry.Telemetry) context.Context {
	if t == nil {
		return ctx
	}
	return store.OnRetry(ctx, func(status int) { t.Retried(ctx, status) })
}

// kindOf is the kind of source of a worker's units.
func kindOf(c config.Worker) telemetry.Source {
	switch {
	case c.Service == config.EventHub:
		return telemetry.Partition
	case c.Queue.Sessions && !c.Queue.DeadLetter:
		return telemetry.Session
	}
	return telemetry.Queue
}

// toldRunner is a runner whose runs are told of.
type toldRunner struct {
	api.Runner
	telemetry *telemetry.Telemetry
	budget    func(fanout.Request) time.Duration
}

// Run implements [api.Runner]. A part of the run's budget is kept for telemetry, where that is on.
func (r toldRunner) Run(ctx context.Context, req fanout.Request) (fanout.Report, error) {
	budget := r.budget(req)
	reserve := r.telemetry.Reserve(budget)
	deadline := time.Now().Add(budget - reserve/2)
	ctx, end := r.telemetry.Run(ctx)
	if reserve > 0 {
		req.Budget = budget - reserve
	}
	report, err := r.Runner.Run(ctx, req)
	about := report
	switch busy := (*fanout.UnderWayError)(nil); {
	case errors.As(err, &busy):
		about.Status = fanout.NotBegun
	case err != nil:
		about.Status, about.Error = fanout.Failed, err.Error()
	default:
		telemetry.About(ctx, report.Run, -1)
	}
	end(about, time.Until(deadline))
	return report, err
}

// toldWaves is an engine whose waves are told of; the engine is nil where no runs are kept.
type toldWaves struct {
	*backfill.Engine
	telemetry *telemetry.Telemetry
	timeout   time.Duration // of a wave's invocation, which the wave leaves a part of
}

// Wave carries out a wave.
func (w toldWaves) Wave(ctx context.Context, m backfill.Message) error {
	ctx, end := w.telemetry.Wave(ctx, m.Run)
	status, err := w.Engine.Wave(ctx, m)
	end(string(status), err, w.telemetry.Reserve(w.timeout))
	return err
}

// toldFunction is a function of the push program whose invocations are told of. Their log lines have the invocation as run,
// as the blobs' metadata have.
func toldFunction(f host.Function, t *telemetry.Telemetry, budget time.Duration) host.Function {
	return func(ctx context.Context, i *host.Invocation) (host.Response, error) {
		deadline := time.Now().Add(budget)
		ctx, end := t.Invocation(ctx, i.ID)
		response, err := f(told(ctx, t), i)
		end(err, time.Until(deadline))
		return response, err
	}
}

// withMetrics serves the metrics beside a surface, where the settings have it.
func withMetrics(surface http.Handler, t *telemetry.Telemetry, c config.Telemetry, key config.Secret, log *slog.Logger) http.Handler {
	metrics := t.Metrics()
	if metrics == nil {
		return surface
	}
	if c.Scrape == config.ScrapeOpen {
		key = ""
	}
	return api.WithMetrics(surface, metrics, key.Reveal(), log)
}

// closing closes what is left of telemetry before a program's parts, for they may wait for peers that are gone.
func closing(t *telemetry.Telemetry, parts func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error { return errors.Join(t.Close(ctx), parts(ctx)) }
}
