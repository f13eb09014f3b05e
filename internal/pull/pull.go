// Package pull is the drain loop: messages of one source become blobs.
//
//	Source.Receive --> batch --encode--> Sink.Create --> checkpoint or complete
//	 \______ gather ______/               \______ keep: persist, settle _____/
//
// Gathering and keeping run side by side on two batches in turn: while one is being stored the next
// is being received, and memory is bounded by those two and by what the source prefetches.
//
// There are three kinds of source, which differ in what may be in one blob, in how a message that comes
// again is known, and in how a message is settled:
//
//   - [Partition]: a partition of an Event Hub, read by position. Its blobs form a chain (see [chain]).
//   - [Session]: a session of Service Bus, locked by one receiver at a time. Its blobs form a chain, too.
//   - [Queue]: a queue, subscription or dead-letter queue of Service Bus, whose messages any number of
//     receivers compete for.
//
// In each a blob's name is a pure function of the messages in it, and it is created only if absent. Where
// batches are joined ([Append]) it is one of the batch that the blob begins with, and a batch is appended only
// where the blob ends that was seen last.
package pull

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// Source is what one loop receives from; used by one goroutine at a time. It does its own reconnecting;
// the loop never retries.
type Source interface {
	// Receive waits for count messages, or for fewer when it has no memory for so many or when no more
	// seem to come. When ctx ends first it returns what has come so far, which may be nothing, and no
	// error. The messages are valid until the next call. It returns [ErrSuperseded] when another receiver
	// has taken over what it reads, [ErrDrained] when it knows that there is nothing more to receive, and
	// [ErrUnreachable], which is not final, when ctx ended before the service could be reached (again).
	Receive(ctx context.Context, count int) ([]message.Message, error)
}

// Sink is where blobs go; safe for concurrent use. It retries by itself for as long as ctx allows.
type Sink interface {
	// Create stores body durably under name unless that name is taken: then held is the metadata of
	// the blob that has it, and nothing is changed.
	Create(ctx context.Context, name string, body []byte, metadata map[string]string) (held map[string]string, err error)
	// Append adds body durably to the blob of that name that ends at position at, in bytes, and replaces its
	// metadata, both or neither; at 0 it begins the blob. If the blob ends elsewhere, takes no more or was
	// made by Create, held is its metadata and nothing is changed. If it is not there any more, the error is
	// [ErrGone]. Without a body the metadata alone are replaced, on the same conditions.
	Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (held map[string]string, err error)
	// List gives the blobs whose names start with prefix, in order of their names.
	List(ctx context.Context, prefix string) iter.Seq2[Blob, error]
	// SetMetadata replaces the metadata of a blob that is there, where that is allowed.
	SetMetadata(ctx context.Context, name string, metadata map[string]string) error
}

// Blob is a blob that is there.
type Blob struct {
	Name     string
	Metadata map[string]string
}

var (
	// ErrSuperseded is what a Source answers when another receiver took over: of a partition one of the
	// same or a higher owner level, of a session whoever got hold of it after its lock was lost.
	ErrSuperseded = errors.New("another receiver has taken over")
	// ErrUnreachable is what a Source answers that had no connection to the service: that nothing came
	// means nothing then.
	ErrUnreachable = errors.New("the service can't be reached")
	// ErrDrained is what a Source answers that knows of its end.
	ErrDrained = errors.New("there is nothing more to receive")
	// ErrGone says that a blob that was to be appended to is not there: somebody has moved it away. What comes
	// next begins another one.
	ErrGone = errors.New("the blob has been removed")
	// ErrForeign says that a blob has the name of one that is to be stored and isn't what Persistor writes
	// there. It stays so until somebody moves it away.
	ErrForeign = errors.New("a blob that is not as Persistor writes it is in the way")
)

// Limits say when a batch becomes a blob: the first one reached wins. All are above zero.
type Limits struct {
	Count int           // messages
	Bytes int           // of encoded records; one larger message makes a batch by itself
	Age   time.Duration // since the batch's first message was received

	minute bool // of one UTC minute, as all are of one UTC day
}

// Append says which batches become one blob.
type Append int

const (
	// Apart makes a blob of each batch.
	Apart Append = iota
	// Joined appends a batch to the blob of the one before, as long as that may be: a blob is of one UTC day
	// and, of a partition, of one cell and without a hole.
	Joined
	// ByMinute is Joined with blobs of one UTC minute of enqueued time, which their names tell.
	ByMinute
)

// Loop is what the drains of all kinds of source have in common. Its fields are not changed while one
// runs.
type Loop struct {
	Sink   Sink
	Format record.Format
	Folder string // main folder of the blobs' names
	RunID  string // goes into the blobs' metadata

	Limits Limits
	// Append says which batches become one blob. A blob of AppendBytes or more takes no further one.
	Append      Append
	AppendBytes int64
	// MaxAppend is how many bytes can be appended at once. A larger message becomes a blob by itself.
	MaxAppend int
	// Chunk is how many messages one Receive asks for; at least 1.
	Chunk int
	// Idle ends the loop when no message came for so long, and Quiet ends it as drained; 0 means never.
	Idle, Quiet time.Duration
	// Duration ends the loop when it has received for so long, as a deadline does; 0 means never.
	Duration time.Duration
	// Deadline is when the loop has to be back; what it holds is stored before. Zero means never.
	Deadline time.Time
	Pace     *Pace     // of the loops of one source that follow each other; may be nil
	Progress *Progress // may be nil
	// Observe, unless nil, is told of each step. Two goroutines call it, so it has to be safe for concurrent use.
	Observe func(Step)

	// connected says that the source had a connection when the loop began.
	connected bool
}

