package record

import (
	"maps"
	"strings"
	"testing"
	"time"

	"persistor/internal/store"
)

func TestEventHubName(t *testing.T) {
	at := time.Date(2026, 3, 9, 23, 30, 0, 0, time.FixedZone("", -3600)) // the next day in UTC
	long := strings.Repeat("x", 2000)
	for _, test := range []struct{ folder, partition, want string }{
		{"hub", "3", "hub/2026/03/10/0003-00000000000000000042.txt"},
		{"hub", "12345", "hub/2026/03/10/12345-00000000000000000042.txt"},
		{"hub", "0", "hub/2026/03/10/0000-00000000000000000042.txt"},
		{"hub", "03", "hub/2026/03/10/~303-00000000000000000042.txt"},
		{"hub", "", "hub/2026/03/10/-00000000000000000042.txt"},
		{"hub", "a-b/c", "hub/2026/03/10/a~2Db~2Fc-00000000000000000042.txt"},
		{"", "3", "2026/03/10/0003-00000000000000000042.txt"},
		{"a/b", "..", "a/b/2026/03/10/~2E~2E-00000000000000000042.txt"},
		{"a b/é~", "3", "a~20b/~C3~A9~7E/2026/03/10/0003-00000000000000000042.txt"},
		{".hidden/a.b.", ".x.y", "~2Ehidden/a.b~2E/2026/03/10/~2Ex.y-00000000000000000042.txt"},
		{"x/../.", "3", "x/~2E~2E/~2E/2026/03/10/0003-00000000000000000042.txt"},
	} {
		name := EventHubName(test.folder, test.partition, at, 42)
		if name != test.want {
			t.Errorf("%q %q: got %s, want %s", test.folder, test.partition, name, test.want)
		}
		if !strings.HasPrefix(name, EventHubDay(test.folder, test.partition, at)) || !strings.HasPrefix(name, EventHubFolder(test.folder)) {
			t.Errorf("%s is not listed under its own prefixes", name)
		}
		if err := store.CheckName(name); err != nil {
			t.Error(err)
		}
		want := EventHubBlob{test.folder, test.partition, time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC), 42, time.Time{}}
		if got, err := ParseEventHubName(name); err != nil || got != want {
			t.Errorf("%s: parsed %+v, %v", name, got, err)
		}
	}
	if got, want := EventHubFolder("/a//b/"), "a/b/"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, folder := range []string{long, strings.Repeat("abc/", 500), strings.Repeat("é", 500)} {
		name := EventHubName(folder, long, at, 42)
		if store.CheckName(name) != nil || EventHubFolder(folder) == EventHubFolder(folder+"x") {
			t.Errorf("%d bytes, or two folders are one: %s", len(name), name)
		}
		if _, err := ParseEventHubName(EventHubName(folder, "3", at, 42)); err != nil {
			t.Error(err)
		}
	}
}

