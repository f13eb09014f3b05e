package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"persistor/internal/document"
)

// Where a directory keeps what is not content. CheckName lets no blob in here.
const (
	commitsDir = ".persistor/metadata" // one file per blob, of the blob's name
	stagingDir = ".persistor/staging"  // what is being written
	turnsDir   = ".persistor/turns"    // files that are locked while a blob grows
)

// staleAfter is how old a staged file must be before it counts as left behind by a dead process.
// It bounds how long one Create may take.
const staleAfter = 24 * time.Hour

// Dir keeps blobs in a local directory: the content of a blob is the plain file of its name, to be
// read with any tool. Several processes may use one directory at once, and each may be killed, or the
// machine lose power, at any instant: a blob is there whole or not at all.
//
// The file system needs hard links and an atomic rename. It can't hold a blob named as a folder of
// another one ("a" beside "a/b"); Create refuses the second. Who removes a blob's file by hand is told
// so by an error of whatever asks for the blob next, since a blob that is gone is not one that never was.
//
// How a blob comes to be, a crash being possible between any two steps:
//
//  1. its content is written and synced as staging/ID.data,
//  2. its commit, which holds name, ID and metadata, is written and synced as staging/ID.json,
//  3. the commit is linked to metadata/NAME: from here on the blob is there. A link never replaces
//     anything, so one writer wins and the others learn of it;
//  4. staging/ID.data is renamed to NAME,
//  5. staging/ID.json is removed.
//
// Whoever meets a commit without its content takes steps 4 and 5 in the writer's stead. What a dead
// writer left of steps 1 and 2 is removed when the directory is opened a day later.
//
// Metadata change by a new commit that is written and synced as staging/ID.metadata and then renamed to
// metadata/NAME, over the old one. It names the same content.
//
// A blob that grows has in its commit how much of its file is content. Append writes behind that, syncs the
// file, and then has a new commit take the old one's place, with the new length and the new metadata. What a
// dead writer left behind the content is seen by no method, and overwritten by the next Append; a tool that
// reads the plain file may see it. One writer at a time holds a lock on a file in locks, which its process
// loses when it dies.
//
// A document's file is replaced by a new one, which was written and synced as staging/ID.document, and its commit stays.
// Who writes or removes one has the lock of its name meanwhile. It is removed by its commit; a file that a dead
// process left without one is seen by no method.
type Dir struct {
	root *os.Root
	// synced holds the folders whose own entry is known to be on disk.
	synced sync.Map
	// page is how many names of one folder a list holds in memory.
	page      int
	maxBlocks int // MaxBlocks, but for tests
	// step, set by tests alone, is called after each step of Create, Append and SetMetadata.
	step func(done string)
}

// commit is what makes a blob exist.
type commit struct {
	Name     string            `json:"name"`
	Staging  string            `json:"staging"` // the ID of step 1
	Metadata map[string]string `json:"metadata"`
	// Blocks is how many Appends a blob that grows is made of, and Size their bytes; 0 for any other blob.
	Blocks int   `json:"blocks,omitempty"`
	Size   int64 `json:"size,omitempty"`
}

// grows reports whether the blob was begun by Append.
func (c commit) grows() bool { return c.Blocks > 0 }

// OpenDir opens the directory root. A missing one is created if create is set, else it is
// ErrNoContainer.
func OpenDir(root string, create bool) (*Dir, error) {
	if create {
		if err := os.MkdirAll(root, 0o777); err != nil {
			return nil, fmt.Errorf("create storage directory: %w", err)
		}
	}
	r, err := os.OpenRoot(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open storage directory %s: %w", root, ErrNoContainer)
	}
	if err != nil {
		return nil, fmt.Errorf("open storage directory: %w", err)
	}
	d := &Dir{root: r, page: 1 << 16, maxBlocks: MaxBlocks, step: func(string) {}}
	err = cmp.Or(d.makeDir(commitsDir), d.makeDir(stagingDir), d.makeDir(turnsDir))
	if err == nil {
		err = d.sweep(time.Now().Add(-staleAfter))
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("open storage directory %s: %w", root, err)
	}
	return d, nil
}

// IsContainer reports whether OpenDir has ever opened dir: whether it is a container, or a directory like any other.
func IsContainer(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(commitsDir)))
	return err == nil && info.IsDir()
}

