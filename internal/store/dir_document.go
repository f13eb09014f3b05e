package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"

	"persistor/internal/document"
)

// Read implements [Documents].
func (d *Dir) Read(ctx context.Context, name string) ([]byte, string, error) {
	err := cmp.Or(ctx.Err(), CheckName(name))
	var body []byte
	if err == nil {
		body, err = d.readDocument(name)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read document %q: %w", name, err)
	}
	return body, contentVersion(body), nil
}

// readDocument takes no turn: a file is replaced as a whole, so what is opened is one version.
func (d *Dir) readDocument(name string) ([]byte, error) {
	for range 100 { // an end, should it be removed and written each time
		if _, _, err := d.find(name); err != nil {
			return nil, err
		}
		f, err := d.root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(f, document.MaxBody+1))
		err = cmp.Or(err, f.Close())
		if err == nil && len(body) > document.MaxBody {
			err = document.ErrTooLarge
		}
		return body, err
	}
	return nil, ErrNotFound
}

// contentVersion stands for a document's content. Nothing else can get out of step with it.
func contentVersion(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Write implements [Documents].
func (d *Dir) Write(ctx context.Context, name string, body []byte, version string) (string, error) {
	err := checkDocument(name, body)
	if err == nil {
		err = d.inTurn(ctx, name, func() error {
			if err := d.checkVersion(name, version); err != nil {
				return err
			}
			return d.writeDocument(ctx, name, body)
		})
	}
	if err != nil {
		return "", fmt.Errorf("write document %q of %d bytes: %w", name, len(body), err)
	}
	return contentVersion(body), nil
}

// Overwrite implements [Documents].
func (d *Dir) Overwrite(ctx context.Context, name string, body []byte) error {
	err := checkDocument(name, body)
	if err == nil {
		err = d.inTurn(ctx, name, func() error { return d.writeDocument(ctx, name, body) })
	}
	if err != nil {
		return fmt.Errorf("overwrite document %q with %d bytes: %w", name, len(body), err)
	}
	return nil
}

// Remove implements [Documents].
func (d *Dir) Remove(ctx context.Context, name, version string) error {
	err := CheckName(name)
	if err == nil {
		err = d.inTurn(ctx, name, func() error {
			body, err := d.readDocument(name)
			switch {
			case errors.Is(err, ErrNotFound):
				return nil
			case err == nil && version != "" && version != contentVersion(body):
				return ErrChanged
			case err != nil && version != "":
				return err
			}
			return d.removeDocument(name)
		})
	}
	if err != nil {
		return fmt.Errorf("remove document %q: %w", name, err)
	}
	return nil
}

// inTurn changes a document while nobody else does.
func (d *Dir) inTurn(ctx context.Context, name string, change func() error) error {
	end, err := d.turn(ctx, name)
	if err != nil {
		return err
	}
	defer end()
	return change()
}

// checkVersion fails unless a document is as version says; "" says that it is not there.
func (d *Dir) checkVersion(name, version string) error {
	body, err := d.readDocument(name)
	switch {
	case errors.Is(err, ErrNotFound) && version == "":
		return nil
	case errors.Is(err, ErrNotFound), err == nil && version != contentVersion(body):
		return ErrChanged
	}
	return err
}

// writeDocument creates a document as any blob, or puts another file in the place of the one that is there. A folder
// that somebody removes as empty in that very moment is made again.
func (d *Dir) writeDocument(ctx context.Context, name string, body []byte) error {
	var err error
	for range 100 {
		c, _, found := d.find(name)
		switch {
		case errors.Is(found, ErrNotFound):
			// What a dead process left of a document that it removed must not be taken for this one's file. If it
			// can't be removed no file can take its place either.
			_ = d.root.Remove(name)
			_, err = d.create(ctx, commit{Name: name}, body)
		case found != nil:
			err = found
		case c.grows():
			return errors.New("a blob that grows has the name")
		default:
			return d.replaceDocument(ctx, name, body)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if errors.Is(err, ErrExists) { // a Create, which takes no turn
		return ErrChanged
	}
	return err
}

// replaceDocument leaves the commit as it is, so there is one step between old and new.
func (d *Dir) replaceDocument(ctx context.Context, name string, body []byte) error {
	staged := path.Join(stagingDir, rand.Text()+".document")
	err := d.write(staged, body)
	d.step("document staged")
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = d.root.Rename(staged, name)
		d.step("document replaced")
	}
	if err != nil {
		d.root.Remove(staged) // what can't be removed waits for the sweep
		return err
	}
	err = d.sync(path.Dir(name))
	d.step("document synced")
	return err
}

// removeDocument removes the commit, without which a file is no blob, and then the file, and the folders if nothing
// else is in them.
func (d *Dir) removeDocument(name string) error {
	file := path.Join(commitsDir, name)
	if err := d.root.Remove(file); err != nil {
		return err
	}
	d.step("commit removed")
	if err := d.sync(path.Dir(file)); err != nil && !errors.Is(err, fs.ErrNotExist) { // with the folder it is gone, too
		return err
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.step("file removed")
	if path.Dir(name) != "." {
		_ = d.root.Remove(path.Dir(name))
		_ = d.root.Remove(path.Dir(file))
	}
	return nil
}

// Names implements [Documents].
func (d *Dir) Names(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		fail := func(err error) { yield("", fmt.Errorf("list documents in %q: %w", folder, err)) }
		if folder != "" {
			bare, ok := strings.CutSuffix(folder, "/")
			if err := CheckName(bare); err != nil || !ok {
				fail(cmp.Or(err, errors.New("a folder ends in a slash")))
				return
			}
		}
		for after := ""; ; {
			names, err := d.names(folder, folder, after)
			if err := cmp.Or(ctx.Err(), err); err != nil {
				fail(err)
				return
			}
			for _, name := range names {
				if !strings.HasSuffix(name, "/") && !yield(name, nil) {
					return
				}
			}
			if len(names) < d.page {
				return
			}
			after = names[len(names)-1]
		}
	}
}
