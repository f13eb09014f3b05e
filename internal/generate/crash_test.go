package generate

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"persistor/functions"
)

// endless is the variable that makes this program a generator that never stops; its value is the output.
const endless = "PERSISTOR_TEST_GENERATE_INTO"

func TestMain(m *testing.M) {
	if program := os.Getenv("PERSISTOR_TEST_PROCESS"); program != "" {
		os.Exit(runProgram(program))
	}
	if output := os.Getenv(endless); output != "" {
		fmt.Fprintln(os.Stderr, generateForever(output, os.Getenv(endless+"_HANDLERS")))
		os.Exit(1)
	}
	// Most of what tests of function apps do is wait: for silence, for a retry's time.
	_ = flag.Set("test.parallel", "10") // the command line goes before
	os.Exit(m.Run())
}

// generateForever writes two function apps in turns into the same folder, a line before each turn.
func generateForever(output, handlers string) error {
	for turn := 0; ; turn++ {
		fmt.Println("turn", turn)
		config := []string{
			"apps: [{name: a, source: event-hub, approach: push, cardinality: one, metadata: true}]",
			"apps: [{name: a, source: event-hub, approach: push, cardinality: many, metadata: false}]",
		}[turn%2]
		o := Options{Config: []byte(config), Output: output, Arch: runtime.GOARCH, Handler: filepath.Join(handlers, fmt.Sprint(turn%2)), Zip: true}
		if _, err := Run(context.Background(), o); err != nil {
			return err
		}
	}
}

// However a run ends, every file is there as a whole or not at all, and the next run makes it good.
func TestKilledRunsLeaveNoHalfFiles(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the test's own program stands for a handler, and has to be a Linux program")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, dir, output := read(t, self), t.TempDir(), t.TempDir()
	for i, more := range []string{"", "another handler"} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), append(program[:len(program):len(program)], more...), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	kills := 10
	if testing.Short() {
		kills = 3
	}
	for range kills {
		killDuringTurn(t, self, dir, output)
		for name, content := range tree(t, output) {
			switch filepath.Base(name) {
			case functions.Handler:
				if n := len(content) - len(program); n != 0 && n != len("another handler") {
					t.Fatalf("%s has %d bytes, want %d or a little more", name, len(content), len(program))
				}
			case functions.HostFile, functions.FunctionFile, functions.SettingsFile:
				if !json.Valid([]byte(content)) {
					t.Fatalf("%s is there by half: %q", name, content)
				}
			}
		}
	}
	generateInto(t, output, "apps: [{name: a, source: event-hub, approach: push, cardinality: one}]", func(o *Options) { o.Zip = true })
	for name := range tree(t, output) {
		if strings.HasSuffix(name, temporary) {
			t.Errorf("%s is left", name)
		}
	}
}

// killDuringTurn starts a generator and kills it once it is at work for the second time.
func killDuringTurn(t *testing.T, self, handlers, output string) {
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), endless+"="+output, endless+"_HANDLERS="+handlers)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if lines.Text() == "turn 2" {
			return
		}
	}
	t.Fatal("the generator ended by itself")
}
