package pull

import (
	"context"
	"time"

	"persistor/internal/message"
)

// Seeker is a Log that can be read from any place. Its methods are used by the goroutine that receives.
type Seeker interface {
	Log
	// Peek returns the message that the next Receive begins with, and fetches few others. It waits, and fails, as
	// Receive does, and returns none when ctx ends first. What it returns is valid until the next call.
	Peek(ctx context.Context) ([]message.Message, error)
	// Seek has the next Receive begin behind a sequence number.
	Seek(ctx context.Context, after int64)
}

// worthSeeking is how many messages have to be stored already, in a row, for the source to be moved behind them: about
// as many as moving it may waste of those that were received ahead, and of time.
const worthSeeking = 10_000

// approach finds out, before much is received, what is stored of what the source begins with, and has it begin behind
// that: a cell that another loop has stored a part of, or a partition whose checkpoint is lost. A loop that goes on
// from a checkpoint does without: as a rule nothing is stored behind it.
func (p *Partition) approach(ctx context.Context, r *partitionReader, c *chain) error {
	if r.seeker == nil || p.Start.Anchored && !p.Start.Bounded || r.left() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.longestPeek())
	defer cancel()
	messages, err := r.seeker.Peek(ctx)
	if err != nil || len(messages) == 0 {
		return nil // the next Receive finds the same, and has the time to deal with it
	}
	m := &messages[0]
	if p.Start.Bounded && m.SequenceNumber > p.Start.Target {
		r.came(messages[:1])
		return nil
	}
	b := sampleOf(entry{number: m.SequenceNumber, enqueued: m.EnqueuedTime})
	c.anchor(m.SequenceNumber)
	if err := c.look(ctx, b); err != nil {
		return err
	}
	c.tell()
	if c.after >= m.SequenceNumber {
		r.seeker.Seek(ctx, c.after)
		r.seen, r.placed = c.after, true
	}
	return nil
}

// longestPeek bounds the time for the first message by a half of what there is.
func (p *Partition) longestPeek() time.Duration {
	wait := longestWait
	if !p.Deadline.IsZero() {
		wait = min(wait, time.Until(p.Deadline)/2)
	}
	return wait
}

// sampleOf is a batch that tells of a message, and has no record.
func sampleOf(e entry) *batch { return &batch{entries: []entry{e}, enqueued: e.enqueued} }

// reach follows the chain from the end of a day, where that is stored to its end, through the days behind it, as far as
// it goes on there without a break.
func (c *chain) reach(ctx context.Context, b *batch) error {
	on := b.enqueued
	for range oldest {
		if len(c.ahead) > 0 || c.after >= c.limit {
			return nil
		}
		on = on.AddDate(0, 0, 1)
		next, err := c.stored(ctx, b, on, c.after+1, c.limit)
		if err != nil {
			return err
		}
		end := stretch{Span: c.open.span}
		if len(next.ranges) == 0 || end.Last != c.after || !end.leads(next.ranges[0].Span) {
			return nil
		}
		c.follow(next.ranges[0])
		if len(next.ranges) > 1 {
			return nil // there is a hole in it
		}
	}
	return nil
}
