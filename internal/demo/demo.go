// Package demo shows Persistor at work on one machine: an emulated Event Hub or Service Bus queue with
// realistic telemetry in it, an invoker and several workers as processes of their own, and an audit that
// compares what was stored with what was published.
package demo

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/azurite"
	"persistor/internal/fanout"
	"persistor/internal/store"
)

// The limits of what a demo may be asked for. An event takes about 1.5 KB of memory in the emulator.
const (
	MaxEvents     = 5_000_000
	MaxPartitions = 1024
	MaxSessions   = 100_000
	MaxWorkers    = 64
)

// Options say what to show and where.
type Options struct {
	Source     string // one of Sources
	Events     int    // 1 to MaxEvents; those of Service Bus are called messages
	Partitions int    // 1 to MaxPartitions; of an Event Hub alone
	Sessions   int    // 1 to MaxSessions; of a queue with sessions alone
	Workers    int    // 1 to MaxWorkers

	// Storage is where blobs go: "dir" is the folder Out, "azurite" an Azurite of the demo's own, and
	// anything else a storage connection string.
	Storage string
	// Out is the folder for "dir": a new one, an empty one or an earlier demo's, which is emptied.
	Out string
	// Keep leaves the emulator and all processes running after the audit, until the context ends.
	Keep bool

	// Progress is where to tell what is going on; Width is that of the terminal behind it in characters,
	// 0 when there is none. Report is where the tables go that people read at the end.
	Progress io.Writer
	Width    int
	Report   io.Writer
}

// Result is what came of a demo: the document of --json.
type Result struct {
	Source   string `json:"source"`
	Messages int64  `json:"messages"`
	Blobs    int64  `json:"blobs"`
	Bytes    int64  `json:"bytes"`
	Sessions int64  `json:"sessions,omitempty"`
	// ElapsedSeconds is the whole demo, the others its parts. Publishing ends when everything is where it is
	// drained from: in the dead-letter queue, for one.
	ElapsedSeconds float64          `json:"elapsed_seconds"`
	PublishSeconds float64          `json:"publish_seconds"`
	DrainSeconds   float64          `json:"drain_seconds"`
	Storage        string           `json:"storage"`
	Units          []fanout.UnitRow `json:"units"`
	Audit          audit.Report     `json:"audit"`
}

// Check says which option is out of its range.
func (o Options) Check() error {
	if o.source() == nil {
		return fmt.Errorf("--source is %q, expected one of %s", o.Source, Sources())
	}
	for _, limit := range []struct {
		flag      string
		got, most int
	}{
		{"--events", o.Events, MaxEvents},
		{"--partitions", o.Partitions, MaxPartitions},
		{"--sessions", o.Sessions, MaxSessions},
		{"--workers", o.Workers, MaxWorkers},
	} {
		if limit.got < 1 || limit.got > limit.most {
			return fmt.Errorf("%s is %d, expected 1 to %d", limit.flag, limit.got, limit.most)
		}
	}
	if plain := !strings.Contains(o.Storage, "="); plain && o.Storage != "dir" && o.Storage != "azurite" {
		return fmt.Errorf("--storage is %q, expected dir, azurite, env or a storage connection string", o.Storage)
	}
	return nil
}

// demo is one run: what is open, and what is known so far.
type demo struct {
	Options
	source    source
	setup     setup
	emulator  *emulator.Emulator
	location  string // PERSISTOR_STORAGE_CONNECTION_STRING
	container string
	shown     string // where the blobs are, as people may see it
	store     store.Store

	key       string // WORKER_KEY
	fleet     fleet
	workers   []*process
	invoker   *process
	telemetry Telemetry
	published *audit.Published
	// background runs something until the end of the demo, which waits for it.
	background func(func(context.Context))
}

