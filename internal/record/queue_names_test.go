package record

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"persistor/internal/store"
)

// late is a time of the next day in UTC.
var late = time.Date(2026, 3, 9, 23, 30, 0, 0, time.FixedZone("", -3600))

var nextDay = time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)

func TestQueueName(t *testing.T) {
	messages := []Key{{7, late}, {9, late.Add(time.Millisecond)}, {10, late}}
	const want = "orders/2026/03/10/00000000000000000007-00000000000000000010-fd73cbf655563e35.txt"
	if got := QueueName("orders", "orders", messages); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := store.CheckName(want); err != nil || !strings.HasPrefix(want, QueueDay("orders", late)) {
		t.Errorf("%v; day %s", err, QueueDay("orders", late))
	}
	if got, err := ParseQueueName(want); err != nil || got != (QueueBlob{"orders", nextDay, 7, 10, "fd73cbf655563e35", time.Time{}}) {
		t.Errorf("parsed %+v, %v", got, err)
	}

	// One set of messages, one name, whatever the order and whatever is finer than a millisecond.
	other := []Key{{10, late.Add(999 * time.Microsecond)}, messages[0], {9, messages[1].Enqueued.UTC()}}
	before := slices.Clone(other)
	if got := QueueName("orders", "orders", other); got != want || !slices.Equal(other, before) {
		t.Errorf("another order: got %s, left %v", got, other)
	}
	// Other messages between the same ends, and the same numbers in a queue created anew, have other names.
	names := map[string]bool{want: true}
	for i, messages := range [][]Key{
		{{7, late}, {8, late.Add(time.Millisecond)}, {10, late}},
		{{7, late}, {10, late}},
		{{7, late}, {9, late.Add(2 * time.Millisecond)}, {10, late}},
		{{7, late}, {9, late.Add(time.Millisecond)}, {10, late.Add(time.Millisecond)}},
	} {
		name := QueueName("orders", "orders", messages)
		if names[name] || !strings.HasPrefix(name, want[:59]) {
			t.Errorf("%d: %s", i, name)
		}
		names[name] = true
	}
	// A digest is of all of them, however many.
	many := make([]Key, 1000)
	for i := range many {
		many[i] = Key{int64(i), late}
	}
	name := QueueName("orders", "orders", many)
	for i := 1; i < len(many)-1; i++ {
		many[i].Enqueued = many[i].Enqueued.Add(time.Second)
		if next := QueueName("orders", "orders", many); next == name {
			t.Fatalf("message %d does not count", i)
		} else {
			name = next
		}
	}
}

func TestSessionName(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, test := range []struct{ folder, session, want string }{
		{"orders", "car-7", "orders/2026/03/10/car-7/00000000000000000042.txt"},
		{"orders", "", "orders/2026/03/10/~/00000000000000000042.txt"},
		{"orders", "~", "orders/2026/03/10/~7E/00000000000000000042.txt"},
		{"", "a/b c", "2026/03/10/a~2Fb~20c/00000000000000000042.txt"},
		{"topic/sub", "..", "topic/sub/2026/03/10/~2E~2E/00000000000000000042.txt"},
		{"orders", ".é.\x00\xff", "orders/2026/03/10/~2E~C3~A9.~00~FF/00000000000000000042.txt"},
		{"orders", "00000000000000000042.txt", "orders/2026/03/10/00000000000000000042.txt/00000000000000000042.txt"},
		{"2026/03/10", "2026", "2026/03/10/2026/03/10/2026/00000000000000000042.txt"},
	} {
		name := SessionName(test.folder, test.session, late, 42)
		if name != test.want {
			t.Errorf("%q: got %s, want %s", test.session, name, test.want)
		}
		if err := store.CheckName(name); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(name, SessionDay(test.folder, test.session, late)) || !strings.HasPrefix(name, QueueDay(test.folder, late)) {
			t.Errorf("%s is not listed under its own prefixes", name)
		}
		if got, err := ParseSessionName(name); err != nil || got != (SessionBlob{test.folder, test.session, nextDay, 42, time.Time{}}) {
			t.Errorf("%s: parsed %+v, %v", name, got, err)
		}
		if _, err := ParseQueueName(name); err == nil {
			t.Errorf("%s is taken for one of competing receivers", name)
		}
		if _, err := ParseEventHubName(name); err == nil {
			t.Errorf("%s is taken for one of an Event Hub", name)
		}
	}

	// What is too long is cut, still tells sessions apart, and is parsed as it stands.
	name := SessionName(strings.Repeat("é/", 500), long, late, 42)
	if err := store.CheckName(name); err != nil {
		t.Error(err)
	}
	if SessionDay("orders", long, late) == SessionDay("orders", long+"x", late) {
		t.Error("two long sessions are one")
	}
	cut := sessionText(long, maxSegment)
	if got, err := ParseSessionName(name); err != nil || got.Session != cut || len(cut) != maxSegment {
		t.Errorf("parsed %+v, %v", got, err)
	}
	if got := sessionText(cut, maxSegment); got == cut {
		t.Errorf("a session named as what is left of another: %s", got)
	}
}

