package app

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/host/hosttest"
)

// invokerApp is an invoker's function app: its folder, its storage queue, and a worker behind a turnstile. The
// blobs are in a directory, for the audit; lease and queue are in Azurite.
type invokerApp struct {
	*site
	folder string
	worker *process
	gate   *turnstile
	queue  *azqueue.QueueClient
	poison *azqueue.QueueClient
	output lines
	host   *hosttest.Host
}

// invokerFolder is what the folder has beside an HTTP function.
var invokerFolder = map[string]string{
	"schedule/function.json": `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"%PERSISTOR_SCHEDULE%"}]}`,
	"queue/function.json": `{"bindings":[
		{"type":"queueTrigger","direction":"in","name":"request","queueName":"%PERSISTOR_QUEUE%","connection":"PERSISTOR_STORAGE_CONNECTION_STRING"}]}`,
}

// newInvokerApp runs the app under a host that forwards HTTP or doesn't.
func newInvokerApp(t *testing.T, forwards bool) *invokerApp {
	t.Helper()
	a := &invokerApp{site: newSite(t, 2, 2000), folder: newFunctionApp(t, "", "invoke")}
	a.settings = a.settings.with("GET_METADATA=TRUE", "WORKER_CONCURRENCY=4", "EVENT_HUB_CHECKPOINT_STORAGE_CONN_STRING=file://"+filepath.ToSlash(a.dir))
	a.worker = start(t, "worker", a.settings)
	a.gate = newTurnstile(t, a.worker)

	storage, name := azuritetest.Run(t), azuritetest.Container(t)
	service, err := azqueue.NewServiceClientFromConnectionString(storage, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.queue, a.poison = service.NewQueueClient(name), service.NewQueueClient(name+"-poison")
	if _, err := a.queue.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	a.write(t, forwards)
	a.host, err = hosttest.Start(t.Context(), hosttest.Options{Folder: a.folder, Output: &a.output, Settings: a.settings.with(
		"PERSISTOR_TEST_PROCESS=invoker", "LOG_LEVEL=info", "FUNC_TO_INVOKE="+a.gate.url, "DELAY_BETWEEN_FUNCS=0", "LISTEN_ADDRESS=",
		"AzureWebJobsStorage="+storage, "PERSISTOR_STORAGE_CONNECTION_STRING="+storage, "PERSISTOR_CONTAINER_NAME="+name, "PERSISTOR_QUEUE="+name, "PERSISTOR_SCHEDULE=0 */15 * * * *",
	)})
	if err != nil {
		t.Fatalf("%v\n%s", err, a.output.String())
	}
	t.Cleanup(func() { _ = a.host.Close() })
	return a
}

// write completes the app's folder.
func (a *invokerApp) write(t *testing.T, forwards bool) {
	t.Helper()
	files := map[string]string{"host.json": fmt.Sprintf(`{"version":"2.0","extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"},"extensions":{"queues":{"batchSize":1,"maxDequeueCount":2}},
		"customHandler":{"description":{"defaultExecutablePath":"handler"},"enableForwardingHttpRequest":%v}}`, forwards)}
	for name, text := range invokerFolder {
		files[name] = text
	}
	for name, text := range files {
		path := filepath.Join(a.folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// send puts a message into the queue.
func (a *invokerApp) send(t *testing.T, message string) {
	t.Helper()
	if _, err := a.queue.EnqueueMessage(t.Context(), base64.StdEncoding.EncodeToString([]byte(message)), nil); err != nil {
		t.Fatal(err)
	}
}

// outcome waits for the n-th end of a function's invocations.
func (a *invokerApp) outcome(t *testing.T, function string, n int) (r hosttest.Result) {
	t.Helper()
	waitFor(t, "an end of "+function, func() bool {
		ended := 0
		for _, r = range a.host.Results() {
			if r.Function == function {
				if ended++; ended == n {
					return true
				}
			}
		}
		return false
	})
	return r
}

func (a *invokerApp) waitForLine(t *testing.T, words ...string) {
	t.Helper()
	waitFor(t, "a line with "+strings.Join(words, ", "), func() bool {
		for line := range strings.Lines(a.output.String()) {
			has := true
			for _, word := range words {
				has = has && strings.Contains(line, word)
			}
			if has {
				return true
			}
		}
		return false
	})
}

// Each trigger drains all, and says so in the host's log.
func TestTriggersStartRuns(t *testing.T) {
	for name, trigger := range map[string]func(t *testing.T, a *invokerApp) hosttest.Result{
		"timer": func(t *testing.T, a *invokerApp) hosttest.Result {
			if err := a.host.Tick(t.Context(), "schedule"); err != nil {
				t.Error(err)
			}
			return a.outcome(t, "schedule", 1)
		},
		"queue": func(t *testing.T, a *invokerApp) hosttest.Result {
			a.send(t, `{"N": 1, "N_per_func": 2}`)
			return a.outcome(t, "queue", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newInvokerApp(t, true)
			a.gate.let()
			r := trigger(t, a)
			if r.Err != nil || r.Status != http.StatusOK || len(r.Logs) != 1 || !strings.Contains(r.Logs[0], "stored 4000 messages") {
				t.Errorf("%+v", r)
			}
			a.audit(t, hubName)
			a.waitForLine(t, "ended a run", `"messages":4000`)
		})
	}
}

// While a run that came over HTTP is under way a tick is skipped, and a message waits for its end.
func TestTriggersDuringARun(t *testing.T) {
	for _, forwards := range []bool{true, false} {
		t.Run(fmt.Sprintf("forwards %v", forwards), func(t *testing.T) {
			t.Parallel()
			a := newInvokerApp(t, forwards)
			called := inBackground(a.host.URL()+"/api/invoke?N=1&code="+a.host.FunctionKey(), "")
			run := a.gate.waits(t, 1)
			if err := a.host.Tick(t.Context(), "schedule"); err != nil {
				t.Errorf("a skipped tick failed: %v", err)
			}
			if r := a.outcome(t, "schedule", 1); len(r.Logs) != 1 || !strings.HasPrefix(r.Logs[0], "skipped: run "+run+" is under way since 2") {
				t.Errorf("%+v", r)
			}
			a.waitForLine(t, `"level":"INFO"`, "skipped a run", `"under_way":"`+run+`"`, `"since":"2`)
			a.send(t, `{}`)
			a.waitForLine(t, "waits for a run's end", run)
			status, text := call(t, a.host.URL()+"/api/invoke?code="+a.host.FunctionKey(), "", nil)
			if status != http.StatusConflict || !strings.Contains(text, run) {
				t.Errorf("status %d: %s", status, text)
			}
			a.gate.let()
			if r := <-called; r.status != http.StatusOK || !strings.Contains(r.text, run) || !strings.Contains(r.text, `"messages":4000`) {
				t.Errorf("%+v", r)
			}
			if r := a.outcome(t, "queue", 1); r.Err != nil || len(r.Logs) != 1 || !strings.Contains(r.Logs[0], "stored 0 messages") {
				t.Errorf("%+v", r)
			}
			a.audit(t, hubName)
		})
	}
}

// A failed run fails its function; a message that can't ever work ends in the poison queue.
func TestTriggersThatFail(t *testing.T) {
	t.Parallel()
	a := newInvokerApp(t, true)
	a.gate.let()
	a.send(t, `{"n_units": 1}`)
	a.outcome(t, "queue", 2)
	waitFor(t, "the message in the poison queue", func() bool {
		peeked, err := a.poison.PeekMessage(t.Context(), nil)
		return err == nil && len(peeked.Messages) == 1
	})
	a.waitForLine(t, `"level":"ERROR"`, `"function":"queue"`, "n_units", "poison queue")
	a.worker.kill()
	if err := a.host.Tick(t.Context(), "schedule"); err == nil {
		t.Error("a tick whose run failed has succeeded")
	}
	a.waitForLine(t, `"level":"ERROR"`, "a run failed", "units failed", "502")
	a.waitForLine(t, `"level":"ERROR"`, `"function":"schedule"`, "units failed")
}

// timerBody and queueBody are invocations as the host writes them.
const (
	timerBody = `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":true}},"Metadata":{"sys":{"MethodName":"schedule","UtcNow":"2026-11-25T05:06:07Z","RandGuid":"a3f2"}}}`
	queueBody = `{"Data":{"request":"\"{\\\"N\\\":1}\""},"Metadata":{"DequeueCount":"1","Id":"\"7d2b\"","sys":{"MethodName":"queue","UtcNow":"2026-11-25T05:06:07Z","RandGuid":"a3f2"}}}`
)

// A message gives up in time to come again; a timer that is past due runs all the same; and nobody but the
// host can call either.
func TestTriggersByHand(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, 2000)
	s.settings = s.settings.with("GET_METADATA=TRUE", "WORKER_CONCURRENCY=4", "DELAY_BETWEEN_FUNCS=0", "LOG_LEVEL=info", "INVOKER_TIMEOUT=5")
	gate := newTurnstile(t, start(t, "worker", s.settings))
	s.settings = s.settings.with("FUNC_TO_INVOKE=" + gate.url)
	alone := start(t, "invoker", s.settings.with("INVOKER_TIMEOUT=60"))
	hosted := start(t, "invoker", s.settings.with(fmt.Sprint("FUNCTIONS_CUSTOMHANDLER_PORT=", hosttest.Port(t))))

	for path, body := range map[string]string{"/schedule": timerBody, "/queue": queueBody} {
		if status, text := call(t, alone.url+path, body, nil); status != http.StatusNotFound {
			t.Errorf("without the host in front %s answers %d: %s", path, status, text)
		}
	}
	called := inBackground(alone.url+"/api/invoke?N=1", "")
	run := gate.waits(t, 1)
	began := time.Now()
	status, text := call(t, hosted.url+"/queue", queueBody, nil)
	if took := time.Since(began); status != http.StatusInternalServerError || !strings.Contains(text, run) || took > 4*time.Second || took < 2*time.Second {
		t.Errorf("after %v of 4.5 s, half of which is for the run: status %d: %s", took, status, text)
	}
	gate.let()
	if r := <-called; r.status != http.StatusOK {
		t.Errorf("%+v", r)
	}
	if status, text := call(t, hosted.url+"/schedule", timerBody, nil); status != http.StatusOK || !strings.Contains(text, "stored 0 messages") {
		t.Errorf("past due: status %d: %s", status, text)
	}
	waitFor(t, "a line on the past due timer", func() bool { return hosted.logged("past due") != "" })
	if status, text := call(t, hosted.url+"/queue", queueBody, nil); status != http.StatusOK {
		t.Errorf("status %d: %s", status, text)
	}
	s.audit(t, hubName)
}
