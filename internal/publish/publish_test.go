package publish_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/google/go-cmp/cmp"

	"persistor/emulator"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
)

const hub = "telemetry"

// start runs an emulator with one hub and returns a producer for it.
func start(t testing.TB, partitions int) (*emulator.Emulator, publish.Producer) {
	t.Helper()
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: partitions}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	p, err := publish.ToHub(config.Hub{
		Connection: config.Connection{ConnectionString: config.Secret(e.ConnectionString())},
		Name:       hub,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return e, p
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// receive returns all that a partition holds, in order.
func receive(t testing.TB, e *emulator.Emulator, partition string) []*azeventhubs.ReceivedEventData {
	t.Helper()
	ctx := within(t)
	c, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionString(), hub, azeventhubs.DefaultConsumerGroup, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	properties, err := c.GetPartitionProperties(ctx, partition, nil)
	if err != nil {
		t.Fatal(err)
	}
	if properties.IsEmpty {
		return nil
	}
	earliest := true
	r, err := c.NewPartitionClient(partition, &azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{Earliest: &earliest}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	events, err := r.ReceiveEvents(ctx, int(properties.LastEnqueuedSequenceNumber+1), nil)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func receiveAll(t testing.TB, e *emulator.Emulator, partitions int) []*azeventhubs.ReceivedEventData {
	var all []*azeventhubs.ReceivedEventData
	for p := range partitions {
		all = append(all, receive(t, e, strconv.Itoa(p))...)
	}
	return all
}

func TestLinesAreBytes(t *testing.T) {
	e, producer := start(t, 4)
	lines := []string{"plain", "", "non-UTF-8 \xff\xfe\x00", "carriage return\r", "Привет 🌍", strings.Repeat("x", 100_000), "no newline at the end"}
	key := "one key"
	result, err := publish.Lines(within(t), producer, strings.NewReader(strings.Join(lines, "\n")),
		publish.LineOptions{Key: &key, Properties: map[string]any{"source": "test", "level": int32(5)}})
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, event := range receiveAll(t, e, 4) {
		bodies = append(bodies, string(event.Body))
		if event.PartitionKey == nil || *event.PartitionKey != key {
			t.Errorf("partition key = %v, want %q", event.PartitionKey, key)
		}
		if diff := cmp.Diff(map[string]any{"source": "test", "level": int32(5)}, event.Properties); diff != "" {
			t.Errorf("properties: %s", diff)
		}
	}
	if diff := cmp.Diff(lines, bodies); diff != "" {
		t.Errorf("bodies (-sent +received): %s", diff)
	}
	want := publish.Result{Messages: 7, Bytes: int64(len(strings.Join(lines, ""))), Batches: 1, Elapsed: result.Elapsed}
	if result != want {
		t.Errorf("result = %+v, want %+v", result, want)
	}
}

func TestLinesEnd(t *testing.T) {
	for _, test := range []struct {
		input string
		want  int64
	}{{"", 0}, {"\n", 1}, {"a", 1}, {"a\n", 1}, {"a\n\n", 2}, {"a\nb", 2}} {
		_, producer := start(t, 1)
		result, err := publish.Lines(within(t), producer, strings.NewReader(test.input), publish.LineOptions{})
		if err != nil || result.Messages != test.want {
			t.Errorf("%q: %d events, %v; want %d", test.input, result.Messages, err, test.want)
		}
	}
}

func TestLineTooLong(t *testing.T) {
	e, producer := start(t, 1)
	input := "12345678\nabcdefgh\n123456789\nnever\n"
	result, err := publish.Lines(within(t), producer, strings.NewReader(input), publish.LineOptions{MaxLine: 8})
	if err == nil || err.Error() != "publish line 3: it is longer than 8 bytes" {
		t.Errorf("error = %v", err)
	}
	if result.Messages != 2 || len(receive(t, e, "0")) != 2 {
		t.Errorf("%d events were sent, want the 2 before the long line", result.Messages)
	}
}

func TestLineTooLongForTheHub(t *testing.T) {
	e, producer := start(t, 1)
	input := "first\n" + strings.Repeat("x", publish.MaxLine) + "\nnever\n"
	result, err := publish.Lines(within(t), producer, strings.NewReader(input), publish.LineOptions{})
	var large *publish.TooLargeError
	if !errors.As(err, &large) || large.Message != 1 || !strings.HasPrefix(err.Error(), "publish line 2: ") {
		t.Errorf("error = %v, want a TooLargeError for line 2", err)
	}
	if result.Messages != 1 || len(receive(t, e, "0")) != 1 {
		t.Errorf("%d events were sent, want the 1 before the large line", result.Messages)
	}
}

func TestInputFails(t *testing.T) {
	_, producer := start(t, 1)
	broken := errors.New("disk on fire")
	input := io.MultiReader(strings.NewReader("a\nb\n"), readerFunc(func([]byte) (int, error) { return 0, broken }))
	result, err := publish.Lines(within(t), producer, input, publish.LineOptions{})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "read line 3: ") || result.Messages != 2 {
		t.Errorf("%d events, %v", result.Messages, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// numbered yields n events; the event's number and place are in its body.
func numbered(n int, place func(i int, e *publish.Message)) iter.Seq[publish.Message] {
	return func(yield func(publish.Message) bool) {
		for i := range n {
			e := publish.Message{Body: fmt.Appendf(nil, "%08d%s", i, strings.Repeat(".", 992))}
			place(i, &e)
			if !yield(e) {
				return
			}
		}
	}
}

// number is what numbered wrote.
func number(t testing.TB, e *azeventhubs.ReceivedEventData) int {
	n, err := strconv.Atoi(string(e.Body[:8]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOrder(t *testing.T) {
	const n, partitions, keys = 20_000, 4, 37
	for _, test := range []struct {
		name  string
		place func(i int, e *publish.Message)
	}{
		{"by partition, with keys", func(i int, e *publish.Message) {
			key := fmt.Sprint("key ", i%keys)
			e.Partition, e.Key = strconv.Itoa(i%keys%partitions), &key
		}},
		{"by key", func(i int, e *publish.Message) {
			key := fmt.Sprint("key ", i%keys)
			e.Key = &key
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, producer := start(t, partitions)
			result, err := publish.Send(within(t), producer, numbered(n, test.place), publish.Options{InFlight: 16})
			if err != nil || result.Messages != n {
				t.Fatalf("%d events, %v", result.Messages, err)
			}
			last := make(map[string]int) // by key
			where := make(map[string]string)
			total := 0
			for p := range partitions {
				for _, event := range receive(t, e, strconv.Itoa(p)) {
					i, key := number(t, event), *event.PartitionKey
					if key != fmt.Sprint("key ", i%keys) {
						t.Fatalf("event %d has key %q", i, key)
					}
					if before, seen := last[key]; seen && i != before+keys {
						t.Fatalf("%s: event %d follows %d", key, i, before)
					}
					if at, seen := where[key]; seen && at != strconv.Itoa(p) {
						t.Fatalf("%s is in partitions %s and %d", key, at, p)
					}
					last[key], where[key] = i, strconv.Itoa(p)
					total++
				}
			}
			if total != n {
				t.Errorf("received %d events, want %d", total, n)
			}
		})
	}
}

// A batch that the hub is too busy for is sent again later; those behind it in its partition wait for it.
func TestOrderHoldsOverRetries(t *testing.T) {
	for _, test := range []struct {
		name  string
		n     int
		place func(i int, e *publish.Message)
	}{
		{"one partition", 5_000, func(i int, e *publish.Message) { e.Partition = "0" }},
		{"more keys than lanes", 12_000, func(i int, e *publish.Message) {
			key := strconv.Itoa(i % 2_000)
			e.Body, e.Key = e.Body[:8], &key
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, _ := start(t, 1)
			client, err := azeventhubs.NewProducerClientFromConnectionString(e.ConnectionString(), hub,
				&azeventhubs.ProducerClientOptions{RetryOptions: azeventhubs.RetryOptions{RetryDelay: 500 * time.Millisecond}})
			if err != nil {
				t.Fatal(err)
			}
			producer := publish.HubProducer(client)
			defer producer.Close(context.Background())
			e.ThrottleSends(1)
			result, err := publish.Send(within(t), producer, numbered(test.n, test.place), publish.Options{})
			if err != nil || result.Messages != int64(test.n) {
				t.Fatalf("%d events, %v", result.Messages, err)
			}
			last := make(map[string]int)
			for _, event := range receive(t, e, "0") {
				i, key := number(t, event), ""
				if event.PartitionKey != nil {
					key = *event.PartitionKey
				}
				if before, seen := last[key]; seen && i < before {
					t.Fatalf("key %q: event %d comes after %d", key, i, before)
				}
				last[key] = i
			}
		})
	}
}

// An event that is too large ends it; all before it are sent, whatever their partition.
func TestEventTooLarge(t *testing.T) {
	e, producer := start(t, 2)
	events := slices.Values([]publish.Message{
		{Body: []byte("small"), Partition: "0"},
		{Body: make([]byte, 2<<20), Partition: "1"},
		{Body: []byte("never"), Partition: "1"},
	})
	result, err := publish.Send(within(t), producer, events, publish.Options{})
	var large *publish.TooLargeError
	if !errors.As(err, &large) || *large != (publish.TooLargeError{Message: 1, Bytes: 2 << 20}) {
		t.Errorf("error = %v", err)
	}
	if received := receiveAll(t, e, 2); result.Messages != 1 || len(received) != 1 {
		t.Errorf("%d events were accepted and %d received, want the first", result.Messages, len(received))
	}
}

// More keys than there is room for batches that fill.
func TestManyKeys(t *testing.T) {
	const n, keys = 12_000, 4_000
	e, producer := start(t, 2)
	result, err := publish.Send(within(t), producer, numbered(n, func(i int, e *publish.Message) {
		key := strconv.Itoa(i % keys)
		e.Body, e.Key = e.Body[:8], &key
	}), publish.Options{})
	if err != nil || result.Messages != n {
		t.Fatalf("%d events, %v", result.Messages, err)
	}
	last := make(map[string]int)
	for _, event := range receiveAll(t, e, 2) {
		i, key := number(t, event), *event.PartitionKey
		if before, seen := last[key]; seen && i != before+keys {
			t.Fatalf("key %s: event %d follows %d", key, i, before)
		}
		last[key] = i
	}
	if len(last) != keys {
		t.Errorf("received %d keys, want %d", len(last), keys)
	}
}

func TestProgressAndSpread(t *testing.T) {
	const n = 20_000
	e, producer := start(t, 4)
	var seen []publish.Result
	result, err := publish.Send(within(t), producer, numbered(n, func(int, *publish.Message) {}),
		publish.Options{Progress: func(r publish.Result) { seen = append(seen, r) }})
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(seen)) != result.Batches || seen[len(seen)-1].Messages != n {
		t.Errorf("%d calls of progress for %d batches; the last: %+v", len(seen), result.Batches, seen[len(seen)-1])
	}
	for i := 1; i < len(seen); i++ {
		if seen[i].Messages <= seen[i-1].Messages {
			t.Errorf("progress goes from %d to %d", seen[i-1].Messages, seen[i].Messages)
		}
	}
	for p := range 4 {
		if len(receive(t, e, strconv.Itoa(p))) == 0 {
			t.Errorf("partition %d got nothing", p)
		}
	}
}

func TestCancel(t *testing.T) {
	_, producer := start(t, 1)
	ctx, cancel := context.WithCancelCause(within(t))
	interrupted := errors.New("interrupted")
	endless := numbered(1<<40, func(int, *publish.Message) {})
	result, err := publish.Send(ctx, producer, endless, publish.Options{Progress: func(r publish.Result) {
		if r.Batches == 3 {
			cancel(interrupted)
		}
	}})
	if !errors.Is(err, interrupted) || result.Batches < 3 {
		t.Errorf("result %+v, error %v", result, err)
	}
}

func TestUnknownHub(t *testing.T) {
	e, _ := start(t, 1)
	producer, err := publish.ToHub(config.Hub{Connection: config.Connection{ConnectionString: config.Secret(e.ConnectionString())}, Name: "nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close(context.Background())
	if _, err := publish.Lines(within(t), producer, strings.NewReader("a\n"), publish.LineOptions{}); err == nil {
		t.Error("no error")
	}
}

func TestProducersKeepTheSecret(t *testing.T) {
	const secret = "c2VjcmV0LWtleS1vZi10aGUtaHVi"
	connection := config.Connection{ConnectionString: "Endpoint=" + secret + "=%zz;" + secret}
	_, toHub := publish.ToHub(config.Hub{Connection: connection, Name: hub})
	_, toQueue := publish.ToQueue(config.Queue{Connection: connection, Name: queue})
	for _, err := range []error{toHub, toQueue} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("error = %v", err)
		}
	}
}

func TestInFlightBounds(t *testing.T) {
	for _, n := range []int{-1, 65} {
		if _, err := publish.Send(t.Context(), nil, nil, publish.Options{InFlight: n}); err == nil {
			t.Errorf("%d batches in flight: no error", n)
		}
	}
}

func TestProperties(t *testing.T) {
	id := message.UUID{0: 0x12, 15: 0xff}
	for text, want := range map[string]any{
		"a=b":                                   "b",
		"a=":                                    "",
		"a=b=c":                                 "b=c",
		"a:string=5":                            "5",
		"a:boolean=true":                        true,
		"a:byte=-128":                           int8(-128),
		"a:short=-32768":                        int16(-32768),
		"a:int=5":                               int32(5),
		"a:long=-5":                             int64(-5),
		"a:ubyte=255":                           uint8(255),
		"a:ushort=65535":                        uint16(65535),
		"a:uint=5":                              uint32(5),
		"a:ulong=5":                             uint64(5),
		"a:float=0.5":                           float32(0.5),
		"a:double=0.1":                          0.1,
		"a:binary=/w==":                         []byte{0xff},
		"a:timestamp=2026-01-31T09:00:00+01:00": time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC),
		"a:uuid=12000000-0000-0000-0000-0000000000ff": id,
	} {
		name, value, err := publish.ParseProperty(text)
		if diff := cmp.Diff(want, value); err != nil || name != "a" || diff != "" {
			t.Errorf("%q: name %q, error %v, value %s", text, name, err, diff)
		}
	}
	for _, text := range []string{"", "a", "=b", ":int=5", "a:integer=5", "a:int=x", "a:byte=128", "a:ubyte=-1", "a:boolean=maybe", "a:uuid=12", "a:uuid=" + strings.Repeat("g", 32), "a:binary=%", "a:timestamp=now", "a:float=x"} {
		if _, _, err := publish.ParseProperty(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func BenchmarkEvents(b *testing.B) {
	_, producer := start(b, 8)
	body := bytes.Repeat([]byte{'x'}, 1024)
	partitions := []string{"0", "1", "2", "3", "4", "5", "6", "7"}
	events := func(yield func(publish.Message) bool) {
		for i := 0; b.Loop(); i++ {
			if !yield(publish.Message{Body: body, Partition: partitions[i%8]}) {
				return
			}
		}
	}
	result, err := publish.Send(context.Background(), producer, events, publish.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(result.Messages)/result.Elapsed.Seconds(), "events/s")
}
