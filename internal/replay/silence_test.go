package replay

import (
	"context"
	"errors"
	"strings"
	"testing"

	"persistor/internal/record"
	"persistor/internal/selection"
)

// A blob that lost its end where a record ends reads well, and is told of all the same: once, however often the replay
// goes on.
func TestBlobCutShort(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	span := record.Span{First: 0, Last: 2, After: -1, Count: 3, Bytes: 42, Run: "test", Latest: at}
	if _, err := d.Create(t.Context(), record.EventHubName("rides", "0", at, 0), []byte("{\"DATA\":\"a\"}\n\n"), span.Metadata()); err != nil {
		t.Fatal(err)
	}
	last := put(t, d, "rides", "1", 0, withMetadata, bodies(2, "x")...)
	f := s.file("progress")
	result, err := Run(within(t), unreadable{d, last}, s.toHub("is"), Task{ToHub: true}, f, Options{})
	if err == nil {
		t.Fatalf("%+v", result)
	}
	result, err = Run(within(t), d, s.toHub("is"), Task{ToHub: true}, f, Options{})
	if err != nil || result.Sent != 3 || result.Unreadable != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	p, err := Look(t.Context(), d, Task{ToHub: true}, nil)
	if err != nil || p.Unreadable != 1 || len(p.Problems) != 1 || !strings.Contains(p.Problems[0], "it has 14 bytes, its metadata say 42") {
		t.Errorf("%+v, %v", p, err)
	}
}

// Where nothing is selected, as by a folder with a slip in its name, nothing was replayed, and that is no success.
func TestNothingSelected(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	task := Task{ToHub: true, Selection: selection.Selection{Folder: "ridez"}}
	f := s.file("progress")
	if result, err := Run(within(t), d, s.toHub("is"), task, f, Options{}); !errors.Is(err, ErrNothing) || result.Complete {
		t.Errorf("%+v, %v", result, err)
	}
	put(t, d, "ridez", "0", 0, withMetadata, bodies(2, "x")...)
	if result, err := Run(within(t), d, s.toHub("is"), task, f, Options{}); err != nil || result.Sent != 2 {
		t.Errorf("%+v, %v", result, err)
	}
}

// What is stored while a replay goes on, before the place that it has reached, is told of when it ends.
func TestStoredMeanwhile(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	put(t, d, "rides", "0", 0, withMetadata, bodies(2, "x")...)
	put(t, d, "rides", "1", 0, withMetadata, bodies(2, "x")...)
	added := false
	result, err := Run(within(t), d, s.toHub("is"), Task{ToHub: true}, s.file("progress"), Options{Report: func(Result) {
		if !added {
			added = true
			put(t, d, "rides", "0", 2, withMetadata, bodies(3, "late")...)
		}
	}})
	if err != nil || result.Sent != 4 || result.Missed != 1 || len(result.Problems) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// A replay that can't begin again says how far it was.
func TestNoTarget(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	put(t, d, "rides", "0", 0, withMetadata, bodies(20, "x")...)
	f := s.file("progress")
	ctx, cancel := context.WithCancel(within(t))
	before, err := Run(ctx, d, s.toHub("is"), Task{ToHub: true}, f, Options{Rate: 10, Report: func(Result) { cancel() }})
	if err == nil || before.Sent == 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	if result, err := Run(within(t), d, s.toHub("nowhere"), Task{ToHub: true}, f, Options{}); err == nil || result.Sent != before.Sent {
		t.Errorf("%+v, %v", result, err)
	}
}
