package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	startTimeout = 20 * time.Second // for a process to say where it listens
	stopTimeout  = 10 * time.Second // for a process to end by itself
)

// process is a worker or an invoker: this program again, running another of its commands.
type process struct {
	name string // "worker 2"
	url  string // http://127.0.0.1:PORT

	cmd    *exec.Cmd
	stdin  io.Closer
	log    *tail
	exited chan struct{} // closed once it has ended and err is set
	err    error
}

// start runs `persistor COMMAND` and waits until it listens. Its settings are env alone, plus what any
// program needs of this one's environment. Its standard input is a pipe from here: it ends when that
// closes, which is also what the system does when this process is killed.
func start(ctx context.Context, name, command string, env []string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, log: new(tail), exited: make(chan struct{})}
	p.cmd = &exec.Cmd{Path: self, Args: []string{os.Args[0], command, "--exit-with-parent"}}
	p.cmd.Env = append(ambient(), env...)
	p.cmd.Stderr = p.log
	detach(p.cmd)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	address := make(chan string, 1)
	go func() {
		defer close(p.exited)
		p.read(stdout, address)
		p.err = p.cmd.Wait()
	}()

	deadline, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case p.url = <-address:
		return p, nil
	case <-p.exited:
		err = fmt.Errorf("it ended: %s", p.ending())
	case <-deadline.Done():
		err = fmt.Errorf("it did not say where it listens: %w", deadline.Err())
	}
	p.stop()
	return nil, fmt.Errorf("start %s: %w", name, err)
}

// read passes on what the process says once it listens, {"listening":"http://..."}. All else that it
// writes is its log, which is read to the end, so that the process never waits for a reader.
func (p *process) read(stdout io.Reader, address chan<- string) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var said struct {
			Listening string `json:"listening"`
		}
		if json.Unmarshal(line, &said) == nil && said.Listening != "" {
			address <- said.Listening
			break
		}
		p.log.Write(line)
	}
	io.Copy(p.log, lines)
}

// stop ends the process and returns once it has ended: first by closing its input, which lets it store
// what it holds, then by force.
func (p *process) stop() {
	p.stdin.Close()
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// ending says how an ended process ended, with the last lines that it wrote.
func (p *process) ending() string {
	status := "exit status 0"
	if p.err != nil {
		status = p.err.Error()
	}
	if last := p.log.String(); last != "" {
		return status + ": " + last
	}
	return status
}

// fleet is the processes of one demo.
type fleet struct {
	mu        sync.Mutex
	processes []*process
}

func (f *fleet) start(ctx context.Context, name, command string, env []string) (*process, error) {
	p, err := start(ctx, name, command, env)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.processes = append(f.processes, p)
	return p, nil
}

// stop ends all processes, the newest first, and returns once they have.
func (f *fleet) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ending sync.WaitGroup
	for _, p := range slices.Backward(f.processes) {
		ending.Go(p.stop)
	}
	ending.Wait()
	f.processes = nil
}

// dead returns an error when a process has ended that should be running.
func (f *fleet) dead() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ended []error
	for _, p := range f.processes {
		select {
		case <-p.exited:
			ended = append(ended, fmt.Errorf("%s ended: %s", p.name, p.ending()))
		default:
		}
	}
	return errors.Join(ended...)
}

// ambient is the part of this process's environment that a child gets. Settings are not: the demo must
// not reach a hub or a storage account that happens to be set up in the shell.
func ambient() (env []string) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch strings.ToUpper(name) {
		case "PATH", "HOME", "USERPROFILE", "TMPDIR", "TMP", "TEMP", "SYSTEMROOT", "LANG", "TZ",
			"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
			"GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "GOCOVERDIR":
			env = append(env, entry)
		}
	}
	return env
}

// tail keeps the last lines written to it, for when a process fails.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailSize = 2048 // bytes

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - tailSize; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.FieldsFunc(string(t.kept), func(r rune) bool { return r == '\n' || r == '\r' }), " | ")
}
