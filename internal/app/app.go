// Package app makes the programs out of their parts. It alone knows every part.
//
//	settings --> config --.
//	                      v
//	worker:  api.NewWorker --> HubDrainer ----> pull.Partition --> eventhub.Source     (Event Hubs)
//	                     |                           |  '--------> checkpoints         (blobs or files)
//	                     |                           '-----------> store               (blobs)
//	                     '---> QueueDrainer --> pull.Queue ------> servicebus.Receiver (Service Bus)
//	                                            pull.Session ----> servicebus.Session
//	                                                 '-----------> store
//	                     '--> tracker -------> ledger -----------> store               (of tracked units)
//	invoker: api.NewInvoker --> runner --> runLock -----------> store               (the lease of a run)
//	                     |           '--> fanout.Dispatcher --> POST to workers
//	                     |           |     '--> planner ------> eventhub.Hub or servicebus.Entity
//	                     |           '--> backfill.Engine       (keeps the run's document)
//	                     '--> runs -----> backfill.Engine ----> ledger --> store    (documents)
//	                                       |--> runLock, fanout.Dispatcher, as above
//	                                       '--> chain --------> a storage queue, or this process
//	push:    host.Handler --> push.Hub ---> pull.Partition           (an Event Hub's trigger)
//	                     '--> push.Queue -> pull.Queue               (Service Bus's)
//	                     '--> push.Grid                              (Event Grid's)
//	                              '-------> store
//
// Under the Functions host, host.Handler stands before either surface, and makes calls of it from those invocations
// of HTTP functions that the host does not forward; an invoker's timer and queue it brings to the runner.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2/checkpoints"

	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/host"
	"persistor/internal/pull/eventhub"
	"persistor/internal/store"
	"persistor/internal/telemetry"
)

// Program is a worker, an invoker or a push program, ready to run.
type Program struct {
	Handler http.Handler
	// Log is what the program logs to.
	Log     *slog.Logger
	address string
	hosted  bool // by the Functions host
	drain   time.Duration
	// background, unless nil, runs beside the calls until its context ends, and then returns within drain.
	background func(context.Context)
	close      func(context.Context) error
}

// Run listens, says where on stdout in one line of JSON, {"listening":"http://HOST:PORT"}, and answers
// calls until ctx ends; then it stops taking calls, waits for those in flight to store what they hold,
// and returns.
func (p *Program) Run(ctx context.Context, stdout io.Writer) error {
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; set LISTEN_ADDRESS to a free address", p.address, errors.Unwrap(err))
	}
	line, err := json.Marshal(map[string]string{"listening": "http://" + listener.Addr().String()})
	if err != nil {
		return fmt.Errorf("say where it listens: %w", err)
	}
	fmt.Fprintf(stdout, "%s\n", line)
	return p.serve(ctx, listener)
}

// serve answers calls until ctx ends.
func (p *Program) serve(ctx context.Context, l net.Listener) error {
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(ctx)
	defer func() { stop(); <-ended }()
	go func() {
		defer close(ended)
		if p.background != nil {
			p.background(ctx)
		}
	}()
	return api.Serve(ctx, l, telemetry.Handler(p.Handler), p.drain)
}

// Close gives back what the program holds, as far as that can be done while ctx lasts. It is called after
// Run has returned.
func (p *Program) Close(ctx context.Context) error { return within(ctx, p.close) }

// Exit statuses of the programs.
const (
	ExitOK       = 0
	ExitFailed   = 1 // the program could not start or work
	ExitSettings = 2 // its settings are wrong
	// ExitRestart is what an orderly end has under the Functions host, which starts a custom handler that ended with 0
	// never again, one that ended with 200 at once, and counts every other end as one of three errors that it takes
	// (azure-functions-host: WorkerProcess.OnProcessExited, HttpFunctionInvocationDispatcher).
	ExitRestart = 200
)

// Main runs a program from its settings to its end, and returns the exit status. SIGTERM and Ctrl-C end
// it in good order. Problems with the settings go to stderr, everything else to the log on stdout, where
// the Functions host takes lines for information (lines on stderr it takes for errors).
func Main(ctx context.Context, open func(context.Context, config.Lookup, io.Writer) (*Program, error)) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	program, err := open(ctx, os.LookupEnv, os.Stdout)
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
		fmt.Fprintln(os.Stderr, wrong)
		return ExitSettings
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "persistor:", err)
		return ExitFailed
	}
	err = program.Run(ctx, os.Stdout)
	closeWithin(program.Close, 5*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, "persistor:", err)
		return ExitFailed
	}
	if program.hosted {
		return ExitRestart
	}
	return ExitOK
}

// serve is what a program answers with: its HTTP surface, and under the Functions host its functions, too. Those
// without HTTP are served there alone, since the host guards them.
func serve(s config.Server, surface http.Handler, functions map[string]host.Function, log *slog.Logger) http.Handler {
	if !s.Hosted {
		return surface
	}
	return host.Handler(functions, surface, log)
}

// newLog logs lines of JSON, as the Functions host and every log collector read them.
func newLog(w io.Writer, level slog.Level, program string) *slog.Logger {
	return slog.New(telemetry.LogHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))).With("program", program)
}

// openHub connects to the hub, with its checkpoints.
func openHub(ctx context.Context, hub config.Hub, at config.Checkpoint, prefetch, prefetchBytes int) (*eventhub.Hub, error) {
	checkpoints, err := openCheckpoints(ctx, at)
	if err != nil {
		return nil, err
	}
	return connectHub(hub, checkpoints, prefetch, prefetchBytes)
}

func connectHub(hub config.Hub, checkpoints eventhub.Checkpoints, prefetch, prefetchBytes int) (*eventhub.Hub, error) {
	token, err := hub.Connection.TokenCredential()
	if err != nil {
		return nil, fmt.Errorf("connect to Event Hub %s: %w", hub.Name, err)
	}
	return eventhub.Connect(eventhub.Options{
		ConnectionString: hub.Connection.ConnectionString.Reveal(),
		Namespace:        hub.Connection.FullyQualifiedNamespace,
		Credential:       token,
		EventHub:         hub.Name,
		ConsumerGroup:    hub.ConsumerGroup,
		CustomEndpoint:   hub.CustomEndpoint,
		Checkpoints:      checkpoints,
		Prefetch:         prefetch,
		PrefetchBytes:    prefetchBytes,
	})
}

// openCheckpoints opens the container or the directory of the checkpoints, and makes it when it is
// missing: unlike the one for blobs it holds nothing that a misspelt name could scatter.
func openCheckpoints(ctx context.Context, at config.Checkpoint) (eventhub.Checkpoints, error) {
	opened, err := openStore(ctx, at.Connection, at.Container, true)
	if err != nil {
		return nil, fmt.Errorf("open checkpoints (EVENT_HUB_CHECKPOINT_CONTAINER): %w", err)
	}
	return checkpointsIn(opened)
}

// checkpointsIn are those that are kept in a container or a directory.
func checkpointsIn(opened store.Store) (eventhub.Checkpoints, error) {
	switch s := opened.(type) {
	case *store.Azure:
		kept, err := checkpoints.NewBlobStore(s.Container(), nil)
		return patientCheckpoints{sharedCheckpoints{kept}}, err
	case *store.Dir:
		return eventhub.DirCheckpoints(s.Path()), nil
	}
	return nil, fmt.Errorf("open checkpoints: %T can't keep them", opened)
}

func openStore(ctx context.Context, c config.Connection, container string, create bool) (store.Store, error) {
	token, err := c.TokenCredential()
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Options{Location: c.Location(), Credential: token, Container: container, Create: create})
}
