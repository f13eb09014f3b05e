package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// marker is the file by which the demo knows a folder as its own.
const (
	marker     = ".persistor-demo"
	markerText = "Made by `persistor demo`, which empties this folder whenever it is run with it again.\n"
)

// prepare makes dir an empty folder for the demo and returns its absolute path. It empties a folder that
// an earlier demo made, and nothing else: a folder that holds anything and lacks the marker is refused.
func prepare(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("prepare output folder %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return "", fmt.Errorf("create output folder: %w", err)
		}
	case err != nil:
		return "", fmt.Errorf("read output folder: %w", err)
	case len(entries) > 0:
		if _, err := os.Lstat(filepath.Join(dir, marker)); err != nil {
			return "", fmt.Errorf("use output folder %s: %w", dir, ErrOutput)
		}
	}
	for _, e := range entries {
		if e.Name() == marker {
			continue // stays until the rest is gone, so that an interrupted run can be repeated
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return "", fmt.Errorf("empty output folder: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, marker), []byte(markerText), 0o666); err != nil {
		return "", fmt.Errorf("mark output folder: %w", err)
	}
	return dir, nil
}

// ErrOutput says that the output folder can't be used because of what is in it.
var ErrOutput = errors.New("it holds files that no earlier demo made; name a new or an empty folder with --out")
