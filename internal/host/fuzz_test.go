package host

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzInvocation: whatever comes in is answered with one JSON object, and nothing panics on the way.
func FuzzInvocation(f *testing.F) {
	for _, seed := range []string{
		`{"Data":{"m":"YQ=="},"Metadata":{"SequenceNumber":"7","RetryContext":{"RetryCount":1,"MaxRetryCount":-1,"Exception":null}}}`,
		`{"Data":{"m":"[\"YQ==\",\"\"]"},"Metadata":{"SequenceNumberArray":"[1,2]","PropertiesArray":"[{}]"}}`,
		`{"Data":{"m":"\"a\\\"b\""},"Metadata":{"sys":{"UtcNow":"2026-11-25T10:11:12"}}}`,
		`{"Data":{"event":{"id":"1","data":[1]}},"Metadata":{"data":"[1]"}}`,
		`{"Data":{"req":{"Url":"http://h/api/pull?N=4","Method":"POST","Query":"{\"N\":\"4\"}","Headers":{"Content-Type":["application/octet-stream"]},"Body":"YQ=="}}}`,
		`{"Data":{"req":{"Url":"%","Method":" ","Query":{"a":["b","c"]},"Headers":{"a\n":"b"},"Body":{}}}}`,
		`null`, `{"Data":null}`, `{"Data":{"":[]}}`, "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		use := func(_ context.Context, i *Invocation) (Response, error) {
			_, p, err := i.Payload()
			if err != nil {
				return Response{}, err
			}
			roundTrip(t, p)
			for name := range i.Metadata {
				var v any
				if there, err := i.Metadata.Into(name, &v); there && err == nil {
					_, _ = i.Metadata.Into(name, &struct{ A []int }{})
				}
			}
			i.Metadata.Retry()
			return Response{Outputs: map[string]any{"v": json.RawMessage(p)}}, nil
		}
		h := Handler(map[string]Function{"use": use, "web": HTTP(http.NotFoundHandler(), "/api/web")}, nil, nil)
		for _, path := range []string{"/use", "/web"} {
			r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var object map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &object); err != nil || object == nil || strings.Count(w.Body.String(), "\n") > 1 {
				t.Errorf("%s answers %d %q", path, w.Code, w.Body)
			}
			if _, failed := object["error"]; failed == (w.Code == http.StatusOK) {
				t.Errorf("%s answers %d %q", path, w.Code, w.Body)
			}
		}
	})
}

// roundTrip decodes a payload in every way, and compares what that yields with the payload.
func roundTrip(t *testing.T, p Payload) {
	t.Helper()
	if b, err := p.Bytes(); err == nil {
		again, _ := json.Marshal(base64.StdEncoding.EncodeToString(b))
		if got, err := Payload(again).Bytes(); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%q became %q, error %v", b, got, err)
		}
	}
	if all, err := p.ByteArrays(); err == nil {
		once, _ := json.Marshal(all)
		twice, _ := json.Marshal(string(once))
		if got, err := Payload(twice).ByteArrays(); err != nil || !bytes.Equal(bytes.Join(got, nil), bytes.Join(all, nil)) || len(got) != len(all) {
			t.Errorf("%q became %q, error %v", all, got, err)
		}
	}
	if text, err := p.Text(); err == nil {
		once, _ := json.Marshal(text)
		twice, _ := json.Marshal(string(once))
		if got, err := Payload(twice).Text(); err != nil || got != text {
			t.Errorf("%q became %q, error %v", text, got, err)
		}
	}
	if object, err := p.JSON(); err == nil && !json.Valid(object) {
		t.Errorf("%q is no JSON", object)
	}
	if all, err := p.JSONs(); err == nil {
		for _, object := range all {
			if !json.Valid(object) {
				t.Errorf("%q is no JSON", object)
			}
		}
	}
}
