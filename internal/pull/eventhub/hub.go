package eventhub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"golang.org/x/sync/errgroup"

	"persistor/internal/amqpclient"
)

// Options say which hub to read, as whom.
type Options struct {
	// ConnectionString, or else Namespace and Credential. A connection string with EntityPath names the
	// hub too; EventHub is then empty or the same.
	ConnectionString string
	Namespace        string // fully qualified
	Credential       azcore.TokenCredential

	EventHub      string
	ConsumerGroup string // "" means $Default
	// CustomEndpoint is a host to connect to in place of the namespace's, "" for none.
	CustomEndpoint string

	Checkpoints Checkpoints

	// Prefetch is how many events a partition's receiver asks for ahead, 1 to 5,000; 0 lets the hub
	// choose as many as fit into PrefetchBytes.
	Prefetch int
	// PrefetchBytes bounds, roughly, the memory that prefetched events take, of all partitions that one
	// unit reads at once.
	PrefetchBytes int
}

// Hub is an Event Hub as one consumer group sees it. Safe for concurrent use.
type Hub struct {
	options   Options
	namespace string
	client    *azeventhubs.ConsumerClient // for questions; every partition that is read gets its own
}

// Connect makes a Hub; nothing is asked of the service yet.
func Connect(o Options) (*Hub, error) {
	if o.ConsumerGroup == "" {
		o.ConsumerGroup = azeventhubs.DefaultConsumerGroup
	}
	h := &Hub{options: o, namespace: o.Namespace}
	if o.ConnectionString != "" {
		props, err := azeventhubs.ParseConnectionString(o.ConnectionString)
		if err != nil {
			return nil, errors.New("connect to Event Hub: EVENT_HUB_CONN_STRING can't be read; copy it anew from the portal")
		}
		h.namespace = props.FullyQualifiedNamespace
		if props.EntityPath != nil {
			h.options.EventHub = *props.EntityPath
		}
	}
	var err error
	h.client, err = h.connect("planner")
	if err != nil {
		return nil, fmt.Errorf("connect to Event Hub %s: %w", h.options.EventHub, err)
	}
	return h, nil
}

// Name is the hub's name.
func (h *Hub) Name() string { return h.options.EventHub }

// Close ends the connection. Sources opened from the hub have their own.
func (h *Hub) Close(ctx context.Context) error { return h.client.Close(ctx) }

// clientRetries has the client try everything twice: a Source decides itself what is worth trying again,
// and remembers why. Not once: a client that may not wait between two attempts renews its claim in a loop
// without a pause when the hub is out of reach, and never ends that loop, nor its Close (azeventhubs
// 2.0.2, internal/namespace.go, startNegotiateClaimRenewer).
var clientRetries = azeventhubs.RetryOptions{MaxRetries: 1, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: time.Second}

// connect makes a client with its own connection.
func (h *Hub) connect(instance string) (*azeventhubs.ConsumerClient, error) {
	o := &azeventhubs.ConsumerClientOptions{
		ApplicationID:  "persistor",
		InstanceID:     instance,
		CustomEndpoint: h.options.CustomEndpoint,
		RetryOptions:   clientRetries,
	}
	if h.options.ConnectionString == "" {
		return azeventhubs.NewConsumerClient(h.namespace, h.options.EventHub, h.options.ConsumerGroup, h.options.Credential, o)
	}
	name := h.options.EventHub
	if props, err := azeventhubs.ParseConnectionString(h.options.ConnectionString); err == nil && props.EntityPath != nil {
		name = "" // the client wants it in one place only
	}
	return azeventhubs.NewConsumerClientFromConnectionString(h.options.ConnectionString, name, h.options.ConsumerGroup, o)
}

// Partition is what a planner has to know of a partition.
type Partition struct {
	ID string
	// First and Last are the sequence numbers of the oldest and the newest event; when Empty, Last is
	// that of the last event there ever was, -1 if none.
	First, Last  int64
	LastOffset   string
	LastEnqueued time.Time
	Empty        bool
	// Checkpoint is the sequence number up to which everything is stored; nil when there is none.
	Checkpoint *int64
}

// MaxPartitions bounds a hub; a dedicated cluster allows 1,024 per hub.
const MaxPartitions = 2048

