package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/host"
	"persistor/internal/ledger"
	"persistor/internal/pull"
	"persistor/internal/pull/servicebus"
	"persistor/internal/record"
	"persistor/internal/telemetry"
)

// OpenWorker makes a worker out of its settings. It opens the storage, so a container that is missing or a key that
// is wrong shows at the start, and not at the first unit. Log lines go to logs. The error is a
// *config.Error when the settings are wrong.
func OpenWorker(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	c, err := config.ReadWorker(lookup)
	if err != nil {
		return nil, err
	}
	log := newLog(logs, c.Server.LogLevel, "worker")
	told := telemetry.New(c.Telemetry, log)
	drainer, err := newDrainer(ctx, c, log, told)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	TuneMemory(c.MemoryLimit)
	for _, w := range append(c.Warnings, config.Misspellings(os.Environ())...) {
		log.Warn(w)
	}
	surface := api.NewWorker(api.WorkerOptions{
		Key: c.Server.Key.Reveal(), Concurrency: c.Concurrency, Log: log,
		ServiceBus: c.Service == config.ServiceBus, Sessions: c.Queue.Sessions && !c.Queue.DeadLetter,
	}, toldDrainer{drainer, told, kindOf(c), c.Budget()})
	surface = withMetrics(surface, told, c.Telemetry, c.Server.Key, log)
	functions := map[string]host.Function{"pull": host.HTTP(surface, "/api/pull"), "status": host.HTTP(surface, "/api/status")}
	return &Program{
		Handler: serve(c.Server, surface, functions, log),
		Log:     log,
		address: c.Server.Address,
		hosted:  c.Server.Hosted,
		drain:   c.Budget(),
		close:   closing(told, drainer.Close),
	}, nil
}

// drainer is what a worker works with.
type drainer interface {
	api.Drainer
	Close(ctx context.Context) error
}

// newDrainer opens what the settings name of the service that they choose.
func newDrainer(ctx context.Context, c config.Worker, log *slog.Logger, told *telemetry.Telemetry) (drainer, error) {
	if c.Service == config.ServiceBus {
		d, err := NewQueueDrainer(ctx, c, log)
		if err != nil {
			return nil, err
		}
		d.Telemetry = told
		return d, nil
	}
	d, err := NewHubDrainer(ctx, c, log)
	if err != nil {
		return nil, err
	}
	d.Telemetry = told
	return d, nil
}

// NewHubDrainer opens what a worker's settings name of Event Hubs.
func NewHubDrainer(ctx context.Context, c config.Worker, log *slog.Logger) (*HubDrainer, error) {
	d := &HubDrainer{
		HubText:         record.HubText(c.Hub.Connection.Namespace(), c.Hub.Name),
		CheckpointEvery: int64(c.Checkpoint.Every), From: &c.Pull.Start,
	}
	if err := d.open(ctx, c, log); err != nil {
		return nil, err
	}
	if d.Chunk = c.Pull.ReceiveBatch; d.Chunk == 0 {
		d.Chunk = chunk
	}
	var err error
	d.Hub, err = openHub(ctx, c.Hub, c.Checkpoint, c.Pull.Prefetch, ShareMemory(c.MemoryLimit, c.Concurrency).Prefetch)
	return d, err
}

// NewQueueDrainer opens what a worker's settings name of Service Bus.
func NewQueueDrainer(ctx context.Context, c config.Worker, log *slog.Logger) (*QueueDrainer, error) {
	d := &QueueDrainer{Queue: c.Queue}
	if err := d.open(ctx, c, log); err != nil {
		return nil, err
	}
	d.Chunk = chunk
	var err error
	d.Entity, err = connectEntity(c.Queue, c.Pull.Prefetch, ShareMemory(c.MemoryLimit, c.Concurrency).Prefetch)
	return d, err
}

// open sets up what both services' drains have in common.
func (d *Draining) open(ctx context.Context, c config.Worker, log *slog.Logger) (err error) {
	if d.Store, err = openStore(ctx, c.Storage.Connection, c.Storage.Container, c.Storage.CreateContainer); err != nil {
		return err
	}
	if documents, ok := d.Store.(ledger.Storage); ok {
		d.Runs = ledger.New(documents, c.Source(), ledger.Retention{})
	}
	d.Folder = c.Storage.Folder
	d.Format = record.Format{Metadata: c.Record.Metadata, Separator: c.Record.Separator}
	d.Limits = pull.Limits{Count: c.Batch.Count, Bytes: c.Batch.Bytes, Age: c.Batch.Age}
	d.Append, d.AppendBytes = appending(c.Append), int64(c.Append.Bytes)
	d.BatchMemory = ShareMemory(c.MemoryLimit, c.Concurrency).Batches
	d.Idle, d.ReceiveFor = c.Pull.IdleTimeout, c.Pull.ReceiveDuration
	d.Timeout = c.Budget()
	d.Log = log
	return nil
}

// appending says which batches become one blob.
func appending(a config.Append) pull.Append {
	switch {
	case a.ByMinute:
		return pull.ByMinute
	case a.Append:
		return pull.Joined
	}
	return pull.Apart
}

// chunk is how many messages one receive call asks for, unless a setting says otherwise: enough that the
// call costs nothing beside the messages (measured: more gain nothing).
const chunk = 1000

// connectEntity makes the Service Bus entity that the settings name.
func connectEntity(q config.Queue, receive, receiveBytes int) (*servicebus.Entity, error) {
	token, err := q.Connection.TokenCredential()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", q, err)
	}
	return servicebus.Connect(servicebus.Options{
		ConnectionString: q.Connection.ConnectionString.Reveal(),
		Namespace:        q.Connection.FullyQualifiedNamespace,
		Credential:       token,
		CustomEndpoint:   q.CustomEndpoint,
		Queue:            q.Name,
		Topic:            q.Topic,
		Subscription:     q.Subscription,
		DeadLetter:       q.DeadLetter,
		Receive:          receive,
		ReceiveBytes:     receiveBytes,
	})
}
