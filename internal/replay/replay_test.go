package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/record"
	"persistor/internal/store"
)

// put stores messages of a partition as one blob, numbered on from first.
func put(t testing.TB, d *store.Dir, folder, partition string, first int64, f record.Format, messages ...message.Message) string {
	t.Helper()
	var body []byte
	for i := range messages {
		m := &messages[i]
		m.SequenceNumber, m.Partition, m.EnqueuedTime = first+int64(i), partition, at
		body = f.Append(body, m)
	}
	span := record.Span{First: first, Last: first + int64(len(messages)) - 1, After: first - 1, Count: int64(len(messages)), Bytes: int64(len(body)), Run: "test", Latest: at}
	name := record.EventHubName(folder, partition, at, first)
	if _, err := d.Create(t.Context(), name, body, span.Metadata()); err != nil {
		t.Fatal(err)
	}
	return name
}

func bodies(n int, of string) []message.Message {
	all := make([]message.Message, n)
	for i := range all {
		all[i].Body.Data = [][]byte{fmt.Appendf(nil, "%s %d", of, i)}
	}
	return all
}

var withMetadata = record.Format{Metadata: true}

// oneHub is a site with a hub of two partitions to send to, and a directory.
func oneHub(t testing.TB) (*site, *store.Dir) {
	s := newSite(t, emulator.Options{Hubs: []emulator.Hub{{Name: "is", Partitions: 2}}, Queues: []emulator.Queue{{Name: "queue", MaxMessageSize: 64 << 10}, {Name: "sessions", Sessions: true}}})
	return s, s.stored("was")
}

func (s *site) count(hub string) (n int64) {
	s.t.Helper()
	for p := 0; ; p++ {
		info, err := s.bus.Partition(hub, strconv.Itoa(p))
		if err != nil {
			return n
		}
		n += info.Last + 1
	}
}

// Events without a key stay together and in order, whatever the target's partitions are, and however many streams are
// read side by side.
func TestOrderWithoutKeys(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	const partitions, each = 20, 300 // and a queue that takes a few of them at once
	for p := range partitions {
		for first := int64(0); first < each; first += 100 {
			part := bodies(100, strconv.Itoa(p)+strings.Repeat(".", 1000))
			for i := range part {
				part[i].ID = fmt.Sprintf("%d-%d", p, first+int64(i))
			}
			put(t, d, "rides", strconv.Itoa(p), first, withMetadata, part...)
		}
	}
	was := s.messages(d)
	byID := func(m *message.Message) string { p, _, _ := strings.Cut(m.ID.(string), "-"); return p }
	s.replay(d, s.toHub("is"), Task{ToHub: true}, Options{}, partitions*each)
	is := s.messages(s.drainHub("is", "is", nil))
	inOrder(t, was, is, byID)
	for p := range partitions {
		in := map[string]bool{}
		for _, m := range is {
			if byID(m) == strconv.Itoa(p) {
				in[m.Partition] = true
			}
		}
		if len(in) != 1 || !in[strconv.Itoa(p%2)] {
			t.Errorf("partition %d went to %v", p, in)
		}
	}

	s.replay(d, s.toQueue("queue"), Task{}, Options{}, partitions*each)
	queued := s.messages(s.drainQueue("queue", "queue", nil))
	slices.SortFunc(queued, func(a, b *message.Message) int { return int(a.SequenceNumber - b.SequenceNumber) })
	inOrder(t, was, queued, byID)

	s.replay(d, s.toHub("is"), Task{ToHub: true, AnyPartition: true}, Options{}, partitions*each)
	if n := s.count("is"); n != 2*partitions*each {
		t.Errorf("the hub holds %d", n)
	}
}

// Sessions that go to an Event Hub keep their order by a key.
func TestSessionsToHub(t *testing.T) {
	t.Parallel()
	s, _ := oneHub(t)
	ids := []string{"a", "b", "c"}
	s.send(s.toQueue("sessions"), numbered(300, func(i int, m *publish.Message) { m.Session = &ids[i%3] })...)
	d := s.drainQueue("sessions", "sessions", nil, ids...)
	s.replay(d, s.toHub("is"), Task{ToHub: true}, Options{}, 300)
	is := s.messages(s.drainHub("is", "is", nil))
	inOrder(t, s.messages(d), is, func(m *message.Message) string {
		if m.SessionID != nil {
			return *m.SessionID
		}
		if *m.GroupID != *m.PartitionKey {
			t.Errorf("group %s has the key %s", *m.GroupID, *m.PartitionKey)
		}
		return *m.GroupID
	})
}

// Records that were stored without metadata are bodies alone, with ids that are the same each time.
func TestBodiesAlone(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	messages := bodies(3, "x")
	messages[1].Properties = map[string]any{"lost": true}
	put(t, d, "rides", "1", 7, record.Format{}, messages...)

	p, err := Look(t.Context(), d, Task{ToHub: true}, nil)
	if err != nil || p.Messages != 3 || p.Bytes != 9 || p.Changes[BodyAlone] != 3 || p.Changes[NewID] != 3 {
		t.Errorf("%+v, %v", p, err)
	}
	s.replay(d, s.toHub("is"), Task{ToHub: true, Mark: true}, Options{}, 3)
	for i, m := range s.messages(s.drainHub("is", "is", nil)) {
		if m.ID != fmt.Sprintf("persistor-rides/1-%d-%d", 7+i, at.Truncate(24*time.Hour).UnixMilli()) || m.Properties[MarkProperty] != fmt.Sprintf("rides/1/%d", 7+i) || string(m.Body.Data[0]) != fmt.Sprint("x ", i) {
			t.Errorf("%+v", m)
		}
	}
}

