package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"golang.org/x/sync/errgroup"

	"persistor/emulator"
	"persistor/internal/app"
	"persistor/internal/pull"
	"persistor/internal/pull/eventhub"
	"persistor/internal/store"
	"persistor/internal/work"
)

// The defaults of BATCH_BYTES and MEMORY_LIMIT.
const (
	batchBytes = 4 << 20
	memory     = 32 << 20
)

// child is what this program does in the processes that it starts.
func child(args []string) error {
	switch {
	case args[0] == "emulator":
		return serve(args[1:])
	case len(args) != 4:
		return fmt.Errorf("child %s: expected hub, partitions and store", args[0])
	}
	hub, storage, connection := args[1], args[3], os.Getenv("EVENT_HUB_CONN_STRING")
	partitions, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	app.TuneMemory(memory) // the same for both
	before := spent()
	began := time.Now()
	var events int64
	if args[0] == "floor" {
		events, err = floor(connection, hub, partitions)
	} else {
		events, err = pullAll(connection, hub, partitions, storage)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(usage{
		Events: events, Seconds: time.Since(began).Seconds(), CPUSeconds: (spent() - before).Seconds(), PeakMB: peakMB(),
	})
}

// floor drains every partition with the client alone: one connection each, events counted and dropped.
func floor(connection, hub string, partitions int) (int64, error) {
	counts := make([]int64, partitions)
	var group errgroup.Group
	for i := range partitions {
		group.Go(func() error {
			ctx, id := context.Background(), strconv.Itoa(i)
			client, err := azeventhubs.NewConsumerClientFromConnectionString(connection, hub, azeventhubs.DefaultConsumerGroup, nil)
			if err != nil {
				return err
			}
			defer client.Close(ctx)
			properties, err := client.GetPartitionProperties(ctx, id, nil)
			if err != nil {
				return err
			}
			earliest := true
			receiver, err := client.NewPartitionClient(id, &azeventhubs.PartitionClientOptions{
				StartPosition: azeventhubs.StartPosition{Earliest: &earliest}, Prefetch: 5000 / int32(min(partitions, 4)),
			})
			if err != nil {
				return err
			}
			defer receiver.Close(ctx)
			for left := properties.LastEnqueuedSequenceNumber + 1; left > 0; {
				events, err := receiver.ReceiveEvents(ctx, int(min(left, 1000)), nil)
				if err != nil {
					return err
				}
				left -= int64(len(events))
				counts[i] += int64(len(events))
			}
			return nil
		})
	}
	err := group.Wait()
	var sum int64
	for _, n := range counts {
		sum += n
	}
	return sum, err
}

// pullAll drains every partition as a worker does, in one unit of up to four loops at a time.
func pullAll(connection, hub string, partitions int, storage string) (int64, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "persistor-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	blobs, err := openStore(ctx, storage, dir)
	if err != nil {
		return 0, err
	}
	h, err := eventhub.Connect(eventhub.Options{
		ConnectionString: connection, EventHub: hub,
		Checkpoints: eventhub.DirCheckpoints(dir), PrefetchBytes: app.ShareMemory(memory, 1).Prefetch,
	})
	if err != nil {
		return 0, err
	}
	defer h.Close(ctx)
	drainer := app.HubDrainer{Hub: h, Draining: app.Draining{
		Store: blobs, Folder: hub, Chunk: 1000, Timeout: 5 * time.Minute,
		BatchMemory: app.ShareMemory(memory, 1).Batches,
		Limits:      pull.Limits{Count: 10_000, Bytes: batchBytes, Age: time.Minute},
	}}
	unit := work.Unit{Run: "bench", Tasks: min(partitions, 4), OwnerLevel: time.Now().UnixMilli()}
	for i := range partitions {
		unit.Partitions = append(unit.Partitions, strconv.Itoa(i))
	}
	report := drainer.Drain(ctx, unit)
	for _, s := range report.Sources {
		if s.Ended != work.Drained {
			return 0, fmt.Errorf("partition %s ended %s: %s", s.Partition, s.Ended, s.Error)
		}
	}
	return report.Messages, nil
}

func openStore(ctx context.Context, storage, dir string) (store.Store, error) {
	switch storage {
	case "discard":
		return discard{}, nil
	case "dir":
		return store.Open(ctx, store.Options{Location: "file://" + dir, Container: "bench", Create: true})
	}
	return store.Open(ctx, store.Options{Location: os.Getenv("AZURITE_CONNECTION_STRING"), Container: fmt.Sprintf("bench-%d", time.Now().UnixNano()), Create: true})
}

// discard is a store that keeps nothing.
type discard struct{}

func (discard) SetMetadata(context.Context, string, map[string]string) error { return nil }

func (discard) Create(context.Context, string, []byte, map[string]string) (map[string]string, error) {
	return nil, nil
}

func (discard) Metadata(context.Context, string) (map[string]string, error) {
	return nil, store.ErrNotFound
}

func (discard) List(context.Context, string) iter.Seq2[store.Blob, error] {
	return func(func(store.Blob, error) bool) {}
}

func (discard) Open(context.Context, string) (io.ReadCloser, error) { return nil, store.ErrNotFound }

// spent is the CPU time that this process has used.
func spent() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// peakMB is the most memory that was resident, in MB; 0 where the system doesn't tell.
func peakMB() float64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(r.Maxrss) / 1e6
	}
	return float64(r.Maxrss) / 1e3
}

// server is the emulator in a process of its own.
type server struct {
	cmd        *exec.Cmd
	stdin      io.WriteCloser
	replies    *bufio.Scanner
	connection string
}

func startEmulator(ctx context.Context, cases []drainCase) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"child", "emulator"}
	for _, c := range cases {
		hub := fmt.Sprintf("%s,%d,%d,%d", c.hub(), c.body, c.partitions, c.events/int64(c.partitions))
		if !slices.Contains(args, hub) { // several stores take the events of one hub
			args = append(args, hub)
		}
	}
	s := &server{cmd: exec.CommandContext(ctx, self, args...)}
	s.cmd.Stderr = os.Stderr
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.replies = bufio.NewScanner(out)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start emulator: %w", err)
	}
	if !s.replies.Scan() {
		s.stop()
		return nil, errors.New("start emulator: it ended")
	}
	s.connection = s.replies.Text()
	return s, nil
}

// cpu asks the emulator for the CPU time that it has used, in seconds.
func (s *server) cpu() float64 {
	fmt.Fprintln(s.stdin, "cpu")
	if !s.replies.Scan() {
		return 0
	}
	seconds, _ := strconv.ParseFloat(s.replies.Text(), 64)
	return seconds
}

func (s *server) stop() {
	s.stdin.Close()
	_ = s.cmd.Wait()
}

// serve runs the emulator until its input ends, and answers each line with the CPU time used.
func serve(specs []string) error {
	var o emulator.Options
	for _, spec := range specs {
		fields := strings.Split(spec, ",")
		if len(fields) != 4 {
			return fmt.Errorf("hub %q: expected name,body,partitions,events", spec)
		}
		body, err1 := strconv.Atoi(fields[1])
		partitions, err2 := strconv.Atoi(fields[2])
		events, err3 := strconv.ParseInt(fields[3], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		o.Hubs = append(o.Hubs, emulator.Hub{
			Name: fields[0], Partitions: partitions,
			Synthetic: &emulator.Synthetic{Events: events, BodySize: body},
		})
	}
	e, err := emulator.Start(o)
	if err != nil {
		return err
	}
	defer e.Close()
	fmt.Println(e.ConnectionString())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(spent().Seconds())
	}
	return nil
}