// Close gives the directory's handle back. Nothing else needs it: what was created is on disk.
func (d *Dir) Close() error { return d.root.Close() }

// Path is the directory, for what else wants to keep files in it.
func (d *Dir) Path() string { return d.root.Name() }

// Create implements [Store].
func (d *Dir) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	err := check(name, body, metadata)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	existing, err := d.existing(name)
	if errors.Is(err, ErrNotFound) {
		existing, err = d.create(ctx, commit{Name: name, Metadata: metadata}, body)
	}
	if err != nil {
		return existing, fmt.Errorf("create blob %q: %w", name, err)
	}
	return nil, nil
}

// create takes the five steps.
func (d *Dir) create(ctx context.Context, c commit, body []byte) (map[string]string, error) {
	c.Staging = rand.Text()
	asJSON, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	// The commits' folders come first: a folder there keeps a blob of its name from ever being
	// committed, so that step 4 finds no file where it needs a folder, nor the other way round.
	if err := d.makeDir(path.Dir(c.path())); err != nil {
		return nil, err
	}
	if err := d.makeDir(path.Dir(c.Name)); err != nil {
		return nil, err
	}
	err = d.write(c.stagedData(), body)
	d.step("data staged")
	if err == nil {
		err = d.write(c.stagedCommit(), append(asJSON, '\n'))
		d.step("commit staged")
	}
	if err == nil {
		err = d.sync(stagingDir)
		d.step("staging synced")
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = d.root.Link(c.stagedCommit(), c.path())
		d.step("committed")
	}
	if err != nil {
		// Not linked, so nobody knows of these two. What can't be removed waits for the sweep.
		d.root.Remove(c.stagedCommit())
		d.root.Remove(c.stagedData())
		if errors.Is(err, fs.ErrExist) {
			return d.existing(c.Name)
		}
		return nil, err
	}
	if err := d.sync(path.Dir(c.path())); err != nil {
		return nil, err
	}
	d.step("commit synced")
	return nil, d.finish(c)
}

// existing returns ErrExists and the metadata of the blob that is there, or ErrNotFound.
func (d *Dir) existing(name string) (map[string]string, error) {
	c, _, err := d.find(name)
	if err != nil {
		return nil, err
	}
	// Its writer may have linked it and not yet synced the folder.
	if err := d.sync(path.Dir(c.path())); err != nil {
		return nil, err
	}
	return c.Metadata, ErrExists
}

// SetMetadata implements [Store].
func (d *Dir) SetMetadata(ctx context.Context, name string, metadata map[string]string) error {
	err := CheckMetadata(metadata)
	var c commit
	if err == nil {
		c, _, err = d.findNamed(ctx, name)
	}
	if err == nil && c.grows() {
		// An Append at the same time must not be undone.
		var end func()
		if end, err = d.turn(ctx, name); err == nil {
			defer end()
			c, _, err = d.find(name)
		}
	}
	if err == nil {
		err = d.setMetadata(c, metadata)
	}
	if err != nil {
		return fmt.Errorf("set metadata of blob %q: %w", name, err)
	}
	return nil
}

func (d *Dir) setMetadata(c commit, metadata map[string]string) error {
	if !maps.Equal(c.Metadata, metadata) {
		c.Metadata = metadata
		if err := d.recommit(c); err != nil {
			return err
		}
	}
	// Not by us alone: whoever wrote the same before may not have come to sync it.
	err := d.sync(path.Dir(c.path()))
	d.step("metadata synced")
	return err
}

// recommit puts a commit in the place of that of the same name, which is there.
func (d *Dir) recommit(c commit) error {
	asJSON, err := json.Marshal(c)
	if err != nil {
		return err
	}
	staged := path.Join(stagingDir, rand.Text()+".metadata")
	err = d.write(staged, append(asJSON, '\n'))
	d.step("metadata staged")
	if err == nil {
		err = d.root.Rename(staged, c.path())
		d.step("metadata replaced")
	}
	if err != nil {
		d.root.Remove(staged) // what can't be removed waits for the sweep
	}
	return err
}

// Metadata implements [Store].
func (d *Dir) Metadata(ctx context.Context, name string) (map[string]string, error) {
	c, _, err := d.findNamed(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read metadata of blob %q: %w", name, err)
	}
	return c.Metadata, nil
}

