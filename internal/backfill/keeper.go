package backfill

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
)

// writeTimeout bounds one attempt to bring a run's document up to date while its wave goes on.
const writeTimeout = 10 * time.Second

// keeper keeps a run's document up to date while a wave of it is carried out: it says that the invoker is alive,
// writes down what became of units, as many as have ended in one write, and finds out whether the run is to be
// cancelled. Trouble with the document doesn't disturb the wave.
type keeper struct {
	ledger *ledger.Ledger
	timing Timing
	log    *slog.Logger
	id     string
	mark   string
	// over is called with the reason when the wave is no longer this invoker's.
	over context.CancelCauseFunc
	// stopped is closed when the run is to be cancelled.
	stopped chan struct{}

	writing sync.Mutex // one update at a time

	mu      sync.Mutex
	rows    []fanout.UnitRow // that are not written yet
	trouble error            // the last write's
	wake    chan struct{}
	end     chan struct{} // closed by close
	ended   chan struct{} // closed when nothing writes any longer
}

// keep keeps the document of a run that was claimed by the mark. over ends the wave.
func (e *Engine) keep(ctx context.Context, id, mark string, over context.CancelCauseFunc) *keeper {
	k := &keeper{
		ledger: e.Ledger, timing: e.Timing, log: e.Log.With("run", id), id: id, mark: mark, over: over,
		stopped: make(chan struct{}), wake: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{}),
	}
	go k.run(context.WithoutCancel(ctx))
	return k
}

// unitEnded takes what became of a unit; it is a [fanout.Request.Ended].
func (k *keeper) unitEnded(row fanout.UnitRow) {
	k.mu.Lock()
	k.rows = append(k.rows, row)
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run writes until close.
func (k *keeper) run(ctx context.Context) {
	defer close(k.ended)
	renew := time.NewTicker(k.timing.Alive / 3)
	defer renew.Stop()
	watch := time.NewTicker(k.timing.Watch)
	defer watch.Stop()
	for {
		select {
		case <-k.end:
			return
		case <-k.wake:
			k.write(ctx)
		case <-renew.C:
			k.write(ctx)
		case <-watch.C:
			k.look(ctx)
		}
	}
}

// write brings the document up to date.
func (k *keeper) write(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	run, err := k.update(ctx, func(run *ledger.Run) error {
		run.Alive = time.Now().Add(k.timing.Alive)
		return nil
	})
	k.judge(ctx, run, err)
}

// look reads whether the run is to be cancelled.
func (k *keeper) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	run, err := k.ledger.Read(ctx, k.id)
	if err == nil && run.Invoker != k.mark {
		err = errSuperseded
	}
	k.judge(ctx, run, err)
}

func (k *keeper) judge(ctx context.Context, run ledger.Run, err error) {
	switch {
	case errors.Is(err, errSuperseded), errors.Is(err, ledger.ErrNoRun):
		k.over(err)
	case err != nil && k.note(err):
		k.log.WarnContext(ctx, "can't bring the run's document up to date; the run goes on", "error", err)
	case err == nil:
		k.note(nil)
		if !run.CancelRequested.IsZero() {
			k.stop()
		}
	}
}

// note remembers how the last write went, and says whether trouble is news.
func (k *keeper) note(err error) (news bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	news = k.trouble == nil
	k.trouble = err
	return news
}

func (k *keeper) stop() {
	select {
	case <-k.stopped:
	default:
		close(k.stopped)
	}
}

// update changes the document, which takes in what became of units so far, too. The error is errSuperseded when the
// wave isn't this invoker's any more.
func (k *keeper) update(ctx context.Context, change func(*ledger.Run) error) (ledger.Run, error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	rows := k.rows
	k.mu.Unlock()
	run, err := k.ledger.Update(ctx, k.id, func(run *ledger.Run) error {
		if run.Invoker != k.mark {
			return errSuperseded
		}
		for _, row := range rows {
			account(run, row, time.Now())
		}
		return change(run)
	})
	if err == nil {
		k.mu.Lock()
		k.rows = k.rows[len(rows):]
		k.mu.Unlock()
	}
	return run, err
}

// close returns when nothing is written any longer but by update.
func (k *keeper) close() {
	k.mu.Lock()
	select {
	case <-k.end:
	default:
		close(k.end)
	}
	k.mu.Unlock()
	<-k.ended
}
