package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/api"
	"persistor/internal/ledger"
	"persistor/internal/pull"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/telemetry"
	"persistor/internal/work"
)

// Draining is what carrying out work units takes, whatever the source. Its fields are not changed once it is
// used; then it is safe for concurrent use.
type Draining struct {
	Store  store.Store
	Folder string // main folder of the blobs' names
	Format record.Format

	Limits pull.Limits
	// Append says which batches become one blob, of about AppendBytes at most.
	Append      pull.Append
	AppendBytes int64
	// BatchMemory bounds the bytes of all batches that the loops of one unit hold.
	BatchMemory int

	Chunk      int           // messages of one receive call
	Idle       time.Duration // ends a loop when no message came for so long; 0: never
	ReceiveFor time.Duration // ends a loop that has received for so long; 0: never

	// Timeout bounds every unit: the function's own timeout less a margin.
	Timeout time.Duration
	// Runs is the ledger of the runs that tracked units belong to; without it they are not tracked.
	Runs *ledger.Ledger
	// Log takes a line for each loop that has ended; nil drops them.
	Log *slog.Logger
	// Telemetry is told of each loop; nil tells nobody.
	Telemetry *telemetry.Telemetry

	mu   sync.Mutex
	live map[*pull.Progress]api.Progress
}

// turn is when one of a unit's sources is drained.
type turn struct {
	source   int // from 0
	deadline time.Time
	progress *pull.Progress
}

// run carries out a unit's sources in their order, so many at once, and reports what became of each.
// One source's failure is not the others' concern.
func (d *Draining) run(ctx context.Context, unit work.Unit, sources, atOnce int, drain func(context.Context, turn) work.Source) work.Report {
	began := time.Now()
	deadline := began.Add(d.budget(unit))
	rows, progress := make([]work.Source, sources), make([]*pull.Progress, sources)
	for n := range progress {
		progress[n] = new(pull.Progress)
	}
	ctx, end := d.track(ctx, unit, progress)
	defer end()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for n := range rows {
		group.Go(func() error {
			rows[n] = drain(ctx, turn{n, deadline, progress[n]})
			d.log(ctx, unit, rows[n])
			return nil
		})
	}
	_ = group.Wait()
	return work.NewReport(unit, rows, time.Since(began))
}

func (d *Draining) log(ctx context.Context, unit work.Unit, s work.Source) {
	if d.Log == nil {
		return
	}
	log := d.Log.With("run", unit.Run, "unit", unit.Unit, "source", s.Name(), "ended", s.Ended,
		"messages", s.Messages, "blobs", s.Blobs, "already_stored", s.AlreadyStored)
	if s.Receiver == nil {
		log = log.With("checkpoint", s.Checkpoint, "backlog", s.Backlog)
	} else {
		log = log.With("sessions", s.Sessions, "redelivery_expected", s.RedeliveryExpected, "abandoned", s.Abandoned)
	}
	for _, r := range s.LostToRetention {
		log.WarnContext(ctx, "the hub dropped messages before they were stored", "from", r.From, "to", r.To)
	}
	for _, skipped := range s.SkippedSessions {
		log.WarnContext(ctx, "skipped a session", "session", skipped.Session, "reason", skipped.Reason)
	}
	if !s.Ended.OK() {
		log.ErrorContext(ctx, "failed to drain a source", "error", s.Error)
		return
	}
	log.InfoContext(ctx, "drained a source")
}

func (d *Draining) budget(unit work.Unit) time.Duration {
	return unitBudget(unit, d.Timeout)
}

// unitBudget is the time that a unit has, the worker's own timeout at most.
func unitBudget(unit work.Unit, timeout time.Duration) time.Duration {
	if unit.BudgetSeconds > 0 {
		return min(timeout, time.Duration(unit.BudgetSeconds*float64(time.Second)))
	}
	return timeout
}

// untaken says why a source's turn can't be taken; "" when it can.
func (d *Draining) untaken(ctx context.Context, unit work.Unit, deadline time.Time) work.Ended {
	switch {
	case ctx.Err() != nil:
		return work.Cancelled
	case time.Until(deadline) < min(leastTurn, d.budget(unit)/2):
		return work.Deadline
	}
	return ""
}

