package pull

import (
	"context"
	"fmt"
	"time"

	"persistor/internal/record"
	"persistor/internal/work"
)

// chain stores a partition's batches so that its blobs follow on from each other, whoever writes them.
//
// A blob is named after its first message and created only if absent. Blobs begin where another ends,
// so two writers of one partition ask for the same name; one gets it, the other reads from its metadata
// how far it reaches and goes on behind. Two cases need a look at what is there before that holds: the
// first batch of a loop, whose start may lie inside a blob (a checkpoint that was lost, moved or written
// by somebody else), and a batch behind a hole (another writer may have been in time to store what the
// source has dropped since). A look finds all blobs that hold something of the batch, and what they leave
// out is stored between them. A blob holds messages of one UTC day and its name begins with that day, so
// the blob that holds a message is found among those of one partition and day.
type chain struct {
	sink      Sink
	log       Log
	folder    string
	partition string
	run       string
	every     int64
	progress  *Progress

	anchored  bool
	after     int64  // everything up to here is stored, by this chain or another writer
	offset    string // of the message at after; "" when that isn't known
	looked    bool
	ahead     []record.Span // found by the last look, and not passed yet
	settled   int64         // last checkpoint written by this loop; -1 when none
	unsettled int64

	counts
	lost []work.Range
}

// keep implements [keeper].
func (c *chain) keep(ctx context.Context, b *batch) error {
	if !c.anchored {
		c.anchored, c.after = true, b.firstLive()-1
	}
	c.skip(b)
	if b.len() > 0 && (!c.looked || b.firstLive() != c.after+1) {
		if err := c.look(ctx, b); err != nil {
			return err
		}
	}
	for c.pass(b); b.len() > 0; c.pass(b) {
		if err := c.create(ctx, b); err != nil {
			return err
		}
	}
	if c.unsettled > 0 && c.unsettled >= c.every {
		return c.finish(ctx)
	}
	return nil
}

// create makes one blob of b, up to the next one that is there, or finds that another writer has, and leaves
// out of b what is stored now.
func (c *chain) create(ctx context.Context, all *batch) error {
	b := all
	if len(c.ahead) > 0 && c.ahead[0].First <= b.last() {
		b = b.before(c.ahead[0].First)
	}
	span := record.Span{
		First: b.firstLive(), Last: b.last(), After: c.after,
		Count: int64(b.len()), Bytes: int64(len(b.live())), Offset: b.offset, Run: c.run,
	}
	name := record.EventHubName(c.folder, c.partition, b.enqueued, span.First)
	metadata, err := c.sink.Create(ctx, name, b.live(), span.Metadata())
	if err != nil {
		return fmt.Errorf("store messages %d to %d: %w", span.First, span.Last, err)
	}
	if metadata != nil {
		held, err := record.ParseSpan(metadata)
		if err != nil {
			return &foreignError{fmt.Errorf("store messages %d to %d: blob %s is there already, but not as Persistor writes it: %w; move it away, or set STORE_PARAM to another folder", span.First, span.Last, name, err)}
		}
		if held.First != span.First {
			return &foreignError{fmt.Errorf("store messages %d to %d: blob %s is there already and says that it begins at %d; move it away, or set STORE_PARAM to another folder", span.First, span.Last, name, held.First)}
		}
		c.advance(held)
		c.skip(all)
		return nil
	}
	c.messages += span.Count
	c.bytes += span.Bytes
	c.blobs++
	c.progress.stored(span.Count, span.Bytes)
	c.advance(span)
	all.drop(span.Last)
	return nil
}

func (c *chain) advance(s record.Span) {
	if s.Last > c.after {
		c.unsettled += s.Last - c.after
		c.after, c.offset = s.Last, s.Offset
	}
}

// skip leaves out of b what the chain has behind it.
func (c *chain) skip(b *batch) {
	last, offset := b.last(), b.offset
	if n := b.drop(c.after); n > 0 {
		c.already += n
		c.progress.skipped(n)
		if last == c.after {
			c.offset = offset
		}
	}
}

// pass goes on behind the blobs that are there and begin no later than what is left of b.
func (c *chain) pass(b *batch) {
	for len(c.ahead) > 0 && b.len() > 0 && c.ahead[0].First <= b.firstLive() {
		c.advance(c.ahead[0])
		c.ahead = c.ahead[1:]
		c.skip(b)
	}
}

// look reads what is stored already of b, and finds out what was lost when its first message is not the
// next one.
func (c *chain) look(ctx context.Context, b *batch) error {
	c.looked = true
	first := b.firstLive()
	hole := work.Range{From: c.after + 1, To: first - 1}

	reach, err := c.covered(ctx, b.enqueued, hole, b.last())
	if err != nil {
		return err
	}
	c.lost = append(c.lost, gaps(hole, reach)...)
	c.ahead = reach
	return nil
}

// oldest bounds how many days a hole is followed back; Event Hubs keeps nothing longer.
const oldest = 90

// covered gives the blobs that hold something of a hole, which may be empty, or of what comes behind it up to
// through, enqueued on the given day, in order.
func (c *chain) covered(ctx context.Context, on time.Time, hole work.Range, through int64) ([]record.Span, error) {
	var spans []record.Span
	from := hole.From
	for range oldest {
		var today []record.Span
		older := false
		for blob, err := range c.sink.List(ctx, record.EventHubDay(c.folder, c.partition, on)) {
			if err != nil {
				return nil, fmt.Errorf("look for stored messages %d to %d: %w", from, through, err)
			}
			s, err := record.ParseSpan(blob.Metadata)
			if err != nil {
				return nil, &foreignError{fmt.Errorf("look for stored messages %d to %d: blob %s is not as Persistor writes it: %w; move it away, or set STORE_PARAM to another folder", from, through, blob.Name, err)}
			}
			if s.First > through {
				break
			}
			if s.Last >= from {
				today = append(today, s)
			} else {
				older = true
			}
		}
		spans = append(today, spans...)
		if older || hole.From > hole.To || len(spans) > 0 && spans[0].First <= from {
			break // the days before have nothing of it
		}
		on = on.AddDate(0, 0, -1)
	}
	return spans, nil
}

// gaps gives the parts of hole that no span holds; spans are in order.
func gaps(hole work.Range, spans []record.Span) (lost []work.Range) {
	for _, s := range spans {
		if s.First > hole.From && hole.From <= hole.To {
			lost = append(lost, work.Range{From: hole.From, To: min(hole.To, s.First-1)})
		}
		hole.From = max(hole.From, s.Last+1)
	}
	if hole.From <= hole.To {
		lost = append(lost, hole)
	}
	return lost
}

// finish implements [keeper]: it writes a checkpoint when there is something new to settle. The offset may
// be unknown, when the chain ends in another writer's blob that doesn't tell; then it waits for the next one.
func (c *chain) finish(ctx context.Context) error {
	if c.unsettled == 0 || c.offset == "" {
		return nil
	}
	if err := c.log.Checkpoint(ctx, Mark{SequenceNumber: c.after, Offset: c.offset}); err != nil {
		return fmt.Errorf("write checkpoint at %d: %w", c.after, err)
	}
	c.settled, c.unsettled = c.after, 0
	return nil
}
