package selection_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/selection"
	"persistor/internal/store"
)

var midnight = time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)

// shelf is a directory with stored messages.
type shelf struct {
	*store.Dir
	t      *testing.T
	format record.Format
	listed []string // prefixes
	opened []string
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	dir, err := store.OpenDir(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return &shelf{Dir: dir, t: t, format: record.Format{Metadata: true, Separator: "\n"}}
}

func (s *shelf) List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error] {
	s.listed = append(s.listed, prefix)
	return s.Dir.List(ctx, prefix)
}

func (s *shelf) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	s.opened = append(s.opened, name)
	return s.Dir.Open(ctx, name)
}

func (s *shelf) create(name string, metadata map[string]string, messages ...*message.Message) {
	s.t.Helper()
	var body []byte
	for _, m := range messages {
		body = s.format.Append(body, m)
	}
	if metadata["bytes"] == "" {
		metadata["bytes"] = fmt.Sprint(len(body))
	}
	if _, err := s.Create(s.t.Context(), name, body, metadata); err != nil {
		s.t.Fatal(err)
	}
}

// hub stores count messages of a partition from first on, enqueued a minute apart from at on.
func (s *shelf) hub(folder, partition string, at time.Time, first, count int64) {
	s.t.Helper()
	var messages []*message.Message
	for n := range count {
		messages = append(messages, &message.Message{
			Body:      message.Body{Data: [][]byte{fmt.Appendf(nil, "%s/%d", partition, first+n)}},
			Partition: partition, SequenceNumber: first + n, EnqueuedTime: at.Add(time.Duration(n) * time.Minute), Offset: "7",
		})
	}
	span := record.Span{First: first, Last: first + count - 1, After: first - 1, Count: count, Run: "r", Latest: messages[count-1].EnqueuedTime}
	metadata := span.Metadata()
	delete(metadata, "bytes")
	s.create(record.EventHubName(folder, partition, at, first), metadata, messages...)
}

// session stores messages of a session with these numbers, a minute apart from at on.
func (s *shelf) session(folder, id string, at time.Time, numbers ...int64) {
	s.t.Helper()
	messages := waiting(&id, at, numbers)
	h := record.Holding{Entity: "orders", Session: &id, Held: record.NewSequences(numbers...), After: -1, Run: "r", Earliest: at, Latest: messages[len(messages)-1].EnqueuedTime}
	metadata := h.Metadata()
	delete(metadata, "bytes")
	s.create(record.SessionName(folder, id, at, numbers[0]), metadata, messages...)
}

// queue stores messages of competing receivers.
func (s *shelf) queue(folder string, at time.Time, numbers ...int64) {
	s.t.Helper()
	messages := waiting(nil, at, numbers)
	var keys []record.Key
	for _, m := range messages {
		keys = append(keys, record.Key{SequenceNumber: m.SequenceNumber, Enqueued: m.EnqueuedTime})
	}
	h := record.Holding{Entity: "orders", Held: record.NewSequences(numbers...), Run: "r", Earliest: at, Latest: messages[len(messages)-1].EnqueuedTime}
	metadata := h.Metadata()
	delete(metadata, "bytes")
	s.create(record.QueueName(folder, "orders", keys), metadata, messages...)
}

func waiting(session *string, at time.Time, numbers []int64) (messages []*message.Message) {
	for i, n := range numbers {
		messages = append(messages, &message.Message{
			Body:           message.Body{Data: [][]byte{fmt.Appendf(nil, "queue/%d", n)}},
			SequenceNumber: n, EnqueuedTime: at.Add(time.Duration(i) * time.Minute), SessionID: session, DeliveryCount: 1,
		})
	}
	return messages
}

// event stores an event of Event Grid; at zero tells no time.
func (s *shelf) event(folder, id string, at time.Time) {
	s.t.Helper()
	m := &message.Message{Body: message.Body{Kind: message.JSON, JSON: []byte(`{"id":"` + id + `"}`)}, Properties: map[string]any{"id": id}}
	if !at.IsZero() {
		m.Properties["eventTime"] = at.Format(time.RFC3339Nano)
	}
	e := record.Event{Source: "/s", ID: id, Content: strings.Repeat("0", 32), Count: 1, Run: "r"}
	metadata := e.Metadata()
	delete(metadata, "bytes")
	s.create(record.EventName(folder, "/s", id, at), metadata, m)
}

