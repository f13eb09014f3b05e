package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"persistor/emulator"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/document"
	"persistor/internal/record"
	"persistor/internal/selection"
	"persistor/internal/store"
)

// From Blob Storage, with progress beside the blobs, as from a directory: a replay goes on elsewhere, and of two that
// have the same progress one ends.
func TestReplayFromContainer(t *testing.T) {
	t.Parallel()
	location := azuritetest.Run(t)
	azure, err := store.Open(t.Context(), store.Options{Location: location, Container: azuritetest.Container(t), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := store.OpenDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for name, from := range map[string]store.Store{"azure": azure, "dir": dir} {
		t.Run(name, func(t *testing.T) { replayFrom(t, from) })
	}
}

func replayFrom(t *testing.T, from store.Store) {
	s := newSite(t, emulator.Options{Hubs: []emulator.Hub{{Name: "is", Partitions: 2}}})
	for first := int64(0); first < 400; first += 100 {
		var body []byte
		for i, m := range bodies(100, "x") {
			m.SequenceNumber, m.Partition, m.EnqueuedTime, m.ID = first+int64(i), "0", at, fmt.Sprint("id ", first+int64(i))
			body = withMetadata.Append(body, &m)
		}
		span := record.Span{First: first, Last: first + 99, After: first - 1, Count: 100, Bytes: int64(len(body)), Run: "test", Latest: at}
		if _, err := from.Create(t.Context(), record.EventHubName("rides", "0", at, first), body, span.Metadata()); err != nil {
			t.Fatal(err)
		}
	}
	documents := from.(document.Storage)
	task := Task{ToHub: true}

	ctx, cancel := context.WithCancel(within(t))
	_, err := Run(ctx, from, s.toHub("is"), task, NewDocument(documents, task), Options{Rate: 250, Report: func(Result) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}

	// One that has fallen behind can't save, and so sends nothing.
	behind, err := begin(from, s.toHub("is"), task, NewDocument(documents, task), Options{})
	if err != nil {
		t.Fatal(err)
	}
	result, err := Run(within(t), from, s.toHub("is"), task, NewDocument(documents, task), Options{})
	if err != nil || result.Sent != 400 || !result.Complete || result.Uncertain != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := behind.goOn(within(t)); err == nil || !strings.Contains(err.Error(), "another replay has gone on with blob _replays/"+task.Digest()+".json") {
		t.Errorf("the one behind: %v", err)
	}
	if n := s.count("is"); n != 400 {
		t.Errorf("the hub holds %d", n)
	}
	// What it keeps isn't taken for something that is stored.
	var all selection.Selection
	blobs := 0
	for _, err := range all.Blobs(t.Context(), from) {
		if err != nil {
			t.Error(err)
		}
		blobs++
	}
	if blobs != 4 {
		t.Errorf("%d blobs", blobs)
	}
	if _, err := Run(within(t), from, s.toHub("is"), task, NewDocument(documents, task), Options{}); !errors.Is(err, ErrComplete) {
		t.Errorf("complete, then %v", err)
	}
}
