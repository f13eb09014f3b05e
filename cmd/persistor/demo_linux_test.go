package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demoOf is a demo as a process of its own.
func demoOf(t *testing.T, args ...string) (demo *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	demo = &exec.Cmd{Path: self, Args: append([]string{"persistor", "demo"}, args...), Env: os.Environ(), Stdout: stdout, Stderr: stderr}
	t.Cleanup(func() {
		if demo.Process != nil {
			demo.Process.Kill()
		}
	})
	return demo, stdout, stderr
}

// However the demo ends, its processes end with it: after Ctrl-C, and after a kill that leaves it no time.
func TestDemoLeavesNoProcessBehind(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"eventhub", "servicebus", "sessions", "deadletter"} {
		for name, signal := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
			t.Run(source+" "+name, func(t *testing.T) {
				t.Parallel()
				demo, _, said := demoOf(t, "--source", source, "--json", "--events", "2000000", "--workers", "2", "--out", filepath.Join(t.TempDir(), "out"))
				// Its processes have this folder in their environment, and nobody else's do.
				mark := "TMPDIR=" + t.TempDir()
				demo.Env = append(demo.Env, mark)
				if err := demo.Start(); err != nil {
					t.Fatal(err)
				}
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
	t.Parallel()
	for source, sizes := range map[string][]string{
		"eventhub":   {"--events", "30000", "--workers", "2"},
		"servicebus": {"--events", "15000", "--workers", "1"},
		"sessions":   {"--events", "1000", "--sessions", "20", "--workers", "1"},
		"deadletter": {"--events", "10000", "--workers", "1"},
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			demo, document, said := demoOf(t, append(sizes, "--source", source, "--json", "--out", out)...)
			if err := demo.Start(); err != nil {
				t.Fatal(err)
			}
			var stored string
			eventually(t, "a blob is stored", func() bool {
				stored = firstBlob(filepath.Join(out, "blobs", "telemetry"))
				return stored != ""
			})
			if err := os.Truncate(stored, 1000); err != nil {
				t.Fatal(err)
			}
			_ = demo.Wait()
			if status := demo.ProcessState.ExitCode(); status != exitJob || !strings.Contains(said.String(), "the audit found") {
				t.Errorf("exit status %d, stderr:\n%s", status, said)
			}
			if !strings.Contains(document.String(), `"complete": false`) {
				t.Errorf("the document does not say that the audit failed: %.2000s", document)
			}
		})
	}
}

// firstBlob is the file of any blob below a folder, "" when there is none yet.
func firstBlob(dir string) (found string) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // it is not there yet, or is a temporary file that is gone
		case entry.IsDir() && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case filepath.Ext(path) == ".txt":
			found = path
			return fs.SkipAll
		}
		return nil
	})
	return found
}
