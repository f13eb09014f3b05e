package push

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/record"
	"persistor/internal/store"
)

// folder is a sink over a local directory.
type folder struct{ *store.Dir }

func newFolder(t *testing.T) folder {
	t.Helper()
	dir, err := store.OpenDir(filepath.Join(t.TempDir(), "blobs"), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return folder{dir}
}

func (f folder) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	held, err := f.Dir.Create(ctx, name, body, metadata)
	if errors.Is(err, store.ErrExists) {
		return held, nil
	}
	return nil, err
}

func (f folder) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	held, err := f.Dir.Append(ctx, name, at, body, metadata)
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrPosition) || errors.Is(err, store.ErrFull) {
		return held, nil
	}
	if errors.Is(err, store.ErrNotFound) {
		err = pull.ErrGone
	}
	return nil, err
}

func (f folder) List(ctx context.Context, prefix string) iter.Seq2[pull.Blob, error] {
	return func(yield func(pull.Blob, error) bool) {
		for b, err := range f.Dir.List(ctx, prefix) {
			if !yield(pull.Blob{Name: b.Name, Metadata: b.Metadata}, err) {
				return
			}
		}
	}
}

// names are those of all blobs, in order.
func (f folder) names(t *testing.T) (names []string) {
	t.Helper()
	for b, err := range f.Dir.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, b.Name)
	}
	return names
}

// read is a blob's content.
func (f folder) read(t *testing.T, name string) string {
	t.Helper()
	r, err := f.Dir.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// records are the records of all blobs whose names begin so.
func (f folder) records(t *testing.T, prefix string) (all []message.Message) {
	t.Helper()
	for _, name := range f.names(t) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		content := f.read(t, name)
		r := record.NewReader(strings.NewReader(content), 1<<20)
		for {
			m, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all = append(all, *m)
		}
	}
	return all
}

// fragile is a sink that fails as it is told, before it does anything or after.
type fragile struct {
	folder
	mu     sync.Mutex
	before func(what, name string) error
	after  func(what, name string) error
	lists  int
}

func (f *fragile) hook(hook func(what, name string) error, what, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if what == "list" {
		f.lists++
	}
	if hook == nil {
		return nil
	}
	return hook(what, name)
}

func (f *fragile) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	if err := f.hook(f.before, "create", name); err != nil {
		return nil, err
	}
	held, err := f.folder.Create(ctx, name, body, metadata)
	if err == nil {
		err = f.hook(f.after, "create", name)
	}
	return held, err
}

func (f *fragile) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	if err := f.hook(f.before, "append", name); err != nil {
		return nil, err
	}
	held, err := f.folder.Append(ctx, name, at, body, metadata)
	if err == nil {
		err = f.hook(f.after, "append", name)
	}
	return held, err
}

func (f *fragile) List(ctx context.Context, prefix string) iter.Seq2[pull.Blob, error] {
	if err := f.hook(f.before, "list", prefix); err != nil {
		return func(yield func(pull.Blob, error) bool) { yield(pull.Blob{}, err) }
	}
	return f.folder.List(ctx, prefix)
}

// logged is a log that can be read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) log() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// options are those of a sink, with metadata and a short time.
func options(sink pull.Sink, l *logged) Options {
	return Options{
		Sink: sink, Folder: "hub", Format: record.Format{Metadata: true, Separator: record.OneNewline},
		Limits: pull.Limits{Count: 100, Bytes: 1 << 20, Age: time.Minute}, Timeout: 20 * time.Second, Log: l.log(),
	}
}

// invocation is one as the host writes it: of JSON values for data and metadata.
func invocation(t *testing.T, data string, metadata map[string]string) *host.Invocation {
	t.Helper()
	i := &host.Invocation{Function: "persist", ID: "b6a1", Data: map[string]json.RawMessage{"message": json.RawMessage(data)}, Metadata: host.Metadata{}}
	for name, value := range metadata {
		if !json.Valid([]byte(value)) {
			t.Fatalf("%s is no JSON: %s", name, value)
		}
		i.Metadata[name] = json.RawMessage(value)
	}
	i.Metadata["sys"] = json.RawMessage(`{"MethodName":"persist","UtcNow":"2026-11-25T00:00:00Z","RandGuid":"` + fmt.Sprint(time.Now().UnixNano()) + `"}`)
	return i
}

// text is v as the host writes what is no object: its JSON in a JSON string.
func text(v any) string {
	inner, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	outer, _ := json.Marshal(string(inner))
	return string(outer)
}

// quoted is a string that is encoded once.
func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// day is when the tests' messages are enqueued, one a second.
var day = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

func bodyOf(n int64) string { return fmt.Sprintf("message %d", n) }

// hubMany is an invocation with the events of a partition with such sequence numbers.
func hubMany(t *testing.T, partition string, numbers ...int64) *host.Invocation {
	bodies, offsets, times, keys, properties := [][]byte{}, []string{}, []string{}, []any{}, []any{}
	for _, n := range numbers {
		bodies = append(bodies, []byte(bodyOf(n)))
		offsets = append(offsets, fmt.Sprint(n*100))
		times = append(times, day.Add(time.Duration(n)*time.Second).Format("2006-01-02T15:04:05.999"))
		keys, properties = append(keys, nil), append(properties, map[string]any{"n": n})
	}
	return invocation(t, text(bodies), map[string]string{
		"PartitionContext":    `{"PartitionId":"` + partition + `","EventHubName":"hub"}`,
		"SequenceNumberArray": text(numbers), "OffsetArray": text(offsets), "EnqueuedTimeUtcArray": text(times),
		"PartitionKeyArray": text(keys), "PropertiesArray": text(properties), "SystemPropertiesArray": text(properties),
	})
}

// hubOne is an invocation with one event.
func hubOne(t *testing.T, partition string, n int64) *host.Invocation {
	return invocation(t, quoted(base64.StdEncoding.EncodeToString([]byte(bodyOf(n)))), map[string]string{
		"PartitionContext": `{"PartitionId":"` + partition + `","EventHubName":"hub"}`,
		"SequenceNumber":   text(n), "Offset": text(fmt.Sprint(n * 100)),
		"EnqueuedTimeUtc": quoted(day.Add(time.Duration(n) * time.Second).Format("2006-01-02T15:04:05")),
		"Properties":      fmt.Sprintf(`{"n":%d}`, n), "SystemProperties": `{}`,
	})
}

// from is the numbers from a to b.
func from(a, b int64) (numbers []int64) {
	for n := a; n <= b; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// inRounds plays a scene that chance decides on, in a folder of its own each time and with time that passes by itself.
func inRounds(t *testing.T, play func(t *testing.T, f folder, seed uint64)) {
	t.Helper()
	rounds := uint64(12)
	if os.Getenv("PERSISTOR_SOAK") != "" {
		rounds = 400
	}
	for seed := range rounds {
		f := newFolder(t)
		synctest.Test(t, func(t *testing.T) { play(t, f, seed) })
	}
}

// nowAndThen is storage that is down for a third of what it is asked.
func nowAndThen(r *rand.Rand) func(what, name string) error {
	return func(string, string) error {
		if r.IntN(3) == 0 {
			return errDown
		}
		return nil
	}
}
