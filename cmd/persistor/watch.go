package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"persistor/internal/ledger"
	"persistor/internal/remote"
)

const (
	// pollEvery lies between two looks at a run; of a local one, which costs nothing, less.
	pollEvery      = time.Second
	pollLocalEvery = 200 * time.Millisecond
	// outOfReach is how long an invoker may not be reached before the watching ends.
	outOfReach = 5 * time.Minute
	// takenUpWithin is how long a run shows as abandoned, at most, that an invoker is about to take up: one that was
	// started again does so a second after its predecessor's word has run out, and so does one that a queue asks.
	takenUpWithin = 10 * time.Second
)

// view shows a run that is watched. Its methods are called by one goroutine.
type view interface {
	// update shows how far the run is.
	update(p progress)
	// tell shows a line of text beside it.
	tell(text string)
	// end is the last call; the run may still go on.
	end(p progress)
}

// watch follows a run to its end. An end that isn't success is an error. When ctx ends, a remote run is left alone, and
// a local one, with which nobody else would go on, is cancelled.
func watch(ctx context.Context, i invoker, id string, v view, s streams) error {
	w := watcher{invoker: i, id: id, view: v}
	err := w.follow(ctx)
	if ctx.Err() != nil && i.local {
		err = w.cancelLocal(ctx)
	}
	v.end(w.last)
	switch {
	case ctx.Err() != nil && i.local && err == nil:
		fmt.Fprintf(s.err, "interrupted: what was held is stored; persistor runs resume %s --local goes on\n", id)
		return errors.New("run " + id + ": interrupted")
	case ctx.Err() != nil:
		fmt.Fprintf(s.err, "the run goes on: persistor runs watch %s shows how far it is, persistor runs cancel %s ends it\n", id, id)
		return errors.New("run " + id + ": no longer watched")
	case err != nil:
		return err
	}
	if state := w.last.run.State; state != ledger.Succeeded {
		return fmt.Errorf("run %s: %s", id, outcome(w.last.run.Run, i.local))
	}
	return nil
}

// outcome says in words how a run ended that has not succeeded, and what to do.
func outcome(r ledger.Run, local bool) string {
	text := "it was " + string(r.State)
	if r.State == ledger.Failed {
		text = "it has failed"
		if n := len(r.Errors); n > 0 {
			text += ": " + r.Errors[n-1].Error
		}
	}
	if advice := adviceOn(r, local); advice != "" {
		text += "; " + advice
	}
	return text
}

// watcher looks at a run again and again.
type watcher struct {
	invoker invoker
	id      string
	view    view

	last progress
	pace pace
	lost time.Time // since when the invoker can't be reached; zero while it can

	abandoned time.Time // since when the run shows as that; zero while it doesn't
}

// follow looks until the run is over, or abandoned, and shows it.
func (w *watcher) follow(ctx context.Context) error {
	every := pollEvery
	if w.invoker.local {
		every = pollLocalEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		over, err := w.look(ctx)
		if over || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look asks once.
func (w *watcher) look(ctx context.Context) (over bool, err error) {
	run, err := w.invoker.Run(ctx, w.id)
	now := time.Now()
	switch {
	case err != nil && ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil && w.last.run.ID != "" && remote.Passes(err):
		if w.lost.IsZero() {
			w.lost = now
			w.view.tell(err.Error() + "; it is asked again")
		}
		if now.Sub(w.lost) > outOfReach {
			return false, err
		}
		return false, nil
	case err != nil:
		return false, err
	}
	w.lost = time.Time{}
	w.last = progressOf(run, &w.pace, now)
	w.view.update(w.last)
	return w.over(run.Run, now), nil
}

// over reports whether nothing more is to be expected of a run.
func (w *watcher) over(run ledger.Run, now time.Time) bool {
	if run.State != ledger.Abandoned {
		w.abandoned = time.Time{}
		return run.State.Over()
	}
	if w.abandoned.IsZero() {
		w.abandoned = now
	}
	// The second is for runs abandoned long ago, the first for clocks that differ.
	return now.Sub(w.abandoned) >= takenUpWithin || now.Sub(run.Alive) >= takenUpWithin
}

// cancelLocal ends a local run in good order, and waits for that.
func (w *watcher) cancelLocal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), localClosing)
	defer cancel()
	w.view.tell("interrupted: storing what is held; Ctrl-C again ends at once")
	if _, err := w.invoker.Cancel(ctx, w.id); err != nil {
		return err
	}
	return w.follow(ctx)
}
