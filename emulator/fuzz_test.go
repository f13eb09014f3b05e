package emulator_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// capturePath is the capture of a client's side of a few connections, one after the other: what the
// Event Hubs client for Go writes to put tokens, read properties, send a batch and receive it. The codec
// and the connection are fuzzed from it. To make it anew: go test -run TestCapture -capture.
const capturePath = "testdata/client.amqp"

var capture = flag.Bool("capture", false, "write the capture that the fuzz tests begin with")

// TestCapture makes the capture when asked to, and otherwise sees that there is one that splits into frames.
func TestCapture(t *testing.T) {
	if *capture {
		if err := os.WriteFile(capturePath, captureClient(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(clientFrames(t)); n < 30 {
		t.Errorf("the capture has %d frames", n)
	}
}

// captureClient returns what a client writes, from its first byte.
func captureClient(t testing.TB) []byte {
	e := run(t, emulator.Options{Key: "Y2FwdHVyZWQ="})
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := front.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", e.Address())
			if err != nil {
				client.Close()
				return
			}
			var wrote bytes.Buffer
			wg.Go(func() { io.Copy(client, server); client.Close() })
			wg.Go(func() {
				io.Copy(io.MultiWriter(server, &wrote), client)
				server.Close()
				mu.Lock()
				defer mu.Unlock()
				wrote.WriteTo(&all)
			})
		}
	})
	cs := strings.Replace(e.ConnectionString(), e.Address(), front.Addr().String(), 1)
	producer, err := azeventhubs.NewProducerClientFromConnectionString(cs, hub, nil)
	if err != nil {
		t.Fatal(err)
	}
	sendBatch(t, producer, azeventhubs.EventDataBatchOptions{PartitionKey: ptr("7")},
		&azeventhubs.EventData{Body: []byte("first"), Properties: map[string]any{"n": 1}}, &azeventhubs.EventData{Body: make([]byte, 300)})
	partitionProperties(t, producer, "3")
	consumer, err := azeventhubs.NewConsumerClientFromConnectionString(cs, hub, azeventhubs.DefaultConsumerGroup, nil)
	if err != nil {
		t.Fatal(err)
	}
	partition, err := consumer.NewPartitionClient("3", &azeventhubs.PartitionClientOptions{StartPosition: earliest, OwnerLevel: ptr(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	receive(t, partition, 2)
	for _, c := range []closer{partition, consumer, producer} {
		if err := c.Close(withTimeout(t)); err != nil {
			t.Fatal(err)
		}
	}
	front.Close()
	wg.Wait()
	return all.Bytes()
}

// clientFrames splits the capture into whole frames, and leaves the protocol headers out.
func clientFrames(t testing.TB) [][]byte {
	t.Helper()
	b, err := os.ReadFile(capturePath)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for len(b) >= 8 {
		n := 8
		if !bytes.HasPrefix(b, []byte("AMQP")) {
			if n = int(binary.BigEndian.Uint32(b)); n < 8 || n > len(b) {
				t.Fatalf("%s is no capture: a frame of %d bytes with %d left", capturePath, n, len(b))
			}
			frames = append(frames, b[:n])
		}
		b = b[n:]
	}
	return frames
}

// FuzzConnection writes bytes to a connection that is past its handshake, or at an earlier point of it.
// Whatever they are, the emulator ends the connection in time, with a close frame or without, holds on
// to nothing, and serves the next.
func FuzzConnection(f *testing.F) {
	open := handshake()
	attached := bytes.Join([][]byte{
		open,
		rawFrame(0, 0, encode(nil, described{codeAttach, []any{"in", uint32(0), true, uint8(1), uint8(0), sourceFromStart, described{codeTarget, []any{"here"}}}})),
		rawFrame(0, 0, encode(nil, described{codeAttach, []any{"out", uint32(1), false, uint8(2), uint8(0), described{codeSource, []any{"here"}}, described{codeTarget, []any{hub}}, nil, nil, uint32(0)}})),
		rawFrame(0, 0, encode(nil, described{codeFlow, []any{nil, uint32(5000), uint32(0), uint32(5000), uint32(0), uint32(0), uint32(10)}})),
	}, nil)
	prefixes := [][]byte{nil, open[:bytes.Index(open, []byte("AMQP\x00"))], open, attached}

	frames := clientFrames(f)
	for i := range prefixes {
		f.Add(byte(i), bytes.Join(frames, nil))
	}
	for _, frame := range frames {
		f.Add(byte(2), frame)
	}
	f.Add(byte(3), rawFrame(0, 0, append(encode(nil, described{codeTransfer, []any{uint32(1), uint32(0), []byte("t"), uint32(0), false}}), message("event")...)))
	f.Add(byte(3), rawFrame(0, 0, encode(nil, described{codeDisposition, []any{true, uint32(0), uint32(1<<32 - 1), true}})))

	e := run(f, emulator.Options{AllowAnyToken: true, Limits: emulator.Limits{SessionsPerConnection: 8, LinksPerSession: 8}})
	f.Fuzz(func(t *testing.T, prefix byte, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		conn, err := net.Dial("tcp", e.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			// The emulator may close before it has read all, so errors are no failure.
			conn.Write(append(bytes.Clone(prefixes[int(prefix)%len(prefixes)]), b...))
			conn.(*net.TCPConn).CloseWrite()
		}()
		received, err := io.Copy(io.Discard, conn)
		if isTimeout(err) {
			t.Fatalf("the emulator did not end the connection; it sent %d bytes", received)
		}
		<-sent
		if received > 64<<20 {
			t.Errorf("%d bytes were answered with %d", len(b), received)
		}
		var m runtime.MemStats
		if runtime.ReadMemStats(&m); m.HeapAlloc > 512<<20 {
			t.Errorf("the heap has %d MiB", m.HeapAlloc>>20)
		}
	})
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
