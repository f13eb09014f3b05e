package fanout

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/record"
	"persistor/internal/work"
)

// TestCellPlan holds plans over random backlogs to the promises of NewCellPlan.
func TestCellPlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 500 {
		todo := randomStretches(rng, rng.IntN(20))
		req := Request{N: rng.IntN(30), PerFunc: rng.IntN(8)}
		plan := NewCellPlan(Run{"r", start}, todo, req)
		checkCells(t, round, plan, todo)
		rng.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
		if diff := cmp.Diff(plan, NewCellPlan(Run{"r", start}, todo, req)); diff != "" {
			t.Fatalf("round %d: the order of partitions changes the plan: %s", round, diff)
		}
		if req.N > 0 && len(plan.Units) > req.N {
			t.Fatalf("round %d: %d units, want at most %d", round, len(plan.Units), req.N)
		}
	}
}

// checkCells fails unless the units have every number of todo once, in cells, in order and evenly.
func checkCells(t *testing.T, round int, plan Plan, todo []Stretch) {
	t.Helper()
	have := map[string][]work.Range{}
	readers := map[string]int{}
	var load []int64
	for i, u := range plan.Units {
		if u.Unit != i || u.Run != "r" || len(u.Cells) == 0 || len(u.Cells) > MaxCells || len(u.Partitions) > 0 || u.OwnerLevel != 0 {
			t.Fatalf("round %d: unit %d is %+v", round, i, u)
		}
		var size int64
		ids := map[string]int{}
		for j, c := range u.Cells {
			if c.From/record.CellSize != c.To/record.CellSize || c.To < c.From {
				t.Fatalf("round %d: %+v lies in no one cell", round, c)
			}
			if j > 0 && u.Cells[j-1].Partition == c.Partition && u.Cells[j-1].From >= c.From {
				t.Fatalf("round %d: cells out of order: %+v", round, u.Cells)
			}
			have[c.Partition] = append(have[c.Partition], c.Range)
			size += c.To - c.From + 1
			ids[c.Partition]++
		}
		for id, n := range ids {
			readers[id] += min(n, max(1, u.Tasks))
		}
		load = append(load, size)
	}
	var total, largest int64
	for _, s := range todo {
		total += s.size()
		largest = max(largest, s.size())
		if diff := cmp.Diff(joined(s.Ranges), joined(have[s.Partition])); diff != "" {
			t.Fatalf("round %d: partition %s is not planned as it should be: %s", round, s.Partition, diff)
		}
		if readers[s.Partition] > MaxReaders {
			t.Fatalf("round %d: %d readers of partition %s at once", round, readers[s.Partition], s.Partition)
		}
	}
	// The number of units that a partition may go to is at least one.
	if n := int64(len(load)); n > 0 && slices.Max(load) > total/n+largest+record.CellSize {
		t.Fatalf("round %d: loads %v, of %d in all and %d in the largest partition", round, load, total, largest)
	}
}

// joined sorts ranges and joins those that meet.
func joined(ranges []work.Range) (all []work.Range) {
	ranges = slices.SortedFunc(slices.Values(ranges), func(a, b work.Range) int { return int(a.From - b.From) })
	for _, r := range ranges {
		if n := len(all); n > 0 && all[n-1].To+1 == r.From {
			all[n-1].To = r.To
		} else if r.From <= r.To {
			all = append(all, r)
		}
	}
	return all
}

func randomStretches(rng *rand.Rand, n int) (todo []Stretch) {
	for i := range n {
		s := Stretch{Partition: fmt.Sprint(i)}
		next := rng.Int64N(4 * record.CellSize)
		for range rng.IntN(4) {
			to := next + rng.Int64N(1<<rng.IntN(23))
			s.Ranges = append(s.Ranges, work.Range{From: next, To: to - 1})
			next = to + 1 + rng.Int64N(2*record.CellSize)
		}
		todo = append(todo, s)
	}
	return todo
}

func TestCellPlansAreEven(t *testing.T) {
	cells := func(id string, n int64) Stretch {
		return Stretch{id, []work.Range{{From: 0, To: n*record.CellSize - 1}}}
	}
	for _, c := range []struct {
		name       string
		todo       []Stretch
		n, perFunc int
		want       []int // cells of each unit
	}{
		{"one partition", []Stretch{cells("0", 10)}, 4, 1, []int{3, 3, 2, 2}},
		{"no more units than readers", []Stretch{cells("0", 10)}, 8, 1, []int{2, 2, 2, 2, 2}},
		{"two readers a unit", []Stretch{cells("0", 10)}, 8, 2, []int{5, 5}},
		{"as many readers as there may be", []Stretch{cells("0", 10)}, 8, 8, []int{10}},
		{"a few partitions over few units", []Stretch{cells("0", 8), cells("1", 8), cells("2", 8)}, 4, 1, []int{6, 6, 6, 6}},
		{"a few partitions over many units", []Stretch{cells("0", 8), cells("1", 8), cells("2", 8), cells("3", 8)}, 16, 1, slices.Repeat([]int{2}, 16)},
		{"as many units as there are cells", []Stretch{cells("0", 1), cells("1", 2)}, 0, 1, []int{1, 1, 1}},
		{"32 units by default", []Stretch{cells("0", 9), cells("1", 9), cells("2", 9), cells("3", 9), cells("4", 9), cells("5", 9), cells("6", 9), cells("7", 9)}, 0, 1, nil},
		{"nothing", nil, 3, 1, []int{}},
	} {
		plan := NewCellPlan(Run{"r", start}, c.todo, Request{N: c.n, PerFunc: c.perFunc})
		checkCells(t, 0, plan, c.todo)
		got := []int{}
		for _, u := range plan.Units {
			got = append(got, len(u.Cells))
		}
		if c.want == nil && len(got) != 32 || c.want != nil && !slices.Equal(got, c.want) {
			t.Errorf("%s: units of %v cells, want %v", c.name, got, c.want)
		}
		if noted := len(plan.Notes) > 0; noted != (c.n > max(1, len(plan.Units)) || c.perFunc > MaxReaders) && c.name != "nothing" {
			t.Errorf("%s: notes %v", c.name, plan.Notes)
		}
	}
}

