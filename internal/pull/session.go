package pull

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// Session drains one session of Service Bus, which its source has locked, until it holds no more
// messages: each message into exactly one blob, in their order.
type Session struct {
	Loop
	Source Locks
	Entity string // path of the entity that the session belongs to; goes into the blobs' metadata
	ID     string // the session's, which may be empty
}

// Run drains until the source says that the session is drained or lost, the time is over or something
// fails, or until ctx ends.
func (s *Session) Run(ctx context.Context) work.Source {
	began := time.Now()
	k := &thread{session: s, after: -1, looked: math.MinInt64}
	loop := s.within(s.Source)
	loop.connected = true // or the session would not be locked
	end, err := loop.run(ctx, &sessionReader{locked: locked{s.Source}}, k)
	row := k.report(end, err, time.Since(began))
	row.Checkpoint, row.Backlog = -1, -1
	row.RedeliveryExpected = k.unconfirmed
	return row
}

// sessionReader keeps a session's messages in order. They come in order, unless one was given back to the
// service while another was on its way; then the blobs are cut so that their order is that of the messages
// all the same.
type sessionReader struct {
	locked
	top     int64 // the highest number that went into a batch
	ceiling int64 // the current batch holds nothing above
}

func (r *sessionReader) joins(b *batch, m *message.Message) bool {
	n := m.SequenceNumber
	if b.len() == 0 {
		// A batch that begins below what came before ends there, too.
		r.ceiling = math.MaxInt64
		if n < r.top {
			r.ceiling = r.top
		}
	} else if n <= b.last() || n > r.ceiling {
		return false
	}
	if !r.locked.joins(b, m) {
		return false
	}
	r.top = max(r.top, n)
	return true
}

// thread stores the batches of a session, so that its blobs follow on from each other, whoever writes
// them.
//
// A blob is named after the session and its first message and created only if absent. A session's
// messages come in their order to one receiver at a time, and those that are not settled come again from
// the first. So a receiver begins where nothing is stored; or at a blob's first message, and finds the
// name taken; or inside a blob of which some messages were settled, and finds it in the list that it
// makes, once, of the session's blobs of that day. Where batches are joined, a batch is appended to the last
// of these, at the place where that was seen to end, so that a receiver that has lost the session unawares
// can't get in between.
type thread struct {
	session *Session
	counts
	open        growing          // the blob that was stored to last, or the last one that was found
	top         int64            // the highest number in the blobs of the day that was looked at
	looked      int64            // the day whose blobs were looked at
	known       []record.Holding // of blobs that hold messages still to come, as far as is known
	after       int64            // the last message stored, as far as is known; else -1
	unconfirmed int64
}

// keep implements [keeper].
func (k *thread) keep(ctx context.Context, b *batch) error {
	numbers := b.numbers()
	if lost, _ := k.session.Source.Check(numbers); len(lost) > 0 {
		k.unconfirmed += int64(b.len())
		return ErrSuperseded // the whole session was lost with its lock
	}
	// A message that comes out of its turn may be in a blob that was left behind.
	if on := day(b.enqueued); on != k.looked || b.firstLive() <= k.after {
		k.looked = on
		if err := k.look(ctx, b); err != nil {
			return err
		}
	}
	k.skip(b)
	for b.len() > 0 {
		if err := k.store(ctx, b); err != nil {
			return err
		}
	}
	if n := len(k.session.complete(ctx, k.session.Source, numbers)); n > 0 {
		k.unconfirmed += int64(n)
		return ErrSuperseded // with its link, most likely
	}
	return nil
}

func (k *thread) finish(context.Context) error { return nil }

// look reads which blobs of the session there are of one day, before the first of its messages are stored.
func (k *thread) look(ctx context.Context, b *batch) error {
	k.known, k.open, k.top = k.known[:0], growing{}, -1
	first := b.firstLive()
	for blob, err := range k.session.Sink.List(ctx, record.SessionDay(k.session.Folder, k.session.ID, b.enqueued)) {
		if err != nil {
			return fmt.Errorf("look for stored messages of session %s: %w", QuoteSession(k.session.ID), err)
		}
		h, err := record.ParseHolding(blob.Metadata)
		if err != nil {
			return fmt.Errorf("look for stored messages of session %s: %w", QuoteSession(k.session.ID), foreign(blob.Name, err))
		}
		if !h.Of(k.session.Entity, &k.session.ID) { // another entity's, with the same folder
			continue
		}
		k.open, k.top = growing{blob.Name, h}, max(k.top, h.Held.Last())
		if last := h.Held.Last(); last < first {
			k.after = max(k.after, last)
		} else {
			k.known = append(k.known, h)
		}
	}
	return nil
}

