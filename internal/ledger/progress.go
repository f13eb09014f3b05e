package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/document"
	"persistor/internal/work"
)

// Progress is how far one unit of a run's wave is.
type Progress struct {
	// Wave is the unit's wave; [Ledger.Track] takes 0 for the one that the run is at.
	Wave    int       `json:"wave"`
	Unit    int       `json:"unit"`
	Updated time.Time `json:"updated"`
	Rows    []Row     `json:"rows"`
}

// Row is how far one loop of a unit is.
type Row struct {
	Partition string      `json:"partition,omitempty"`
	Cell      *work.Range `json:"cell,omitempty"`
	Receiver  *int        `json:"receiver,omitempty"`
	// Received and Stored count messages.
	Received int64 `json:"received"`
	Stored   int64 `json:"stored"`
	// At is the sequence number up to which everything from the row's beginning is stored, -1 where that isn't known.
	At int64 `json:"at"`
}

// Track writes how far a unit is, in place of what it wrote before, and reports whether it should stop: the run
// is to be cancelled, or is over. Then nothing is written. It sets Updated. The error is an [ErrNoRun] where there is no
// such run: whoever asked for the unit keeps runs elsewhere, most likely, and to stop for that would cost messages.
func (l *Ledger) Track(ctx context.Context, run string, p Progress) (cancel bool, err error) {
	r, _, err := l.read(ctx, run)
	switch {
	case errors.Is(err, document.ErrNotFound):
		return false, fmt.Errorf("track unit %d: %w as %q in this container: the invoker's PERSISTOR_CONTAINER_NAME is to be the workers'", p.Unit, ErrNoRun, run)
	case err != nil:
		return false, err
	case r.State.Over() || !r.CancelRequested.IsZero():
		return true, nil
	}
	if p.Wave == 0 {
		p.Wave = r.Wave
	}
	p.Updated = inMilliseconds(l.now())
	body, err := json.Marshal(p)
	if err == nil {
		err = l.storage.Overwrite(ctx, fmt.Sprintf("%s%d-%d.json", l.progressFolder(run), p.Wave, p.Unit), append(body, '\n'))
	}
	if err != nil {
		return false, fmt.Errorf("track unit %d of run %s: %w%s", p.Unit, run, err, hint(err))
	}
	return false, nil
}

func (l *Ledger) progressFolder(run string) string { return l.folder + run + "/" }

// Progress returns how far the units of a run's wave are, in order of units: of the last wave that any unit has written
// of. Units that have not written anything are missing.
func (l *Ledger) Progress(ctx context.Context, run string) ([]Progress, error) {
	wave, names, err := l.lastWave(ctx, run)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var all []Progress
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, name := range names {
		g.Go(func() error {
			body, _, err := l.storage.Read(ctx, name)
			if errors.Is(err, document.ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read progress of run %s: %w%s", run, err, hint(err))
			}
			p := Progress{Wave: wave}
			if json.Unmarshal(body, &p) != nil {
				return nil // it is there to be looked at, and the next one comes in a moment
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, p)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Progress) int { return a.Unit - b.Unit })
	return all, nil
}

// lastWave returns the names of the progress of the last wave that has any.
func (l *Ledger) lastWave(ctx context.Context, run string) (wave int, names []string, err error) {
	all, err := l.progressNames(ctx, run)
	if err != nil {
		return 0, nil, err
	}
	for _, name := range all {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, l.progressFolder(run)), "-")
		n, err := strconv.Atoi(number)
		if err != nil || n < wave {
			continue
		}
		if n > wave {
			wave, names = n, nil
		}
		names = append(names, name)
	}
	return wave, names, nil
}

// progressNames returns the names of all progress of a run.
func (l *Ledger) progressNames(ctx context.Context, run string) ([]string, error) {
	if err := checkID(run); err != nil {
		return nil, err
	}
	var names []string
	for name, err := range l.storage.Names(ctx, l.progressFolder(run)) {
		if err != nil {
			return nil, fmt.Errorf("list progress of run %s: %w%s", run, err, hint(err))
		}
		if names = append(names, name); len(names) == maxProgress {
			break
		}
	}
	return names, nil
}

// maxProgress bounds how many documents of progress are read or removed at once.
const maxProgress = 4 * maxUnits

// ClearProgress removes all progress of a run.
func (l *Ledger) ClearProgress(ctx context.Context, run string) error {
	names, err := l.progressNames(ctx, run)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, name := range names {
		g.Go(func() error { return l.storage.Remove(ctx, name, "") })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("clear progress of run %s: %w%s", run, err, hint(err))
	}
	return nil
}
