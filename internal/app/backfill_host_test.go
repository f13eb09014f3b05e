package app

import (
	"encoding/json"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"persistor/functions"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/host/hosttest"
	"persistor/internal/ledger"
)

// presetApp is the function app of a variant as it is generated, with the test binary for its program; a message that
// failed comes again soon. forwards is whether the host forwards HTTP.
func presetApp(t *testing.T, variant string, forwards bool) string {
	t.Helper()
	folder := t.TempDir()
	files, err := functions.Files(variant)
	if err == nil {
		err = os.CopyFS(folder, files)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(files, functions.HostFile)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"visibilityTimeout": "00:01:00"`, `"visibilityTimeout": "00:00:01"`, 1)
	if !forwards {
		changed = strings.Replace(changed, `"enableForwardingHttpRequest": true`, `"enableForwardingHttpRequest": false`, 1)
	}
	if err := os.WriteFile(filepath.Join(folder, functions.HostFile), []byte(changed), 0o666); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(folder, functions.Handler))
	}
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// waveApp is an invoker's function app whose waves are asked for by a queue, and its worker. Blobs, documents and
// checkpoints are in Azurite.
type waveApp struct {
	*site
	worker *process
	host   *hosttest.Host
	output lines
	url    string // of the app's functions
	key    string // as a query
}

func newWaveApp(t *testing.T, forwards bool, partitions int, events int64) *waveApp {
	t.Helper()
	a := &waveApp{site: fragileSite(t, partitions, events)}
	storage, name := azuritetest.Run(t), azuritetest.Container(t)
	a.settings = a.settings.with("PERSISTOR_STORAGE_CONNECTION_STRING="+storage, "PERSISTOR_CONTAINER_NAME="+name, "EVENT_HUB_CHECKPOINT_CONTAINER="+name+"-c")
	a.worker = start(t, "worker", a.settings)
	var err error
	a.host, err = hosttest.Start(t.Context(), hosttest.Options{Folder: presetApp(t, "invoker-event-hub", forwards), Output: &a.output, Errors: 1000, Settings: maps.Clone(a.settings.with(
		"PERSISTOR_TEST_PROCESS=invoker", "LOG_LEVEL=info", "FUNC_TO_INVOKE="+a.worker.url+"/api/pull", "LISTEN_ADDRESS=",
		"AzureWebJobsStorage="+storage, "PERSISTOR_BACKFILL_QUEUE="+name,
	))})
	if err != nil {
		t.Fatalf("%v\n%s", err, a.output.String())
	}
	t.Cleanup(func() { _ = a.host.Close() })
	a.url, a.key = a.host.URL(), "code="+a.host.FunctionKey()
	return a
}

// live reads a run, though the handler may be gone for the moment.
func (a *waveApp) live(t *testing.T, id string) (live ledger.Live, ok bool) {
	status, text, err := tryCall(a.url+"/api/runs/"+id+"?"+a.key, "")
	if err != nil || status != http.StatusOK {
		return live, false
	}
	if err := json.Unmarshal([]byte(text), &live); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return live, true
}

func (a *waveApp) ends(t *testing.T, id string) (live ledger.Live) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(5 * time.Minute); ; <-ticker.C {
		now, ok := a.live(t, id)
		if ok && now.State.Over() {
			return now
		}
		if time.Now().After(end) {
			t.Fatalf("the run has not ended: %+v\n%s", now, a.output.String())
		}
	}
}

// As function apps as they are generated: a wave is asked for by a message, and the three HTTP functions serve runs,
// whether the host forwards HTTP or not.
func TestBackfillUnderTheHost(t *testing.T) {
	for name, forwards := range map[string]bool{"forwards": true, "wraps": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newWaveApp(t, forwards, 2, 20_000)
			var run ledger.Run
			status, text := call(t, a.url+"/api/backfill?"+a.key, `{"from": {"position": "earliest"}}`, &run)
			if status != http.StatusAccepted {
				t.Fatalf("status %d: %s\n%s", status, text, a.output.String())
			}
			live := a.ends(t, run.ID)
			if live.State != ledger.Succeeded || live.Counts.Messages != 40_000 {
				t.Errorf("%+v", live)
			}
			var list struct{ Runs []ledger.Run }
			if status, text := call(t, a.url+"/api/runs?limit=5&"+a.key, "", &list); status != http.StatusOK || len(list.Runs) != 1 || list.Runs[0].ID != run.ID {
				t.Errorf("status %d: %s", status, text)
			}
			if status, text := call(t, a.url+"/api/runs/"+run.ID+"/resume?"+a.key, "{}", nil); status != http.StatusConflict || !strings.Contains(text, "succeeded") {
				t.Errorf("resume what has succeeded: status %d: %s", status, text)
			}
			if status, text := call(t, a.url+"/api/status?"+a.key, "", nil); status != http.StatusOK || !strings.Contains(text, `"backlog":0`) {
				t.Errorf("status %d: %s", status, text)
			}
			a.audit(t, hubName)
			for _, r := range a.host.Results() {
				if r.Err != nil {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// The host's handler is killed at random: the messages come again, and the chain goes on by itself.
func TestBackfillUnderAHostThatIsKilled(t *testing.T) {
	t.Parallel()
	kills, events := 8, int64(80_000)
	if testing.Short() {
		events = 40_000
	}
	if isSoak() {
		kills, events = 60, 600_000
	}
	a := newWaveApp(t, true, 2, events)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	var run ledger.Run
	if status, text := call(t, a.url+"/api/backfill?"+a.key, "{}", &run); status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, text)
	}
	killed := 0
	for ; killed < kills; killed++ {
		<-time.After(time.Duration(r.Int64N(int64(1500 * time.Millisecond))))
		if now, ok := a.live(t, run.ID); ok && now.State.Over() {
			break
		}
		if err := a.host.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	live := a.ends(t, run.ID)
	if live.State != ledger.Succeeded || live.Counts.Remaining != 0 || live.Retries != 0 {
		t.Errorf("%+v", live)
	}
	t.Logf("%d kills, %d waves", killed, live.Wave)
	a.audit(t, hubName)
}

// An instance that goes in the middle of a wave leaves a chain that goes on: with what its workers have stored, and with
// nobody's help.
func TestBackfillUnderAHostWhoseInstanceGoes(t *testing.T) {
	t.Parallel()
	a := newWaveApp(t, true, 2, 100_000)
	var run ledger.Run
	if status, text := call(t, a.url+"/api/backfill?"+a.key, "{}", &run); status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, text)
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(time.Minute); ; <-ticker.C {
		now, ok := a.live(t, run.ID)
		if ok && now.State == ledger.Running && len(now.Units) > 0 {
			break
		}
		if ok && now.State.Over() || time.Now().After(end) {
			t.Fatalf("no wave was seen: %+v", now)
		}
	}
	if err := a.host.Terminate(t.Context()); err != nil {
		t.Fatal(err)
	}
	live := a.ends(t, run.ID)
	if live.State != ledger.Succeeded || live.Counts.Remaining != 0 || live.Retries != 0 {
		t.Errorf("%+v", live)
	}
	a.audit(t, hubName)
}
