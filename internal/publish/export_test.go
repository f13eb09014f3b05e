package publish

import (
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// HubProducer and QueueProducer are producers with a client that a test has made.

func HubProducer(c *azeventhubs.ProducerClient) Producer { return hubProducer{c} }

func QueueProducer(c *azservicebus.Client, s *azservicebus.Sender) Producer {
	return queueProducer{c, s}
}
