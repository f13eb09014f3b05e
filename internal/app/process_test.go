package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/emulator"
	"persistor/internal/api"
	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/pull/eventhub"
	"persistor/internal/store"
	"persistor/internal/work"
)

// These tests run the real programs as processes of their own: the test binary, started again.
func TestMain(m *testing.M) {
	switch os.Getenv("PERSISTOR_TEST_PROCESS") {
	case "worker":
		os.Exit(Main(context.Background(), openFragileWorker))
	case "invoker":
		os.Exit(Main(context.Background(), openFragileInvoker))
	case "push":
		os.Exit(Main(context.Background(), openFragilePush))
	}
	// Most of what these tests do is wait: for locks to expire, for silence, for storage to be back.
	_ = flag.Set("test.parallel", "6") // the command line goes before
	os.Exit(m.Run())
}

// openFragileWorker is OpenWorker, but for KILL_AT=step:n, which has the process kill itself the n-th
// time that it gets to a step.
func openFragileWorker(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	step, count, ok := strings.Cut(os.Getenv("KILL_AT"), ":")
	if !ok {
		return OpenWorker(ctx, lookup, logs)
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return nil, err
	}
	c, err := config.ReadWorker(lookup)
	if err != nil {
		return nil, err
	}
	k := &killer{step: step}
	k.left.Store(n)
	d, err := fragileDrainer(ctx, c, k)
	if err != nil {
		return nil, err
	}
	return &Program{
		Handler: api.NewWorker(api.WorkerOptions{ServiceBus: c.Service == config.ServiceBus}, d), address: c.Server.Address, drain: time.Second, close: d.Close,
	}, nil
}

func fragileDrainer(ctx context.Context, c config.Worker, k *killer) (drainer, error) {
	if c.Service == config.ServiceBus {
		d, err := NewQueueDrainer(ctx, c, nil)
		if err == nil {
			d.Store = fragileStore{d.Store, k}
		}
		return d, err
	}
	d, err := NewHubDrainer(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	checkpoints, err := openCheckpoints(ctx, c.Checkpoint)
	if err != nil {
		return nil, err
	}
	d.Store = fragileStore{d.Store, k}
	d.Hub, err = connectHub(c.Hub, fragileCheckpoints{checkpoints, k}, 0, 1<<20)
	return d, err
}

// The steps between receiving and settling; inside a Create or an Append, package store has its own.
var killSteps = []string{"before create", "after create", "before append", "after append", "before checkpoint", "after checkpoint"}

type killer struct {
	step string
	left atomic.Int64
}

func (k *killer) at(step string) {
	if step == k.step && k.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

type fragileStore struct {
	store.Store
	*killer
}

func (f fragileStore) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	f.at("before create")
	defer f.at("after create")
	return f.Store.Create(ctx, name, body, metadata)
}

func (f fragileStore) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	if len(body) == 0 {
		f.at("before unmark")
		defer f.at("after unmark")
	} else {
		f.at("before append")
		defer f.at("after append")
	}
	return f.Store.Append(ctx, name, at, body, metadata)
}

func (f fragileStore) SetMetadata(ctx context.Context, name string, metadata map[string]string) error {
	f.at("before unmark")
	defer f.at("after unmark")
	return f.Store.SetMetadata(ctx, name, metadata)
}

type fragileCheckpoints struct {
	eventhub.Checkpoints
	*killer
}

func (f fragileCheckpoints) SetCheckpoint(ctx context.Context, c azeventhubs.Checkpoint, o *azeventhubs.SetCheckpointOptions) error {
	f.at("before checkpoint")
	defer f.at("after checkpoint")
	return f.Checkpoints.SetCheckpoint(ctx, c, o)
}

// process is a running worker or invoker.
type process struct {
	url    string
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	exited chan struct{}

	mu  sync.Mutex
	log []string
}

