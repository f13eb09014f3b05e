package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"persistor/internal/app"
	"persistor/internal/pull"
	"persistor/internal/store"
)

// The defaults of BATCH_BYTES and MEMORY_LIMIT.
const (
	batchBytes = 4 << 20
	memory     = 32 << 20
)

// task is what a child process does by itself, so that CPU time and memory are its alone.
type task struct {
	Kind     string        // a key of tasks
	Entity   string        // the hub or queue
	Store    string        // discard, dir or azurite
	Messages int64         // that there are
	AtOnce   int           // partitions, or loops
	Append   pull.Append   // how a drain of a hub joins its batches
	Batch    int           // messages of one; 0: as is usual
	Idle     time.Duration // for which a drain of a queue waits for further messages; 0: as is usual
}

// tasks give the messages drained, and when the last of them was done with.
var tasks = map[string]func(context.Context, task) (int64, time.Time, error){
	"hub/client":      hubClient,
	"hub/drain":       hubDrain,
	"hub/cells":       hubDrain,
	"queue/slow":      queueClient(1000, 1),
	"queue/client":    queueClient(1000, completions),
	"queue/drain":     queueDrain,
	"sessions/client": sessionsClient,
	"sessions/drain":  sessionsDrain,
	"large/client":    queueClient(1, 1),
	"large/drain":     largeDrain,
}

// usage is what a task used from its first question to its last answer. Seconds end when the last message
// was done with.
type usage struct {
	Messages    int64   `json:"messages"`
	Seconds     float64 `json:"seconds"`
	CPUSeconds  float64 `json:"cpu_seconds"`
	PeakMB      float64 `json:"peak_mb"`
	emulatorCPU float64
}

// child is what this program does in the processes that it starts.
func child(args []string) error {
	if args[0] == "emulator" {
		return serve(args[1])
	}
	var t task
	if err := json.Unmarshal([]byte(args[1]), &t); err != nil {
		return err
	}
	app.TuneMemory(memory) // the same for all
	before := spent()
	began := time.Now()
	messages, done, err := tasks[t.Kind](context.Background(), t)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(usage{
		Messages: messages, Seconds: done.Sub(began).Seconds(), CPUSeconds: (spent() - before).Seconds(), PeakMB: peakMB(),
	})
}

// run has a child carry out a task of an emulator's, and checks that it got everything.
func (s *server) run(ctx context.Context, t task) (usage, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var u usage
	self, err := os.Executable()
	if err != nil {
		return u, err
	}
	spec, err := json.Marshal(t)
	if err != nil {
		return u, err
	}
	cmd := exec.CommandContext(ctx, self, "child", "task", string(spec))
	cmd.Env = append(os.Environ(), connectionVariable+"="+s.connection)
	cmd.Stderr = os.Stderr
	before := s.cpu()
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &u)
	}
	if err == nil && u.Messages != t.Messages {
		err = fmt.Errorf("got %d messages, expected %d", u.Messages, t.Messages)
	}
	if err != nil {
		return u, fmt.Errorf("%s of %s into %s: %w", t.Kind, t.Entity, t.Store, err)
	}
	u.emulatorCPU = s.cpu() - before
	return u, nil
}

// connectionVariable holds the emulator's connection string in a child's environment.
const connectionVariable = "BENCH_CONNECTION_STRING"

// openStore opens what blobs go to; dir is a directory of the child's own.
func openStore(ctx context.Context, storage, dir string) (store.Store, error) {
	switch storage {
	case "discard":
		return &discard{}, nil
	case "dir":
		return store.Open(ctx, store.Options{Location: "file://" + dir, Container: "bench", Create: true})
	}
	return store.Open(ctx, store.Options{Location: os.Getenv("AZURITE_CONNECTION_STRING"), Container: fmt.Sprintf("bench-%d", time.Now().UnixNano()), Create: true})
}

// discard is a store that keeps nothing.
type discard struct{}

func (discard) Create(context.Context, string, []byte, map[string]string) (map[string]string, error) {
	return nil, nil
}

func (discard) Append(context.Context, string, int64, []byte, map[string]string) (map[string]string, error) {
	return nil, nil
}

func (discard) SetMetadata(context.Context, string, map[string]string) error { return nil }

func (discard) Metadata(context.Context, string) (map[string]string, error) {
	return nil, store.ErrNotFound
}

func (discard) List(context.Context, string) iter.Seq2[store.Blob, error] {
	return func(func(store.Blob, error) bool) {}
}

func (discard) Open(context.Context, string) (io.ReadCloser, error) { return nil, store.ErrNotFound }

// watched notes when a store was last written to.
type watched struct {
	store.Store
	last atomic.Int64
}

func (w *watched) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	defer w.note()
	return w.Store.Create(ctx, name, body, metadata)
}

func (w *watched) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	defer w.note()
	return w.Store.Append(ctx, name, at, body, metadata)
}

func (w *watched) SetMetadata(ctx context.Context, name string, metadata map[string]string) error {
	defer w.note()
	return w.Store.SetMetadata(ctx, name, metadata)
}

func (w *watched) note() { w.last.Store(time.Now().UnixNano()) }

func (w *watched) written() time.Time { return time.Unix(0, w.last.Load()) }

// spent is the CPU time that this process has used.
func spent() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// peakMB is the most memory that was resident, in MB; 0 where the system doesn't tell.
func peakMB() float64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(r.Maxrss) / 1e6
	}
	return float64(r.Maxrss) / 1e3
}
