package app

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"persistor/internal/record"
	"persistor/internal/work"
)

// A worker that is killed at any moment, again and again, while a run repeats until drained: every event
// is stored, once.
func TestKilledWorkerLosesAndRepeatsNothing(t *testing.T) {
	kills := 15
	if isSoak() {
		kills = 200
	}
	// So many events that the kills come before the end.
	killAtRandom(t, newSite(t, 4, 60_000), kills)
}

// killAtRandom kills workers of a site until so many are killed and what is there is drained. Blobs, or what is
// appended at once, are small.
func killAtRandom(t *testing.T, s *site, kills int) {
	t.Helper()
	s.settings = s.settings.with("BATCH_COUNT=300", "GET_METADATA=TRUE", "EVENT_HUB_CHECKPOINT_UPDATE_RATE=1")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))

	epoch, level := 0, int64(1)
	for killed := 0; killed < kills; {
		folder := fmt.Sprintf("epoch%d", epoch)
		worker := start(t, "worker", s.settings.with("STORE_PARAM="+folder, fmt.Sprintf("EVENT_HUB_CHECKPOINT_CONTAINER=checkpoints-%d", epoch)))
		level++
		answered := make(chan work.Report, 1)
		go func() {
			var report work.Report
			_, text, err := tryCall(worker.url+"/api/pull", s.unit("kill", 4, level))
			if err == nil {
				_ = json.Unmarshal([]byte(text), &report)
			}
			answered <- report
		}()
		timer := time.NewTimer(time.Duration(r.Int64N(int64(150 * time.Millisecond))))
		select {
		case <-timer.C:
			worker.kill()
			<-answered
			killed++
		case report := <-answered:
			worker.kill()
			if drained(report) { // it was faster: all is there, and the next epoch begins
				s.audit(t, folder)
				epoch++
			}
		}
	}
	folder := fmt.Sprintf("epoch%d", epoch)
	worker := start(t, "worker", s.settings.with("STORE_PARAM="+folder, fmt.Sprintf("EVENT_HUB_CHECKPOINT_CONTAINER=checkpoints-%d", epoch)))
	var report work.Report
	status, text := call(t, worker.url+"/api/pull", s.unit("last", 4, level+1), &report)
	if status != 200 || !drained(report) {
		t.Fatalf("status %d: %s", status, text)
	}
	found := s.audit(t, folder)
	t.Logf("%d kills, drained %d times over; the last: %d blobs, %d messages", kills, epoch, found.Blobs, found.Messages)
}

// Workers that read parts of one partition side by side are killed at any moment, each again and again until its part
// is drained: the parts meet, and every event is stored, once.
func TestKilledWorkersOfCells(t *testing.T) {
	kills, size := int64(40), int64(6000)
	if isSoak() {
		kills, size = 200, record.CellSize
	}
	s := newSite(t, 1, 5*size)
	s.settings = s.settings.with("BATCH_COUNT=300", "GET_METADATA=TRUE")
	var units [3]work.Unit
	for i := range int64(5) {
		u := &units[i/2]
		u.Run, u.Unit, u.Tasks = "kill", int(i/2), 2
		u.Cells = append(u.Cells, work.Cell{Partition: "0", Range: work.Range{From: i * size, To: (i+1)*size - 1}})
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var killed atomic.Int64
	epoch := 0
	for ; killed.Load() < kills; epoch++ {
		folder := fmt.Sprintf("epoch%d", epoch)
		var workers sync.WaitGroup
		for i, unit := range units {
			workers.Go(func() {
				s.drainKilled(t, folder, unit, rand.New(rand.NewPCG(seed, uint64(epoch*len(units)+i))), &killed)
			})
		}
		if workers.Wait(); t.Failed() {
			return
		}
		s.audit(t, folder)
	}
	t.Logf("%d kills, drained %d times over", killed.Load(), epoch)
}

// drainKilled has workers drain a unit, and kills them at random until one is faster.
func (s *site) drainKilled(t *testing.T, folder string, unit work.Unit, r *rand.Rand, killed *atomic.Int64) {
	body, err := json.Marshal(unit)
	if err != nil {
		t.Error(err)
		return
	}
	for attempt := 0; ; attempt++ {
		worker, err := tryStart(t, "worker", s.settings.with("STORE_PARAM="+folder))
		if err != nil {
			t.Error(err)
			return
		}
		// Later and later, so that it comes to an end.
		timer := time.AfterFunc(time.Duration(r.Int64N(int64(time.Duration(1+attempt)*100*time.Millisecond))), worker.kill)
		var report work.Report
		_, text, err := tryCall(worker.url+"/api/pull", string(body))
		if !timer.Stop() && err != nil {
			killed.Add(1)
			continue
		}
		worker.kill()
		if err == nil {
			err = json.Unmarshal([]byte(text), &report)
		}
		if err != nil || !drained(report) {
			t.Errorf("neither killed nor drained: %v: %s", err, text)
		}
		return
	}
}

// The same at every named step.
func TestKilledAtEveryStep(t *testing.T) {
	for _, step := range killSteps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2, 1000)
			s.settings = s.settings.with("BATCH_COUNT=100", "GET_METADATA=TRUE", "EVENT_HUB_CHECKPOINT_UPDATE_RATE=1")
			if strings.HasSuffix(step, "append") {
				s.settings = s.settings.with("APPEND=TRUE")
			}
			for attempt := range 40 {
				// The second time, so that something is stored each time and the attempts come to an end.
				worker := start(t, "worker", s.settings.with(fmt.Sprintf("KILL_AT=%s:%d", step, 2+attempt%2)))
				var report work.Report
				_, text, err := tryCall(worker.url+"/api/pull", s.unit("step", 2, int64(attempt+1)))
				worker.kill()
				if err != nil {
					continue // killed
				}
				if err := json.Unmarshal([]byte(text), &report); err != nil || !drained(report) {
					t.Fatalf("neither killed nor drained: %s", text)
				}
				if attempt < 2 {
					t.Fatalf("drained after %d kills: the step is not on the way", attempt)
				}
				s.audit(t, hubName)
				return
			}
			t.Fatal("never drained")
		})
	}
}

// Two runs on the same hub at once, again and again: the newer one takes over, both end well, and the
// audit holds.
func TestOverlappingRuns(t *testing.T) {
	rounds := 2
	if isSoak() {
		rounds = 30
	}
	for range rounds {
		s := newSite(t, 4, 30_000)
		s.settings = s.settings.with("BATCH_COUNT=500", "GET_METADATA=TRUE")
		workers := []*process{start(t, "worker", s.settings), start(t, "worker", s.settings.with("BATCH_COUNT=700"))}
		reports := make(chan work.Report, 2)
		for i, w := range workers {
			go func() {
				var report work.Report
				_, text, err := tryCall(w.url+"/api/pull", s.unit(fmt.Sprintf("run%d", i), 4, int64(i+1)))
				if err == nil {
					err = json.Unmarshal([]byte(text), &report)
				}
				if err != nil {
					t.Errorf("run %d: %v", i, err)
				}
				reports <- report
			}()
		}
		for range workers {
			report := <-reports
			for _, source := range report.Sources {
				if !source.Ended.OK() {
					t.Errorf("%s: partition %s ended %s: %s", report.Run, source.Partition, source.Ended, source.Error)
				}
			}
		}
		s.audit(t, hubName)
	}
}

func drained(r work.Report) bool {
	for _, s := range r.Sources {
		if s.Ended != work.Drained {
			return false
		}
	}
	return len(r.Sources) > 0
}
