package app

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/work"
)

// sources are what a worker of Service Bus may drain, and how it is told to.
var queueSources = []struct {
	name       string
	sessions   int
	deadLetter bool
	append     string // the setting that has batches joined, if any
}{
	{"queue", 0, false, ""},
	{"sessions", 25, false, ""},
	{"dead-letter queue", 0, true, ""},
	{"queue appended", 0, false, "APPEND=TRUE"},
	{"sessions appended", 25, false, "APPEND=TRUE"},
	{"dead-letter queue appended", 0, true, "APPEND=TRUE"},
	{"queue by minute", 0, false, "TIMED_APPEND=TRUE"},
	{"sessions by minute", 25, false, "TIMED_APPEND=TRUE"},
}

// newSource is a site for one of the sources, whose messages may be delivered as often as it takes.
func newSource(t testing.TB, sessions int, deadLetter bool, more ...string) *queueSite {
	t.Helper()
	s := newQueueSite(t, emulator.Queue{Sessions: sessions > 0, MaxDeliveryCount: 2000}, more...)
	if deadLetter {
		s.path, s.folder = "orders/$DeadLetterQueue", "orders/deadletter"
		s.settings = s.settings.with("SERVICE_BUS_SUBQUEUE=deadletter")
	}
	return s
}

// pull has a worker drain with so many loops. An error is of a worker that is gone.
func pullQueue(worker *process, run string, loops int) (work.Report, error) {
	body, err := json.Marshal(work.Unit{Run: run, Tasks: loops})
	if err != nil {
		return work.Report{}, err
	}
	var report work.Report
	_, text, err := tryCall(worker.url+"/api/pull", string(body))
	if err == nil {
		err = json.Unmarshal([]byte(text), &report)
	}
	return report, err
}

// A worker that is killed at any moment, again and again: every message is stored, once. The locks that it
// leaves behind are made to expire at once, which is when its messages come again.
func TestKilledQueueWorkerLosesAndRepeatsNothing(t *testing.T) {
	kills := 8
	switch {
	case isSoak():
		kills = 200
	case testing.Short():
		kills = 3
	}
	for _, source := range queueSources {
		t.Run(source.name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			s := newSource(t, source.sessions, source.deadLetter, "BATCH_COUNT=80", source.append)
			put := 0
			for killed := 0; killed < kills; {
				if info, err := s.bus.Queue(s.path); err != nil {
					t.Fatal(err)
				} else if info.Active+info.Locked < 2000 {
					s.put(t, put+1, 8000, source.sessions)
					put += 8000
				}
				worker := start(t, "worker", s.settings)
				answered := make(chan error, 1)
				go func() {
					report, err := pullQueue(worker, "kill", 3)
					if err == nil && !drained(report) {
						err = fmt.Errorf("%+v", report)
					} else if err != nil {
						err = nil
					}
					answered <- err
				}()
				time.AfterFunc(time.Duration(r.Int64N(int64(400*time.Millisecond))), func() { _ = worker.cmd.Process.Kill() })
				if err := <-answered; err != nil {
					t.Error(err)
				}
				worker.kill()
				killed++
				if _, err := s.bus.ExpireLocks(s.path); err != nil {
					t.Fatal(err)
				}
			}
			worker := start(t, "worker", s.settings)
			last := int64(0)
			// What was still sent to the worker that was killed last comes again only after the first of these runs.
			for run := range 3 {
				report, err := pullQueue(worker, fmt.Sprintf("last%d", run), 3)
				if err != nil || !drained(report) {
					t.Fatalf("%v: %+v", err, report)
				}
				last += report.Messages
				if n, err := s.bus.ExpireLocks(s.path); err != nil || n == 0 {
					break
				}
			}
			s.once(t, put)
			s.empty(t)
			t.Logf("%d kills, %d messages; the last runs stored %d", kills, put, last)
		})
	}
}

// The same at every named step.
func TestQueueWorkerKilledAtEveryStep(t *testing.T) {
	for _, source := range queueSources {
		steps := []string{"before create", "after create", "before unmark", "after unmark"}
		if source.append != "" {
			steps = []string{"before append", "after append", "before unmark", "after unmark"}
		}
		if source.sessions > 0 {
			steps = steps[:2] // a session's blobs need no mark
		}
		for _, step := range steps {
			t.Run(source.name+" "+step, func(t *testing.T) {
				t.Parallel()
				s := newSource(t, source.sessions, source.deadLetter, "BATCH_COUNT=100", source.append)
				s.put(t, 1, 1000, source.sessions)
				for attempt := range 80 {
					// The second time, so that something is stored each time and the attempts come to an end.
					worker := start(t, "worker", s.settings.with(fmt.Sprintf("KILL_AT=%s:%d", step, 2+attempt%2)))
					report, err := pullQueue(worker, "step", 2)
					worker.kill()
					if _, err := s.bus.ExpireLocks(s.path); err != nil {
						t.Fatal(err)
					}
					if err != nil {
						continue // killed
					}
					if !drained(report) {
						t.Fatalf("neither killed nor drained: %+v", report)
					}
					if attempt < 2 {
						t.Fatalf("drained after %d kills: the step is not on the way", attempt)
					}
					if info, err := s.bus.Queue(s.path); err != nil || info.Active > 0 {
						continue // what was still sent to the worker that was killed before, and comes again only now
					}
					s.once(t, 1000)
					s.empty(t)
					return
				}
				t.Fatal("never drained")
			})
		}
	}
}

// Two runs on the same entity at once: together they store everything, once, and both end well.
func TestOverlappingQueueRuns(t *testing.T) {
	for _, source := range queueSources {
		t.Run(source.name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t, source.sessions, source.deadLetter, "BATCH_COUNT=150", source.append)
			s.put(t, 1, 12_000, source.sessions)
			workers := []*process{start(t, "worker", s.settings), start(t, "worker", s.settings.with("BATCH_COUNT=220"))}
			reports := make(chan work.Report, len(workers))
			for i, w := range workers {
				go func() {
					report, err := pullQueue(w, fmt.Sprintf("run%d", i), 3)
					if err != nil || !drained(report) {
						t.Errorf("run %d: %v: %+v", i, err, report)
					}
					reports <- report
				}()
			}
			total := int64(0)
			for range workers {
				total += (<-reports).Messages
			}
			if total != 12_000 {
				t.Errorf("%d messages were reported as stored", total)
			}
			s.once(t, 12_000)
			s.empty(t)
		})
	}
}
