package eventhub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/amqpclient"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/work"
)

// outage is how long a partition's connection may be lost before Receive gives up on it.
const outage = time.Minute

// Source reads one partition, or a cell of it; it is a [pull.Seeker].
type Source struct {
	hub       *Hub
	partition string
	options   OpenOptions
	position  azeventhubs.StartPosition // of the next receiver
	events    []*azeventhubs.ReceivedEventData
	messages  []message.Message

	client   *azeventhubs.ConsumerClient
	receiver *azeventhubs.PartitionClient
	single   bool // the receiver asks for nothing ahead
	prefetch prefetch
	failing  time.Time // since when nothing works; zero when it does
}

// OpenOptions go with one partition and one run.
type OpenOptions struct {
	// Instance names the reader in the service's messages about it.
	Instance string
	// OwnerLevel makes the service hand the partition over to the highest; nil reads beside others.
	OwnerLevel *int64
	// From is where to start without a checkpoint; nil means earliest.
	From *work.From
	// Readers is how many partitions are read at once: they share the memory for prefetched events.
	Readers int
	// Connections, unless nil, are those that the source takes its own from, and gives it back to.
	Connections *Connections
}

// Open prepares to read a partition from its checkpoint on, up to the last event that it holds by now.
// When there is nothing to read, the Source is nil and start says so: After equals Target.
// Lost are events that went before they could be read, when that is known already.
func (h *Hub) Open(ctx context.Context, id string, o OpenOptions) (source *Source, start pull.Start, lost []work.Range, err error) {
	checkpoints, err := h.checkpoints(ctx)
	if err != nil {
		return nil, start, nil, err
	}
	p, err := h.partition(ctx, id)
	if err != nil {
		return nil, start, nil, err
	}
	s := &Source{hub: h, partition: id, options: o, prefetch: newPrefetch(h.options, p, max(o.Readers, 1))}
	start.After, start.Target = p.First-1, p.Last

	from := work.From{Position: "earliest"}
	if o.From != nil {
		from = *o.From
	}
	checkpoint, known := checkpoints[id]
	switch {
	case known && checkpoint > p.Last:
		return nil, start, nil, fmt.Errorf("open partition %s of Event Hub %s: its checkpoint is %d, but its last event is %d, as if the hub had been made anew; remove the checkpoints of consumer group %s and set STORE_PARAM to a new folder", id, h.Name(), checkpoint, p.Last, h.options.ConsumerGroup)
	case known:
		start.Anchored, start.After = true, checkpoint
		s.position = azeventhubs.StartPosition{SequenceNumber: &checkpoint}
		if p.Empty && checkpoint < p.Last {
			lost = []work.Range{{From: checkpoint + 1, To: p.Last}}
		}
	case from.Position == "latest":
		start.Anchored, start.After = true, p.Last
	case from.Position == "time":
		start.Later = true
		s.position = azeventhubs.StartPosition{EnqueuedTime: &from.Time, Inclusive: true}
		if p.LastEnqueued.Before(from.Time) {
			start.Anchored, start.After = true, p.Last
		}
	default:
		earliest := true
		s.position = azeventhubs.StartPosition{Earliest: &earliest}
	}
	if p.Empty {
		start.Anchored, start.After = true, p.Last
	}
	if start.Anchored && start.After == p.Last {
		if p.Last >= 0 && (!known || checkpoint < p.Last) { // so that the next run starts from here
			err = s.Checkpoint(ctx, pull.Mark{SequenceNumber: p.Last, Offset: p.LastOffset})
		}
		return nil, start, lost, err
	}
	return s, start, nil, nil
}

// Receive implements [pull.Source]. It returns fewer than count where those take much memory. A lost connection is opened again behind the last event that was
// returned, for as long as ctx holds and the outage lasts no longer than a minute.
func (s *Source) Receive(ctx context.Context, count int) ([]message.Message, error) {
	for attempt := 0; ; attempt++ {
		events, err := s.receive(ctx, count)
		if err == nil {
			s.failing = time.Time{}
			s.events = events
			return s.convert(), nil
		}
		if ctx.Err() != nil {
			return nil, s.unreached(err)
		}
		switch {
		case superseded(err):
			return nil, pull.ErrSuperseded
		case s.failing.IsZero():
			s.failing = time.Now()
		}
		switch {
		case s.options.OwnerLevel == nil && crowded(err):
			// Another attempt at the same cell may still be reading, and those who read others beside it.
			s.closeReceiver(ctx)
		case fatal(err) || time.Since(s.failing) > outage:
			return nil, s.hub.explain("read partition "+s.partition+" of", err)
		}
		if !amqpclient.Pause(ctx, attempt) {
			return nil, s.unreached(err)
		}
	}
}

// unreached is what Receive answers when its time is over: an error only when that was spent in trying to
// get a connection.
func (s *Source) unreached(err error) error {
	if s.failing.IsZero() {
		return nil
	}
	return fmt.Errorf("%w: %w", pull.ErrUnreachable, s.hub.explain("read partition "+s.partition+" of", err))
}

