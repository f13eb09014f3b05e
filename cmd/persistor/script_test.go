package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"persistor/internal/record"
)

// The program is tested as it is used: testdata/script holds sessions in which it runs as processes of
// its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"persistor": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(2 * time.Minute),
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start":     start,
			"interrupt": interrupt,
			"post":      post,
			"port":      port,
			"awkward":   awkward,
			"bodies":    bodies,
			"json":      jsonValue,
			"wrong":     wrong,
			"handlers":  handlers,
		},
	})
}

// waiting bounds everything that a script waits for.
const waiting = 30 * time.Second

// settings are what a process that start runs gets of the script's environment.
var settings = []string{
	"SERVICE_TYPE", "EVENT_HUB_CONN_STRING", "EVENT_HUB_NAME", "EVENT_HUB_CHECKPOINT_CONTAINER",
	"SERVICE_BUS_CONNECTION_STRING", "SERVICE_BUS_TYPE", "SERVICE_BUS_QUEUE_NAME", "SERVICE_BUS_TOPIC_NAME", "SERVICE_BUS_SUB_NAME",
	"SERVICE_BUS_SESSIONS",
	"PERSISTOR_STORAGE_CONNECTION_STRING", "PERSISTOR_CONTAINER_NAME", "PERSISTOR_CREATE_CONTAINER",
	"GET_METADATA", "FUNC_TO_INVOKE", "LISTEN_ADDRESS", "WORKER_KEY",
	"BINDING_SERVICE", "FUNCTIONS_CUSTOMHANDLER_PORT", "PERSISTOR_URL", "PERSISTOR_KEY", "PATH", "HOME",
}

// running are a script's processes, by name.
type running map[string]*exec.Cmd

// start NAME VARIABLE PATTERN COMMAND... runs a command until interrupt or the script's end. It waits until
// the command writes a line that matches, and sets the variable to what the pattern's group matched. What the command
// writes to standard error goes to the file NAME.stderr.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: start NAME VARIABLE PATTERN COMMAND...")
	}
	name, variable, pattern := args[0], args[1], regexp.MustCompile(args[2])
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if file := filepath.Join(dir, args[3]); path == "" && isFile(file) {
			path = file
		}
	}
	said, err := os.Create(ts.MkAbs(name + ".stderr"))
	ts.Check(err)
	defer said.Close()
	cmd := &exec.Cmd{Path: path, Args: args[3:], Dir: ts.MkAbs("."), Stderr: said}
	for _, s := range settings {
		if value := ts.Getenv(s); value != "" {
			cmd.Env = append(cmd.Env, s+"="+value)
		}
	}
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	processes(ts)[name] = cmd
	ts.Defer(func() { cmd.Process.Kill() })

	found := make(chan string, 1)
	go func() {
		defer close(found)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if m := pattern.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
				break
			}
		}
		io.Copy(io.Discard, stdout)
	}()
	select {
	case value, ok := <-found:
		if !ok {
			ts.Fatalf("%s ended before it wrote a line that matches %s", name, pattern)
		}
		ts.Setenv(variable, value)
	case <-time.After(waiting):
		ts.Fatalf("%s wrote no line that matches %s", name, pattern)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// interrupt NAME [STATUS] ends a process as Ctrl-C does. Its exit status must be 0, or the one given.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: interrupt NAME [STATUS]")
	}
	want := append(args, "0")[1]
	cmd := processes(ts)[args[0]]
	if cmd == nil {
		ts.Fatalf("there is no process %s", args[0])
	}
	ts.Check(cmd.Process.Signal(syscall.SIGINT))
	kill := time.AfterFunc(waiting, func() { cmd.Process.Kill() })
	defer kill.Stop()
	if _ = cmd.Wait(); strconv.Itoa(cmd.ProcessState.ExitCode()) != want {
		ts.Fatalf("%s, interrupted: %v, want exit status %s", args[0], cmd.ProcessState, want)
	}
}

// all holds the processes of each script; scripts run side by side.
var all = make(chan map[*testscript.TestScript]running, 1)

func init() { all <- make(map[*testscript.TestScript]running) }

func processes(ts *testscript.TestScript) running {
	scripts := <-all
	defer func() { all <- scripts }()
	if scripts[ts] == nil {
		scripts[ts] = make(running)
	}
	return scripts[ts]
}

