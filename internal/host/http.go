package host

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// HTTP makes a Function of an HTTP function that the host doesn't forward: it asks h for path, followed by what the
// caller gave for the named parameters of the route, and answers
// h's status, headers and body as the output res. Whatever h answers, the invocation succeeds, for of one that
// fails the caller would see a bare 500.
func HTTP(h http.Handler, path string, parameters ...string) Function {
	return func(ctx context.Context, i *Invocation) (Response, error) {
		_, payload, err := i.Payload()
		if err != nil {
			return Response{}, err
		}
		r, err := request(ctx, payload, path, parameters)
		if err != nil {
			return Response{}, fmt.Errorf("read HTTP request: %w", err)
		}
		r.Header.Set(InvocationHeader, i.ID)
		if i.Trace != "" {
			r.Header.Set(traceHeader, i.Trace)
		}
		a := &answer{header: http.Header{}}
		h.ServeHTTP(a, r)
		return Response{Outputs: map[string]any{"res": a.output()}}, nil
	}
}

// request rebuilds the caller's request from what the host tells of it. A body is missing when the caller gave no
// Content-Length (azure-functions-host issues 4926 and 7930).
func request(ctx context.Context, p Payload, path string, parameters []string) (*http.Request, error) {
	var wire struct {
		URL     string `json:"Url"`
		Method  string
		Query   json.RawMessage
		Headers map[string]oneOrMore
		Body    json.RawMessage
		Params  map[string]any
	}
	object, err := p.JSON()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(object, &wire); err != nil {
		return nil, fmt.Errorf("decode payload: %w", err)
	}
	header := http.Header{}
	for name, values := range wire.Headers {
		for _, value := range values {
			header.Add(name, value)
		}
	}
	for _, name := range parameters {
		if value, _ := wire.Params[name].(string); value != "" {
			path += "/" + value
		}
	}
	target := url.URL{Path: path, RawQuery: rawQuery(wire.URL, wire.Query)}
	r, err := http.NewRequestWithContext(ctx, wire.Method, target.String(), bytes.NewReader(content(wire.Body, header.Get("Content-Type"))))
	if err != nil {
		return nil, err
	}
	r.Header, r.RequestURI = header, target.RequestURI()
	r.Host = header.Get("Host")
	r.Header.Del("Host")
	return r, nil
}

// oneOrMore are one string or several.
type oneOrMore []string

func (s *oneOrMore) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*s = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(s))
}

// rawQuery takes the query from the URL, or where that has none, from the object beside it, which some hosts
// write as text.
func rawQuery(address string, query json.RawMessage) string {
	if u, err := url.Parse(address); err == nil && u.RawQuery != "" {
		return u.RawQuery
	}
	var values map[string]oneOrMore
	if json.Unmarshal(Payload(query).bare(), &values) != nil {
		return ""
	}
	return url.Values(asLists(values)).Encode()
}

func asLists(m map[string]oneOrMore) map[string][]string {
	all := make(map[string][]string, len(m))
	for k, v := range m {
		all[k] = v
	}
	return all
}

// content is the caller's body: a string, of base64 where the content type is one that the host takes for
// binary.
func content(raw json.RawMessage, contentType string) []byte {
	var text string
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if json.Unmarshal(raw, &text) != nil {
		return raw // an object, which is its own text
	}
	kind, _, _ := mime.ParseMediaType(contentType)
	if kind == "application/octet-stream" || strings.HasPrefix(kind, "multipart/") {
		if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
			return decoded
		}
	}
	return []byte(text)
}

// answer is a ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// output is the answer as an HTTP output binding takes it. Its headers have one value each.
func (a *answer) output() any {
	a.WriteHeader(http.StatusOK)
	headers := make(map[string]string, len(a.header))
	for name, values := range a.header {
		headers[name] = strings.Join(values, ", ")
	}
	return map[string]any{"statusCode": a.status, "headers": headers, "body": a.body.String()}
}