// The lowest numbers are read first, by all units side by side; what there is no room for counts as left.
func TestCellPlanIsBounded(t *testing.T) {
	const cells = 5*MaxCells + 100
	todo := []Stretch{{"0", []work.Range{{From: 0, To: cells*record.CellSize - 1}}}}
	plan := NewCellPlan(Run{"r", start}, todo, Request{N: 8})
	if len(plan.Units) != 5 || plan.Backlog["0"] != cells*record.CellSize {
		t.Fatalf("%d units, backlog %v", len(plan.Units), plan.Backlog)
	}
	last := int64(-1)
	for _, u := range plan.Units {
		if len(u.Cells) != MaxCells || u.Cells[0].From >= 5*record.CellSize {
			t.Errorf("unit %d has %d cells from %d on", u.Unit, len(u.Cells), u.Cells[0].From)
		}
		last = max(last, u.Cells[len(u.Cells)-1].To)
	}
	if last != 5*MaxCells*record.CellSize-1 {
		t.Errorf("the last number planned is %d", last)
	}
	if left := remainingInCells(plan, []UnitRow{newRow(plan.Units[0])}); left != cells*record.CellSize {
		t.Errorf("%d left before anything is stored", left)
	}
}

// A unit of cells is sent and sent again, and the report says of each cell what the attempt knew that got furthest.
func TestDispatchOfCells(t *testing.T) {
	var mu sync.Mutex
	attempts := map[int]int{}
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u work.Unit
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &u); err != nil {
			t.Error(err)
		}
		mu.Lock()
		attempts[u.Unit]++
		first := attempts[u.Unit] == 1
		mu.Unlock()
		rows := make([]work.Source, len(u.Cells))
		for i, c := range u.Cells {
			rows[i] = rowOf(c)
			switch {
			case u.Unit == 0 && first && i == 0: // the first is stored, then something fails
				rows[i].Ended, rows[i].Checkpoint, rows[i].Offset, rows[i].Backlog, rows[i].Messages = work.Drained, c.To, "77", 0, 10
			case u.Unit == 0 && first:
				rows[i].Ended, rows[i].Error = work.Failed, "storage is down"
			default:
				rows[i].Ended = work.Deadline // before their turn
			}
		}
		report := work.NewReport(u, rows, 0)
		if report.Status == Failed {
			w.WriteHeader(http.StatusBadGateway)
		}
		_ = json.NewEncoder(w).Encode(report)
	}))
	defer worker.Close()
	d, err := NewDispatcher(Options{Workers: []string{worker.URL}, Budget: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	todo := []Stretch{{"7", []work.Range{{From: 100, To: 4*record.CellSize - 1}}}}
	run := NewRun(time.Now())
	var ended []int
	plan := NewCellPlan(run, todo, Request{N: 2})
	report := d.Dispatch(context.Background(), plan, Request{Ended: func(row UnitRow) { ended = append(ended, row.Unit) }})
	slices.Sort(ended)
	if report.Status != OK || !slices.Equal(ended, []int{0, 1}) || attempts[0] != 2 {
		t.Fatalf("status %s, ended %v, attempts %v", report.Status, ended, attempts)
	}
	row := report.Units[0]
	if s := row.Sources[0]; len(row.Cells) != 2 || s.Checkpoint != row.Cells[0].To || s.Offset != "77" || s.Backlog != 0 || s.Messages != 10 || s.Ended != work.Deadline {
		t.Errorf("%+v", row)
	}
	if want := todo[0].size() - sizeOf(row.Cells[0].Range); report.RemainingBacklog != want {
		t.Errorf("%d remain, want %d", report.RemainingBacklog, want)
	}
}

// An answer about cells says of each how far it is, and of no others.
func TestAnswersAboutCells(t *testing.T) {
	unit := work.Unit{Run: "r", Cells: []work.Cell{{Partition: "0", Range: work.Range{From: 10, To: 19}}, {Partition: "0", Range: work.Range{From: 30, To: 39}}}}
	c := newCall(&Dispatcher{}, unit, deadline{})
	row := func(from, to, checkpoint int64) work.Source {
		return work.Source{Partition: "0", Cell: &work.Range{From: from, To: to}, Checkpoint: checkpoint, Ended: work.Drained}
	}
	for _, test := range []struct {
		rows []work.Source
		want string // of the error
	}{
		{[]work.Source{row(10, 19, 19), row(30, 39, 29)}, ""},
		{[]work.Source{row(10, 19, 19)}, "nothing about partition 0 from 30"},
		{[]work.Source{row(10, 19, 20), row(30, 39, 29)}, "stored up to 20"},
		{[]work.Source{row(10, 19, 19), row(30, 39, 28)}, "stored up to 28"},
		{[]work.Source{row(10, 19, 19), row(40, 49, 39)}, "not asked for"},
		{[]work.Source{row(10, 29, 29), row(30, 39, 39)}, "not asked for"},
		{[]work.Source{{Partition: "0", Ended: work.Drained}}, "not asked for"},
	} {
		body, _ := json.Marshal(work.NewReport(unit, test.rows, 0))
		_, err := c.parse(body)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: error %v, want %q", test.rows, err, test.want)
		}
	}
}