func TestParseNamesRefuse(t *testing.T) {
	const (
		first, last = "00000000000000000042", "00000000000000000043"
		digest      = "0123456789abcdef"
		day         = "orders/2026/03/09/"
	)
	for _, name := range []string{
		"", "x", day + first + ".txt", day + first + "-" + last + ".txt", day + first + "-" + last + "-" + digest,
		day + "42-43-" + digest + ".txt", day + last + "-" + first + "-" + digest + ".txt", day + first + "-" + last + "-0123456789ABCDEF.txt",
		day + first + "-" + last + "-0123.txt", day + first + "-" + last + "-" + digest + "-" + digest + ".txt", day + "/" + first + "-" + last + "-" + digest + ".txt",
		day + "-0000000000000000001-" + last + "-" + digest + ".txt", "orders/2026/02/30/" + first + "-" + last + "-" + digest + ".txt",
		"orders/2026/3/9/" + first + "-" + last + "-" + digest + ".txt", "/2026/03/09/" + first + "-" + last + "-" + digest + ".txt", "..//2026/03/09/" + first + "-" + last + "-" + digest + ".txt",
		day + "+0000000000000000042-" + last + "-" + digest + ".txt", "a b/2026/03/09/" + first + "-" + last + "-" + digest + ".txt",
		day + "99999999999999999999-99999999999999999999-" + digest + ".txt",
	} {
		if got, err := ParseQueueName(name); err == nil {
			t.Errorf("%s: parsed %+v", name, got)
		}
	}
	for _, name := range []string{
		"", "x", day + first + ".txt", day + "s/" + first, day + "s/42.txt", day + "s/-0000000000000000042.txt", day + "s/+0000000000000000042.txt", day + "s/t/" + first + ".txt",
		day + "~~/" + first + ".txt", day + "/" + first + ".txt", day + "a b/" + first + ".txt", day + "~61/" + first + ".txt", day + "~2f/" + first + ".txt", day + "~2/" + first + ".txt",
		day + "./" + first + ".txt", day + "x~~" + digest + "/" + first + ".txt", day + strings.Repeat("x", 200) + "/" + first + ".txt", day + strings.Repeat("x", 110) + "~~0123456789ABCDEF/" + first + ".txt",
		"orders/2026/02/30/s/" + first + ".txt", "orders//2026/03/09/s/" + first + ".txt", day + "s/" + first + "-" + last + "-" + digest + ".txt",
	} {
		if got, err := ParseSessionName(name); err == nil {
			t.Errorf("%s: parsed %+v", name, got)
		}
	}
}

// Whatever a folder and a session are called, their names can be stored, and tell what they were made of.
func FuzzNames(f *testing.F) {
	f.Add("orders", "car-7", int64(1), int64(1_000_000))
	f.Add("a//b/.", "", int64(0), int64(-1))
	f.Add(strings.Repeat("~", 600), strings.Repeat("\xff", 200), int64(1<<62), int64(1<<40))
	f.Fuzz(func(t *testing.T, folder, session string, first, ms int64) {
		at := time.UnixMilli(ms % (1 << 47)).UTC() // some 4,000 years around 1970
		first &= 1<<63 - 1
		if at.Year() < 0 {
			return
		}
		name := SessionName(folder, session, at, first)
		blob, err := ParseSessionName(name)
		if err != nil || store.CheckName(name) != nil || blob.First != first || blob.Day.Format(time.DateOnly) != at.Format(time.DateOnly) {
			t.Fatalf("%q became %+v, %v, %v", name, blob, err, store.CheckName(name))
		}
		if text := sessionText(session, maxSegment); blob.Session != session && blob.Session != text || blob.Session == text && len(text) == maxSegment && text == session {
			t.Fatalf("session %q came back as %q", session, blob.Session)
		}
		if again := SessionName("", session, at, first); !strings.HasSuffix(name, again) {
			t.Fatalf("%q does not end as %q", name, again)
		}
		queue := QueueName(folder, "orders", []Key{{first, at}})
		parsed, err := ParseQueueName(queue)
		if err != nil || store.CheckName(queue) != nil || parsed.First != first || parsed.Last != first || parsed.Folder != blob.Folder {
			t.Fatalf("%q became %+v, %v", queue, parsed, err)
		}
		// The session's own text as a name: read as a name that is written the same, or refused.
		if got, err := ParseSessionName(session); err == nil && !strings.HasSuffix(session, fmt.Sprintf("/%020d.txt", got.First)) {
			t.Fatalf("%q parsed as %+v", session, got)
		}
	})
}
