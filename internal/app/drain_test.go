package app

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"persistor/emulator"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/config"
	"persistor/internal/pull"
	"persistor/internal/pull/eventhub"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// drains is a hub whose events a test puts there, and a drainer of it in this process.
type drains struct {
	*HubDrainer
	t   *testing.T
	hub *emulator.Emulator
	dir string
	run int
}

var day1 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newDrains(t *testing.T, h emulator.Hub) *drains {
	t.Helper()
	h.Name = hubName
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{h}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	d := &drains{t: t, hub: e, dir: t.TempDir()}
	d.HubDrainer = d.drainer(eventhub.DirCheckpoints(filepath.Join(d.dir, "checkpoints")))
	return d
}

func (d *drains) drainer(c eventhub.Checkpoints) *HubDrainer {
	d.t.Helper()
	blobs, err := store.OpenDir(filepath.Join(d.dir, "blobs"), true)
	if err != nil {
		d.t.Fatal(err)
	}
	h, err := eventhub.Connect(eventhub.Options{ConnectionString: d.hub.ConnectionString(), EventHub: hubName, Checkpoints: c, PrefetchBytes: 1 << 20})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { closeWithin(h.Close, time.Second) })
	return &HubDrainer{Hub: h, Draining: Draining{
		Store: blobs, Folder: hubName, Format: record.Format{Metadata: true},
		Limits: pull.Limits{Count: 100, Bytes: 1 << 20, Age: time.Minute}, BatchMemory: 8 << 20, Chunk: 50, Timeout: 20 * time.Second,
	}}
}

