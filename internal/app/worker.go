package app

import (
	"context"
	"fmt"
	"io"
	"os"

	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/pull"
	"persistor/internal/record"
	"persistor/internal/store"
)

// OpenWorker makes a worker out of its settings. It opens the storage, so a container that is missing or a key that
// is wrong shows at the start, and not at the first unit. Log lines go to logs. The error is a
// *config.Error when the settings are wrong.
func OpenWorker(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	c, err := config.ReadWorker(lookup)
	if err != nil {
		return nil, err
	}
	drainer, err := NewDrainer(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	TuneMemory(c.MemoryLimit)
	log := newLog(logs, c.Server.LogLevel, "worker")
	for _, w := range append(c.Warnings, config.Misspellings(os.Environ())...) {
		log.Warn(w)
	}
	drainer.Log = log
	return &Program{
		Handler: api.NewWorker(api.WorkerOptions{Key: c.Server.Key.Reveal(), Concurrency: c.Concurrency, Log: log}, drainer),
		Log:     log,
		address: c.Server.Address,
		drain:   c.Budget(),
		close:   drainer.Close,
	}, nil
}

// NewDrainer opens what a worker's settings name.
func NewDrainer(ctx context.Context, c config.Worker) (*Drainer, error) {
	blobs, err := openStore(ctx, c.Storage.Connection, c.Storage.Container, c.Storage.CreateContainer)
	if err != nil {
		return nil, err
	}
	memory := ShareMemory(c.MemoryLimit, c.Concurrency)
	hub, err := openHub(ctx, c.Hub, c.Checkpoint, c.Pull.Prefetch, memory.Prefetch)
	if err != nil {
		return nil, err
	}
	d := &Drainer{
		Hub:             hub,
		Store:           blobs,
		Folder:          c.Storage.Folder,
		Format:          record.Format{Metadata: c.Record.Metadata, Separator: c.Record.Separator},
		Limits:          pull.Limits{Count: c.Batch.Count, Bytes: c.Batch.Bytes, Age: c.Batch.Age},
		BatchMemory:     memory.Batches,
		Chunk:           c.Pull.ReceiveBatch,
		Idle:            c.Pull.IdleTimeout,
		ReceiveFor:      c.Pull.ReceiveDuration,
		CheckpointEvery: int64(c.Checkpoint.Every),
		From:            &c.Pull.Start,
		Timeout:         c.Budget(),
	}
	if d.Chunk == 0 {
		d.Chunk = chunk
	}
	return d, nil
}

// chunk is how many events one receive call asks for, unless a setting says otherwise: enough that the
// call costs nothing beside the events (measured: more gain nothing).
const chunk = 1000

// Close gives back what the drainer holds.
func (d *Drainer) Close(ctx context.Context) error {
	err := d.Hub.Close(ctx)
	if dir, ok := d.Store.(*store.Dir); ok {
		_ = dir.Close()
	}
	return err
}
