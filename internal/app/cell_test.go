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

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/emulator"
	"persistor/internal/api"
	"persistor/internal/ledger"
	"persistor/internal/pull"
	"persistor/internal/pull/eventhub"
	"persistor/internal/store"
	"persistor/internal/work"
)

// cells is a unit of parts of partition 0.
func cells(run string, ranges ...work.Range) work.Unit {
	unit := work.Unit{Run: run, Tasks: 2}
	for _, r := range ranges {
		unit.Cells = append(unit.Cells, work.Cell{Partition: "0", Range: r})
	}
	return unit
}

// drainCells drains parts of partition 0 as one unit, and expects an end of all of them.
func (d *drains) drainCells(want work.Ended, ranges ...work.Range) []work.Source {
	d.t.Helper()
	report := d.Drain(d.t.Context(), cells("cells", ranges...))
	for i, s := range report.Sources {
		if s.Ended != want || s.Cell == nil || *s.Cell != ranges[i] || s.Partition != "0" {
			d.t.Fatalf("ended %s, expected %s: %+v", s.Ended, want, s)
		}
	}
	return report.Sources
}

// sent is how many events have gone over the wire.
func (d *drains) sent() int64 {
	d.t.Helper()
	events, bytes, err := d.hub.Sent(hubName, "0")
	if err != nil || bytes < events {
		d.t.Fatalf("%d events of %d bytes, error %v", events, bytes, err)
	}
	return events
}

// forget loses the checkpoints.
func (d *drains) forget() { d.HubDrainer = d.drainer(eventhub.DirCheckpoints(d.t.TempDir())) }

// Cells end where they should, whatever the source holds behind them, and write no checkpoint.
func TestCellsEndWhereTheyShould(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(1000)
	rows := d.drainCells(work.Drained, work.Range{From: 0, To: 299}, work.Range{From: 300, To: 449})
	for i, want := range []int64{300, 150} {
		if s := rows[i]; s.Messages != want || s.Checkpoint != s.Cell.To || s.Offset == "" || s.Backlog != 0 {
			t.Errorf("%+v", s)
		}
	}
	if spans := d.stored(); spans[len(spans)-1].Last != 449 {
		t.Errorf("stored up to %d", spans[len(spans)-1].Last)
	}
	partitions, err := d.Hub.Partitions(t.Context())
	if err != nil || partitions[0].Checkpoint != nil {
		t.Errorf("checkpoint %v, error %v", partitions[0].Checkpoint, err)
	}
	// A plain run finds them stored, and goes on behind.
	if s := d.drain(work.Drained); s.Messages != 550 || s.AlreadyStored != 0 {
		t.Errorf("%+v", s)
	}
	d.stored()

	if rows := d.drainCells(work.Failed, work.Range{From: 990, To: 1000}); !strings.Contains(rows[0].Error, "its last is 999") {
		t.Errorf("behind the end: %+v", rows[0])
	}
}

// A cell whose turn doesn't come says what it would have been.
func TestCellsWithoutATurn(t *testing.T) {
	d := newDrains(t, emulator.Hub{Synthetic: &emulator.Synthetic{Events: 3_000_000}})
	d.Timeout = 3 * time.Second
	unit := cells("late", work.Range{From: 0, To: 262_143}, work.Range{From: 262_144, To: 524_287})
	unit.Tasks = 1
	d.hub.Delay(20 * time.Millisecond) // of every frame
	report := d.Drain(t.Context(), unit)
	for i, s := range report.Sources {
		if s.Ended != work.Deadline || s.Backlog != s.Cell.To-s.Checkpoint || s.Checkpoint < s.Cell.From-1 {
			t.Errorf("cell %d: %+v", i, s)
		}
	}
	if s := report.Sources[1]; s.Checkpoint != 262_143 || s.Messages != 0 {
		t.Errorf("the second one: %+v", s)
	}
}