// put adds events to partition 0, a minute after the other.
func (d *drains) put(n int) {
	d.t.Helper()
	info, err := d.hub.Partition(hubName, "0")
	if err != nil {
		d.t.Fatal(err)
	}
	for i := range n {
		sequence := info.Last + 1 + int64(i)
		err := d.hub.Put(hubName, "0", emulator.Event{Body: []byte(strconv.FormatInt(sequence, 10)), Enqueued: day1.Add(time.Duration(sequence) * time.Minute)})
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// drain drains partition 0 and expects an end.
func (d *drains) drain(want work.Ended) work.Source {
	d.t.Helper()
	d.run++
	report := d.Drain(d.t.Context(), work.Unit{Run: "run" + strconv.Itoa(d.run), Partitions: []string{"0"}, OwnerLevel: int64(d.run)})
	s := report.Sources[0]
	if s.Ended != want {
		d.t.Fatalf("ended %s, expected %s: %+v", s.Ended, want, s)
	}
	return s
}

// stored reads all blobs' spans, which have to follow on from each other.
func (d *drains) stored() (spans []record.Span) {
	d.t.Helper()
	for b, err := range d.Store.List(d.t.Context(), "") {
		if err != nil {
			d.t.Fatal(err)
		}
		s, err := record.ParseSpan(b.Metadata)
		if err != nil {
			d.t.Fatal(err)
		}
		if n := len(spans); n > 0 && (s.After != spans[n-1].Last || s.First <= spans[n-1].Last) {
			d.t.Errorf("blob %s is after %d, but the one before ends at %d", b.Name, s.After, spans[n-1].Last)
		}
		spans = append(spans, s)
	}
	return spans
}

func TestRunsGoOnFromCheckpoints(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	if s := d.drain(work.Drained); s.Messages != 0 || s.Checkpoint != -1 {
		t.Errorf("an empty partition: %+v", s)
	}
	for round := range int64(3) {
		d.put(120)
		s := d.drain(work.Drained)
		if s.Messages != 120 || s.Blobs != 2 || s.Checkpoint != 120*(round+1)-1 || s.Backlog != 0 || s.AlreadyStored != 0 {
			t.Errorf("round %d: %+v", round, s)
		}
	}
	if s := d.drain(work.Drained); s.Messages != 0 || s.Checkpoint != 359 {
		t.Errorf("nothing new: %+v", s)
	}
	if spans := d.stored(); len(spans) != 6 || spans[0].After != -1 || spans[5].Last != 359 {
		t.Errorf("%+v", spans)
	}
}

// Checkpoints that are gone, or somebody else's, cost time, not truth.
func TestLostAndForeignCheckpoints(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(250)
	d.drain(work.Drained)

	d.HubDrainer = d.drainer(eventhub.DirCheckpoints(t.TempDir())) // none
	d.put(10)
	if s := d.drain(work.Drained); s.Messages != 10 || s.AlreadyStored != 0 { // what is stored isn't received
		t.Errorf("without checkpoints: %+v", s)
	}
	foreign := eventhub.DirCheckpoints(t.TempDir())
	d.HubDrainer = d.drainer(foreign)
	at, offset := int64(133), "133"
	err := foreign.SetCheckpoint(t.Context(), azeventhubs.Checkpoint{
		FullyQualifiedNamespace: d.hub.Address(), EventHubName: hubName, ConsumerGroup: "$Default", PartitionID: "0", SequenceNumber: &at, Offset: &offset,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := d.drain(work.Drained); s.Messages != 0 || s.AlreadyStored != 126 || s.Checkpoint != 259 {
		t.Errorf("from within a blob: %+v", s)
	}
	d.stored()
}

func TestStartPositions(t *testing.T) {
	for _, test := range []struct {
		name     string
		from     *work.From
		messages int64
	}{
		{"none", nil, 100},
		{"earliest", &work.From{Position: "earliest"}, 100},
		{"latest", &work.From{Position: "latest"}, 0},
		{"a time", &work.From{Position: "time", Time: day1.Add(40 * time.Minute)}, 60},
		{"a time between two events", &work.From{Position: "time", Time: day1.Add(39*time.Minute + time.Second)}, 60},
		{"a time before the first event", &work.From{Position: "time", Time: day1.Add(-time.Hour)}, 100},
		{"a time after the last event", &work.From{Position: "time", Time: day1.Add(1000 * time.Hour)}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDrains(t, emulator.Hub{})
			d.put(100)
			d.From = test.from
			began := time.Now()
			if s := d.drain(work.Drained); s.Messages != test.messages || s.Checkpoint != 99 || len(s.LostToRetention) > 0 {
				t.Errorf("%+v", s)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v: it waited for events that can't come", took)
			}
			// The position is of the first run alone.
			d.put(5)
			if s := d.drain(work.Drained); s.Messages != 5 {
				t.Errorf("second run: %+v", s)
			}
			d.stored()
		})
	}
}

func TestRetentionIsReported(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(100)
	d.drain(work.Drained)
	d.put(100)
	trim := func(before int64) {
		t.Helper()
		if err := d.hub.Trim(hubName, "0", before); err != nil {
			t.Fatal(err)
		}
	}
	trim(150)
	s := d.drain(work.Drained)
	if fmt.Sprint(s.LostToRetention) != "[{100 149}]" || s.Messages != 50 {
		t.Errorf("a part is lost: %+v", s)
	}
	d.put(30)
	trim(230)
	s = d.drain(work.Drained)
	if fmt.Sprint(s.LostToRetention) != "[{200 229}]" || s.Checkpoint != 229 {
		t.Errorf("all is lost: %+v", s)
	}
	if s = d.drain(work.Drained); len(s.LostToRetention) > 0 {
		t.Errorf("reported again: %+v", s)
	}
	d.put(10)
	if s = d.drain(work.Drained); s.Messages != 10 || len(s.LostToRetention) > 0 {
		t.Errorf("after that: %+v", s)
	}

	// A partition that was trimmed before the first run has lost nothing that was promised.
	fresh := newDrains(t, emulator.Hub{})
	fresh.put(100)
	if err := fresh.hub.Trim(hubName, "0", 60); err != nil {
		t.Fatal(err)
	}
	if s := fresh.drain(work.Drained); s.Messages != 40 || len(s.LostToRetention) > 0 {
		t.Errorf("first run: %+v", s)
	}
}

func TestHubMadeAnew(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(100)
	d.drain(work.Drained)

	again := newDrains(t, emulator.Hub{})
	again.put(10)
	at, offset := int64(99), "99"
	err := eventhub.DirCheckpoints(filepath.Join(again.dir, "checkpoints")).SetCheckpoint(t.Context(), azeventhubs.Checkpoint{
		FullyQualifiedNamespace: again.hub.Address(), EventHubName: hubName, ConsumerGroup: "$Default", PartitionID: "0", SequenceNumber: &at, Offset: &offset,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := again.drain(work.Failed); !strings.Contains(s.Error, "STORE_PARAM") {
		t.Error(s.Error)
	}
}

// A blob ends with its day, and its name has the day of what it holds.
func TestBlobsEndWithTheirDay(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.Limits.Count = 10_000
	d.put(24 * 60 * 2)
	d.drain(work.Drained)
	var names []string
	for b, err := range d.Store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, b.Name)
	}
	want := []string{
		"telemetry/2026/11/24/0000-00000000000000000000.txt",
		"telemetry/2026/11/25/0000-00000000000000000720.txt",
		"telemetry/2026/11/26/0000-00000000000000002160.txt",
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("%v, expected %v", names, want)
	}
}

// A run whose partition a newer one takes over ends at once and well; so does one that comes after it.
func TestSuperseded(t *testing.T) {
	d := newDrains(t, emulator.Hub{Synthetic: &emulator.Synthetic{Events: 3_000_000}})
	d.Timeout = 6 * time.Second
	unit := func(level int64) work.Unit {
		return work.Unit{Run: fmt.Sprintf("level%d", level), Partitions: []string{"0"}, OwnerLevel: level}
	}
	older := make(chan work.Report, 1)
	go func() { older <- d.Drain(context.Background(), unit(5)) }()
	waitFor(t, "the older run to read", func() bool {
		all := d.Progress()
		return len(all) == 1 && all[0].Received > 0
	})
	newer := make(chan work.Report, 1)
	go func() { newer <- d.Drain(context.Background(), unit(7)) }()
	if r := <-older; r.Sources[0].Ended != work.Superseded || r.Status != "ok" {
		t.Errorf("the older run: %+v", r)
	}
	began := time.Now()
	if r := d.Drain(t.Context(), unit(6)); r.Sources[0].Ended != work.Superseded || time.Since(began) > 3*time.Second {
		t.Errorf("the one that comes too late, after %v: %+v", time.Since(began), r)
	}
	if r := <-newer; r.Sources[0].Ended != work.Deadline {
		t.Errorf("the newer run: %+v", r)
	}
	d.stored()
}

func TestIdleEnds(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(10)
	d.Idle = 100 * time.Millisecond
	d.hub.Delay(200 * time.Millisecond) // of every frame, so that the first event comes later than that
	if s := d.drain(work.Idle); s.Messages != 0 || s.Backlog != 10 {
		t.Errorf("%+v", s)
	}
	d.hub.Delay(0)
	if s := d.drain(work.Drained); s.Messages != 10 {
		t.Errorf("%+v", s)
	}
}

// A batch that doesn't fill becomes a blob when it is old enough, while more may come.
func TestBatchAge(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(10)
	d.Limits.Age = 200 * time.Millisecond
	d.Chunk = 1
	d.hub.Delay(100 * time.Millisecond)
	if s := d.drain(work.Drained); s.Messages != 10 {
		t.Errorf("%+v", s)
	}
	d.stored()
}

// The checkpoints in Blob Storage are those of the SDKs: KEDA's blobMetadata strategy finds them, and one
// that a program in another language left is gone on from. All of them have names in lower case.
func TestCheckpointsAreTheSDKs(t *testing.T) {
	connection := azuritetest.Run(t)
	at := config.Checkpoint{Container: azuritetest.Container(t), Connection: config.Connection{ConnectionString: config.Secret(connection)}}
	kept, err := openCheckpoints(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientFromConnectionString(connection, at.Container, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := newDrains(t, emulator.Hub{})
	d.HubDrainer = d.drainer(kept)
	d.put(120)
	name := d.hub.Address() + "/" + hubName + "/$default/checkpoint/0"
	left := map[string]*string{"sequencenumber": to.Ptr("49"), "offset": to.Ptr("0")}
	if _, err := client.NewBlockBlobClient(name).Upload(t.Context(), streaming.NopCloser(strings.NewReader("")), &blockblob.UploadOptions{Metadata: left}); err != nil {
		t.Fatal(err)
	}
	if report := d.drain(work.Drained); report.Messages != 70 {
		t.Errorf("%d messages are stored, want the 70 behind the checkpoint", report.Messages)
	}

	properties, err := client.NewBlobClient(name).GetProperties(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	metadata := map[string]string{}
	for key, value := range properties.Metadata {
		metadata[strings.ToLower(key)] = *value
	}
	info, err := d.hub.Partition(hubName, "0")
	if err != nil {
		t.Fatal(err)
	}
	if metadata["sequencenumber"] != "119" || metadata["offset"] != info.LastOffset {
		t.Errorf("metadata %v, expected sequencenumber 119 and offset %s", metadata, info.LastOffset)
	}
}

// Closing comes to an end though the hub is gone, and with it the client's reasons to go on.
func TestCloseWithoutHub(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(10)
	d.drain(work.Drained)
	if err := d.hub.Close(); err != nil {
		t.Fatal(err)
	}
	program := &Program{close: d.Close}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	_ = program.Close(ctx)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}

	stuck := &Program{close: func(context.Context) error { select {} }}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := stuck.Close(ctx); err == nil {
		t.Error("a close that can't end has ended well")
	}
}
