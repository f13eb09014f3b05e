package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"persistor/internal/api"
	"persistor/internal/backfill"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/telemetry"
)

// OpenInvoker makes an invoker out of its settings. Log lines go to logs. The error is a *config.Error
// when the settings are wrong.
func OpenInvoker(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	return openInvoker(ctx, lookup, logs, func(*invokerParts) {})
}

// invokerParts are what an invoker is made of. Those of the runs are nil where no storage is known to keep runs in.
type invokerParts struct {
	source
	documents ledger.Storage
	lock      backfill.Lock
	chain     backfill.Chain  // nil where there is nobody to ask
	local     *backfill.Local // the chain, where it is this process
	fresh     bool            // takes up no runs that a process before has left
	timing    backfill.Timing
}

// openInvoker makes an invoker of parts that adapt has had a look at.
func openInvoker(ctx context.Context, lookup config.Lookup, logs io.Writer, adapt func(*invokerParts)) (*Program, error) {
	c, err := config.ReadInvoker(lookup)
	if err != nil {
		return nil, err
	}
	log := newLog(logs, c.Server.LogLevel, "invoker")
	told := telemetry.New(c.Telemetry, log)
	storage := &storageOnDemand{at: c.Storage}
	parts, err := newInvokerParts(ctx, c, storage, log)
	if err != nil {
		return nil, fmt.Errorf("start invoker: %w", err)
	}
	release := parts.close
	adapt(parts)
	dispatcher, err := fanout.NewDispatcher(dispatcherOptions(c, told))
	if err != nil {
		return nil, fmt.Errorf("start invoker: %w", err)
	}
	for _, w := range append(c.Warnings, config.Misspellings(os.Environ())...) {
		log.Warn(w)
	}
	kept := &runs{source: c.Source(), service: c.Service}
	runner := &runner{dispatcher: dispatcher, planner: parts.planner, units: c.Units, lock: parts.lock, log: log}
	if parts.documents != nil {
		kept.Engine = newEngine(c, parts, dispatcher, log)
		kept.noChain = noChain(parts)
		runner.engine = kept.Engine
	}
	surface := api.NewInvoker(api.InvokerOptions{Key: c.Server.Key.Reveal(), MaxBudget: c.Timeout, Log: log}, toldRunner{runner, told, dispatcher.Budget}, &standing{kept, parts.source})
	surface = withMetrics(surface, told, c.Telemetry, c.Server.Key, log)
	waves := toldWaves{kept.Engine, told, c.Timeout}
	return &Program{
		Handler:    serve(c.Server, surface, invokerFunctions(toldRunner{runner, told, dispatcher.Budget}, waves, surface, c.Timeout, log), log),
		Log:        log,
		address:    c.Server.Address,
		hosted:     c.Server.Hosted,
		drain:      c.Budget(),
		background: background(waves, parts, log),
		close: closing(told, func(ctx context.Context) error {
			storage.close()
			return release(ctx)
		}),
	}, nil
}

func dispatcherOptions(c config.Invoker, told *telemetry.Telemetry) fanout.Options {
	o := fanout.Options{Tracer: told.Tracer(), Ended: told.UnitEnded, Key: c.Server.Key.Reveal(), Delay: c.Delay, Budget: c.Budget(), Limit: c.Concurrency}
	for _, target := range c.Targets {
		o.Workers = append(o.Workers, target.URL())
	}
	return o
}

// newInvokerParts opens what the settings name.
func newInvokerParts(ctx context.Context, c config.Invoker, storage *storageOnDemand, log *slog.Logger) (*invokerParts, error) {
	source, err := openSource(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &invokerParts{source: source}
	if c.Storage == (config.Storage{}) {
		return p, nil
	}
	p.documents, p.lock = documents{storage}, newRunLock(storage, c.Source(), log)
	switch {
	case !c.Server.Hosted || isDirectory(c.Storage):
		p.local = backfill.NewLocal(log)
		p.chain = p.local
	case c.Runs.Queue != "":
		p.chain, err = newQueueChain(c.Storage.Connection, c.Runs)
	}
	return p, err
}

// isDirectory reports whether storage is one of this machine, which has no queues.
func isDirectory(s config.Storage) bool {
	const scheme = "file:"
	location := s.Connection.Location()
	return len(location) > len(scheme) && location[:len(scheme)] == scheme
}

func newEngine(c config.Invoker, p *invokerParts, dispatcher *fanout.Dispatcher, log *slog.Logger) *backfill.Engine {
	return backfill.New(backfill.Options{
		Source: c.Source(), Ledger: ledger.New(p.documents, c.Source(), ledger.Retention{Age: c.Runs.Age, Count: c.Runs.Count}),
		Chain: p.chain, Lock: p.lock, Dispatcher: dispatcher, Hub: p.hub, Planner: p.planner, Units: c.Units, Tracked: c.Runs.Shared, Timing: p.timing, Log: log,
	})
}

// noChain says why no wave can be asked for.
func noChain(p *invokerParts) error {
	if p.chain != nil {
		return nil
	}
	return fmt.Errorf("%w that take several waves: set PERSISTOR_BACKFILL_QUEUE, and give the function app the function backfill (persistor generate does both)", api.ErrNoRuns)
}

// background carries out the waves that this process is asked for by itself; nil where there are none.
func background(e toldWaves, p *invokerParts, log *slog.Logger) func(context.Context) {
	chain := p.local
	if e.Engine == nil || chain == nil {
		return nil
	}
	if p.fresh {
		return func(ctx context.Context) { chain.Run(ctx, e.Wave) }
	}
	return func(ctx context.Context) {
		recovered := make(chan struct{})
		go func() {
			defer close(recovered)
			recoverRuns(ctx, e.Engine, log)
		}()
		chain.Run(ctx, e.Wave)
		<-recovered
	}
}

// recoverRuns takes up the runs that the process before has left, once the ledger can be read. A container that isn't
// there has none.
func recoverRuns(ctx context.Context, e *backfill.Engine, log *slog.Logger) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := e.Recover(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		log.WarnContext(ctx, "could not look for runs to take up; it is tried again", "pause", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
