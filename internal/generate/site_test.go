package generate

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/functions"
	"persistor/internal/app"
	"persistor/internal/host/hosttest"
)

// runProgram runs one of the real programs, for the test binary is the handler of the apps that tests generate.
func runProgram(name string) int {
	programs := map[string]func(context.Context) int{
		"worker":  func(ctx context.Context) int { return app.Main(ctx, app.OpenWorker) },
		"invoker": func(ctx context.Context) int { return app.Main(ctx, app.OpenInvoker) },
		"push":    func(ctx context.Context) int { return app.Main(ctx, app.OpenPush) },
	}
	return programs[name](context.Background())
}

// site is what function apps are attached to.
type site struct {
	emulator *emulator.Emulator
	clock    clock  // the emulator's
	output   string // the folder of the apps
	stored   string // the folder of the blobs
}

// clock is the time, or one that was set, so that messages are enqueued at known times.
type clock struct {
	mu  sync.Mutex
	set time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set.IsZero() {
		return time.Now()
	}
	return c.set
}

// at sets the clock; the zero time has it go by itself again.
func (c *clock) at(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = t
}

// subscription is the one of the site's topic, as a path.
const subscription = "prices/Subscriptions/all"

func newSite(t *testing.T, config string, change ...func(*Options)) *site {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the test's own program stands for the handlers, and has to be a Linux program")
	}
	s := &site{output: t.TempDir(), stored: t.TempDir(), clock: clock{set: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}}
	e, err := emulator.Start(emulator.Options{
		Hubs:   []emulator.Hub{{Name: "rides", Partitions: 2}},
		Queues: []emulator.Queue{{Name: "orders", MaxDeliveryCount: 1000}},
		Topics: []emulator.Topic{{Name: "prices", Subscriptions: []emulator.Subscription{{Name: "all", MaxDeliveryCount: 1000}}}},
		Now:    s.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s.emulator = e
	s.clock.at(time.Time{})
	programs := ownPrograms(t)
	change = append([]func(*Options){func(o *Options) { o.Handler = programs }}, change...)
	generateInto(t, s.output, config, change...)
	return s
}

// ownPrograms is a folder in which the test's own program has the name of each program.
func ownPrograms(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := t.TempDir()
	for _, program := range functions.Programs() {
		if err := os.Symlink(self, filepath.Join(programs, program)); err != nil {
			t.Fatal(err)
		}
	}
	return programs
}

// host runs the app of a name as it was generated, with what a user fills in.
func (s *site) host(t *testing.T, name, program string, more ...string) *hosttest.Host {
	t.Helper()
	settings := map[string]string{
		"PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + s.stored, "PERSISTOR_CONTAINER_NAME": "messages", "PERSISTOR_CREATE_CONTAINER": "TRUE",
		"EVENT_HUB_NAME_BINDING": "rides", "EVENT_HUB_BINDING_CONNECTION_STR": s.emulator.ConnectionString(),
		"SERVICE_BUS_BINDING_QUEUE_NAME": "orders", "SERVICE_BUS_BINDING_CONNECTION_STRING": s.emulator.ConnectionString(),
		"EVENT_HUB_NAME": "rides", "EVENT_HUB_CONN_STRING": s.emulator.ConnectionString(), "EVENT_HUB_CHECKPOINT_CONTAINER": "checkpoints",
		"SERVICE_BUS_QUEUE_NAME": "orders", "SERVICE_BUS_CONNECTION_STRING": s.emulator.ConnectionString(),
		"AzureWebJobs.backfill.Disabled": "true", // a directory has no queues
	}
	return s.run(t, name, program, with(settings, more...))
}

// run runs the app of a name with settings that go before its own.
func (s *site) run(t *testing.T, name, program string, settings map[string]string, change ...func(*hosttest.Options)) *hosttest.Host {
	t.Helper()
	o := hosttest.Options{Folder: filepath.Join(s.output, name), Settings: with(settings, "PERSISTOR_TEST_PROCESS", program), Output: t.Output(), Errors: 1000}
	for _, c := range change {
		c(&o)
	}
	h, err := hosttest.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// records counts the records of all blobs that are stored, and those that hold the first message as it was.
func (s *site) records(t *testing.T) (all, first int) {
	t.Helper()
	for _, path := range s.blobs(t) {
		all += strings.Count(string(read(t, path)), `{"DATA":`)
		first += strings.Count(string(read(t, path)), `{"DATA":"`+firstBody+`"`)
	}
	return all, first
}

// blobs are the files of the blobs that are stored.
func (s *site) blobs(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.stored, "messages"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".txt" && !strings.Contains(path, "/.") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// firstBody is the body of the first message, which is no text, as a record has it.
const firstBody = "bWVzc2FnZSAwIP8="

// put sends messages to the hub, the queue and the topic.
func (s *site) put(t *testing.T, count int) {
	t.Helper()
	for i := range count {
		body := fmt.Appendf(nil, "message %d \xff", i)
		if err := s.emulator.Put("rides", "0", emulator.Event{Body: body, Enqueued: time.Date(2026, 11, 25, 10, 11, 12, 0, time.UTC)}); err != nil {
			t.Fatal(err)
		}
		for _, entity := range []string{"orders", subscription} {
			if err := s.emulator.PutMessages(entity, emulator.QueueMessage{Body: body}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// await waits until the condition holds. No invocation may fail.
func await(t *testing.T, h *hosttest.Host, condition func() bool) {
	t.Helper()
	awaitAnyhow(t, h, condition)
	for _, r := range h.Results() {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Function, r.Err)
		}
	}
}

// awaitAnyhow waits until the condition holds, whatever fails on the way.
func awaitAnyhow(t *testing.T, h *hosttest.Host, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := h.Await(ctx, condition); err != nil {
		t.Fatal(err)
	}
}

// awaitRecords waits until so many messages are stored.
func (s *site) awaitRecords(t *testing.T, h *hosttest.Host, want int) {
	t.Helper()
	await(t, h, func() bool { all, _ := s.records(t); return all >= want })
	if all, first := s.records(t); all != want || first != 1 {
		t.Errorf("%d messages are stored, and the first %d times, want %d and once", all, first, want)
	}
}