// port VARIABLE sets a variable to a port that is free.
func port(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port VARIABLE")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// post STATUS URL [FILE] calls with WORKER_KEY, if that is set, and what is in FILE, and writes the answer to the file
// answer.
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: post STATUS URL [FILE]")
	}
	var body io.Reader
	if len(args) == 3 {
		body = strings.NewReader(ts.ReadFile(args[2]))
	}
	request, err := http.NewRequest(http.MethodPost, args[1], body)
	ts.Check(err)
	request.Header.Set("x-functions-key", ts.Getenv("WORKER_KEY"))
	client := http.Client{Timeout: waiting}
	response, err := client.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("answer"), answer, 0o666))
	if got := fmt.Sprint(response.StatusCode); got != args[0] {
		ts.Fatalf("status %s, want %s: %s", got, args[0], answer)
	}
}

// awkward FILE writes lines that are hard to keep as they are.
func awkward(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: awkward FILE")
	}
	every := make([]byte, 0, 256)
	for b := range 256 {
		if b != '\n' {
			every = append(every, byte(b))
		}
	}
	lines := [][]byte{
		[]byte(`{"plain": "json"}`),
		{},
		every,
		[]byte("Налягане, 水温, 💧\u2028\u2029"),
		[]byte("\xef\xbb\xbfmarked"),
		[]byte("\xed\xa0\x80 a lone surrogate, \xc0\x80 overlong"),
		[]byte("carriage return\r"),
		[]byte("\"quoted\\\" </script> \x00 \x7f"),
		bytes.Repeat([]byte("long "), 100_000),
		[]byte("the last line has no newline"),
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Join(lines, []byte("\n")), 0o666))
}

// bodies DIR FILE writes the body of every record below DIR to FILE, a line each.
func bodies(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bodies DIR FILE")
	}
	var found [][]byte
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.Contains(path, string(filepath.Separator)+".") || filepath.Ext(path) != ".txt" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		records := record.NewReader(f, 16<<20)
		for {
			m, err := records.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			found = append(found, bytes.Join(m.Body.Data, nil))
		}
	}))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), bytes.Join(found, []byte("\n")), 0o666))
}

// jsonValue FILE PATH WANT compares a value of the one JSON document in FILE. PATH has dots between keys.
func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: json FILE PATH WANT")
	}
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	d.UseNumber()
	var value any
	ts.Check(d.Decode(&value))
	if _, err := d.Token(); err != io.EOF {
		ts.Fatalf("%s holds more than one JSON document", args[0])
	}
	for key := range strings.SplitSeq(args[1], ".") {
		object, ok := value.(map[string]any)
		if !ok {
			ts.Fatalf("there is no %s", args[1])
		}
		value = object[key]
	}
	if list, ok := value.([]any); ok {
		value = len(list) // a list stands for its length
	}
	if got := fmt.Sprint(value); (got == args[2]) == neg {
		ts.Fatalf("%s is %s, want %s (not: %t)", args[1], got, args[2], neg)
	}
}

// wrong PATTERN ARGUMENT... runs persistor, which must end with exit status 2, write nothing to stdout,
// and write what matches to stderr.
func wrong(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: wrong PATTERN ARGUMENT...")
	}
	var exit *exec.ExitError
	if err := ts.Exec("persistor", args[1:]...); !errors.As(err, &exit) || exit.ExitCode() != exitUsage {
		ts.Fatalf("persistor %q: %v, want exit status %d", args[1:], err, exitUsage)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("persistor %q wrote to stdout: %s", args[1:], out)
	}
	if told := ts.ReadFile("stderr"); !regexp.MustCompile(args[0]).MatchString(told) {
		ts.Fatalf("persistor %q wrote to stderr: %s, want %s", args[1:], told, args[0])
	}
}

// handlers DIR makes a folder of handlers for function apps out of the go command, since any program that is
// not Persistor's can stand for one, and sets GOARCH to what they are for.
func handlers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: handlers DIR")
	}
	ts.Setenv("GOARCH", runtime.GOARCH)
	program, err := exec.LookPath("go")
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o777))
	for _, name := range []string{"worker", "invoker", "push"} {
		ts.Check(os.Symlink(program, filepath.Join(ts.MkAbs(args[0]), name)))
	}
}