func TestByMinute(t *testing.T) {
	at := time.Date(2026, 3, 9, 23, 30, 59, 999, time.FixedZone("", -3600)) // 00:30 of the next day in UTC
	minute := time.Date(2026, 3, 10, 0, 30, 0, 0, time.UTC)
	for name, want := range map[string]string{
		EventHubName("hub", "3", at, 42):      "hub/2026/03/10/0003-00000000000000000042-0030.txt",
		EventHubName("hub", "a-2359", at, 42): "hub/2026/03/10/a~2D2359-00000000000000000042-0030.txt",
	} {
		timed := ByMinute(name, at)
		plain, err := ParseEventHubName(name)
		got, timedErr := ParseEventHubName(timed)
		if plain.Minute = minute; timed != want || err != nil || timedErr != nil || got != plain {
			t.Errorf("%s: parsed %+v, %v; want %s with %+v", timed, got, timedErr, want, plain)
		}
	}
	timed := ByMinute(QueueName("orders", "orders", []Key{{7, at}}), at)
	if got, err := ParseQueueName(timed); err != nil || !got.Minute.Equal(minute) || got.First != 7 || len(got.Digest) != 16 {
		t.Errorf("%s: parsed %+v, %v", timed, got, err)
	}
	timed = ByMinute(SessionName("orders", "a-1200", at, 7), at)
	if got, err := ParseSessionName(timed); err != nil || !got.Minute.Equal(minute) || got.Session != "a-1200" || timed != "orders/2026/03/10/a-1200/00000000000000000007-0030.txt" {
		t.Errorf("%s: parsed %+v, %v", timed, got, err)
	}
	for _, name := range []string{
		"hub/2026/03/10/0003-00000000000000000042-2400.txt", "hub/2026/03/10/0003-00000000000000000042-2360.txt", "hub/2026/03/10/0003-00000000000000000042-030.txt",
		"hub/2026/03/10/0003-00000000000000000042-0030-0030.txt", "hub/2026/03/10/0003-0030.txt", "hub/2026/03/10/0030.txt", "-0030.txt",
	} {
		if _, err := ParseEventHubName(name); err == nil {
			t.Errorf("%s was not refused", name)
		}
	}
}

func TestParseEventHubNameRefuses(t *testing.T) {
	for _, name := range []string{
		"", "x", "hub/2026/03/09/0003-42.txt", "hub/2026/3/9/0003-00000000000000000042.txt", "hub/2026/02/30/0003-00000000000000000042.txt",
		"hub/2026/03/09/3-00000000000000000042.txt", "hub/2026/03/09/0003-00000000000000000042", "hub/2026/03/09/0003-000000000000000000-1.txt",
		"hub//2026/03/09/0003-00000000000000000042.txt", "../2026/03/09/0003-00000000000000000042.txt", "hub/2026/03/09/a~2db-00000000000000000042.txt",
	} {
		if got, err := ParseEventHubName(name); err == nil {
			t.Errorf("%s: parsed %+v", name, got)
		}
	}
}

func TestSpan(t *testing.T) {
	good := Span{First: CellSize, Last: CellSize + 9, After: -1, Count: 10, Bytes: 100, Run: "r-1.A_"}
	full := good
	full.Offset, full.Hub, full.Latest, full.Closed = "77", HubText("ns.example", "telemetry"), time.UnixMilli(1773029106070).UTC(), true
	for _, want := range []Span{good, full} {
		if got, err := ParseSpan(want.Metadata()); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	canonical := map[string]string{"Other": "x"}
	for k, v := range good.Metadata() {
		canonical[strings.ToUpper(k[:1])+k[1:]] = v
	}
	if got, err := ParseSpan(canonical); err != nil || got != good {
		t.Errorf("HTTP's spelling: got %+v, %v", got, err)
	}
	for _, test := range []struct{ key, value, want string }{
		{"first", "-1", "no range"}, {"last", "1", "no range"}, {"last", "524288", "different cells"}, {"count", "9", "count is 9"},
		{"after", "262144", "after is"}, {"after", "-2", "after is"}, {"bytes", "9", "bytes is"}, {"bytes", "x", "bytes is"}, {"first", "1.0", "first is"},
		{"run", "", "run is"}, {"run", "a b", "run is"}, {"run", strings.Repeat("r", 65), "run is"}, {"Run", "r", "more than once"},
		{"closed", "false", "expected true"}, {"closed", "", "expected true"}, {"enqueued_last", "x", "enqueued_last is"},
	} {
		m := maps.Clone(good.Metadata())
		m[test.key] = test.value
		if got, err := ParseSpan(m); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%q: got %+v, %v", test.key, test.value, got, err)
		}
	}
	for key := range good.Metadata() {
		m := good.Metadata()
		delete(m, key)
		if _, err := ParseSpan(m); err == nil || !strings.Contains(err.Error(), key+" is missing") {
			t.Errorf("without %s: %v", key, err)
		}
	}
}
