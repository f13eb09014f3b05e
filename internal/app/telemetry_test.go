package app

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"persistor/emulator"
	"persistor/internal/fanout"
	"persistor/internal/work"
)

// A whole run of real processes is one trace, each span with its parent, and what is counted is what was stored.
func TestRunIsOneTrace(t *testing.T) {
	t.Parallel()
	c, s := newCollector(t), newSite(t, 2, 2500)
	s.settings = s.settings.with(c.told()...).with("BATCH_COUNT=1000", "GET_METADATA=TRUE")
	worker := start(t, "worker", s.settings)
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull?code=hidden-0123456789", "DELAY_BETWEEN_FUNCS=0"))
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke?N=2", "", &report, "traceparent", "00-"+trace+"-"+caller+"-01")
	if status != http.StatusOK || report.Messages != 5000 || report.Trace != trace {
		t.Fatalf("%d %s", status, text)
	}
	s.audit(t, hubName)
	// All of it was sent before the answer.
	run, calls, units := c.named("run"), c.named("call worker"), c.named("unit")
	if len(run) != 1 || hex.EncodeToString(run[0].ParentSpanId) != caller || run[0].service != "persistor-invoker" || attribute(run[0].Attributes, "persistor.run") != report.Run {
		t.Fatalf("run: %v", run)
	}
	if len(units) != 2 || len(calls) < 2 { // a busy worker is called again
		t.Fatalf("%d calls, %d units", len(calls), len(units))
	}
	for _, one := range calls {
		if !slices.Equal(one.ParentSpanId, run[0].SpanId) || one.Kind != tracepb.Span_SPAN_KIND_CLIENT || strings.Contains(one.String(), "hidden") {
			t.Errorf("call: %v", one)
		}
	}
	for _, unit := range units {
		if !slices.ContainsFunc(calls, func(one collected) bool { return slices.Equal(one.SpanId, unit.ParentSpanId) }) || unit.service != "persistor-worker" || unit.Kind != tracepb.Span_SPAN_KIND_SERVER {
			t.Errorf("unit: %v", unit)
		}
	}
	for name, want := range map[string]int{"receive": 6, "store": 6} {
		steps := c.named(name)
		if len(steps) < want || len(steps) > 2*want { // of batches, and not of messages
			t.Errorf("%d spans %s", len(steps), name)
		}
		messages := 0
		for _, step := range steps {
			if !slices.ContainsFunc(units, func(unit collected) bool { return slices.Equal(unit.SpanId, step.ParentSpanId) }) ||
				hex.EncodeToString(step.TraceId) != trace || attribute(step.Attributes, "persistor.run") != report.Run || attribute(step.Attributes, "persistor.partition") == "" {
				t.Errorf("%s: %v", name, step)
			}
			for _, a := range step.Attributes {
				if a.Key == "persistor.messages" {
					messages += int(a.Value.GetIntValue())
				}
			}
			if step.EndTimeUnixNano < step.StartTimeUnixNano || time.Since(time.Unix(0, int64(step.StartTimeUnixNano))) > time.Minute {
				t.Errorf("%s from %d to %d", name, step.StartTimeUnixNano, step.EndTimeUnixNano)
			}
		}
		if messages != 5000 {
			t.Errorf("%s: %d messages", name, messages)
		}
	}
	if n := len(c.named("settle")); n < 2 {
		t.Errorf("%d spans settle", n)
	}
	if n := c.sum("persistor-worker", "persistor.messages", "persistor.outcome", "stored"); n != 5000 {
		t.Errorf("counted %d messages", n)
	}
	if n := c.sum("persistor-worker", "persistor.bytes", "", ""); n != report.Bytes {
		t.Errorf("counted %d bytes of %d", n, report.Bytes)
	}
	if n := c.sum("persistor-invoker", "persistor.runs", "persistor.status", "ok"); n != 1 {
		t.Errorf("counted %d runs", n)
	}
	for _, line := range []string{worker.logged(`"answered a call"`), worker.logged("drained a source")} {
		if !strings.Contains(line, `"run":"`+report.Run+`"`) || !strings.Contains(line, `"unit":`) || strings.Count(line, `"run"`) != 1 || !strings.Contains(line, `"trace_id":"`+trace) {
			t.Errorf("line without run, unit or trace: %s", line)
		}
	}
}