// Open implements [Store].
func (d *Dir) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	c, size, err := d.findNamed(ctx, name)
	var f *os.File
	if err == nil {
		f, err = d.root.Open(name)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %q: %w", name, err)
	}
	if c.grows() {
		return committed{io.LimitReader(f, size), f}, nil
	}
	return f, nil
}

// List implements [Store]. It reads no folder but those that blobs of the prefix can be in.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Blob, error] {
	return func(yield func(Blob, error) bool) {
		folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if folder != "" && CheckName(folder[:len(folder)-1]) != nil {
			folder = "" // no blob's, and not to be followed: it may lead anywhere
		}
		d.walk(ctx, folder, prefix, yield)
	}
}

// walk yields the blobs of a folder ("" or ending in "/") and reports whether to go on.
func (d *Dir) walk(ctx context.Context, folder, prefix string, yield func(Blob, error) bool) bool {
	for after := ""; ; {
		names, err := d.names(folder, prefix, after)
		if err := cmp.Or(ctx.Err(), err); err != nil {
			yield(Blob{}, fmt.Errorf("list blobs: %w", err))
			return false
		}
		for _, name := range names {
			if strings.HasSuffix(name, "/") {
				if !d.walk(ctx, name, prefix, yield) {
					return false
				}
				continue
			}
			c, size, err := d.findNamed(ctx, name)
			if errors.Is(err, ErrNotFound) {
				continue // a document that was removed meanwhile
			}
			if err := ctx.Err(); err != nil {
				yield(Blob{}, fmt.Errorf("list blobs: %w", err))
				return false
			}
			if err != nil {
				err = fmt.Errorf("list blobs: read %q: %w", name, err)
			}
			if !yield(Blob{Name: name, Size: size, Metadata: c.Metadata}, err) {
				return false
			}
		}
		if len(names) < d.page {
			return true
		}
		after = names[len(names)-1]
	}
}

// names returns, in order, the first d.page names behind after of the blobs and folders in folder
// that lead to prefix. A folder's name ends in "/", so that it sorts as the blobs in it do: "a-b"
// comes before "a/b". A large folder is read several times rather than held in memory.
func (d *Dir) names(folder, prefix, after string) ([]string, error) {
	f, err := d.root.Open(path.Join(commitsDir, folder))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil // never made, or removed by hand meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for {
		entries, err := f.ReadDir(1024)
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrNotExist) {
			return nil, nil // a blob, or a folder that was removed meanwhile
		}
		for _, e := range entries {
			name := folder + e.Name()
			if e.IsDir() {
				name += "/"
			}
			leads := strings.HasPrefix(name, prefix) || e.IsDir() && strings.HasPrefix(prefix, name)
			if leads && name > after {
				names = append(names, name)
			}
		}
		if last := err != nil; last || len(names) > 2*d.page {
			slices.Sort(names)
			names = names[:min(len(names), d.page)]
			if last && err != io.EOF {
				return nil, err
			}
			if last {
				return names, nil
			}
		}
	}
}

// findNamed is find for a name that comes from outside.
func (d *Dir) findNamed(ctx context.Context, name string) (commit, int64, error) {
	if err := cmp.Or(ctx.Err(), CheckName(name)); err != nil {
		return commit{}, 0, err
	}
	return d.find(name)
}

