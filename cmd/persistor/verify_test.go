package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"persistor/internal/audit"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// holes are so many ranges of five numbers.
func holes(n int) (all []work.Range) {
	for i := range n {
		all = append(all, work.Range{From: int64(i) * 10, To: int64(i)*10 + 4})
	}
	return all
}

// What people are shown fits a terminal, tells ranges up to a limit, and how many more there are.
func TestVerifyTable(t *testing.T) {
	long := int64(9_999_999_999)
	s := audit.Summary{Finished: true, Messages: long, Blobs: 999_999, Gaps: 23, Missing: 115, Backlog: long, Apart: 5, Ignored: 2, LeftOut: 7, Folders: []audit.Report{
		{Folder: "rides", Partitions: []audit.Partition{
			{Partition: "0", Hub: "ns.servicebus.windows.net/rides", From: 0, To: long, Messages: long, Blobs: 99_999_999, Gaps: holes(23), Source: &audit.Source{Backlog: long, Beyond: 3}},
			{Partition: "1023", Hub: "ns.servicebus.windows.net/rides", From: -1, To: -1, LostToRetention: holes(1), Apart: holes(1), Source: &audit.Source{}},
			{Partition: "0", Hub: "ns.servicebus.windows.net/rides-old", From: 7, To: 7, Messages: 1, Blobs: 1},
		}},
		{Folder: "orders", Entities: []audit.Entity{{Entity: "orders", From: 1, To: long, Messages: long, Blobs: 99_999_999, Sessions: 10_000, Repeated: holes(21)}}, Problems: []string{"blob x: it is none"}},
		{Folder: "_failed/grid", Failed: true, Events: &audit.Events{Messages: 1, Blobs: 1, Bytes: long, Unidentified: 1}},
	}}
	var out bytes.Buffer
	if err := printSummary(&out, s); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{
		"\n  gap in partition 0: 190 to 194 (5 messages)\n  gap in partition 0: and 3 more\n", "\n  repeated in orders: and 1 more\n",
		"\n  lost to retention in partition 1023: 0 to 4 (5 messages)\n", "\n  below _failed/ of partition 1023: 0 to 4 (5 messages)\n",
		"\n  beyond the hub's end in partition 0: 3 messages\n", "\n  Event Hub ns.servicebus.windows.net/rides-old\n", "\n  ! blob x: it is none\n",
		"\n_failed/grid: could not be stored in its place\n  Event Grid: 1 message, 1 blob, 9,999,999,999 bytes\n  1 blob with what doesn't say which message it is\n",
		"\nNOT proven: 9,999,999,999 messages", "\n9,999,999,999 still to be stored\n5 below _failed/\n2 of other names ignored\n7 blobs left out\nnames and metadata read in 0.0 s\n",
	} {
		if !strings.Contains("\n"+out.String(), want) {
			t.Errorf("it does not show %q:\n%s", want, out.String())
		}
	}
}

// stored makes a container of a blob.
func stored(t *testing.T) string {
	dir := t.TempDir()
	d, err := store.OpenDir(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	span := record.Span{First: 0, Last: 9, After: -1, Count: 10, Bytes: 10, Run: "r", Latest: at}
	if _, err := d.Create(t.Context(), record.EventHubName("rides", "0", at, 0), []byte("0123456789"), span.Metadata()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The document has so many ranges, and counts all.
func TestVerifyJSONIsBounded(t *testing.T) {
	many := int64(rangesInJSON + 7)
	s := audit.Summary{Gaps: many, Folders: []audit.Report{{
		Partitions: []audit.Partition{{Covered: holes(rangesInJSON + 8), Gaps: holes(rangesInJSON + 7), Apart: holes(2)}},
		Entities:   []audit.Entity{{Repeated: holes(rangesInJSON + 7)}},
	}}}
	var out bytes.Buffer
	if err := (&verification{asJSON: true}).print(&out, s); err != nil {
		t.Fatal(err)
	}
	var got audit.Summary
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	p, e := got.Folders[0].Partitions[0], got.Folders[0].Entities[0]
	if got.Gaps != many || len(p.Gaps) != rangesInJSON || len(p.Covered) != rangesInJSON || len(p.Apart) != 2 || len(e.Repeated) != rangesInJSON {
		t.Errorf("%d gaps: %d, %d, %d and %d ranges", got.Gaps, len(p.Gaps), len(p.Covered), len(p.Apart), len(e.Repeated))
	}
}

// Ctrl-C ends it with what was found until then, and no proof.
func TestVerifyInterrupted(t *testing.T) {
	dir := stored(t)
	for _, flag := range []string{"--json=false", "--json", "--deep"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, told bytes.Buffer
		status := run(ctx, []string{"verify", dir, flag}, streams{out: &out, err: &told})
		if status != exitJob || told.String() != "persistor: verify: interrupted\n" {
			t.Errorf("status %d, %s", status, told.String())
		}
		if want := map[bool]string{true: `"finished": false`, false: "not finished: "}[flag == "--json"]; !strings.Contains(out.String(), want) || strings.Contains(out.String(), "proven:") {
			t.Errorf("%s: %s", flag, out.String())
		}
	}
}

// Days that are chosen are whole ones, the one of --until left out.
func TestVerifyScope(t *testing.T) {
	now := time.Date(2026, 3, 9, 4, 5, 6, 0, time.UTC)
	day := func(d int) time.Time { return time.Date(2026, 3, d, 0, 0, 0, 0, time.UTC) }
	for _, test := range []struct {
		from, until string
		first, last time.Time
	}{
		{"", "", time.Time{}, time.Time{}},
		{"2026-03-02", "2026-03-04", day(2), day(3)},
		{"2d", "1h", day(7), day(8)},
		{"2026-03-02T23:30:00-01:00", "", day(3), time.Time{}},
	} {
		v := verification{from: test.from, until: test.until}
		scope, err := v.scope(now)
		if err != nil || !scope.From.Equal(test.first) || !scope.Until.Truncate(24*time.Hour).Equal(test.last) {
			t.Errorf("%s to %s: %v, %+v", test.from, test.until, err, scope)
		}
	}
	if _, err := (&verification{from: "1d", until: "1d"}).scope(now); err == nil {
		t.Error("no day passes")
	}
}
