package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/amqpclient"
	"persistor/internal/config"
)

// applicationID is how the service's logs name who sent.
const applicationID = "persistor-publish"

// retries are the client's own, tried for some five seconds. Its defaults wait for 40 s before they say that a key
// is wrong.
var retries = azeventhubs.RetryOptions{MaxRetries: 4, RetryDelay: 300 * time.Millisecond, MaxRetryDelay: 2 * time.Second}

// ToHub makes a producer for an Event Hub, by a connection string or an identity. It connects when it is
// first used.
func ToHub(hub config.Hub) (Producer, error) {
	options := &azeventhubs.ProducerClientOptions{ApplicationID: applicationID, CustomEndpoint: hub.CustomEndpoint, RetryOptions: azeventhubs.RetryOptions(retries)}
	if connection := hub.Connection.ConnectionString; connection != "" {
		client, err := azeventhubs.NewProducerClientFromConnectionString(connection.Reveal(), hub.Name, options)
		if err != nil {
			// The SDK's words about a connection string can repeat parts of it.
			return nil, fmt.Errorf("make a producer for hub %q: the connection string is not one of an Event Hubs namespace", hub.Name)
		}
		return hubProducer{client}, nil
	}
	credential, err := hub.Connection.TokenCredential()
	if err != nil {
		return nil, fmt.Errorf("make a producer for hub %q: %w", hub.Name, err)
	}
	client, err := azeventhubs.NewProducerClient(hub.Connection.FullyQualifiedNamespace, hub.Name, credential, options)
	if err != nil {
		return nil, fmt.Errorf("make a producer for hub %q: %w", hub.Name, err)
	}
	return hubProducer{client}, nil
}

// Partitions are the ids of the partitions that a producer can send to, in the order of the service; none for a queue
// or a topic. It connects.
func Partitions(ctx context.Context, to Producer) ([]string, error) {
	p, ok := to.(hubProducer)
	if !ok {
		return nil, nil
	}
	properties, err := p.GetEventHubProperties(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the hub's partitions: %w", amqpclient.OneLine(err))
	}
	return properties.PartitionIDs, nil
}

type hubProducer struct{ *azeventhubs.ProducerClient }

func (p hubProducer) target(m *Message) (target, error) {
	switch {
	case m.Partition != "":
		return target{toPartition, m.Partition}, nil
	case m.Key != nil:
		return target{toKey, *m.Key}, nil
	case m.Stream != "":
		return target{ofStream, m.Stream}, nil
	}
	return target{}, nil
}

func (p hubProducer) open(ctx context.Context, t target) (batch, error) {
	var options azeventhubs.EventDataBatchOptions
	switch t.kind {
	case toPartition:
		options.PartitionID = &t.name
	case toKey:
		options.PartitionKey = &t.name
	}
	made, err := p.NewEventDataBatch(ctx, &options)
	if err != nil {
		return nil, err
	}
	return &hubBatch{client: p.ProducerClient, batch: made}, nil
}

type hubBatch struct {
	client *azeventhubs.ProducerClient
	batch  *azeventhubs.EventDataBatch
	keyed  bool // the first event has a key
}

func (b *hubBatch) add(m *Message) error {
	if b.keyed && m.Key == nil {
		// A batch has the annotations of its first event around it, and the service gives the key in them to every
		// event that has none.
		return errFull
	}
	properties := azeventhubs.AMQPAnnotatedMessageProperties(m.properties())
	event := &azeventhubs.AMQPAnnotatedMessage{
		ApplicationProperties: amqpclient.SendableMap(m.Properties),
		Body:                  azeventhubs.AMQPAnnotatedMessageBody(m.body()),
		Properties:            &properties,
		// Without a partition the client writes the key, from the batch's options.
		MessageAnnotations: m.annotations(m.Partition != ""),
	}
	err := b.batch.AddAMQPAnnotatedMessage(event, nil)
	if errors.Is(err, azeventhubs.ErrEventDataTooLarge) {
		return errFull
	}
	b.keyed = b.keyed || err == nil && b.messages() == 1 && m.Key != nil
	return err
}

func (b *hubBatch) messages() int { return int(b.batch.NumEvents()) }
func (b *hubBatch) bytes() uint64 { return b.batch.NumBytes() }

func (b *hubBatch) send(ctx context.Context) error {
	return b.client.SendEventDataBatch(ctx, b.batch, nil)
}