// What is stored already isn't received again: neither by a cell nor by a run whose checkpoint is lost, and neither
// where it is at the beginning nor further on, over as many days as it may be.
func TestStoredStretchesAreNotReceived(t *testing.T) {
	// Two days and a half: 50,000 events, one every four seconds.
	newSite := func(t *testing.T) *drains {
		d := newDrains(t, emulator.Hub{Synthetic: &emulator.Synthetic{Events: 50_000, BodySize: 60, First: day1, Interval: 4 * time.Second}})
		d.Limits.Count, d.Chunk, d.Timeout = 1000, 1000, time.Minute
		return d
	}
	const wasted = 10_000 // what may be received ahead each time that the source is moved: two batches, and what the client has
	for name, test := range map[string]struct {
		stored work.Range // at first
		drain  func(d *drains) work.Source
		moved  int64 // how often
		stores int64
	}{
		"a cell from its beginning on": {
			work.Range{From: 0, To: 39_999}, func(d *drains) work.Source { return d.drainCells(work.Drained, work.Range{From: 0, To: 49_999})[0] }, 0, 10_000,
		},
		"all of a cell": {
			work.Range{From: 0, To: 49_999}, func(d *drains) work.Source { return d.drainCells(work.Drained, work.Range{From: 0, To: 44_999})[0] }, 0, 0,
		},
		"a stretch within a cell": {
			work.Range{From: 5000, To: 44_999}, func(d *drains) work.Source { return d.drainCells(work.Drained, work.Range{From: 0, To: 49_999})[0] }, 1, 10_000,
		},
		"without a checkpoint": {
			work.Range{From: 0, To: 44_999}, func(d *drains) work.Source { d.forget(); return d.drain(work.Drained) }, 0, 5000,
		},
		"from an older checkpoint": {
			work.Range{From: 0, To: 44_999}, func(d *drains) work.Source {
				if err := d.Hub.SetCheckpoint(d.t.Context(), "0", pull.Mark{SequenceNumber: 1000, Offset: "1024000"}); err != nil {
					d.t.Fatal(err)
				}
				return d.drain(work.Drained)
			}, 1, 5000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSite(t)
			d.drainCells(work.Drained, test.stored)
			before := d.sent()
			s := test.drain(d)
			if s.Messages != test.stores || s.Backlog != 0 || len(s.LostToRetention) > 0 {
				t.Errorf("%+v", s)
			}
			if received := d.sent() - before; received > test.stores+2+test.moved*wasted {
				t.Errorf("%d events were sent for %d that were not stored", received, test.stores)
			}
			if spans := d.stored(); s.Cell == nil && spans[len(spans)-1].Last != 49_999 {
				t.Errorf("stored up to %d", spans[len(spans)-1].Last)
			}
		})
	}
}

