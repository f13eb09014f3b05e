package replay

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/app"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/selection"
	"persistor/internal/store"
	"persistor/internal/work"
)

// site is an emulated namespace with entities that messages come from and go to, and a directory in which they are
// stored.
type site struct {
	t   testing.TB
	bus *emulator.Emulator
	dir string
}

func newSite(t testing.TB, o emulator.Options) *site {
	t.Helper()
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return &site{t: t, bus: e, dir: t.TempDir()}
}

func (s *site) connection() config.Connection {
	return config.Connection{ConnectionString: config.Secret(s.bus.ConnectionString())}
}

func (s *site) toHub(name string) publish.Producer {
	s.t.Helper()
	return s.producer(publish.ToHub(config.Hub{Connection: s.connection(), Name: name}))
}

func (s *site) toQueue(name string) publish.Producer {
	s.t.Helper()
	return s.producer(publish.ToQueue(config.Queue{Connection: s.connection(), Name: name}))
}

func (s *site) producer(p publish.Producer, err error) publish.Producer {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// send sends messages as a replay does.
func (s *site) send(to publish.Producer, messages ...publish.Message) {
	s.t.Helper()
	if _, err := publish.Send(s.t.Context(), to, slices.Values(messages), publish.Options{}); err != nil {
		s.t.Fatal(err)
	}
}

// worker are a worker's settings, to store into a directory of that name.
func (s *site) worker(into string, more map[string]string) config.Worker {
	s.t.Helper()
	settings := map[string]string{
		"PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + filepath.ToSlash(s.dir), "PERSISTOR_CONTAINER_NAME": into + "-blobs",
		"PERSISTOR_CREATE_CONTAINER": "TRUE", "EVENT_HUB_CHECKPOINT_CONTAINER": into + "-checkpoints",
		"GET_METADATA": "TRUE", "LISTEN_ADDRESS": "127.0.0.1:0",
		"EVENT_HUB_CONN_STRING": s.bus.ConnectionString(), "SERVICE_BUS_CONNECTION_STRING": s.bus.ConnectionString(),
	}
	for name, value := range more {
		settings[name] = value
	}
	c, err := config.ReadWorker(func(name string) (string, bool) { v, ok := settings[name]; return v, ok })
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// drainHub stores what a hub holds, and returns where.
func (s *site) drainHub(hub, into string, more map[string]string) *store.Dir {
	s.t.Helper()
	settings := map[string]string{"EVENT_HUB_NAME": hub}
	for name, value := range more {
		settings[name] = value
	}
	d, err := app.NewHubDrainer(s.t.Context(), s.worker(into, settings), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close(context.Background())
	var partitions []string
	for n := 0; ; n++ {
		if _, err := s.bus.Partition(hub, strconv.Itoa(n)); err != nil {
			break
		}
		partitions = append(partitions, strconv.Itoa(n))
	}
	s.drained(d.Drain(s.t.Context(), work.Unit{Run: "test", Partitions: partitions, OwnerLevel: 1}))
	return s.stored(into)
}

// drainQueue stores what a queue, or a subscription as "topic/subscription", holds.
func (s *site) drainQueue(name, into string, more map[string]string, sessions ...string) *store.Dir {
	s.t.Helper()
	settings := map[string]string{"SERVICE_TYPE": "SERVICE_BUS_PULL", "SERVICE_BUS_QUEUE_NAME": name, "SERVICE_BUS_IDLE_TIMEOUT": "3"}
	if sessions != nil {
		settings["SERVICE_BUS_SESSIONS"] = "TRUE"
	}
	for name, value := range more {
		settings[name] = value
	}
	d, err := app.NewQueueDrainer(s.t.Context(), s.worker(into, settings), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close(context.Background())
	s.drained(d.Drain(s.t.Context(), work.Unit{Run: "test", Tasks: 1, Sessions: sessions}))
	return s.stored(into)
}

func (s *site) drained(report work.Report) {
	s.t.Helper()
	for _, row := range report.Sources {
		if !row.Ended.OK() {
			s.t.Fatalf("%s ended %s: %s", row.Name(), row.Ended, row.Error)
		}
	}
}

func (s *site) stored(in string) *store.Dir {
	s.t.Helper()
	d, err := store.OpenDir(filepath.Join(s.dir, in+"-blobs"), true)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { d.Close() })
	return d
}

// file is a file for progress.
func (s *site) file(name string) *File {
	s.t.Helper()
	f, err := OpenFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { f.Close() })
	return f
}

// replay replays, and expects so many messages to be sent.
func (s *site) replay(from selection.Store, to publish.Producer, task Task, options Options, want int64) Result {
	s.t.Helper()
	result, err := Run(within(s.t), from, to, task, s.file(fmt.Sprintf("progress-%d.json", time.Now().UnixNano())), options)
	if err != nil {
		s.t.Fatal(err)
	}
	if result.Sent != want || !result.Complete || result.Uncertain != 0 || result.Unreadable != 0 {
		s.t.Fatalf("%+v, expected %d messages to be sent", result, want)
	}
	return result
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// messages are the messages that are stored, in the order of the list.
func (s *site) messages(in selection.Store) (all []*message.Message) {
	s.t.Helper()
	for m, err := range stored(s.t.Context(), in) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func stored(ctx context.Context, in selection.Store) iter.Seq2[*message.Message, error] {
	return func(yield func(*message.Message, error) bool) {
		var all selection.Selection
		for b, err := range all.Blobs(ctx, in) {
			if err != nil {
				yield(nil, err)
				return
			}
			for m, err := range all.Records(ctx, in, b) {
				if !yield(m, err) {
					return
				}
			}
		}
	}
}
