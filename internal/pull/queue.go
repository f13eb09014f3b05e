package pull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"persistor/internal/record"
	"persistor/internal/work"
)

// Queue drains a queue, a subscription or a dead-letter queue of Service Bus, beside any number of other
// receivers that compete for its messages, until no more come.
type Queue struct {
	Loop
	Source Locks
	Entity string // path of what is drained; goes into the blobs' metadata
	// Frozen says that delivery counts don't tell whether a message was delivered before, as in a
	// dead-letter queue, where they stay as they were.
	Frozen bool
	// Single says that every message comes by itself whenever it comes, so that a blob's name tells whether it
	// is stored, and none has to be looked for.
	Single bool
	// Open is the blob that an earlier loop of this process was appending to, and the one that this loop was when it
	// ended. One loop at a time may use it; nil for a loop that begins a blob of its own.
	Open *Open
}

// Open is a blob that may grow. The zero value is none.
type Open struct{ blob heldBlob }

// Run drains until no message came for Quiet or Idle, the time is over or something fails, or until ctx
// ends.
func (q *Queue) Run(ctx context.Context) work.Source {
	s, _ := q.Drain(ctx)
	return s
}

// Drain is Run, with the error that the answer tells of in words.
func (q *Queue) Drain(ctx context.Context) (work.Source, error) {
	began := time.Now()
	k := &shelf{queue: q}
	if q.Open != nil {
		k.open = q.Open.blob
		defer func() { q.Open.blob = k.open }()
	}
	end, err := q.within(q.Source).run(ctx, locked{q.Source}, k)
	s := k.report(end, err, time.Since(began))
	s.Checkpoint, s.Backlog = -1, -1
	s.RedeliveryExpected = k.unconfirmed
	return s, err
}

// shelf stores the batches of a receiver that competes with others.
//
// Which messages a batch holds is a matter of chance, so a message that comes again comes in another
// batch, whose blob has another name. Two marks keep it from being stored twice. A blob is created with
// the mark that its messages are not settled, which goes when the service has confirmed that all of them
// are removed. And a message that comes again says so by its delivery count. So whoever receives one
// looks for it in the blobs that still have the mark, where it is if the receiver before was killed, or
// lost its lock, between storing and settling.
//
// Where batches are joined, a receiver appends to a blob that it has begun itself, and that it alone appends to.
// The blob has the mark from each append until those messages are settled, too.
//
// What remains possible, and is accepted: a receiver that loses a lock while a blob is being created, and
// so can't take the message out of it any more, and another that looks for the message just before that
// blob is there. The record of the second says by its delivery count that it is a repetition.
type shelf struct {
	queue *Queue
	counts
	open        heldBlob // the blob that was stored to last, if it may grow
	unconfirmed int64    // messages that were stored, or lost before that, and will come again
}

// keep implements [keeper].
func (k *shelf) keep(ctx context.Context, b *batch) error {
	k.check(b)
	blobs, err := k.leaveStored(ctx, b)
	if err != nil {
		return err
	}
	for b.len() > 0 {
		// What was taken out may have left so many holes that it takes several blobs.
		part, blob, err := k.store(ctx, b)
		if err != nil {
			return err
		}
		if n := len(blobs); n > 0 && blobs[n-1].name == blob.name {
			blob.numbers = append(blobs[n-1].numbers, blob.numbers...)
			blobs = blobs[:n-1]
		}
		blobs = append(blobs, blob)
		b.dropped = len(part.entries)
	}
	var numbers []int64
	for _, blob := range blobs {
		numbers = append(numbers, blob.numbers...)
	}
	unconfirmed := k.queue.complete(ctx, k.queue.Source, numbers)
	k.unconfirmed += int64(len(unconfirmed))
	slices.Sort(unconfirmed)
	for _, blob := range blobs {
		k.unmark(ctx, blob, unconfirmed)
	}
	return nil
}

func (k *shelf) finish(context.Context) error { return nil }

