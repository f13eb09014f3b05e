package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/backfill"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/pull"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// quick are the times that the engine keeps to in tests, so that the dead are found soon.
var quick = backfill.Timing{Alive: time.Second, Watch: 100 * time.Millisecond, Pause: 300 * time.Millisecond, Busy: 200 * time.Millisecond}

// openFragileInvoker is OpenInvoker, but that it soon takes others for dead, and for KILL_AT=step:n, which has the
// process kill itself the n-th time that it gets to a step.
func openFragileInvoker(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	step, count, kills := strings.Cut(os.Getenv("KILL_AT"), ":")
	k := &killer{step: step}
	if kills {
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil {
			return nil, err
		}
		k.left.Store(n)
	}
	return openInvoker(ctx, lookup, logs, func(p *invokerParts) {
		p.timing = quick
		if !kills || p.documents == nil {
			return
		}
		p.documents, p.chain, p.lock = fragileDocuments{p.documents, k}, fragileChain{p.chain, k}, fragileLock{p.lock, k}
		if p.hub != nil {
			p.hub = fragileHub{p.hub, k}
		}
	})
}

// waveSteps are the steps of a wave that leave something behind; each comes several times.
var waveSteps = []string{
	"before document", "after document", "before ask", "after ask", "after lease", "before checkpoint", "after checkpoint", "before release",
}

type fragileDocuments struct {
	ledger.Storage
	*killer
}

func (f fragileDocuments) Write(ctx context.Context, name string, body []byte, version string) (string, error) {
	f.at("before document")
	defer f.at("after document")
	return f.Storage.Write(ctx, name, body, version)
}

type fragileChain struct {
	backfill.Chain
	*killer
}

func (f fragileChain) Ask(ctx context.Context, m backfill.Message, after time.Duration) error {
	f.at("before ask")
	defer f.at("after ask")
	return f.Chain.Ask(ctx, m, after)
}

type fragileLock struct {
	backfill.Lock
	*killer
}

func (f fragileLock) Take(ctx context.Context, run fanout.Run) (func(), error) {
	release, err := f.Lock.Take(ctx, run)
	f.at("after lease")
	return func() { f.at("before release"); release() }, err
}

type fragileHub struct {
	backfill.Hub
	*killer
}

func (f fragileHub) SetCheckpoint(ctx context.Context, partition string, m pull.Mark) error {
	f.at("before checkpoint")
	defer f.at("after checkpoint")
	return f.Hub.SetCheckpoint(ctx, partition, m)
}

// noHoles fails the test if a checkpoint has passed something that is not stored.
func (s *site) noHoles(t testing.TB, url, folder string) {
	t.Helper()
	var now struct {
		Partitions []struct {
			Partition  string
			Checkpoint int64
		}
	}
	call(t, url+"/api/status", "", &now)
	blobs, err := store.Open(context.Background(), store.Options{Location: s.settings["PERSISTOR_STORAGE_CONNECTION_STRING"], Container: s.settings["PERSISTOR_CONTAINER_NAME"]})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(blobs)
	stored := map[string]*ledger.Partition{}
	for b, err := range blobs.List(t.Context(), record.EventHubFolder(folder)) {
		if err != nil {
			t.Fatal(err)
		}
		span, err := record.ParseSpan(b.Metadata)
		name, wrong := record.ParseEventHubName(b.Name)
		if err != nil || wrong != nil {
			t.Fatalf("blob %s: %v, %v", b.Name, err, wrong)
		}
		p := stored[name.Partition]
		if p == nil {
			p = &ledger.Partition{To: s.events - 1}
			stored[name.Partition] = p
		}
		p.Done(work.Range{From: span.First, To: span.Last}, "")
	}
	for _, p := range now.Partitions {
		if p.Checkpoint < 0 {
			continue
		}
		if found := stored[p.Partition]; found == nil || len(found.Stored) == 0 || found.Stored[0].From != 0 || found.Stored[0].To < p.Checkpoint {
			t.Fatalf("partition %s: checkpoint %d, and stored is %+v", p.Partition, p.Checkpoint, found)
		}
	}
}