// What was dead-lettered goes back to its queue, with the reason among its properties.
func TestDeadLettersGoBack(t *testing.T) {
	t.Parallel()
	s, _ := oneHub(t)
	m := message.Message{
		Body: message.Body{Data: [][]byte{[]byte("x")}}, SequenceNumber: 5, EnqueuedTime: at, ID: "", DeliveryCount: 3,
		DeadLetterReason: new("r"), DeadLetterDescription: new("d"), DeadLetterSource: new("queue"),
		Properties: map[string]any{"DeadLetterReason": "r", "DeadLetterErrorDescription": "d"},
	}
	body := withMetadata.Append(nil, &m)
	h := record.Holding{Entity: "queue/$DeadLetterQueue", Held: record.NewSequences(5), Earliest: at, Latest: at, After: -1, Bytes: int64(len(body)), Run: "test"}
	d := s.stored("dead")
	if _, err := d.Create(t.Context(), record.QueueName("queue/deadletter", h.Entity, []record.Key{{SequenceNumber: 5, Enqueued: at}}), body, h.Metadata()); err != nil {
		t.Fatal(err)
	}
	p, err := Look(t.Context(), d, Task{}, nil)
	if err != nil || p.Changes[DeathDropped] != 1 || p.Changes[NewID] != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	s.replay(d, s.toQueue("queue"), Task{Mark: true}, Options{}, 1)
	is := s.messages(s.drainQueue("queue", "queue", nil))
	want := map[string]any{"DeadLetterReason": "r", "DeadLetterErrorDescription": "d", MarkProperty: "queue/deadletter/queue/$DeadLetterQueue/5"}
	if len(is) != 1 || !maps.Equal(is[0].Properties, want) || is[0].ID != fmt.Sprintf("persistor-queue/deadletter/queue/$DeadLetterQueue-5-%d", at.UnixMilli()) {
		t.Errorf("%+v", is[0])
	}
}

// An event of Event Grid is sent as the JSON that its data are; what of its envelope is a scalar becomes a property.
func TestEventsOfEventGrid(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	m := message.Message{Body: message.Body{Kind: message.JSON, JSON: []byte(`{"a":[1,2.50]}`)}, Properties: map[string]any{"id": "7", "eventTime": "2026-03-09T04:05:06Z", "deep": map[string]any{"x": int64(1)}}}
	body := withMetadata.Append(nil, &m)
	e := record.Event{Source: "/subscriptions/s", ID: "7", Count: 1, Bytes: int64(len(body)), Run: "test", Content: strings.Repeat("0", 32)}
	if _, err := d.Create(t.Context(), record.EventName("grid", e.Source, e.ID, at), body, e.Metadata()); err != nil {
		t.Fatal(err)
	}
	p, err := Look(t.Context(), d, Task{}, nil)
	if err != nil || p.Changes[EnvelopeIncomplete] != 1 || p.Changes[NewID] != 1 || p.Changes[BodyAlone] != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	s.replay(d, s.toHub("is"), Task{ToHub: true}, Options{}, 1)
	is := s.messages(s.drainHub("is", "is", nil))
	if len(is) != 1 || string(is[0].Body.Data[0]) != `{"a":[1,2.50]}` || !maps.Equal(is[0].Properties, map[string]any{"id": "7", "eventTime": "2026-03-09T04:05:06Z"}) {
		t.Errorf("%+v", is[0])
	}
}

// A record that can't be read, and a blob whose metadata make no sense, are told of and left out.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	messages := bodies(2, "x")
	put(t, d, "rides", "0", 0, withMetadata, messages...)
	span := record.Span{First: 2, Last: 4, After: 1, Count: 3, Bytes: 38, Run: "test", Latest: at}
	_, err := d.Create(t.Context(), record.EventHubName("rides", "0", at, 2), []byte("{\"DATA\":\"a\"}\n\nnonsense\n\n{\"DATA\":\"b\"}\n\n"), span.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), record.EventHubName("rides", "1", at, 0), []byte("{\"DATA\":\"a\"}\n\n"), map[string]string{"first": "9"}); err != nil {
		t.Fatal(err)
	}
	result, err := Run(within(t), d, s.toHub("is"), Task{ToHub: true}, s.file("progress"), Options{})
	if err != nil || result.Sent != 4 || result.Unreadable != 2 || len(result.Problems) != 2 || !result.Complete || s.count("is") != 4 {
		t.Errorf("%+v, %v", result, err)
	}
	p, err := Look(t.Context(), d, Task{ToHub: true}, nil)
	if err != nil || p.Messages != 4 || p.Unreadable != 2 || len(p.Problems) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

