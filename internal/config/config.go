// Package config reads the app settings of the worker, the invoker and the push program: environment
// variables, by the names and defaults that the original Persistor had, and new ones beside them. SERVICE_TYPE
// chooses between an Event Hub and Service Bus, and BINDING_SERVICE for the push program; the settings of a service
// not chosen are not looked at.
//
// Settings are read and checked all at once: [ReadWorker], [ReadInvoker] and [ReadPush] return an [*Error] with every
// missing and every bad setting, and secrets print as "[redacted]" wherever they turn up. The tables in
// settings.go are what is read; docs/settings.md is written from the same tables.
package config

import (
	"cmp"
	"log/slog"
	"strings"
	"time"

	"persistor/internal/work"
)

// Lookup finds an environment variable, as [os.LookupEnv] does.
type Lookup func(name string) (value string, ok bool)

// Worker is what the worker runs by.
type Worker struct {
	Server Server
	// Service says which of Hub and Queue is drained; the other one is zero, and with Queue Checkpoint is.
	Service    Service
	Hub        Hub
	Queue      Queue
	Checkpoint Checkpoint
	Storage    Storage
	Record     Record
	Batch      Batch
	Append     Append
	Pull       Pull
	// Timeout is how long the platform lets one call last. Plan with [Worker.Budget].
	Timeout time.Duration
	// Concurrency is how many units the worker takes on at once; at least 1.
	Concurrency int
	// MemoryLimit bounds the bytes of messages held at once by all loops of the process, received
	// ahead, gathered or being stored; at least twice Batch.Bytes.
	MemoryLimit int
	Telemetry   Telemetry
	// Warnings are for the log: settings that were accepted and don't do what their reader may think.
	Warnings []string
}

// Invoker is what the invoker runs by.
type Invoker struct {
	Server Server
	// Service says which of Hub and Queue is drained; the other one is zero, and with Queue Checkpoint is.
	Service    Service
	Hub        Hub
	Queue      Queue
	Checkpoint Checkpoint
	// Storage is where the lease of the run under way is kept, which an Event Hub always has. It is zero for
	// a Service Bus entity whose invoker knows no storage: its runs don't exclude each other. It has no
	// Folder.
	Storage Storage
	// Targets are the workers' functions, to be used in turn; at least one.
	Targets []Target
	// Delay staggers the starts of calls; it may be 0.
	Delay time.Duration
	// Timeout is how long one invocation may last. Plan with [Invoker.Budget].
	Timeout time.Duration
	// Concurrency is how many calls to workers are under way at once; at least 1.
	Concurrency int
	// Units is N of runs whose request doesn't say it; 0 leaves it to the planner.
	Units int
	// Runs says what becomes of runs' documents and where waves are asked for.
	Runs      Runs
	Telemetry Telemetry
	Warnings  []string
}

// Runs is how runs are kept, and how those of several waves go on.
type Runs struct {
	// Queue is the queue of Azure Storage, in Storage's account, by whose messages waves are asked for under the
	// Functions host; "" for none.
	Queue string
	// QueueService is the URI of its queue service, in the identity form of Storage's connection; "" where it
	// follows from that of the blob service.
	QueueService string
	Age          time.Duration // that the document of a run that is over stays
	Count        int           // documents that stay
	// Shared tells that the workers' settings name the same storage, as far as can be told: it is not the checkpoints'.
	Shared bool
}

// Server is how a program is reached.
type Server struct {
	// Address is the host and port to listen on; port 0 takes a free one.
	Address string
	// Hosted tells that the Azure Functions host runs the program, as its custom handler.
	Hosted bool
	// Key is what callers have to present as x-functions-key; "" lets everybody in.
	Key      Secret
	LogLevel slog.Level
}

// Service is a kind of persistor, as SERVICE_TYPE names it.
type Service string

const (
	EventHub   Service = "EVENT_HUB_PULL"
	ServiceBus Service = "SERVICE_BUS_PULL"
)

// Hub is the Event Hub that is drained.
type Hub struct {
	Connection    Connection
	Name          string
	ConsumerGroup string
	// CustomEndpoint is the host, with or without a port, to connect to in place of the namespace's own; "" for none.
	CustomEndpoint string
}

// Checkpoint is where it is kept how far each partition is stored.
type Checkpoint struct {
	Connection Connection
	Container  string
	// Every is how many messages lie between two checkpoints of a partition at least, but for the last one of a loop.
	Every int
}

// Storage is where blobs go.
type Storage struct {
	Connection      Connection
	Container       string
	CreateContainer bool
	Folder          string // first part of every blob's name
}

// complete reports whether the settings say where it is.
func (s Storage) complete() bool { return !s.Connection.IsZero() && s.Container != "" }

// Record is how a message is written.
type Record struct {
	Metadata  bool
	Separator string // "\n" or "\n\n"
}

// Batch is when the messages gathered become a blob: the first limit reached wins.
type Batch struct {
	Count int
	Bytes int
	Age   time.Duration
}

