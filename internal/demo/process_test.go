package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// As a child this test's program plays a worker: start runs it with the name of a part.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[2] != "--exit-with-parent" {
		os.Exit(m.Run())
	}
	fmt.Println(`{"level":"WARN","msg":"a line of its log"}`)
	switch os.Args[1] {
	case "listens":
		fmt.Println(`{"listening":"http://127.0.0.1:1"}`)
	case "fails":
		fmt.Fprintln(os.Stderr, "FUNC_TO_INVOKE: not set")
		os.Exit(2)
	case "mute":
	}
	io.Copy(io.Discard, os.Stdin)
	fmt.Println("stored what it held: " + os.Getenv("SETTING") + os.Getenv("EVENT_HUB_NAME"))
}

func TestProcessSaysWhereItListensAndEndsInOrder(t *testing.T) {
	t.Setenv("EVENT_HUB_NAME", "somebody's real hub") // must not get through
	var f fleet
	p, err := f.start(t.Context(), "worker 1", "listens", []string{"SETTING=a setting"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	if p.url != "http://127.0.0.1:1" {
		t.Errorf("it listens on %q", p.url)
	}
	if err := f.dead(); err != nil {
		t.Errorf("it is dead: %v", err)
	}
	f.stop()
	if p.err != nil || !strings.HasSuffix(p.log.String(), "stored what it held: a setting") {
		t.Errorf("it ended with %v, its log is %q", p.err, p.log)
	}
}

func TestProcessThatDiesIsNoticed(t *testing.T) {
	var f fleet
	p, err := f.start(t.Context(), "worker 1", "listens", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	p.cmd.Process.Kill()
	<-p.exited
	if err := f.dead(); err == nil || !strings.Contains(err.Error(), "worker 1 ended: signal: killed") {
		t.Errorf("a killed process: %v", err)
	}
}

func TestProcessThatCannotStartSaysWhy(t *testing.T) {
	_, err := start(t.Context(), "invoker", "fails", nil)
	if err == nil || !strings.Contains(err.Error(), "start invoker: it ended: exit status 2") || !strings.Contains(err.Error(), "FUNC_TO_INVOKE: not set") {
		t.Errorf("error %v", err)
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := start(ctx, "worker 1", "mute", nil); err == nil || !strings.Contains(err.Error(), "did not say where it listens") {
		t.Errorf("error %v", err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var log tail
	for i := range 10_000 {
		fmt.Fprintf(&log, "line %d\n", i)
	}
	if got := log.String(); len(got) > 2*tailSize || !strings.HasSuffix(got, "line 9998 | line 9999") {
		t.Errorf("kept %d bytes: %q", len(got), got)
	}
}
