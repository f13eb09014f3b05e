package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"persistor/internal/config"
	"persistor/internal/host"
	"persistor/internal/pull"
	"persistor/internal/push"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/telemetry"
)

// pushFunction is the function that the push program serves.
const pushFunction = "persist"

// OpenPush makes a push program out of its settings: it stores the messages that the Functions host brings. It opens the
// storage, so a container that is missing or a key that is wrong shows at the start. Log lines go to logs. The
// error is a *config.Error when the settings are wrong.
func OpenPush(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	c, err := config.ReadPush(lookup)
	if err != nil {
		return nil, err
	}
	log := newLog(logs, c.Server.LogLevel, "push")
	told := telemetry.New(c.Telemetry, log)
	o, err := pushOptions(ctx, c, log)
	if err != nil {
		return nil, fmt.Errorf("start push: %w", err)
	}
	for _, w := range append(c.Warnings, config.Misspellings(os.Environ())...) {
		log.Warn(w)
	}
	return newPush(c, o, log, told), nil
}

// newPush makes the program that stores by such options.
func newPush(c config.Push, o push.Options, log *slog.Logger, told *telemetry.Telemetry) *Program {
	o.Observe = func(ctx context.Context) func(pull.Step) {
		return told.Observe(ctx, telemetry.Loop{Source: pushedKind(c), Target: -1})
	}
	return &Program{
		Handler: host.Handler(map[string]host.Function{pushFunction: toldFunction(persist(c, o), told, c.Timeout)}, nil, log),
		Log:     log,
		address: c.Server.Address,
		hosted:  c.Server.Hosted,
		drain:   c.Timeout,
		close: closing(told, func(context.Context) error {
			closeSinks(o)
			return nil
		}),
	}
}

// persist is the function for the service whose trigger brings the messages.
func persist(c config.Push, o push.Options) host.Function {
	switch c.Service {
	case config.BindingEventHub:
		return push.NewHub(c.Hub.Name, o).Persist
	case config.BindingServiceBus:
		return push.NewQueue(c.Queue.Path(), c.Queue.DeadLetter, o).Persist
	}
	return push.NewGrid(o).Persist
}

// pushedKind is the kind of what the trigger brings.
func pushedKind(c config.Push) telemetry.Source {
	switch c.Service {
	case config.BindingEventHub:
		return telemetry.Partition
	case config.BindingServiceBus:
		return telemetry.Queue
	}
	return telemetry.Grid
}

// pushOptions opens the storage that the settings name.
func pushOptions(ctx context.Context, c config.Push, log *slog.Logger) (push.Options, error) {
	o := push.Options{
		Folder: c.Storage.Folder,
		Format: record.Format{Metadata: c.Record.Metadata, Separator: c.Record.Separator},
		Limits: pull.Limits{Count: c.Batch.Count, Bytes: c.Batch.Bytes, Age: c.Batch.Age},
		Append: appending(c.Append), AppendBytes: int64(c.Append.Bytes), MaxAppend: store.MaxAppend,
		Timeout: c.Budget(),
		Output:  c.Output,
		Log:     log,
	}
	regular, err := openStore(ctx, c.Storage.Connection, c.Storage.Container, c.Storage.CreateContainer)
	if err != nil {
		return o, err
	}
	o.Sink = sink{regular}
	if !c.Failed.IsZero() {
		spare, err := openStore(ctx, c.Failed, c.Storage.Container, c.Storage.CreateContainer)
		if err != nil {
			return o, fmt.Errorf("FAILED_STORAGE_CONNECTION_STRING: %w", err)
		}
		o.Spare = sink{spare}
	}
	return o, nil
}

// closeSinks gives back what the options hold.
func closeSinks(o push.Options) {
	for _, s := range []pull.Sink{o.Sink, o.Spare} {
		if s, ok := s.(sink); ok {
			closeStore(s.Store)
		}
	}
}
