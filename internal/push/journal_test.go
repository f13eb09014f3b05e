package push

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/internal/pull"
	"persistor/internal/record"
)

// joined are options of events that are appended to each other.
func joined(sink pull.Sink, l *logged) Options {
	o := options(sink, l)
	o.Append, o.AppendBytes, o.MaxAppend, o.Format.Metadata = pull.Joined, 1<<20, 1<<20, false
	return o
}

// datedEvents makes events of one source, of several days and minutes.
func datedEvents(first, last int, at func(n int) time.Time) (all []string) {
	for n := first; n <= last; n++ {
		all = append(all, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/cars/7","time":"%s","data":%d}`, n, at(n).Format(time.RFC3339), n))
	}
	return all
}

// each fails the test unless the folder holds each event from first to last once.
func each(t *testing.T, f folder, first, last int) {
	t.Helper()
	stored := map[string]int{}
	for _, m := range f.records(t, "") {
		if id, _ := m.Properties["id"].(string); id != string(m.Body.JSON) || m.Properties["source"] != "/cars/7" {
			t.Errorf("a record doesn't say which event it is: %+v", m)
		}
		stored[string(m.Body.JSON)]++
	}
	for n := first; n <= last; n++ {
		if c := stored[fmt.Sprint(n)]; c != 1 {
			t.Errorf("event %d is stored %d times", n, c)
		}
	}
	if len(stored) != last-first+1 {
		t.Errorf("%d events are stored, expected %d", len(stored), last-first+1)
	}
	total := int64(0)
	for b, err := range f.Dir.List(t.Context(), "") {
		e, parseErr := record.ParseEvent(b.Metadata)
		if err != nil || parseErr != nil || e.Bytes != b.Size {
			t.Errorf("%s: %d bytes, %+v, %v, %v", b.Name, b.Size, e, err, parseErr)
		}
		total += e.Count
	}
	if total != int64(len(stored)) {
		t.Errorf("metadata say that there are %d events, of %d", total, len(stored))
	}
}

func TestJournalStoresOnce(t *testing.T) {
	f, l := newFolder(t), &logged{}
	deliver := func(g *Grid, events []string) {
		t.Helper()
		if _, err := g.Persist(t.Context(), gridMany(t, events...)); err != nil {
			t.Fatal(err)
		}
	}
	g := NewGrid(joined(f, l))
	deliver(g, events(1, 30))
	deliver(g, events(1, 30))
	deliver(g, append(events(25, 500), events(490, 510)...))
	if names := f.names(t); len(names) != 1 || names[0] != "hub/2026/11/24/100000-"+record.EventDigest("/cars/7", "1")+".txt" {
		t.Errorf("blobs %v", names)
	}
	deliver(NewGrid(joined(f, l)), events(400, 520)) // another process, which finds out what the first has stored last
	deliver(NewGrid(joined(f, l)), events(511, 530))
	each(t, f, 1, 530)
	if names := f.names(t); len(names) != 3 || l.String() != "" {
		t.Error(names, l)
	}
}

// Blobs are of a day, or of a minute, and of about so many bytes.
func TestJournalsRoll(t *testing.T) {
	for _, test := range []struct {
		mode  pull.Append
		bytes int64
		step  time.Duration
		blobs int
	}{
		{pull.Joined, 1 << 20, time.Minute, 2}, {pull.ByMinute, 1 << 20, 30 * time.Second, 50}, {pull.Joined, 1 << 10, 0, 15},
	} {
		f, l := newFolder(t), &logged{}
		o := joined(f, l)
		o.Append, o.AppendBytes = test.mode, test.bytes
		g := NewGrid(o)
		midnight := time.Date(2026, 11, 24, 23, 10, 0, 0, time.UTC)
		all := datedEvents(0, 99, func(n int) time.Time { return midnight.Add(time.Duration(n) * test.step) })
		for n := 0; n < 100; n += 5 {
			if _, err := g.Persist(t.Context(), gridMany(t, all[n:n+5]...)); err != nil {
				t.Fatal(err)
			}
		}
		each(t, f, 0, 99)
		if names := f.names(t); test.bytes > 1<<10 && len(names) != test.blobs || len(names) < 2 {
			t.Errorf("mode %d, %d bytes: %d blobs, expected %d: %v", test.mode, test.bytes, len(names), test.blobs, names)
		}
	}
}

// Answers that get lost, and storage that fails for a moment.
func TestJournalGoesOnAfterTrouble(t *testing.T) {
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	n := 0
	f.after = func(what, _ string) error {
		if n++; n%3 == 1 {
			return errDown
		}
		return nil
	}
	g := NewGrid(joined(f, l))
	for first := 1; first <= 61; first += 20 {
		if _, err := g.Persist(t.Context(), gridMany(t, events(first, first+29)...)); err != nil {
			t.Fatal(err)
		}
	}
	each(t, f.folder, 1, 90)
}

// A blob of somebody else's in the way of one event is no trouble for the others.
func TestJournalStepsAside(t *testing.T) {
	f, l := newFolder(t), &logged{}
	name := record.EventName("hub", "/cars/7", "3", time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC))
	if _, err := f.Dir.Create(t.Context(), name, []byte("x"), map[string]string{"by": "else"}); err != nil {
		t.Fatal(err)
	}
	o := joined(f, l)
	o.Limits.Count = 1
	o.AppendBytes = 1 // a blob for each
	for range 2 {
		if _, err := NewGrid(o).Persist(t.Context(), gridMany(t, events(1, 5)...)); err != nil {
			t.Fatal(err)
		}
	}
	names := f.names(t)
	if len(names) != 6 || names[0] != "_failed/"+name || !strings.Contains(l.String(), `"id":"3"`) {
		t.Error(names, l)
	}
}
