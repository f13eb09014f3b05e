package generate

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"persistor/functions"
)

// write carries plans out, app by app.
func write(ctx context.Context, root *os.Root, programs *programs, apps []AppReport) error {
	for i := range apps {
		a := &apps[i]
		program, err := programs.file(ctx, a.Program)
		if err != nil {
			return err
		}
		if err := writeApp(ctx, root, program, a); err != nil {
			return fmt.Errorf("write function app %s: %w", a.Name, err)
		}
		if a.Package == "" {
			continue
		}
		if err := pack(ctx, root, a.Name, a.Package); err != nil {
			return fmt.Errorf("pack function app %s: %w", a.Name, err)
		}
	}
	return nil
}

func writeApp(ctx context.Context, root *os.Root, program string, a *AppReport) error {
	if err := sweep(root, a.Name); err != nil {
		return err
	}
	for i := range a.Files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f := &a.Files[i]
		place := filepath.Join(a.Name, filepath.FromSlash(f.Path))
		if f.Path == functions.Handler {
			if err := writeHandler(root, place, program, f); err != nil {
				return err
			}
			continue
		}
		if f.Action == Keep {
			continue
		}
		if err := replace(root, place, f.mode, bytes.NewReader(f.content)); err != nil {
			return err
		}
	}
	return nil
}

// writeHandler copies the program to its place, unless it is there.
func writeHandler(root *os.Root, place, program string, f *File) error {
	source, err := os.Open(program)
	if err != nil {
		return err
	}
	defer source.Close()
	if f.Action != Create {
		if same, err := isSame(root, place, source); err != nil {
			return err
		} else if same {
			f.Action = Keep
			return root.Chmod(place, f.mode)
		}
	}
	return replace(root, place, f.mode, source)
}

// isSame compares a file with what source has, which is left at its start.
func isSame(root *os.Root, place string, source *os.File) (bool, error) {
	there, err := root.Open(place)
	if err != nil {
		return false, err
	}
	defer there.Close()
	defer source.Seek(0, io.SeekStart)
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(there, a)
		m, errB := io.ReadFull(source, b)
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			for _, err := range []error{errA, errB} {
				if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					return false, err
				}
			}
			return true, nil
		}
	}
}

// temporary is what files end with that are not complete. A run that was killed may leave one.
const temporary = ".persistor-tmp"

// replace writes a file beside its place, and renames it when it is complete and on disk.
func replace(root *os.Root, place string, mode os.FileMode, content io.Reader) (err error) {
	dir := filepath.Dir(place)
	if err := root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	name := filepath.Join(dir, "."+filepath.Base(place)+"-"+rand.Text()+temporary)
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			root.Remove(name)
		}
	}()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := root.Rename(name, place); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put %s in its place: somebody removed it, as another run in the same folder does: run it again when that has ended", place)
	} else if err != nil {
		return err
	}
	return nil
}

// sweep removes what killed runs left in a folder, or of its package.
func sweep(root *os.Root, folder string) error {
	dirs, err := subfolders(root, folder)
	if err != nil {
		return err
	}
	if err := sweepFiles(root, ".", "."+folder+".zip-"); err != nil {
		return err
	}
	for _, dir := range append(dirs, "") {
		if err := sweepFiles(root, path.Join(folder, dir), "."); err != nil {
			return err
		}
	}
	return nil
}

// sweepFiles removes the temporary files of one folder whose names begin with prefix.
func sweepFiles(root *os.Root, dir, prefix string) error {
	entries, err := readDir(root, dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && isTemporary(e.Name()) {
			err = cmp.Or(err, root.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// subfolders are the names of the folders within one, sorted. Links are none.
func subfolders(root *os.Root, dir string) (names []string, err error) {
	entries, err := readDir(root, dir)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// readDir lists a folder; one that isn't there has nothing in it.
func readDir(root *os.Root, dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

func isTemporary(name string) bool { return strings.HasSuffix(name, temporary) }
