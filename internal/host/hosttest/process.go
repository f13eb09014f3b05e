package hosttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	pollInterval  = 25 * time.Millisecond // between two looks whether the handler listens
	exitWait      = time.Second           // for a killed process to be gone
	restartStatus = 200                   // exit status that asks for a restart that doesn't count
	errorWindow   = 30 * time.Minute      // errors that lie further apart don't add up
)

// errHandlerGone is what invocations fail with when the process ended.
var errHandlerGone = errors.New("the handler's process has ended")

// handler is the custom handler's process, which is started again when it ends, by the rules of the host
// (HttpFunctionInvocationDispatcher): exit status 0 ends it for good, 200 restarts it, and any other is an error; the third
// error stops the host.
type handler struct {
	app    *functionApp
	output io.Writer
	most   int // errors that stop the host
	note   func(format string, args ...any)

	mu      sync.Mutex
	current *process
	ready   chan struct{} // closed while current can be asked
	ended   chan struct{} // closed when there will be no other process
	err     error         // why it ended
}

// process is one run of the handler.
type process struct {
	cmd    *exec.Cmd
	url    string
	client *http.Client
	exited chan struct{}
	// spared is set before the host kills the process for a function's timeout: the end is then no error.
	spared chan struct{}
}

func newHandler(app *functionApp, output io.Writer, most int, note func(string, ...any)) *handler {
	return &handler{app: app, output: output, most: most, note: note, ready: make(chan struct{}), ended: make(chan struct{})}
}

// run keeps the handler running until ctx ends, or until it has failed too often.
func (h *handler) run(ctx context.Context) (err error) {
	defer func() {
		h.mu.Lock()
		h.err = err
		h.mu.Unlock()
		close(h.ended)
	}()
	var failed []time.Time
	for {
		again, err := h.once(ctx)
		if ctx.Err() != nil || !again && err == nil {
			<-ctx.Done()
			return nil
		}
		if err == nil {
			continue
		}
		h.note("handler: %v", err)
		now := time.Now()
		if len(failed) > 0 && now.Sub(failed[len(failed)-1]) > errorWindow {
			failed = nil
		}
		if failed = append(failed, now); len(failed) >= h.most {
			return fmt.Errorf("the host stops after %d errors of the handler: %w", len(failed), err)
		}
	}
}

// once runs the handler to its end. It says whether it is to be started again, and what was wrong.
func (h *handler) once(ctx context.Context) (again bool, err error) {
	p, err := h.start()
	if err != nil {
		return true, err
	}
	defer p.kill()
	if err := p.listens(ctx, h.app.start); err != nil {
		return true, err
	}
	h.publish(p)
	defer func() {
		if again {
			h.withdraw()
		}
	}()
	select {
	case <-ctx.Done():
		return false, nil
	case <-p.exited:
	}
	select {
	case <-p.spared:
		return true, nil
	default:
	}
	switch status := p.cmd.ProcessState.ExitCode(); status {
	case 0:
		h.note("handler: it ended with status 0, and is not started again")
		return false, nil
	case restartStatus:
		return true, nil
	default:
		return true, fmt.Errorf("it ended: %v", p.cmd.ProcessState)
	}
}

// start starts the process on a free port.
func (h *handler) start() (_ *process, err error) {
	port, err := claimPort()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			port.release()
		}
	}()
	description := h.app.host.CustomHandler.Description
	path, err := h.executable(description.DefaultExecutablePath)
	if err != nil {
		return nil, err
	}
	p := &process{url: "http://127.0.0.1:" + strconv.Itoa(port.number), exited: make(chan struct{}), spared: make(chan struct{})}
	arguments := make([]string, len(description.Arguments))
	for n, argument := range description.Arguments {
		if arguments[n], err = h.app.settings.expand(argument); err != nil {
			return nil, fmt.Errorf("host.json: arguments: %w", err)
		}
	}
	p.cmd = exec.Command(path, arguments...)
	p.cmd.Dir = h.app.folder
	if dir := description.WorkingDirectory; filepath.IsAbs(dir) {
		p.cmd.Dir = dir
	} else {
		p.cmd.Dir = filepath.Join(h.app.folder, dir)
	}
	p.cmd.Env = h.environ(port.number)
	p.cmd.WaitDelay = exitWait
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; is its mode executable?", path, err)
	}
	redirects := (func(*http.Request, []*http.Request) error)(nil)
	if h.app.host.forwards() {
		redirects = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	p.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, CheckRedirect: redirects}
	go func() {
		defer close(p.exited)
		var lines sync.WaitGroup
		lines.Go(func() { h.copyLines(stdout) })
		lines.Go(func() { h.copyLines(stderr) })
		lines.Wait()
		_ = p.cmd.Wait()
		port.release()
	}()
	return p, nil
}

