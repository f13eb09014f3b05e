package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
)

// attempts is one request to the service with all its retries, which are the SDK's. It is there to
// tell, when they come to nothing, what the last one met: the SDK then says no more than that the
// context ended.
type attempts struct {
	ctx    context.Context // to be given to the request
	count  int
	status int   // of the last answer, 0 if none came
	err    error // of the last attempt without answer
}

// newAttempts prepares a request that carries size bytes one way or the other.
//
// Storage that is down is asked again after 0.2 s, then 0.6 s, 1.4 s and so on, up to every 4 s, for
// as long as ctx lasts. 120 retries are then some 8 minutes, twice what a worker has: an end for
// contexts without one. An attempt that gets no answer at all is given up after 15 s and what the
// body takes at 1 MiB/s, but so that three of them fit into the time that ctx has left.
func newAttempts(ctx context.Context, size int) *attempts {
	try := 15*time.Second + time.Duration(size>>20)*time.Second
	if deadline, ok := ctx.Deadline(); ok {
		try = min(try, max(time.Until(deadline)/3, time.Second))
	}
	a := new(attempts)
	a.ctx = policy.WithRetryOptions(ctx, policy.RetryOptions{
		MaxRetries:    120,
		TryTimeout:    try,
		RetryDelay:    200 * time.Millisecond,
		MaxRetryDelay: 4 * time.Second,
		ShouldRetry:   a.failed,
	})
	return a
}

// failed notes how an attempt ended, and reports whether another one may end better.
func (a *attempts) failed(response *http.Response, err error) bool {
	again := a.note(response, err)
	if retried, ok := a.ctx.Value(onRetryKey{}).(func(int)); ok && again && a.ctx.Err() == nil {
		retried(a.status)
	}
	return again
}

func (a *attempts) note(response *http.Response, err error) bool {
	a.count++
	a.status, a.err = 0, err
	if err != nil {
		return true
	}
	a.status = response.StatusCode
	return a.status == http.StatusRequestTimeout || a.status == http.StatusTooManyRequests || a.status >= 500
}

// onRetryKey is the key of what [OnRetry] puts into a context.
type onRetryKey struct{}

// OnRetry has retried called whenever a request that is made with the context returned has failed and is to be tried again:
// with the answer's status, or 0 where no answer came. It may be called by several goroutines.
func OnRetry(ctx context.Context, retried func(status int)) context.Context {
	return context.WithValue(ctx, onRetryKey{}, retried)
}

// explain returns the request's error as one line without a URL, since that may hold a SAS. The
// errors of this package, bloberror.HasCode and the context's errors are to be found in it.
func (a *attempts) explain(err error) error {
	var answer *azcore.ResponseError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		return &refusal{answer: answer}
	case a.ctx.Err() == nil:
		return oneLine(err)
	case a.err != nil:
		return fmt.Errorf("storage did not answer in %d attempts (%w): the last met: %w", a.count, a.ctx.Err(), oneLine(a.err))
	case a.status != 0:
		return fmt.Errorf("storage failed %d attempts (%w): the last with status %d", a.count, a.ctx.Err(), a.status)
	}
	return fmt.Errorf("storage did not answer: %w", a.ctx.Err())
}

// answered reports whether an error is the service's own answer, and a final one: nothing was stored.
func answered(err error) bool {
	var no *refusal
	return errors.As(err, &no) && no.answer.StatusCode < 500
}

// refusal is an answer of the service other than success.
type refusal struct{ answer *azcore.ResponseError }

func (r *refusal) Error() string {
	for _, known := range []error{ErrNotFound, ErrNoContainer, ErrImmutable, ErrFull} {
		if r.Is(known) {
			return known.Error()
		}
	}
	text := fmt.Sprintf("storage answered %d %s", r.answer.StatusCode, http.StatusText(r.answer.StatusCode))
	if r.answer.ErrorCode != "" {
		text += " (" + r.answer.ErrorCode + ")"
	}
	return text
}

func (r *refusal) Unwrap() error { return r.answer }

func (r *refusal) Is(target error) bool {
	if target == ErrForbidden {
		return r.answer.StatusCode == http.StatusForbidden
	}
	switch bloberror.Code(r.answer.ErrorCode) {
	case bloberror.BlobNotFound:
		return target == ErrNotFound
	case bloberror.ContainerNotFound:
		return target == ErrNoContainer
	case bloberror.BlobImmutableDueToPolicy, immutableDueToLegalHold:
		return target == ErrImmutable
	case bloberror.BlockCountExceedsLimit:
		return target == ErrFull
	}
	return false
}

// immutableDueToLegalHold is a code of the service that the SDK has no name for.
// https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
const immutableDueToLegalHold bloberror.Code = "BlobImmutableDueToLegalHold"

// failure is an error without answer, made fit to be shown.
type failure struct {
	text  string
	cause error // of the context's errors, or nil
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// query is the part of a URL that may hold a SAS.
var query = regexp.MustCompile(`\?[^\s"']+`)

// oneLine makes an error of the SDK's fit to be shown: the transport's quotes the URL, and those of
// azidentity run over many lines. At most 500 bytes are kept.
func oneLine(err error) error {
	f := new(failure)
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			f.cause = cause
		}
	}
	var transport *url.Error
	if errors.As(err, &transport) {
		err = transport.Err
	}
	text := query.ReplaceAllString(strings.Join(strings.Fields(err.Error()), " "), "?...")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "..."
	}
	f.text = text
	return f
}