// What becomes of telemetry is no concern of the drain: whatever its collector does, a unit is done in time, and the log says it
// in one line, without the secret.
func TestCollectorFails(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"down": nil,
		"broken": func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, r.Header.Get("api-key"), http.StatusInternalServerError)
			return true
		},
		"hanging": func(w http.ResponseWriter, r *http.Request) bool {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return true
		},
	} {
		c, s := newCollector(t), newSite(t, 2, 2000)
		c.refuse = refuse
		s.settings = s.settings.with(c.told()...).with("BATCH_COUNT=100", "GET_METADATA=TRUE", "LOG_LEVEL=debug", "OTEL_EXPORTER_OTLP_HEADERS=api-key=hunter2", "OTEL_EXPORTER_OTLP_TRACES_HEADERS=hunter2", "OTEL_METRIC_EXPORT_INTERVAL=1000")
		if name == "down" {
			s.settings = s.settings.with("OTEL_EXPORTER_OTLP_ENDPOINT=http://" + freeAddress(t))
		}
		worker := start(t, "worker", s.settings)
		for run := range int64(5) {
			began := time.Now()
			var report work.Report
			body := strings.TrimSuffix(s.unit(fmt.Sprint("r", run), 2, run+1), "}") + `,"budget_seconds":10}`
			status, text := call(t, worker.url+"/api/pull", body, &report)
			if took := time.Since(began); status != http.StatusOK || !drained(report) || took > 10*time.Second || run > 0 && took > 2*time.Second {
				t.Errorf("%s: run %d after %v: %d %s", name, run, took, status, text)
			}
		}
		s.audit(t, hubName)
		if name != "down" {
			waitFor(t, "an export", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.requests > 0 && c.headers.Get("Api-Key") == "hunter2"
			})
		}
		if status := worker.terminate(t); status != ExitOK {
			t.Errorf("%s: exit status %d", name, status)
		}
		trouble := 0
		for _, line := range append(worker.log, worker.stderr.String()) {
			if strings.Contains(line, "telemetry can't be sent") {
				trouble++
			}
			if strings.Contains(line, "hunter2") {
				t.Errorf("%s: the secret is in %s", name, line)
			}
		}
		if trouble != 1 || worker.stderr.Len() > 0 {
			t.Errorf("%s: told %d times; on stderr: %s", name, trouble, worker.stderr)
		}
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A unit that takes all of its budget is back in time although its telemetry is still to be sent.
func TestCollectorHangsAtTheDeadline(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c, s := newCollector(t), newSite(t, 2, 5_000_000)
	c.refuse = func(http.ResponseWriter, *http.Request) bool { <-release; return true }
	worker := start(t, "worker", s.settings.with(c.told()...))
	began := time.Now()
	var report work.Report
	status, text := call(t, worker.url+"/api/pull", strings.TrimSuffix(s.unit("deadline", 2, 1), "}")+`,"budget_seconds":4}`, &report)
	if took := time.Since(began); took > 4*time.Second || status != http.StatusOK || report.Sources[0].Ended != work.Deadline {
		t.Errorf("after %v with a budget of 4 s: %d %s", took, status, text)
	}
}

