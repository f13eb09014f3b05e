package replay

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/selection"
)

const (
	benchPartitions = 8
	benchEach       = 12_500 // messages of 1 KiB in each
)

// BenchmarkReplay sends stored events to a hub, BenchmarkPublish the same bodies without a store, as the floor.
func BenchmarkReplay(b *testing.B) {
	s, d := benchSite(b)
	var all selection.Selection
	filter, err := NewFilter(`.METADATA.level >= 0`)
	if err != nil {
		b.Fatal(err)
	}
	for _, each := range []struct {
		name    string
		options Options
	}{{"all", Options{}}, {"jq", Options{Filter: filter}}} {
		b.Run(each.name, func(b *testing.B) {
			to, spent := s.toHub("is"), cpu(b)
			for b.Loop() {
				f, err := OpenFile(filepath.Join(b.TempDir(), "progress"))
				if err != nil {
					b.Fatal(err)
				}
				result, err := Run(b.Context(), d, to, Task{ToHub: true, KeepPartition: true, Selection: all}, f, each.options)
				if err != nil || result.Sent != benchPartitions*benchEach {
					b.Fatal(result, err)
				}
				f.Close()
			}
			report(b, spent)
		})
	}
}

func BenchmarkPublish(b *testing.B) {
	s, d := benchSite(b)
	var messages []publish.Message
	for _, m := range s.messages(d) {
		messages = append(messages, publish.Message{Body: m.Body.Data[0], ID: m.ID, Properties: m.Properties, Key: m.PartitionKey, Partition: m.Partition})
	}
	to, spent := s.toHub("is"), cpu(b)
	for b.Loop() {
		_, err := publish.Send(b.Context(), to, func(yield func(publish.Message) bool) {
			for i := range messages {
				// Each partition in turn, as replay has them.
				if !yield(messages[i%benchPartitions*benchEach+i/benchPartitions]) {
					return
				}
			}
		}, publish.Options{})
		if err != nil {
			b.Fatal(err)
		}
	}
	report(b, spent)
}

// cpu is the processor time that this process has had, the emulator's included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, before time.Duration) {
	b.Helper()
	n := float64(b.N * benchPartitions * benchEach)
	b.ReportMetric(n/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/n, "cpu-us/message")
}

func benchSite(b *testing.B) (*site, selection.Store) {
	b.Helper()
	s := newSite(b, emulator.Options{Hubs: []emulator.Hub{{Name: "is", Partitions: benchPartitions, RetentionCount: 1}}})
	d := s.stored("bench")
	body := bytes.Repeat([]byte("0123456789abcdef"), 64)
	for p := range benchPartitions {
		for first := 0; first < benchEach; first += 2500 {
			part := make([]message.Message, 2500)
			for i := range part {
				part[i] = message.Message{
					Body: message.Body{Data: [][]byte{body}}, ID: fmt.Sprintf("%d-%d", p, first+i), PartitionKey: new(fmt.Sprint("key ", i%100)),
					Properties: map[string]any{"level": int32(i), "site": "north"},
				}
			}
			put(b, d, "rides", strconv.Itoa(p), int64(first), withMetadata, part...)
		}
	}
	return s, d
}
