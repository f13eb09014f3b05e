// Package pull is the drain loop: messages of one partition become blobs, each message exactly once.
//
//	Source.Receive --> batch --encode--> Sink.Create --> Source.Checkpoint
//	 \______ gather ______/               \______ persist, settle ______/
//
// Gathering and persisting run side by side on two batches in turn: while one is being stored the next
// is being received, and memory is bounded by those two and by what the source prefetches.
//
// What makes it exactly once is the chain (see [chain]): a blob's name is a pure function of the first
// message in it, it is created only if absent, and a loop that finds its name taken goes on behind the
// blob that has it.
package pull

import (
	"context"
	"errors"
	"iter"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// Source is one partition from which one loop reads; used by one goroutine at a time, except that
// Checkpoint may be called while Receive waits. It does its own reconnecting; the loop never retries.
type Source interface {
	// Receive waits for count messages, in order of their sequence numbers, or for fewer when it has no
	// memory for so many. When ctx ends first it returns what has come so far, which may be nothing, and
	// no error. The messages are valid until the next call. It returns [ErrSuperseded] when another receiver has taken the partition over.
	Receive(ctx context.Context, count int) ([]message.Message, error)
	// Checkpoint records durably that everything up to mark is stored.
	Checkpoint(ctx context.Context, mark Mark) error
}

// Mark is a place in a partition: that of the last message stored.
type Mark struct {
	SequenceNumber int64
	Offset         string
}

// Sink is where blobs go; safe for concurrent use. It retries by itself for as long as ctx allows.
type Sink interface {
	// Create stores body durably under name unless that name is taken: then held is the metadata of
	// the blob that has it, and nothing is changed.
	Create(ctx context.Context, name string, body []byte, metadata map[string]string) (held map[string]string, err error)
	// List gives the blobs whose names start with prefix, in order of their names.
	List(ctx context.Context, prefix string) iter.Seq2[Blob, error]
}

// Blob is a blob that is there.
type Blob struct {
	Name     string
	Metadata map[string]string
}

// ErrSuperseded is what a Source answers when a receiver of the same or a higher owner level took over.
var ErrSuperseded = errors.New("a newer run has taken the partition over")

// Limits say when a batch becomes a blob: the first one reached wins. All are above zero.
type Limits struct {
	Count int           // messages
	Bytes int           // of encoded records; one larger message makes a batch by itself
	Age   time.Duration // since the batch's first message was received
}

// Start is where a loop begins and what it has to reach.
type Start struct {
	// After is the sequence number behind which the loop reads: that of a checkpoint, or the one before
	// the partition's oldest message.
	After int64
	// Anchored says that the chain goes on behind After, so that what is missing there is lost. Otherwise
	// the first message received decides where the chain begins.
	Anchored bool
	// Later says that the source begins at a later place, which only its first message will tell.
	Later bool
	// Target is the last sequence number to reach.
	Target int64
}

// Loop drains one partition, once. Its fields are not changed while it runs.
type Loop struct {
	Source    Source
	Sink      Sink
	Format    record.Format
	Folder    string // main folder of the blobs' names
	Partition string
	RunID     string // goes into the blobs' metadata

	Start  Start
	Limits Limits
	// Chunk is how many messages one Receive asks for; at least 1.
	Chunk int
	// Idle ends the loop when no message came for so long; 0 means never.
	Idle time.Duration
	// Duration ends the loop when it has received for so long, as a deadline does; 0 means never.
	Duration time.Duration
	// Deadline is when Run has to be back; what it holds is stored before. Zero means never.
	Deadline time.Time
	// CheckpointEvery is how many messages are stored, at least, between two checkpoints; 0 means after
	// every blob. The last one is always written.
	CheckpointEvery int64
	Progress        *Progress // may be nil
}

// Run drains the partition until it reaches Start.Target, runs idle, out of time or into an error, or
// until ctx ends. Whatever the reason, it first stores and checkpoints what it has received, within
// the deadline. It returns after everything that it started has ended. Backlog in the answer is counted
// against Start.Target.
func (l *Loop) Run(ctx context.Context) work.Source {
	began := time.Now()
	c := &chain{
		sink: l.Sink, source: l.Source, folder: l.Folder, partition: l.Partition, run: l.RunID,
		every: l.CheckpointEvery, progress: l.Progress,
		anchored: l.Start.Anchored, after: -1, settled: -1,
	}
	if l.Start.Anchored {
		c.after, c.settled = l.Start.After, l.Start.After
	}
	g := &gatherer{
		Loop: l, chain: c, began: began, batch: &batch{}, quiet: began,
		seen: l.Start.After, placed: !l.Start.Later,
	}

	// What was received is stored even when ctx has ended, but not after the deadline.
	persisting := context.WithoutCancel(ctx)
	if !l.Deadline.IsZero() {
		var cancel context.CancelFunc
		persisting, cancel = context.WithDeadline(persisting, l.Deadline)
		defer cancel()
	}
	end, err := g.run(ctx, persisting)
	if err == nil {
		err = c.settle(persisting)
	}
	return l.report(c, end, err, time.Since(began))
}

func (l *Loop) report(c *chain, end work.Ended, err error, elapsed time.Duration) work.Source {
	s := work.Source{
		Partition: l.Partition, Ended: end,
		Messages: c.messages, Bytes: c.bytes, Blobs: c.blobs, AlreadyStored: c.already,
		Checkpoint: c.settled, LostToRetention: c.lost, ElapsedSeconds: elapsed.Seconds(),
	}
	s.Backlog = max(0, l.Start.Target-max(c.after, l.Start.After))
	switch {
	case err == nil:
	case errors.Is(err, ErrSuperseded):
		s.Ended = work.Superseded
	default:
		s.Ended, s.Error = work.Failed, err.Error()
	}
	return s
}
