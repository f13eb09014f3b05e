package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"persistor/internal/document"
)

const (
	// MaxList is the most runs that a list returns.
	MaxList = 1000
	// readers is how many documents are read at once.
	readers = 16
)

// List returns the newest runs, at most limit and MaxList, the last one first and without Units and Errors. It reads no
// documents but theirs. One that can't be parsed is in the list as [Unreadable], with an error that names the blob.
func (l *Ledger) List(ctx context.Context, limit int) ([]Run, error) {
	ids, err := l.newest(ctx, max(0, min(limit, MaxList)))
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	runs := make([]Run, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, id := range ids {
		g.Go(func() error {
			var err error
			runs[i], err = l.readListed(ctx, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return slices.DeleteFunc(runs, func(r Run) bool { return r.ID == "" }), nil
}

// readListed returns a zero run for one that is gone.
func (l *Ledger) readListed(ctx context.Context, id string) (Run, error) {
	run, _, err := l.read(ctx, id)
	switch damaged := (*damagedError)(nil); {
	case errors.Is(err, document.ErrNotFound):
		return Run{}, nil
	case errors.As(err, &damaged):
		began, _ := began(id)
		return Run{ID: id, State: Unreadable, Created: began, Updated: began, Errors: []Error{{Time: began, Unit: -1, Error: err.Error()}}}, nil
	case err != nil:
		return Run{}, err
	}
	run.Units, run.Errors = nil, nil
	return run, nil
}

// newest returns the ids of the last n runs, the last one first.
func (l *Ledger) newest(ctx context.Context, n int) ([]string, error) {
	var last []string
	for name, err := range l.storage.Names(ctx, l.folder) {
		if err != nil {
			return nil, fmt.Errorf("%w%s", err, hint(err))
		}
		if id := l.id(name); id != "" {
			if last = append(last, id); len(last) > 2*n {
				last = slices.Delete(last, 0, len(last)-n)
			}
		}
	}
	last = last[max(0, len(last)-n):]
	slices.Reverse(last)
	return last, nil
}
