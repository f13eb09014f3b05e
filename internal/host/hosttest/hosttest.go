package hosttest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Options say what to run.
type Options struct {
	// Folder is the function app's: host.json, */function.json and, if it is there, local.settings.json.
	Folder string
	// Settings go before those of local.settings.json.
	Settings map[string]string
	// Output takes what the handler writes to stdout and stderr, in lines; nil drops it.
	Output io.Writer
	// Log takes what the host itself has to say; nil drops it.
	Log *slog.Logger
	// Errors is how many ends of the handler with an error stop the host; 0 is the host's own number, 3.
	Errors int
	// HTTPTimeout is how long a caller of an HTTP function waits; 0 is what Azure's load balancer has, 230 s.
	HTTPTimeout time.Duration
	// Checkpoints are, by function and partition, the sequence numbers behind which to start. Others start as
	// host.json's initialOffsetOptions say.
	Checkpoints map[string]map[string]int64
}

// Host is a running host. Its methods are safe for concurrent use.
type Host struct {
	app     *functionApp
	options Options
	handler *handler
	log     *slog.Logger
	http    *front
	stop    context.CancelFunc
	running sync.WaitGroup

	mu          sync.Mutex
	changed     chan struct{} // closed at the next change of what follows
	results     []Result
	checkpoints map[string]map[string]int64
	err         error

	hubs   map[string]*hubListener
	timers map[string]*sync.Mutex
}

// Result is what became of one invocation; a retry is an invocation of its own.
type Result struct {
	Function, ID string
	Retry        int // how often it was tried before
	Began        time.Time
	Took         time.Duration
	// Status is what the handler answered, 0 when there was no answer.
	Status int
	// Err is nil when the invocation succeeded.
	Err  error
	Logs []string
	// Source is the partition or entity that the messages came from, if any, and Numbers their sequence numbers.
	Source  string
	Numbers []int64
}

// Start starts the handler, waits until it listens, and then listens to what triggers the app's functions. The context
// bounds the start alone. The error tells everything that the host would not accept about the folder.
func Start(ctx context.Context, o Options) (*Host, error) {
	app, err := readApp(o.Folder, o.Settings)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Errors == 0 {
		o.Errors = 3
	}
	if o.HTTPTimeout == 0 {
		o.HTTPTimeout = 230 * time.Second
	}
	h := &Host{
		app: app, options: o, log: o.Log, changed: make(chan struct{}),
		checkpoints: map[string]map[string]int64{}, hubs: map[string]*hubListener{}, timers: map[string]*sync.Mutex{},
	}
	h.handler = newHandler(app, o.Output, o.Errors, func(format string, args ...any) { h.log.Warn(fmt.Sprintf(format, args...)) })
	running, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.running.Go(func() {
		if err := h.handler.run(running); err != nil {
			h.fail(err)
		}
	})
	if _, err = h.handler.await(ctx); err == nil {
		err = h.listen(ctx, running)
	}
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("start function app %s: %w", o.Folder, errors.Join(err, h.Err()))
	}
	return h, nil
}

// listen starts the listeners of all functions.
func (h *Host) listen(start, running context.Context) error {
	var err error
	if h.http, err = h.listenHTTP(running); err != nil {
		return err
	}
	for _, f := range h.app.functions {
		var run func(context.Context)
		switch f.trigger.Type {
		case "queueTrigger":
			run, err = h.listenQueue(start, f)
		case "eventHubTrigger":
			run, err = h.listenHub(start, f)
		case "serviceBusTrigger":
			run, err = h.listenBus(f)
		case "timerTrigger":
			h.timers[f.name], err = new(sync.Mutex), checkSchedule(f.trigger.Schedule)
		}
		if err != nil {
			return fmt.Errorf("function %s: %w", f.name, err)
		}
		if run != nil {
			h.running.Go(func() { run(running) })
		}
	}
	return nil
}

// Close stops the listeners, kills the handler as the host does, and returns after everything has ended. Invocations
// in flight fail.
func (h *Host) Close() error {
	h.stop()
	h.running.Wait()
	return nil
}

// Kill kills the handler without warning. Invocations in flight fail, and the host starts it again, as an error that counts.
func (h *Host) Kill(ctx context.Context) error {
	p, err := h.handler.await(ctx)
	if err == nil {
		p.kill()
	}
	return err
}

// Terminate asks the handler to end in good order, as a host does whose instance goes; it starts another one.
func (h *Host) Terminate(ctx context.Context) error {
	p, err := h.handler.await(ctx)
	if err == nil {
		err = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	return err
}

// Err is why the host stopped by itself; nil while it runs.
func (h *Host) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *Host) fail(err error) {
	h.mu.Lock()
	h.err = errors.Join(h.err, err)
	h.notify()
	h.mu.Unlock()
	h.stop()
}

// notify wakes those who wait in Await; the lock is held.
func (h *Host) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// Results are the invocations that are over, in the order of their ends.
func (h *Host) Results() []Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.results)
}

// Await waits until the condition holds. It is asked after every invocation and checkpoint, and may call the
// host's methods. The error is of the context or of the host.
func (h *Host) Await(ctx context.Context, condition func() bool) error {
	for {
		h.mu.Lock()
		changed, err := h.changed, h.err
		h.mu.Unlock()
		if condition() {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("await the host: %w", ctx.Err())
		}
	}
}

func (h *Host) record(r Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.results = append(h.results, r)
	h.notify()
}

// function finds a function by its name and its trigger's type.
func (h *Host) function(name, trigger string) (*function, error) {
	for _, f := range h.app.functions {
		if f.name == name && f.trigger.Type == trigger {
			return f, nil
		}
	}
	return nil, fmt.Errorf("there is no function %s with a %s", name, trigger)
}

// newID is a random GUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
