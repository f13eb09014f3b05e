package servicebus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

// ErrNoRight says that the identity, or the key, may not manage the namespace.
var ErrNoRight = errors.New("the identity or key has no right to manage the namespace")

// Backlog is how many messages wait in the entity, as the service's management counts them. It takes the
// right to manage the namespace, which Persistor needs for nothing else: without it the error is ErrNoRight.
func (e *Entity) Backlog(ctx context.Context) (int64, error) {
	client, err := e.manage()
	if err != nil {
		return 0, err
	}
	var active, dead int32
	found := true
	if e.options.Queue != "" {
		var q *admin.GetQueueRuntimePropertiesResponse
		if q, err = client.GetQueueRuntimeProperties(ctx, e.options.Queue, nil); q != nil {
			active, dead = q.ActiveMessageCount, q.DeadLetterMessageCount
		}
		found = q != nil
	} else {
		var s *admin.GetSubscriptionRuntimePropertiesResponse
		if s, err = client.GetSubscriptionRuntimeProperties(ctx, e.options.Topic, e.options.Subscription, nil); s != nil {
			active, dead = s.ActiveMessageCount, s.DeadLetterMessageCount
		}
		found = s != nil
	}
	refused := (*azcore.ResponseError)(nil)
	switch {
	case errors.As(err, &refused) && (refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden):
		return 0, ErrNoRight
	case err != nil:
		return 0, e.explain("count the messages of", err)
	case !found:
		return 0, e.explain("count the messages of", errors.New("there is no such entity; check "+e.nameSettings()))
	case e.options.DeadLetter:
		return int64(dead), nil
	}
	return int64(active), nil
}

// manage makes a client for the namespace's management, which is HTTPS at the namespace's own host.
func (e *Entity) manage() (*admin.Client, error) {
	o := &admin.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: e.options.ManageBy,
		Retry:     policy.RetryOptions{MaxRetries: 1},
	}}
	if e.options.ConnectionString == "" {
		return admin.NewClient(e.options.Namespace, e.options.Credential, o)
	}
	if strings.EqualFold(keyOf(e.options.ConnectionString, "UseDevelopmentEmulator"), "true") && e.options.ManageBy == nil {
		return nil, fmt.Errorf("%w: an emulator has no management", ErrNoRight)
	}
	return admin.NewClientFromConnectionString(e.options.ConnectionString, o)
}
