package record

import (
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/store"
)

func holdings() map[string]Holding {
	long := strings.Repeat("é", 600)
	var scattered Sequences
	for n := int64(0); scattered.EncodedLenWith(n) <= MaxHeld; n += 300 {
		scattered.Add(n)
	}
	midnight := time.Date(2026, 3, 9, 23, 59, 59, 999e6, time.UTC)
	return map[string]Holding{
		"one":       {Entity: "orders", Held: NewSequences(0), Earliest: enqueued, Latest: enqueued, After: -1, Bytes: 1, Run: "r"},
		"unsettled": {Entity: "topic/Subscriptions/a-b_c/$DeadLetterQueue", Held: NewSequences(7, 9, 10), Earliest: enqueued, Latest: midnight, After: -1, Bytes: 300, Run: "r-1.A_", Unsettled: true},
		"session":   {Entity: "orders", Session: new("car 7/é"), Held: NewSequences(100, 300), Earliest: enqueued, Latest: enqueued, After: 99, Bytes: 300, Run: "r"},
		"no id":     {Entity: "orders", Session: new(""), Held: NewSequences(100), Earliest: enqueued, Latest: enqueued, After: -1, Bytes: 300, Run: "r"},
		"tilde":     {Entity: "~", Session: new("~"), Held: NewSequences(100), Earliest: enqueued, Latest: enqueued, After: -1, Bytes: 300, Run: "r"},
		"odd":       {Entity: ".a b\n\xff.", Session: new(" \x00. "), Held: SequenceRange(0, math.MaxInt64-1), Earliest: time.UnixMilli(-5).UTC(), Latest: time.UnixMilli(-1).UTC(), After: -1, Bytes: math.MaxInt64, Run: "r"},
		"longest id": {Entity: strings.Repeat("x", 512), Session: new(strings.Repeat("é", 192)), Held: scattered,
			Earliest: enqueued, Latest: enqueued, After: -1, Bytes: 1 << 20, Run: strings.Repeat("r", 64)},
		"largest": {Entity: long[:512/3], Session: new(long[:1152/3]), Held: addAll(scattered, math.MaxInt64-1<<50),
			Earliest: time.UnixMilli(-1 << 45).UTC(), Latest: time.UnixMilli(-1 << 45).UTC(), After: math.MaxInt64 - 1<<50 - 1, Bytes: math.MaxInt64, Run: strings.Repeat("r", 64)},
	}
}

// addAll is s moved up by offset.
func addAll(s Sequences, offset int64) Sequences {
	var moved Sequences
	for n := range s.All() {
		moved.Add(offset + n)
	}
	return moved
}