// check leaves out of b what is locked for somebody else by now, and isn't stored yet, and takes note of what
// was in between.
func (k *shelf) check(b *batch) {
	lost, again := k.queue.Source.Check(b.numbers())
	if len(again) > 0 {
		slices.Sort(again)
		for i, e := range b.entries {
			b.entries[i].again = e.again || in(again, e.number)
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		b.remove(func(e entry) bool { return in(lost, e.number) })
		k.unconfirmed += int64(len(lost))
	}
}

// heldBlob is a blob whose messages are to be completed.
type heldBlob struct {
	growing
	numbers []int64 // those that were received here, and are not settled yet
	settled int64   // how many besides them are
}

// leaveStored leaves out of b what a blob holds whose messages are not settled, and returns these blobs.
func (k *shelf) leaveStored(ctx context.Context, b *batch) ([]heldBlob, error) {
	var days []time.Time
	for _, e := range b.left() {
		suspect := (e.again || k.queue.Frozen) && !k.queue.Single
		if suspect && !slices.ContainsFunc(days, func(d time.Time) bool { return day(d) == day(e.enqueued) }) {
			days = append(days, e.enqueued)
		}
	}
	var found []heldBlob
	for _, on := range days {
		for blob, err := range k.queue.Sink.List(ctx, record.QueueDay(k.queue.Folder, on)) {
			if err != nil {
				return nil, fmt.Errorf("look for messages that were delivered before: %w", err)
			}
			if _, err := record.ParseQueueName(blob.Name); err != nil || !record.Unsettled(blob.Metadata) {
				continue
			}
			h, err := record.ParseHolding(blob.Metadata)
			if err != nil {
				return nil, fmt.Errorf("look for messages that were delivered before: %w", foreign(blob.Name, err))
			}
			if !h.Of(k.queue.Entity, nil) {
				continue
			}
			numbers := b.remove(func(e entry) bool { return (e.again || k.queue.Frozen) && h.Holds(e.number, e.enqueued) })
			if len(numbers) > 0 {
				found = append(found, heldBlob{growing: growing{blob.Name, h}, numbers: numbers})
				k.already += int64(len(numbers))
				k.queue.Progress.skipped(int64(len(numbers)))
			}
		}
	}
	return found, nil
}

// store puts the front of all, as much as one blob can tell of, into a blob, or finds that it is in one.
func (k *shelf) store(ctx context.Context, all *batch) (b *batch, blob heldBlob, err error) {
	b, at, blob := k.next(all)
	metadata, err := k.queue.write(ctx, blob.name, at, b, blob.holding.Metadata())
	if at > 0 && errors.Is(err, ErrGone) {
		k.open = heldBlob{}
		return k.store(ctx, all)
	}
	if err != nil {
		return nil, heldBlob{}, fmt.Errorf("%s: %w", k.what(b), err)
	}
	k.open = heldBlob{}
	if metadata != nil {
		found, err := k.meet(b, blob, metadata)
		if err != nil && at > 0 {
			return k.store(ctx, all) // it takes no more
		}
		return b, found, err
	}
	n, bytes, blobs := int64(b.len()), int64(len(b.live())), int64(0)
	if at == 0 {
		blobs = 1
	}
	k.messages += n
	k.bytes += bytes
	k.blobs += blobs
	k.queue.Progress.stored(n, bytes, blobs)
	if k.queue.joins(b) {
		k.open = blob
	}
	return b, blob, nil
}

// next says which part of all goes where: the blob as it will be, and the position in it, 0 of a new one.
func (k *shelf) next(all *batch) (b *batch, at int64, blob heldBlob) {
	if o := k.open; o.name != "" && o.holding.Bytes < k.queue.AppendBytes && k.sameTime(all) {
		if b := all.prefix(o.holding.Held, k.queue.maxHeld()); b.len() > 0 && k.queue.joins(b) {
			o.growing = o.extended(b, k.queue.RunID)
			o.holding.Unsettled = true
			return b, k.open.holding.Bytes, heldBlob{growing: o.growing, numbers: b.numbers(), settled: o.settled}
		}
	}
	b = all.prefix(record.Sequences{}, k.queue.maxHeld())
	h := record.Holding{
		Entity: k.queue.Entity, Held: b.held, After: -1, Bytes: int64(len(b.live())),
		Earliest: b.earliest(), Latest: b.latest(), Run: k.queue.RunID, Unsettled: true,
	}
	if k.queue.joins(b) {
		h.Begun = int64(b.len())
	}
	name := k.queue.named(record.QueueName(k.queue.Folder, k.queue.Entity, keys(b)), b)
	return b, 0, heldBlob{growing: growing{name, h}, numbers: b.numbers()}
}

// sameTime reports whether b is of the same day as what the open blob holds, and of the same minute where that
// is asked for.
func (k *shelf) sameTime(b *batch) bool {
	at := k.open.holding.Earliest
	return day(at) == day(b.enqueued) && (k.queue.Append != ByMinute || minute(at) == minute(b.enqueued))
}

// meet finds b in the blob that has its name: the name of a new one tells exactly these messages.
func (k *shelf) meet(b *batch, blob heldBlob, metadata map[string]string) (heldBlob, error) {
	h, err := record.ParseHolding(metadata)
	switch {
	case err != nil:
	case !h.Of(k.queue.Entity, nil):
		err = fmt.Errorf("it holds messages of %s", h.Entity)
	case slices.ContainsFunc(b.left(), func(e entry) bool { return !h.Holds(e.number, e.enqueued) }):
		err = errors.New("its messages are not these")
	}
	if err != nil {
		return heldBlob{}, fmt.Errorf("%s: %w", k.what(b), foreign(blob.name, err))
	}
	k.already += int64(b.len())
	k.queue.Progress.skipped(int64(b.len()))
	blob.holding = h
	return blob, nil
}

// what is tried with a batch, for errors.
func (k *shelf) what(b *batch) string {
	numbers := b.numbers()
	return fmt.Sprintf("store %d messages, %d to %d", b.len(), slices.Min(numbers), slices.Max(numbers))
}

// unmark takes the mark off a blob all of whose messages are known to be settled. A blob that keeps its
// mark, because storage is immutable or nobody may change what is there, is as good as one without: it is
// only looked at more often.
func (k *shelf) unmark(ctx context.Context, s heldBlob, unconfirmed []int64) {
	if slices.ContainsFunc(s.numbers, func(n int64) bool { return in(unconfirmed, n) }) {
		return
	}
	s.settled += int64(len(s.numbers))
	if s.name == k.open.name {
		k.open.settled = s.settled
	}
	if !s.holding.Unsettled || s.settled != s.holding.Held.Len() {
		return
	}
	s.holding.Unsettled = false
	if s.holding.Begun > 0 {
		// Unless it has grown meanwhile, which whoever did that will see to.
		_, _ = k.queue.Sink.Append(ctx, s.name, s.holding.Bytes, nil, s.holding.Metadata())
		return
	}
	_ = k.queue.Sink.SetMetadata(ctx, s.name, s.holding.Metadata())
}

// keys are the messages of a batch.
func keys(b *batch) []record.Key {
	all := make([]record.Key, 0, b.len())
	for _, e := range b.left() {
		all = append(all, record.Key{SequenceNumber: e.number, Enqueued: e.enqueued})
	}
	return all
}

func in(sorted []int64, n int64) bool {
	_, found := slices.BinarySearch(sorted, n)
	return found
}
