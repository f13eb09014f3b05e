package generate

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"persistor/functions"
)

// endless is the variable that makes this program a generator that never stops; its value is the output.
const endless = "PERSISTOR_TEST_GENERATE_INTO"

// sweeper is content during whose reading another run sweeps the folder.
type sweeper struct{ root *os.Root }

func (s sweeper) Read([]byte) (int, error) {
	return 0, cmp.Or(sweep(s.root, "a"), io.EOF)
}

// Two runs in one folder: that which loses its file says why.
func TestAnotherRunIsTold(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := replace(root, "a/handler", 0o755, sweeper{root}); err == nil || !strings.Contains(err.Error(), "another run in the same folder") {
		t.Errorf("%v, want an error about another run", err)
	}
}

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
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, output := t.TempDir(), t.TempDir()
	program := linuxProgram(strings.Repeat("a program ", 1<<19))
	for i, more := range []string{"", "another program"} {
		folder := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "push"), append(program[:len(program):len(program)], more...), 0o777); err != nil {
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
				if n := len(content) - len(program); n != 0 && n != len("another program") {
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

// killDuringTurn starts a generator and kills it as soon as there is something to see of its second turn.
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
		if lines.Text() == "turn 1" {
			awaitChange(t, filepath.Join(output, "a"))
			return
		}
	}
	t.Fatal("the generator ended by itself")
}

// awaitChange waits until a file is being written, be it in its place or beside it.
func awaitChange(t *testing.T, folder string) {
	before, err := os.Stat(filepath.Join(folder, functions.Handler))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		now, err := os.Stat(filepath.Join(folder, functions.Handler))
		if err != nil || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) {
			return
		}
		if left, _ := filepath.Glob(filepath.Join(folder, ".*"+temporary)); len(left) > 0 {
			return
		}
	}
	t.Fatal("nothing is written")
}
