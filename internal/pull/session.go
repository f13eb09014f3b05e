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
// makes, once, of the session's blobs of that day.
type thread struct {
	session *Session
	counts
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
		if err := k.create(ctx, b); err != nil {
			return err
		}
	}
	if n := len(k.session.Source.Complete(ctx, numbers)); n > 0 {
		k.unconfirmed += int64(n)
		return ErrSuperseded // with its link, most likely
	}
	return nil
}

func (k *thread) finish(context.Context) error { return nil }

// look reads which blobs of the session there are of one day, before the first of its messages are stored.
func (k *thread) look(ctx context.Context, b *batch) error {
	k.known = k.known[:0]
	first := b.firstLive()
	for blob, err := range k.session.Sink.List(ctx, record.SessionDay(k.session.Folder, k.session.ID, b.enqueued)) {
		if err != nil {
			return fmt.Errorf("look for stored messages of session %s: %w", QuoteSession(k.session.ID), err)
		}
		h, err := record.ParseHolding(blob.Metadata)
		if err != nil {
			return fmt.Errorf("look for stored messages of session %s: %w", QuoteSession(k.session.ID), foreign(blob.Name, err))
		}
		switch last := h.Held.Last(); {
		case !h.Of(k.session.Entity, &k.session.ID): // another entity's, with the same folder
		case last < first:
			k.after = max(k.after, last)
		default:
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

// create makes one blob of b, or finds that another receiver has, and leaves out of b what is stored now.
func (k *thread) create(ctx context.Context, all *batch) error {
	b := all.prefix()
	first, last := b.firstLive(), b.last()
	after := k.after
	if after >= first {
		after = -1 // a message came out of its turn
	}
	h := record.Holding{
		Entity: k.session.Entity, Session: &k.session.ID, Held: b.held, After: after,
		Bytes: int64(len(b.live())), Earliest: b.earliest(), Latest: b.latest(), Run: k.session.RunID,
	}
	name := record.SessionName(k.session.Folder, k.session.ID, b.enqueued, first)
	metadata, err := k.session.Sink.Create(ctx, name, b.live(), h.Metadata())
	what := fmt.Sprintf("store messages %d to %d of session %s", first, last, QuoteSession(k.session.ID))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if metadata == nil {
		n := int64(b.len())
		k.messages += n
		k.bytes += h.Bytes
		k.blobs++
		k.session.Progress.stored(n, h.Bytes, 1)
		k.after = max(k.after, last)
		all.dropped = len(b.entries)
		return nil
	}
	held, err := record.ParseHolding(metadata)
	switch {
	case err != nil:
	case !held.Of(k.session.Entity, &k.session.ID):
		err = fmt.Errorf("it holds messages of %s", held.Entity)
	case !held.Holds(first, b.left()[0].enqueued):
		err = errors.New("its messages are not these, as if the entity had been made anew under its old name")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, foreign(name, err))
	}
	k.known = append(k.known, held)
	k.skip(all)
	return nil
}

// QuoteSession is a session's id in a message to people.
func QuoteSession(id string) string {
	const most = 60
	if len(id) > most {
		return strconv.Quote(id[:most]) + "…"
	}
	return strconv.Quote(id)
}
