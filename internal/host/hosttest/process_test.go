package hosttest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// order delivers an event whose text tells the handler what to do.
func order(t *testing.T, h *Host, text string) error {
	t.Helper()
	event, err := json.Marshal(map[string]string{"id": "1", "data": text})
	if err != nil {
		t.Fatal(err)
	}
	return h.Deliver(t.Context(), "persist", event)
}

func TestExitStatuses(t *testing.T) {
	t.Parallel()
	t.Run("an error counts", func(t *testing.T) {
		h := run(t, newApp(t, "persist", gridFunction(""), "").with())
		for n := range 3 {
			if err := order(t, h, "exit 1"); err == nil {
				t.Fatal("succeeded")
			}
			if h.Err() != nil && n < 2 {
				t.Fatalf("after %d errors: %v", n+1, h.Err())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := h.Await(ctx, func() bool { return h.Err() != nil }); err != nil || !strings.Contains(h.Err().Error(), "3 errors") {
			t.Errorf("%v, %v", err, h.Err())
		}
	})
	t.Run("200 restarts", func(t *testing.T) {
		h := run(t, newApp(t, "persist", gridFunction(""), "").with())
		for range 5 {
			if err := order(t, h, "exit 200"); err == nil {
				t.Fatal("succeeded")
			}
		}
		if err := order(t, h, "work"); err != nil || h.Err() != nil {
			t.Errorf("%v, %v", err, h.Err())
		}
	})
	t.Run("0 is the end", func(t *testing.T) {
		h := run(t, newApp(t, "persist", gridFunction(""), "").with())
		for range 2 {
			if err := order(t, h, "exit 0"); err == nil {
				t.Fatal("succeeded")
			}
		}
		if err := order(t, h, "work"); err == nil || !strings.Contains(err.Error(), "refused") || h.Err() != nil {
			t.Errorf("%v, %v", err, h.Err())
		}
	})
}

// Without warning: what is in flight fails, and what comes next is served by another process.
func TestKill(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), "")
	h := run(t, a.with())
	failed := make(chan error, 1)
	go func() { failed <- order(t, h, "hang") }()
	a.keeps(t, 1)
	if err := h.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("an invocation outlived its process")
	}
	if err := order(t, h, "work"); err != nil {
		t.Error(err)
	}
}

// A function that takes longer than functionTimeout costs the process, and all that it is doing.
func TestFunctionTimeout(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), `"functionTimeout":"00:00:02","customHandler":{"description":{"defaultExecutablePath":"handler"}}`)
	h := run(t, a.with())
	var both sync.WaitGroup
	both.Go(func() {
		if err := order(t, h, "hang"); err == nil || !strings.Contains(err.Error(), "timeout value of 2s") {
			t.Errorf("%v", err)
		}
	})
	<-time.After(3 * time.Second) // a second before the end of the process, and of its own timeout two
	both.Go(func() {
		if err := order(t, h, "hang"); err == nil || strings.Contains(err.Error(), "timeout value") {
			t.Errorf("%v", err)
		}
	})
	both.Wait()
	if err := order(t, h, "work"); err != nil || h.Err() != nil {
		t.Errorf("%v, %v", err, h.Err())
	}
}

// What the host can't read of an answer is a failure; an empty one keeps the invocation open.
func TestAnswers(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), `"functionTimeout":"00:00:01","customHandler":{"description":{"defaultExecutablePath":"handler"}}`)
	h := run(t, a.with())
	for text, says := range map[string]string{
		"raw html": "Content-Type", "fail": "500 Internal Server Error", "raw redirect": "418", "raw empty": "timeout value of 1s",
	} {
		if err := order(t, h, text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ setting, executable, says string }{
		{"EXIT_AT_START=3", "handler", "exit status 3"},
		{"DEAF=1", "handler", "initializationTimeout, 1s"},
		{"", "nobody", "neither in"},
		{"", "host.json", "executable?"},
	} {
		a := newApp(t, "persist", gridFunction(""), `"customHandler":{"initializationTimeout":"00:00:01","description":{"defaultExecutablePath":"`+c.executable+`"}}`)
		h, err := Start(t.Context(), a.with(c.setting))
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "3 errors") {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			_ = h.Close()
		}
	}
}

// The handler finds what the host gives it: the settings, its arguments' values, its folder.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), `"customHandler":{"description":{"defaultExecutablePath":"/bin/sh","arguments":["-c","%SCRIPT%"],"workingDirectory":"persist"}}`)
	script := `env > "$KEEP/env.tmp"; pwd > "$KEEP/pwd.tmp"; exec ../handler`
	h := run(t, a.with("SCRIPT="+script))
	env, err := os.ReadFile(filepath.Join(a.keep, "env.tmp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FUNCTIONS_CUSTOMHANDLER_PORT=", "FUNCTIONS_HTTPWORKER_PORT=", "FUNCTIONS_CUSTOMHANDLER_WORKER_ID=", "FUNCTIONS_APP_ROOT_PATH=" + a.folder, "AzureWebJobsStorage=UseDev"} {
		if !strings.Contains(string(env), want) {
			t.Errorf("the environment lacks %s", want)
		}
	}
	if dir, err := os.ReadFile(filepath.Join(a.keep, "pwd.tmp")); err != nil || !strings.HasSuffix(strings.TrimSpace(string(dir)), "/persist") {
		t.Errorf("%s, %v", dir, err)
	}
	if err := order(t, h, "work"); err != nil {
		t.Error(err)
	}
}

func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	h := run(t, newApp(t, "persist", gridFunction(""), "").with())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Await(ctx, func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
