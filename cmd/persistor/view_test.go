package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"persistor/internal/ledger"
	"persistor/internal/work"
)

// runThat is a run of two partitions of which so many messages are stored in each.
func runThat(state ledger.State, wave int, stored ...int64) ledger.Live {
	r := ledger.Live{Run: ledger.Run{ID: "r", Kind: ledger.Backfill, State: state, Wave: wave}}
	for i, n := range stored {
		r.Partitions = append(r.Partitions, ledger.Partition{Partition: string(rune('0' + i)), From: 100, To: 1099, Counts: ledger.Counts{Messages: n, Remaining: 1000 - n}})
		r.Counts.Messages += n
		r.Counts.Remaining += 1000 - n
	}
	return r
}

func TestProgress(t *testing.T) {
	beat := new(pace)
	now := time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
	p := progressOf(runThat(ledger.Running, 1, 0, 0), beat, now)
	if p.total != 2000 || p.done != 0 || p.rate != 0 || p.left != -1 || len(p.parts) != 2 {
		t.Errorf("%+v", p)
	}
	p = progressOf(runThat(ledger.Running, 1, 300, 100), beat, now.Add(4*time.Second))
	if p.done != 400 || p.rate != 100 || p.left != 16*time.Second || p.parts[0] != (part{"partition 0", 300, 1000}) {
		t.Errorf("%+v", p)
	}
	// What happened long ago says nothing about the rate.
	for s := range time.Duration(60) {
		p = progressOf(runThat(ledger.Running, 1, 300, 100), beat, now.Add((5+s)*time.Second))
	}
	if p.rate != 0 || p.left != -1 {
		t.Errorf("%+v", p)
	}
	bus := ledger.Live{Run: ledger.Run{Source: "q", State: ledger.Running, Counts: ledger.Counts{Messages: 5, Remaining: -1}}}
	if p = progressOf(bus, new(pace), now); p.total != -1 || p.done != 5 {
		t.Errorf("%+v", p)
	}
	bus.Counts.Remaining = 7
	if p = progressOf(bus, new(pace), now); p.total != 12 {
		t.Errorf("%+v", p)
	}
}

// Lines come each ten seconds, and when something changes; never one that says nothing new about the end.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, said bytes.Buffer
		v := newView(streams{out: &out, err: &said}, false)
		beat := new(pace)
		show := func(r ledger.Live) progress {
			p := progressOf(r, beat, time.Now())
			v.update(p)
			time.Sleep(time.Second)
			return p
		}
		show(runThat(ledger.Queued, 0, 0, 0))
		for n := range int64(25) {
			show(runThat(ledger.Running, 1, 10*n, 10*n))
		}
		failing := runThat(ledger.Running, 2, 300, 300)
		failing.Errors = []ledger.Error{{Wave: 1, Unit: 3, Error: "no luck"}}
		show(failing)
		show(failing)
		over := runThat(ledger.Succeeded, 2, 1000, 1000)
		over.Created, over.Ended = time.Now().Add(-90*time.Second), time.Now()
		over.Partitions[0].Lost = []work.Range{{From: 100, To: 104}}
		v.end(show(over))
		want := []string{
			"r queued: 0 of 2,000 (0%)",
			"r running, wave 1: 0 of 2,000 (0%)",
			"r running, wave 1: 200 of 2,000 (10%), ",
			"r running, wave 1: 400 of 2,000 (20%), 20/s, 1m20s left",
			"r running, wave 2: 600 of 2,000 (30%), ",
			"r succeeded: 2,000 messages, 0 bytes, 0 blobs, 1m30s; 5 the hub had dropped before",
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for i := range max(len(want), len(lines)) {
			if i >= len(lines) || i >= len(want) || !strings.HasPrefix(lines[i], want[i]) {
				t.Fatalf("line %d of:\n%s", i, out.String())
			}
		}
		if told := said.String(); strings.Count(told, "no luck") != 1 || !strings.Contains(told, "wave 1, unit 3: no luck") {
			t.Errorf("errors:\n%s", told)
		}
	})
}

func TestLinesOfJSON(t *testing.T) {
	var out bytes.Buffer
	v := newView(streams{out: &out}, true)
	p := progressOf(runThat(ledger.Running, 1, 300, 200), new(pace), time.Now())
	v.update(p)
	p.run.State = ledger.Failed
	v.update(p)
	v.end(p)
	decoder := json.NewDecoder(&out)
	var first, last jsonProgress
	if err := decoder.Decode(&first); err != nil || first.State != ledger.Running || first.Done != 500 || first.Total != 2000 || first.Left != -1 || first.Document != nil {
		t.Errorf("%+v, %v", first, err)
	}
	if err := decoder.Decode(&last); err != nil || last.State != ledger.Failed || last.Document == nil || last.Document.Counts.Messages != 500 {
		t.Errorf("%+v, %v", last, err)
	}
	if decoder.More() {
		t.Error("the end is told twice")
	}
}

// shared is a buffer that another goroutine writes to.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// On a terminal each partition has a bar; of many there is one for all.
func TestBars(t *testing.T) {
	for name, test := range map[string]struct {
		partitions int
		want       []string
	}{
		"few":  {2, []string{"partition 0", "partition 1", "250 of 1,000", "all", "r succeeded: "}},
		"many": {60, []string{"all", "r succeeded: "}},
	} {
		t.Run(name, func(t *testing.T) {
			out := new(shared)
			v := newBarView(out, 100)
			r := runThat(ledger.Running, 1, make([]int64, test.partitions)...)
			r.Partitions[0].Counts.Remaining = 750
			p := progressOf(r, new(pace), time.Now())
			v.update(p)
			r.Errors = []ledger.Error{{Wave: 1, Unit: -1, Error: "no luck"}}
			p.run = r
			v.update(p)
			p.run.State = ledger.Succeeded
			v.end(p)
			for _, want := range append(test.want, "! 00:00:00 wave 1: no luck") {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in:\n%q", want, out.String())
				}
			}
			if strings.Contains(out.String(), "partition 1") != (test.partitions <= mostBars) {
				t.Error(out.String())
			}
		})
	}
}

// Tables are as wide as a terminal, whatever the numbers are.
func TestTablesFit(t *testing.T) {
	run := runThat(ledger.Running, 4321, 0, 0).Run
	run.ID, run.State = "20261125T040509Z-3f9a1c", ledger.Cancelled
	run.Counts = ledger.Counts{Messages: 9_876_543_210, Remaining: 9_876_543_210}
	run.Created, run.Ended = time.Unix(0, 0), time.Unix(99*24*3600, 0)
	var b strings.Builder
	printRuns(&b, []ledger.Run{run, {}})
	for i := range run.Partitions {
		run.Partitions[i].From, run.Partitions[i].To = 98_765_432_101, 98_765_432_101
		run.Partitions[i].Counts = run.Counts
		run.Partitions[i].Checkpoint = 98_765_432_101
	}
	printPartitions(&b, run.Partitions)
	for line := range strings.Lines(b.String()) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0.0s", 4250 * time.Millisecond: "4.2s", 59 * time.Second: "59s", 200 * time.Second: "3m20s",
		125 * time.Minute: "2h05m", 76 * time.Hour: "3d04h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
