package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Where a directory keeps its locks, and who has them. The two are files apart, since Windows lets nobody
// read what another process has locked. A lock's file stays: whoever removes one that is locked, or about
// to be, lets two in.
const (
	locksDir   = ".persistor/locks"
	holdersDir = ".persistor/holders"
)

// Lock implements [Locker], by an advisory lock on a file, which the operating system gives back when the
// process ends, however it ends.
func (d *Dir) Lock(ctx context.Context, name string, holder Holder) (*Lease, error) {
	err := cmp.Or(ctx.Err(), CheckName(name))
	var l *Lease
	if err == nil {
		l, err = d.lock(name, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	return l, nil
}

func (d *Dir) lock(name string, holder Holder) (*Lease, error) {
	words := path.Join(holdersDir, name)
	for _, file := range []string{path.Join(locksDir, name), words} {
		if err := d.makeDir(path.Dir(file)); err != nil {
			return nil, err
		}
	}
	file := flock.New(filepath.Join(d.root.Name(), filepath.FromSlash(locksDir), filepath.FromSlash(name)), flock.SetPermissions(0o666))
	taken, err := file.TryLock()
	if err != nil {
		return nil, err
	}
	if !taken {
		asJSON, err := d.root.ReadFile(words)
		if err != nil || len(asJSON) > maxHolder {
			asJSON = nil
		}
		return nil, &LockedError{Holder: parseHolder(asJSON)}
	}
	if err := d.writeHolder(words, holder); err != nil {
		_ = file.Unlock()
		return nil, err
	}
	return newLease(func(context.Context) error {
		_ = d.root.Remove(words) // what stays is replaced by the next holder
		if err := file.Unlock(); err != nil {
			return fmt.Errorf("unlock %q: %w", name, err)
		}
		return nil
	}), nil
}

// writeHolder replaces the words as a whole, since others read them without a lock.
func (d *Dir) writeHolder(words string, holder Holder) error {
	asJSON, err := holder.encode()
	if err != nil {
		return err
	}
	staged := path.Join(stagingDir, rand.Text()+".holder")
	err = d.root.WriteFile(staged, asJSON, 0o666)
	if err == nil {
		err = d.root.Rename(staged, words)
	}
	if err != nil {
		_ = d.root.Remove(staged) // what can't be removed waits for the sweep
	}
	return err
}
