package record

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/store"
)

func TestEventNames(t *testing.T) {
	const digest = "3c2a4eb4a8a1d5581390d8faa657f610"
	at := time.Date(2026, 3, 9, 1, 5, 6, 70_000_000, time.FixedZone("", 2*60*60))
	for _, test := range []struct {
		folder string
		at     time.Time
		want   string
	}{
		{"a/b", at, "a/b/2026/03/08/230506-" + digest + ".txt"},
		{"", at, "2026/03/08/230506-" + digest + ".txt"},
		{"é", time.Time{}, "~C3~A9/undated/" + digest + ".txt"},
	} {
		got := EventName(test.folder, "/subscriptions/s", "1", test.at)
		if got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
		want := EventBlob{Folder: test.folder, Digest: digest}
		if !test.at.IsZero() {
			want.At = at.UTC().Truncate(time.Second)
			want.Day = want.At.Truncate(24 * time.Hour)
		}
		if b, err := ParseEventName(got); err != nil || b != want {
			t.Errorf("%s: parsed %+v, %v; want %+v", got, b, err, want)
		}
	}
	for _, foreign := range []string{
		"", "undated", "undated/", digest + ".txt", "f/" + digest + ".txt", "f/undated/x/" + digest + ".txt", "undated/" + digest, "f/undated/" + digest[1:] + ".txt",
		"f/2026/03/08/2305-" + digest + ".txt", "f/2026/03/08/236006-" + digest + ".txt", "f/2026/3/08/230506-" + digest + ".txt", "f/2026/02/30/230506-" + digest + ".txt",
		"f2026/03/08/230506-" + digest + ".txt", "f/2026/03/08/230506-" + strings.ToUpper(digest) + ".txt", "é/undated/" + digest + ".txt",
		"f/2026/11/24/0003-00000000000000000005.txt", "f/2026/11/24/00000000000000000005-00000000000000000009-0123456789abcdef.txt",
	} {
		if b, err := ParseEventName(foreign); err == nil {
			t.Errorf("%s was not refused: %+v", foreign, b)
		}
	}
	name := EventName("f-x/", "s", "1", time.Time{})
	if key, ok := EventKeyOfName(name); !ok || key != EventKeyOf(EventDigest("s", "1")) {
		t.Errorf("the key of %s is %x, %t", name, key, ok)
	}
	if _, ok := EventKeyOfName("f/2026/11/24/0003-00000000000000000005.txt"); ok {
		t.Error("a partition's blob passes as an event's")
	}
	if EventDigest("ab", "c") == EventDigest("a", "bc") {
		t.Error("source and id run into each other")
	}
}

func TestEventMetadata(t *testing.T) {
	var recent []EventKey
	for n := range MaxRecent {
		recent = append(recent, EventKeyOf(EventDigest("s", strconv.Itoa(n))))
	}
	for _, e := range []Event{
		{Source: "/subscriptions/s/x:y", ID: "7", Content: strings.Repeat("0f", 16), Count: 1, Bytes: 9, Run: "r"},
		{Source: strings.Repeat("\x00", 5000), ID: strings.Repeat("é", 5000), Content: strings.Repeat("0", 32), Count: 1 << 40, Bytes: 1 << 41, Run: strings.Repeat("r", 64), Recent: recent},
	} {
		metadata := e.Metadata()
		if read, err := ParseEvent(metadata); err == nil {
			digest, ok := read.Digest()
			if whole := len(e.ID) == 1; ok != whole || whole && digest != EventDigest(e.Source, e.ID) {
				t.Errorf("digest %s, %t", digest, ok)
			}
		}
		if err := store.CheckMetadata(metadata); err != nil {
			t.Error(err)
		}
		got, err := ParseEvent(metadata)
		if err != nil || cmp.Diff(e.Recent, got.Recent) != "" || got.Count != e.Count || !got.Of(e.Source, e.ID) || got.Of(e.Source, e.ID+"1") || got.Of(e.Source+"1", e.ID) {
			t.Errorf("%+v, %v", got, err)
		}
		// Before and after an append go side by side, of which what stays the same counts once.
		size := 0
		for key, value := range metadata {
			if size += len(key) + len(value); key != "source" && key != "id" && key != "content" {
				size += len(key) + len(value)
			}
		}
		if size > store.MaxChange {
			t.Errorf("%d bytes before and after, at most %d", size, store.MaxChange)
		}
	}
	good := Event{Source: "s", ID: "i", Content: strings.Repeat("0", 32), Count: 1, Bytes: 1, Run: "r", Recent: recent[:1]}.Metadata()
	for _, key := range []string{"source", "id", "content", "count", "bytes", "run", "recent"} {
		for _, text := range []string{"", "ä"} {
			metadata := map[string]string{}
			for k, v := range good {
				metadata[k] = v
			}
			if metadata[key] = text; text == "" && key != "recent" {
				delete(metadata, key)
			} else if key == "source" || key == "id" {
				continue
			}
			if _, err := ParseEvent(metadata); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s %q: error %v", key, text, err)
			}
		}
	}
}
