package generate

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// gate stands before Azurite. It can refuse blobs; and when one has been stored something may happen, before the client
// hears of it.
type gate struct {
	connection string // through the gate

	mu      sync.Mutex
	stored  func()
	refuses int // so many requests
	refused int
}

func newGate(t *testing.T, connection string) *gate {
	t.Helper()
	_, endpoint, _ := strings.Cut(connection, "BlobEndpoint=")
	endpoint, _, _ = strings.Cut(endpoint, ";")
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g := new(gate)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target.Host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // so that what was sent arrives, whatever becomes of its sender
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if g.refuse(r) {
			w.Header().Set("x-ms-error-code", "AuthorizationPermissionMismatch")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		happens := g.take(r)
		if happens == nil {
			forward.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		forward.ServeHTTP(answer, r.WithContext(t.Context()))
		happens()
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w)
	}))
	t.Cleanup(server.Close)
	g.connection = strings.Replace(connection, target.Host, server.Listener.Addr().String(), 1)
	return g
}

// onStored has something happen when the next blob is stored.
func (g *gate) onStored(happens func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stored = happens
}

// shut has the next n blobs refused, as by a role that isn't assigned yet; open, no more.
func (g *gate) shut(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuses = n
}

func (g *gate) open() { g.shut(0) }

// refusals counts what was refused.
func (g *gate) refusals() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

func (g *gate) refuse(r *http.Request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !storesBlob(r) || g.refuses == 0 {
		return false
	}
	g.refuses--
	g.refused++
	return true
}

// take is what happens at a request, once.
func (g *gate) take(r *http.Request) (happens func()) {
	if !storesBlob(r) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	happens, g.stored = g.stored, nil
	return happens
}

// storesBlob reports whether a request stores messages, or begins to.
func storesBlob(r *http.Request) bool {
	if strings.Contains(r.URL.Path, "/_runs/") || strings.Contains(r.URL.Path, "-checkpoints/") {
		return false
	}
	return r.Method == http.MethodPut && r.Header.Get("x-ms-blob-type") != ""
}
