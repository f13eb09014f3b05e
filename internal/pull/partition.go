package pull

import (
	"context"
	"math"
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

// Seeker is a Log that can be read from any place. Its methods are used by the goroutine that receives.
type Seeker interface {
	Log
	// Peek returns the message that the next Receive begins with, and fetches few others. It waits, and fails, as
	// Receive does, and returns none when ctx ends first. What it returns is valid until the next call.
	Peek(ctx context.Context) ([]message.Message, error)
	// Seek has the next Receive begin behind a sequence number.
	Seek(ctx context.Context, after int64)
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

// Partition drains one partition of an Event Hub, once, each message into exactly one blob.
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
// until ctx ends. Backlog in the answer is counted against Start.Target.
func (p *Partition) Run(ctx context.Context) work.Source {
	s, _ := p.Drain(ctx)
	return s
}

// Drain is Run, with the error that the answer tells of in words.
func (p *Partition) Drain(ctx context.Context) (work.Source, error) {
	began := time.Now()
	c := &chain{
		loop: &p.Loop, log: p.Source, hub: p.Hub, partition: p.Partition, every: p.CheckpointEvery,
		anchored: p.Start.Anchored, after: -1, settled: -1, looked: math.MinInt64,
	}
	if p.Tail != nil {
		c.tail = *p.Tail
	}
	if p.Start.Anchored {
		c.after, c.settled = p.Start.After, p.Start.After
	}
	reading := &partitionReader{Log: p.Source, target: p.Start.Target, seen: p.Start.After, placed: !p.Start.Later}
	end, err := p.run(ctx, reading, c)
	if p.Tail != nil && c.looked != math.MinInt64 {
		*p.Tail = Tail{seen: time.Now(), after: c.after, looked: c.looked, open: c.open, ahead: c.ahead}
		if c.met {
			*p.Tail = Tail{}
		}
	}

	s := c.report(end, err, time.Since(began))
	s.Partition, s.Checkpoint, s.LostToRetention = p.Partition, c.settled, c.lost
	s.Backlog = max(0, p.Start.Target-max(c.after, p.Start.After))
	return s, err
}

// partitionReader knows how far there is to go.
type partitionReader struct {
	Log
	target int64
	seen   int64 // last sequence number received, or the one to start behind
	placed bool  // whether seen is known
}

func (r *partitionReader) left() int64 {
	if !r.placed {
		return 1 // which tells how many there can be
	}
	return max(r.target-r.seen, 0)
}

func (r *partitionReader) came(messages []message.Message) {
	r.seen, r.placed = messages[len(messages)-1].SequenceNumber, true
}

// joins lets a batch hold sequence numbers without a hole, all of one cell (record.CellSize).
func (r *partitionReader) joins(b *batch, m *message.Message) bool {
	return b.len() == 0 || m.SequenceNumber == b.last()+1 && m.SequenceNumber%record.CellSize != 0
}

func (r *partitionReader) patience() time.Duration { return math.MaxInt64 }