// Append is which batches become one blob.
type Append struct {
	Append   bool // several do
	ByMinute bool // those of one minute; whatever Append says
	Bytes    int  // the length at which a blob takes no more of them
}

// Pull is how a loop receives. The zero of each field but Start leaves the choice to the loop.
type Pull struct {
	Start           work.From // of a partition without a checkpoint; zero for Service Bus
	IdleTimeout     time.Duration
	ReceiveDuration time.Duration
	Prefetch        int // events received ahead; for Service Bus, messages that one receive call asks for
	ReceiveBatch    int // events that one receive call asks for at most; zero for Service Bus
}

// Budget is how long one call may work: the timeout less a tenth of it, 10 s at most, in which the
// answer travels.
func (w Worker) Budget() time.Duration { return budget(w.Timeout) }

// Budget is the same for one invocation.
func (i Invoker) Budget() time.Duration { return budget(i.Timeout) }

// Source says which source's runs exclude each other: the namespace, and the hub with its consumer group or the
// entity's path, in lower case, since the services don't tell cases apart.
func (i Invoker) Source() string { return sourceOf(i.Service, i.Hub, i.Queue) }

// Source is the same for the worker's units.
func (w Worker) Source() string { return sourceOf(w.Service, w.Hub, w.Queue) }

func sourceOf(service Service, hub Hub, queue Queue) string {
	if service == ServiceBus {
		return queue.Connection.Namespace() + "/" + strings.ToLower(queue.Path())
	}
	return hub.Connection.Namespace() + "/" + strings.ToLower(hub.Name+"/"+hub.ConsumerGroup)
}

func budget(timeout time.Duration) time.Duration { return timeout - min(timeout/10, 10*time.Second) }

// ReadWorker reads the worker's settings. The error is an [*Error].
func ReadWorker(lookup Lookup) (Worker, error) {
	w := Worker{Server: Server{Address: workerAddress}}
	var topic bool
	r := reader{lookup: lookup, service: &w.Service}
	var sent exports
	r.read(w.settings(&topic, &sent))

	folder := ""
	switch w.Service {
	case EventHub:
		r.checkHub(&w.Hub)
		folder = w.Hub.Name
	case ServiceBus:
		r.checkQueue(&w.Queue, topic)
		folder = w.Queue.folder()
	}
	w.Storage.Folder = cmp.Or(w.Storage.Folder, folder)
	r.checkStorage(&w.Storage.Connection)
	if w.Service == EventHub {
		r.checkCheckpoint(&w.Checkpoint, w.Storage.Connection)
	}
	r.checkAccess(w.Server)
	r.checkTelemetry(&w.Telemetry, sent, "worker", w.Server.Hosted)
	if w.MemoryLimit == 0 {
		w.MemoryLimit = max(defaultMemory, 4*w.Batch.Bytes)
	}
	if w.MemoryLimit < 2*w.Batch.Bytes {
		r.problem("MEMORY_LIMIT", "expected at least %s: one batch is received while another is stored, of %s each by BATCH_BYTES", binary(2*w.Batch.Bytes), binary(w.Batch.Bytes))
	}
	w.Warnings = r.warnings
	if err := r.err(); err != nil {
		return Worker{}, err
	}
	return w, nil
}

// ReadInvoker reads the invoker's settings. The error is an [*Error].
func ReadInvoker(lookup Lookup) (Invoker, error) {
	i := Invoker{Server: Server{Address: invokerAddress}}
	var topic bool
	r := reader{lookup: lookup, service: &i.Service}
	var sent exports
	r.read(i.settings(&topic, &sent))

	switch i.Service {
	case EventHub:
		r.checkHub(&i.Hub)
		if i.Checkpoint.Connection.IsZero() && !r.blames(checkpointSetting) || i.Storage.complete() {
			r.checkStorage(&i.Storage.Connection)
		}
		r.checkCheckpoint(&i.Checkpoint, i.Storage.Connection)
		i.Runs.Shared = i.Storage.complete()
		if !i.Storage.complete() {
			i.Storage = Storage{Connection: i.Checkpoint.Connection, Container: i.Checkpoint.Container, CreateContainer: true}
		}
	case ServiceBus:
		r.checkQueue(&i.Queue, topic)
		if i.Runs.Shared = i.Storage.complete(); i.Runs.Shared {
			r.checkStorage(&i.Storage.Connection)
		} else {
			i.Storage = Storage{}
			r.warn("runs don't exclude each other and none are kept, for there is no storage to keep a lease in: set %s and %s as the workers have them", storageSetting, containerSetting)
		}
	}
	r.checkQueueService(i.Runs)
	r.checkAccess(i.Server)
	r.checkTelemetry(&i.Telemetry, sent, "invoker", i.Server.Hosted)
	r.checkTargets(i.Targets, i.Server.Key)
	i.Warnings = r.warnings
	if err := r.err(); err != nil {
		return Invoker{}, err
	}
	return i, nil
}
