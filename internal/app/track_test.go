package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/api"
	"persistor/internal/ledger"
	"persistor/internal/store"
	"persistor/internal/work"
)

// keepRuns gives a drainer a ledger in its storage, with a run that is under way.
func (d *drains) keepRuns(run string) *ledger.Ledger {
	d.t.Helper()
	d.Runs = ledger.New(d.Store.(*store.Dir), "namespace/hub/group", ledger.Retention{})
	err := d.Runs.Create(d.t.Context(), ledger.Run{ID: run, Kind: ledger.Backfill, Source: "namespace/hub/group", State: ledger.Running, Wave: 1, Created: time.Now()})
	if err != nil {
		d.t.Fatal(err)
	}
	return d.Runs
}

// Who tracks a unit says how far it is, and stops when the run is cancelled: what it holds is stored, and no more.
func TestTrackedCellsAreCancelled(t *testing.T) {
	d := newDrains(t, emulator.Hub{Synthetic: &emulator.Synthetic{Events: 30_000_000, BodySize: 60}})
	d.Timeout = time.Minute
	d.Limits.Count, d.Chunk = 500, 500
	const run = "20261124T040509Z-3f9a1c"
	runs := d.keepRuns(run)
	unit := cells(run, work.Range{From: 0, To: 262_143}, work.Range{From: 524_288, To: 786_431}, work.Range{From: 1_048_576, To: 1_310_719})
	unit.Tracked, unit.Unit = true, 3
	d.hub.Delay(5 * time.Millisecond) // of every frame, so that it isn't done too soon
	reports := make(chan work.Report, 1)
	go func() { reports <- d.Drain(context.Background(), unit) }()
	waitFor(t, "the ledger to tell of progress", func() bool {
		all, err := runs.Progress(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		return len(all) == 1 && all[0].Unit == 3 && len(all[0].Rows) >= 2 && all[0].Rows[1].Stored > 0 &&
			all[0].Rows[1].Cell.From == 524_288 && all[0].Rows[1].At == 524_288+all[0].Rows[1].Stored-1
	})
	if _, err := runs.Update(t.Context(), run, func(r *ledger.Run) error { r.CancelRequested = time.Now(); return nil }); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	report := <-reports
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	var stored int64
	for _, s := range report.Sources[:2] {
		if s.Ended != work.Cancelled || s.Checkpoint-s.Cell.From+1 != s.Messages || s.Messages == 0 || s.Backlog == 0 {
			t.Errorf("%+v", s)
		}
		stored += s.Messages
	}
	var held int64
	for b, err := range d.Store.List(t.Context(), hubName+"/") {
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		if _, err := fmt.Sscan(b.Metadata["count"], &n); err != nil {
			t.Fatal(err)
		}
		held += n
	}
	if held != stored {
		t.Errorf("%d messages are stored, reported are %d", held, stored)
	}
	// An attempt that comes later doesn't begin.
	if s := d.Drain(t.Context(), unit).Sources[0]; s.Ended != work.Cancelled || s.Messages > 20_000 {
		t.Errorf("another attempt: %+v", s)
	}
}

// A ledger that can't be written keeps nobody from draining, and is told of once.
func TestTrackingThatFails(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(1000)
	d.Runs = ledger.New(brokenDocuments{d.Store.(*store.Dir)}, "namespace/hub/group", ledger.Retention{})
	unit := cells("20261124T040509Z-3f9a1c", work.Range{From: 0, To: 999})
	unit.Tracked = true
	var log bytes.Buffer
	d.Log = slog.New(slog.NewTextHandler(&log, nil))
	tracked := &tracker{Draining: &d.Draining, unit: unit}
	for range 3 {
		if tracked.tell(t.Context()) {
			t.Error("the unit is to stop")
		}
	}
	if n := strings.Count(log.String(), "permission denied"); n != 1 {
		t.Errorf("the log tells of it %d times: %s", n, &log)
	}
	if s := d.Drain(t.Context(), unit).Sources[0]; s.Ended != work.Drained || s.Messages != 1000 {
		t.Errorf("%+v", s)
	}
}

// brokenDocuments are in a directory that can't be read.
type brokenDocuments struct{ *store.Dir }

func (brokenDocuments) Read(context.Context, string) ([]byte, string, error) {
	return nil, "", fmt.Errorf("read %s: permission denied", filepath.Join("somewhere", "else"))
}

// Receivers of Service Bus are tracked and cancelled in the same way, in a worker that finds the ledger by its own settings.
func TestTrackedReceiversAreCancelled(t *testing.T) {
	s := newQueueSite(t, emulator.Queue{Synthetic: &emulator.SyntheticQueue{Messages: 5_000_000, BodySize: 200}})
	d := s.drainer(t)
	const run = "20261124T040509Z-3f9a1c"
	err := d.Runs.Create(t.Context(), ledger.Run{ID: run, Kind: ledger.Invoke, State: ledger.Running, Wave: 1, Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	worker := start(t, "worker", s.settings)
	answered := make(chan work.Report, 1)
	go func() {
		var report work.Report
		status, text, err := tryCall(worker.url+"/api/pull", `{"run":"`+run+`","unit":1,"tasks":2,"tracked":true}`)
		if err == nil {
			err = json.Unmarshal([]byte(text), &report)
		}
		if err != nil || status != 200 { // it is done: no other worker is to take it on
			t.Errorf("status %d, error %v: %s", status, err, text)
		}
		answered <- report
	}()
	waitFor(t, "the ledger to tell of progress", func() bool {
		all, err := d.Runs.Progress(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		return len(all) == 1 && all[0].Unit == 1 && len(all[0].Rows) == 2 && all[0].Rows[1].Stored > 0 && *all[0].Rows[1].Receiver == 1 && all[0].Rows[1].At == -1
	})
	if _, err := d.Runs.Update(t.Context(), run, func(r *ledger.Run) error { r.CancelRequested = time.Now(); return nil }); err != nil {
		t.Fatal(err)
	}
	report := <-answered
	info, err := s.bus.Queue(s.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range report.Sources {
		if row.Ended != work.Cancelled {
			t.Errorf("%+v", row)
		}
	}
	if report.Messages == 0 || info.Completed != report.Messages {
		t.Errorf("%d messages stored, %d completed", report.Messages, info.Completed)
	}
}

// A caller that hangs up ends its unit: nobody waits for it any more, and another attempt may be under way.
func TestCallersThatHangUpEndTheirUnits(t *testing.T) {
	s := newSite(t, 1, 1_000_000)
	s.hub.Delay(5 * time.Millisecond) // of every frame, so that it isn't done too soon
	worker := start(t, "worker", s.settings)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	body, err := json.Marshal(cells("r", work.Range{From: 0, To: 262_143}))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, worker.url+"/api/pull", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(req)
		gone <- err
	}()
	busy := func() api.Status {
		var status api.Status
		call(t, worker.url+"/api/status", "", &status)
		return status
	}
	waitFor(t, "the cell to be read", func() bool {
		status := busy()
		return status.Busy == 1 && len(status.Sources) == 1 && status.Sources[0].Received > 0
	})
	hangUp()
	if err := <-gone; err == nil {
		t.Fatal("the call was answered")
	}
	waitFor(t, "the unit to end", func() bool { return busy().Busy == 0 })
}