// executable is the handler's file: below the folder, or on the PATH.
func (h *handler) executable(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	path := filepath.Join(h.app.folder, name)
	if _, err := os.Stat(path); err == nil {
		return filepath.Abs(path)
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("host.json: defaultExecutablePath: %s is neither in %s nor on the PATH", name, h.app.folder)
	}
	return found, nil
}

// environ is what the handler finds: all settings, and the host's own variables.
func (h *handler) environ(port int) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SYSTEMROOT"} {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	for name, value := range h.app.settings {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	id := newID()
	for _, prefix := range []string{"FUNCTIONS_CUSTOMHANDLER", "FUNCTIONS_HTTPWORKER"} {
		env = append(env, fmt.Sprintf("%s_PORT=%d", prefix, port))
	}
	return append(env, "FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+id, "FUNCTIONS_HTTPWORKER_ID="+id, "FUNCTIONS_APP_ROOT_PATH="+h.app.folder)
}

// copyLines passes on what the handler writes, a line at a time.
func (h *handler) copyLines(from io.Reader) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" && h.output != nil {
			h.mu.Lock()
			_, _ = io.WriteString(h.output, strings.TrimSuffix(line, "\n")+"\n")
			h.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// listens waits until the process answers GET / with anything at all.
func (p *process) listens(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/", nil)
		if err != nil {
			return err
		}
		resp, err := p.client.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		// Anything but a socket's error is an answer, too.
		if socket := (*net.OpError)(nil); !errors.As(err, &socket) && ctx.Err() == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.exited:
			return fmt.Errorf("it ended before it listened: %v", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("it did not listen on FUNCTIONS_CUSTOMHANDLER_PORT within initializationTimeout, %v", within)
		}
	}
}

// kill is SIGKILL, which is all the warning that a handler gets.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	select {
	case <-p.exited:
	case <-time.After(exitWait + exitWait):
	}
	p.client.CloseIdleConnections()
}

// restart kills the process for a function's timeout; run starts another.
func (p *process) restart() {
	select {
	case <-p.spared:
		return
	default:
		close(p.spared)
	}
	p.kill()
}

func (h *handler) publish(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = p
	close(h.ready)
}

func (h *handler) withdraw() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current, h.ready = nil, make(chan struct{})
}

// ends waits a second for the process to be gone, and says whether it is.
func (p *process) ends(ctx context.Context) bool {
	select {
	case <-p.exited:
		return true
	case <-time.After(exitWait):
	case <-ctx.Done():
	}
	return false
}

// over says whether the process is gone, and done whether it is gone for good.
func (p *process) over() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) done() bool { return p.over() && p.cmd.ProcessState.ExitCode() == 0 }

// await returns the running process, after waiting for it as long as the host does: four times
// initializationTimeout.
func (h *handler) await(ctx context.Context) (*process, error) {
	patience := time.NewTimer(4 * h.app.start)
	defer patience.Stop()
	for {
		h.mu.Lock()
		p, ready := h.current, h.ready
		h.mu.Unlock()
		if p != nil {
			if !p.over() || p.done() {
				return p, nil
			}
			ready = nil // its end has not been noticed yet
		}
		select {
		case <-ready:
		case <-time.After(pollInterval):
		case <-h.ended:
			return nil, errHandlerGone
		case <-patience.C:
			return nil, fmt.Errorf("the handler is not there after %v", 4*h.app.start)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