// names are the selected blobs, as "partition first..last" and the like; and what was wrong.
func (s *shelf) names(sel selection.Selection) (names []string) {
	s.t.Helper()
	for b, err := range sel.Blobs(s.t.Context(), s) {
		switch {
		case err != nil:
			names = append(names, "error: "+err.Error())
		case b.Kind == selection.Hub:
			names = append(names, fmt.Sprintf("%s:%s %d..%d", b.Folder, b.Partition, b.First, b.Last))
		case b.Kind == selection.Session:
			names = append(names, fmt.Sprintf("%s:%s %d..%d", b.Folder, *b.Session, b.First, b.Last))
		case b.Kind == selection.Queue:
			names = append(names, fmt.Sprintf("%s:%s %d..%d", b.Folder, b.Entity, b.First, b.Last))
		default:
			names = append(names, fmt.Sprintf("%s:%s", b.Folder, b.Source))
		}
	}
	return names
}

// messages are the selected messages' numbers.
func (s *shelf) messages(sel selection.Selection) (numbers []int64, err error) {
	s.t.Helper()
	for b, err := range sel.Blobs(s.t.Context(), s) {
		if err != nil {
			s.t.Fatal(err)
		}
		for m, err := range sel.Records(s.t.Context(), s, b) {
			if err != nil {
				return numbers, err
			}
			numbers = append(numbers, m.SequenceNumber)
		}
	}
	return numbers, nil
}

func number(n int64) *int64 { return &n }

// full is a container with something of every kind.
func full(t *testing.T) *shelf {
	s := newShelf(t)
	s.hub("rides", "0", midnight.Add(time.Hour), 0, 10)
	s.hub("rides", "0", midnight.Add(2*time.Hour), 10, 10)
	s.hub("rides", "0", midnight.Add(24*time.Hour), 20, 10)
	s.hub("rides", "1", midnight.Add(25*time.Hour), 7, 5)
	s.hub("rides/deep", "0", midnight, 0, 1)
	s.hub("_failed/rides", "0", midnight, 0, 1)
	s.session("legs", "a/b", midnight.Add(time.Hour), 3, 5, 9)
	s.session("legs", "", midnight.Add(time.Hour), 4)
	s.queue("orders", midnight.Add(time.Hour), 3, 5, 9)
	s.event("grid", "1", midnight.Add(90*time.Minute+500*time.Millisecond))
	s.event("grid", "2", time.Time{})
	s.create("_runs/x.json", map[string]string{})
	s.create("notes.txt", map[string]string{})
	return s
}

