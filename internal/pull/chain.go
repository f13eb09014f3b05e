package pull

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"persistor/internal/record"
	"persistor/internal/work"
)

// chain stores a partition's batches so that its blobs follow on from each other, whoever writes them.
//
// A blob is named after its first message and created only if absent. Blobs begin where another ends,
// so two writers of one partition ask for the same name; one gets it, the other reads from its metadata
// how far it reaches and goes on behind. Two cases need a look at what is there before that holds: the
// first batch of a loop, or of a day, which may lie inside a blob (a checkpoint that was lost, moved or
// written by somebody else), and a batch behind a hole (another writer may have been in time to store what
// the source has dropped since). A blob holds messages of one UTC day and its name begins with that day, so
// the blob that holds a message is found among those of one partition and day. The look takes in what is
// stored further on that day as well, for blobs may be there that batches were joined to otherwise than here.
//
// Where batches are joined, a batch is appended to the last blob of the chain, at the very place where that
// was seen to end. So of two writers one gets that place, too, and the other reads from the metadata how far
// the blob reaches now. Whether a batch goes there or begins a blob is decided by nothing but that blob and the
// batch's first message: two writers with the same settings never do one and the other. A loop with an end closes the
// blob that reaches it, for a loop that begins there may not have waited to see that blob.
type chain struct {
	loop      *Loop
	log       Log
	hub       string // as record.HubText writes it
	partition string
	every     int64

	anchored  bool
	after     int64     // everything up to here is stored, by this chain or another writer
	offset    string    // of the message at after; "" when that isn't known
	limit     int64     // nothing behind it is this loop's concern
	seeks     bool      // the source can be moved behind what is stored
	looked    int64     // the day whose blobs were looked at
	resolved  int64     // the message before which it is known what was stored, and what was lost; -1 for none
	met       bool      // another writer was met, which may have stored something further on
	open      link      // the blob that was stored to, or found, last; the one to append to if it ends at after
	ahead     []stretch // what was found behind after, in order
	settled   int64     // last checkpoint written by this loop; -1 when none
	unsettled int64
	reached   *atomic.Int64 // tells the gatherer of after; may be nil

	tail Tail // where an earlier loop left off

	counts
	lost []work.Range
}

// link is a blob of a chain. Its zero value is none.
type link struct {
	name string
	span record.Span
}

// stretch is an unbroken range of a chain, and the blob that it ends in.
type stretch struct {
	record.Span
	end link
}

// leads reports whether a blob follows on from a stretch: its numbers do, and its messages are no older. Those of a hub
// that was deleted since, and made anew under its name, are.
func (s stretch) leads(next record.Span) bool {
	older := !s.Latest.IsZero() && !next.Latest.IsZero() && s.Latest.Sub(next.Latest) >= time.Second
	return next.First == s.Last+1 && !older
}

// keep implements [keeper].
func (c *chain) keep(ctx context.Context, b *batch) error {
	if t := c.tail; t.follows(b.firstLive()) {
		c.anchored, c.after, c.open, c.ahead, c.looked = true, t.after, t.open, t.ahead, t.looked
	}
	c.tail = Tail{} // it is for the first batch
	defer c.tell()
	c.anchor(b.firstLive())
	c.skip(b)
	if b.len() > 0 && (day(b.enqueued) != c.looked || b.firstLive() != c.after+1 && b.firstLive() != c.resolved) {
		if err := c.look(ctx, b); err != nil {
			return err
		}
	}
	for c.pass(b); b.len() > 0; c.pass(b) {
		if c.met {
			if err := c.look(ctx, b); err != nil {
				return err
			}
			continue
		}
		part := b
		if len(c.ahead) > 0 {
			part = b.before(c.ahead[0].First)
		}
		if err := c.store(ctx, part); err != nil {
			return err
		}
		b.dropped = part.dropped
	}
	if c.unsettled > 0 && c.unsettled >= c.every {
		return c.finish(ctx)
	}
	return nil
}

// anchor has a chain that could begin anywhere begin at its first message.
func (c *chain) anchor(first int64) {
	if !c.anchored {
		c.anchored, c.after = true, first-1
	}
}

// tell says how far the chain is.
func (c *chain) tell() {
	if c.reached != nil {
		c.reached.Store(c.after)
	}
	c.loop.Progress.reached(c.after)
}