// Partitions asks for the state of every partition, ordered by number.
func (h *Hub) Partitions(ctx context.Context) ([]Partition, error) {
	hub, err := ask(ctx, func() (azeventhubs.EventHubProperties, error) {
		return h.client.GetEventHubProperties(ctx, nil)
	})
	if err != nil {
		return nil, h.explain("read the properties of", err)
	}
	if len(hub.PartitionIDs) > MaxPartitions {
		return nil, fmt.Errorf("read the properties of Event Hub %s: %d partitions; at most %d are supported", h.Name(), len(hub.PartitionIDs), MaxPartitions)
	}
	checkpoints, err := h.checkpoints(ctx)
	if err != nil {
		return nil, err
	}
	partitions := make([]Partition, len(hub.PartitionIDs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, id := range hub.PartitionIDs {
		group.Go(func() error {
			p, err := h.partition(ctx, id)
			if c, ok := checkpoints[id]; ok {
				p.Checkpoint = &c
			}
			partitions[i] = p
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(partitions, func(a, b Partition) int { return compareIDs(a.ID, b.ID) })
	return partitions, nil
}

func (h *Hub) partition(ctx context.Context, id string) (Partition, error) {
	props, err := ask(ctx, func() (azeventhubs.PartitionProperties, error) {
		return h.client.GetPartitionProperties(ctx, id, nil)
	})
	if err != nil {
		if ids := h.partitionIDs(ctx); len(ids) > 0 && !slices.Contains(ids, id) {
			return Partition{}, fmt.Errorf("read the properties of partition %.40q of Event Hub %s: there is no such partition; there are %s", id, h.Name(), strings.Join(ids, ", "))
		}
		return Partition{}, h.explain("read the properties of partition "+id+" of", err)
	}
	return Partition{
		ID: id, Empty: props.IsEmpty,
		First: props.BeginningSequenceNumber, Last: props.LastEnqueuedSequenceNumber,
		LastOffset: props.LastEnqueuedOffset, LastEnqueued: props.LastEnqueuedOn,
	}, nil
}

// partitionIDs are the ids of all partitions, none if they can't be had.
func (h *Hub) partitionIDs(ctx context.Context) []string {
	hub, err := ask(ctx, func() (azeventhubs.EventHubProperties, error) {
		return h.client.GetEventHubProperties(ctx, nil)
	})
	if err != nil {
		return nil
	}
	return hub.PartitionIDs
}

func (h *Hub) checkpoints(ctx context.Context) (map[string]int64, error) {
	list, err := h.options.Checkpoints.ListCheckpoints(ctx, h.namespace, h.Name(), h.options.ConsumerGroup, nil)
	if err != nil {
		return nil, fmt.Errorf("read checkpoints of Event Hub %s, consumer group %s: %w; see EVENT_HUB_CHECKPOINT_CONTAINER", h.Name(), h.options.ConsumerGroup, amqpclient.OneLine(err))
	}
	at := make(map[string]int64, len(list))
	for _, c := range list {
		if c.SequenceNumber != nil {
			at[c.PartitionID] = *c.SequenceNumber
		}
	}
	return at, nil
}

// ask runs a question to the client, again while the trouble passes, until ctx ends. The client can
// leave a question unanswered for ever, whatever its context says (azeventhubs 2.0.2,
// GetPartitionProperties); then the goroutine stays until the client is closed.
func ask[T any](ctx context.Context, question func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var zero T
	var last error
	for attempt := 0; ; attempt++ {
		answered := make(chan answer, 1)
		go func() {
			value, err := question()
			answered <- answer{value, err}
		}()
		select {
		case <-ctx.Done():
			return zero, errors.Join(last, context.Cause(ctx))
		case a := <-answered:
			if a.err == nil || fatal(a.err) || attempt == 6 {
				return a.value, a.err
			}
			last = a.err
		}
		if !amqpclient.Pause(ctx, attempt) {
			return zero, last
		}
	}
}

// compareIDs orders partition ids, which are numbers in all hubs so far.
func compareIDs(a, b string) int {
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	if errX != nil || errY != nil {
		return strings.Compare(a, b)
	}
	return x - y
}