// find returns a blob's commit and size, and sees to it that its content is in place. ErrNotFound
// says that there is no commit.
func (d *Dir) find(name string) (c commit, size int64, err error) {
	// A document may be removed in between, and so may its folder, for another one's sake. So what is missing is
	// looked for again before it counts as gone.
	for range 20 {
		if c, err = d.findCommit(name); err == nil {
			size, err = d.findContent(c)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return c, size, err
}

func (d *Dir) findCommit(name string) (commit, error) {
	var c commit
	file := path.Join(commitsDir, name)
	asJSON, err := d.root.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return c, ErrNotFound
	case errors.Is(err, syscall.EISDIR):
		return c, fmt.Errorf("%w, but a folder of this name", ErrNotFound)
	case err != nil:
		return c, err
	}
	if err := json.Unmarshal(asJSON, &c); err != nil || c.Name != name {
		return c, fmt.Errorf("read %s: %w; remove it and the file %s, or restore both", file, document.ErrDamaged, name)
	}
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	return c, nil
}

// findContent returns the size of a blob that is committed, and has its content put in place where it isn't.
func (d *Dir) findContent(c commit) (int64, error) {
	info, err := d.root.Stat(c.Name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.finish(c); err != nil {
			return 0, err
		}
		info, err = d.root.Stat(c.Name)
	}
	if err != nil {
		return 0, err
	}
	if c.grows() && info.Size() < c.Size {
		return 0, fmt.Errorf("its file has %d bytes of %d: it is damaged; restore it, or remove %s too", info.Size(), c.Size, c.path())
	}
	if c.grows() {
		return c.Size, nil
	}
	return info.Size(), nil
}

// finish takes steps 4 and 5 for a commit that is on disk. Any number may do so at once: the staged
// file is renamed by one of them, and the others find it in place.
func (d *Dir) finish(c commit) error {
	if err := d.makeDir(path.Dir(c.Name)); err != nil {
		return err
	}
	if err := d.root.Rename(c.stagedData(), c.Name); errors.Is(err, fs.ErrNotExist) {
		if _, err := d.root.Stat(c.Name); err != nil {
			return fmt.Errorf("its file is gone; restore it, or remove %s too: %w", c.path(), err)
		}
	} else if err != nil {
		return err
	}
	d.step("renamed")
	if err := d.sync(path.Dir(c.Name)); err != nil {
		return err
	}
	d.step("rename synced")
	if err := d.root.Remove(c.stagedCommit()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweep finishes or removes what was staged before the given time.
func (d *Dir) sweep(before time.Time) error {
	f, err := d.root.Open(stagingDir)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && info.ModTime().Before(before) {
				err = d.sweepOne(e.Name())
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process sweeps too
				return fmt.Errorf("sweep %s: %w", stagingDir, err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (d *Dir) sweepOne(file string) error {
	id, isCommit := strings.CutSuffix(file, ".json")
	if !isCommit {
		// The commit is staged after the data and removed after their renaming, so data without a
		// staged commit are not committed. Data with one are swept with it. Metadata are of no use to
		// anyone but a writer that is dead by now, or will be told that they are gone.
		c := commit{Staging: strings.TrimSuffix(file, ".data")}
		if _, err := d.root.Stat(c.stagedCommit()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return d.root.Remove(path.Join(stagingDir, file))
	}
	var c commit
	asJSON, err := d.root.ReadFile(path.Join(stagingDir, file))
	if err != nil {
		return err
	}
	if json.Unmarshal(asJSON, &c) != nil || c.Staging != id || CheckName(c.Name) != nil {
		c = commit{Staging: id} // cut off while it was written: can't have been linked
	}
	// Once its commit is no longer staged, even a writer that sleeps since yesterday can't link it; so
	// whether it is linked is looked at after that, not before.
	if err := d.root.Remove(c.stagedCommit()); err != nil {
		return err
	}
	if c.Name != "" {
		if linked, _, err := d.find(c.Name); err == nil && linked.Staging == id {
			return nil
		}
	}
	return d.root.Remove(c.stagedData())
}

// write creates a file and syncs its content. What fails leaves a file to be removed.
func (d *Dir) write(file string, content []byte) error {
	f, err := d.root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return cmp.Or(err, f.Close())
}

// makeDir creates a folder and its parents, as far as they are missing, and syncs their entries.
func (d *Dir) makeDir(folder string) error {
	if folder == "." {
		return nil
	}
	if _, known := d.synced.Load(folder); known && errors.Is(d.root.Mkdir(folder, 0o777), fs.ErrExist) {
		return nil
	}
	// Whoever made it, and its parents, may not have come to sync them.
	if err := d.makeDir(path.Dir(folder)); err != nil {
		return err
	}
	if err := d.root.Mkdir(folder, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := d.root.Stat(folder); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("folder %s: a file is in its place", folder)
	}
	if err := d.sync(path.Dir(folder)); err != nil {
		return err
	}
	d.synced.Store(folder, nil)
	return nil
}

// sync makes the entries of a folder durable.
func (d *Dir) sync(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // NTFS keeps its own journal of entries, and lets no one sync a folder
	}
	f, err := d.root.Open(folder)
	if err != nil {
		return err
	}
	return cmp.Or(f.Sync(), f.Close())
}

func (c commit) path() string         { return path.Join(commitsDir, c.Name) }
func (c commit) stagedData() string   { return path.Join(stagingDir, c.Staging+".data") }
func (c commit) stagedCommit() string { return path.Join(stagingDir, c.Staging+".json") }
