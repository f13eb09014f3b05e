package eventhub

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"

	"persistor/internal/amqpclient"
)

// explain makes an error of the client one that says what to do: one line, without the service's
// tracking ids.
func (h *Hub) explain(verb string, err error) error {
	what := fmt.Sprintf("%s Event Hub %s in %s", verb, h.Name(), h.namespace)
	cause := amqpclient.OneLine(err)
	switch condition(err) {
	case "amqp:unauthorized-access":
		return fmt.Errorf("%s: access was refused: %w; check the key or the identity's role (Azure Event Hubs Data Receiver) behind EVENT_HUB_CONN_STRING", what, cause)
	case "amqp:not-found":
		return fmt.Errorf("%s: not found: %w; check EVENT_HUB_NAME and EVENT_HUB_CONSUMER_GROUP", what, cause)
	case "amqp:resource-limit-exceeded":
		return fmt.Errorf("%s: %w; a consumer group takes five receivers per partition without an owner level: stop one, or set EVENT_HUB_CONSUMER_GROUP to a group of its own", what, cause)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: no answer in time: %w; check that the namespace can be reached", what, cause)
	}
	return fmt.Errorf("%s: %w", what, cause)
}

// condition is the AMQP condition behind err, "" when there is none.
func condition(err error) string {
	e := (*azeventhubs.Error)(nil)
	if !errors.As(err, &e) {
		return amqpclient.Condition(err)
	}
	if e.Code == azeventhubs.ErrorCodeUnauthorizedAccess {
		return string(amqp.ErrCondUnauthorizedAccess)
	}
	if c := amqpclient.Condition(err); c != "" {
		return c
	}
	// The client's own error hides the one behind it (azeventhubs 2.0.2: Error has no Unwrap), but not
	// from its text.
	_, after, _ := strings.Cut(e.Error(), "Condition: ")
	condition, _, _ := strings.Cut(after, ",")
	return condition
}

// superseded reports whether another receiver of a higher owner level has the partition, be it that
// it took it from us or that we came too late.
func superseded(err error) bool {
	if e := (*azeventhubs.Error)(nil); errors.As(err, &e) && e.Code == azeventhubs.ErrorCodeOwnershipLost {
		return true
	}
	return condition(err) == string(amqp.ErrCondStolen)
}

// crowded reports whether a partition has as many readers as it takes without owner levels: one of them may leave.
func crowded(err error) bool { return condition(err) == string(amqp.ErrCondResourceLimitExceeded) }

// fatal reports whether trying again can't help. The list is the client's own (azeventhubs 2.0.2,
// internal/errors.go), which it applies only where it retries itself.
func fatal(err error) bool {
	switch condition(err) {
	case "amqp:unauthorized-access", "amqp:not-found", "amqp:not-allowed", "amqp:resource-limit-exceeded",
		"amqp:link:message-size-exceeded", "com.microsoft:entity-disabled", "com.microsoft:argument-out-of-range",
		"com.microsoft:georeplication:invalid-offset":
		return true
	}
	return superseded(err) || amqpclient.Hopeless(err)
}
