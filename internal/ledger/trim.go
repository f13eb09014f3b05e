package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/document"
)

const (
	// trimPause is how long a ledger that was trimmed is left alone.
	trimPause = time.Hour
	// trimTimeout is the most that a Create spends on it.
	trimTimeout = 5 * time.Second
	// maxTrimmed is how many runs are looked at, and removed, at a time.
	maxTrimmed = 100
)

// Trim removes runs that are over for longer than [Retention.Age], or beyond the newest [Retention.Count], with their
// progress: at most 100 at a time, the oldest first. It never removes one that is queued or running, and one that was
// abandoned only once it is so for Age. It does nothing within an hour of the time before; [Ledger.TrimNow] doesn't
// mind.
func (l *Ledger) Trim(ctx context.Context) (removed int, err error) {
	if !l.due() {
		return 0, nil
	}
	return l.TrimNow(ctx)
}

// due reports whether it is time, to one caller of each hour.
func (l *Ledger) due() bool {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	now := l.now()
	if !l.trimmed.IsZero() && now.Sub(l.trimmed) < trimPause {
		return false
	}
	l.trimmed = now
	return true
}

// TrimNow is [Ledger.Trim] at once. The error is the first one; what could be removed is removed.
func (l *Ledger) TrimNow(ctx context.Context) (removed int, err error) {
	old, err := l.candidates(ctx)
	if err != nil {
		return 0, fmt.Errorf("trim runs: %w", err)
	}
	gone := make([]bool, len(old))
	var g errgroup.Group
	g.SetLimit(readers / 2)
	for i, c := range old {
		g.Go(func() (err error) {
			gone[i], err = l.trim(ctx, c)
			return err
		})
	}
	err = g.Wait()
	for _, g := range gone {
		if g {
			removed++
		}
	}
	if err != nil {
		return removed, fmt.Errorf("trim runs: %w", err)
	}
	return removed, nil
}

// candidate is a run that is old enough by its id, or one too many.
type candidate struct {
	id      string
	tooMany bool
}

// candidates returns the oldest runs that may have to go.
func (l *Ledger) candidates(ctx context.Context) ([]candidate, error) {
	var oldest []string
	count := 0
	for name, err := range l.storage.Names(ctx, l.folder) {
		if err != nil {
			return nil, fmt.Errorf("%w%s", err, hint(err))
		}
		if id := l.id(name); id != "" {
			if count++; len(oldest) < maxTrimmed {
				oldest = append(oldest, id)
			}
		}
	}
	var all []candidate
	for i, id := range oldest {
		began, known := began(id)
		c := candidate{id: id, tooMany: i < count-l.keep.Count}
		if c.tooMany || !known || l.now().Sub(began) > l.keep.Age {
			all = append(all, c)
		}
	}
	return all, nil
}

// trim removes a run if it has to go. The document is removed last, and only as it was read: then nobody has begun to
// go on with the run meanwhile, and what an error leaves is found again.
func (l *Ledger) trim(ctx context.Context, c candidate) (removed bool, err error) {
	run, version, err := l.read(ctx, c.id)
	if damaged := (*damagedError)(nil); errors.As(err, &damaged) {
		began, known := began(c.id)
		if !known {
			return false, nil // somebody else's
		}
		run, version, err = Run{State: Unreadable, Ended: began}, damaged.version, nil
	}
	if errors.Is(err, document.ErrNotFound) || err == nil && !l.mayGo(run, c.tooMany) {
		return false, nil
	}
	if err == nil {
		err = l.ClearProgress(ctx, c.id)
	}
	if err == nil {
		err = l.storage.Remove(ctx, l.name(c.id), version)
	}
	if errors.Is(err, document.ErrChanged) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("run %s: %w%s", c.id, err, hint(err))
	}
	return true, nil
}

// mayGo reports whether a run is not wanted any more.
func (l *Ledger) mayGo(run Run, tooMany bool) bool {
	now := l.now()
	switch state := run.StateAt(now); {
	case state == Abandoned:
		return now.Sub(latest(run.Alive, run.Updated)) > l.keep.Age
	case !state.Over():
		return false
	}
	return tooMany || now.Sub(latest(run.Ended, run.Created)) > l.keep.Age
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// began is when a run began, by its id.
func began(id string) (time.Time, bool) {
	const layout = "20060102T150405Z"
	t, err := time.Parse(layout, id[:min(len(id), len(layout))])
	return t, err == nil
}
