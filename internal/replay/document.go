package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"persistor/internal/document"
)

// Folder is where progress is that is kept beside what is stored.
const Folder = "_replays/"

// saveTime bounds how long one save may take.
const saveTime = time.Minute

// Document keeps a replay's progress in a container, so that it can go on elsewhere. Of two processes that have it the
// one that saved last goes on, and the other one's next save fails.
type Document struct {
	storage document.Storage
	name    string
	version string
}

// NewDocument keeps the progress of a task in a container.
func NewDocument(s document.Storage, task Task) *Document {
	return &Document{storage: s, name: Folder + task.Digest() + ".json"}
}

// String is the blob's name.
func (d *Document) String() string { return "blob " + d.name }

// Close does nothing: a document is nobody's.
func (d *Document) Close() error { return nil }

// Load implements [Keeper].
func (d *Document) Load() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), saveTime)
	defer cancel()
	body, version, err := d.storage.Read(ctx, d.name)
	if errors.Is(err, document.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read progress: %w", err)
	}
	d.version = version
	return body, nil
}

// Save implements [Keeper].
func (d *Document) Save(state []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), saveTime)
	defer cancel()
	version, err := d.storage.Write(ctx, d.name, state, d.version)
	if errors.Is(err, document.ErrChanged) {
		return fmt.Errorf("save progress: another replay has gone on with blob %s: let that one end", d.name)
	}
	if err != nil {
		return fmt.Errorf("save progress: %w", err)
	}
	d.version = version
	return nil
}
