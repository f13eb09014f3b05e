package publish

import (
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/config"
)

// NewProducer makes a client that sends to a hub, by a connection string or an identity. It connects
// when it is first used. The caller closes it.
func NewProducer(hub config.Hub) (*azeventhubs.ProducerClient, error) {
	options := &azeventhubs.ProducerClientOptions{ApplicationID: "persistor-publish", CustomEndpoint: hub.CustomEndpoint}
	if connection := hub.Connection.ConnectionString; connection != "" {
		producer, err := azeventhubs.NewProducerClientFromConnectionString(connection.Reveal(), hub.Name, options)
		if err != nil {
			// The SDK's words about a connection string can repeat parts of it.
			return nil, fmt.Errorf("make a producer for hub %q: the connection string is not one of an Event Hubs namespace", hub.Name)
		}
		return producer, nil
	}
	credential, err := hub.Connection.TokenCredential()
	if err != nil {
		return nil, fmt.Errorf("make a producer for hub %q: %w", hub.Name, err)
	}
	producer, err := azeventhubs.NewProducerClient(hub.Connection.FullyQualifiedNamespace, hub.Name, credential, options)
	if err != nil {
		return nil, fmt.Errorf("make a producer for hub %q: %w", hub.Name, err)
	}
	return producer, nil
}