func TestHolding(t *testing.T) {
	sequences := cmp.Comparer(func(a, b Sequences) bool {
		return a.Encode() == b.Encode() && a.First() == b.First() && a.Len() == b.Len()
	})
	for name, want := range holdings() {
		metadata := want.Metadata()
		if err := store.CheckMetadata(metadata); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := ParseHolding(metadata)
		if diff := cmp.Diff(want, got, sequences); err != nil || diff != "" {
			t.Errorf("%s: %v, (-want +got)\n%s", name, err, diff)
		}
		canonical := map[string]string{"Other": "x"}
		for k, v := range metadata {
			canonical[strings.ToUpper(k[:1])+k[1:]] = v
		}
		got, err = ParseHolding(canonical)
		if diff := cmp.Diff(want, got, sequences); err != nil || diff != "" {
			t.Errorf("%s in HTTP's spelling: %v, (-want +got)\n%s", name, err, diff)
		}
	}
	want := map[string]string{
		"entity": "orders/Subscriptions/a~20b", "session": "car~207", "held": "AAEBAg", "first": "7", "last": "10", "count": "3", "after": "5", "bytes": "99", "run": "r",
		"enqueued_first": "1773029106070", "enqueued_last": "1773029106071",
	}
	h := Holding{Entity: "orders/Subscriptions/a b", Session: new("car 7"), Held: NewSequences(7, 9, 10), Earliest: enqueued, Latest: enqueued.Add(time.Millisecond), After: 5, Bytes: 99, Run: "r"}
	if diff := cmp.Diff(want, h.Metadata()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What is longer than the service allows is cut, told apart, and can still be stored and read.
func TestHoldingCuts(t *testing.T) {
	h := holdings()["largest"]
	h.Entity, h.Session = strings.Repeat("é", 600), new(strings.Repeat("é", 600))
	metadata := h.Metadata()
	if err := store.CheckMetadata(metadata); err != nil {
		t.Error(err)
	}
	got, err := ParseHolding(metadata)
	if err != nil || len(got.Entity) != maxEntity || len(*got.Session) != maxSession {
		t.Errorf("got %+v, %v", got, err)
	}
	h.Session = new(*h.Session + "x")
	if other := h.Metadata()["session"]; other == metadata["session"] {
		t.Error("two long sessions are one")
	}
}

func TestParseHoldingRefuses(t *testing.T) {
	good := Holding{Entity: "orders", Session: new("s"), Held: NewSequences(7, 9, 10), Earliest: enqueued, Latest: enqueued, After: 5, Bytes: 300, Run: "r"}
	for _, test := range []struct{ key, value, want string }{
		{"first", "-1", "below 0"}, {"first", "x", "first is"}, {"first", "8", "last is 10"}, {"last", "9", "last is 9"}, {"last", "1.0", "last is"}, {"count", "4", "count is 4"},
		{"count", "", "count is"}, {"held", "", "held, from first 7"}, {"held", "AAE=", "held, from first 7"}, {"bytes", "2", "bytes is 2"}, {"bytes", "x", "bytes is"},
		{"after", "7", "after is 7"}, {"after", "-2", "after is -2"}, {"after", "", "after is"}, {"run", "", "run is"}, {"run", "a b", "run is"},
		{"entity", "", "entity is"}, {"entity", "a b", "entity is"}, {"entity", "~2f", "entity is"}, {"entity", "a~", "entity is"}, {"entity", "x~~0123456789abcdef", "entity is"},
		{"session", "", "session is"}, {"session", "a/b", "session is"}, {"session", "~61", "session is"}, {"session", ".", "session is"}, {"session", "~~", "session is"},
		{"enqueued_first", "1773029106071", "enqueued_first"}, {"enqueued_last", "1773100800000", "of one day"}, {"enqueued_last", "", "enqueued_last is"}, {"enqueued_first", "x", "enqueued_first is"},
		{"unsettled", "true", "so is session"}, {"unsettled", "false", "expected true"}, {"unsettled", "", "expected true"},
		{"begun", "0", "begun is 0"}, {"begun", "4", "begun is 4"}, {"begun", "", "begun is"}, {"begun", "2", "so is session"},
		{"Run", "r", "run is there more than once"}, {"Held", "AAE", "held is there more than once"}, {"Session", "s", "session is there more than once"},
	} {
		m := good.Metadata()
		m[test.key] = test.value
		if got, err := ParseHolding(m); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%q: got %+v, %v; want %q", test.key, test.value, got, err, test.want)
		}
	}
	for key := range good.Metadata() {
		m := good.Metadata()
		delete(m, key)
		got, err := ParseHolding(m)
		if key == "session" {
			if err != nil || got.Session != nil || got.After != -1 {
				t.Errorf("without session: %+v, %v", got, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), key+" is missing") {
			t.Errorf("without %s: %v", key, err)
		}
	}
	twice := maps.Clone(Holding{Entity: "orders", Held: NewSequences(7), Earliest: enqueued, Latest: enqueued, Bytes: 300, Run: "r", Unsettled: true}.Metadata())
	twice["UNSETTLED"] = "true"
	if _, err := ParseHolding(twice); err == nil || !strings.Contains(err.Error(), "unsettled is there more than once") {
		t.Errorf("twice unsettled: %v", err)
	}
}

func TestHoldingHolds(t *testing.T) {
	h := Holding{Held: NewSequences(7, 9, 10), Earliest: enqueued, Latest: enqueued.Add(time.Minute)}
	for _, test := range []struct {
		number int64
		at     time.Time
		want   bool
	}{
		{7, enqueued, true}, {10, enqueued.Add(time.Minute), true}, {9, enqueued.Add(time.Second), true}, {9, enqueued.In(time.FixedZone("", 3600)), true},
		{8, enqueued, false}, {6, enqueued, false}, {11, enqueued, false},
		{7, enqueued.Add(-time.Millisecond), false}, {7, enqueued.Add(time.Minute + time.Millisecond), false}, {7, enqueued.AddDate(0, 0, -1), false},
		{7, enqueued.Add(999 * time.Microsecond), true}, {7, enqueued.Add(time.Minute + 999*time.Microsecond), true},
	} {
		if got := h.Holds(test.number, test.at); got != test.want {
			t.Errorf("%d at %v: %t", test.number, test.at, got)
		}
	}
}

// Metadata are read as Metadata writes them, or refused.
func FuzzParseHolding(f *testing.F) {
	for _, h := range holdings() {
		m := h.Metadata()
		f.Add(m["entity"], m["session"], m["held"], m["first"], m["last"], m["count"], m["after"], m["enqueued_first"], m["enqueued_last"])
	}
	f.Fuzz(func(t *testing.T, entity, session, held, first, last, count, after, earliest, latest string) {
		m := map[string]string{
			"entity": entity, "held": held, "first": first, "last": last, "count": count, "bytes": "9223372036854775807", "run": "r",
			"enqueued_first": earliest, "enqueued_last": latest,
		}
		if session != "" {
			m["session"], m["after"] = session, after
		}
		h, err := ParseHolding(m)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("several lines: %v", err)
			}
			return
		}
		written := h.Metadata()
		if err := store.CheckMetadata(written); err != nil {
			t.Fatal(err)
		}
		cut := len(entity) == maxEntity || len(session) == maxSession
		if written["held"] != held || !cut && (written["entity"] != entity || written["session"] != session) {
			t.Fatalf("%v became %v", m, written)
		}
		if again, err := ParseHolding(written); err != nil || !cut && (again.Entity != h.Entity || again.Held.Len() != h.Held.Len()) {
			t.Fatalf("%v became %+v, %v", written, again, err)
		}
	})
}

func TestHoldingTellsWhoseItIs(t *testing.T) {
	long, other := strings.Repeat("界", 128), strings.Repeat("界", 127)+"丌"
	empty := ""
	for _, session := range []*string{nil, &empty, &long} {
		h := Holding{
			Entity: "topic/Subscriptions/sub", Session: session, Held: NewSequences(1), After: -1, Bytes: 10, Run: "r",
			Earliest: time.UnixMilli(1), Latest: time.UnixMilli(1),
		}
		parsed, err := ParseHolding(h.Metadata())
		if err != nil {
			t.Fatal(err)
		}
		if !parsed.Of("topic/Subscriptions/sub", session) || !parsed.Of("Topic/subscriptions/Sub", session) || parsed.Of("topic/Subscriptions/sub2", session) || parsed.Of("", session) {
			t.Errorf("entity of %+v is mistaken", parsed)
		}
		for _, another := range []*string{nil, &empty, &long, &other} {
			if got := parsed.Of("topic/Subscriptions/sub", another); got != (session == another) {
				t.Errorf("session %.20v taken for %.20v: %t", parsed.Session, another, got)
			}
		}
	}
}