// unreadable is a store in which one blob can't be opened.
type unreadable struct {
	*store.Dir
	name string
}

func (u unreadable) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == u.name {
		return nil, errors.New("the disk is gone")
	}
	return u.Dir.Open(ctx, name)
}

// What storage fails to give ends the replay, which can go on when it does.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	put(t, d, "rides", "0", 0, withMetadata, bodies(2, "x")...)
	name := put(t, d, "rides", "0", 2, withMetadata, bodies(2, "x")...)
	f := s.file("progress")
	result, err := Run(within(t), unreadable{d, name}, s.toHub("is"), Task{ToHub: true}, f, Options{})
	if err == nil || err.Error() != "replay: the disk is gone" || result.Complete {
		t.Errorf("%+v, %v", result, err)
	}
	if result, err := Run(within(t), d, s.toHub("is"), Task{ToHub: true}, f, Options{}); err != nil || result.Sent != 4 || s.count("is") != 4 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestWhatCantBeSent(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	put(t, d, "rides", "5", 0, withMetadata, bodies(3, "x")...)
	put(t, d, "large", "0", 0, withMetadata, message.Message{Body: message.Body{Data: [][]byte{bytes.Repeat([]byte("x"), 2<<20)}}})
	failing, err := NewFilter(`.DATA | fromjson`)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, test := range []struct {
		folder string
		task   Task
		filter *Filter
		to     string
		want   string
	}{
		{"rides", Task{ToHub: true, KeepPartition: true}, nil, "is", `has no partition "5"`},
		{"large", Task{ToHub: true}, nil, "is", "large/2026/03/09/0000-00000000000000000000.txt: selected record 0: its body of 2097152 bytes is larger than a batch"},
		{"rides", Task{ToHub: true}, failing, "is", "rides/2026/03/09/0005-00000000000000000000.txt: record with sequence number 0: jq expression"},
		{"rides", Task{}, nil, "sessions", "SessionId was not set"},
		{"rides", Task{ToHub: true}, nil, "nowhere", "could not be found"},
	} {
		test.task.Selection.Folder = test.folder
		n++
		to := s.toHub(test.to)
		if !test.task.ToHub {
			to = s.toQueue(test.to)
		}
		result, err := Run(within(t), d, to, test.task, s.file(fmt.Sprint("progress ", n)), Options{Filter: test.filter})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || result.Sent != 0 || result.Complete {
			t.Errorf("%s: %+v, %v", test.want, result, err)
		}
	}
}

// A replay that is told to end leaves nothing uncertain, and goes on.
func TestStopAndGoOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, emulator.Options{Hubs: []emulator.Hub{{Name: "is", Partitions: 2, MaxMessageSize: 16 << 10}}})
	d := s.stored("was")
	for first := int64(0); first < 1500; first += 500 {
		put(t, d, "rides", "0", first, withMetadata, bodies(500, "x")...)
		put(t, d, "rides", "1", first, withMetadata, bodies(500, "x")...)
	}
	path := filepath.Join(s.dir, "progress")
	s.bus.Delay(10 * time.Millisecond) // so that something is under way
	enough := errors.New("enough")
	stops := 0
	for {
		ctx, cancel := context.WithCancelCause(within(t))
		f, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		batches := 0
		result, err := Run(ctx, d, s.toHub("is"), Task{ToHub: true}, f, Options{Report: func(Result) {
			if batches++; batches == 3 {
				cancel(enough)
			}
		}})
		f.Close()
		cancel(nil)
		if result.Uncertain != 0 {
			t.Fatalf("%+v", result)
		}
		if err == nil {
			if result.Sent != 3000 || !result.Complete {
				t.Errorf("%+v", result)
			}
			break
		}
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
		stops++
	}
	if stops < 2 || s.count("is") != 3000 {
		t.Errorf("after %d stops the hub holds %d", stops, s.count("is"))
	}
	f := s.file("progress")
	if _, err := Run(within(t), d, s.toHub("is"), Task{ToHub: true}, f, Options{}); !errors.Is(err, ErrComplete) || s.count("is") != 3000 {
		t.Errorf("complete, then %v", err)
	}
	if _, err := Run(within(t), d, s.toHub("is"), Task{ToHub: true, Mark: true}, f, Options{}); !errors.Is(err, ErrOther) {
		t.Errorf("another task: %v", err)
	}
	if _, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), "another replay has it") {
		t.Errorf("a file that is in use: %v", err)
	}
}

// A blob of more messages than lanes are held for, of many keys: each key keeps its order.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	s, d := oneHub(t)
	all := bodies(3000, "x")
	for i := range all {
		all[i].ID, all[i].PartitionKey = fmt.Sprintf("id %d", i), new(fmt.Sprint("key ", i*7919%1100))
	}
	put(t, d, "rides", "0", 0, withMetadata, all...)
	s.replay(d, s.toHub("is"), Task{ToHub: true}, Options{}, 3000)
	inOrder(t, s.messages(d), s.messages(s.drainHub("is", "is", nil)), func(m *message.Message) string { return *m.PartitionKey })
}
