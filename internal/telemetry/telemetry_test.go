package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/trace"

	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/pull"
	"persistor/internal/work"
)

// lines is a log that keeps what is written to it.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(LogHandler(slog.NewJSONHandler(l, nil))) }

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestLinesSayWhatTheyAreAbout(t *testing.T) {
	var l lines
	log := l.logger()
	var outer context.Context
	handler := Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		outer = r.Context()
		log.InfoContext(outer, "before")
		inner := About(outer, "r1", 3)
		log.InfoContext(inner, "within")
		log.With("run", "r2", "unit", 4).InfoContext(inner, "has its own")
		log.InfoContext(inner, "has its own, too", "run", "r5")
	}))
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("traceparent", parent)
	handler.ServeHTTP(httptest.NewRecorder(), r)
	log.InfoContext(outer, "after")
	log.InfoContext(About(t.Context(), "r6", -1), "without a call")
	log.Info("without anything")

	var got []string
	for line := range strings.Lines(l.String()) {
		var said map[string]any
		if err := json.Unmarshal([]byte(line), &said); err != nil || strings.Count(line, `"run"`) > 1 {
			t.Errorf("%s: %v", line, err)
		}
		got = append(got, strings.TrimSpace(strings.Join([]string{said["msg"].(string), text(said["run"]), text(said["unit"]), text(said["trace_id"]), text(said["span_id"])}, " ")))
	}
	trace := "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7"
	want := []string{"before   " + trace, "within r1 3 " + trace, "has its own r2 4 " + trace, "has its own, too r5  " + trace, "after r1 3 " + trace, "without a call r6", "without anything"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func text(v any) string {
	if v == nil {
		return ""
	}
	b, _ := json.Marshal(v)
	return strings.Trim(string(b), `"`)
}

// Nothing is made when nothing is asked for, and what there isn't can be used all the same.
func TestOff(t *testing.T) {
	told := New(config.Telemetry{}, slog.New(slog.DiscardHandler))
	if told != nil {
		t.Fatal("made although nothing is to be told")
	}
	var l pull.Loop
	told.Watch(t.Context(), &l, Loop{Source: Partition})()
	if l.Observe != nil || told.Observe(t.Context(), Loop{}) != nil || told.Metrics() != nil || told.Reserve(time.Hour) != 0 {
		t.Error("something is told")
	}
	ctx, end := told.Run(t.Context())
	end(fanout.Report{}, time.Hour)
	_, endUnit := told.Unit(ctx, work.Unit{Run: "r"}, Queue)
	endUnit(work.Report{}, time.Hour)
	_, endInvocation := told.Invocation(ctx, "i")
	endInvocation(errors.New("no"), time.Hour)
	_, endWave := told.Wave(ctx, "r")
	endWave(fanout.OK, nil, time.Hour)
	told.UnitEnded(ctx, fanout.UnitRow{})
	told.Flush(time.Hour)
	if _, span := told.Tracer().Start(ctx, "s"); span.IsRecording() || told.Close(ctx) != nil {
		t.Error("recording")
	}
}

// tellAll has everything happen that is counted.
func tellAll(told *Telemetry) {
	ctx, end := told.Run(context.Background())
	unitCtx, endUnit := told.Unit(ctx, work.Unit{Run: "r", Partitions: []string{"0"}}, Partition)
	var l pull.Loop
	done := told.Watch(unitCtx, &l, Loop{Source: Partition, Partition: "0", Target: 99})
	now := time.Now()
	l.Observe(pull.Step{Kind: pull.Received, Began: now, Messages: 10, Bytes: 100, Last: 9})
	l.Observe(pull.Step{Kind: pull.Stored, Began: now, Took: 3 * time.Millisecond, Messages: 8, Bytes: 80, Last: 9})
	l.Observe(pull.Step{Kind: pull.Settled, Began: now, Took: time.Millisecond, Messages: 10, Last: 9})
	l.Observe(pull.Step{Kind: pull.Kept, Began: now, Messages: 8, Bytes: 80, Already: 2, Last: 9})
	l.Observe(pull.Step{Kind: pull.Kept, Began: now, Err: errors.New("no"), Last: 19})
	told.Retried(unitCtx, 503)
	told.Retried(unitCtx, 0)
	if told.scraped != nil {
		_ = scrape(told)
	}
	_ = done // the loop runs on
	endUnit(work.Report{Status: "failed", Sources: []work.Source{
		{Partition: "0", Ended: work.Failed, Error: "no", Backlog: 90}, {Ended: work.Drained, RedeliveryExpected: 4, Backlog: -1},
	}}, time.Second)
	_, endWave := told.Wave(ctx, "r")
	endWave("postponed", nil, time.Second)
	told.UnitEnded(ctx, fanout.UnitRow{Status: fanout.OK, Ended: work.Drained})
	end(fanout.Report{Run: "r", Status: fanout.OK, ElapsedSeconds: 2}, time.Second)
}

func scrape(told *Telemetry) string {
	w := httptest.NewRecorder()
	told.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// The answer is what Prometheus' own parser reads, with everything that is counted in it.
func TestScrape(t *testing.T) {
	told := New(config.Telemetry{Scrape: config.ScrapeKey, Service: "mine", Attributes: []config.Attribute{{Name: "deployment.environment.name", Value: "a\"b\\c"}}}, slog.New(slog.DiscardHandler))
	defer told.Close(context.Background())
	tellAll(told)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(scrape(told)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for name, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				if name != "target_info" || strings.HasPrefix(l.GetName(), "deployment") || l.GetName() == "service_name" {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			key := name + " " + strings.Join(labels, ",")
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if h := m.GetHistogram(); h != nil {
				got[key] = float64(h.GetSampleCount())
				got[key+" sum"] = h.GetSampleSum()
			}
			if !strings.HasPrefix(name, "target") && family.GetHelp() == "" {
				t.Errorf("%s has no description", name)
			}
		}
	}
	if age, ok := got["persistor_checkpoint_age_seconds persistor_partition=0"]; !ok || age < 0 || age > 60 {
		t.Errorf("age of the checkpoint: %v, %v", age, ok)
	}
	delete(got, "persistor_checkpoint_age_seconds persistor_partition=0")
	want := map[string]float64{
		`target_info deployment_environment_name=a"b\c,service_name=mine`:                           1,
		"persistor_messages_total persistor_outcome=stored,persistor_source=partition":              8,
		"persistor_messages_total persistor_outcome=already,persistor_source=partition":             2,
		"persistor_bytes_total persistor_source=partition":                                          80,
		"persistor_batches_total persistor_outcome=stored,persistor_source=partition":               1,
		"persistor_batches_total persistor_outcome=failed,persistor_source=partition":               1,
		"persistor_loops_total persistor_ended=failed,persistor_source=partition":                   1,
		"persistor_loops_total persistor_ended=drained,persistor_source=partition":                  1,
		"persistor_redeliveries_total persistor_source=partition":                                   4,
		"persistor_storage_retries_total error_type=503":                                            1,
		"persistor_storage_retries_total error_type=no_answer":                                      1,
		"persistor_runs_total persistor_status=ok":                                                  1,
		"persistor_units_total persistor_ended=drained,persistor_status=ok":                         1,
		"persistor_waves_total persistor_status=postponed":                                          1,
		"persistor_lag persistor_partition=0":                                                       90,
		"persistor_store_duration_seconds persistor_outcome=stored,persistor_source=partition":      1,
		"persistor_store_duration_seconds persistor_outcome=stored,persistor_source=partition sum":  0.003,
		"persistor_settle_duration_seconds persistor_outcome=stored,persistor_source=partition":     1,
		"persistor_settle_duration_seconds persistor_outcome=stored,persistor_source=partition sum": 0.001,
		"persistor_run_duration_seconds persistor_status=ok":                                        1,
		"persistor_run_duration_seconds persistor_status=ok sum":                                    2,
	}
	for key, value := range want {
		if v, ok := got[key]; !ok || v != value {
			t.Errorf("%s: %v (%v), want %v", key, v, ok, value)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("what is not expected: %v", got)
	}
}

// hang is a collector that takes requests and never answers.
func hang(t *testing.T, requests *atomic.Int32) string {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		requests.Add(1)
		<-release
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	return server.URL
}

// A collector that hangs costs no more than the time that a flush may take, and that seldom; and one line.
func TestCollectorHangs(t *testing.T) {
	t.Parallel()
	var l lines
	var requests atomic.Int32
	url := hang(t, &requests)
	told := New(config.Telemetry{Traces: url, Metrics: url, Timeout: 300 * time.Millisecond, Interval: time.Hour, Sampler: config.Sampler{Share: 1}}, l.logger())
	began := time.Now()
	for range 100 {
		tellAll(told)
	}
	if took := time.Since(began); took > 2*flushTime {
		t.Errorf("100 units took %v", took)
	}
	if requests.Load() == 0 {
		t.Error("nothing was sent")
	}
	began = time.Now()
	_ = told.Close(context.Background())
	if took := time.Since(began); took > closeTime+time.Second {
		t.Errorf("closing took %v", took)
	}
	if n := strings.Count(l.String(), "\n"); n != 1 || !strings.Contains(l.String(), "telemetry can't be sent") {
		t.Errorf("%d lines: %s", n, l.String())
	}
}

// A flush is over when its time is.
func TestFlushIsBounded(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	url := hang(t, &requests)
	told := New(config.Telemetry{Traces: url, Metrics: url, Timeout: time.Minute, Interval: time.Hour, Sampler: config.Sampler{Share: 1}}, slog.New(slog.DiscardHandler))
	_, span := told.Tracer().Start(t.Context(), "s", trace.WithNewRoot())
	span.End()
	began := time.Now()
	told.Flush(100 * time.Millisecond)
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
	_ = told.Close(context.Background())
}

// What the caller of a run has decided holds, or doesn't, as the sampler says.
func TestSamplers(t *testing.T) {
	for name, test := range map[string]struct {
		sampler config.Sampler
		flags   string
		want    bool
	}{
		"a parent that records":        {config.Sampler{Parent: true, Share: 0}, "01", true},
		"a parent that doesn't":        {config.Sampler{Parent: true, Share: 1}, "00", false},
		"always":                       {config.Sampler{Share: 1}, "00", true},
		"never":                        {config.Sampler{Share: 0}, "01", false},
		"without a parent, by default": {config.Sampler{Parent: true, Share: 1}, "", true},
	} {
		told := New(config.Telemetry{Traces: "http://127.0.0.1:1/", Timeout: time.Second, Sampler: test.sampler}, slog.New(slog.DiscardHandler))
		ctx := t.Context()
		if test.flags != "" {
			ctx = Extract(ctx, http.Header{"Traceparent": {strings.TrimSuffix(parent, "01") + test.flags}})
		}
		if _, span := told.Tracer().Start(ctx, "s"); span.IsRecording() != test.want {
			t.Errorf("%s: recording %v", name, span.IsRecording())
		}
		_ = told.Close(t.Context())
	}
}
