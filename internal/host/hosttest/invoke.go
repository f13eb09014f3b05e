package hosttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	hostVersion  = "4.1048.200.0"
	timeoutGrace = 2 * time.Second // between a function's timeout and the end of the handler
	maxAnswer    = 256 << 20       // bytes of an answer
)

// call is what a trigger asks of a function.
type call struct {
	function *function
	data     any         // by the trigger's binding name
	metadata bindingData // also what paths of outputs are made of
	source   string
	numbers  []int64
}

// answer is a handler's answer to an invocation.
type answer struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// execute carries out a call, with its function's retry policy, and returns the last outcome. The error is nil
// when one attempt succeeded.
func (h *Host) execute(ctx context.Context, c call) (answer, error) {
	policy := c.function.retry
	for n := 0; ; n++ {
		if policy != nil {
			c.metadata["RetryContext"] = map[string]any{"RetryCount": n, "MaxRetryCount": policy.count, "Exception": nil}
		}
		a, err := h.attempt(ctx, c, n)
		if err == nil || policy == nil || n == policy.count || ctx.Err() != nil {
			return a, err
		}
		select {
		case <-time.After(policy.wait(n + 1)):
		case <-ctx.Done():
			return a, err
		}
	}
}

// attempt is one invocation, from the request to the outputs.
func (h *Host) attempt(ctx context.Context, c call, retry int) (a answer, err error) {
	r := Result{Function: c.function.name, ID: newID(), Retry: retry, Began: time.Now(), Source: c.source, Numbers: c.numbers}
	c.metadata["sys"] = map[string]any{
		"MethodName": c.function.name, "UtcNow": utcTime(time.Now()), "RandGuid": newID(),
	}
	a, r.Status, err = h.post(ctx, c, r.ID)
	if err == nil {
		r.Logs = a.Logs
		err = h.writeOutputs(ctx, c, a.Outputs)
	}
	r.Err, r.Took = err, time.Since(r.Began)
	if err != nil {
		h.log.Warn("an invocation failed", "function", r.Function, "invocation", r.ID, "retry", retry, "error", err)
	}
	h.record(r)
	return a, err
}

// post sends an invocation and reads the answer.
func (h *Host) post(ctx context.Context, c call, id string) (a answer, status int, err error) {
	body, err := wireBody(c.function.trigger.Name, c.data, c.metadata)
	if err != nil {
		return a, 0, fmt.Errorf("encode invocation: %w", err)
	}
	err = h.timed(ctx, func(ctx context.Context, p *process) error {
		// A reader of unknown kind is sent in chunks, without a Content-Length.
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/"+c.function.name, io.MultiReader(bytes.NewReader(body)))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		setHostHeaders(req.Header, id)
		resp, err := p.client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		status = resp.StatusCode
		a, err = readAnswer(ctx, resp)
		return err
	})
	return a, status, err
}

func setHostHeaders(header http.Header, id string) {
	header.Set("X-Azure-Functions-HostVersion", hostVersion)
	header.Set("X-Azure-Functions-InvocationId", id)
	header.Set("User-Agent", "Azure-Functions-Host/"+hostVersion)
	trace := strings.ReplaceAll(id, "-", "")
	header.Set("traceparent", "00-"+trace+"-"+trace[16:]+"-00")
}

// readAnswer takes an answer as the host does: of a status that isn't 2xx it reads nothing; with an empty body, or null, it
// never comes to an end.
func readAnswer(ctx context.Context, resp *http.Response) (a answer, err error) {
	if resp.StatusCode/100 != 2 {
		return a, fmt.Errorf("response status code does not indicate success: %s", resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, err
	}
	if text = bytes.TrimSpace(text); len(text) == 0 || string(text) == "null" {
		<-ctx.Done()
		return a, errors.New("the answer was empty")
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "application/json" && kind != "text/json" {
		return a, fmt.Errorf("invalid answer: its Content-Type is %q", resp.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("invalid answer: %w", err)
	}
	return a, nil
}

// timed asks the handler within functionTimeout. When that is over the invocation has failed; if it does not
// end within two seconds, the process is killed with everything else that it is doing.
func (h *Host) timed(ctx context.Context, ask func(context.Context, *process) error) error {
	for {
		p, err := h.handler.await(ctx)
		if err != nil {
			return err
		}
		err = h.timedBy(ctx, p, ask)
		if lost := (*url.Error)(nil); !errors.As(err, &lost) {
			return err
		}
		// The process is likely to be gone, which is noticed before the next invocation. Where nobody listened any more it is
		// tried again: the real host fails the invocation in that moment, which tests can do without.
		gone := p.ends(ctx)
		if dial := (*net.OpError)(nil); !errors.As(err, &dial) || dial.Op != "dial" || !gone || p.done() {
			return err
		}
	}
}

// timedBy asks one process.
func (h *Host) timedBy(ctx context.Context, p *process, ask func(context.Context, *process) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- ask(ctx, p) }()
	var over <-chan time.Time
	if h.app.timeout > 0 {
		timer := time.NewTimer(h.app.timeout)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case err := <-ended:
		return err
	case <-over:
	}
	timeout := fmt.Errorf("timeout value of %v was exceeded by the function", h.app.timeout)
	select {
	case <-ended:
	case <-time.After(timeoutGrace):
		h.log.Warn("kills the handler", "error", timeout)
		p.restart()
		cancel()
		<-ended
	}
	return timeout
}
