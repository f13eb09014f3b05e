package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/internal/amqpclient"
	"persistor/internal/config"
)

// ToQueue makes a producer for a queue, or for a topic when that is what has a name, by a connection string
// or an identity. It connects when it is first used.
func ToQueue(queue config.Queue) (Producer, error) {
	name, what := queue.Name, fmt.Sprintf("queue %q", queue.Name)
	if queue.Topic != "" {
		name, what = queue.Topic, fmt.Sprintf("topic %q", queue.Topic)
	}
	client, err := connect(queue)
	if err != nil {
		return nil, fmt.Errorf("make a producer for %s: %w", what, err)
	}
	sender, err := client.NewSender(name, nil)
	if err != nil {
		return nil, fmt.Errorf("make a producer for %s: %w", what, err)
	}
	return queueProducer{client, sender}, nil
}

func connect(queue config.Queue) (*azservicebus.Client, error) {
	options := &azservicebus.ClientOptions{ApplicationID: applicationID, CustomEndpoint: queue.CustomEndpoint, RetryOptions: azservicebus.RetryOptions(retries)}
	if connection := queue.Connection.ConnectionString; connection != "" {
		client, err := azservicebus.NewClientFromConnectionString(connection.Reveal(), options)
		if err != nil {
			// The SDK's words about a connection string can repeat parts of it.
			return nil, errors.New("the connection string is not one of a Service Bus namespace")
		}
		return client, nil
	}
	credential, err := queue.Connection.TokenCredential()
	if err != nil {
		return nil, err
	}
	return azservicebus.NewClient(queue.Connection.FullyQualifiedNamespace, credential, options)
}

type queueProducer struct {
	client *azservicebus.Client
	sender *azservicebus.Sender
}

// target keeps what belongs to one partition together, as a partitioned queue or topic wants it.
func (p queueProducer) target(m *Message) (target, error) {
	switch {
	case m.Partition != "":
		return target{}, fmt.Errorf("it is for partition %q: Service Bus chooses the partition itself, by the session or the key", m.Partition)
	case m.Session != nil && m.Key != nil && *m.Session != *m.Key:
		return target{}, fmt.Errorf("its session %q and its key %q differ: Service Bus takes the one for the other", *m.Session, *m.Key)
	case m.Session != nil:
		return target{toSession, *m.Session}, nil
	case m.Key != nil:
		return target{toKey, *m.Key}, nil
	case m.Stream != "":
		return target{ofStream, m.Stream}, nil
	}
	return target{}, nil
}

func (p queueProducer) open(ctx context.Context, _ target) (batch, error) {
	made, err := p.sender.NewMessageBatch(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &queueBatch{sender: p.sender, batch: made}, nil
}

func (p queueProducer) Close(ctx context.Context) error { return p.client.Close(ctx) }

type queueBatch struct {
	sender *azservicebus.Sender
	batch  *azservicebus.MessageBatch
}

// mostInBatch is how many messages the service takes in one batch, whatever their size. It neither
// documents nor announces that, and the Go client doesn't know (azservicebus 1.11.0); the .NET client has
// the number (Azure/azure-sdk-for-net, pull request 44917).
const mostInBatch = 4500

func (b *queueBatch) add(m *Message) error {
	if b.messages() == mostInBatch {
		return errFull
	}
	properties := m.properties()
	message := &azservicebus.AMQPAnnotatedMessage{
		ApplicationProperties: amqpclient.SendableMap(m.Properties),
		Body:                  m.body(),
		Properties:            &properties,
		MessageAnnotations:    m.annotations(true),
	}
	if m.TimeToLive != nil {
		message.Header = &azservicebus.AMQPAnnotatedMessageHeader{TTL: *m.TimeToLive}
	}
	err := b.batch.AddAMQPAnnotatedMessage(message, nil)
	if errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return errFull
	}
	return err
}

func (b *queueBatch) messages() int { return int(b.batch.NumMessages()) }
func (b *queueBatch) bytes() uint64 { return b.batch.NumBytes() }

func (b *queueBatch) send(ctx context.Context) error {
	return b.sender.SendMessageBatch(ctx, b.batch, nil)
}
