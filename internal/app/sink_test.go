package app

import (
	"errors"
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
}
