package record

import (
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
		if got := EventName(test.folder, "/subscriptions/s", "1", test.at); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
	if EventDigest("ab", "c") == EventDigest("a", "bc") {
		t.Error("source and id run into each other")
	}
}

func TestEventMetadata(t *testing.T) {
	for _, e := range []Event{
		{Source: "/subscriptions/s/x:y", ID: "7", Content: strings.Repeat("0f", 16), Bytes: 9, Run: "r"},
		{Source: strings.Repeat("\x00", 5000), ID: strings.Repeat("é", 5000), Content: strings.Repeat("0", 32), Bytes: 1 << 40, Run: strings.Repeat("r", 64)},
	} {
		metadata := e.Metadata()
		if err := store.CheckMetadata(metadata); err != nil {
			t.Error(err)
		}
		got, err := ParseEvent(metadata)
		if err != nil || !got.Of(e.Source, e.ID) || got.Of(e.Source, e.ID+"1") || got.Of(e.Source+"1", e.ID) {
			t.Errorf("%+v, %v", got, err)
		}
		if again, err := ParseEvent(got.Metadata()); err != nil && len(e.ID) < 100 && cmp.Diff(got, again) != "" {
			t.Errorf("%+v, %v", again, err)
		}
	}
	good := Event{Source: "s", ID: "i", Content: strings.Repeat("0", 32), Run: "r"}.Metadata()
	for _, key := range []string{"source", "id", "content", "bytes", "run"} {
		for _, text := range []string{"", "ä"} {
			metadata := map[string]string{}
			for k, v := range good {
				metadata[k] = v
			}
			if metadata[key] = text; text == "" {
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
