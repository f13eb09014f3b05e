package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// However the demo ends, its processes end with it: after Ctrl-C, and after a kill that leaves it no time.
func TestDemoLeavesNoProcessBehind(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			// Its processes have this folder in their environment, and nobody else's do.
			mark := "TMPDIR=" + t.TempDir()
			var said bytes.Buffer
			demo := exec.Cmd{
				Path: self, Args: []string{"persistor", "demo", "--json", "--events", "2000000", "--workers", "2", "--out", filepath.Join(t.TempDir(), "out")},
				Env: append(os.Environ(), mark), Stderr: &said,
			}
			if err := demo.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { demo.Process.Kill() })
			eventually(t, "demo, two workers and an invoker run", func() bool { return len(marked(t, mark)) == 4 })

			if err := demo.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = demo.Wait()
			eventually(t, "all processes have ended", func() bool { return len(marked(t, mark)) == 0 })
			if signal != syscall.SIGINT {
				return
			}
			if told := strings.TrimSpace(said.String()); demo.ProcessState.ExitCode() != exitJob || !strings.HasSuffix(told, "persistor: demo: interrupted") {
				t.Errorf("exit status %d, stderr:\n%s", demo.ProcessState.ExitCode(), told)
			}
		})
	}
}

// marked are the folders in /proc of the processes that have an entry in their environment.
func marked(t *testing.T, entry string) (found []string) {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range environments {
		// A process that has ended meanwhile, or is somebody else's, can't be read.
		if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(entry+"\x00")) {
			found = append(found, filepath.Dir(file))
		}
	}
	return found
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waiting); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", waiting, what)
		}
	}
}

// What is damaged behind the demo's back, while the workers still store, fails the audit and so the demo.
func TestAuditDecidesTheExitStatus(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	var document, said bytes.Buffer
	demo := exec.Cmd{
		Path: self, Args: []string{"persistor", "demo", "--json", "--events", "30000", "--workers", "2", "--out", out},
		Stdout: &document, Stderr: &said,
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { demo.Process.Kill() })
	var stored []string
	for deadline := time.Now().Add(waiting); len(stored) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was stored in %v: %s", waiting, &said)
		}
		stored, _ = filepath.Glob(filepath.Join(out, "blobs", "telemetry", "*", "*", "*", "*.txt"))
	}
	if err := os.Truncate(stored[0], 1000); err != nil {
		t.Fatal(err)
	}
	_ = demo.Wait()
	if status := demo.ProcessState.ExitCode(); status != exitJob || !strings.Contains(said.String(), "the audit found") {
		t.Errorf("exit status %d, stderr:\n%s", status, &said)
	}
	if !strings.Contains(document.String(), `"complete": false`) {
		t.Errorf("the document does not say that the audit failed: %.2000s", &document)
	}
}