// reader is what differs between kinds of source while messages are gathered. It is used by the
// gatherer's goroutine alone.
type reader interface {
	Source
	// left is how many messages are still to be received, as far as is known: 0 when there are no more.
	left() int64
	// came takes note of messages that were received, at least one, and returns those of them that are to be stored.
	came([]message.Message) []message.Message
	// joins reports whether m may be in one blob with what b holds, and takes note of it. An empty batch
	// takes any message.
	joins(b *batch, m *message.Message) bool
	// patience is how long a batch may wait for more messages, at most.
	patience() time.Duration
}

// keeper is what differs while messages are stored and settled. It is used by the persister's goroutine.
type keeper interface {
	// keep stores what of b is not stored yet, then settles it.
	keep(ctx context.Context, b *batch) error
	// finish settles what is still unsettled, when all batches are kept.
	finish(ctx context.Context) error
	// done says what was done so far.
	done() counts
}

// run drains r into k until there is nothing more, no time, or an error, or until ctx ends. Whatever the
// reason, it first keeps what was received, within the deadline. It returns after everything that it
// started has ended.
func (l *Loop) run(ctx context.Context, r reader, k keeper) (work.Ended, error) {
	// What was received is stored even when ctx has ended, but not after the deadline.
	persisting := context.WithoutCancel(ctx)
	if !l.Deadline.IsZero() {
		var cancel context.CancelFunc
		persisting, cancel = context.WithDeadline(persisting, l.Deadline)
		defer cancel()
	}
	now := time.Now()
	if l.Pace == nil {
		l.Pace = new(Pace)
	}
	g := &gatherer{Loop: l.cut(), reader: r, keeper: k, began: now, quiet: now, heard: l.connected, batch: &batch{}}
	end, err := g.run(ctx, persisting)
	if err == nil {
		err = k.finish(persisting)
	}
	switch {
	case err == nil:
		return end, nil
	case errors.Is(err, ErrSuperseded):
		return work.Superseded, nil
	}
	return work.Failed, err
}

// Pace is how long it takes to store and settle a batch. Its zero value knows of none yet; safe for concurrent
// use.
type Pace struct{ slowest atomic.Int64 } // in nanoseconds

func (p *Pace) observe(took time.Duration) { p.slowest.Store(max(p.slowest.Load(), int64(took))) }

// Reserve is the time before a deadline that is kept for storing what is held: three times the longest that
// a batch took so far, at least a second.
func (p *Pace) Reserve() time.Duration {
	return max(3*time.Duration(p.slowest.Load()), time.Second)
}

// cut is the loop with batches that can be appended.
func (l Loop) cut() *Loop {
	if l.Append != Apart {
		l.Limits.Bytes = min(l.Limits.Bytes, l.MaxAppend)
		l.Limits.minute = l.Append == ByMinute
	}
	return &l
}

// write stores the records of a batch at the given position of a blob, 0 of a new one. What is too large
// to be appended becomes a blob that doesn't grow.
func (l *Loop) write(ctx context.Context, name string, at int64, b *batch, metadata map[string]string) (held map[string]string, err error) {
	began := l.clock()
	if l.joins(b) {
		held, err = l.Sink.Append(ctx, name, at, b.live(), metadata)
	} else {
		held, err = l.Sink.Create(ctx, name, b.live(), metadata)
	}
	step := Step{Kind: Stored, Began: began, Err: err, Messages: int64(b.len()), Bytes: int64(len(b.live())), Last: b.last()}
	if held != nil {
		step.Already = 1
	}
	l.observe(step)
	return held, err
}

// joins reports whether a batch goes into a blob that grows.
func (l *Loop) joins(b *batch) bool { return l.Append != Apart && len(b.live()) <= l.MaxAppend }

// maxHeld is how long the text may be that tells which messages of Service Bus a blob holds.
func (l *Loop) maxHeld() int {
	if l.Append == Apart {
		return record.MaxHeld
	}
	return record.MaxHeldGrowing
}

// growing is a blob of Service Bus messages that may grow. Its zero value is none.
type growing struct {
	name    string
	holding record.Holding
}

// extended puts b, which is a prefix of a batch onto what a blob holds, into the holding of that blob.
func (g growing) extended(b *batch, run string) growing {
	h := &g.holding
	h.Held, h.Run = b.held, run
	h.Bytes += int64(len(b.live()))
	if earliest := b.earliest(); earliest.Before(h.Earliest) {
		h.Earliest = earliest
	}
	if latest := b.latest(); latest.After(h.Latest) {
		h.Latest = latest
	}
	return g
}

// named is the name that the blob of a batch has, where it is otherwise called name.
func (l *Loop) named(name string, b *batch) string {
	if l.Append == ByMinute {
		return record.ByMinute(name, b.enqueued)
	}
	return name
}

// counts are what a keeper has done.
type counts struct {
	messages, bytes, blobs int64 // stored by this loop
	already                int64 // received, and found to be stored already
}

func (c *counts) done() counts { return *c }

func (c counts) report(end work.Ended, err error, elapsed time.Duration) work.Source {
	s := work.Source{
		Ended: end, Messages: c.messages, Bytes: c.bytes, Blobs: c.blobs, AlreadyStored: c.already,
		ElapsedSeconds: elapsed.Seconds(),
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}
