package eventhub

import (
	"context"
	"errors"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// Connections are connections to a hub that sources use one after the other, since making one takes a dozen round
// trips. Safe for concurrent use. The zero value has none yet, and nil never has any.
type Connections struct {
	mu     sync.Mutex
	idle   []*azeventhubs.ConsumerClient
	closed bool
}

// take returns a connection that is not in use, nil if there is none.
func (c *Connections) take() *azeventhubs.ConsumerClient {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.idle)
	if n == 0 {
		return nil
	}
	client := c.idle[n-1]
	c.idle = c.idle[:n-1]
	return client
}

// give takes a connection back, unless it is too late.
func (c *Connections) give(client *azeventhubs.ConsumerClient) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.idle = append(c.idle, client)
	}
	return !c.closed
}

// Close ends the connections that are not in use; those that are end with their sources.
func (c *Connections) Close(ctx context.Context) error {
	c.mu.Lock()
	idle := c.idle
	c.idle, c.closed = nil, true
	c.mu.Unlock()
	var errs []error
	for _, client := range idle {
		errs = append(errs, client.Close(ctx))
	}
	return errors.Join(errs...)
}
