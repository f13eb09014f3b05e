package demo

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPrepareEmptiesItsOwnFolderOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "out")
	for range 2 { // the first time it is new, the second time an earlier demo's
		got, err := prepare(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got != dir {
			t.Errorf("prepared %s, want %s", got, dir)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != marker {
			t.Fatalf("the folder holds %v (%v), expected the marker alone", entries, err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "blobs", "2026"), 0o777); err != nil {
			t.Fatal(err)
		}
	}

	theirs := t.TempDir()
	precious := filepath.Join(theirs, "precious.txt")
	if err := os.WriteFile(precious, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(theirs); !errors.Is(err, ErrOutput) {
		t.Errorf("prepare a folder of somebody else's: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("somebody else's file is gone: %v", err)
	}
	if _, err := prepare(precious); err == nil {
		t.Error("a file was taken as output folder")
	}
}