// logged returns the last line of the log that has a word in it; "" if none has.
func (p *process) logged(word string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range slices.Backward(p.log) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

// settings are the environment of a worker or invoker.
type settings map[string]string

// lookup is a [config.Lookup].
func (s settings) lookup(name string) (string, bool) {
	value, ok := s[name]
	return value, ok
}

// with is a copy with more.
func (s settings) with(more ...string) settings {
	all := settings{}
	for k, v := range s {
		all[k] = v
	}
	for _, entry := range more {
		k, v, _ := strings.Cut(entry, "=")
		all[k] = v
	}
	return all
}

func (s settings) environ() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for k, v := range s {
		if v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// start runs a program and waits until it listens.
func start(t testing.TB, program string, s settings) *process {
	t.Helper()
	p, err := tryStart(t, program, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryStart(t testing.TB, program string, s settings) (*process, error) {
	t.Helper()
	p := &process{stderr: &bytes.Buffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = s.with("PERSISTOR_TEST_PROCESS=" + program).environ()
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	listening := make(chan string, 1)
	go func() {
		defer close(p.exited)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var said struct{ Listening string }
			if json.Unmarshal(lines.Bytes(), &said) == nil && said.Listening != "" {
				listening <- said.Listening
			}
			p.mu.Lock()
			p.log = append(p.log, lines.Text())
			p.mu.Unlock()
		}
		_ = p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	select {
	case p.url = <-listening:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("%s ended with %d: %s", program, p.cmd.ProcessState.ExitCode(), p.stderr)
	case <-time.After(20 * time.Second):
		return nil, fmt.Errorf("%s does not listen: %s", program, p.stderr)
	}
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// terminate is SIGTERM; it returns the exit status.
func (p *process) terminate(t testing.TB) int {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		t.Fatal("the process did not end on SIGTERM")
	}
	return p.cmd.ProcessState.ExitCode()
}

// call POSTs a body (GETs without one) and decodes the answer into v, if it isn't nil.
func call(t testing.TB, url, body string, v any, header ...string) (int, string) {
	t.Helper()
	status, text, err := tryCall(url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatalf("answer of %s: %v: %s", url, err, text)
		}
	}
	return status, text
}

func tryCall(url, body string, header ...string) (int, string, error) {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// site is a hub with events, a folder for blobs, and the settings that a worker needs for them.
type site struct {
	hub      *emulator.Emulator
	dir      string
	settings settings
	events   int64 // in each partition
	parts    int
}

const hubName = "telemetry"

// newSite makes a hub whose events are a function of partition and sequence number.
func newSite(t testing.TB, partitions int, events int64) *site {
	t.Helper()
	return newSiteOf(t, emulator.Hub{
		Partitions: partitions, Synthetic: &emulator.Synthetic{Events: events, Body: eventBody, First: time.Date(2026, 11, 24, 23, 59, 30, 0, time.UTC)},
	}, events)
}

// newSiteOf makes a site of another hub, of so many events in each partition.
func newSiteOf(t testing.TB, hub emulator.Hub, events int64) *site {
	t.Helper()
	hub.Name = hubName
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{hub}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	dir := t.TempDir()
	return &site{hub: e, dir: dir, events: events, parts: hub.Partitions, settings: settings{
		"EVENT_HUB_CONN_STRING":               e.ConnectionString(),
		"EVENT_HUB_NAME":                      hubName,
		"PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + filepath.ToSlash(dir),
		"PERSISTOR_CONTAINER_NAME":            "blobs",
		"PERSISTOR_CREATE_CONTAINER":          "TRUE",
		"EVENT_HUB_CHECKPOINT_CONTAINER":      "checkpoints",
		"LISTEN_ADDRESS":                      "127.0.0.1:0",
		"LOG_LEVEL":                           "error",
	}}
}

func eventBody(dst []byte, partition string, sequence int64) []byte {
	return fmt.Appendf(dst, "partition %s event %d", partition, sequence)
}

// madeUp is an [audit.Contents] that knows what a site's hub makes up. The chain tells how many there are.
type madeUp struct{ *site }

func (m madeUp) Check(got *message.Message) audit.Verdict {
	if len(got.Body.Data) != 1 || string(got.Body.Data[0]) != string(eventBody(nil, got.Partition, got.SequenceNumber)) {
		return audit.Altered
	}
	return audit.Intact
}

func (m madeUp) Missing() int64 { return 0 }

// audit fails the test unless every event up to through is stored once, in a chain, unaltered. A negative
// through means all.
func (s *site) audit(t testing.TB, folder string) audit.Report {
	t.Helper()
	blobs, err := store.Open(context.Background(), store.Options{Location: s.settings["PERSISTOR_STORAGE_CONNECTION_STRING"], Container: s.settings["PERSISTOR_CONTAINER_NAME"]})
	if err != nil {
		t.Fatal(err)
	}
	if dir, ok := blobs.(*store.Dir); ok {
		defer dir.Close()
	}
	expect := audit.Expectation{Partitions: map[string]work.Range{}, Contents: madeUp{s}}
	for i := range s.parts {
		expect.Partitions[strconv.Itoa(i)] = work.Range{From: 0, To: s.events - 1}
	}
	report, err := audit.Run(context.Background(), blobs, folder, expect)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete || report.Messages != s.events*int64(s.parts) {
		t.Fatalf("the audit does not hold: %+v", report)
	}
	return report
}

// unit is a work unit for all partitions.
func (s *site) unit(run string, tasks int, level int64) string {
	u := work.Unit{Run: run, Tasks: tasks, OwnerLevel: level}
	for i := range s.parts {
		u.Partitions = append(u.Partitions, strconv.Itoa(i))
	}
	body, _ := json.Marshal(u)
	return string(body)
}

func isSoak() bool { return os.Getenv("PERSISTOR_SOAK") != "" }
