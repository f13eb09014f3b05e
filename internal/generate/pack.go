package generate

import (
	"archive/zip"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"persistor/functions"
)

// Bounds of a package.
const (
	maxPackageFiles = 10_000
	maxPackageBytes = 1 << 30
)

// packed is the time that all files in a package have, so that the same files make the same package. It is
// the earliest that the format knows.
var packed = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// pack makes the deployment package of a folder: all of it but local.settings.json and what .funcignore
// names, with host.json at its root, in the order of names, and the handler executable.
func pack(ctx context.Context, root *os.Root, folder, file string) error {
	names, err := packable(root, folder)
	if err != nil {
		return err
	}
	reader, writer := io.Pipe()
	ended := make(chan struct{})
	defer func() { reader.Close(); <-ended }()
	go func() {
		defer close(ended)
		z := zip.NewWriter(writer)
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
		err := packFiles(ctx, z, root, folder, names)
		if err == nil {
			err = z.Close()
		}
		writer.CloseWithError(err)
	}()
	return replace(root, file, 0o644, reader)
}

// packable are the files of a folder that are deployed, sorted.
func packable(root *os.Root, folder string) ([]string, error) {
	rules, err := fs.ReadFile(root.FS(), path.Join(folder, functions.IgnoreFile))
	if err != nil {
		return nil, err
	}
	ignored := parseIgnore(string(rules))
	var names []string
	var size int64
	err = fs.WalkDir(root.FS(), folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == folder {
			return err
		}
		inside := name[len(folder)+1:]
		switch {
		case ignored.match(inside, entry.IsDir()):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || isSettings(entry.Name()) || isTemporary(name):
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s is no regular file: remove it, or name it in .funcignore", inside)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		names = append(names, inside)
		if size += info.Size(); size > maxPackageBytes || len(names) > maxPackageFiles {
			return fmt.Errorf("it has more than %d files or %d bytes: name in .funcignore what isn't deployed", maxPackageFiles, maxPackageBytes)
		}
		return nil
	})
	slices.Sort(names)
	for _, needed := range []string{functions.HostFile, functions.Handler} {
		if err == nil && !slices.Contains(names, needed) {
			err = fmt.Errorf(".funcignore leaves out %s, without which the host starts nothing: except it there with !%s", needed, needed)
		}
	}
	return names, err
}

// isSettings reports whether a file is local.settings.json, in whatever case, or a copy of it by another ending: it has
// secrets.
func isSettings(name string) bool {
	base, _, _ := strings.Cut(strings.ToLower(functions.SettingsFile), ".json")
	return strings.HasPrefix(strings.ToLower(name), base)
}

func packFiles(ctx context.Context, z *zip.Writer, root *os.Root, folder string, names []string) error {
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: packed}
		header.SetMode(0o644)
		if name == functions.Handler {
			header.SetMode(0o755) // the host starts it only so, and unpacks the bits as they are
		}
		w, err := z.CreateHeader(header)
		if err != nil {
			return err
		}
		f, err := root.Open(path.Join(folder, name))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
