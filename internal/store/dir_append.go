package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// turns is how many blobs can grow at once; those whose names share one of these wait for each other.
const turns = 64

// Append implements [Store].
func (d *Dir) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	err := checkAppend(name, at, body, metadata)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("append to blob: %w", err)
	}
	existing, err := d.appendAt(ctx, name, at, body, metadata)
	if err != nil {
		return existing, fmt.Errorf("append %d bytes at %d to blob %q: %w", len(body), at, name, err)
	}
	return nil, nil
}

func (d *Dir) appendAt(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	end, err := d.turn(ctx, name)
	if err != nil {
		return nil, err
	}
	defer end()
	c, size, err := d.find(name)
	switch {
	case errors.Is(err, ErrNotFound) && at == 0:
		existing, err := d.create(ctx, commit{Name: name, Metadata: metadata, Blocks: 1, Size: int64(len(body))}, body)
		if errors.Is(err, ErrExists) { // a Create, which takes no lock
			return existing, ErrExists
		}
		return nil, err
	case err != nil:
		return nil, err
	case !c.grows() || size != at || len(body) > 0 && c.Blocks >= d.maxBlocks:
		// What is told of has to be durable; its writer may not have come to sync it.
		err = d.sync(path.Dir(c.path()))
	}
	switch {
	case err != nil:
		return nil, err
	case !c.grows():
		return c.Metadata, ErrExists
	case size != at:
		return c.Metadata, ErrPosition
	case len(body) == 0:
		return nil, d.setMetadata(c, metadata)
	case c.Blocks >= d.maxBlocks:
		return c.Metadata, ErrFull
	}
	if err := checkChange(c.Metadata, metadata); err != nil {
		return nil, err
	}
	return nil, d.extend(c, body, metadata)
}

// extend writes body behind what is committed, then commits it.
func (d *Dir) extend(c commit, body []byte, metadata map[string]string) error {
	if err := d.writeAt(c.Name, c.Size, body); err != nil {
		return err
	}
	c.Blocks++
	c.Size += int64(len(body))
	c.Metadata = maps.Clone(metadata)
	if err := d.recommit(c); err != nil {
		return err
	}
	err := d.sync(path.Dir(c.path()))
	d.step("metadata synced")
	return err
}

// writeAt writes body at the end that a file is to have, and syncs it.
func (d *Dir) writeAt(file string, at int64, body []byte) error {
	f, err := d.root.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(body, at)
	d.step("block written")
	if err == nil {
		err = f.Truncate(at + int64(len(body))) // a dead writer may have left more
	}
	if err == nil {
		err = f.Sync()
		d.step("block synced")
	}
	return cmp.Or(err, f.Close())
}

// turn waits until this is the only one to change a blob that grows. A process that dies gives its turn back.
func (d *Dir) turn(ctx context.Context, name string) (end func(), err error) {
	hash := fnv.New32a()
	hash.Write([]byte(name))
	file := flock.New(filepath.Join(d.root.Name(), filepath.FromSlash(turnsDir), fmt.Sprintf("%02d", hash.Sum32()%turns)), flock.SetPermissions(0o666))
	if _, err := file.TryLockContext(ctx, time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another writer: %w", err)
	}
	return func() { _ = file.Unlock() }, nil
}

// committed reads what of a file is content.
type committed struct {
	io.Reader
	io.Closer
}
