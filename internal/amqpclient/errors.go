package amqpclient

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
	"github.com/Azure/go-amqp"
)

// Condition is the AMQP condition behind err, "" when there is none.
func Condition(err error) string {
	if e := (interface{ RPCCode() int })(nil); errors.As(err, &e) {
		switch e.RPCCode() {
		case http.StatusUnauthorized:
			return string(amqp.ErrCondUnauthorizedAccess)
		case http.StatusNotFound:
			return string(amqp.ErrCondNotFound)
		}
	}
	if e := (*amqp.LinkError)(nil); errors.As(err, &e) && e.RemoteErr != nil {
		return string(e.RemoteErr.Condition)
	}
	if e := (*amqp.Error)(nil); errors.As(err, &e) {
		return string(e.Condition)
	}
	return ""
}

// Hopeless reports whether err comes from a credential that can't do better: azidentity marks what is not
// there, or was refused.
func Hopeless(err error) bool {
	var credential interface{ NonRetriable() }
	return errors.As(err, &credential)
}

// OneLine makes the text of err one line of some 500 bytes at most, which holds neither a tracking id nor
// the query of a URL, which may be the SAS of the container that keeps checkpoints.
func OneLine(err error) error { return terse{err} }

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

// Pause waits before the next attempt: 50 ms, doubled each time up to 5 s, give or take a quarter. It
// reports whether ctx still holds.
func Pause(ctx context.Context, attempt int) bool {
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
