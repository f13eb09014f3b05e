package api

import (
	"log/slog"
	"net/http"
)

// WithMetrics serves metrics at GET /metrics, beside surface. They ask for the key as the rest does, unless it is "".
func WithMetrics(surface, metrics http.Handler, key string, log *slog.Logger) http.Handler {
	own := newHandler([]route{{path: "/metrics", methods: []string{http.MethodGet}, handle: func(w http.ResponseWriter, r *http.Request) answer {
		metrics.ServeHTTP(w, r)
		return answer{written: true}
	}}}, key, log)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			own.ServeHTTP(w, r)
			return
		}
		surface.ServeHTTP(w, r)
	})
}