// What was recorded is sent also when a program is told to stop.
func TestTerminatedTellsTheRest(t *testing.T) {
	t.Parallel()
	c, s := newCollector(t), newSite(t, 1, 5_000_000)
	worker := start(t, "worker", s.settings.with(c.told()...).with("OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "BATCH_COUNT=1000", "EVENT_HUB_CHECKPOINT_UPDATE_RATE=1"))
	answered := make(chan work.Report, 1)
	go func() {
		var report work.Report
		_, text, _ := tryCall(worker.url+"/api/pull", s.unit("term", 1, 1))
		_ = json.Unmarshal([]byte(text), &report)
		answered <- report
	}()
	waitFor(t, "messages to be stored", func() bool {
		_, text, err := tryCall(worker.url+"/api/status", "")
		return err == nil && strings.Contains(text, `"partition":"0"`) && !strings.Contains(text, `"stored":0,`)
	})
	if status := worker.terminate(t); status != ExitOK {
		t.Errorf("exit status %d", status)
	}
	report := <-answered
	if n := c.sum("persistor-worker", "persistor.messages", "", ""); n != report.Messages || n == 0 || len(c.named("unit")) != 1 {
		t.Errorf("counted %d messages of %d, %d units", n, report.Messages, len(c.named("unit")))
	}
	if n := c.sum("persistor-worker", "persistor.loops", "persistor.ended", "cancelled"); n != 1 {
		t.Errorf("counted %d loops that were cancelled", n)
	}
}

// Metrics are there to be fetched where the settings say so, for whom they say; and nothing is sent unless they say that.
func TestMetricsAreFetched(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	for _, test := range []struct {
		setting           string
		withKey, withNone int
	}{{"", 404, 404}, {"FALSE", 404, 404}, {"TRUE", 200, 401}, {"open", 200, 200}} {
		s := newSite(t, 1, 300)
		worker := start(t, "worker", s.settings.with("METRICS="+test.setting, "WORKER_KEY=a-key-of-its-own-0123", "OTEL_TRACES_SAMPLER=always_on", "OTEL_SERVICE_NAME=mine"))
		if status, text := call(t, worker.url+"/api/pull", s.unit("r", 1, 1), nil, "x-functions-key", "a-key-of-its-own-0123"); status != http.StatusOK {
			t.Errorf("%d %s", status, text)
		}
		if status, text := call(t, worker.url+"/metrics", "", nil); status != test.withNone {
			t.Errorf("METRICS=%s: without a key %d %s", test.setting, status, text)
		}
		status, body := call(t, worker.url+"/metrics", "", nil, "x-functions-key", "a-key-of-its-own-0123")
		if status != test.withKey {
			t.Errorf("METRICS=%s: with the key %d %s", test.setting, status, body)
		}
		if status != http.StatusOK {
			continue
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		stored := families["persistor_messages_total"].GetMetric()
		lag := families["persistor_lag"].GetMetric()
		if len(stored) != 1 || stored[0].GetCounter().GetValue() != 300 || len(lag) != 1 || lag[0].GetGauge().GetValue() != 0 {
			t.Errorf("METRICS=%s: %s", test.setting, body)
		}
	}
	if c.requests > 0 {
		t.Errorf("%d requests to a collector that no setting names", c.requests)
	}
}

// Requests to storage that are tried again are counted.
func TestRetriesAreCounted(t *testing.T) {
	t.Parallel()
	c, s := newCollector(t), newSite(t, 1, 300)
	x := newCrossing(t, s)
	worker := start(t, "worker", s.settings.with(c.told()...).with("APPEND=TRUE"))
	x.set(adding, 1, func() {}, nil)
	var report work.Report
	status, text := call(t, worker.url+"/api/pull", s.unit("r", 1, 1), &report)
	if status != http.StatusOK || !drained(report) {
		t.Fatalf("%d %s", status, text)
	}
	if n := c.sum("persistor-worker", "persistor.storage.retries", "error.type", "no_answer"); n != 1 {
		t.Errorf("counted %d retries", n)
	}
}

// Queues and sessions are told of, too, and no session by its id: there is no end of those.
func TestQueuesAreToldOf(t *testing.T) {
	t.Parallel()
	for kind, sessions := range map[string]int{"queue": 0, "session": 30} {
		c := newCollector(t)
		s := newQueueSite(t, emulator.Queue{Sessions: sessions > 0}, c.told()...)
		s.put(t, 0, 600, sessions)
		worker := start(t, "worker", s.settings)
		var report work.Report
		if status, text := call(t, worker.url+"/api/pull", `{"run":"r","unit":2,"tasks":2}`, &report); status != http.StatusOK || report.Messages != 600 {
			t.Fatalf("%d %s", status, text)
		}
		if n := c.sum("persistor-worker", "persistor.messages", "persistor.source", kind); n != 600 {
			t.Errorf("%s: counted %d messages", kind, n)
		}
		settled := int64(0)
		for _, span := range c.named("settle") {
			for _, a := range span.Attributes {
				if a.Key == "persistor.messages" {
					settled += a.Value.GetIntValue()
				}
			}
		}
		if units := c.named("unit"); settled != 600 || len(units) != 1 || len(c.named("store")) == 0 || len(c.named("receive")) == 0 {
			t.Errorf("%s: %d messages settled, in %d units", kind, settled, len(units))
		}
		c.mu.Lock()
		for _, span := range c.spans {
			if strings.Contains(span.String(), "session ") {
				t.Errorf("a session in %v", span)
			}
		}
		for name, m := range c.metrics {
			if strings.Contains(m.String(), "session ") {
				t.Errorf("a session in %s", name)
			}
		}
		c.mu.Unlock()
	}
}

// What the Functions host brings is told of as well, under the trace that the host began.
func TestPushIsToldOf(t *testing.T) {
	t.Parallel()
	c, s := newCollector(t), newSite(t, 1, 300)
	p := startPush(t, hubTrigger("many", ""), "", s.push(c.told()...))
	p.await(t, "deliver", s.done(p))
	s.audit(t, hubName)
	invocations, stores := c.named("persist"), c.named("store")
	if len(invocations) == 0 || len(stores) < len(invocations) || len(c.named("settle")) > 0 {
		t.Errorf("%d invocations, %d stores", len(invocations), len(stores))
	}
	for _, one := range invocations {
		if one.service != "persistor-push" || one.Kind != tracepb.Span_SPAN_KIND_CONSUMER || len(one.ParentSpanId) == 0 || attribute(one.Attributes, "faas.invocation_id") == "" {
			t.Errorf("invocation: %v", one)
		}
	}
	for _, one := range stores {
		if !slices.ContainsFunc(invocations, func(parent collected) bool { return slices.Equal(parent.SpanId, one.ParentSpanId) }) {
			t.Errorf("store: %v", one)
		}
	}
	if n := c.sum("persistor-push", "persistor.messages", "persistor.outcome", "stored"); n != 300 {
		t.Errorf("counted %d messages", n)
	}
}

func TestPushedEventsAreToldOf(t *testing.T) {
	t.Parallel()
	for _, appends := range []string{"APPEND=FALSE", "APPEND=TRUE"} {
		c := newCollector(t)
		s := settings{
			"BINDING_SERVICE": "EVENT_GRID", "PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + filepath.ToSlash(t.TempDir()),
			"PERSISTOR_CONTAINER_NAME": "blobs", "PERSISTOR_CREATE_CONTAINER": "TRUE",
		}
		p := startPush(t, `{"bindings":[{"type":"eventGridTrigger","direction":"in","name":"message","cardinality":"many"}]}`, "", s.with(c.told()...).with(appends))
		var events []json.RawMessage
		for n := range 9 {
			events = append(events, json.RawMessage(fmt.Sprintf(`{"id":"%d","topic":"/subscriptions/5/t","subject":"s","eventType":"e","eventTime":"2026-11-24T12:00:00Z","data":{},"dataVersion":"1"}`, n)))
		}
		if err := p.Deliver(t.Context(), pushFunction, events...); err != nil {
			t.Fatalf("%v: %s", err, &p.output)
		}
		if n := c.sum("persistor-push", "persistor.messages", "persistor.source", "event"); n != 9 || len(c.named("persist")) != 1 || len(c.named("store")) == 0 {
			t.Errorf("%s: counted %d events, %d invocations, %d stores", appends, n, len(c.named("persist")), len(c.named("store")))
		}
	}
}

// A backfill's waves are told of as runs are.
func TestWavesAreToldOf(t *testing.T) {
	t.Parallel()
	c, s := newCollector(t), newSite(t, 2, 800)
	s.settings = s.settings.with(c.told()...).with("GET_METADATA=TRUE")
	worker := start(t, "worker", s.settings)
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull", "DELAY_BETWEEN_FUNCS=0"))
	var run struct{ ID, State string }
	if status, text := call(t, invoker.url+"/api/backfill", "{}", &run); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	waitFor(t, "a wave to be told of", func() bool { return len(c.named("wave")) > 0 })
	s.audit(t, hubName)
	wave, calls := c.named("wave")[0], c.named("call worker")
	if wave.service != "persistor-invoker" || attribute(wave.Attributes, "persistor.run") != run.ID || len(calls) == 0 {
		t.Errorf("wave: %v, %d calls", wave, len(calls))
	}
	for _, one := range calls {
		if !slices.Equal(one.ParentSpanId, wave.SpanId) {
			t.Errorf("call: %v", one)
		}
	}
	waitFor(t, "the metrics", func() bool {
		return c.sum("persistor-invoker", "persistor.waves", "persistor.status", "ok") >= 1 && c.sum("persistor-invoker", "persistor.units", "persistor.status", "ok") >= 1
	})
	if line := invoker.logged("ended a wave"); !strings.Contains(line, `"run":"`+run.ID+`"`) || !slices.ContainsFunc(c.named("wave"), func(one collected) bool {
		return strings.Contains(line, `"trace_id":"`+hex.EncodeToString(one.TraceId)+`"`)
	}) {
		t.Errorf("line without run or trace: %s", line)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.metrics["persistor-worker persistor.lag"]; m != nil {
		t.Errorf("a part of a partition has a lag: %v", m)
	}
}
