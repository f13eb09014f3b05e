package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/work"
)

// Hub stores the events of one Event Hub. Its methods are safe for concurrent use; the invocations of one partition
// take turns.
type Hub struct {
	Options
	name string

	mu         sync.Mutex
	partitions map[string]*partition
	batches    sync.Once // has told that batches are no outputs
}

// NewHub makes a Hub of this name, which stands in the log alone.
func NewHub(name string, o Options) *Hub {
	return &Hub{Options: o, name: name, partitions: map[string]*partition{}}
}

// partition is what is known of a partition. Its turn is taken by whoever has the token.
type partition struct {
	turn chan struct{}
	reach
}

// reach is the part of a chain that this process has seen stored, without a hole: from the first sequence number to
// the last, where the chain ends.
type reach struct {
	first, last int64
	enqueued    time.Time // when the last was, or one before it
	tail        pull.Tail
}

// unknown is a chain of which nothing is known.
func unknown() reach { return reach{first: 0, last: -1} }

// meets reports whether sequence number n is in it, or the next one.
func (r reach) meets(n int64) bool { return r.first <= r.last && r.first <= n && n <= r.last+1 }

// outlived reports whether m, as its number and its time are, is of a hub that was made anew since, or of the one that a
// namespace has failed over to: there numbers begin again, while times go on.
func (r reach) outlived(m *message.Message) bool {
	return m.SequenceNumber <= r.last && m.EnqueuedTime.After(r.enqueued)
}

// extend takes in that messages without a hole are stored now.
func (r *reach) extend(stored []message.Message) {
	first, last := stored[0].SequenceNumber, stored[len(stored)-1]
	if !r.meets(first) {
		r.first, r.last = first, -1
	}
	if last.SequenceNumber > r.last {
		r.last, r.enqueued = last.SequenceNumber, last.EnqueuedTime
	}
}

// maxPartitions bounds how many partitions are remembered: Event Hubs has no more of them in a hub (1,024 in the
// premium and 2,000 in the dedicated tier).
const maxPartitions = 2048

// take waits for a partition's turn, and remembers what is known of it.
func (h *Hub) take(ctx context.Context, id string) (*partition, error) {
	h.mu.Lock()
	p := h.partitions[id]
	if p == nil {
		if len(h.partitions) >= maxPartitions {
			clear(h.partitions)
		}
		p = &partition{turn: make(chan struct{}, 1), reach: unknown()}
		h.partitions[id] = p
	}
	h.mu.Unlock()
	select {
	case p.turn <- struct{}{}:
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Persist is the function: it stores what an invocation brings, and fails only when that can't be stored anywhere.
func (h *Hub) Persist(ctx context.Context, i *host.Invocation) (host.Response, error) {
	regular, last := h.budget(time.Now())
	ctx = context.WithoutCancel(ctx) // who is told to end stores what he has
	from, messages, many, err := decodeHub(i)
	if err != nil {
		return host.Response{}, h.stranger(ctx, last, i, fmt.Errorf("identify messages of Event Hub %s: %w", h.name, err))
	}
	if len(messages) == 0 {
		return host.Response{}, nil
	}
	if h.Output && !many {
		return host.Response{Outputs: map[string]any{Blob: string(h.Format.Append(nil, &messages[0]))}}, nil
	}
	if h.Output {
		h.tellOfBatches(&h.batches)
	}
	ctx, cancel := context.WithDeadline(ctx, last)
	defer cancel()
	return host.Response{}, h.store(ctx, regular, runID(i.ID), from, messages)
}

// store stores messages of a partition, in their order and without repetitions: in their place until the regular
// time is over, then apart.
func (h *Hub) store(ctx context.Context, regular time.Time, run string, from origin, messages []message.Message) error {
	write := &writer{h: h, origin: from, run: run, left: messages}
	p, err := h.take(ctx, from.partition)
	if err != nil {
		return fmt.Errorf("%v: the invocation before has not ended: %w", write, err)
	}
	defer func() { <-p.turn }()

	trying, cancel := context.WithDeadline(ctx, regular)
	defer cancel()
	err = persevere(trying, func(ctx context.Context) error { return write.to(ctx, h.Sink, h.Folder, &p.reach) })
	if err == nil {
		return nil
	}
	what, first, last := write.String(), write.first(), write.last()
	where, refused := h.refuge(ctx, func(ctx context.Context, sink pull.Sink) error {
		chain := unknown()
		return write.to(ctx, sink, apart(h.Folder), &chain)
	})
	if refused != nil {
		return fmt.Errorf("%s: %w; %w", what, err, refused)
	}
	h.log().ErrorContext(ctx, "stored messages apart, since they could not be stored in their place",
		"hub", h.name, "partition", from.partition, "first", first, "last", last, "folder", apart(h.Folder), "in", where, "error", err)
	return nil
}

// writer stores messages of one partition, in one place or another.
type writer struct {
	h *Hub
	origin
	run  string
	left []message.Message // those that are not stored, one at least until all are
}

func (w *writer) first() int64 { return w.left[0].SequenceNumber }
func (w *writer) last() int64  { return w.left[len(w.left)-1].SequenceNumber }

func (w *writer) String() string {
	return fmt.Sprintf("store messages %d to %d of partition %s of Event Hub %s", w.first(), w.last(), w.partition, w.h.name)
}

// to stores what is left in a folder, of whose chain it is known how far it reaches.
func (w *writer) to(ctx context.Context, sink pull.Sink, folder string, chain *reach) error {
	if chain.outlived(&w.left[0]) {
		*chain = unknown()
	}
	if chain.meets(w.first()) {
		if w.left = behind(w.left, chain.last); len(w.left) == 0 {
			return nil
		}
	}
	first, last := w.first(), w.last()
	loop := pull.Partition{
		Loop: w.h.loop(ctx, sink, folder, w.run, len(w.left)), Source: &given{w.left}, Hub: w.hub, Partition: w.partition,
		Start: pull.Start{After: first - 1, Target: last}, Tail: &chain.tail,
	}
	row, err := loop.Drain(ctx)
	if stored := last - row.Backlog; stored >= first {
		left := behind(w.left, stored)
		chain.extend(unbroken(w.left[:len(w.left)-len(left)]))
		if w.left = left; len(left) == 0 {
			return nil
		}
	}
	if err == nil && row.Ended != work.Drained {
		err = errTimeout
	}
	return err
}

var errTimeout = errors.New("the invocation's time is over")

// unbroken are those messages at the end that have no hole between them, one at least.
func unbroken(messages []message.Message) []message.Message {
	n := len(messages) - 1
	for n > 0 && messages[n-1].SequenceNumber >= messages[n].SequenceNumber-1 {
		n--
	}
	return messages[n:]
}

// behind are the messages with sequence numbers above n.
func behind(messages []message.Message, n int64) []message.Message {
	at, _ := slices.BinarySearchFunc(messages, n+1, func(m message.Message, n int64) int { return cmp.Compare(m.SequenceNumber, n) })
	return messages[at:]
}
