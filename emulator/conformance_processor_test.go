package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// Processors of the client share a hub's partitions out among themselves by owner levels and a common
// store, and take partitions from one another as more of them come. Every event is processed, and
// within each partition no later one before it.
func TestProcessorsShareTheLoad(t *testing.T) {
	const partitions, events = 8, 300
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: partitions}}})
	p := newProducer(t, e, atOnce)
	seen := &progress{next: make(map[string]int64), owners: make(map[string]string), changed: make(chan struct{}, 1)}
	store := &memoryStore{owned: make(map[string]azeventhubs.Ownership), stored: make(map[string]azeventhubs.Checkpoint)}
	ctx, cancel := context.WithCancel(withTimeout(t))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	fillAll := func() {
		for i := range partitions {
			publish(t, p, strconv.Itoa(i), numbered(events)...)
		}
	}
	fillAll()
	wg.Go(func() { runProcessor(ctx, t, e, "one", store, seen) })
	seen.await(ctx, t, func() bool { return seen.complete(partitions, events) && seen.processors() == 1 })
	wg.Go(func() { runProcessor(ctx, t, e, "two", store, seen) })
	for rounds := int64(2); ; rounds++ { // until the second one has taken its share
		fillAll()
		seen.await(ctx, t, func() bool { return seen.complete(partitions, rounds*events) })
		if seen.processors() == 2 {
			return
		}
	}
}

// progress is how far the events of each partition have been processed.
type progress struct {
	mu      sync.Mutex
	next    map[string]int64  // by partition, the sequence number of the first event not processed yet
	owners  map[string]string // by partition, the processor that was there last
	changed chan struct{}
}

// add counts events of a partition. A processor that took over from a stored position may see some again.
func (p *progress) add(processor, partition string, events []*azeventhubs.ReceivedEventData) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, event := range events {
		if event.SequenceNumber > p.next[partition] {
			return fmt.Errorf("event %d of partition %s comes after %d", event.SequenceNumber, partition, p.next[partition]-1)
		}
		p.next[partition] = max(p.next[partition], event.SequenceNumber+1)
	}
	p.owners[partition] = processor
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

func (p *progress) await(ctx context.Context, t *testing.T, done func() bool) {
	t.Helper()
	for !done() {
		select {
		case <-p.changed:
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Fatalf("processed no further than %v", p.next)
		}
	}
}

func (p *progress) complete(partitions int, events int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, next := range p.next {
		if next < events {
			return false
		}
	}
	return len(p.next) == partitions
}

func (p *progress) processors() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make(map[string]bool)
	for _, name := range p.owners {
		names[name] = true
	}
	return len(names)
}

// runProcessor runs a processor, and a reader for every partition that it is given, until the context ends.
func runProcessor(ctx context.Context, t *testing.T, e *emulator.Emulator, name string, store azeventhubs.CheckpointStore, seen *progress) {
	processor, err := azeventhubs.NewProcessor(newConsumer(t, e, name, quickly), store, &azeventhubs.ProcessorOptions{
		LoadBalancingStrategy: azeventhubs.ProcessorStrategyGreedy,
		UpdateInterval:        10 * time.Millisecond,
		StartPositions:        azeventhubs.StartPositions{Default: earliest},
	})
	if err != nil {
		t.Error(err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := processor.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("processor %s: %v", name, err)
		}
	})
	for client := processor.NextPartitionClient(ctx); client != nil; client = processor.NextPartitionClient(ctx) {
		wg.Go(func() {
			defer client.Close(context.WithoutCancel(ctx))
			if err := processPartition(ctx, name, client, seen); err != nil && ctx.Err() == nil {
				t.Errorf("processor %s, partition %s: %v", name, client.PartitionID(), err)
			}
		})
	}
}

// processPartition receives until another processor takes the partition.
func processPartition(ctx context.Context, name string, client *azeventhubs.ProcessorPartitionClient, seen *progress) error {
	for {
		patience, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		events, err := client.ReceiveEvents(patience, 100, nil)
		cancel()
		var lost *azeventhubs.Error
		if errors.As(err, &lost) && lost.Code == azeventhubs.ErrorCodeOwnershipLost {
			return nil
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if len(events) == 0 {
			continue
		}
		if err := seen.add(name, client.PartitionID(), events); err != nil {
			return err
		}
		if err := client.UpdateCheckpoint(ctx, events[len(events)-1], nil); err != nil {
			return err
		}
	}
}

// memoryStore is a checkpoint store for processors in one process.
type memoryStore struct {
	mu     sync.Mutex
	claims int
	owned  map[string]azeventhubs.Ownership
	stored map[string]azeventhubs.Checkpoint
}

// ClaimOwnership grants those claims that know of the latest owner, as the contract has it.
func (s *memoryStore) ClaimOwnership(_ context.Context, wanted []azeventhubs.Ownership, _ *azeventhubs.ClaimOwnershipOptions) ([]azeventhubs.Ownership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var granted []azeventhubs.Ownership
	for _, o := range wanted {
		current, exists := s.owned[o.PartitionID]
		if exists && (o.ETag == nil || *o.ETag != *current.ETag) || !exists && o.ETag != nil {
			continue
		}
		s.claims++
		o.ETag = ptr(azcore.ETag(strconv.Itoa(s.claims)))
		o.LastModifiedTime = time.Now()
		s.owned[o.PartitionID] = o
		granted = append(granted, o)
	}
	return granted, nil
}

func (s *memoryStore) ListOwnership(context.Context, string, string, string, *azeventhubs.ListOwnershipOptions) ([]azeventhubs.Ownership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []azeventhubs.Ownership
	for _, o := range s.owned {
		all = append(all, o)
	}
	return all, nil
}

func (s *memoryStore) SetCheckpoint(_ context.Context, c azeventhubs.Checkpoint, _ *azeventhubs.SetCheckpointOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[c.PartitionID] = c
	return nil
}

func (s *memoryStore) ListCheckpoints(context.Context, string, string, string, *azeventhubs.ListCheckpointsOptions) ([]azeventhubs.Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []azeventhubs.Checkpoint
	for _, c := range s.stored {
		all = append(all, c)
	}
	return all, nil
}
