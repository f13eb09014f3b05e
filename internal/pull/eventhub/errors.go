package eventhub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// explain makes an error of the client one that says what to do: one line, without the service's
// tracking ids.
func (h *Hub) explain(verb string, err error) error {
	what := fmt.Sprintf("%s Event Hub %s in %s", verb, h.Name(), h.namespace)
	cause := oneLine(err)
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
	if e := (*azeventhubs.Error)(nil); errors.As(err, &e) && e.Code == azeventhubs.ErrorCodeUnauthorizedAccess {
		return "amqp:unauthorized-access"
	}
	if e := (interface{ RPCCode() int })(nil); errors.As(err, &e) {
		switch e.RPCCode() {
		case 401:
			return "amqp:unauthorized-access"
		case 404:
			return "amqp:not-found"
		}
	}
	if e := (*amqp.LinkError)(nil); errors.As(err, &e) && e.RemoteErr != nil {
		return string(e.RemoteErr.Condition)
	}
	if e := (*amqp.Error)(nil); errors.As(err, &e) {
		return string(e.Condition)
	}
	// The client's own error hides the one behind it (azeventhubs 2.0.2: Error has no Unwrap), but not
	// from its text.
	if e := (*azeventhubs.Error)(nil); errors.As(err, &e) {
		_, after, _ := strings.Cut(e.Error(), "Condition: ")
		condition, _, _ := strings.Cut(after, ",")
		return condition
	}
	return ""
}

// superseded reports whether another receiver of a higher owner level has the partition, be it that
// it took it from us or that we came too late.
func superseded(err error) bool {
	if e := (*azeventhubs.Error)(nil); errors.As(err, &e) && e.Code == azeventhubs.ErrorCodeOwnershipLost {
		return true
	}
	return condition(err) == string(amqp.ErrCondStolen)
}

// fatal reports whether trying again can't help. The list is the client's own (azeventhubs 2.0.2,
// internal/errors.go), which it applies only where it retries itself.
func fatal(err error) bool {
	switch condition(err) {
	case "amqp:unauthorized-access", "amqp:not-found", "amqp:not-allowed", "amqp:resource-limit-exceeded",
		"amqp:link:message-size-exceeded", "com.microsoft:entity-disabled", "com.microsoft:argument-out-of-range",
		"com.microsoft:georeplication:invalid-offset":
		return true
	}
	// azidentity marks what it can't mend: a credential that isn't there or is refused.
	var credential interface{ NonRetriable() }
	return superseded(err) || errors.As(err, &credential)
}

// pause waits before the next attempt: 50 ms, doubled each time up to 5 s, give or take a quarter. It
// reports whether ctx still holds.
func pause(ctx context.Context, attempt int) bool {
	wait := min(50*time.Millisecond<<min(attempt, 10), 5*time.Second)
	wait = time.Duration(float64(wait) * (0.75 + rand.Float64()/2))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// terse is an error whose text is one line of some 500 bytes at most, and holds neither a tracking id nor
// the query of a URL, which may be the SAS of the container that keeps checkpoints.
type terse struct{ error }

func (t terse) Unwrap() error { return t.error }

func (t terse) Error() string {
	text := t.error.Error()
	if e := (*amqp.Error)(nil); errors.As(t.error, &e) {
		text = string(e.Condition) + ": " + e.Description
	}
	// Those of checkpoints in Blob Storage: the text quotes all that the service said, and the URL.
	if e := (*azcore.ResponseError)(nil); errors.As(t.error, &e) {
		text = fmt.Sprintf("storage answered %d %s (%s)", e.StatusCode, http.StatusText(e.StatusCode), e.ErrorCode)
	}
	if e := (*url.Error)(nil); errors.As(t.error, &e) {
		text = e.Err.Error()
	}
	for _, noise := range []string{" TrackingId:", " Reference:", ", Info: map["} {
		text, _, _ = strings.Cut(text, noise)
	}
	text = query.ReplaceAllString(strings.Join(strings.Fields(text), " "), "?...")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "..."
	}
	return text
}

// query is the part of a URL that may hold a secret.
var query = regexp.MustCompile(`\?[^\s"']+`)

func oneLine(err error) error { return terse{err} }
