package push

import (
	"fmt"
	"testing"
	"time"

	"persistor/internal/host"
	"persistor/internal/pull"
)

// A journal that could not be begun with one event is begun with another, and is not taken for the first one's blob by
// whoever reads it; whether the first one was stored, its answer lost, or not.
func TestGridBeginsJournalsAgain(t *testing.T) {
	t.Parallel()
	event := func(n int) *host.Invocation {
		return invocation(t, fmt.Sprintf(`{"id":"%d","topic":"/subscriptions/x/y","eventTime":"2026-11-24T10:00:0%dZ","data":1}`, n, n), nil)
	}
	for n := range 4 {
		stored, another := n&1 > 0, n&2 > 0
		f, l := &fragile{folder: newFolder(t)}, &logged{}
		fail := func(what, _ string) error {
			if what == "append" {
				return errDown
			}
			return nil
		}
		if stored {
			f.after = fail
		} else {
			f.before = fail
		}
		o := options(f, l)
		o.Append, o.AppendBytes, o.MaxAppend, o.Timeout = pull.Joined, 1<<20, 1<<20, time.Second/2
		g := NewGrid(o)
		if _, err := g.Persist(t.Context(), event(1)); err == nil {
			t.Error("stored in storage that is down")
		}
		f.before, f.after = nil, nil
		if _, err := g.Persist(t.Context(), event(2)); err != nil {
			t.Error(err)
		}
		if another {
			g = NewGrid(o)
		}
		if _, err := g.Persist(t.Context(), event(1)); err != nil {
			t.Error(err)
		}
		if n := len(f.records(t, "")); n != 2 {
			t.Errorf("answer lost %t, another process %t: %d records, expected 2: %v", stored, another, n, f.names(t))
		}
	}
}
