package push

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"persistor/internal/host"
	"persistor/internal/pull"
)

// once checks that the numbers are stored, each once.
func once(t *testing.T, f folder, numbers ...int64) {
	t.Helper()
	stored := heldBy(t, f)
	for _, n := range numbers {
		if stored[n] != 1 {
			t.Errorf("message %d is stored %d times", n, stored[n])
		}
	}
	if len(stored) != len(numbers) {
		t.Errorf("stored %v, expected %v", stored, numbers)
	}
}

// A batch is stored and the answer gets lost. Those that come again are found when it is tried once more, and so
// have to be the others, which then have a blob's name of their own.
func TestQueueTriesMixedBatchesAgain(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	lost := 1
	f.after = func(string, string) error {
		if lost--; lost >= 0 {
			return errDown
		}
		return nil
	}
	i := queueMany(t, 1, 1, 2, 3)
	i.Metadata["DeliveryCountArray"] = json.RawMessage(text([]int{2, 1, 1}))
	if _, err := NewQueue("orders", false, options(f, l)).Persist(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	once(t, f.folder, 1, 2, 3)
}

// outage is a sink that can't be reached until then.
type outage struct {
	folder
	until time.Time
}

func (o outage) wait(ctx context.Context) error {
	select {
	case <-time.After(time.Until(o.until)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o outage) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	return o.folder.Create(ctx, name, body, metadata)
}

func (o outage) List(ctx context.Context, prefix string) iter.Seq2[pull.Blob, error] {
	if err := o.wait(ctx); err != nil {
		return func(yield func(pull.Blob, error) bool) { yield(pull.Blob{}, err) }
	}
	return o.folder.List(ctx, prefix)
}

// Storage is down for longer than locks last, so the messages come again elsewhere, in another grouping. When it
// is back, whoever had them first finds what the other one has stored.
func TestQueueOutlastsLocks(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		persist := func(down time.Duration, i *host.Invocation) {
			o := options(outage{f, began.Add(down)}, l)
			o.Timeout = 200 * time.Second
			if _, err := NewQueue("orders", false, o).Persist(t.Context(), i); err != nil {
				t.Error(err)
			}
		}
		var both sync.WaitGroup
		both.Go(func() { persist(92*time.Second, queueMany(t, 1, 1, 2, 3)) })
		time.Sleep(time.Minute)
		both.Go(func() { persist(90*time.Second, queueMany(t, 2, 2, 3, 4)) })
		both.Wait()
	})
	once(t, f, 1, 2, 3, 4)
}

// A hub was deleted and made anew, or its namespace has failed over: numbers begin again, and are not taken for
// those that are stored.
func TestHubMadeAnew(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	h := NewHub("hub", options(f, l))
	later := func(numbers ...int64) *host.Invocation {
		i := hubMany(t, "3", numbers...)
		i.Metadata["EnqueuedTimeUtcArray"] = json.RawMessage(strings.ReplaceAll(string(i.Metadata["EnqueuedTimeUtcArray"]), "2026-11-24", "2026-11-26"))
		return i
	}
	for _, i := range []*host.Invocation{hubMany(t, "3", from(0, 9)...), later(from(0, 4)...), later(from(3, 12)...), later(12)} {
		if _, err := h.Persist(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, f, "hub/2026/11/24/", 0, 9)
	holds(t, f, "hub/2026/11/26/", 0, 12)
}

// A hole within an invocation is none that is stored.
func TestHubFillsHolesOfAnInvocation(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	h := NewHub("hub", options(f, l))
	for _, numbers := range [][]int64{from(1, 4), {5, 6, 9, 10}, {7}, from(4, 11), {8}} {
		if _, err := h.Persist(t.Context(), hubMany(t, "3", numbers...)); err != nil {
			t.Fatal(err)
		}
	}
	count := map[int64]int{}
	for _, m := range f.records(t, "hub/") {
		count[m.SequenceNumber]++
	}
	for _, n := range from(1, 11) {
		if count[n] != 1 {
			t.Errorf("event %d is stored %d times", n, count[n])
		}
	}
}

// What one process knows of a day it doesn't take for what it knows of the next one.
func TestHubLooksAtEachDay(t *testing.T) {
	t.Parallel()
	const midnight = 14 * 60 * 60 // in seconds, which is in events, from day on
	f, l := newFolder(t), &logged{}
	o := options(f, l)
	mine, others := NewHub("hub", o), NewHub("hub", o)
	for _, part := range []struct {
		h           *Hub
		first, last int64
	}{{others, 8, 17}, {others, 0, 5}, {mine, -3, -1}, {mine, 0, 9}} {
		if _, err := part.h.Persist(t.Context(), hubMany(t, "3", from(midnight+part.first, midnight+part.last)...)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.records(t, "hub/")); n != 21 {
		t.Errorf("%d records, expected 21: %v", n, f.names(t))
	}
}

// Who moves a blob away that still grows keeps nobody from storing what comes next.
func TestOpenBlobsMayBeRemoved(t *testing.T) {
	t.Parallel()
	event := func(n int64) *host.Invocation {
		return invocation(t, fmt.Sprintf(`{"id":"%d","topic":"/subscriptions/x/y","eventTime":"2026-11-24T10:00:00Z","data":1}`, n), nil)
	}
	for name, program := range map[string]struct {
		make    func(Options) host.Function
		deliver func(n int64) *host.Invocation
	}{
		"Event Hub":   {func(o Options) host.Function { return NewHub("hub", o).Persist }, func(n int64) *host.Invocation { return hubMany(t, "3", n) }},
		"Service Bus": {func(o Options) host.Function { return NewQueue("orders", false, o).Persist }, func(n int64) *host.Invocation { return queueMany(t, 1, n) }},
		"Event Grid":  {func(o Options) host.Function { return NewGrid(o).Persist }, event},
	} {
		f, l := newFolder(t), &logged{}
		o := options(f, l)
		o.Append, o.AppendBytes, o.MaxAppend, o.Timeout = pull.Joined, 1<<20, 1<<20, 3*time.Second
		persist := program.make(o)
		for n := int64(1); n < 6; n++ {
			if n == 3 {
				remove(t, f)
			}
			if _, err := persist(t.Context(), program.deliver(n)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := len(f.records(t, "hub/")); n != 3 || l.String() != "" || len(f.names(t)) != 1 {
			t.Errorf("%s: %d records, expected those of 3 to 5: %v; log %s", name, n, f.names(t), l)
		}
	}
}

// What is stored in its place, in front of what is there already and behind a hole, is not stored apart as well.
func TestHubStoresApartOnlyWhatIsLeft(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	f.before = func(what, name string) error {
		if what == "create" && strings.HasPrefix(name, "hub/") && strings.Contains(name, "31.txt") {
			return errDown
		}
		return nil
	}
	o := options(f, l)
	o.Timeout = 2 * time.Second
	h := NewHub("hub", o)
	for _, numbers := range [][]int64{from(1, 10), from(21, 30), from(11, 40)} {
		if _, err := h.Persist(t.Context(), hubMany(t, "3", numbers...)); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, f.folder, "hub/", 1, 30)
	holds(t, f.folder, "_failed/hub/", 31, 40)
}

// remove takes all blobs away, with what the directory knows of them.
func remove(t *testing.T, f folder) {
	t.Helper()
	for _, name := range f.names(t) {
		for _, file := range []string{name, ".persistor/metadata/" + name} {
			if err := os.Remove(filepath.Join(f.Path(), file)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
