package pull

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// removeAll takes all blobs away, with what the directory knows of them, and says how many that were.
func (f folder) removeAll(t *testing.T) (n int) {
	t.Helper()
	for b, err := range f.Dir.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{b.Name, ".persistor/metadata/" + b.Name} {
			if err := os.Remove(filepath.Join(f.Dir.Path(), file)); err != nil {
				t.Fatal(err)
			}
		}
		n++
	}
	return n
}

// steady are locks that hold, and whose messages are completed.
type steady struct{ tenant }

func (*steady) Check([]int64) (lost, again []int64)                     { return nil, nil }
func (*steady) Complete(context.Context, []int64) (unconfirmed []int64) { return nil }

// Who moves a blob away that still grows keeps nobody from storing what comes next, in a blob of its own.
func TestGrowingBlobsMayBeRemoved(t *testing.T) {
	f, batches, removed := newFolder(t), 0, 0
	stop := func() bool {
		if batches++; batches == 3 {
			removed = f.removeAll(t)
		}
		return false
	}
	if err := write(newChain(f, &partition{}, -1, Joined), 0, 39, 10, stop); err != nil {
		t.Fatal(err)
	}
	if spans := check(t, f, 20, 39); removed != 1 || len(spans) != 1 || spans[0].After != 19 {
		t.Errorf("%d blobs removed, then %+v", removed, spans)
	}

	f, batches, removed = newFolder(t), 0, 0
	numbers := []int64{1, 2, 3, 4, 5, 6, 7, 8}
	if err := keepRoom(f, &steady{}, Joined, numbers, 2, stop); err != nil {
		t.Fatal(err)
	}
	if n := f.removeAll(t); removed != 1 || n != 1 {
		t.Errorf("session: %d blobs removed, then %d", removed, n)
	}
}
