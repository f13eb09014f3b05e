// Package otlp sends the traces and metrics of the OpenTelemetry SDK to a collector: OTLP over HTTP, in protobuf
// (https://opentelemetry.io/docs/specs/otlp/).
//
// It is there in place of the SDK's own exporters for what those bring along: gRPC and all generated types, also for HTTP,
// which take longer to build than the rest of this module. What is sent of OTLP is a few messages, written by hand.
package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say where to, and how.
type Options struct {
	URL     string            // of the signal, such as http://localhost:4318/v1/traces
	Headers map[string]string // secret: never shown, neither names nor values
	Gzip    bool
	Timeout time.Duration // of one export, with its retries
	// Trouble is told when an export fails after one that did not, and Recovered when one works again. Either may be
	// called by any goroutine.
	Trouble   func(error)
	Recovered func()
}

const (
	// firstPause lies before the first retry, twice as long before the next.
	firstPause = 500 * time.Millisecond
	maxTries   = 4
	// maxAnswer bounds what is read of an answer, in bytes. Nothing of it is used.
	maxAnswer = 64 << 10
)

// client POSTs requests. Safe for concurrent use.
type client struct {
	Options
	http http.Client

	mu      sync.Mutex
	failing bool
}

func newClient(o Options) *client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 1
	return &client{Options: o, http: http.Client{
		Transport: t,
		// A redirect would take the headers to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// send POSTs a body until it is taken, refused for good, or the time is over. It tells of trouble once, until that is
// over.
func (c *client) send(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if c.Gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body) // into memory
		_ = w.Close()
		body = packed.Bytes()
	}
	pause := firstPause
	for try := 1; ; try++ {
		wait, err := c.post(ctx, body)
		if err == nil || wait < 0 || try == maxTries || !sleep(ctx, max(wait, pause)) {
			return c.note(err)
		}
		pause *= 2
	}
}

// post makes one attempt. It returns how long the collector asks to wait before the next one, below 0 for never.
func (c *client) post(ctx context.Context, body []byte) (wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return -1, fmt.Errorf("export to %s: the URL is not valid", c.URL)
	}
	for name, value := range c.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	if c.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if transport := (*url.Error)(nil); errors.As(err, &transport) {
			err = transport.Err
		}
		return 0, fmt.Errorf("export to %s: %s; check OTEL_EXPORTER_OTLP_ENDPOINT, and that a collector listens there", c.URL, line(err))
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // so that the connection can be used again
	switch code := answer.StatusCode; {
	case code/100 == 2:
		return 0, nil
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return -1, fmt.Errorf("export to %s: status %d; check OTEL_EXPORTER_OTLP_HEADERS", c.URL, code)
	case code == http.StatusTooManyRequests || code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		return time.Duration(max(0, seconds)) * time.Second, fmt.Errorf("export to %s: status %d", c.URL, code)
	default:
		return -1, fmt.Errorf("export to %s: status %d; OTEL_EXPORTER_OTLP_ENDPOINT must be a collector that takes OTLP over HTTP", c.URL, code)
	}
}

// note tells of the first failure, and of its end.
func (c *client) note(err error) error {
	c.mu.Lock()
	changed := c.failing != (err != nil)
	c.failing = err != nil
	c.mu.Unlock()
	switch {
	case changed && err != nil && c.Trouble != nil:
		c.Trouble(err)
	case changed && err == nil && c.Recovered != nil:
		c.Recovered()
	}
	return err
}

// line is an error's text in one line of bounded length.
func line(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return strings.ToValidUTF8(text[:min(len(text), 300)], "")
}

// sleep waits, and reports whether ctx has lasted so long; it does not wait where ctx would end before.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
