package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// A start whose answer got lost may have begun a run: that is said, and the start isn't repeated.
func TestStartWithoutAnswer(t *testing.T) {
	var starts atomic.Int64
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		starts.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer silent.Close()
	var out, said bytes.Buffer
	status := run(t.Context(), []string{"backfill", "--url", silent.URL}, streams{out: &out, err: &said})
	if status != exitJob || starts.Load() != 1 || out.Len() > 0 || !strings.Contains(said.String(), "; persistor runs shows whether it has begun all the same\n") {
		t.Errorf("status %d, %d starts, stdout %q, stderr %q", status, starts.Load(), out.String(), said.String())
	}
}

// A key that others could read on its way is warned of; it is never told.
func TestKeyInClear(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for url, warned := range map[string]bool{"http://invoker.invalid": true, "https://invoker.invalid": false, "http://127.0.0.1:1": false} {
		var said bytes.Buffer
		status := run(ctx, []string{"runs", "--url", url, "--key", "s3cret"}, streams{out: &bytes.Buffer{}, err: &said})
		if status != exitJob || strings.Contains(said.String(), "the key goes to invoker.invalid in clear") != warned || strings.Contains(said.String(), "s3cret") {
			t.Errorf("%s: status %d, %q", url, status, said.String())
		}
	}
}
