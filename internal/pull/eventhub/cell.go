package eventhub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/amqpclient"
	"persistor/internal/pull"
	"persistor/internal/work"
)

// OpenCell prepares to read a cell, beside other readers of its partition: without an owner level, whatever o has. A
// consumer group takes five such readers of a partition; a further one waits until one of them leaves, and is
// superseded where a reader with an owner level is or comes.
func (h *Hub) OpenCell(ctx context.Context, cell work.Cell, o OpenOptions) (*Source, pull.Start, error) {
	p, err := h.partition(ctx, cell.Partition)
	if err != nil {
		return nil, pull.Start{}, err
	}
	if cell.To > p.Last {
		return nil, pull.Start{}, fmt.Errorf("open partition %s of Event Hub %s: messages up to %d are asked for, but its last is %d, as if the hub had been made anew; start a new run", cell.Partition, h.Name(), cell.To, p.Last)
	}
	o.OwnerLevel = nil
	start := pull.Start{After: cell.From - 1, Anchored: true, Target: cell.To, Bounded: true}
	if p.Empty {
		start.Emptied = p.LastEnqueued
	}
	return &Source{
		hub: h, partition: cell.Partition, options: o, position: behind(start.After), prefetch: newPrefetch(h.options, p, max(o.Readers, 1)),
	}, start, nil
}

// SequenceAt returns the sequence number of the first event of a partition that was enqueued at t or later, to the
// millisecond; one more than the last one's when there is none. It reads one event, so it fails while a reader with
// an owner level has the partition. It returns soon after ctx is done.
func (h *Hub) SequenceAt(ctx context.Context, partition string, t time.Time) (first int64, err error) {
	if whole := t.Truncate(time.Millisecond); whole.Before(t) {
		t = whole.Add(time.Millisecond) // the service compares milliseconds
	}
	p, err := h.partition(ctx, partition)
	if err != nil {
		return 0, err
	}
	if p.Empty || p.LastEnqueued.Before(t) {
		return p.Last + 1, nil
	}
	s := &Source{
		hub: h, partition: partition, client: h.client, options: OpenOptions{Instance: "planner"},
		position: azeventhubs.StartPosition{EnqueuedTime: &t, Inclusive: true},
	}
	messages, err := s.Peek(ctx)
	switch {
	case errors.Is(err, pull.ErrSuperseded):
		err = errors.New("a reader with an owner level has it, such as another run: wait for its end")
	case err == nil && len(messages) == 0:
		err = fmt.Errorf("no event came: %w", context.Cause(ctx))
	}
	if err != nil {
		return 0, fmt.Errorf("look for the first event at %s of partition %s of Event Hub %s: %w", t.UTC().Format(time.RFC3339Nano), partition, h.Name(), err)
	}
	return messages[0].SequenceNumber, nil
}

// SetCheckpoint records that everything in a partition up to mark is stored, in the format of the SDKs, unless that
// is recorded already of mark or a later place. The checkpoints know no condition: of two who call at once, the one
// with the lesser mark may come last. The offset must be known: other programs read on from it.
func (h *Hub) SetCheckpoint(ctx context.Context, partition string, mark pull.Mark) error {
	if mark.Offset == "" {
		return fmt.Errorf("set checkpoint of partition %s at %d: the offset is not known", partition, mark.SequenceNumber)
	}
	checkpoints, err := h.checkpoints(ctx)
	if err != nil {
		return err
	}
	if at, known := checkpoints[partition]; known && at >= mark.SequenceNumber {
		return nil
	}
	return h.checkpoint(ctx, partition, mark)
}

func (h *Hub) checkpoint(ctx context.Context, partition string, mark pull.Mark) error {
	err := h.options.Checkpoints.SetCheckpoint(ctx, azeventhubs.Checkpoint{
		FullyQualifiedNamespace: h.namespace,
		EventHubName:            h.Name(),
		ConsumerGroup:           h.options.ConsumerGroup,
		PartitionID:             partition,
		SequenceNumber:          &mark.SequenceNumber,
		Offset:                  &mark.Offset,
	}, nil)
	if err != nil {
		return fmt.Errorf("set checkpoint of partition %s: %w; see EVENT_HUB_CHECKPOINT_CONTAINER", partition, amqpclient.OneLine(err))
	}
	return nil
}
