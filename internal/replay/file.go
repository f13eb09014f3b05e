package replay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// maxState is the largest progress that is read, in bytes. It has some 100 bytes for each blob that is under way.
const maxState = 64 << 20

// File keeps a replay's progress in a file. One process at a time has it; it is free when that process ends, however
// it does.
type File struct {
	path string
	lock *flock.Flock
	step func(done string) // set by tests alone, called after each step of Save
}

// OpenFile takes a file for a replay's progress, which need not be there.
func OpenFile(path string) (*File, error) {
	lock := flock.New(path + ".lock")
	free, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("open progress file %s: %w", path, err)
	}
	if !free {
		return nil, fmt.Errorf("open progress file %s: another replay has it; let that one end, or give this one a file of its own with --progress", path)
	}
	return &File{path: path, lock: lock, step: func(string) {}}, nil
}

// String is the file's path.
func (f *File) String() string { return f.path }

// Close gives the file back. The empty file beside it, which is locked, stays: were it removed, two could have a lock.
func (f *File) Close() error { return f.lock.Unlock() }

// Load returns what was saved last, nil when nothing was.
func (f *File) Load() ([]byte, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read progress: %w", err)
	}
	defer file.Close()
	state, err := io.ReadAll(io.LimitReader(file, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("read progress: %w", err)
	}
	if len(state) > maxState {
		return nil, fmt.Errorf("read progress file %s: it is larger than %d bytes, so it is none", f.path, maxState)
	}
	return state, nil
}

// Save puts state in place of what was saved before, wholly and durably or not at all.
func (f *File) Save(state []byte) error {
	if err := f.save(state); err != nil {
		return fmt.Errorf("save progress: %w", err)
	}
	return nil
}

func (f *File) save(state []byte) error {
	next, err := os.Create(f.path + ".next")
	if err != nil {
		return err
	}
	_, err = next.Write(state)
	f.step("written")
	if err == nil {
		err = next.Sync()
	}
	f.step("synced")
	if closeErr := next.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(next.Name(), f.path); err != nil {
		return err
	}
	f.step("renamed")
	return syncDir(filepath.Dir(f.path))
}

// syncDir makes a rename durable. Some file systems can't, and need not.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
