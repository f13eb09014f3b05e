package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"golang.org/x/sync/errgroup"
)

// consumer is what went wrong downstream: a program that was to handle the queue's messages, and refuses
// every one of them. Most it dead-letters itself, with a reason; some it gives back, until the queue has
// enough of that.
type consumer struct {
	client   *azservicebus.Client
	receiver *azservicebus.Receiver
}

// deliveries is how often the queue delivers a message before it dead-letters it.
const deliveries = 3

// refusal is why a message is dead-lettered.
type refusal struct{ reason, description string }

// refusals are the consumer's own in turn, and the one by which the service says that a message was given
// back too often.
var (
	refusals = []refusal{
		{"UnknownMachine", "No machine of this name is registered; was it renamed?"},
		{"SchemaMismatch", "Expected version 3 of the reading, got version 2."},
		{"ClockSkew", "Времето на измерването е в бъдещето."},
		{"UnknownUnit", "单位不明: m³/h"},
	}
	givenUp = refusal{"MaxDeliveryCountExceeded", fmt.Sprintf("Message could not be consumed after %d delivery attempts.", deliveries)}
)

// refusalOf is why a message with these properties will be dead-lettered.
func refusalOf(properties map[string]any) refusal {
	n, _ := properties[numberProperty].(int64)
	if i := uint64(n) % uint64(len(refusals)+1); i < uint64(len(refusals)) {
		return refusals[i]
	}
	return givenUp
}

func newConsumer(connection string) (*consumer, error) {
	client, err := azservicebus.NewClientFromConnectionString(connection, nil)
	if err != nil {
		return nil, fmt.Errorf("start consumer: %w", err)
	}
	receiver, err := client.NewReceiverForQueue(name, nil)
	if err != nil {
		return nil, fmt.Errorf("start consumer: %w", err)
	}
	return &consumer{client, receiver}, nil
}

const (
	consumed  = 1000 // messages in one go
	consuming = 64   // at once
)

// run refuses what comes until ctx ends.
func (c *consumer) run(ctx context.Context) error {
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		c.client.Close(closing)
	}()
	for {
		messages, err := c.receiver.ReceiveMessages(ctx, consumed, nil)
		if err != nil {
			return fmt.Errorf("consume messages: %w", err)
		}
		refusing, failing := errgroup.WithContext(ctx)
		refusing.SetLimit(consuming)
		for _, m := range messages {
			refusing.Go(func() error { return c.refuse(failing, m) })
		}
		if err := refusing.Wait(); err != nil {
			return fmt.Errorf("refuse message: %w", err)
		}
	}
}

func (c *consumer) refuse(ctx context.Context, m *azservicebus.ReceivedMessage) error {
	why := refusalOf(m.ApplicationProperties)
	if why == givenUp {
		return c.receiver.AbandonMessage(ctx, m, nil)
	}
	return c.receiver.DeadLetterMessage(ctx, m, &azservicebus.DeadLetterOptions{
		Reason: &why.reason, ErrorDescription: &why.description,
	})
}
