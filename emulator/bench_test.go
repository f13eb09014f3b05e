//go:build unix

package emulator_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/emulator"
)

// BenchmarkReceive measures what an event costs the client, the official SDK, and the emulator, which runs in a process
// of its own so that the two can be told apart. The emulator may use a tenth of what the client does at a KiB.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{100, 1024, 8192} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) { benchmarkReceive(b, size) })
	}
}

func benchmarkReceive(b *testing.B, size int) {
	server := startProcess(b, size)
	c, err := azeventhubs.NewConsumerClientFromConnectionString(server.connectionString, "backlog", azeventhubs.DefaultConsumerGroup, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(context.Background())
	const batch = 1000
	r := reader(b, c, "0", azeventhubs.PartitionClientOptions{Prefetch: 5000})
	receive := func(n int) {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		defer cancel()
		for received := 0; received < n; {
			events, err := r.ReceiveEvents(ctx, min(batch, n-received), nil)
			if err != nil || len(events) == 0 {
				b.Fatalf("receive after %d events: got %d, %v", received, len(events), err)
			}
			received += len(events)
		}
	}
	receive(5000) // connect, and let buffers grow
	before, serverBefore := cpu(), server.cpu(b)
	b.ResetTimer()
	receive(b.N)
	b.StopTimer()
	client, emulated := cpu()-before, server.cpu(b)-serverBefore
	b.ReportMetric(float64(client.Microseconds())/float64(b.N), "client-cpu-us/event")
	b.ReportMetric(float64(emulated.Microseconds())/float64(b.N), "emulator-cpu-us/event")
	b.ReportMetric(100*float64(emulated)/float64(client), "percent")
}

// process is an emulator in a process of its own. It answers each line on its input with the time it has used.
type process struct {
	connectionString string
	in               io.Writer
	out              *bufio.Scanner
}

const processVariable = "EMULATOR_TEST_BODY_SIZE"

func startProcess(b *testing.B, size int) *process {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$")
	cmd.Env = append(os.Environ(), processVariable+"="+strconv.Itoa(size))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close() // which ends it
		_ = cmd.Wait()
	})
	p := &process{in: in, out: bufio.NewScanner(out)}
	if !p.out.Scan() {
		b.Fatal("the emulator's process ended before it gave a connection string")
	}
	p.connectionString = p.out.Text()
	return p
}

func (p *process) cpu(b *testing.B) time.Duration {
	b.Helper()
	fmt.Fprintln(p.in)
	if !p.out.Scan() {
		b.Fatal("the emulator's process ended")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(p.out.Text()), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

// TestProcess is the emulator's process of the benchmark, and nothing in a run of the tests.
func TestProcess(t *testing.T) {
	size, err := strconv.Atoi(os.Getenv(processVariable))
	if err != nil {
		t.Skip("this is the other process of BenchmarkReceive")
	}
	e := start(t, emulator.Options{Hubs: []emulator.Hub{{Name: "backlog", Partitions: 4, Synthetic: &emulator.Synthetic{Events: 1e9, BodySize: size}}}})
	fmt.Println(e.ConnectionString())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(int64(cpu()))
	}
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
