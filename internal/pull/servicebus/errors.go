package servicebus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"persistor/internal/amqpclient"
)

// The conditions that Service Bus has beside those of AMQP.
const (
	conditionDisabled      = "com.microsoft:entity-disabled"
	conditionSessionLocked = "com.microsoft:session-cannot-be-locked"
	conditionSessionLost   = "com.microsoft:session-lock-lost"
	conditionTimeout       = "com.microsoft:timeout"
)

// explain makes an error of the client one that says what to do: one line, without the service's
// tracking ids.
func (e *Entity) explain(verb string, err error) error {
	what := fmt.Sprintf("%s Service Bus entity %s in %s", verb, e.Path(), e.host())
	cause := amqpclient.OneLine(err)
	switch c := condition(err); {
	case c == string(amqp.ErrCondUnauthorizedAccess):
		return fmt.Errorf("%s: access was refused: %w; check the key or the identity's role (Azure Service Bus Data Receiver) behind SERVICE_BUS_CONNECTION_STRING", what, cause)
	case c == string(amqp.ErrCondNotFound):
		return fmt.Errorf("%s: not found: %w; check %s", what, cause, e.nameSettings())
	case c == string(amqp.ErrCondNotAllowed) && strings.Contains(err.Error(), "non-sessionful"):
		return fmt.Errorf("%s: the entity requires sessions: %w; set SERVICE_BUS_SESSIONS=TRUE", what, cause)
	case c == string(amqp.ErrCondNotAllowed) && strings.Contains(err.Error(), "session"):
		return fmt.Errorf("%s: the entity has no sessions: %w; set SERVICE_BUS_SESSIONS=FALSE", what, cause)
	case c == conditionDisabled:
		return fmt.Errorf("%s: the entity is disabled: %w; enable it to receive, and run again", what, cause)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer in time: %w; check that the namespace can be reached", what, cause)
	}
	return fmt.Errorf("%s: %w", what, cause)
}

// host is the namespace's, for errors.
func (e *Entity) host() string {
	if e.options.ConnectionString == "" {
		return e.options.Namespace
	}
	host := strings.TrimPrefix(keyOf(e.options.ConnectionString, "Endpoint"), "sb://")
	return strings.TrimSuffix(host, "/")
}

// keyOf is the value of a key of a connection string, "" when it isn't there.
func keyOf(connectionString, key string) string {
	for part := range strings.SplitSeq(connectionString, ";") {
		if name, value, _ := strings.Cut(part, "="); strings.EqualFold(strings.TrimSpace(name), key) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (e *Entity) nameSettings() string {
	if e.options.Queue != "" {
		return "SERVICE_BUS_QUEUE_NAME"
	}
	return "SERVICE_BUS_TOPIC_NAME and SERVICE_BUS_SUB_NAME"
}

// condition is the AMQP condition behind err, "" when there is none.
func condition(err error) string {
	if e := (*azservicebus.Error)(nil); errors.As(err, &e) {
		switch e.Code {
		case azservicebus.CodeUnauthorizedAccess:
			return string(amqp.ErrCondUnauthorizedAccess)
		case azservicebus.CodeNotFound:
			return string(amqp.ErrCondNotFound)
		case azservicebus.CodeTimeout:
			return conditionTimeout
		}
	}
	if c := amqpclient.Condition(err); c != "" {
		return c
	}
	// The client's own error may hide the one behind it, but not from its text.
	_, after, _ := strings.Cut(fmt.Sprint(err), "Condition: ")
	condition, _, _ := strings.Cut(after, ",")
	return condition
}

// lockLost reports whether a message's or a session's lock is gone.
func lockLost(err error) bool {
	e := (*azservicebus.Error)(nil)
	return errors.As(err, &e) && e.Code == azservicebus.CodeLockLost || condition(err) == conditionSessionLost
}

// fatal reports whether trying again can't help. The list is the client's own (azservicebus 1.11.0,
// internal/errors.go), which it applies only where it retries itself.
func fatal(err error) bool {
	switch condition(err) {
	case string(amqp.ErrCondUnauthorizedAccess), string(amqp.ErrCondNotFound), string(amqp.ErrCondNotAllowed),
		string(amqp.ErrCondResourceLimitExceeded), string(amqp.ErrCondMessageSizeExceeded),
		string(amqp.ErrCondNotImplemented), conditionDisabled, conditionSessionLocked:
		return true
	}
	return errors.As(err, new(unreadable)) || errors.Is(err, errStuck) || errors.Is(err, errWithheld) || amqpclient.Hopeless(err)
}

// unreadable is a message that the client can't take.
type unreadable struct{ error }
