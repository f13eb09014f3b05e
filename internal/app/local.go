package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"persistor/internal/config"
)

// localDefaults are settings that a local invoker and its worker have where lookup gives none: the worker takes
// several units at once, since it is alone, and has memory for them.
var localDefaults = map[string]string{
	"WORKER_CONCURRENCY": "4", "MEMORY_LIMIT": "256MiB", "DELAY_BETWEEN_FUNCS": "0", "LOG_LEVEL": "warn",
}

// OpenLocal runs an invoker with one worker in this process, at loopback ports chosen by the system, and returns
// when both listen: the invoker at url, for callers who bring along the key, which is made up for each call. The settings
// are a worker's; where they say more than one takes on its own, such as FUNC_TO_INVOKE, it is ignored. Of runs it
// carries out those that are begun, retried or resumed there, and takes up no others: to look at them changes none. Log lines go
// to logs. ctx bounds the start and all that is done later; when it ends, what is under way stores what it holds.
// close does the same, waits for it as long as its ctx lasts, and gives everything back; it is called once. The error
// is a *config.Error when the settings are wrong.
func OpenLocal(ctx context.Context, lookup config.Lookup, logs io.Writer) (url, key string, close func(context.Context) error, err error) {
	key = rand.Text()
	logs = &sharedWriter{w: logs}
	running, stop := context.WithCancel(ctx)
	var programs []*local
	close = func(ctx context.Context) (err error) {
		stop()
		for i := len(programs) - 1; i >= 0; i-- { // the invoker first, which calls the worker
			err = errors.Join(err, programs[i].wait(ctx))
		}
		return err
	}
	worker, err := startLocal(running, OpenWorker, localSettings(lookup, key, ""), logs)
	if err != nil {
		stop()
		return "", "", nil, err
	}
	programs = append(programs, worker)
	invoker, err := startLocal(running, openFreshInvoker, localSettings(lookup, key, worker.url+"/api/pull"), logs)
	if err != nil {
		closeWithin(close, 5*time.Second)
		return "", "", nil, err
	}
	programs = append(programs, invoker)
	return invoker.url, key, close, nil
}

// openFreshInvoker is OpenInvoker for one that takes up no runs of others.
func openFreshInvoker(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	return openInvoker(ctx, lookup, logs, func(p *invokerParts) { p.fresh = true })
}

// localSettings are settings with what makes a local program of one put before them.
func localSettings(lookup config.Lookup, key, worker string) config.Lookup {
	set := map[string]string{
		"WORKER_KEY": key, "FUNC_TO_INVOKE": worker, "LISTEN_ADDRESS": "127.0.0.1:0",
		"PORT": "", "FUNCTIONS_CUSTOMHANDLER_PORT": "", "PERSISTOR_SCHEDULE": "", "PERSISTOR_QUEUE": "",
	}
	return func(name string) (string, bool) {
		if value, ok := set[name]; ok {
			return value, value != ""
		}
		if value, ok := lookup(name); ok && value != "" {
			return value, ok
		}
		value, ok := localDefaults[name]
		return value, ok
	}
}

// local is a program that runs in this process.
type local struct {
	program *Program
	url     string
	served  chan error
}

func startLocal(ctx context.Context, open func(context.Context, config.Lookup, io.Writer) (*Program, error), lookup config.Lookup, logs io.Writer) (*local, error) {
	program, err := open(ctx, lookup, logs)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", program.address)
	if err != nil {
		closeWithin(program.Close, time.Second)
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	l := &local{program: program, url: "http://" + listener.Addr().String(), served: make(chan error, 1)}
	go func() { l.served <- program.serve(ctx, listener) }()
	return l, nil
}

// wait waits for the program's end, which was asked for, and gives back what it holds.
func (l *local) wait(ctx context.Context) error {
	select {
	case err := <-l.served:
		return errors.Join(err, l.program.Close(ctx))
	case <-ctx.Done():
		return fmt.Errorf("stop: %w", context.Cause(ctx))
	}
}

// sharedWriter lets two programs write lines to one place.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