// loop is a pull loop of a unit that runs so many at once.
func (d *Draining) loop(unit work.Unit, loops int, deadline time.Time, progress *pull.Progress) pull.Loop {
	return pull.Loop{
		Sink: sink{d.Store}, Format: d.Format, Folder: d.Folder, RunID: unit.Run,
		Limits: d.limitsOf(unit, loops), Chunk: d.Chunk,
		Append: d.Append, AppendBytes: d.AppendBytes, MaxAppend: store.MaxAppend,
		Idle: d.Idle, Duration: d.ReceiveFor, Deadline: deadline, Progress: progress,
	}
}

// limitsOf gives the limits of one batch: those of the unit, else the settings'. A loop holds two batches,
// one that fills and one that is being stored, so where many loops run side by side each batch gets a
// smaller share of the memory.
func (d *Draining) limitsOf(unit work.Unit, loops int) pull.Limits {
	limits := d.Limits
	if unit.Batch.Count > 0 {
		limits.Count = unit.Batch.Count
	}
	if unit.Batch.Bytes > 0 {
		limits.Bytes = unit.Batch.Bytes
	}
	if unit.Batch.AgeSeconds > 0 {
		limits.Age = time.Duration(unit.Batch.AgeSeconds * float64(time.Second))
	}
	limits.Bytes = min(limits.Bytes, max(d.BatchMemory/(2*loops), leastBatch))
	return limits
}

// Progress says how far the loops are that run now, in the order of runs, units and sources.
func (d *Draining) Progress() []api.Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []api.Progress
	for p, row := range d.live {
		row.Received, row.Stored = p.Received.Load(), p.Stored.Load()
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b api.Progress) int {
		return cmp.Or(cmp.Compare(a.Run, b.Run), cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Partition, b.Partition), cmp.Compare(number(a.Receiver), number(b.Receiver)), cmp.Compare(begin(a.Cell), begin(b.Cell)))
	})
	return all
}

// number is a receiver's, -1 for what is none.
func number(receiver *int) int {
	if receiver == nil {
		return -1
	}
	return *receiver
}

// begin is a cell's first number, -1 for what is none.
func begin(cell *work.Range) int64 {
	if cell == nil {
		return -1
	}
	return cell.From
}

// leastBatch is the share, in bytes, below which blobs would become too many: 256 KiB.
const leastBatch = 256 << 10

// leastTurn is the time below which a partition's turn isn't worth taking: it would end before its first
// message. Of a short budget, half is enough.
const leastTurn = 2 * time.Second

// watch shows a loop's progress in row for as long as it runs.
func (d *Draining) watch(p *pull.Progress, row api.Progress) (forget func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live == nil {
		d.live = map[*pull.Progress]api.Progress{}
	}
	d.live[p] = row
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.live, p)
	}
}

// close gives back what the drain holds.
func (d *Draining) close() { closeStore(d.Store) }

func closeStore(s store.Store) {
	if dir, ok := s.(*store.Dir); ok {
		_ = dir.Close()
	}
}

// closeWithin closes something, but waits no longer than limit: the client can wait for a peer that is
// gone whatever its context says. Then the goroutine stays behind.
func closeWithin(closing func(context.Context) error, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_ = within(ctx, closing)
}

func within(ctx context.Context, closing func(context.Context) error) error {
	closed := make(chan error, 1)
	go func() { closed <- closing(ctx) }()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sink is a store as the pull loop sees it.
type sink struct{ store.Store }

func (s sink) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	held, err := s.Store.Create(ctx, name, body, metadata)
	if errors.Is(err, store.ErrExists) {
		if held == nil {
			held = map[string]string{}
		}
		return held, nil
	}
	return nil, err
}

func (s sink) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	held, err := s.Store.Append(ctx, name, at, body, metadata)
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrPosition) || errors.Is(err, store.ErrFull) {
		if held == nil {
			held = map[string]string{}
		}
		return held, nil
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = fmt.Errorf("%w: %w", pull.ErrGone, err)
	case errors.Is(err, store.ErrImmutable):
		err = fmt.Errorf("%w; batches can't be joined in such a container: unset APPEND and TIMED_APPEND, and set STORE_PARAM to another folder, since the blob that was begun keeps its name", err)
	}
	return nil, err
}

func (s sink) List(ctx context.Context, prefix string) iter.Seq2[pull.Blob, error] {
	return func(yield func(pull.Blob, error) bool) {
		for b, err := range s.Store.List(ctx, prefix) {
			if !yield(pull.Blob{Name: b.Name, Metadata: b.Metadata}, err) {
				return
			}
		}
	}
}
