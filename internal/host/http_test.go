package host

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What the caller of an HTTP function asked is what the program sees, however the host words it.
func TestHTTP(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Id", r.Header.Get(InvocationHeader))
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		w.WriteHeader(http.StatusBadGateway)
		w.WriteHeader(http.StatusOK) // comes too late
		fmt.Fprintf(w, "%s %s %s %s %q %q", r.Method, r.URL.RequestURI(), r.Host, r.Header.Get("x-functions-key"), r.Header.Get("Traceparent")[:2], body)
	})
	server := httptest.NewServer(Handler(map[string]Function{"pull": HTTP(echo, "/api/pull")}, nil, nil))
	defer server.Close()
	for _, c := range []struct{ request, want string }{
		{`{"Url":"http://h:7071/api/pull?N=4&a=b%20c","Method":"GET","Query":{"N":"4"},"Headers":{"Host":["h:7071"],"x-functions-key":["k"]},"Params":{}}`, `GET /api/pull?N=4&a=b%20c h:7071 k "00" ""`},
		{`{"Url":"http://h/api/pull","Method":"POST","Query":{"N":"4"},"Headers":{},"Body":"{\"N\":1}"}`, `POST /api/pull?N=4   "00" "{\"N\":1}"`},
		{`{"Url":"","Method":"POST","Query":"{\"N\":\"4\",\"x\":[\"1\",\"2\"]}","Headers":{"x-functions-key":"k"},"Body":{"N":1}}`, `POST /api/pull?N=4&x=1&x=2  k "00" "{\"N\":1}"`},
		{`{"Method":"POST","Query":"","Headers":{"Content-Type":["application/octet-stream"]},"Body":"AP8="}`, `POST /api/pull   "00" "\x00\xff"`},
		{`{"Method":"POST","Headers":{"content-type":["multipart/form-data; boundary=x"]},"Body":"YQ=="}`, `POST /api/pull   "00" "a"`},
		{`{"Method":"POST","Headers":{"Content-Type":["text/plain"]},"Body":"YQ=="}`, `POST /api/pull   "00" "YQ=="`},
		{`{"Method":"GET","Body":null}`, `GET /api/pull   "00" ""`},
	} {
		status, text := post(t, server.URL+"/pull", `{"Data":{"req":`+c.request+`},"Metadata":{"sys":{}}}`)
		var response struct {
			Outputs struct {
				Res struct {
					StatusCode int
					Headers    map[string]string
					Body       string
				}
			}
		}
		if err := json.Unmarshal([]byte(text), &response); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		res := response.Outputs.Res
		if status != 200 || res.StatusCode != 502 || res.Body != c.want || res.Headers["X-Id"] != "b6a1" || res.Headers["X-Two"] != "a, b" {
			t.Errorf("%s: %d %+v, want %s", c.request, status, res, c.want)
		}
	}
	for _, request := range []string{`"x"`, `{"Method":" "}`, `{"Headers":7}`} {
		if status, text := post(t, server.URL+"/pull", `{"Data":{"req":`+request+`}}`); status != 500 || !strings.Contains(text, "read HTTP request") {
			t.Errorf("%s: %d %s", request, status, text)
		}
	}
}

func TestInvocationIsBounded(t *testing.T) {
	h := Handler(map[string]Function{"f": nil}, nil, nil).(*handler)
	h.most = 100
	server := httptest.NewServer(h)
	defer server.Close()
	if status, text := post(t, server.URL+"/f", strings.Repeat("x", 101)); status != 413 || !strings.Contains(text, "longer than 100 bytes") {
		t.Errorf("%d %s", status, text)
	}
}
