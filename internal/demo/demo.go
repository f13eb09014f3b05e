// Package demo shows Persistor at work on one machine: an emulated Event Hub with realistic telemetry in
// it, an invoker and several workers as processes of their own, and an audit that compares what was stored
// with what was published.
package demo

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/azurite"
	"persistor/internal/fanout"
	"persistor/internal/store"
	"persistor/internal/work"
)

// The limits of what a demo may be asked for. An event takes about 1.5 KB of memory, the emulator's log.
const (
	MaxEvents     = 5_000_000
	MaxPartitions = 1024
	MaxWorkers    = 64
)

// hubName is what the demo calls its Event Hub, and so the folder of the blobs.
const hubName = "telemetry"

// Options say what to show and where.
type Options struct {
	Events     int // 1 to MaxEvents
	Partitions int // 1 to MaxPartitions
	Workers    int // 1 to MaxWorkers

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
	Messages int64 `json:"messages"`
	Blobs    int64 `json:"blobs"`
	Bytes    int64 `json:"bytes"`
	// ElapsedSeconds is the whole demo, the others its parts.
	ElapsedSeconds float64          `json:"elapsed_seconds"`
	PublishSeconds float64          `json:"publish_seconds"`
	DrainSeconds   float64          `json:"drain_seconds"`
	Storage        string           `json:"storage"`
	Units          []fanout.UnitRow `json:"units"`
	Audit          audit.Report     `json:"audit"`
}

// Check says which option is out of its range.
func (o Options) Check() error {
	for _, limit := range []struct {
		flag      string
		got, most int
	}{
		{"--events", o.Events, MaxEvents},
		{"--partitions", o.Partitions, MaxPartitions},
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
	hub       *emulator.Emulator
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
}

// Run shows everything once and returns what came of it. It returns after all that it started has ended.
// An error says that the demo could not be finished; whether what is stored is complete is in the result's
// audit.
func Run(ctx context.Context, o Options) (result Result, err error) {
	began := time.Now()
	d := &demo{
		Options:   o,
		key:       crand.Text(),
		telemetry: Telemetry{Seed: rand.Uint64()},
		published: audit.NewPublished(o.Events, Number),
	}
	closeStorage, err := d.openStorage(ctx)
	if err != nil {
		return result, err
	}
	defer closeStorage()

	d.hub, err = emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: hubName, Partitions: o.Partitions}}})
	if err != nil {
		return result, fmt.Errorf("start emulator: %w", err)
	}
	defer d.hub.Close()
	d.logf("Event Hub %q with %d partitions, emulated on %s", hubName, o.Partitions, d.hub.Address())

	// The processes start while events are being published.
	defer d.fleet.stop()
	var held map[string]work.Range
	preparing, failing := errgroup.WithContext(ctx)
	preparing.Go(func() error { return d.startFleet(failing) })
	preparing.Go(func() (err error) {
		held, err = d.publish(failing)
		result.PublishSeconds = time.Since(began).Seconds()
		return err
	})
	if err := preparing.Wait(); err != nil {
		return result, err
	}
	d.logf("%d workers and an invoker, each a process of its own: %s/api/invoke", len(d.workers), d.invoker.url)

	if err := d.drain(ctx, &result, held); err != nil {
		return result, err
	}
	expect := audit.Expectation{Partitions: held, Contents: d.published}
	if result.Audit, err = audit.Run(ctx, d.store, hubName, expect); err != nil {
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
	return append([]string{
		"SERVICE_TYPE=EVENT_HUB_PULL",
		"EVENT_HUB_CONN_STRING=" + d.hub.ConnectionString(),
		"EVENT_HUB_NAME=" + hubName,
		"PERSISTOR_STORAGE_CONNECTION_STRING=" + d.location,
		"EVENT_HUB_CHECKPOINT_CONTAINER=" + d.container + "-checkpoints",
		"PERSISTOR_CREATE_CONTAINER=TRUE",
		"WORKER_KEY=" + d.key,
		"LISTEN_ADDRESS=127.0.0.1:0",
		"LOG_LEVEL=WARN",
	}, more...)
}

// stay leaves everything running until the context ends.
func (d *demo) stay(ctx context.Context) {
	d.logf("\nStill running, until Ctrl-C. To publish something and have it stored:")
	d.logf("  persistor publish FILE --hub %s --connection-string '%s'", hubName, d.hub.ConnectionString())
	d.logf("  curl -X POST -H 'x-functions-key: %s' %s/api/invoke", d.key, d.invoker.url)
	<-ctx.Done()
}

// fileURL is a folder as a store's location.
func fileURL(dir string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
}

func (d *demo) logf(format string, args ...any) { fmt.Fprintf(d.Progress, format+"\n", args...) }
