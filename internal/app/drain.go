package app

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/api"
	"persistor/internal/fanout"
	"persistor/internal/pull"
	"persistor/internal/pull/eventhub"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// Drainer carries out work units: a pull loop for each partition, a few at a time. Its fields are not
// changed once it is used; then it is safe for concurrent use.
type Drainer struct {
	Hub    *eventhub.Hub
	Store  store.Store
	Folder string // main folder of the blobs' names
	Format record.Format

	Limits pull.Limits
	// BatchMemory bounds the bytes of all batches that the loops of one unit hold.
	BatchMemory int

	Chunk           int           // messages of one receive call
	Idle            time.Duration // ends a loop when no message came for so long; 0: never
	ReceiveFor      time.Duration // ends a loop that has received for so long; 0: never
	CheckpointEvery int64         // messages between checkpoints, at least
	From            *work.From    // where to start without a checkpoint; nil: earliest

	// Timeout bounds every unit: the function's own timeout less a margin.
	Timeout time.Duration
	// Log takes a line for each partition drained; nil drops them.
	Log *slog.Logger

	mu   sync.Mutex
	live map[*pull.Progress]watched
}

// watched is what is known of a loop beside its counts.
type watched struct {
	run       string
	unit      int
	partition string
	target    int64
}

// Drain runs a unit and answers within its budget, or the worker's own if that is shorter. When ctx
// ends, it stores what it holds and answers.
func (d *Drainer) Drain(ctx context.Context, unit work.Unit) work.Report {
	began := time.Now()
	deadline := began.Add(d.budget(unit))
	sources := make([]work.Source, len(unit.Partitions))

	var group errgroup.Group // without a context: one partition's failure is not the others' concern
	group.SetLimit(loops(unit))
	for i, partition := range unit.Partitions {
		group.Go(func() error {
			sources[i] = d.drain(ctx, unit, partition, deadline)
			d.log(unit, sources[i])
			return nil
		})
	}
	_ = group.Wait()
	return work.NewReport(unit, sources, time.Since(began))
}

func (d *Drainer) log(unit work.Unit, s work.Source) {
	if d.Log == nil {
		return
	}
	log := d.Log.With("run", unit.Run, "unit", unit.Unit, "partition", s.Partition, "ended", s.Ended,
		"messages", s.Messages, "blobs", s.Blobs, "already_stored", s.AlreadyStored, "checkpoint", s.Checkpoint, "backlog", s.Backlog)
	for _, r := range s.LostToRetention {
		log.Warn("the hub dropped messages before they were stored", "from", r.From, "to", r.To)
	}
	if !s.Ended.OK() {
		log.Error("failed to drain a partition", "error", s.Error)
		return
	}
	log.Info("drained a partition")
}

func (d *Drainer) budget(unit work.Unit) time.Duration {
	budget := d.Timeout
	if unit.BudgetSeconds > 0 {
		budget = min(budget, time.Duration(unit.BudgetSeconds*float64(time.Second)))
	}
	return budget
}

