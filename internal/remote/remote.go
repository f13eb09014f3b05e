// Package remote is an invoker that is reached over HTTP: the other side of package api.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/ledger"
)

// Options say where an invoker is.
type Options struct {
	// URL is the invoker's: http or https, a host, and no path, or that of one of its calls (/api, /api/invoke); a
	// code=KEY in its query is the key.
	URL string
	// Key is sent as x-functions-key: a function key of the invoker, or the WORKER_KEY that it is run with; "" for none.
	Key config.Secret
	// Timeout bounds one call, with all its attempts; 0 is a minute.
	Timeout time.Duration
}

// Invoker is an invoker to be called. It is safe for concurrent use. The errors of its methods are one line, hold no
// secret, and say what to do; what the invoker itself says is an [*Error].
type Invoker struct {
	base    *url.URL
	key     config.Secret
	timeout time.Duration
	client  *retryablehttp.Client
}

const (
	defaultTimeout = time.Minute
	attemptTimeout = 30 * time.Second // of one attempt to be answered
	attempts       = 5                // of a call that may be repeated
	// maxAnswer bounds an answer, in bytes: a list of [MaxRuns] large documents.
	maxAnswer = 256 << 20
	// MaxRuns is how many runs a list has at most.
	MaxRuns = 1000
)

// New makes an invoker of a URL; nothing is asked of it yet.
func New(o Options) (*Invoker, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the invoker's URL: expected https://HOST, such as https://my-invoker.azurewebsites.net") // err would quote it, key and all
	}
	i := &Invoker{base: &url.URL{Scheme: u.Scheme, Host: u.Host}, key: o.Key, timeout: o.Timeout}
	switch path := strings.TrimRight(u.Path, "/"); path {
	case "", "/api", "/api/invoke", "/api/backfill", "/api/runs", "/api/status":
	default:
		return nil, fmt.Errorf("the invoker's URL has the path %q: expected https://%s alone", path, u.Host)
	}
	if code := u.Query().Get("code"); code != "" {
		if i.key != "" && i.key.Reveal() != code {
			return nil, fmt.Errorf("the invoker's URL has a code= that is not the key given: keep one of them")
		}
		i.key = config.Secret(code)
	}
	if strings.ContainsFunc(i.key.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("the invoker's key has a blank or a character in it that no key has: give the key alone")
	}
	if i.timeout <= 0 {
		i.timeout = defaultTimeout
	}
	i.client = newClient()
	return i, nil
}

// newClient repeats what may be repeated, and follows nobody elsewhere, where the key would go, too.
func newClient() *retryablehttp.Client {
	c := retryablehttp.NewClient()
	c.Logger = nil
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = attempts-1, 250*time.Millisecond, 4*time.Second
	c.CheckRetry = mayRetry
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler
	c.HTTPClient = &http.Client{
		Transport:     http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       attemptTimeout,
	}
	return c
}

// once marks the context of a call that must not be repeated: the invoker may have carried it out, though the answer
// got lost.
type once struct{}

// mayRetry decides after an attempt.
func mayRetry(ctx context.Context, answer *http.Response, err error) (bool, error) {
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case ctx.Value(once{}) != nil:
		return false, err
	case err != nil:
		return passes(err), err
	}
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, nil
	}
	return false, nil
}

// Host is the invoker's host, for messages.
func (i *Invoker) Host() string { return i.base.Host }

// InClear reports whether the key travels in clear to another machine.
func (i *Invoker) InClear() bool {
	ip := net.ParseIP(i.base.Hostname())
	return i.key != "" && i.base.Scheme == "http" && i.base.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

// Start starts a backfill. It is not repeated when its answer gets lost; then a list of the runs tells.
func (i *Invoker) Start(ctx context.Context, req ledger.Request) (ledger.Run, error) {
	return call[ledger.Run](context.WithValue(ctx, once{}, true), i, "start a backfill", http.MethodPost, "/api/backfill", req)
}

// Runs lists the newest runs first, at most limit (1 to MaxRuns), those in a state alone unless that is "".
func (i *Invoker) Runs(ctx context.Context, limit int, state ledger.State) ([]ledger.Run, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if state != "" {
		query.Set("state", string(state))
	}
	list, err := call[struct{ Runs []ledger.Run }](ctx, i, "list runs", http.MethodGet, "/api/runs?"+query.Encode(), nil)
	return list.Runs, err
}

// Run returns a run as it is now.
func (i *Invoker) Run(ctx context.Context, id string) (ledger.Live, error) {
	return call[ledger.Live](ctx, i, "read run "+id, http.MethodGet, runPath(id, ""), nil)
}

// Cancel asks for a run's end.
func (i *Invoker) Cancel(ctx context.Context, id string) (ledger.Run, error) {
	return call[ledger.Run](ctx, i, "cancel run "+id, http.MethodDelete, runPath(id, ""), nil)
}

// Retry has a run that failed do again what failed.
func (i *Invoker) Retry(ctx context.Context, id string) (ledger.Run, error) {
	return call[ledger.Run](context.WithValue(ctx, once{}, true), i, "retry run "+id, http.MethodPost, runPath(id, "/retry"), nil)
}

// Resume has a run that was abandoned or cancelled go on.
func (i *Invoker) Resume(ctx context.Context, id string) (ledger.Run, error) {
	return call[ledger.Run](context.WithValue(ctx, once{}, true), i, "resume run "+id, http.MethodPost, runPath(id, "/resume"), nil)
}

// Status says how far the source is drained.
func (i *Invoker) Status(ctx context.Context) (api.Standing, error) {
	s, err := call[api.Standing](ctx, i, "read the status", http.MethodGet, "/api/status", nil)
	if err == nil && s.Source == "" {
		err = fmt.Errorf("read the status at %s: %w, but a worker", i.base.Host, ErrNoInvoker) // whose status has other fields
	}
	return s, err
}

func runPath(id, action string) string { return "/api/runs/" + url.PathEscape(id) + action }

// call makes a call and reads its answer.
func call[T any](ctx context.Context, i *Invoker, what, method, path string, body any) (answer T, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, i.timeout, fmt.Errorf("no answer within %v", i.timeout))
	defer cancel()
	content, err := i.send(ctx, method, path, body)
	if err == nil {
		err = json.Unmarshal(content, &answer)
		if err != nil {
			err = fmt.Errorf("%w: it answers what this program doesn't understand; have both in one version", ErrNoInvoker)
		}
	}
	if err != nil {
		if said := (*Error)(nil); errors.As(err, &said) {
			said.Message = strings.TrimPrefix(said.Message, what+": ") // once is enough
		}
		return answer, fmt.Errorf("%s at %s: %w", what, i.base.Host, err)
	}
	return answer, nil
}

// send makes a call and returns what is answered with a status of success.
func (i *Invoker) send(ctx context.Context, method, path string, body any) ([]byte, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, method, i.base.String()+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if len(content) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	if i.key != "" {
		request.Header.Set(fanout.KeyHeader, i.key.Reveal())
	}
	response, err := i.client.Do(request)
	if err != nil {
		return nil, i.explain(ctx, err)
	}
	defer response.Body.Close()
	return i.read(ctx, response)
}
