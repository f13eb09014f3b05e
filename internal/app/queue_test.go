package app

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// queueSite is an emulated namespace, a folder for blobs, and the settings that a worker needs to drain one
// entity of it.
type queueSite struct {
	bus      *emulator.Emulator
	dir      string
	path     string // of the entity
	folder   string // of the blobs
	settings settings
}

// newQueueSite emulates a queue, called orders.
func newQueueSite(t testing.TB, q emulator.Queue, more ...string) *queueSite {
	t.Helper()
	q.Name = "orders"
	e, err := emulator.Start(emulator.Options{Queues: []emulator.Queue{q}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	dir := t.TempDir()
	s := &queueSite{bus: e, dir: dir, path: "orders", folder: "orders", settings: settings{
		"SERVICE_TYPE":                        "SERVICE_BUS_PULL",
		"SERVICE_BUS_CONNECTION_STRING":       e.ConnectionString(),
		"SERVICE_BUS_QUEUE_NAME":              "orders",
		"PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + filepath.ToSlash(dir),
		"PERSISTOR_CONTAINER_NAME":            "blobs",
		"PERSISTOR_CREATE_CONTAINER":          "TRUE",
		"GET_METADATA":                        "TRUE",
		"LISTEN_ADDRESS":                      "127.0.0.1:0",
		"LOG_LEVEL":                           "error",
	}}
	if q.Sessions {
		s.settings["SERVICE_BUS_SESSIONS"] = "TRUE"
	}
	s.settings = s.settings.with(more...)
	return s
}

// put adds messages, the n-th of which has the body "message n"; in sessions it deals them out in turn to
// so many.
func (s *queueSite) put(t testing.TB, from, n, sessions int) {
	t.Helper()
	all := make([]emulator.QueueMessage, n)
	for i := range all {
		all[i].Body = fmt.Appendf(nil, "message %d", from+i)
		if sessions > 0 {
			id := fmt.Sprintf("session %d", (from+i)%sessions)
			all[i].SessionID = &id
		}
	}
	if err := s.bus.PutMessages(s.path, all...); err != nil {
		t.Fatal(err)
	}
}

// drainer is a worker's, in this process.
func (s *queueSite) drainer(t testing.TB, more ...string) *QueueDrainer {
	t.Helper()
	all := s.settings.with(more...)
	c, err := config.ReadWorker(func(name string) (string, bool) { v, ok := all[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewQueueDrainer(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWithin(d.Close, time.Second) })
	return d
}

// drain drains with so many loops, and expects each to end so.
func drainQueue(t testing.TB, d *QueueDrainer, loops int, want work.Ended) work.Report {
	t.Helper()
	report := d.Drain(t.Context(), work.Unit{Run: "run", Tasks: loops})
	for _, row := range report.Sources {
		if row.Ended != want {
			t.Fatalf("%s ended %s, expected %s: %+v", row.Name(), row.Ended, want, row)
		}
	}
	return report
}

// blobs are what is stored.
func (s *queueSite) blobs(t testing.TB) (all []record.Holding, messages []*message.Message) {
	t.Helper()
	kept, err := store.Open(t.Context(), store.Options{
		Location: s.settings["PERSISTOR_STORAGE_CONNECTION_STRING"], Container: s.settings["PERSISTOR_CONTAINER_NAME"],
	})
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range kept.List(t.Context(), s.folder) {
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.ParseHolding(b.Metadata)
		if err != nil {
			t.Fatalf("%s: %v", b.Name, err)
		}
		all = append(all, h)
		content, err := kept.Open(t.Context(), b.Name)
		if err != nil {
			t.Fatal(err)
		}
		reader := record.NewReader(content, 256<<20)
		n := int64(0)
		for m, err := reader.Next(); m != nil || err == nil; m, err = reader.Next() {
			if err != nil {
				t.Fatalf("%s: %v", b.Name, err)
			}
			messages = append(messages, m)
			n++
		}
		if n != h.Held.Len() {
			t.Errorf("%s holds %d records, and says %d", b.Name, n, h.Held.Len())
		}
		content.Close()
	}
	return all, messages
}

// once fails the test unless every sequence number from 1 to n is stored exactly once.
func (s *queueSite) once(t testing.TB, n int) {
	t.Helper()
	_, messages := s.blobs(t)
	seen := map[int64]int{}
	for _, m := range messages {
		seen[m.SequenceNumber]++
		if want := fmt.Sprintf("message %d", m.SequenceNumber); string(slices.Concat(m.Body.Data...)) != want {
			t.Errorf("message %d: body %q", m.SequenceNumber, m.Body.Data)
		}
	}
	for number := range int64(n) {
		if c := seen[number+1]; c != 1 {
			t.Errorf("message %d is stored %d times", number+1, c)
		}
	}
	if len(seen) != n {
		t.Errorf("%d messages are stored, expected %d", len(seen), n)
	}
	kept, err := store.Open(t.Context(), store.Options{
		Location: s.settings["PERSISTOR_STORAGE_CONNECTION_STRING"], Container: s.settings["PERSISTOR_CONTAINER_NAME"],
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := audit.Run(t.Context(), kept, s.folder, audit.Expectation{Entities: map[string]record.Sequences{s.path: record.SequenceRange(1, int64(n))}})
	if err != nil || !report.Complete {
		t.Errorf("the audit does not hold: %v %+v", err, report)
	}
	if found, err := audit.Container(t.Context(), kept, audit.Scope{}, audit.Expectation{}); err != nil || !found.Complete || found.Messages != int64(n) {
		t.Errorf("names and metadata prove nothing: %v %+v", err, found)
	}
}

// empty fails the test unless the entity holds nothing more, locked or not.
func (s *queueSite) empty(t testing.TB) {
	t.Helper()
	info, err := s.bus.Queue(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Active != 0 || info.Locked != 0 {
		t.Errorf("%d messages are left, and %d are locked", info.Active, info.Locked)
	}
}

func TestQueueIsDrained(t *testing.T) {
	parallelUnlessShort(t)
	s := newQueueSite(t, emulator.Queue{}, "BATCH_COUNT=700")
	s.put(t, 1, 5000, 0)
	report := drainQueue(t, s.drainer(t), 3, work.Drained)
	if report.Messages != 5000 {
		t.Errorf("%+v", report)
	}
	s.once(t, 5000)
	s.empty(t)
	held, _ := s.blobs(t)
	for _, h := range held {
		if h.Unsettled || h.Entity != "orders" || h.Session != nil {
			t.Errorf("%+v", h)
		}
	}
	if int64(len(held)) != report.Blobs || len(held) < 8 {
		t.Errorf("%d blobs, reported %d", len(held), report.Blobs)
	}
}

func TestSessionsAreDrainedInOrder(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Sessions: true}, "BATCH_COUNT=30")
	s.put(t, 1, 4000, 40)
	report := drainQueue(t, s.drainer(t), 4, work.Drained)
	sessions := int64(0)
	for _, row := range report.Sources {
		sessions += row.Sessions
	}
	if report.Messages != 4000 || sessions != 40 {
		t.Errorf("%d sessions: %+v", sessions, report)
	}
	s.once(t, 4000)
	s.empty(t)
	_, messages := s.blobs(t)
	last := map[string]int64{}
	for _, m := range messages { // in the order of names
		if m.SessionID == nil {
			t.Fatalf("message %d has no session", m.SequenceNumber)
		}
		if m.SequenceNumber <= last[*m.SessionID] {
			t.Fatalf("session %s: %d comes after %d", *m.SessionID, m.SequenceNumber, last[*m.SessionID])
		}
		last[*m.SessionID] = m.SequenceNumber
	}
}

// hooked is a store that a test may interfere with.
type hooked struct {
	store.Store
	create func(name string, do func() (map[string]string, error)) (map[string]string, error)
	calls  atomic.Int64
}

func (h *hooked) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	h.calls.Add(1)
	return h.create(name, func() (map[string]string, error) { return h.Store.Create(ctx, name, body, metadata) })
}

// What was stored but not completed comes again, and is completed without being stored again, whatever
// batch it comes in. The mark of the blob goes when all of it is completed.
func TestRedeliveredMessagesAreNotStoredAgain(t *testing.T) {
	for _, deadletter := range []bool{false, true} {
		s := newQueueSite(t, emulator.Queue{LockDuration: 5 * time.Second})
		if deadletter {
			s.path, s.folder = "orders/$DeadLetterQueue", "orders/deadletter"
			s.settings = s.settings.with("SERVICE_BUS_SUBQUEUE=deadletter")
		}
		s.put(t, 1, 100, 0)
		d := s.drainer(t)
		h := &hooked{Store: d.Store}
		h.create = func(name string, do func() (map[string]string, error)) (map[string]string, error) {
			held, err := do()
			if h.calls.Load() == 1 { // all locks expire between storing and completing
				if _, err := s.bus.ExpireLocks(s.path); err != nil {
					t.Error(err)
				}
			}
			return held, err
		}
		d.Store = h
		// The batch is stored after half a lock, and the loop goes on. On a slow machine it comes several times.
		row := drainQueue(t, d, 1, work.Drained).Sources[0]
		if row.Messages != 100 || row.RedeliveryExpected < 100 || row.AlreadyStored < 100 || row.Blobs != 1 {
			t.Errorf("dead-letter %t: %+v", deadletter, row)
		}
		s.once(t, 100)
		s.empty(t)
		held, _ := s.blobs(t)
		for _, h := range held {
			if h.Unsettled {
				t.Errorf("dead-letter %t: still marked: %+v", deadletter, h)
			}
		}
	}
}

func TestPlainReceiverOfSessionsSaysWhatToSet(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Sessions: true}, "SERVICE_BUS_SESSIONS=FALSE")
	s.put(t, 1, 3, 1)
	report := drainQueue(t, s.drainer(t), 1, work.Failed)
	if text := report.Sources[0].Error; !strings.Contains(text, "SERVICE_BUS_SESSIONS=TRUE") || strings.Contains(text, "TrackingId") {
		t.Errorf("%s", text)
	}
	s = newQueueSite(t, emulator.Queue{}, "SERVICE_BUS_SESSIONS=TRUE")
	report = drainQueue(t, s.drainer(t), 1, work.Failed)
	if text := report.Sources[0].Error; !strings.Contains(text, "SERVICE_BUS_SESSIONS=FALSE") {
		t.Errorf("%s", text)
	}
}

// parallelUnlessShort has a test run beside others, but for the short form, which is the race detector's: it is slow,
// and what the test holds to a deadline is not to wait for others.
func parallelUnlessShort(t *testing.T) {
	t.Helper()
	if !testing.Short() {
		t.Parallel()
	}
}
