package audit_test

import (
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

	"persistor/internal/audit"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

const (
	ridesHub = "ns.servicebus.windows.net/rides"
	otherHub = "ns.servicebus.windows.net/rides-old"
)

// putIn stores events as a blob of a folder, of a hub ("" for one that isn't named), that follows on from after.
func (s memory) putIn(folder, hub string, after int64, messages ...*message.Message) string {
	content := contentOf(messages)
	first, last := messages[0], messages[len(messages)-1]
	span := record.Span{
		First: first.SequenceNumber, Last: last.SequenceNumber, After: after, Count: int64(len(messages)), Bytes: int64(len(content)), Run: "test",
		Hub: hub, Latest: last.EnqueuedTime,
	}
	name := record.EventHubName(folder, first.Partition, first.EnqueuedTime, first.SequenceNumber)
	s[name] = memoryBlob{content, span.Metadata()}
	return name
}

// putEvent stores an event of Event Grid, and more that were appended to its blob.
func (s memory) putEvent(folder string, at time.Time, ids ...string) string {
	var messages []*message.Message
	for _, id := range ids {
		messages = append(messages, &message.Message{
			Body: message.Body{Kind: message.JSON, JSON: []byte("1")}, Properties: map[string]any{"specversion": "1.0", "source": "/cars/7", "id": id},
		})
	}
	content := contentOf(messages)
	e := record.Event{Source: "/cars/7", ID: ids[0], Content: strings.Repeat("0f", 16), Count: int64(len(ids)), Bytes: int64(len(content)), Run: "test"}
	name := record.EventName(folder, e.Source, e.ID, at)
	s[name] = memoryBlob{content, e.Metadata()}
	return name
}

// later moves events to another day.
func later(days int, messages []*message.Message) []*message.Message {
	for _, m := range messages {
		m.EnqueuedTime = m.EnqueuedTime.AddDate(0, 0, days)
	}
	return messages
}

// container is a store of several folders, all of them sound.
func container() memory {
	s := make(memory)
	for _, p := range []string{"0", "1"} {
		s.putIn(folder, ridesHub, -1, events(p, 0, 4)...)
		s.putIn(folder, ridesHub, 4, events(p, 5, 9)...)
		s.putIn(folder, ridesHub, 9, later(1, events(p, 10, 19))...)
	}
	s.putQueue(orders(1, 2, 5)...)
	s.putQueue(orders(3, 4)...)
	s.putSession(-1, rides("a", 1, 2)...)
	s.putSession(2, rides("a", 4)...)
	s.putEvent("grid", day, "1")
	s.putEvent("grid", day, "2", "3")
	s.putEvent("grid", time.Time{}, "4")
	s["_replays/588e0a9697ff8238.json"] = memoryBlob{content: []byte("{}")}
	s["_runs/ns/rides/g.lock"] = memoryBlob{content: []byte("{}")}
	s["_runs/ns/rides/20260301T000000Z-3f9a1c.json"] = memoryBlob{content: []byte("{}")}
	return s
}

// verify audits shallowly and deeply, which must agree on all counts, and returns what the first found.
func verify(t *testing.T, s memory, scope audit.Scope, expect audit.Expectation) audit.Summary {
	t.Helper()
	found, err := audit.Container(t.Context(), s, scope, expect)
	if err != nil {
		t.Fatal(err)
	}
	scope.Deep = true
	deep, err := audit.Container(t.Context(), s, scope, expect)
	if err != nil {
		t.Fatal(err)
	}
	deep.Deep, deep.ElapsedSeconds, found.ElapsedSeconds = false, 0, 0
	if diff := cmp.Diff(found, deep); diff != "" {
		t.Errorf("contents tell otherwise than names and metadata: %s", diff)
	}
	return found
}

func TestFoldersAreToldApart(t *testing.T) {
	s := container()
	s["README.md"] = memoryBlob{content: []byte("theirs")}
	s["ns/rides/$default/checkpoint/0"] = memoryBlob{}
	found := verify(t, s, audit.Scope{}, audit.Expectation{})
	if !found.Complete || !found.Finished || found.Blobs != 13 || found.Messages != 40+5+3+4 || found.Ignored != 2 {
		t.Errorf("%+v", found)
	}
	var names []string
	for _, r := range found.Folders {
		names = append(names, r.Folder)
	}
	if want := []string{"grid", queueFolder, folder, sessionFolder}; !slices.Equal(names, want) {
		t.Errorf("folders %q, want %q", names, want)
	}
	if p := found.Folders[2].Partitions; len(p) != 2 || p[0].Hub != ridesHub || p[0].Blobs != 3 || p[0].To != 19 || !slices.Equal(p[0].Covered, []work.Range{{From: 0, To: 19}}) {
		t.Errorf("%+v", p)
	}
	if e := found.Folders[0].Events; e == nil || e.Blobs != 3 || e.Messages != 4 || e.Bytes == 0 {
		t.Errorf("%+v", e)
	}
}

func TestNothingIsNoProof(t *testing.T) {
	for name, s := range map[string]memory{"empty": {}, "of others": {"README.md": {content: []byte("x")}}, "runs": {"_runs/x": {}}} {
		if found := verify(t, s, audit.Scope{}, audit.Expectation{}); found.Complete || !strings.Contains(strings.Join(found.Problems, ""), "there is no blob") {
			t.Errorf("%s: %+v", name, found)
		}
	}
	misspelt := "ridse"
	if found := verify(t, container(), audit.Scope{Folder: &misspelt}, audit.Expectation{}); found.Complete {
		t.Errorf("a folder that isn't there: %+v", found)
	}
}

// Two hubs that store into one folder count apart, whatever numbers they share.
func TestHubsAreToldApart(t *testing.T) {
	s := container()
	s.putIn(folder, otherHub, -1, later(-3, events("0", 0, 14))...)
	s.putIn(folder, otherHub, 14, later(-2, events("0", 15, 16))...)
	found := verify(t, s, audit.Scope{}, audit.Expectation{})
	if !found.Complete || len(found.Folders[2].Partitions) != 3 || found.Folders[2].Partitions[2].Hub != otherHub || found.Folders[2].Partitions[2].To != 16 {
		t.Errorf("%+v", found)
	}

	// Told as one's, the other's are a problem.
	name := folder
	hub := map[string]work.Range{"0": {From: 0, To: 19}, "1": {From: 0, To: 19}}
	if found := verify(t, s, audit.Scope{Folder: &name}, audit.Expectation{Partitions: hub, Hub: ridesHub}); !found.Complete {
		t.Errorf("%+v", found)
	}
	if found := verify(t, s, audit.Scope{Folder: &name}, audit.Expectation{Partitions: hub}); found.Complete || !strings.Contains(strings.Join(found.Folders[0].Problems, ""), "blobs of 2 Event Hubs") {
		t.Errorf("%+v", found)
	}

	// Blobs that name no hub go with the others if there are no two.
	s = container()
	s.putIn(folder, "", 19, later(2, events("0", 20, 24))...)
	if found := verify(t, s, audit.Scope{}, audit.Expectation{}); !found.Complete || len(found.Folders[2].Partitions) != 2 || found.Folders[2].Partitions[0].To != 24 {
		t.Errorf("%+v", found)
	}
	s.putIn(folder, otherHub, -1, later(-3, events("1", 0, 4))...)
	if found := verify(t, s, audit.Scope{}, audit.Expectation{}); !found.Complete || len(found.Folders[2].Partitions) != 4 || found.Folders[2].Partitions[0].From != 20 {
		t.Errorf("%+v", found)
	}
	delete(s, record.EventHubName(folder, "1", day.AddDate(0, 0, -3), 0))
	s.putIn(folder, "", 17, later(2, events("0", 18, 19))...)
	if found := verify(t, s, audit.Scope{}, audit.Expectation{}); found.Complete || found.Duplicates != 2 {
		t.Errorf("%+v", found)
	}
}

// What is stored below _failed/ isn't missing, and its own holes are none.
func TestStoredApart(t *testing.T) {
	s := container()
	delete(s, record.EventHubName(folder, "0", day, 5))
	s.putIn("_failed/"+folder, ridesHub, 4, events("0", 5, 7)...)
	s.putIn("_failed/"+folder, ridesHub, 8, events("0", 9, 9)...)
	s.putIn("_failed/"+folder, ridesHub, 29, events("0", 30, 30)...)
	s["_failed/"+folder+"/unidentified/"+strings.Repeat("0f", 16)+".txt"] = memoryBlob{contentOf(events("0", 1, 1)), map[string]string{"count": "1", "run": "r"}}
	name := folder
	for _, scope := range []audit.Scope{{}, {Folder: &name}} {
		found := verify(t, s, scope, audit.Expectation{})
		last := found.Folders[len(found.Folders)-1]
		if found.Complete || found.Gaps != 1 || found.Missing != 1 || found.Apart != 6 || !last.Failed || last.Folder != "_failed/"+folder || !last.Complete || last.Events.Unidentified != 1 {
			t.Errorf("%+v", found)
		}
		i := slices.IndexFunc(found.Folders, func(r audit.Report) bool { return r.Folder == folder })
		if p := found.Folders[i].Partitions[0]; !slices.Equal(p.Gaps, []work.Range{{From: 8, To: 8}}) || !slices.Equal(p.Apart, []work.Range{{From: 5, To: 7}, {From: 9, To: 9}}) {
			t.Errorf("%+v", p)
		}
	}
}

// asked notes what prefixes are listed.
type asked struct {
	memory
	prefixes *[]string
}

func (a asked) List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error] {
	*a.prefixes = append(*a.prefixes, prefix)
	return a.memory.List(ctx, prefix)
}

