package app

import (
	"context"
	"time"

	"persistor/internal/ledger"
	"persistor/internal/pull"
	"persistor/internal/work"
)

const (
	// trackEvery is how often a tracked unit says how far it is, and learns that its run is to be cancelled.
	trackEvery = 2 * time.Second
	// trackPatience bounds one time of it.
	trackPatience = 15 * time.Second
)

// tracker keeps the ledger of a run up to date on how far a unit is.
type tracker struct {
	*Draining
	unit     work.Unit
	progress []*pull.Progress // of its sources, by number
	failed   bool             // the log has been told
}

// track begins to track a unit, if that is asked for, and returns a context that ends when the run is to be cancelled,
// too. What is there to end it waits for the tracking to have ended.
func (d *Draining) track(ctx context.Context, unit work.Unit, progress []*pull.Progress) (context.Context, func()) {
	if !unit.Tracked || d.Runs == nil {
		return ctx, func() {}
	}
	draining, cancel := context.WithCancel(ctx)
	tracking, stop := context.WithCancel(context.WithoutCancel(ctx)) // also while what is held is being stored
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		(&tracker{Draining: d, unit: unit, progress: progress}).run(tracking, cancel)
	}()
	return draining, func() {
		stop()
		<-ended
		cancel()
	}
}

func (t *tracker) run(ctx context.Context, cancel context.CancelFunc) {
	ticker := time.NewTicker(trackEvery)
	defer ticker.Stop()
	for {
		if t.tell(ctx) {
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// tell says how far the unit is, and reports whether its run is to be cancelled. What goes wrong keeps nobody from
// draining, so the log is told, once.
func (t *tracker) tell(ctx context.Context) (cancelled bool) {
	patient, end := context.WithTimeout(ctx, trackPatience)
	defer end()
	cancelled, err := t.Runs.Track(patient, t.unit.Run, ledger.Progress{Unit: t.unit.Unit, Rows: t.rows()})
	if err != nil && ctx.Err() == nil && !t.failed && t.Log != nil {
		t.failed = true
		t.Log.WarnContext(ctx, "can't keep a run's ledger up to date", "run", t.unit.Run, "unit", t.unit.Unit, "error", err.Error())
	}
	return cancelled
}

// rows are those of the sources whose turn has come.
func (t *tracker) rows() []ledger.Row {
	rows := []ledger.Row{}
	for n, p := range t.progress {
		row := ledger.Row{Received: p.Received.Load(), Stored: p.Stored.Load(), At: p.Next.Load() - 1}
		if row.Received == 0 && row.At < 0 {
			continue
		}
		switch {
		case n < len(t.unit.Cells):
			c := t.unit.Cells[n]
			row.Partition, row.Cell = c.Partition, &work.Range{From: c.From, To: c.To}
		case n < len(t.unit.Partitions):
			row.Partition = t.unit.Partitions[n]
		default:
			row.Receiver = &n
		}
		rows = append(rows, row)
	}
	return rows
}
