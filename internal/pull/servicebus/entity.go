package servicebus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/internal/amqpclient"
)

// Options say which entity to read, as whom.
type Options struct {
	// ConnectionString, or else Namespace and Credential.
	ConnectionString string
	Namespace        string // fully qualified
	Credential       azcore.TokenCredential
	// CustomEndpoint is a host to connect to in place of the namespace's, "" for none.
	CustomEndpoint string

	// Queue, or else Topic and Subscription.
	Queue, Topic, Subscription string
	// DeadLetter reads the dead-letter queue of the entity. It has no sessions, whatever the entity has.
	DeadLetter bool

	// ManageBy carries the requests to the namespace's management; nil means the usual way.
	ManageBy policy.Transporter

	// Receive is how many messages one receive call asks for, 1 to 5,000; 0 leaves it to ReceiveBytes.
	Receive int
	// ReceiveBytes bounds, roughly, the memory of messages that were received and are not in a batch yet,
	// of all loops that run at once in one unit.
	ReceiveBytes int
}

// Entity is a queue, a subscription or a dead-letter queue. Safe for concurrent use.
type Entity struct {
	options Options
	client  *azservicebus.Client // for questions; every loop gets its own
}

// Connect makes an Entity; nothing is asked of the service yet.
func Connect(o Options) (*Entity, error) {
	e := &Entity{options: o}
	client, err := e.connect()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", e.Path(), amqpclient.OneLine(err))
	}
	e.client = client
	return e, nil
}

// Path is the entity as the service names it: "orders", "orders/$DeadLetterQueue",
// "topic/Subscriptions/subscription".
func (e *Entity) Path() string {
	path := e.options.Queue
	if path == "" {
		path = e.options.Topic + "/Subscriptions/" + e.options.Subscription
	}
	if e.options.DeadLetter {
		path += "/$DeadLetterQueue"
	}
	return path
}

// Close ends the connection. Loops have their own.
func (e *Entity) Close(ctx context.Context) error { return e.client.Close(ctx) }

// clientRetries has the client try everything twice: a source decides itself what is worth trying again,
// and remembers why. Not once: a client that may not wait between two attempts renews its claim in a loop
// without a pause when the namespace is out of reach, and never ends that loop, nor its Close
// (azservicebus 1.11.0, internal/namespace.go, startNegotiateClaimRenewer).
var clientRetries = azservicebus.RetryOptions{MaxRetries: 1, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: time.Second}

// connect makes a client with its own connection.
func (e *Entity) connect() (*azservicebus.Client, error) {
	o := &azservicebus.ClientOptions{
		ApplicationID:  "persistor",
		CustomEndpoint: e.options.CustomEndpoint,
		RetryOptions:   clientRetries,
	}
	if e.options.ConnectionString != "" {
		return azservicebus.NewClientFromConnectionString(e.options.ConnectionString, o)
	}
	return azservicebus.NewClient(e.options.Namespace, e.options.Credential, o)
}

// MaxSessions bounds the sessions that are listed for one run.
const MaxSessions = 100_000

// Sessions lists the ids of sessions that hold messages, or a state, at most most of them; more says that
// there are others.
func (e *Entity) Sessions(ctx context.Context, most int) (ids []string, more bool, err error) {
	pager := e.client.NewListSessionsForQueuePager(e.options.Queue, nil)
	if e.options.Queue == "" {
		pager = e.client.NewListSessionsForSubscriptionPager(e.options.Topic, e.options.Subscription, nil)
	}
	for attempt := 0; pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			if ctx.Err() != nil || fatal(err) || attempt == 6 || !amqpclient.Pause(ctx, attempt) {
				return nil, false, e.explain("list the sessions of", errors.Join(err, context.Cause(ctx)))
			}
			attempt++
			continue
		}
		ids = append(ids, page.Sessions...)
		if len(ids) > most {
			return ids[:most], true, nil
		}
	}
	if len(ids) == 0 {
		return nil, false, e.requireSessions(ctx)
	}
	return ids, false, nil
}

// requireSessions returns an error for an entity that has no sessions, which may be listed all the same: there
// are none.
func (e *Entity) requireSessions(ctx context.Context) error {
	client, err := e.connect()
	if err != nil {
		return e.explain("accept a session of", err)
	}
	a := &Acceptor{entity: e, client: client}
	defer client.Close(ctx)
	s, err := a.Next(ctx, time.Second/2)
	if s != nil {
		_, err = s.Close(ctx)
	}
	return err
}