func TestScope(t *testing.T) {
	s := container()
	name := folder
	on := func(n int) time.Time { return day.AddDate(0, 0, n) }
	for _, test := range []struct {
		scope    audit.Scope
		messages int64
		leftOut  int64
		lists    []string
	}{
		{audit.Scope{}, 52, 0, []string{""}},
		{audit.Scope{Folder: &name}, 40, 0, []string{"_failed/rides/", "rides/"}},
		{audit.Scope{Folder: &name, Partitions: []string{"1"}}, 20, 3, []string{"_failed/rides/", "rides/"}},
		{audit.Scope{Partitions: []string{"1"}}, 20, 10, []string{""}},
		{audit.Scope{From: on(1)}, 20, 11, []string{""}},
		{audit.Scope{Until: on(0)}, 31, 3, []string{""}},
		{audit.Scope{Folder: &name, From: on(0), Until: on(0)}, 20, 0, []string{"_failed/rides/2026/03/01/", "rides/2026/03/01/"}},
		{audit.Scope{Folder: &name, From: on(-1), Until: on(3)}, 40, 0, []string{"_failed/rides/2026/0", "rides/2026/0"}},
	} {
		var prefixes []string
		found, err := audit.Container(t.Context(), asked{s, &prefixes}, test.scope, audit.Expectation{})
		if err != nil || !found.Complete || found.Messages != test.messages || found.LeftOut != test.leftOut || !slices.Equal(prefixes, test.lists) {
			t.Errorf("%+v: listed %q, %v: %+v", test.scope, prefixes, err, found)
		}
	}
}