// drain runs one pull loop.
func (d *Drainer) drain(ctx context.Context, unit work.Unit, partition string, deadline time.Time) work.Source {
	began := time.Now()
	// Where the loop doesn't begin, nothing is known of the partition.
	unread := func(end work.Ended) work.Source {
		return work.Source{Partition: partition, Ended: end, Checkpoint: -1, Backlog: -1, ElapsedSeconds: time.Since(began).Seconds()}
	}
	switch {
	case ctx.Err() != nil:
		return unread(work.Cancelled)
	case time.Until(deadline) < min(leastTurn, d.budget(unit)/2):
		return unread(work.Deadline)
	}
	opening, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	from := d.From
	if unit.From != nil {
		from = unit.From
	}
	source, start, lost, err := d.Hub.Open(opening, partition, eventhub.OpenOptions{
		Instance:   "persistor " + unit.Run,
		OwnerLevel: &unit.OwnerLevel,
		From:       from,
		Readers:    loops(unit),
	})
	if err != nil && ctx.Err() != nil {
		return unread(work.Cancelled)
	}
	if err != nil {
		s := unread(work.Failed)
		s.Error = err.Error()
		return s
	}
	if source == nil {
		return work.Source{Partition: partition, Ended: work.Drained, Checkpoint: start.After, LostToRetention: lost, ElapsedSeconds: time.Since(began).Seconds()}
	}
	defer closeWithin(source.Close, 2*time.Second)

	progress := new(pull.Progress)
	defer d.watch(progress, watched{unit.Run, unit.Unit, partition, start.Target})()
	loop := pull.Loop{
		Source: source, Sink: sink{d.Store}, Format: d.Format,
		Folder: d.Folder, Partition: partition, RunID: unit.Run,
		Start: start, Limits: d.limitsOf(unit), Chunk: d.Chunk,
		Idle: d.Idle, Duration: d.ReceiveFor, Deadline: deadline, CheckpointEvery: d.CheckpointEvery, Progress: progress,
	}
	return loop.Run(ctx)
}

// limitsOf gives the limits of one batch: those of the unit, else the settings'. A loop holds two batches,
// one that fills and one that is being stored, so where many loops run side by side each batch gets a
// smaller share of the memory.
func (d *Drainer) limitsOf(unit work.Unit) pull.Limits {
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
	limits.Bytes = min(limits.Bytes, max(d.BatchMemory/(2*loops(unit)), leastBatch))
	return limits
}

// loops is how many loops of a unit run side by side.
func loops(unit work.Unit) int { return max(min(unit.Tasks, len(unit.Partitions)), 1) }

// Plan makes one unit of every partition that has a backlog, with the time that is left for it. It takes
// half of the time that there is for a unit, at most.
func (d *Drainer) Plan(ctx context.Context, req fanout.Request) (work.Unit, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.Timeout/2)
	defer cancel()
	partitions, err := planner{d.Hub}.Partitions(ctx)
	if err != nil {
		return work.Unit{}, err
	}
	run := fanout.NewRun(time.Now())
	req.N = 1
	plan, err := fanout.NewPlan(run, partitions, req)
	if err != nil || len(plan.Units) == 0 {
		return work.Unit{Run: run.ID}, err
	}
	unit := plan.Units[0]
	unit.BudgetSeconds = (d.Timeout - time.Since(began)).Seconds()
	return unit, nil
}

// Progress says how far the loops are that run now, in the order of runs, units and partitions.
func (d *Drainer) Progress() []api.Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []api.Progress
	for p, w := range d.live {
		all = append(all, api.Progress{
			Run: w.run, Unit: w.unit, Partition: w.partition,
			Received: p.Received.Load(), Stored: p.Stored.Load(), Last: w.target,
		})
	}
	slices.SortFunc(all, func(a, b api.Progress) int {
		return cmp.Or(cmp.Compare(a.Run, b.Run), cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Partition, b.Partition))
	})
	return all
}

// leastBatch is the share, in bytes, below which blobs would become too many: 256 KiB.
const leastBatch = 256 << 10

// leastTurn is the time below which a partition's turn isn't worth taking: it would end before its first
// message. Of a short budget, half is enough.
const leastTurn = 2 * time.Second

func (d *Drainer) watch(p *pull.Progress, w watched) (forget func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live == nil {
		d.live = map[*pull.Progress]watched{}
	}
	d.live[p] = w
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.live, p)
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

func (s sink) List(ctx context.Context, prefix string) iter.Seq2[pull.Blob, error] {
	return func(yield func(pull.Blob, error) bool) {
		for b, err := range s.Store.List(ctx, prefix) {
			if !yield(pull.Blob{Name: b.Name, Metadata: b.Metadata}, err) {
				return
			}
		}
	}
}
