package host

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// post sends a body without its length, as the host does, and returns the status and the answer, which must be
// a JSON object.
func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, io.MultiReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set(InvocationHeader, "b6a1")
	req.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if json.Unmarshal(b, &object) != nil || object == nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the answer to %.100s is no JSON object: %s %q", body, resp.Header.Get("Content-Type"), b)
	}
	return resp.StatusCode, string(b)
}

func TestHandler(t *testing.T) {
	var log strings.Builder
	var got *Invocation
	functions := map[string]Function{
		"empty": func(_ context.Context, i *Invocation) (Response, error) { got = i; return Response{}, nil },
		"full": func(context.Context, *Invocation) (Response, error) {
			return Response{Outputs: map[string]any{"blob": "<a>"}, Logs: []string{"l"}, ReturnValue: 7}, nil
		},
		"fails":   func(context.Context, *Invocation) (Response, error) { return Response{}, errors.New("no\nluck") },
		"panics":  func(context.Context, *Invocation) (Response, error) { panic("oh") },
		"strange": func(context.Context, *Invocation) (Response, error) { return Response{ReturnValue: func() {}}, nil },
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"next":"`+r.URL.Path+`"}`)
	})
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	for _, h := range []http.Handler{Handler(functions, next, logger), Handler(functions, nil, nil)} {
		forwards := h.(*handler).next != nil
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		for _, c := range []struct {
			path, body string
			status     int
			says       string
		}{
			{"/empty", `{"Data":{"a":"1"},"Metadata":{"sys":{}}}`, 200, `{"Outputs":{},"Logs":[],"ReturnValue":null}`},
			{"/empty", `{}`, 200, `{"Outputs":{},"Logs":[],"ReturnValue":null}`},
			{"/full", `{}`, 200, `{"Outputs":{"blob":"<a>"},"Logs":["l"],"ReturnValue":7}`},
			{"/fails", `{}`, 500, `{"error":"no luck"}`},
			{"/panics", `{}`, 500, "internal error"},
			{"/strange", `{}`, 500, "encode response"},
			{"/empty", ``, 400, "read invocation of empty"},
			{"/empty", `null`, 400, "not null"},
			{"/empty", `[]`, 400, "Metadata"},
			{"/empty", `{"Data":[]}`, 400, "Data"},
			{"/nobody", `{}`, 404, `\"empty\", \"fails\", \"full\", \"panics\", \"strange\"`},
			{"/empty/", `{}`, 404, ""},
			{"//empty", `{}`, 404, ""},
			{"/api/empty", `{}`, 404, "no function"},
		} {
			if forwards && strings.Count(c.path, "/") > 1 {
				c.status, c.says = 200, `{"next":"`+c.path
			}
			status, text := post(t, server.URL+c.path, c.body)
			if status != c.status || !strings.Contains(text, c.says) {
				t.Errorf("%s %s: %d %s, want %d with %s", c.path, c.body, status, text, c.status, c.says)
			}
		}
		resp, err := http.Get(server.URL + "/empty")
		if err != nil || resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
			t.Errorf("GET: %v %v", resp, err)
		}
		resp, err = http.Get(server.URL)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("GET /: %v %v", resp, err)
		}
	}
	if got.Function != "empty" || got.ID != "b6a1" || !strings.HasPrefix(got.Trace, "00-0af7") {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{`"panic":"oh"`, "goroutine", `"invocation":"b6a1"`, `"traceparent":"00-0af`, `no\nluck`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

func TestPayloads(t *testing.T) {
	for _, c := range []struct {
		read    string
		payload string
		want    string // or, beginning with !, the error
	}{
		{"Bytes", `"AP8="`, "\x00\xff"},
		{"Bytes", `""`, ""},
		{"Bytes", `"\"abc\""`, "!dataType to binary"},
		{"Bytes", `{"a":1}`, "!an object"},
		{"Bytes", `null`, "!null"},
		{"Bytes", ``, "!nothing"},
		{"ByteArrays", `"[\"AP8=\",\"\",\"YQ==\"]"`, "\x00\xff||a"},
		{"ByteArrays", `["AP8="]`, "\x00\xff"},
		{"ByteArrays", `"[]"`, ""},
		{"ByteArrays", `"[null]"`, "!element 0 is null"},
		{"ByteArrays", `"[\"a b\"]"`, "!array of base64"},
		{"ByteArrays", `"AP8="`, "!a string of 6 bytes"},
		{"Text", `"\"a\\\"b\""`, `a"b`},
		{"Text", `"plain"`, "plain"},
		{"Text", `"{\"a\":1}"`, `{"a":1}`},
		{"Text", `[]`, "!an array"},
		{"JSON", `{"a":1}`, `{"a":1}`},
		{"JSON", `"{\"a\":1}"`, `{"a":1}`},
		{"JSON", `"\"{\\\"a\\\":1}\""`, `{"a":1}`},
		{"JSON", `"x"`, "!a string"},
		{"JSON", `7`, "!a number"},
		{"JSON", `"{"`, "!a string"},
		{"JSONs", `"[{\"a\":1},{\"b\":2}]"`, `{"a":1}|{"b":2}`},
		{"JSONs", `[{"a":1},"{\"b\":2}"]`, `{"a":1}|{"b":2}`},
		{"JSONs", `"[7]"`, "!element 0"},
		{"JSONs", `true`, "!a boolean"},
	} {
		p := Payload(c.payload)
		var got string
		var err error
		switch c.read {
		case "Bytes":
			var b []byte
			b, err = p.Bytes()
			got = string(b)
		case "ByteArrays":
			var all [][]byte
			all, err = p.ByteArrays()
			got = joined(all)
		case "Text":
			got, err = p.Text()
		case "JSON":
			var b json.RawMessage
			b, err = p.JSON()
			got = string(b)
		case "JSONs":
			var all []json.RawMessage
			all, err = p.JSONs()
			got = joined(all)
		}
		if says, fails := strings.CutPrefix(c.want, "!"); fails && (err == nil || !strings.Contains(err.Error(), says)) || !fails && (err != nil || got != c.want) {
			t.Errorf("%s of %s: %q, error %v, want %q", c.read, c.payload, got, err, c.want)
		}
	}
}

func joined[T ~[]byte](all []T) string {
	var texts []string
	for _, b := range all {
		texts = append(texts, string(b))
	}
	return strings.Join(texts, "|")
}

func TestMetadata(t *testing.T) {
	m := Metadata{
		"SequenceNumber": json.RawMessage(`"17"`), "Nested": json.RawMessage(`17`), "MessageId": json.RawMessage(`"\"id\""`),
		"EnqueuedTimeUtc": json.RawMessage(`"2026-11-25T10:11:12"`), "SequenceNumberArray": json.RawMessage(`"[1,2]"`),
		"Properties": json.RawMessage(`{"a":"b"}`), "Null": json.RawMessage(`null`),
		"RetryContext": json.RawMessage(`{"RetryCount":"2","MaxRetryCount":-1,"Exception":{}}`),
	}
	var number, nested int64
	var id, when string
	var numbers []int64
	var properties map[string]string
	for name, v := range map[string]any{
		"SequenceNumber": &number, "Nested": &nested, "MessageId": &id, "EnqueuedTimeUtc": &when, "SequenceNumberArray": &numbers, "Properties": &properties,
	} {
		if there, err := m.Into(name, v); !there || err != nil {
			t.Errorf("%s: %t, error %v", name, there, err)
		}
	}
	if number != 17 || nested != 17 || id != "id" || when != "2026-11-25T10:11:12" || len(numbers) != 2 || properties["a"] != "b" {
		t.Error(number, nested, id, when, numbers, properties)
	}
	for _, name := range []string{"Null", "Missing"} {
		if there, err := m.Into(name, &id); there || err != nil {
			t.Errorf("%s: %t, error %v", name, there, err)
		}
	}
	if there, err := m.Into("Properties", &number); !there || err == nil || !strings.Contains(err.Error(), `"Properties"`) {
		t.Errorf("%t, error %v", there, err)
	}
	if count, most, ok := m.Retry(); count != 2 || most != -1 || !ok {
		t.Error(count, most, ok)
	}
	if _, _, ok := (Metadata{}).Retry(); ok {
		t.Error("a retry context without one")
	}
}

func TestPayloadIsOfTheOneBinding(t *testing.T) {
	for _, c := range []struct{ data, name, says string }{
		{`{"a":"1"}`, "a", ""}, {`{}`, "", "no data"}, {`{"b":"1","a":"2"}`, "", `"a", "b"`},
	} {
		i, err := decode([]byte(`{"Data":` + c.data + `}`))
		if err != nil {
			t.Fatal(err)
		}
		name, _, err := i.Payload()
		if name != c.name || c.says == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, error %v", c.data, name, err)
		}
	}
}