// Run shows everything once and returns what came of it. It returns after all that it started has ended.
// An error says that the demo could not be finished; whether what is stored is complete is in the result's
// audit.
func Run(ctx context.Context, o Options) (result Result, err error) {
	began := time.Now()
	d := &demo{
		Options:   o,
		source:    o.source(),
		key:       crand.Text(),
		published: audit.NewPublished(o.Events, Number),
	}
	d.setup = d.source.setup()
	d.telemetry = Telemetry{Seed: rand.Uint64(), Machines: d.setup.machines}
	result.Source = o.Source
	closeStorage, err := d.openStorage(ctx)
	if err != nil {
		return result, err
	}
	defer closeStorage()

	d.emulator, err = emulator.Start(d.setup.namespace)
	if err != nil {
		return result, fmt.Errorf("start emulator: %w", err)
	}
	defer d.emulator.Close()
	d.logf("%s, emulated on %s", d.setup.title, d.emulator.Address())

	var background sync.WaitGroup
	defer background.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	d.background = func(f func(context.Context)) { background.Go(func() { f(ctx) }) }

	// The processes start while events are being published.
	defer d.fleet.stop()
	preparing, failing := errgroup.WithContext(ctx)
	preparing.Go(func() error { return d.startFleet(failing) })
	preparing.Go(func() error {
		err := d.publish(failing)
		if err == nil {
			err = d.prepare(failing)
		}
		result.PublishSeconds = time.Since(began).Seconds()
		return err
	})
	if err := preparing.Wait(); err != nil {
		return result, err
	}
	d.logf("%d workers and an invoker, each a process of its own: %s/api/invoke", len(d.workers), d.invoker.url)

	stock, err := d.source.stock(d.emulator, d.published)
	if err != nil {
		return result, err
	}
	if err := d.drain(ctx, &result, stock.parts); err != nil {
		return result, err
	}
	if result.Audit, err = audit.Run(ctx, d.store, d.setup.folder, stock.expect); err != nil {
		return result, err
	}
	result.Storage = d.shown
	result.ElapsedSeconds = time.Since(began).Seconds()
	if err := d.report(ctx, result); err != nil {
		return result, err
	}
	if d.Keep {
		d.stay(ctx)
	}
	return result, nil
}

// openStorage makes the place for the blobs ready; the function returned ends what it started.
func (d *demo) openStorage(ctx context.Context) (closing func(), err error) {
	closing = func() {}
	d.container = "blobs"
	switch d.Storage {
	case "dir":
		dir, err := prepare(d.Out)
		if err != nil {
			return nil, err
		}
		d.location, d.shown = fileURL(dir), filepath.Join(d.Out, d.container)
	case "azurite":
		server, err := azurite.Start(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("start Azurite: %w", err)
		}
		closing = func() { server.Close() }
		d.location, d.shown = server.ConnectionString(), "Azurite, container "+d.container
	default:
		// The account may be anyone's: a container of this demo's own disturbs nothing in it.
		d.container = "persistor-demo-" + time.Now().UTC().Format("20060102t150405z")
		d.location, d.shown = d.Storage, "container "+d.container
	}
	d.store, err = store.Open(ctx, store.Options{Location: d.location, Container: d.container, Create: true})
	if err != nil {
		closing()
		return nil, err
	}
	return closing, nil
}

// startFleet starts the workers, and then the invoker, which has to know where they are.
func (d *demo) startFleet(ctx context.Context) error {
	d.workers = make([]*process, d.Options.Workers)
	urls := make([]string, len(d.workers))
	starting, failing := errgroup.WithContext(ctx)
	for i := range d.workers {
		starting.Go(func() (err error) {
			d.workers[i], err = d.fleet.start(failing, fmt.Sprintf("worker %d", i+1), "worker", d.settings(
				"PERSISTOR_CONTAINER_NAME="+d.container,
				"GET_METADATA=TRUE",
			))
			if err == nil {
				urls[i] = d.workers[i].url + "/api/pull"
			}
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	var err error
	d.invoker, err = d.fleet.start(ctx, "invoker", "invoker", d.settings(
		"FUNC_TO_INVOKE="+strings.Join(urls, ","),
		"DELAY_BETWEEN_FUNCS=0",
	))
	return err
}

// settings are those that worker and invoker have in common, and more.
func (d *demo) settings(more ...string) []string {
	return slices.Concat(d.setup.settings, []string{
		d.setup.connection + "=" + d.emulator.ConnectionString(),
		"PERSISTOR_STORAGE_CONNECTION_STRING=" + d.location,
		"EVENT_HUB_CHECKPOINT_CONTAINER=" + d.container + "-checkpoints",
		"PERSISTOR_CREATE_CONTAINER=TRUE",
		"WORKER_KEY=" + d.key,
		"LISTEN_ADDRESS=127.0.0.1:0",
		"LOG_LEVEL=WARN",
	}, more)
}

// stay leaves everything running until the context ends.
func (d *demo) stay(ctx context.Context) {
	d.logf("\nStill running, until Ctrl-C. To publish something and have it stored:")
	d.logf("  persistor publish FILE %s --connection-string '%s'", d.setup.publish, d.emulator.ConnectionString())
	d.logf("  curl -X POST -H 'x-functions-key: %s' '%s'", d.key, d.invocation())
	<-ctx.Done()
}

// fileURL is a folder as a store's location.
func fileURL(dir string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
}

func (d *demo) logf(format string, args ...any) { fmt.Fprintf(d.Progress, format+"\n", args...) }