// A hub that was made anew has the numbers of the old one: what that one stored is neither passed over nor written over.
func TestCellsOfAHubMadeAnew(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(300)
	d.drainCells(work.Drained, work.Range{From: 0, To: 299})

	again := newDrains(t, emulator.Hub{})
	again.dir = d.dir
	again.HubDrainer = again.drainer(eventhub.DirCheckpoints(t.TempDir()))
	for i := range 300 { // on the same day
		if err := again.hub.Put(hubName, "0", emulator.Event{Body: []byte("new"), Enqueued: day1.Add(10*time.Hour + time.Duration(i)*time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	if rows := again.drainCells(work.Failed, work.Range{From: 0, To: 299}); !strings.Contains(rows[0].Error, "made anew") || rows[0].Checkpoint != -1 {
		t.Errorf("%+v", rows[0])
	}
	// Where the new one's first blobs are there, the old one's behind them are none of the chain.
	fresh := newDrains(t, emulator.Hub{})
	fresh.put(300)
	fresh.Folder = "other"
	fresh.drainCells(work.Drained, work.Range{From: 100, To: 299})
	fresh.hub = again.hub
	fresh.HubDrainer = fresh.drainer(eventhub.DirCheckpoints(t.TempDir()))
	fresh.Folder = "other"
	fresh.drainCells(work.Drained, work.Range{From: 0, To: 99})
	if rows := fresh.drainCells(work.Failed, work.Range{From: 50, To: 299}); rows[0].Checkpoint != 99 {
		t.Errorf("%+v", rows[0])
	}
}

// What the source has dropped of a cell, at its beginning, its end or as a whole, is reported, unless another loop has
// been in time to store it.
func TestCellsWithRetentionHoles(t *testing.T) {
	cell := work.Range{From: 100, To: 299}
	for name, test := range map[string]struct {
		stored         []work.Range
		trim           int64
		lost           string
		messages, last int64
	}{
		"none":                        {nil, 0, "[]", 200, 299},
		"the beginning":               {nil, 150, "[{100 149}]", 150, 299},
		"the beginning, partly kept":  {[]work.Range{{From: 110, To: 129}}, 150, "[{100 109} {130 149}]", 150, 299},
		"all":                         {nil, 350, "[{100 299}]", 0, 299},
		"all, partly kept":            {[]work.Range{{From: 100, To: 199}, {From: 250, To: 259}}, 350, "[{200 249} {260 299}]", 0, 299},
		"all, kept by others":         {[]work.Range{{From: 50, To: 399}}, 450, "[]", 0, 299},
		"all that there was":          {nil, 500, "[{100 299}]", 0, 299},
		"all that there was, kept":    {[]work.Range{{From: 0, To: 299}}, 500, "[]", 0, 299},
		"all that there was, in part": {[]work.Range{{From: 0, To: 199}}, 500, "[{200 299}]", 0, 299},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDrains(t, emulator.Hub{})
			d.put(500)
			for _, r := range test.stored {
				d.drainCells(work.Drained, r)
			}
			if err := d.hub.Trim(hubName, "0", test.trim); err != nil {
				t.Fatal(err)
			}
			s := d.drainCells(work.Drained, cell)[0]
			want := test.messages
			if want > 0 && test.trim > cell.From {
				want = cell.To - test.trim + 1
			}
			if fmt.Sprint(s.LostToRetention) != test.lost || s.Messages != want || s.Checkpoint != test.last || s.Backlog != 0 {
				t.Errorf("%+v", s)
			}
			// Again: nothing is stored twice.
			if s := d.drainCells(work.Drained, cell)[0]; s.Messages != 0 || s.Checkpoint != test.last {
				t.Errorf("again: %+v", s)
			}
		})
	}
}

// The same cell twice at once, as after an answer that was lost: each message is stored once.
func TestZombiesOfACell(t *testing.T) {
	d := newDrains(t, emulator.Hub{Synthetic: &emulator.Synthetic{Events: 20_000, BodySize: 60, First: day1, Interval: 5 * time.Second}})
	d.Timeout = time.Minute
	reports := make(chan work.Report, 3)
	for i := range 3 {
		drainer := d.drainer(eventhub.DirCheckpoints(t.TempDir()))
		drainer.Limits.Count, drainer.Chunk, drainer.Timeout = 300+i*150, 500, time.Minute
		go func() { reports <- drainer.Drain(t.Context(), cells("zombie", work.Range{From: 1000, To: 19_999})) }()
	}
	var messages int64
	for range 3 {
		r := <-reports
		if s := r.Sources[0]; s.Ended != work.Drained || s.Checkpoint != 19_999 {
			t.Errorf("%+v", s)
		}
		messages += r.Messages
	}
	if spans := d.stored(); messages != 19_000 || spans[0].First != 1000 || spans[len(spans)-1].Last != 19_999 {
		t.Errorf("%d messages are stored, from %d to %d", messages, spans[0].First, spans[len(spans)-1].Last)
	}
}

// A plain run takes a partition over from the readers of its cells, and none gets in beside it.
func TestPlainRunsSupersedeCells(t *testing.T) {
	d := newDrains(t, emulator.Hub{Synthetic: &emulator.Synthetic{Events: 3_000_000}})
	d.Timeout = 6 * time.Second
	reports := make(chan work.Report, 1)
	go func() {
		reports <- d.Drain(context.Background(), cells("cells", work.Range{From: 262_144, To: 524_287}))
	}()
	waitFor(t, "the cell to be read", func() bool {
		all := d.Progress()
		return len(all) == 1 && all[0].Received > 0 && all[0].Cell.From == 262_144
	})
	ctx, stop := context.WithCancel(t.Context())
	plain := make(chan work.Report, 1)
	go func() { plain <- d.Drain(ctx, work.Unit{Run: "plain", Partitions: []string{"0"}, OwnerLevel: 7}) }()
	if r := <-reports; r.Sources[0].Ended != work.Superseded || r.Status != "ok" {
		t.Errorf("%+v", r.Sources[0])
	}
	d.drainCells(work.Superseded, work.Range{From: 524_288, To: 600_000})
	stop()
	<-plain
}

// A sixth reader waits until one of the five has gone, and says why it can't begin where none goes.
func TestCellsWaitForTheirTurnAmongReaders(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(100)
	client, err := azeventhubs.NewConsumerClientFromConnectionString(d.hub.ConnectionString(), hubName, azeventhubs.DefaultConsumerGroup, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWithin(client.Close, time.Second) })
	earliest := true
	var readers []*azeventhubs.PartitionClient
	for range 5 {
		r, err := client.NewPartitionClient("0", &azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{Earliest: &earliest}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReceiveEvents(t.Context(), 1, nil); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	d.Timeout = 3 * time.Second
	if rows := d.drainCells(work.Failed, work.Range{From: 0, To: 99}); !strings.Contains(rows[0].Error, "five receivers") || rows[0].Backlog != 100 {
		t.Errorf("%+v", rows[0])
	}
	d.Timeout = 20 * time.Second
	rows := make(chan work.Source, 1)
	go func() { rows <- d.Drain(t.Context(), cells("waits", work.Range{From: 0, To: 99})).Sources[0] }()
	waitFor(t, "the cell to be begun", func() bool { return len(d.Progress()) == 1 })
	if err := readers[2].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := <-rows; s.Ended != work.Drained || s.Messages != 100 {
		t.Errorf("%+v", s)
	}
}

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
