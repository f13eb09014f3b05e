package app

import (
	"context"
	"fmt"
	"io"
	"os"

	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/telemetry"
)

// OpenInvoker makes an invoker out of its settings. Log lines go to logs. The error is a *config.Error
// when the settings are wrong.
func OpenInvoker(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	c, err := config.ReadInvoker(lookup)
	if err != nil {
		return nil, err
	}
	planner, release, err := openPlanner(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start invoker: %w", err)
	}
	log := newLog(logs, c.Server.LogLevel, "invoker")
	told := telemetry.New(c.Telemetry, log)
	o := fanout.Options{Tracer: told.Tracer(), Key: c.Server.Key.Reveal(), Delay: c.Delay, Budget: c.Budget(), Limit: c.Concurrency}
	for _, target := range c.Targets {
		o.Workers = append(o.Workers, target.URL())
	}
	dispatcher, err := fanout.NewDispatcher(o)
	if err != nil {
		return nil, fmt.Errorf("start invoker: %w", err)
	}
	for _, w := range append(c.Warnings, config.Misspellings(os.Environ())...) {
		log.Warn(w)
	}
	runs := &runner{dispatcher: dispatcher, planner: planner, units: c.Units, lock: newRunLock(c), log: log}
	watched := toldRunner{runs, told, dispatcher.Budget}
	surface := api.NewInvoker(api.InvokerOptions{Key: c.Server.Key.Reveal(), MaxBudget: c.Timeout, Log: log}, watched)
	surface = withMetrics(surface, told, c.Telemetry, c.Server.Key, log)
	return &Program{
		Handler: serve(c.Server, surface, invokerFunctions(watched, surface, c.Timeout, log), log),
		Log:     log,
		address: c.Server.Address,
		hosted:  c.Server.Hosted,
		drain:   c.Budget(),
		close:   closing(told, release),
	}, nil
}
