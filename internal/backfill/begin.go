package backfill

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
)

// Begin begins a run: it resolves what is asked for, writes the run's document, and asks for the first wave. The
// error is a [fanout.ErrRequest] where the request is to blame, with everything that is wrong with it. Fields are taken
// to be within their ranges; package api checks them.
func (e *Engine) Begin(ctx context.Context, req ledger.Request) (ledger.Run, error) {
	req.N = cmp.Or(req.N, e.Units)
	now := time.Now()
	run := ledger.Run{
		ID: fanout.NewRun(now).ID, Kind: ledger.Backfill, Source: e.Source, State: ledger.Queued,
		Created: now, Updated: now, Alive: now.Add(e.Timing.Alive), Request: req, Next: 1,
	}
	if err := e.resolve(ctx, &run); err != nil {
		return ledger.Run{}, err
	}
	if err := e.Ledger.Create(ctx, run); err != nil {
		return ledger.Run{}, fmt.Errorf("begin run: %w", err)
	}
	if err := e.ask(ctx, run, 0); err != nil {
		e.giveUp(ctx, run.ID, err)
		return ledger.Run{}, fmt.Errorf("begin run: %w", err)
	}
	return run, nil
}

// giveUp ends a run whose next wave could not be asked for. Where that can't be written the run shows as abandoned.
func (e *Engine) giveUp(ctx context.Context, id string, why error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	_, err := e.Ledger.Update(ctx, id, func(run *ledger.Run) error {
		if run.State != ledger.Queued || !run.NextAsked.IsZero() {
			return errSuperseded
		}
		complain(run, -1, why.Error(), time.Now())
		finish(run, ledger.Failed, time.Now())
		return nil
	})
	if err != nil {
		e.Log.WarnContext(ctx, "could not end a run that can't go on", "run", id, "error", err)
	}
}

// resolve fills in what the run is to do.
func (e *Engine) resolve(ctx context.Context, run *ledger.Run) error {
	if e.Hub == nil {
		return e.resolveBus(ctx, run)
	}
	req := run.Request
	var problems []string
	if len(req.Sessions) > 0 {
		problems = append(problems, "sessions was given: this invoker drains an Event Hub, which has none")
	}
	all, err := e.Hub.Partitions(ctx)
	if err != nil {
		return fmt.Errorf("begin run: read partitions: %w", err)
	}
	chosen, unknown := fanout.Choose(all, req.Partitions)
	problems = append(problems, unknown...)
	if from, until := req.From.SequenceNumber, req.Until.SequenceNumber; from != nil && until != nil && *until < *from {
		problems = append(problems, fmt.Sprintf("until.sequence_number is %d, and from.sequence_number %d: want one that is not below it", *until, *from))
	}
	if from, until := req.From.Time, req.Until.Time; !from.IsZero() && !until.IsZero() && !until.After(from) {
		problems = append(problems, fmt.Sprintf("until.time is %s, and from.time %s: want a later one", until.Format(time.RFC3339), from.Format(time.RFC3339)))
	}
	if len(problems) > 0 {
		return fmt.Errorf("begin run: %w: %s", fanout.ErrRequest, strings.Join(problems, "; "))
	}
	run.Partitions, err = e.ranges(ctx, chosen, req)
	countRemaining(run)
	return err
}

// ranges resolves both ends in each partition.
func (e *Engine) ranges(ctx context.Context, chosen []fanout.Partition, req ledger.Request) ([]ledger.Partition, error) {
	all := make([]ledger.Partition, len(chosen))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, p := range chosen {
		group.Go(func() error {
			from, err := e.from(ctx, p, req.From)
			if err != nil {
				return fmt.Errorf("begin run: find where partition %s begins: %w", p.ID, err)
			}
			to, err := e.until(ctx, p, req.Until)
			if err != nil {
				return fmt.Errorf("begin run: find where partition %s ends: %w", p.ID, err)
			}
			all[i] = ledger.Partition{Partition: p.ID, From: from, To: to, Checkpoint: p.Checkpoint}
			return nil
		})
	}
	return all, group.Wait()
}

// from is the first sequence number of a range. What the hub has dropped already is not asked for, but behind a
// checkpoint, where it counts as lost.
func (e *Engine) from(ctx context.Context, p fanout.Partition, b ledger.Bound) (int64, error) {
	first := max(p.First, 0)
	if p.Empty {
		first = p.Last + 1
	}
	switch {
	case b.SequenceNumber != nil:
		return max(*b.SequenceNumber, first), nil
	case !b.Time.IsZero() && !p.Empty:
		at, err := e.Hub.SequenceAt(ctx, p.ID, b.Time)
		return max(at, first), err
	case b.Position != "earliest" && b.Time.IsZero() && p.Checkpoint >= 0 && p.Checkpoint <= p.Last:
		return p.Checkpoint + 1, nil
	}
	return first, nil
}

// until is the last one, of those that are there.
func (e *Engine) until(ctx context.Context, p fanout.Partition, b ledger.Bound) (int64, error) {
	switch {
	case b.SequenceNumber != nil:
		return min(*b.SequenceNumber, p.Last), nil
	case !b.Time.IsZero() && !p.Empty:
		at, err := e.Hub.SequenceAt(ctx, p.ID, b.Time)
		return min(at-1, p.Last), err
	}
	return p.Last, nil
}

// resolveBus checks what can be asked for of Service Bus, by a plan that is not carried out.
func (e *Engine) resolveBus(ctx context.Context, run *ledger.Run) error {
	var problems []string
	req := run.Request
	for _, given := range []struct {
		name  string
		given bool
		why   string
	}{
		{"partitions", len(req.Partitions) > 0, "Service Bus has none"},
		{"from", req.From != (ledger.Bound{}), "messages of Service Bus are taken in its own order, and are gone from it when they are stored"},
		{"until", req.Until != (ledger.Bound{}), "a backfill of Service Bus ends when nothing more comes; max_waves and max_messages end it earlier"},
	} {
		if given.given {
			problems = append(problems, given.name+" was given: "+given.why+": leave it out")
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("begin run: %w: %s", fanout.ErrRequest, strings.Join(problems, "; "))
	}
	plan, err := e.Planner.Plan(ctx, fanout.Run{ID: run.ID, Start: time.Now()}, fanout.Request{N: req.N, PerFunc: req.PerFunc, Sessions: req.Sessions, Batch: req.Batch})
	if err != nil {
		return err
	}
	run.Waiting, run.Counts.Remaining = plan.Waiting, plan.Waiting
	return nil
}