func TestBlobs(t *testing.T) {
	s := full(t)
	rides := []string{"rides:0 0..9", "rides:0 10..19", "rides:0 20..29", "rides:1 7..11"}
	for name, test := range map[string]struct {
		sel  selection.Selection
		want []string
	}{
		"all":                 {selection.Selection{}, []string{"grid:/s", "grid:/s", "legs:a/b 3..9", "legs: 4..4", "orders:orders 3..9", "rides:0 0..9", "rides:0 10..19", "rides:0 20..29", "rides:1 7..11", "rides/deep:0 0..0"}},
		"a folder":            {selection.Selection{Folder: "rides"}, rides},
		"what failed":         {selection.Selection{Folder: "_failed/rides"}, []string{"_failed/rides:0 0..0"}},
		"no folder":           {selection.Selection{Folder: "ride"}, nil},
		"a partition":         {selection.Selection{Folder: "rides", Partitions: []string{"1"}}, rides[3:]},
		"partitions anywhere": {selection.Selection{Partitions: []string{"1", "2"}}, rides[3:]},
		"a partition's day":   {selection.Selection{Folder: "rides", Partitions: []string{"1", "0"}, From: midnight, Until: midnight.Add(24 * time.Hour)}, rides[:2]},
		"sessions":            {selection.Selection{Sessions: []string{""}}, []string{"legs: 4..4"}},
		"a session's day":     {selection.Selection{Folder: "legs", Sessions: []string{"a/b"}, From: midnight, Until: midnight.Add(24 * time.Hour)}, []string{"legs:a/b 3..9"}},
		"from":                {selection.Selection{Folder: "rides", From: midnight.Add(24 * time.Hour)}, rides[2:]},
		"until, not included": {selection.Selection{Folder: "rides", Until: midnight.Add(24 * time.Hour)}, rides[:2]},
		// How early a blob may begin only its day tells, how late it ends its metadata.
		"within a day":     {selection.Selection{Folder: "rides", From: midnight.Add(110 * time.Minute), Until: midnight.Add(24 * time.Hour)}, rides[1:2]},
		"numbers":          {selection.Selection{Folder: "rides", First: number(11), Last: number(19)}, []string{rides[1], rides[3]}},
		"one number":       {selection.Selection{Folder: "rides", First: number(29), Last: number(29)}, rides[2:3]},
		"events of a time": {selection.Selection{Folder: "grid", From: midnight, Until: midnight.Add(time.Hour)}, nil},
		"an event":         {selection.Selection{Folder: "grid", From: midnight.Add(90 * time.Minute), Until: midnight.Add(91 * time.Minute)}, []string{"grid:/s"}},
		"no numbers":       {selection.Selection{Folder: "grid", First: number(0)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, s.names(test.sel)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A narrow range of time lists its days, and of them what is selected; a container of years is not gone through.
func TestBlobsListsWhatItHasTo(t *testing.T) {
	s := newShelf(t)
	for _, test := range []struct {
		sel  selection.Selection
		want []string
	}{
		{selection.Selection{Folder: "rides"}, []string{"rides/"}},
		{selection.Selection{Folder: "rides", From: midnight, Until: midnight.Add(time.Minute)}, []string{"rides/2026/03/09"}},
		{selection.Selection{Folder: "rides", From: midnight, Until: midnight.Add(48 * time.Hour)}, []string{"rides/2026/03/09", "rides/2026/03/10"}},
		{selection.Selection{Folder: "rides", Partitions: []string{"1", "0"}, From: midnight, Until: midnight.Add(time.Minute)}, []string{"rides/2026/03/09/0000-", "rides/2026/03/09/0001-"}},
		{selection.Selection{Folder: "legs", Sessions: []string{"a/b"}, From: midnight, Until: midnight.Add(time.Minute)}, []string{"legs/2026/03/09/a~2Fb/"}},
		{selection.Selection{Folder: "rides", Until: midnight.Add(-9 * 24 * time.Hour)}, []string{"rides/0", "rides/1", "rides/200", "rides/201", "rides/2020", "rides/2021", "rides/2022", "rides/2023", "rides/2024", "rides/2025", "rides/2026/01", "rides/2026/02/0", "rides/2026/02/1", "rides/2026/02/20", "rides/2026/02/21", "rides/2026/02/22", "rides/2026/02/23", "rides/2026/02/24", "rides/2026/02/25", "rides/2026/02/26", "rides/2026/02/27"}},
	} {
		s.listed = nil
		s.names(test.sel)
		if diff := cmp.Diff(test.want, s.listed); diff != "" {
			t.Error(diff)
		}
	}
}

func TestRecords(t *testing.T) {
	s := full(t)
	at := func(minutes int) time.Time { return midnight.Add(time.Duration(minutes) * time.Minute) }
	for name, test := range map[string]struct {
		sel    selection.Selection
		want   []int64
		opened int
	}{
		"numbers, over blobs":  {selection.Selection{Folder: "rides", Partitions: []string{"0"}, First: number(8), Last: number(11)}, []int64{8, 9, 10, 11}, 2},
		"times, over blobs":    {selection.Selection{Folder: "rides", From: at(68), Until: at(122)}, []int64{8, 9, 10, 11}, 2},
		"a millisecond":        {selection.Selection{Folder: "rides", From: at(62), Until: at(62).Add(time.Millisecond)}, []int64{2}, 2},
		"a session":            {selection.Selection{Sessions: []string{"a/b"}, First: number(4), Last: number(8)}, []int64{5}, 1},
		"a queue":              {selection.Selection{Folder: "orders", From: at(61), Until: at(62)}, []int64{5}, 1},
		"an event":             {selection.Selection{Folder: "grid", From: at(90), Until: at(90).Add(501 * time.Millisecond)}, []int64{-1}, 1},
		"not quite its time":   {selection.Selection{Folder: "grid", From: at(90), Until: at(90).Add(500 * time.Millisecond)}, nil, 1},
		"events without times": {selection.Selection{Folder: "grid"}, []int64{-1, -1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s.opened = nil
			got, err := s.messages(test.sel)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil || len(s.opened) != test.opened {
				t.Errorf("%s\n%v, opened %q", diff, err, s.opened)
			}
		})
	}
}

// Records without METADATA and SYSTEM are selected by what the blob tells; where it doesn't, that is said rather
// than guessed.
func TestRecordsWithoutMetadata(t *testing.T) {
	s := newShelf(t)
	s.format.Metadata = false
	s.hub("rides", "3", midnight.Add(time.Hour), 100, 5)
	s.session("legs", "a", midnight.Add(time.Hour), 3, 5, 9)
	s.queue("orders", midnight.Add(time.Hour), 3, 5, 9)

	if got, err := s.messages(selection.Selection{Folder: "rides", First: number(103)}); err != nil || !slices.Equal(got, []int64{103, 104}) {
		t.Errorf("of a partition: %v, %v", got, err)
	}
	if got, err := s.messages(selection.Selection{Folder: "legs", Last: number(5)}); err != nil || !slices.Equal(got, []int64{3, 5}) {
		t.Errorf("of a session: %v, %v", got, err)
	}
	if got, err := s.messages(selection.Selection{From: midnight, Until: midnight.Add(24 * time.Hour)}); err != nil || len(got) != 11 {
		t.Errorf("of a day: %v, %v", got, err)
	}
	for _, sel := range []selection.Selection{
		{Folder: "orders", First: number(4)},
		{Folder: "rides", From: midnight.Add(61 * time.Minute)},
		{Folder: "orders", Until: midnight.Add(61 * time.Minute)},
	} {
		if got, err := s.messages(sel); !errors.Is(err, selection.ErrUntold) || len(got) > 0 {
			t.Errorf("%+v: %v, %v", sel, got, err)
		}
	}
	for b := range (selection.Selection{Folder: "legs"}).Blobs(t.Context(), s) {
		for m, err := range (selection.Selection{}).Records(t.Context(), s, b) {
			if err != nil || m.SessionID == nil || *m.SessionID != "a" {
				t.Errorf("%+v, %v", m, err)
			}
		}
	}
}

// What is wrong with one blob, or one record, keeps nobody from the others.
func TestDamage(t *testing.T) {
	s := newShelf(t)
	s.hub("rides", "0", midnight, 0, 3)
	s.create(record.EventHubName("rides", "0", midnight, 3), record.Span{First: 4, Last: 4, After: 2, Count: 1, Bytes: 100, Run: "r"}.Metadata())
	s.create(record.EventHubName("rides", "0", midnight, 4), map[string]string{})
	s.hub("rides", "0", midnight, 5, 1)
	got := s.names(selection.Selection{Folder: "rides"})
	want := []string{"rides:0 0..2",
		"error: blob rides/2026/03/09/0000-00000000000000000003.txt: its metadata say that it begins at 4",
		"error: blob rides/2026/03/09/0000-00000000000000000004.txt: parse blob metadata: ", "rides:0 5..5"}
	for i := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q", got)
		}
	}

	whole := []byte(`{"DATA":"0"}` + "\nnonsense\n" + `{"DATA":"2"}` + "\n")
	span := record.Span{First: 0, Last: 2, After: -1, Count: 3, Bytes: int64(len(whole)), Run: "r"}
	if _, err := s.Create(t.Context(), record.EventHubName("other", "0", midnight, 0), whole, span.Metadata()); err != nil {
		t.Fatal(err)
	}
	var numbers []int64
	corrupt := 0
	for b := range (selection.Selection{Folder: "other"}).Blobs(t.Context(), s) {
		for m, err := range (selection.Selection{}).Records(t.Context(), s, b) {
			switch {
			case errors.As(err, new(*record.CorruptError)):
				corrupt++
			case err != nil:
				t.Fatal(err)
			default:
				numbers = append(numbers, m.SequenceNumber)
			}
		}
	}
	if corrupt != 1 || !slices.Equal(numbers, []int64{0, 2}) {
		t.Errorf("%d corrupt, numbers %v", corrupt, numbers)
	}
}

// What a blob has grown by since it was listed belongs to the next list.
func TestRecordsOfABlobThatGrows(t *testing.T) {
	s := newShelf(t)
	line := []byte(`{"DATA":"x"}` + "\n")
	name := record.EventHubName("rides", "0", midnight, 0)
	append := func(n int64) {
		span := record.Span{First: 0, Last: n, After: -1, Count: n + 1, Bytes: (n + 1) * int64(len(line)), Run: "r"}
		if _, err := s.Append(t.Context(), name, n*int64(len(line)), line, span.Metadata()); err != nil {
			t.Fatal(err)
		}
	}
	append(0)
	for b, err := range (selection.Selection{}).Blobs(t.Context(), s) {
		if err != nil {
			t.Fatal(err)
		}
		append(1)
		n := 0
		for m, err := range (selection.Selection{}).Records(t.Context(), s, b) {
			if n++; err != nil || !bytes.Equal(m.Body.Data[0], []byte("x")) {
				t.Error(m, err)
			}
		}
		if n != 1 {
			t.Errorf("%d records of the one that was listed", n)
		}
	}
}

func TestCheck(t *testing.T) {
	for want, sel := range map[string]selection.Selection{
		"":                                      {From: midnight, Until: midnight.Add(1), First: number(3), Last: number(3)},
		"until 2026-03-09T00:00:00Z is no time": {From: midnight, Until: midnight},
		"sequence numbers 3 to 2 are none":      {First: number(3), Last: number(2)},
	} {
		if err := sel.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
