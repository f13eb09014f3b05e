package push

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/internal/record"
)

// holds fails unless the folder holds the numbers from first to last once each, in a chain below prefix.
func holds(t *testing.T, f folder, prefix string, first, last int64) []record.Span {
	t.Helper()
	var spans []record.Span
	next := first
	for b, err := range f.Dir.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := record.ParseSpan(b.Metadata)
		if err != nil {
			t.Fatalf("%s: %v", b.Name, err)
		}
		if s.First != next || len(spans) > 0 && s.After != s.First-1 {
			t.Fatalf("%s holds %d to %d after %d; %d was next: %v", b.Name, s.First, s.Last, s.After, next, f.names(t))
		}
		spans, next = append(spans, s), s.Last+1
	}
	if next != last+1 {
		t.Fatalf("below %s up to %d, expected %d: %v", prefix, next-1, last, f.names(t))
	}
	for k, m := range f.records(t, prefix) {
		if n := first + int64(k); m.SequenceNumber != n || string(m.Body.Data[0]) != bodyOf(n) {
			t.Fatalf("record %d holds %d: %s", n, m.SequenceNumber, m.Body.Data)
		}
	}
	return spans
}

func TestHubStoresOnce(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	deliver := func(h *Hub, numbers ...int64) {
		t.Helper()
		i := hubMany(t, "3", numbers...)
		if len(numbers) == 1 {
			i = hubOne(t, "3", numbers[0])
		}
		if _, err := h.Persist(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	newHub := func() *Hub { return NewHub("hub", options(f, l)) }
	h := newHub()
	deliver(h, from(10, 19)...)
	deliver(h, from(20, 29)...)
	deliver(h, from(10, 19)...)       // again
	deliver(h, from(15, 34)...)       // overlaps
	deliver(newHub(), 35)             // elsewhere, one by one
	deliver(newHub(), 35)             //
	deliver(h, from(30, 39)...)       // this one doesn't know of 35
	deliver(h, 40)                    //
	deliver(newHub(), from(5, 44)...) // from before the beginning
	deliver(h, from(41, 49)...)       //
	deliver(newHub(), 12)             // long past
	deliver(newHub(), 7)              //
	holds(t, f, "hub/", 5, 49)
	if names := f.names(t); names[0] != "hub/2026/11/24/0003-00000000000000000005.txt" {
		t.Errorf("names %v", names)
	}
	if l.String() != "" {
		t.Errorf("logged %s", l)
	}
}

// What comes late, into a hole, is not taken for stored because what is behind it is.
func TestHubFillsHoles(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	h := NewHub("hub", options(f, l))
	for _, numbers := range [][]int64{from(10, 19), from(30, 39), from(20, 24), from(22, 44), {26}} {
		if _, err := h.Persist(t.Context(), hubMany(t, "3", numbers...)); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, f, "hub/", 10, 44)
}

// An invocation whose time is over before it began is no success.
func TestPersistWithoutTime(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	o := options(f, l)
	o.Timeout = 1
	if _, err := NewHub("hub", o).Persist(t.Context(), hubMany(t, "3", from(10, 24)...)); err == nil && len(f.names(t)) == 0 {
		t.Error("nothing of an Event Hub's is stored, and that is a success")
	}
	if _, err := NewQueue("orders", false, o).Persist(t.Context(), queueMany(t, 1, 1, 2)); err == nil && len(f.names(t)) == 0 {
		t.Error("nothing of a queue's is stored, and that is a success")
	}
}

// One event after the other needs no look at what is there, but for the first.
func TestHubLooksOnce(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	h := NewHub("hub", options(f, l))
	for n := int64(0); n < 50; n++ {
		if _, err := h.Persist(t.Context(), hubOne(t, "0", n)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := h.Persist(t.Context(), hubMany(t, "0", from(20, 59)...)); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, f.folder, "hub/", 0, 59)
	if f.lists != 1 {
		t.Errorf("%d looks at what is there, expected 1", f.lists)
	}
}

func TestHubServesPartitionsSideBySide(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	h := NewHub("hub", options(f, l))
	done := make(chan error)
	for p := range 4 {
		for range 3 { // the host doesn't, but nothing relies on that
			go func() {
				for n := int64(0); n < 30; n += 3 {
					if _, err := h.Persist(t.Context(), hubMany(t, fmt.Sprint(p), from(n, n+4)...)); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
	}
	for range 12 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for p := range 4 {
		holds(t, f.folder, fmt.Sprintf("hub/2026/11/24/%04d-", p), 0, 31)
	}
}

var errDown = errors.New("storage is down")

func TestHubStoresApartWhatItCantStore(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	f.before = func(what, name string) error {
		if what == "create" && strings.HasPrefix(name, "hub/") && strings.Contains(name, "15.txt") {
			return errDown
		}
		return nil
	}
	o := options(f, l)
	o.Limits.Count, o.Timeout = 5, 3*time.Second
	h := NewHub("hub", o)
	for range 2 { // the host goes on; should it come back, nothing is repeated
		began := time.Now()
		if _, err := h.Persist(t.Context(), hubMany(t, "3", from(10, 24)...)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > o.Timeout+2*time.Second {
			t.Errorf("took %v, expected at most %v", took, o.Timeout)
		}
	}
	holds(t, f.folder, "hub/", 10, 14)
	holds(t, f.folder, "_failed/hub/", 15, 24)
	for _, want := range []string{`"level":"ERROR"`, `"partition":"3","first":15,"last":24,"folder":"_failed/hub"`, "storage is down"} {
		if !strings.Contains(l.String(), want) {
			t.Errorf("the log lacks %s: %s", want, l)
		}
	}
	f.before = nil
	if _, err := h.Persist(t.Context(), hubMany(t, "3", from(25, 29)...)); err != nil {
		t.Fatal(err)
	}
	if names := f.names(t); len(names) != 4 {
		t.Errorf("blobs %v", names)
	}
}

func TestHubGoesOnAfterTrouble(t *testing.T) {
	t.Parallel()
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	failures := 2
	f.after = func(string, string) error { // stored, but nobody says so
		if failures--; failures >= 0 {
			return errDown
		}
		return nil
	}
	h := NewHub("hub", options(f, l))
	if _, err := h.Persist(t.Context(), hubMany(t, "3", from(10, 24)...)); err != nil {
		t.Fatal(err)
	}
	holds(t, f.folder, "", 10, 24)
}

func TestHubStoresInTheSpareAccount(t *testing.T) {
	t.Parallel()
	f, spare, l := &fragile{folder: newFolder(t)}, newFolder(t), &logged{}
	f.before = func(string, string) error { return errDown }
	o := options(f, l)
	o.Spare, o.Timeout = spare, 2*time.Second
	h := NewHub("hub", o)
	for range 2 {
		if _, err := h.Persist(t.Context(), hubMany(t, "3", from(10, 24)...)); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, spare, "_failed/hub/", 10, 24)
	if len(f.names(t)) > 0 || !strings.Contains(l.String(), "FAILED_STORAGE_CONNECTION_STRING") {
		t.Error(f.names(t), l)
	}
}

// When nothing works the host has to know, and so has whoever reads the log.
func TestHubFailsLoudly(t *testing.T) {
	t.Parallel()
	f, spare, l := &fragile{folder: newFolder(t)}, &fragile{folder: newFolder(t)}, &logged{}
	f.before = func(string, string) error { return errDown }
	spare.before = func(string, string) error { return errors.New("the spare one, too") }
	o := options(f, l)
	o.Spare, o.Timeout = spare, time.Second
	h := NewHub("telemetry", o)
	_, err := h.Persist(t.Context(), hubMany(t, "3", from(10, 24)...))
	for _, want := range []string{"10 to 24", "partition 3", "Event Hub telemetry", "storage is down", "the spare one, too"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
	if _, err := h.Persist(t.Context(), invocation(t, `"AP8="`, nil)); err == nil || !strings.Contains(err.Error(), "storage is down") {
		t.Errorf("what can't be identified: %v", err)
	}
}

// A blob of somebody else's in the way will be there in a minute, too.
func TestHubStepsAsideAtOnce(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	if _, err := f.Dir.Create(t.Context(), record.EventHubName("hub", "3", day, 10), []byte("x"), map[string]string{"by": "else"}); err != nil {
		t.Fatal(err)
	}
	h := NewHub("hub", options(f, l))
	began := time.Now()
	if _, err := h.Persist(t.Context(), hubMany(t, "3", from(10, 24)...)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	holds(t, f, "_failed/", 10, 24)
	if !strings.Contains(l.String(), "not as Persistor writes it") {
		t.Error(l)
	}
}

// A program that is told to end stores what it holds.
func TestPersistOutlivesItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, l := newFolder(t), &logged{}
	o := options(f, l)
	if _, err := NewHub("hub", o).Persist(ctx, hubMany(t, "3", from(10, 24)...)); err != nil {
		t.Error(err)
	}
	if _, err := NewQueue("orders", false, o).Persist(ctx, queueMany(t, 1, 1, 2)); err != nil {
		t.Error(err)
	}
	if _, err := NewGrid(o).Persist(ctx, gridOne(t, cloudEvent)); err != nil {
		t.Error(err)
	}
	if names := f.names(t); len(names) != 3 {
		t.Error(names)
	}
}

func TestHubOutput(t *testing.T) {
	t.Parallel()
	f, l := newFolder(t), &logged{}
	o := options(f, l)
	o.Output, o.Format = true, record.Format{}
	h := NewHub("hub", o)
	r, err := h.Persist(t.Context(), hubOne(t, "3", 10))
	if want := "{\"DATA\":\"message 10\"}\n\n"; err != nil || r.Outputs[Blob] != want {
		t.Errorf("outputs %v, error %v, want %q", r.Outputs, err, want)
	}
	if names := f.names(t); len(names) > 0 {
		t.Errorf("stored %v besides", names)
	}
	for n := int64(11); n < 40; n += 10 {
		if r, err := h.Persist(t.Context(), hubMany(t, "3", from(n, n+9)...)); err != nil || len(r.Outputs) > 0 {
			t.Errorf("outputs %v, error %v", r.Outputs, err)
		}
	}
	if n := strings.Count(l.String(), "cardinality"); n != 1 || len(f.names(t)) != 3 {
		t.Errorf("%d warnings, blobs %v", n, f.names(t))
	}
}
