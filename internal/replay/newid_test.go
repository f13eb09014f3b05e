package replay

import (
	"strings"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/selection"
)

// Messages that had no id get ids of their own: a queue with duplicate detection keeps the events of two hubs, or of one
// that was made anew, though their numbers are the same, and drops what is sent twice.
func TestNewIDs(t *testing.T) {
	t.Parallel()
	s := newSite(t, emulator.Options{})
	d := s.stored("was")
	messages := func() []message.Message { return bodies(2, "x") }
	put(t, d, "rides", "0", 0, withMetadata, messages()...)
	put(t, d, "_failed/rides", "0", 0, withMetadata, messages()...)
	put(t, d, "trips", "0", 0, withMetadata, messages()...)
	put(t, d, "bare", "0", 0, record.Format{}, messages()...)
	ids := map[any]string{}
	for _, folder := range []string{"rides", "trips", "bare"} {
		for id := range idsOf(t, d, folder, 0) {
			if ids[id] != "" {
				t.Errorf("%v in %s and %s", id, folder, ids[id])
			}
			ids[id] = folder
		}
	}
	if len(ids) != 6 {
		t.Errorf("%v", ids)
	}
	for id := range idsOf(t, d, "_failed/rides", 0) {
		if ids[id] != "rides" {
			t.Errorf("%v of what could not be stored in its place", id)
		}
	}
	for id := range idsOf(t, d, "rides", time.Hour) {
		if ids[id] != "" {
			t.Errorf("%v of a hub made anew", id)
		}
	}
}

// idsOf are those that messages of a folder are sent with, if they were enqueued so much later.
func idsOf(t *testing.T, d selection.Store, folder string, later time.Duration) map[any]bool {
	t.Helper()
	ids := map[any]bool{}
	sel := selection.Selection{Folder: folder}
	for b, err := range sel.Blobs(t.Context(), d) {
		if err != nil {
			t.Fatal(err)
		}
		index := int64(0)
		for m, err := range sel.Records(t.Context(), d, b) {
			if err != nil {
				t.Fatal(err)
			}
			if !m.EnqueuedTime.IsZero() {
				m.EnqueuedTime = m.EnqueuedTime.Add(later)
			}
			sent := (&address{}).restore(&b, index, m, func(Change) {})
			ids[sent.ID] = true
			index++
		}
	}
	return ids
}

// Events of Event Grid in one blob keep their ids whichever of them are selected.
func TestNewIDsOfEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t, emulator.Options{})
	d := s.stored("was")
	var body []byte
	for _, minute := range []string{"01", "02"} {
		body = withMetadata.Append(body, &message.Message{Body: message.Body{Kind: message.JSON, JSON: []byte("1")}, Properties: map[string]any{"topic": "/s", "id": "event " + minute, "eventTime": "2026-03-09T04:" + minute + ":00Z"}})
	}
	e := record.Event{Source: "/s", ID: "event 01", Count: 2, Bytes: int64(len(body)), Run: "test", Content: strings.Repeat("0", 32)}
	if _, err := d.Create(t.Context(), record.EventName("grid", e.Source, e.ID, time.Date(2026, 3, 9, 4, 1, 0, 0, time.UTC)), body, e.Metadata()); err != nil {
		t.Fatal(err)
	}
	split := time.Date(2026, 3, 9, 4, 1, 30, 0, time.UTC)
	var ids []any
	for _, sel := range []selection.Selection{{Folder: "grid", Until: split}, {Folder: "grid", From: split}} {
		for b, err := range sel.Blobs(t.Context(), d) {
			if err != nil {
				t.Fatal(err)
			}
			for m, err := range sel.Records(t.Context(), d, b) {
				if err != nil {
					t.Fatal(err)
				}
				sent := (&address{}).restore(&b, 0, m, func(Change) {})
				ids = append(ids, sent.ID)
			}
		}
	}
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("%q", ids)
	}
}
