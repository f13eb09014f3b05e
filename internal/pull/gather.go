package pull

import (
	"context"
	"errors"
	"time"

	"persistor/internal/message"
	"persistor/internal/work"
)

// longestWait is how long one Receive may wait. It must be long enough for a link to be opened again on a
// slow network, since a call that ends gives up on that; it decides only how soon a loop notices that the
// messages it waits for don't exist.
const longestWait = 10 * time.Second

// gatherer fills batches and hands them to a persister. It is a state machine:
//
//	receive --> fill --> hand over --> fill ...
//	   ^__________|
//
// and every state leads to finish when there is nothing more to do, or no time to do it.
type gatherer struct {
	*Loop
	reader reader
	keeper keeper
	began  time.Time

	batch   *batch
	pending []message.Message // received, not yet in a batch
	quiet   time.Time         // since when no message has come, not counting the time in which none could
	trouble error             // why none can come, at the moment
	since   time.Time         // the trouble began
	heard   bool              // there was a connection once

	full chan *batch // to the persister
	free chan *batch // and back

	end work.Ended
	err error
}

type state func(context.Context) state

// run gathers until the end, and returns why it ended after the persister has stored what was gathered.
// Storing goes on under persisting when ctx has ended.
func (g *gatherer) run(ctx, persisting context.Context) (work.Ended, error) {
	g.full, g.free = make(chan *batch), make(chan *batch, 2)
	g.free <- &batch{}

	gathering, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	persisted := make(chan error, 1)
	go func() { persisted <- g.persist(persisting, fail) }()

	for next := state(g.receive); next != nil; {
		next = next(gathering)
	}
	close(g.full)
	if err := <-persisted; err != nil {
		return work.Failed, err
	}
	return g.end, g.err
}

// persist stores one batch after the other until there are no more. Its first error ends the gathering.
func (g *gatherer) persist(ctx context.Context, fail context.CancelCauseFunc) (err error) {
	for b := range g.full {
		if err == nil {
			began, before, last := time.Now(), g.keeper.done(), b.last()
			if err = g.keeper.keep(ctx, b); err != nil {
				fail(err)
			}
			g.Pace.observe(time.Since(began))
			done := g.keeper.done()
			g.observe(Step{
				Kind: Kept, Began: began, Err: err, Messages: done.messages - before.messages, Bytes: done.bytes - before.bytes,
				Already: done.already - before.already, Last: last,
			})
		}
		b.reset()
		g.free <- b
	}
	return err
}

// receive waits for messages: until the batch is due, at most.
func (g *gatherer) receive(ctx context.Context) state {
	if g.reader.left() == 0 {
		return g.finish(work.Drained, nil)
	}
	if ctx.Err() != nil {
		return g.finish(work.Cancelled, nil)
	}
	now := time.Now()
	wait := longestWait
	if !g.Deadline.IsZero() {
		left := g.Deadline.Sub(now) - g.reserve()
		if left <= 0 {
			return g.timeout
		}
		wait = min(wait, left)
	}
	if g.Duration > 0 {
		left := g.Duration - now.Sub(g.began)
		if left <= 0 {
			return g.timeout
		}
		wait = min(wait, left)
	}
	if g.Idle > 0 {
		left := g.Idle - now.Sub(g.quiet)
		if left <= 0 {
			return g.finish(work.Idle, nil)
		}
		wait = min(wait, left)
	}
	if g.Quiet > 0 {
		left := g.Quiet - now.Sub(g.quiet)
		if left <= 0 {
			return g.finish(work.Drained, nil)
		}
		wait = min(wait, left)
	}
	if g.batch.len() > 0 {
		left := min(g.Limits.Age, g.reader.patience()) - now.Sub(g.batch.began)
		if left <= 0 {
			return g.handOver
		}
		wait = min(wait, left)
	}

	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var err error
	g.pending, err = g.reader.Receive(waiting, g.count())
	switch {
	case errors.Is(err, ErrDrained):
		return g.finish(work.Drained, nil)
	case errors.Is(err, ErrUnreachable):
		if g.trouble == nil {
			g.since = time.Now()
		}
		g.quiet, g.trouble = time.Now(), err
		return g.receive
	case err != nil:
		return g.finish(work.Failed, err)
	}
	g.trouble, g.heard = nil, true
	if len(g.pending) > 0 {
		g.quiet = time.Now()
		g.pending = g.reader.came(g.pending)
		g.Progress.received(int64(len(g.pending)))
	}
	return g.fill
}

// count is how many messages to ask for: no more than there can be, since Receive waits for all of them,
// and no more than the batch takes.
func (g *gatherer) count() int {
	n := int64(min(g.Chunk, g.Limits.Count-g.batch.len()))
	return int(max(min(n, g.reader.left()), 1))
}

// fill puts what was received into the batch.
func (g *gatherer) fill(context.Context) state {
	for len(g.pending) > 0 {
		m := &g.pending[0]
		if !g.reader.joins(g.batch, m) || !g.batch.add(m, g.Format, g.Limits) {
			return g.handOver
		}
		g.pending = g.pending[1:]
	}
	if g.batch.full(g.Limits) {
		return g.handOver
	}
	return g.receive
}

// handOver gives the batch to the persister, once that is done with the one before, and takes an empty
// one. What ends the gathering ends the persister as well, which then takes batches without storing
// them, so that this never waits longer than the deadline.
func (g *gatherer) handOver(context.Context) state {
	began := time.Now()
	g.gathered()
	g.full <- g.batch
	g.batch = <-g.free
	g.quiet = g.quiet.Add(time.Since(began))
	return g.fill
}

// timeout ends the gathering when the time is over: as failed, when nothing could come, ever or for long.
func (g *gatherer) timeout(context.Context) state {
	if g.trouble != nil && (!g.heard || time.Since(g.since) > longestWait) {
		return g.finish(work.Failed, g.trouble)
	}
	return g.finish(work.Deadline, nil)
}

// finish hands over what is left. A loop that was superseded leaves that to its successor, who reads the
// same messages again.
func (g *gatherer) finish(end work.Ended, err error) state {
	g.end, g.err = end, err
	if g.batch.len() > 0 && !errors.Is(err, ErrSuperseded) {
		g.gathered()
		g.full <- g.batch
	}
	return nil
}

// gathered tells that the batch is handed over.
func (g *gatherer) gathered() {
	b := g.batch
	g.observe(Step{Kind: Received, Began: b.began, Messages: int64(b.len()), Bytes: int64(len(b.live())), Last: b.last()})
}

// reserve is the time before the deadline that is kept for storing what is held, at most half of all the
// time there was.
func (g *gatherer) reserve() time.Duration {
	return min(g.Pace.Reserve(), g.Deadline.Sub(g.began)/2)
}
