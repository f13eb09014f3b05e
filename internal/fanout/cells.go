package fanout

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"persistor/internal/record"
	"persistor/internal/work"
)

const (
	// MaxReaders is how many readers without an owner level one partition has at once in one consumer group (Event
	// Hubs quotas).
	MaxReaders = 5
	// MaxCells bounds the cells of one unit.
	MaxCells = 256

	// defaultCellUnits is how many units read cells at most, unless N says more or there are more partitions.
	defaultCellUnits = 32
)

// Stretch is what is still to be stored of a partition: ranges of sequence numbers, in order.
type Stretch struct {
	Partition string
	Ranges    []work.Range
}

// size is how many sequence numbers a stretch has.
func (s Stretch) size() (n int64) {
	for _, r := range s.Ranges {
		n += sizeOf(r)
	}
	return n
}

func sizeOf(r work.Range) int64 { return max(0, r.To-r.From+1) }

// NewCellPlan cuts what is still to be stored into cells, at multiples of record.CellSize, and spreads them over at
// most req.N units: each cell to one unit, the lowest numbers first, so that a unit that runs out of time leaves
// those for which there is the most time. The cells of one unit are in order of partition and number, MaxCells at
// most; what doesn't fit into the units is left out, and counts in Plan.Backlog all the same.
//
// However the units are run, no more than MaxReaders cells of one partition are read at once: it goes to so few units.
// A unit has at most a cell more than the mean, and one share of the largest partition: its size by the number of
// units that it may go to. The same input gives the same plan, whatever the order of todo.
func NewCellPlan(run Run, todo []Stretch, req Request) Plan {
	todo = slices.Clone(todo)
	todo = slices.DeleteFunc(todo, func(s Stretch) bool { return s.size() == 0 })
	slices.SortFunc(todo, func(a, b Stretch) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), compareIDs(a.Partition, b.Partition))
	})
	plan := Plan{Run: run, Kind: work.Cells, Backlog: make(map[string]int64, len(todo))}
	for _, s := range todo {
		plan.Backlog[s.Partition] = s.size()
	}
	tasks := min(max(1, req.PerFunc), MaxReaders)
	if tasks < req.PerFunc {
		plan.Notes = append(plan.Notes, fmt.Sprintf("N_per_func is %d, but a partition has at most %d readers at once in a consumer group: %d", req.PerFunc, MaxReaders, tasks))
	}
	units, useful := unitsForCells(todo, MaxReaders/tasks, req.N)
	if req.N > useful {
		plan.Notes = append(plan.Notes, fmt.Sprintf("N is %d, but what is to be stored can be read by %d units at once: %d units", req.N, useful, units))
	}
	for _, cells := range spreadCells(todo, units, MaxReaders/tasks) {
		if len(cells) == 0 {
			continue
		}
		plan.Units = append(plan.Units, work.Unit{
			Run: run.ID, Unit: len(plan.Units), Cells: cells, Tasks: min(tasks, len(cells)), Batch: req.Batch,
		})
	}
	return plan
}

// unitsForCells is how many units to make, and how many would have something to do, where each partition may go to so
// many.
func unitsForCells(todo []Stretch, most, asked int) (units, useful int) {
	for _, s := range todo {
		n := 0
		for range cellsOf(s) {
			if n++; n == most {
				break
			}
		}
		useful += n
	}
	useful = min(useful, MaxUnits)
	if asked > 0 {
		return min(asked, useful), useful
	}
	return min(useful, max(defaultCellUnits, len(todo))), useful
}

// cellsOf yields the cells of a stretch, in order.
func cellsOf(s Stretch) iter.Seq[work.Cell] {
	return func(yield func(work.Cell) bool) {
		for _, r := range s.Ranges {
			for from := r.From; from <= r.To; {
				to := min(r.To, from-from%record.CellSize+record.CellSize-1)
				if !yield(work.Cell{Partition: s.Partition, Range: work.Range{From: from, To: to}}) {
					return
				}
				from = to + 1
			}
		}
	}
}

// spreadCells deals the cells to n units, those of one partition to at most so many. How few are best depends on how
// the partitions' sizes compare: a few where there are many units, so that each partition has some for itself, many
// where there are few. So all numbers are tried.
func spreadCells(todo []Stretch, n, most int) [][]work.Cell {
	var best hand
	for width := min(most, n); width >= 1; width-- {
		d := dealCells(todo, n, width)
		if best.units == nil || d.cells > best.cells || d.cells == best.cells && slices.Max(d.load) < slices.Max(best.load) {
			best = d
		}
	}
	for _, cells := range best.units {
		slices.SortFunc(cells, func(a, b work.Cell) int {
			return cmp.Or(compareIDs(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
		})
	}
	return best.units
}

// hand is what units are given: so many cells in all, and so many sequence numbers each.
type hand struct {
	units [][]work.Cell
	load  []int64
	cells int
}

// dealCells deals each partition's cells, the largest partition first, to those width units that have the least by then,
// each cell to the one of them that has the least and has room.
func dealCells(todo []Stretch, n, width int) hand {
	d := hand{units: make([][]work.Cell, n), load: make([]int64, n)}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	byLoad := func(a, b int) int { return cmp.Compare(d.load[a], d.load[b]) }
	for _, s := range todo {
		slices.SortStableFunc(order, byLoad)
		chosen := slices.Clone(order[:width])
		for cell := range cellsOf(s) {
			chosen = slices.DeleteFunc(chosen, func(i int) bool { return len(d.units[i]) == MaxCells })
			if len(chosen) == 0 {
				break
			}
			i := slices.MinFunc(chosen, byLoad)
			d.units[i] = append(d.units[i], cell)
			d.load[i] += sizeOf(cell.Range)
			d.cells++
		}
	}
	return d
}

// remainingInCells adds up what is left of the cells of a plan, and of what the plan left out.
func remainingInCells(plan Plan, rows []UnitRow) (remaining int64) {
	for _, backlog := range plan.Backlog {
		remaining += backlog
	}
	for _, row := range rows {
		for _, c := range row.Cells {
			remaining -= sizeOf(c.Range)
		}
		left := make(map[string]int64, len(row.Cells))
		for _, c := range row.Cells {
			left[rowOf(c).Name()] = sizeOf(c.Range)
		}
		for _, s := range row.Sources {
			if _, asked := left[s.Name()]; asked && s.Backlog >= 0 {
				left[s.Name()] = s.Backlog
			}
		}
		for _, backlog := range left {
			remaining += backlog
		}
	}
	return remaining
}

// rowOf is a row of the report on a cell, of which nothing is known yet.
func rowOf(c work.Cell) work.Source {
	return work.Source{Partition: c.Partition, Cell: &work.Range{From: c.From, To: c.To}, Checkpoint: c.From - 1, Backlog: sizeOf(c.Range)}
}
