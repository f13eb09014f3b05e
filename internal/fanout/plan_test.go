package fanout

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/work"
)

var start = time.Date(2026, 11, 24, 4, 5, 9, 123e6, time.UTC)

func TestBacklog(t *testing.T) {
	for _, c := range []struct {
		name string
		p    Partition
		want int64
	}{
		{"never an event", Partition{First: -1, Last: -1, Empty: true, Checkpoint: -1}, 0},
		{"no checkpoint", Partition{First: 0, Last: 9, Checkpoint: -1}, 10},
		{"no checkpoint, retention", Partition{First: 5, Last: 9, Checkpoint: -1}, 5},
		{"some stored", Partition{First: 0, Last: 9, Checkpoint: 3}, 6},
		{"all stored", Partition{First: 0, Last: 9, Checkpoint: 9}, 0},
		{"retention passed us by", Partition{First: 7, Last: 9, Checkpoint: 3}, 3},
		{"checkpoint beyond the end", Partition{First: 0, Last: 9, Checkpoint: 20}, 10},
		{"emptied by retention", Partition{First: 0, Last: 9, Empty: true, Checkpoint: 3}, 6},
		{"emptied, all stored", Partition{First: 0, Last: 9, Empty: true, Checkpoint: 9}, 0},
		{"emptied, no checkpoint", Partition{First: 0, Last: 9, Empty: true, Checkpoint: -1}, 0},
	} {
		if got := c.p.Backlog(); got != c.want {
			t.Errorf("%s: backlog %d, want %d", c.name, got, c.want)
		}
	}
}

// TestPlan holds plans over random hubs to the promises of NewPlan.
func TestPlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		parts := randomParts(rng, rng.IntN(64))
		req := Request{N: rng.IntN(40)}
		plan, err := NewPlan(Run{"r", start}, parts, req)
		if err != nil {
			t.Fatal(err)
		}
		var largest, most int64
		least := int64(1) << 62
		waiting := map[string]int64{}
		for _, p := range parts {
			if b := p.Backlog(); b > 0 {
				waiting[p.ID] = b
				largest = max(largest, b)
			}
		}
		seen := map[string]bool{}
		for i, u := range plan.Units {
			var load int64
			for _, id := range u.Partitions {
				if seen[id] || waiting[id] == 0 {
					t.Fatalf("round %d: partition %s is planned twice, or has no backlog", round, id)
				}
				seen[id] = true
				load += waiting[id]
			}
			most, least = max(most, load), min(least, load)
			if u.Unit != i || u.Run != "r" || u.OwnerLevel != start.UnixMilli() || len(u.Partitions) == 0 {
				t.Fatalf("round %d: unit %d is %+v", round, i, u)
			}
		}
		want := len(waiting)
		if req.N > 0 {
			want = min(want, req.N)
		}
		if len(seen) != len(waiting) || len(plan.Units) != want {
			t.Fatalf("round %d: %d units hold %d partitions, want %d and %d", round, len(plan.Units), len(seen), want, len(waiting))
		}
		if len(plan.Units) > 0 && most-least > largest {
			t.Fatalf("round %d: loads from %d to %d differ by more than the largest partition, %d", round, least, most, largest)
		}
		if !cmp.Equal(plan.Backlog, waiting) {
			t.Fatalf("round %d: backlog %v, want %v", round, plan.Backlog, waiting)
		}

		rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		again, _ := NewPlan(Run{"r", start}, parts, req)
		if diff := cmp.Diff(plan, again); diff != "" {
			t.Fatalf("round %d: the order of partitions changes the plan: %s", round, diff)
		}
	}
}