// relay stands before a worker that is killed and started again elsewhere.
type relay struct {
	url     string
	process *process
	proxy   atomic.Pointer[httputil.ReverseProxy]
}

func newRelay(t *testing.T) *relay {
	r := &relay{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.proxy.Load().ServeHTTP(w, req) }))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *relay) to(worker *process) {
	target, err := url.Parse(worker.url)
	if err != nil {
		panic(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // workers are killed
	r.process = worker
	r.proxy.Store(proxy)
}

// begun begins a backfill at an invoker that may be killed on the way, and returns the run if there is a document of it.
func begun(invoker *process) (id string) {
	var run ledger.Run
	if _, text, err := tryCall(invoker.url+"/api/backfill", "{}"); err == nil {
		_ = json.Unmarshal([]byte(text), &run)
	}
	return run.ID
}

// newest is the last run of an invoker; "" if there is none.
func newest(t testing.TB, invoker *process) string {
	t.Helper()
	var list struct{ Runs []ledger.Run }
	if status, text := call(t, invoker.url+"/api/runs?limit=1", "", &list); status != http.StatusOK {
		t.Fatalf("status %d: %s", status, text)
	}
	if len(list.Runs) == 0 {
		return ""
	}
	return list.Runs[0].ID
}

// fragile is a site whose waves are short.
func fragileSite(t *testing.T, partitions int, events int64) *site {
	s := newSite(t, partitions, events)
	s.settings = s.settings.with("BATCH_COUNT=1000", "GET_METADATA=TRUE", "WORKER_CONCURRENCY=8", "MEMORY_LIMIT=64MiB", "DELAY_BETWEEN_FUNCS=0", "INVOKER_TIMEOUT=10")
	return s
}

// An invoker that is killed at a step of a wave, the first time that it gets there or a later one, and another one that
// takes over: the run comes to its end, everything is stored once, and no checkpoint ever passes a hole.
func TestInvokerKilledAtEveryStepOfAWave(t *testing.T) {
	times := []int{1, 3}
	switch {
	case isSoak():
		times = []int{1, 2, 3, 4, 5, 7, 10}
	case testing.Short():
		times = []int{1}
	}
	for _, step := range waveSteps {
		t.Run(step, func(t *testing.T) {
			parallelUnlessShort(t)
			for _, n := range times {
				if killed := killAtStep(t, fmt.Sprintf("%s:%d", step, n)); !killed && n == 1 {
					t.Error("the step is not on the way")
				}
			}
		})
	}
}

// killAtStep reports whether the invoker came so far as to be killed.
func killAtStep(t *testing.T, at string) (killed bool) {
	t.Helper()
	events := int64(30_000)
	if testing.Short() {
		events = 6_000
	}
	s := fragileSite(t, 2, events)
	worker := start(t, "worker", s.settings)
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + worker.url + "/api/pull")
	first := start(t, "invoker", s.settings.with("KILL_AT="+at))
	id := begun(first)
	gone := false
	if id != "" {
		waitFor(t, "the end of the run or of its invoker", func() bool {
			select {
			case <-first.exited:
				gone = true
				return true
			default:
			}
			_, text, err := tryCall(first.url+"/api/runs/"+id, "")
			return err == nil && strings.Contains(text, `"state":"succeeded"`)
		})
	}
	if id != "" && !gone { // the last steps come behind the end that is written: an invoker that takes another run has passed them
		waitFor(t, "the wave's last step", func() bool {
			status, _, err := tryCall(first.url+"/api/invoke?N=1", "")
			gone = err != nil
			return gone || status == http.StatusOK
		})
	}
	if gone {
		<-first.exited
	}
	if id != "" && !gone {
		s.audit(t, hubName) // the step doesn't come so often
		return false
	}
	second := start(t, "invoker", s.settings)
	if id == "" {
		if id = newest(t, second); id == "" { // killed before there was anything to go on with
			id = begun(second)
		}
	}
	s.noHoles(t, second.url, hubName)
	if live := ends(t, second.url, id); live.State != ledger.Succeeded || live.Counts.Remaining != 0 {
		t.Errorf("%s: %+v", at, live)
	}
	s.noHoles(t, second.url, hubName)
	s.audit(t, hubName)
	return true
}

// Invokers and workers are killed at random while a backfill goes on: it comes to its end, everything is stored once, and
// no checkpoint ever passes a hole.
func TestBackfillKilledAtRandom(t *testing.T) {
	t.Parallel()
	kills, events := 20, int64(300_000)
	switch {
	case isSoak():
		kills, events = 200, 1_500_000
	case testing.Short():
		kills, events = 8, 60_000
	}
	s := fragileSite(t, 3, events)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const workers = 2
	targets := make([]*relay, workers)
	var urls []string
	for i := range targets {
		targets[i] = newRelay(t)
		targets[i].to(start(t, "worker", s.settings))
		urls = append(urls, targets[i].url+"/api/pull")
	}
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + strings.Join(urls, ","))
	invoker := start(t, "invoker", s.settings)
	id := begun(invoker)
	killed := 0
	for ; killed < kills; killed++ {
		select {
		case <-time.After(time.Duration(r.Int64N(int64(400 * time.Millisecond)))):
		case <-t.Context().Done():
		}
		if n := r.IntN(workers + 1); n < workers {
			targets[n].process.kill()
			targets[n].to(start(t, "worker", s.settings))
		} else {
			invoker.kill()
			invoker = start(t, "invoker", s.settings)
		}
		if live := runAt(t, invoker.url, id); live.State.Over() {
			break
		}
		s.noHoles(t, invoker.url, hubName)
	}
	live := endsWithin(t, 5*time.Minute, invoker.url, id)
	for range 10 { // kills that come faster than a wave stores anything have the run given up
		if live.State != ledger.Failed {
			break
		}
		t.Logf("failed after %d waves: %+v", live.Wave, live.Errors)
		change(t, http.MethodPost, invoker.url+"/api/runs/"+id+"/retry", http.StatusAccepted)
		live = endsWithin(t, 5*time.Minute, invoker.url, id)
	}
	if live.State != ledger.Succeeded || live.Counts.Remaining != 0 {
		t.Errorf("%+v", live)
	}
	t.Logf("%d kills, %d waves", killed, live.Wave)
	s.noHoles(t, invoker.url, hubName)
	s.audit(t, hubName)
}