// A partition that was asked for, and of which there is nothing, is not proven by the others.
func TestPartitionNotThere(t *testing.T) {
	found := verify(t, container(), audit.Scope{Partitions: []string{"1", "7"}}, audit.Expectation{})
	if found.Complete || len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "partition 7: nothing of it is stored") {
		t.Errorf("%+v", found)
	}
}

// What lies between two days is a gap, as everything else is.
func TestGapAtADaysEnd(t *testing.T) {
	s := container()
	delete(s, record.EventHubName(folder, "1", day, 5))
	found := verify(t, s, audit.Scope{}, audit.Expectation{})
	if found.Complete || found.Gaps != 1 || found.Missing != 5 || !slices.Equal(found.Folders[2].Partitions[1].Gaps, []work.Range{{From: 5, To: 9}}) {
		t.Errorf("%+v", found)
	}
}

// torn fails in its own ways.
type torn struct {
	memory
	after  int             // a list ends with an error behind so many blobs
	gone   map[string]bool // these can't be opened any more
	broken map[string]bool // these can't be listed, and others can
}

func (s torn) List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error] {
	return func(yield func(store.Blob, error) bool) {
		n := 0
		for b, err := range s.memory.List(ctx, prefix) {
			if n++; n == s.after {
				yield(store.Blob{}, errors.New("the line is dead"))
				return
			}
			if s.broken[b.Name] {
				err = fmt.Errorf("read %q: its file is gone", b.Name)
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

func (s torn) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if s.gone[name] {
		return nil, store.ErrNotFound
	}
	return s.memory.Open(ctx, name)
}

func TestTornStore(t *testing.T) {
	blob := record.EventHubName(folder, "0", day, 5)
	found, err := audit.Container(t.Context(), torn{memory: container(), after: 7}, audit.Scope{}, audit.Expectation{})
	if err == nil || !strings.Contains(err.Error(), "the line is dead") || found.Finished || found.Complete || found.Blobs == 0 {
		t.Errorf("a list that ends: %v, %+v", err, found)
	}
	found, err = audit.Container(t.Context(), torn{memory: container(), gone: map[string]bool{blob: true}}, audit.Scope{Deep: true}, audit.Expectation{})
	if err != nil || !found.Finished || found.Complete || !slices.Contains(found.Folders[2].Problems, "blob "+blob+": it was listed, and is gone") {
		t.Errorf("a blob that goes: %v, %+v", err, found)
	}
	found, err = audit.Container(t.Context(), torn{memory: container(), broken: map[string]bool{blob: true}}, audit.Scope{}, audit.Expectation{})
	if err != nil || found.Complete || found.Gaps != 1 || len(found.Problems) != 1 || !strings.Contains(found.Problems[0], blob) {
		t.Errorf("a blob that can't be listed: %v, %+v", err, found)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := audit.Container(ctx, container(), audit.Scope{}, audit.Expectation{}); !errors.Is(err, context.Canceled) || found.Finished || found.Complete {
		t.Errorf("cancelled: %v, %+v", err, found)
	}
}

// Names and metadata that nobody of us wrote, or that somebody has changed.
func TestHostileBlobs(t *testing.T) {
	first := record.EventHubName(folder, "0", day, 0)
	grid := record.EventName("grid", "/cars/7", "1", day)
	for name, test := range map[string]struct {
		do      func(s memory)
		says    string // "": it is proven all the same
		ignored int64
	}{
		"names": {func(s memory) {
			for _, n := range []string{
				"x", "/", "//", "a//b", "2026", "2026/03/01", "rides/2026/03/01/", "rides/2026/3/1/0000-00000000000000000000.txt", "rides/2026/02/30/0000-00000000000000000000.txt",
				"rides/2026/03/01/0000-0000000000000000000.txt", "rides/2026/03/01/0000-99999999999999999999.txt", "rides/2026/03/01/../x.txt", "\xff\xfe", strings.Repeat("a/", 500) + "b",
				"rides/2026/03/01/0000-00000000000000000000.TXT", "rides/2026/03/01/0000-00000000000000000000-2460.txt", "_failed", "_failed/", "_failed/unidentified/x.txt", "rides/undated/x.txt",
			} {
				s[n] = memoryBlob{}
			}
		}, "", 20},
		"keys in another case": {func(s memory) {
			for n, b := range s {
				upper := map[string]string{}
				for k, v := range b.metadata {
					upper[strings.ToUpper(k[:1])+k[1:]] = v
				}
				s[n] = memoryBlob{b.content, upper}
			}
		}, "", 0},
		"a key in two cases":      {func(s memory) { s.edit(first, "First", "0") }, "first is there more than once", 0},
		"no bytes":                {func(s memory) { s[first] = memoryBlob{[]byte{}, s[first].metadata} }, "it has 0 bytes, its metadata say", 0},
		"no metadata":             {func(s memory) { s[first] = memoryBlob{s[first].content, nil} }, "is missing", 0},
		"a range of all":          {func(s memory) { s.edit(first, "last", "9223372036854775807", "count", "9223372036854775807") }, first, 0},
		"a number that is none":   {func(s memory) { s.edit(first, "last", "99999999999999999999") }, "expected a whole number", 0},
		"a count below":           {func(s memory) { s.edit(first, "count", "-5") }, "count is -5", 0},
		"another day":             {func(s memory) { s.edit(first, "enqueued_last", "0") }, "its metadata say that it is of 1970-01-01", 0},
		"another event's":         {func(s memory) { s.edit(grid, "id", "9") }, `its metadata say that it is of event "9" of "/cars/7"`, 0},
		"an event's length":       {func(s memory) { s.edit(grid, "bytes", "7") }, "its metadata say 7", 0},
		"an event without source": {func(s memory) { s.edit(grid, "source", "") }, "source is missing", 0},
		"a session of all":        {func(s memory) { s.putSession(-1, rides(strings.Repeat("é", 128), 7)...) }, "", 0},
	} {
		s := container()
		test.do(s)
		found, err := audit.Container(t.Context(), s, audit.Scope{}, audit.Expectation{})
		told := strings.Join(found.Problems, "\n")
		for _, r := range found.Folders {
			told += strings.Join(r.Problems, "\n")
		}
		if err != nil || found.Complete != (test.says == "") || !strings.Contains(told, test.says) || found.Ignored != test.ignored {
			t.Errorf("%s: %v, complete %t, ignored %d: %s", name, err, found.Complete, found.Ignored, told)
		}
	}
}

// An event that is stored twice shows in the contents, in whatever blobs and of whatever day.
func TestEventTwice(t *testing.T) {
	s := container()
	s.putEvent("grid", day.AddDate(0, 0, 1), "7", "3")
	found, err := audit.Container(t.Context(), s, audit.Scope{Deep: true}, audit.Expectation{})
	if err != nil || found.Complete || found.Duplicates != 1 || found.Folders[0].Events.Duplicates != 1 {
		t.Errorf("%v, %+v", err, found)
	}
	s = container()
	name := record.EventName("grid", "/cars/7", "2", day)
	b := s[name]
	b.content = []byte(strings.Replace(string(b.content), `"2"`, `"5"`, 1))
	s[name] = b
	found, err = audit.Container(t.Context(), s, audit.Scope{Deep: true}, audit.Expectation{})
	if err != nil || found.Complete || !strings.Contains(strings.Join(found.Folders[0].Problems, ""), "is another event than that of the blob's name") {
		t.Errorf("%v, %+v", err, found)
	}
}

// What is too much to be held is counted and told, and then nothing is proven.
func TestTooMuchToBeHeld(t *testing.T) {
	audit.Bound(t, audit.Bounds{Sessions: 2, Events: 3})
	s := container()
	if found, err := audit.Container(t.Context(), s, audit.Scope{}, audit.Expectation{}); err != nil || !found.Complete {
		t.Fatalf("%v, %+v", err, found)
	}
	for n, id := range []string{"b", "c", "d"} {
		s.putSession(-1, rides(id, int64(10+10*n), int64(11+10*n))...)
		s.putSession(int64(11+10*n), rides(id, int64(12+10*n))...)
	}
	found, err := audit.Container(t.Context(), s, audit.Scope{Deep: true}, audit.Expectation{})
	if err != nil || found.Complete {
		t.Fatalf("%v, %+v", err, found)
	}
	e := found.Folders[3].Entities[0]
	if e.Sessions != 2 || e.Unfollowed != 4 || !strings.Contains(strings.Join(found.Folders[3].Problems, ""), "more than 2 sessions") {
		t.Errorf("%+v", found.Folders[3])
	}
	if g := found.Folders[0]; g.Events.Unfollowed != 1 || !strings.Contains(strings.Join(g.Problems, ""), "1 events were not compared") {
		t.Errorf("%+v", g)
	}
	// Blobs side by side are compared all the same.
	s.putSession(-1, later(0, rides("d", 31))...)
	if found, err := audit.Container(t.Context(), s, audit.Scope{}, audit.Expectation{}); err != nil || found.OutOfOrder != 1 {
		t.Errorf("%v, %+v", err, found)
	}
}

// So are folders, partitions and entities, and numbers that are strewn about.
func TestTooManySubjects(t *testing.T) {
	audit.Bound(t, audit.Bounds{Subjects: 8}) // four folders, two partitions, two entities
	s := container()
	if found, err := audit.Container(t.Context(), s, audit.Scope{}, audit.Expectation{}); err != nil || !found.Complete {
		t.Fatalf("%v, %+v", err, found)
	}
	s.putIn("zones", ridesHub, -1, events("0", 0, 4)...)
	found, err := audit.Container(t.Context(), s, audit.Scope{}, audit.Expectation{})
	if err != nil || found.Complete || len(found.Folders) != 4 || !strings.Contains(strings.Join(found.Problems, ""), "folder zones/: not looked at") {
		t.Errorf("%v, %+v", err, found)
	}
	audit.Bound(t, audit.Bounds{Subjects: 100, Pages: 2})
	if found, err := audit.Container(t.Context(), container(), audit.Scope{}, audit.Expectation{}); err != nil || !found.Complete {
		t.Fatalf("%v, %+v", err, found)
	}
	s = container()
	s.putQueue(order(1_000_000))
	found, err = audit.Container(t.Context(), s, audit.Scope{}, audit.Expectation{})
	if e := found.Folders[1].Entities; err != nil || found.Complete || len(e)+len(found.Folders[3].Entities) != 2 || e[0].Unfollowed+found.Folders[3].Entities[0].Unfollowed == 0 {
		t.Errorf("%v, %+v", err, found)
	}
}