func randomParts(rng *rand.Rand, n int) []Partition {
	var parts []Partition
	for i := range n {
		p := Partition{ID: fmt.Sprint(i), First: -1, Last: -1, Empty: true, Checkpoint: -1}
		if rng.IntN(4) > 0 {
			p = Partition{ID: p.ID, First: rng.Int64N(100), Checkpoint: rng.Int64N(300) - 1, Empty: rng.IntN(8) == 0}
			p.Last = p.First + rng.Int64N(1<<rng.IntN(20))
		}
		parts = append(parts, p)
	}
	return parts
}

func TestPlanLargestFirst(t *testing.T) {
	var parts []Partition
	for i, backlog := range []int64{1, 50, 20, 30, 0, 40} {
		parts = append(parts, Partition{ID: fmt.Sprint(i), Last: backlog - 1, Empty: backlog == 0, Checkpoint: -1})
	}
	from := &work.From{Position: "latest"}
	plan, err := NewPlan(Run{"r", start}, parts, Request{N: 2, PerFunc: 3, From: from, Batch: work.Batch{Count: 7}})
	if err != nil {
		t.Fatal(err)
	}
	unit := work.Unit{Run: "r", Tasks: 3, OwnerLevel: start.UnixMilli(), From: from, Batch: work.Batch{Count: 7}}
	first, second := unit, unit
	first.Partitions = []string{"1", "2", "0"}
	second.Unit, second.Partitions = 1, []string{"5", "3"}
	if diff := cmp.Diff([]work.Unit{first, second}, plan.Units); diff != "" {
		t.Error(diff)
	}
}

func TestPlanSaysWhereItDiffers(t *testing.T) {
	parts := []Partition{{ID: "0", Last: 4, Checkpoint: -1}, {ID: "1", First: -1, Last: -1, Empty: true, Checkpoint: -1}}
	plan, err := NewPlan(NewRun(start), parts, Request{N: 8})
	if err != nil || len(plan.Units) != 1 || len(plan.Notes) != 1 || !strings.Contains(plan.Notes[0], "N is 8") {
		t.Errorf("plan %+v, error %v: want one unit and a note", plan, err)
	}
	plan, err = NewPlan(NewRun(start), parts, Request{Partitions: []string{"1"}})
	if err != nil || len(plan.Units) != 0 {
		t.Errorf("plan %+v, error %v: want no unit", plan, err)
	}
}

// A worker has to see what an empty partition lost: it reports that once, and moves the checkpoint.
func TestPlanHoldsEmptyPartitionsThatLostSomething(t *testing.T) {
	parts := []Partition{
		{ID: "0", First: 0, Last: 99, Empty: true, Checkpoint: 10},
		{ID: "1", First: 0, Last: 99, Empty: true, Checkpoint: 99},
		{ID: "2", First: 0, Last: 99, Empty: true, Checkpoint: -1},
	}
	plan, err := NewPlan(NewRun(start), parts, Request{})
	if err != nil || len(plan.Units) != 1 || !slices.Equal(plan.Units[0].Partitions, []string{"0"}) || plan.Backlog["0"] != 89 {
		t.Errorf("plan %+v, error %v: want one unit, of partition 0", plan, err)
	}
}

func TestPlanUnknownPartition(t *testing.T) {
	parts := []Partition{{ID: "10", Last: 1}, {ID: "2", Last: 1}}
	_, err := NewPlan(NewRun(start), parts, Request{Partitions: []string{"2", "7"}})
	if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), `"7"`) || !strings.Contains(err.Error(), "2, 10") {
		t.Errorf("error %v: want one that names 7, and 2 and 10", err)
	}
}

func TestRunIDsSortAndDiffer(t *testing.T) {
	a, b, c := NewRun(start), NewRun(start), NewRun(start.Add(time.Second))
	if !regexp.MustCompile(`^20261124T040509Z-[0-9a-f]{6}$`).MatchString(a.ID) {
		t.Errorf("run id %q", a.ID)
	}
	if a.ID == b.ID || a.ID >= c.ID {
		t.Errorf("ids %q, %q, %q: want different ones, a second apart in order", a.ID, b.ID, c.ID)
	}
}
