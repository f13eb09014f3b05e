package hosttest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// httpOptions are extensions.http of host.json.
type httpOptions struct {
	RoutePrefix *string
	// MaxConcurrentRequests run at once, and MaxOutstandingRequests are there in all, waiting or running; others
	// are answered 429. Both are without a bound when not given or -1.
	MaxConcurrentRequests, MaxOutstandingRequests *int
}

func (h hostJSON) forwards() bool {
	return h.CustomHandler != nil && (h.CustomHandler.EnableForwardingHTTPRequest || h.CustomHandler.EnableProxyingHTTPRequest)
}

// front is the public side: what callers of HTTP functions reach.
type front struct {
	host        *Host
	ctx         context.Context // of all invocations, which don't end with their callers
	url         string
	key, admin  string
	running     chan struct{} // a token for each request that runs; nil: without a bound
	outstanding chan struct{} // and for each that is there
}

// URL is where the app's HTTP functions are reached: http://127.0.0.1:PORT, to be followed by /api/ROUTE.
func (h *Host) URL() string { return h.http.url }

// FunctionKey is the host's default function key, as x-functions-key or ?code= of calls with authLevel function.
func (h *Host) FunctionKey() string { return h.http.key }

// listenHTTP serves until ctx ends. Requests in flight end with the handler.
func (h *Host) listenHTTP(ctx context.Context) (*front, error) {
	options := h.app.host.Extensions.HTTP
	f := &front{host: h, ctx: ctx, key: newID(), admin: newID(), running: slots(options.MaxConcurrentRequests), outstanding: slots(options.MaxOutstandingRequests)}
	mux := http.NewServeMux()
	prefix := "api"
	if options.RoutePrefix != nil {
		prefix = *options.RoutePrefix
	}
	for _, function := range h.app.functions {
		if function.trigger.Type != "httpTrigger" {
			continue
		}
		route := function.name
		if function.trigger.Route != nil {
			route = *function.trigger.Route
		}
		if strings.ContainsAny(route, ":*=") {
			return nil, fmt.Errorf("function %s: route %q: constraints and defaults are not supported", function.name, route)
		}
		for _, route := range variants(route) {
			path := "/" + strings.Trim(strings.Trim(prefix, "/")+"/"+strings.Trim(route, "/"), "/")
			mux.Handle(path, f.throttled(f.route(function, parameters(route))))
		}
	}
	mux.HandleFunc("/runtime/webhooks/EventGrid", f.webhook)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.url = "http://" + l.Addr().String()
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	h.running.Go(func() { _ = server.Serve(l) })
	h.running.Go(func() { <-ctx.Done(); _ = server.Close() })
	return f, nil
}

func slots(n *int) chan struct{} {
	if n == nil || *n < 1 {
		return nil
	}
	return make(chan struct{}, *n)
}

// variants are the routes that one stands for whose last parameters are optional ({name?}).
func variants(route string) []string {
	all := []string{strings.ReplaceAll(route, "?}", "}")}
	for {
		rest, last, more := cutLast(route)
		if !more || !strings.HasPrefix(last, "{") || !strings.HasSuffix(last, "?}") {
			return all
		}
		route = rest
		all = append(all, strings.ReplaceAll(route, "?}", "}"))
	}
}

func cutLast(route string) (rest, last string, ok bool) {
	i := strings.LastIndex(route, "/")
	if i < 0 {
		return "", route, false
	}
	return route[:i], route[i+1:], true
}

