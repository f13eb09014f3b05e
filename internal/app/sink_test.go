package app

import (
	"context"
	"errors"
	"strings"
	"testing"

	"persistor/internal/pull"
	"persistor/internal/store"
)

// Loops know what the store has to say in words of their own.
func TestSinkTellsOfWhatIsGone(t *testing.T) {
	dir, err := store.OpenDir(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	_, err = sink{dir}.Append(t.Context(), "a/blob.txt", 5, []byte("x"), nil)
	if !errors.Is(err, pull.ErrGone) || !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	_, err = sink{immutable{dir}}.Append(t.Context(), "a/blob.txt", 0, []byte("x"), nil)
	if !errors.Is(err, store.ErrImmutable) || !strings.Contains(err.Error(), "unset APPEND") {
		t.Errorf("error %v", err)
	}
}

// immutable is a store in which nothing changes; no emulator of Blob Storage has policies.
type immutable struct{ store.Store }

func (immutable) Append(context.Context, string, int64, []byte, map[string]string) (map[string]string, error) {
	return nil, store.ErrImmutable
}
