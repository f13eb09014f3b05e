package fanout

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
)

// Trace is a W3C trace context (https://www.w3.org/TR/trace-context): the caller's, which goes on to
// every worker, or none yet when it is the zero value.
type Trace struct {
	id    string // 32 lower-case hex digits
	flags string // 2 lower-case hex digits
	state string // tracestate, opaque
}

// TraceOf returns the trace context of a request's headers; the zero value when they hold none, or one
// that breaks the rules, as the specification asks.
func TraceOf(h http.Header) Trace {
	parent := h.Get("traceparent")
	if len(parent) < 55 {
		return Trace{}
	}
	// Later versions may only append fields, so the first four are read whatever the version is.
	version, id, span, flags := parent[:2], parent[3:35], parent[36:52], parent[53:55]
	switch {
	case parent[2] != '-' || parent[35] != '-' || parent[52] != '-',
		!isHex(version) || !isHex(id) || !isHex(span) || !isHex(flags),
		version == "ff" || version == "00" && len(parent) != 55,
		len(parent) > 55 && parent[55] != '-',
		strings.Trim(id, "0") == "" || strings.Trim(span, "0") == "":
		return Trace{}
	}
	state := strings.Join(h.Values("tracestate"), ",")
	if len(state) > 512 { // the length that everyone has to carry on; longer may be dropped
		state = ""
	}
	return Trace{id: id, flags: flags, state: state}
}

// orNew returns t, or a new trace when there is none yet. A new one isn't marked as sampled: nobody is
// known to record it.
func (t Trace) orNew() Trace {
	if t.id != "" {
		return t
	}
	return Trace{id: randomHex(16), flags: "00"}
}

// set writes the trace context of a new call within t into h.
func (t Trace) set(h http.Header) {
	h.Set("traceparent", "00-"+t.id+"-"+randomHex(8)+"-"+t.flags)
	if t.state != "" {
		h.Set("tracestate", t.state)
	}
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}
