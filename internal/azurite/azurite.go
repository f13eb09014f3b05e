// Package azurite starts Azurite, Microsoft's emulator of Blob and Queue Storage, as a child process.
// It is written for Node and installed by `make azurite`, at the versions that npm/package-lock.json
// names.
package azurite

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// ErrNotInstalled says that Azurite, or Node to run it, is not there.
var ErrNotInstalled = errors.New("no Azurite is installed: run `make azurite` (it needs Node with npm)")

// The account that every storage emulator has.
// https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
const (
	account = "devstoreaccount1"
	key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

const (
	startTimeout = time.Minute     // Node loads some 30 MB of source first
	closeTimeout = 5 * time.Second // from closing politely to killing
)

// launcher runs the script named by its first argument, and ends when its standard input does.
//
//go:embed launch.js
var launcher string

// Server is a running Azurite. Its methods are safe for concurrent use.
type Server struct {
	command    *exec.Cmd
	input      io.Closer
	ended      chan struct{} // closed when the process is gone
	connection string
	close      sync.Once
}

// Start starts Azurite on random ports of 127.0.0.1 and returns once it listens, which takes a second
// or two; ctx bounds that start alone. It keeps what is stored in dir, or in memory if dir is "". It
// ends by Close, or when this process ends, in whatever way: the end of a pipe tells it so.
func Start(ctx context.Context, dir string) (*Server, error) {
	script, err := Find()
	if err != nil {
		return nil, err
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("find node: %w: %w", err, ErrNotInstalled)
	}
	arguments := []string{"-e", launcher, "--", script, "--silent", "--skipApiVersionCheck", "--disableTelemetry"}
	for _, service := range []string{"blob", "queue", "table"} {
		arguments = append(arguments, "--"+service+"Host", "127.0.0.1", "--"+service+"Port", "0")
	}
	if dir == "" {
		arguments = append(arguments, "--inMemoryPersistence")
	} else {
		arguments = append(arguments, "--location", dir)
	}
	command := exec.Command(node, arguments...)
	command.Dir = os.TempDir()
	var stderr tail
	command.Stderr = &stderr
	s := &Server{command: command, ended: make(chan struct{})}
	input, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	s.input = input
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	listening := make(chan map[string]string, 1)
	go func() {
		defer close(s.ended)
		readEndpoints(stdout, listening)
		command.Wait() // how it ended matters only before it listened: see stderr
	}()

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case endpoints := <-listening:
		s.connection = fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s/%s;QueueEndpoint=%s/%s;",
			account, key, endpoints["Blob"], account, endpoints["Queue"], account)
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("start Azurite: %s: %s", command.ProcessState, stderr.String())
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("start Azurite: wait until it listens: %w", ctx.Err())
	}
}

// ConnectionString returns what opens the Blob and Queue services with every right.
func (s *Server) ConnectionString() string { return s.connection }

// Close ends Azurite and returns when it has ended. What it kept in a directory is saved.
func (s *Server) Close() error {
	s.close.Do(func() {
		s.input.Close()
		select {
		case <-s.ended:
		case <-time.After(closeTimeout):
			s.command.Process.Kill()
		}
	})
	<-s.ended
	return nil
}

// Find returns the path of Azurite's script: below the folder AZURITE_HOME if that is set, else in
// .azurite beside the nearest go.mod at or above the working directory. Else it is ErrNotInstalled.
func Find() (string, error) {
	if home := os.Getenv("AZURITE_HOME"); home != "" {
		script, err := findIn(home)
		if err != nil {
			return "", fmt.Errorf("AZURITE_HOME=%s: %w", home, err)
		}
		return script, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find Azurite: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return findIn(filepath.Join(dir, ".azurite"))
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", ErrNotInstalled
		}
		dir = parent
	}
}

func findIn(home string) (string, error) {
	script := filepath.Join(home, "node_modules", "azurite", "dist", "src", "azurite.js")
	if _, err := os.Stat(script); err != nil {
		return "", ErrNotInstalled
	}
	return filepath.Abs(script)
}

var listens = regexp.MustCompile(`^Azurite (Blob|Queue|Table) service is successfully listening at (http://\S+)$`)

// readEndpoints sends the address of each service once all of them listen, and reads on until the
// end, so that Azurite never waits for a reader.
func readEndpoints(stdout io.Reader, listening chan<- map[string]string) {
	endpoints := make(map[string]string)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if m := listens.FindStringSubmatch(lines.Text()); m != nil {
			endpoints[m[1]] = m[2]
			if len(endpoints) == 3 {
				listening <- endpoints
				break
			}
		}
	}
	io.Copy(io.Discard, stdout)
}

// tail keeps the last 2 KiB that are written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-2<<10):]
	return len(p), nil
}

// String returns what was kept as one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.text)), " ")
}