// parameters are the names in braces of a route.
func parameters(route string) (names []string) {
	for part := range strings.SplitSeq(route, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

// throttled keeps to maxOutstandingRequests and maxConcurrentRequests.
func (f *front) throttled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.outstanding != nil {
			select {
			case f.outstanding <- struct{}{}:
				defer func() { <-f.outstanding }()
			default:
				http.Error(w, "Too many requests", http.StatusTooManyRequests)
				return
			}
		}
		if f.running != nil {
			select {
			case f.running <- struct{}{}:
				defer func() { <-f.running }()
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// route serves a function: its methods, its keys, and what the caller is willing to wait.
func (f *front) route(function *function, names []string) http.Handler {
	methods := function.trigger.Methods
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(methods) > 0 && !slices.ContainsFunc(methods, func(m string) bool { return strings.EqualFold(m, r.Method) }) {
			http.NotFound(w, r) // routes go by method, too
			return
		}
		if !f.allowed(function.trigger.AuthLevel, r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		values := map[string]any{}
		for _, name := range names {
			values[name] = r.PathValue(name)
		}
		done := make(chan reply, 1)
		go func() { done <- f.ask(f.ctx, function, r, body, values) }()
		select {
		case answer := <-done:
			answer.write(w)
		case <-time.After(f.host.options.HTTPTimeout):
			w.WriteHeader(http.StatusGatewayTimeout)
		case <-r.Context().Done():
		}
	})
}

// allowed compares the key that a request brings along. Where both are given the header is what counts.
func (f *front) allowed(level string, r *http.Request) bool {
	given := r.Header.Get("x-functions-key")
	if given == "" {
		given = r.URL.Query().Get("code")
	}
	return strings.EqualFold(level, "anonymous") || same(given, f.admin) || !strings.EqualFold(level, "admin") && same(given, f.key)
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// reply is what a caller of an HTTP function gets.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (a reply) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// ask carries a request out: forwarded as it is where host.json says so and there is no more to the function than
// HTTP in and out, else as an invocation.
func (f *front) ask(ctx context.Context, function *function, r *http.Request, body []byte, values map[string]any) reply {
	plain := len(function.outputs) == 1 && function.outputs[0].Type == "http"
	if plain && f.host.app.host.forwards() {
		return f.forward(ctx, function, r, body)
	}
	request := map[string]any{
		"Url": "http://" + r.Host + r.URL.RequestURI(), "Method": r.Method, "Query": flat(r.URL.Query()), "Headers": headers(r),
		"Params":     values,
		"Identities": []any{map[string]any{"AuthenticationType": nil, "IsAuthenticated": false, "Claims": []any{}}},
	}
	if r.ContentLength > 0 {
		request["Body"] = string(body)
		if octets(r.Header.Get("Content-Type")) {
			request["Body"] = base64.StdEncoding.EncodeToString(body)
		}
	}
	metadata := bindingData{"Query": flat(r.URL.Query()), "Headers": flat(r.Header), "Params": values}
	a, err := f.host.execute(ctx, call{function: function, data: request, metadata: metadata})
	if err != nil {
		return reply{status: http.StatusInternalServerError}
	}
	return outputReply(function, a)
}

// forward sends the request on with its method, path and query. The legacy way drops a body without a
// Content-Length, while proxying sends it on.
func (f *front) forward(ctx context.Context, function *function, r *http.Request, body []byte) reply {
	result := Result{Function: function.name, ID: newID(), Began: time.Now()}
	answer := reply{status: http.StatusInternalServerError}
	err := f.host.timed(ctx, func(ctx context.Context, p *process) error {
		if r.ContentLength <= 0 && !f.host.app.host.CustomHandler.EnableProxyingHTTPRequest {
			body = nil
		}
		req, err := http.NewRequestWithContext(ctx, r.Method, p.url+r.URL.RequestURI(), strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		req.Header = r.Header.Clone()
		req.Host = r.Host
		setHostHeaders(req.Header, result.ID)
		resp, err := p.client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		result.Status = resp.StatusCode
		answer.body, err = io.ReadAll(resp.Body)
		answer.status, answer.header = resp.StatusCode, resp.Header
		answer.header.Del("Content-Length")
		return err
	})
	if err != nil {
		answer = reply{status: http.StatusInternalServerError}
	}
	result.Err, result.Took = err, time.Since(result.Began)
	f.host.record(result)
	return answer
}

// outputReply is the HTTP answer in an invocation's outputs.
func outputReply(function *function, a answer) reply {
	answer := reply{status: http.StatusOK, header: http.Header{}}
	for _, output := range function.outputs {
		raw, there := a.Outputs[output.Name]
		if output.Type != "http" || !there {
			continue
		}
		var res struct {
			StatusCode, Status json.RawMessage
			Headers            map[string]string
			Body               json.RawMessage
		}
		if err := json.Unmarshal(raw, &res); err != nil {
			return reply{status: http.StatusInternalServerError}
		}
		for _, status := range []json.RawMessage{res.Status, res.StatusCode} {
			_, _ = fmt.Sscan(strings.Trim(string(status), `"`), &answer.status)
		}
		for name, value := range res.Headers {
			answer.header.Set(name, value)
		}
		answer.header.Del("Content-Length")
		var text string
		if answer.body = res.Body; json.Unmarshal(res.Body, &text) == nil {
			answer.body = []byte(text)
		}
		return answer
	}
	// A function without the output answers what no caller can use.
	return reply{status: http.StatusNoContent}
}

func octets(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "application/octet-stream" || strings.HasPrefix(kind, "multipart/")
}

// headers are a request's, the host name included.
func headers(r *http.Request) map[string][]string {
	all := map[string][]string{"Host": {r.Host}}
	maps.Copy(all, r.Header)
	if r.ContentLength > 0 {
		all["Content-Length"] = []string{fmt.Sprint(r.ContentLength)}
	}
	return all
}

func flat(m map[string][]string) map[string]any {
	all := make(map[string]any, len(m))
	for name, values := range m {
		all[name] = strings.Join(values, ",")
	}
	return all
}
