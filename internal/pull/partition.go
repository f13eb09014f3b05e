package pull

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// Log is a Source that is read by position: messages come in order of their sequence numbers.
type Log interface {
	Source
	// Checkpoint records durably that everything up to mark is stored. It may be called while Receive
	// waits.
	Checkpoint(ctx context.Context, mark Mark) error
}

// Mark is a place in a partition: that of the last message stored.
type Mark struct {
	SequenceNumber int64
	Offset         string
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
	// Bounded has the loop take nothing behind Target, and write no checkpoint: it drains a cell, beside other loops.
	Bounded bool
	// Emptied is when the partition's last message was enqueued, where it holds none up to Target any more, nor behind
	// it; zero where it does.
	Emptied time.Time
}

// Partition drains one partition of an Event Hub, or one cell of it, once, each message into exactly one blob. Where
// its source is a [Seeker], what is stored already is passed over without being received, but for short stretches.
type Partition struct {
	Loop
	Source    Log
	Hub       string // that the partition is of, as record.HubText writes it; "" when it isn't known
	Partition string
	Start     Start
	// CheckpointEvery is how many messages are stored, at least, between two checkpoints; 0 means after
	// every blob. The last one is always written.
	CheckpointEvery int64
	// Tail is where the chain ended when an earlier loop of this process was done with it, and where it ends when
	// this one is; nil for a loop that neither knows nor tells.
	Tail *Tail
}

// Tail is the end of a chain. If a loop's first message follows on from it, and comes soon, the loop knows what is there,
// and needs no look. The zero value knows nothing.
type Tail struct {
	seen   time.Time // when it was known; zero for never
	after  int64
	looked int64 // the day whose blobs were looked at
	open   link
	ahead  []stretch // what was found behind after
}

// tailAge is how long a [Tail] is believed. A partition takes longer to go to another process and to come back: the Functions
// host's processes share partitions out every 10 s, at the soonest.
const tailAge = 10 * time.Second

// follows reports whether sequence number n follows on from it, and it is believed still.
func (t Tail) follows(n int64) bool {
	return !t.seen.IsZero() && time.Since(t.seen) < tailAge && t.after == n-1
}

// Run drains the partition until it reaches Start.Target, runs idle, out of time or into an error, or
// until ctx ends. Backlog in the answer is counted against Start.Target. Of a cell, Checkpoint in the answer is how far
// everything is stored, or known to be lost.
func (p *Partition) Run(ctx context.Context) work.Source {
	s, _ := p.Drain(ctx)
	return s
}

// Drain is Run, with the error that the answer tells of in words.
func (p *Partition) Drain(ctx context.Context) (work.Source, error) {
	began := time.Now()
	c := &chain{
		loop: &p.Loop, log: p.Source, hub: p.Hub, partition: p.Partition, every: p.CheckpointEvery,
		anchored: p.Start.Anchored, after: -1, settled: -1, looked: math.MinInt64, resolved: -1, limit: math.MaxInt64,
	}
	if p.Tail != nil {
		c.tail = *p.Tail
	}
	if p.Start.Anchored {
		c.after, c.settled = p.Start.After, p.Start.After
	}
	end, err := p.drain(ctx, c)
	if p.Tail != nil && c.looked != math.MinInt64 {
		*p.Tail = Tail{seen: time.Now(), after: c.after, looked: c.looked, open: c.open, ahead: c.ahead}
		if c.met {
			*p.Tail = Tail{}
		}
	}

	s := c.report(end, err, time.Since(began))
	s.Partition, s.Checkpoint, s.LostToRetention = p.Partition, c.settled, c.lost
	s.Backlog = max(0, p.Start.Target-max(c.after, p.Start.After))
	if p.Start.Bounded {
		s.Cell = &work.Range{From: p.Start.After + 1, To: p.Start.Target}
		s.Checkpoint, s.Offset = c.after, c.offset
	}
	return s, err
}

func (p *Partition) drain(ctx context.Context, c *chain) (work.Ended, error) {
	reading := &partitionReader{Log: p.Source, target: p.Start.Target, bounded: p.Start.Bounded, seen: p.Start.After, placed: !p.Start.Later}
	reading.seeker, _ = p.Source.(Seeker)
	c.reached = &reading.stored
	var k keeper = c
	if p.Start.Bounded {
		c.limit, c.every = p.Start.Target, math.MaxInt64
		k = &cell{c, reading}
	}
	if !p.Start.Emptied.IsZero() {
		reading.came([]message.Message{{SequenceNumber: p.Start.Target + 1, EnqueuedTime: p.Start.Emptied}})
	} else if err := p.approach(ctx, reading, c); err != nil {
		return work.Failed, err
	}
	return p.run(ctx, reading, k)
}

// partitionReader knows how far there is to go.
type partitionReader struct {
	Log
	seeker  Seeker // the same, if it is one
	target  int64
	bounded bool         // nothing behind target is taken
	seen    int64        // last sequence number received, or the one to start behind
	placed  bool         // whether seen is known
	stored  atomic.Int64 // everything up to here is stored, as the keeper knows
	behind  *entry       // the first message behind target, where the source has no more up to there
}

// Receive implements [Source]. A long stretch that turns out to be stored is passed over.
func (r *partitionReader) Receive(ctx context.Context, count int) ([]message.Message, error) {
	if to := r.stored.Load(); r.seeker != nil && r.placed && to-r.seen > worthSeeking {
		r.seeker.Seek(ctx, to)
		r.seen = to
		if count = int(min(int64(count), r.left())); count == 0 {
			return nil, nil
		}
	}
	return r.Log.Receive(ctx, count)
}

func (r *partitionReader) left() int64 {
	if !r.placed {
		return 1 // which tells how many there can be
	}
	return max(r.target-r.seen, 0)
}

func (r *partitionReader) came(messages []message.Message) []message.Message {
	r.seen, r.placed = messages[len(messages)-1].SequenceNumber, true
	if !r.bounded || r.seen <= r.target {
		return messages
	}
	n := slices.IndexFunc(messages, func(m message.Message) bool { return m.SequenceNumber > r.target })
	r.behind = &entry{number: messages[n].SequenceNumber, enqueued: messages[n].EnqueuedTime}
	return messages[:n]
}

// joins lets a batch hold sequence numbers without a hole, all of one cell (record.CellSize).
func (r *partitionReader) joins(b *batch, m *message.Message) bool {
	return b.len() == 0 || m.SequenceNumber == b.last()+1 && m.SequenceNumber%record.CellSize != 0
}

func (r *partitionReader) patience() time.Duration { return math.MaxInt64 }