// An invoker that stands still for so long that another one takes its wave over finds that out when it goes on, and
// writes nothing more into the run. The run is in Azurite: what a process that stands still has locked of a directory
// stays locked.
func TestInvokerThatIsTakenForDead(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, 20_000)
	container := azuritetest.Container(t)
	s.settings = s.settings.with(slow...).with("PERSISTOR_STORAGE_CONNECTION_STRING="+azuritetest.Run(t), "PERSISTOR_CONTAINER_NAME="+container, "EVENT_HUB_CHECKPOINT_CONTAINER="+container+"-c")
	worker := newRelay(t)
	worker.to(start(t, "worker", s.settings))
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + worker.url + "/api/pull")
	first := start(t, "invoker", s.settings.with("LOG_LEVEL=info"))
	id := beginBackfill(t, first.url, "{}")
	mark := storing(t, first.url, id).Invoker
	if err := first.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	second := start(t, "invoker", s.settings)
	waitFor(t, "another invoker's mark", func() bool {
		now := runAt(t, second.url, id).Invoker
		return now != "" && now != mark
	})
	worker.to(start(t, "worker", s.settings.with("BATCH_COUNT=10000")))
	if err := first.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	live := ends(t, second.url, id)
	if live.State != ledger.Succeeded || live.Counts.Remaining != 0 {
		t.Errorf("%+v", live)
	}
	waitFor(t, "the first to give up", func() bool { return first.logged("gave a wave up") != "" })
	for n, w := range live.Waves {
		if w.Wave != n+1 {
			t.Errorf("waves %+v", live.Waves)
		}
	}
	s.noHoles(t, second.url, hubName)
	s.audit(t, hubName)
}