func (s *Source) receive(ctx context.Context, count int) ([]*azeventhubs.ReceivedEventData, error) {
	if s.receiver == nil {
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	events, err := s.receiver.ReceiveEvents(ctx, s.prefetch.count(count), nil)
	if len(events) > 0 {
		s.prefetch.observe(events)
		last := events[len(events)-1].SequenceNumber
		s.position = azeventhubs.StartPosition{SequenceNumber: &last}
		if s.prefetch.changed() {
			s.closeReceiver(ctx)
		}
	}
	return events, err
}

func (s *Source) open() (err error) {
	if s.client == nil {
		if s.client, err = s.connect(); err != nil {
			return err
		}
	}
	s.receiver, err = s.client.NewPartitionClient(s.partition, &azeventhubs.PartitionClientOptions{
		StartPosition: s.position,
		OwnerLevel:    s.options.OwnerLevel,
		Prefetch:      s.ahead(),
	})
	return err
}

func (s *Source) connect() (*azeventhubs.ConsumerClient, error) {
	if client := s.options.Connections.take(); client != nil {
		return client, nil
	}
	return s.hub.connect(s.options.Instance)
}

// ahead is how many events the next receiver asks for ahead; below zero: none, but those that a call collects.
func (s *Source) ahead() int32 {
	if s.single {
		return -1
	}
	return s.prefetch.use()
}

func (s *Source) closeReceiver(ctx context.Context) {
	if s.receiver != nil {
		_ = s.receiver.Close(ctx) // what it holds is received again
	}
	s.receiver = nil
}

// Peek implements [pull.Seeker], with a receiver of its own that asks for one event.
func (s *Source) Peek(ctx context.Context) ([]message.Message, error) {
	s.closeReceiver(ctx)
	position := s.position
	s.single = true
	messages, err := s.Receive(ctx, 1)
	s.single = false
	s.closeReceiver(ctx)
	s.position = position
	return messages, err
}

// Seek implements [pull.Seeker].
func (s *Source) Seek(ctx context.Context, after int64) {
	s.closeReceiver(ctx)
	s.position = behind(after)
}

// behind is the place behind a sequence number, -1 for the beginning.
func behind(sequence int64) azeventhubs.StartPosition {
	if sequence < 0 {
		earliest := true
		return azeventhubs.StartPosition{Earliest: &earliest}
	}
	return azeventhubs.StartPosition{SequenceNumber: &sequence}
}

// convert makes messages of the events received, in memory that it uses again.
func (s *Source) convert() []message.Message {
	s.messages = slices.Grow(s.messages[:0], len(s.events))[:len(s.events)]
	for i, e := range s.events {
		fromEvent(&s.messages[i], e, s.partition)
		s.events[i] = nil
	}
	return s.messages
}

// Checkpoint implements [pull.Log], in the format of the SDKs.
func (s *Source) Checkpoint(ctx context.Context, mark pull.Mark) error {
	return s.hub.checkpoint(ctx, s.partition, mark)
}

// Close ends the connection, or gives it back where it is one of several that works.
func (s *Source) Close(ctx context.Context) error {
	var err error
	if s.receiver != nil {
		err = s.receiver.Close(ctx)
	}
	if s.client != nil && (err != nil || !s.failing.IsZero() || !s.options.Connections.give(s.client)) {
		err = errors.Join(err, s.client.Close(ctx))
	}
	return err
}

// prefetch chooses how many events a receiver asks for ahead, and how many one call collects: each as many
// as fit into a number of bytes. The round trip is what a small number costs; memory is what a large one
// does, since the client holds all of them. How large events are is estimated from the partition's
// offsets, which count bytes in today's Event Hubs, and learned from those that come; the first calls ask
// for few, since a partition's past says little about what is in it now.
type prefetch struct {
	fixed int // chosen by the user
	bytes int
	mean  float64 // bytes per event
	inUse int
	calls int // that returned events
}

const (
	maxPrefetch = 5000 // the client's limit, a session's window
	// Small events are received by so many at least, and large ones by so many bytes, or two of them.
	minPrefetch      = 50
	minPrefetchBytes = 1 << 20
	// firstCall is how many events the first call collects; each one after it may take twice as many.
	firstCall = 16
	// eventOverhead is what an event takes in memory beside its body (azeventhubs 2.0.2: 3.4 KB of
	// allocations for a body of 1 KB).
	eventOverhead = 2400
)

func newPrefetch(o Options, p Partition, readers int) prefetch {
	f := prefetch{fixed: o.Prefetch, bytes: o.PrefetchBytes / readers, mean: 8 << 10}
	offset, err := strconv.ParseInt(p.LastOffset, 10, 64)
	if err == nil && offset > 0 && p.Last > 0 {
		f.mean = min(float64(offset)/float64(p.Last), 1<<20)
	}
	return f
}

// fits is how many events there is memory for.
func (f *prefetch) fits() int {
	least := min(minPrefetch, max(int(minPrefetchBytes/(f.mean+eventOverhead)), 2))
	return min(max(int(float64(f.bytes)/(f.mean+eventOverhead)), least), maxPrefetch)
}

// count is how many of n events the next call collects.
func (f *prefetch) count(n int) int {
	return min(n, f.fits(), firstCall<<min(f.calls, 10))
}

func (f *prefetch) wanted() int {
	if f.fixed > 0 {
		return min(f.fixed, maxPrefetch)
	}
	return f.fits()
}

func (f *prefetch) use() int32 {
	f.inUse = f.wanted()
	return int32(f.inUse)
}

// observe learns from events received: that they are large at once, that they are small by and by.
func (f *prefetch) observe(events []*azeventhubs.ReceivedEventData) {
	f.calls++
	size := 0
	for _, e := range events {
		for _, section := range e.RawAMQPMessage.Body.Data {
			size += len(section)
		}
	}
	seen := float64(size) / float64(len(events))
	weight := min(float64(len(events))/1000, 1)
	if seen > f.mean {
		weight = max(weight, 0.5)
	}
	f.mean += (seen - f.mean) * weight
}

// changed reports whether it is worth opening a new receiver for another number: twice or half as many.
func (f *prefetch) changed() bool {
	want := f.wanted()
	return want >= 2*f.inUse || 2*want <= f.inUse
}