// skip leaves out of b what the blobs hold that are known.
func (k *thread) skip(b *batch) {
	for _, h := range k.known {
		n := len(b.remove(func(e entry) bool { return h.Holds(e.number, e.enqueued) }))
		k.already += int64(n)
		k.session.Progress.skipped(int64(n))
	}
	if b.len() > 0 { // what ends before these messages is behind
		first := b.firstLive()
		k.known = slices.DeleteFunc(k.known, func(h record.Holding) bool {
			if h.Held.Last() >= first {
				return false
			}
			k.after = max(k.after, h.Held.Last())
			return true
		})
	}
}

// store puts the front of all where it belongs, or finds that another receiver has put something there, and
// leaves out of all what is stored now.
func (k *thread) store(ctx context.Context, all *batch) error {
	b, at, end := k.next(all)
	metadata, err := k.session.write(ctx, end.name, at, b, end.holding.Metadata())
	if at > 0 && errors.Is(err, ErrGone) {
		k.open = growing{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.what(b), err)
	}
	if metadata != nil {
		return k.meet(all, b, at, end.name, metadata)
	}
	n, bytes, blobs := int64(b.len()), int64(len(b.live())), int64(0)
	if at == 0 {
		blobs = 1
	}
	k.messages += n
	k.bytes += bytes
	k.blobs += blobs
	k.session.Progress.stored(n, bytes, blobs)
	k.after, k.top = max(k.after, b.last()), max(k.top, b.last())
	if k.open = end; !k.session.joins(b) {
		k.open = growing{}
	}
	all.dropped = len(b.entries)
	return nil
}

// next says which part of all goes where: the blob as it will be, and the position in it, 0 of a new one.
func (k *thread) next(all *batch) (b *batch, at int64, end growing) {
	first := all.firstLive()
	if o := k.open; k.session.Append != Apart && first > k.top && o.holding.Held.Last() == k.top && o.holding.Bytes < k.session.AppendBytes &&
		o.name == k.name(all, o.holding.Held.First()) { // of the same day, and minute
		if b := all.prefix(o.holding.Held, k.session.maxHeld()); b.len() > 0 && k.session.joins(b) {
			return b, o.holding.Bytes, o.extended(b, k.session.RunID)
		}
	}
	b = all.prefix(record.Sequences{}, k.session.maxHeld())
	after := k.after
	if after >= first {
		after = -1 // a message came out of its turn
	}
	return b, 0, growing{k.name(b, first), record.Holding{
		Entity: k.session.Entity, Session: &k.session.ID, Held: b.held, After: after,
		Bytes: int64(len(b.live())), Earliest: b.earliest(), Latest: b.latest(), Run: k.session.RunID,
	}}
}

// name is what a blob is called whose first message is of the day, and the minute, of b.
func (k *thread) name(b *batch, first int64) string {
	return k.session.named(record.SessionName(k.session.Folder, k.session.ID, b.enqueued, first), b)
}

// meet leaves out of all what is there already in place of b, its front, or looks for another place.
func (k *thread) meet(all, b *batch, at int64, name string, metadata map[string]string) error {
	held, err := record.ParseHolding(metadata)
	switch {
	case err != nil:
	case !held.Of(k.session.Entity, &k.session.ID):
		err = fmt.Errorf("it holds messages of %s", held.Entity)
	case at == 0 && !held.Holds(b.firstLive(), b.left()[0].enqueued):
		err = errors.New("its messages are not these, as if the entity had been made anew under its old name")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.what(b), foreign(name, err))
	}
	if at > 0 && held.Held.Len() <= k.open.holding.Held.Len() {
		k.open = growing{} // it takes no more, or never did
		return nil
	}
	k.open, k.top = growing{name, held}, max(k.top, held.Held.Last())
	k.known = append(k.known, held)
	k.skip(all)
	return nil
}

// what is tried with a batch, for errors.
func (k *thread) what(b *batch) string {
	return fmt.Sprintf("store messages %d to %d of session %s", b.firstLive(), b.last(), QuoteSession(k.session.ID))
}

// QuoteSession is a session's id in a message to people.
func QuoteSession(id string) string {
	const most = 60
	if len(id) > most {
		return strconv.Quote(id[:most]) + "…"
	}
	return strconv.Quote(id)
}
