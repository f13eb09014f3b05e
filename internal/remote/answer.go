package remote

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// Error is what an invoker says against a call.
type Error struct {
	Status  int // of HTTP
	Message string
}

func (e *Error) Error() string { return e.Message }

var (
	// ErrNoInvoker says that something answers, and that it is no invoker, or none that knows the call.
	ErrNoInvoker = errors.New("what answers there is no invoker of Persistor's")
	// ErrKey says that the invoker doesn't take the key.
	ErrKey = errors.New("the key is missing or wrong: give a function key of the invoker, or its WORKER_KEY, in PERSISTOR_KEY or by --key-file")
)

// read reads an answer, of a status of success or else as an error.
func (i *Invoker) read(ctx context.Context, response *http.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, i.explain(ctx, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer is longer than %d bytes: ask for less", maxAnswer)
	}
	status := response.StatusCode
	if location, err := response.Location(); err == nil && status >= 300 && status < 400 {
		return nil, fmt.Errorf("it sends callers on to %s://%s: give that as the URL", location.Scheme, location.Host)
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	asJSON := kind == "application/json"
	said := ""
	if asJSON && status >= 400 {
		var failure struct{ Error string }
		_ = json.Unmarshal(body, &failure)
		said = oneLine(failure.Error)
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, ErrKey
	case status < 300 && asJSON:
		return body, nil
	case said != "":
		return nil, &Error{status, said}
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status < 300:
		return nil, fmt.Errorf("%w, or one that is too old for this: it answers %d; is the URL right?", ErrNoInvoker, status)
	}
	return nil, &Error{status, fmt.Sprintf("it answers %d %s, and doesn't say why; its log does", status, http.StatusText(status))}
}

// oneLine keeps what somebody else wrote to one line of a bearable length.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 2000 {
		text = strings.ToValidUTF8(text[:2000], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}

// explain says why there is no answer. It never quotes the URL of the request, nor a header.
func (i *Invoker) explain(ctx context.Context, err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil:
		return unanswered{context.Cause(ctx)}
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("there is no host %s: correct the URL", i.base.Hostname())
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens there: does the invoker run, and is the port right? (%w)", syscall.ECONNREFUSED)
	case errors.As(err, &certificate):
		return fmt.Errorf("its certificate is not to be trusted: %s", oneLine(certificate.Err.Error()))
	case isPlain(err):
		return errors.New("it doesn't speak TLS: the URL has to begin with http://")
	case isTimeout(err):
		return unanswered{fmt.Errorf("no answer within %v", attemptTimeout)}
	}
	return unanswered{errors.New(oneLine(err.Error()))}
}

// unanswered is an error of a call that may have been carried out.
type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// Unanswered reports whether the invoker may have carried out the call that the error is of, though it has not said so.
func Unanswered(err error) bool { return errors.As(err, new(unanswered)) }

// isPlain reports whether TLS was answered by something else. The client has an error of its own for an answer in HTTP.
func isPlain(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// passes reports whether trouble with a connection may be over at the next attempt.
func passes(err error) bool {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return !dns.IsNotFound
	}
	return !errors.As(err, new(*tls.CertificateVerificationError)) && !isPlain(err)
}

// Passes reports whether an error of a call may not come again when the call is made later: trouble on the way, or in
// the invoker.
func Passes(err error) bool {
	var said *Error
	if errors.As(err, &said) {
		return said.Status >= 500 && said.Status != http.StatusNotImplemented || said.Status == http.StatusTooManyRequests
	}
	return !errors.Is(err, ErrKey) && !errors.Is(err, ErrNoInvoker) && !errors.Is(err, context.Canceled)
}