// store puts b where the chain ends, or finds that another writer has put something there, and leaves out of
// b what is stored now. That is nothing if the place that was known is none any more.
func (c *chain) store(ctx context.Context, b *batch) error {
	at, end := c.next(b)
	metadata, err := c.loop.write(ctx, end.name, at, b, end.span.Metadata())
	if at > 0 && errors.Is(err, ErrGone) {
		c.open = link{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("store messages %d to %d: %w", b.firstLive(), b.last(), err)
	}
	if metadata != nil {
		return c.meet(b, at, end, metadata)
	}
	messages, bytes, blobs := int64(b.len()), int64(len(b.live())), int64(0)
	if at == 0 {
		blobs = 1
	}
	c.messages += messages
	c.bytes += bytes
	c.blobs += blobs
	c.loop.Progress.stored(messages, bytes, blobs)
	if c.open = end; !c.loop.joins(b) {
		c.open = link{}
	}
	c.advance(end.span)
	b.drop(end.span.Last)
	return nil
}

// next says where b goes: the blob as it will be, and the position in it, 0 of a new one.
func (c *chain) next(b *batch) (at int64, end link) {
	end = link{
		name: c.name(b, b.firstLive()),
		span: record.Span{
			First: b.firstLive(), Last: b.last(), After: c.after,
			Count: int64(b.len()), Bytes: int64(len(b.live())), Offset: b.offset, Run: c.loop.RunID,
			Hub: c.hub, Latest: b.latest(),
			Closed: c.loop.joins(b) && b.last() == c.limit && (c.limit+1)%record.CellSize != 0,
		},
	}
	s := c.open.span
	grows := c.loop.joins(b) && !s.Closed && s.Last == c.after && s.Last+1 == b.firstLive() && b.firstLive()%record.CellSize != 0 &&
		s.Bytes < c.loop.AppendBytes && c.open.name == c.name(b, s.First) // of the same day, and minute
	if !grows {
		return 0, end
	}
	end.name = c.open.name
	end.span.First, end.span.After = s.First, s.After
	end.span.Count += s.Count
	end.span.Bytes += s.Bytes
	if s.Latest.IsZero() || s.Latest.After(end.span.Latest) {
		end.span.Latest = s.Latest
	}
	return s.Bytes, end
}

// stranger says why a blob, by what its metadata say, holds other messages than those of b, though they have the
// same numbers; "" if it doesn't. A hub that was made anew, or whose namespace has failed over, counts from the
// beginning. Times are compared to the second, for which the Functions host cuts some of them to.
func (c *chain) stranger(s record.Span, b *batch) string {
	if s.Hub != "" && c.hub != "" && s.Hub != c.hub {
		return "and holds messages of Event Hub " + s.Hub
	}
	for _, e := range b.left() {
		if s.First <= e.number && e.number <= s.Last {
			if !s.Latest.IsZero() && e.enqueued.Sub(s.Latest) >= time.Second {
				return fmt.Sprintf("and holds an older message %d, as if the Event Hub had been made anew under its old name", e.number)
			}
			break
		}
	}
	return ""
}

// name is what a blob is called whose first message is of the day, and the minute, of b.
func (c *chain) name(b *batch, first int64) string {
	return c.loop.named(record.EventHubName(c.loop.Folder, c.partition, b.enqueued, first), b)
}

// meet goes on behind what is there already in place of b, or looks for another place.
func (c *chain) meet(b *batch, at int64, end link, metadata map[string]string) error {
	held, err := record.ParseSpan(metadata)
	why := c.stranger(held, b)
	switch {
	case err != nil:
		why = "but not as Persistor writes it: " + err.Error()
	case why == "" && held.First != end.span.First:
		why = fmt.Sprintf("and says that it begins at %d", held.First)
	}
	if why != "" {
		return &foreignError{fmt.Errorf("store messages %d to %d: blob %s is there already, %s; move it away, or set STORE_PARAM to another folder", b.firstLive(), b.last(), end.name, why)}
	}
	if at > 0 && held.Last <= c.open.span.Last {
		c.open = link{} // it takes no more, or never did
		return nil
	}
	c.open = link{end.name, held}
	// A blob that is appended to says nothing of those behind it; of others each has its name.
	c.met = c.loop.Append != Apart
	c.advance(held)
	c.skip(b)
	return nil
}

func (c *chain) advance(s record.Span) {
	if s.Last > c.limit {
		s.Last, s.Offset = c.limit, ""
	}
	if s.Last > c.after {
		c.unsettled += s.Last - c.after
		c.after, c.offset = s.Last, s.Offset
	}
}

// pass goes on behind what was found, as far as that follows on.
func (c *chain) pass(b *batch) {
	for c.skip(b); b.len() > 0 && len(c.ahead) > 0 && c.ahead[0].First <= c.after+1; c.skip(b) {
		s := c.ahead[0]
		c.ahead = c.ahead[1:]
		if c.stranger(s.Span, b) == "" { // as far as b tells
			c.follow(s)
		}
	}
}

// follow goes to the end of what was found.
func (c *chain) follow(s stretch) {
	if s.Last >= c.after {
		c.open = s.end
	}
	c.advance(s.Span)
}

// skip leaves out of b what the chain has behind it.
func (c *chain) skip(b *batch) {
	last, offset := b.last(), b.offset
	if n := b.drop(c.after); n > 0 {
		c.already += n
		c.loop.Progress.skipped(n)
		if last == c.after {
			c.offset = offset
		}
	}
}

// look reads what is stored already from the first message of b on that day, and finds out what was lost
// when that message is not the next one.
func (c *chain) look(ctx context.Context, b *batch) error {
	first := b.firstLive()
	hole := work.Range{From: c.after + 1, To: min(first-1, c.limit)}
	today, err := c.stored(ctx, b, b.enqueued, hole.From, c.limit)
	if err != nil {
		return err
	}
	// A hole may have been stored on the days before.
	found := today.ranges
	on, older := b.enqueued, today.older
	for range oldest {
		if older || hole.From > hole.To || len(found) > 0 && found[0].First <= hole.From {
			break
		}
		on = on.AddDate(0, 0, -1)
		before, err := c.stored(ctx, b, on, hole.From, first)
		if err != nil {
			return err
		}
		found, older = append(before.ranges, found...), before.older
	}
	c.looked, c.resolved, c.met = day(b.enqueued), first, false
	c.lost = append(c.lost, gaps(hole, found)...)
	c.open, c.ahead = today.before, nil
	for _, s := range found {
		if s.First <= first {
			c.follow(s)
		} else {
			c.ahead = append(c.ahead, s)
		}
	}
	if c.seeks && c.after > b.last() {
		return c.reach(ctx, b)
	}
	return nil
}

// oldest bounds how many days a hole is followed back; Event Hubs keeps nothing longer.
const oldest = 90

// findings are what one day's blobs hold.
type findings struct {
	ranges []stretch // in order
	before link      // the last blob of older messages
	older  bool      // there is one, so that the days before hold nothing newer
}

// stored finds what is stored of the messages from to through among the blobs of a day, before b is stored. Blobs of
// strangers are left out: if one has a name that is needed, it will be told.
func (c *chain) stored(ctx context.Context, b *batch, on time.Time, from, through int64) (f findings, err error) {
	for blob, err := range c.loop.Sink.List(ctx, record.EventHubDay(c.loop.Folder, c.partition, on)) {
		if err != nil {
			return f, fmt.Errorf("look for stored messages from %d on: %w", from, err)
		}
		s, err := record.ParseSpan(blob.Metadata)
		if err != nil {
			return f, &foreignError{fmt.Errorf("look for stored messages from %d on: blob %s is not as Persistor writes it: %w; move it away, or set STORE_PARAM to another folder", from, blob.Name, err)}
		}
		if s.First > through {
			break
		}
		if c.stranger(s, b) != "" {
			continue
		}
		here := link{blob.Name, s}
		if n := len(f.ranges); n > 0 && f.ranges[n-1].leads(s) { // so that a day of blobs takes no memory
			last := &f.ranges[n-1]
			last.Last, last.Offset, last.Latest, last.end = s.Last, s.Offset, s.Latest, here
		} else if s.Last >= from {
			f.ranges = append(f.ranges, stretch{s, here})
		} else {
			f.before, f.older = here, true
		}
	}
	return f, nil
}

// gaps gives the parts of hole that no span holds; spans are in order.
func gaps(hole work.Range, spans []stretch) (lost []work.Range) {
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
	began := c.loop.clock()
	err := c.log.Checkpoint(ctx, Mark{SequenceNumber: c.after, Offset: c.offset})
	c.loop.observe(Step{Kind: Settled, Began: began, Err: err, Messages: c.unsettled, Last: c.after})
	if err != nil {
		return fmt.Errorf("write checkpoint at %d: %w", c.after, err)
	}
	c.settled, c.unsettled = c.after, 0
	return nil
}
