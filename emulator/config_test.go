package emulator

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig([]byte(`{"hubs": [
		{"name": "orders", "partitions": 8, "consumer_groups": ["audit"], "retention_count": 100, "retention_age": "24h", "max_message_size": 2048},
		{"name": "backlog", "synthetic": {"events": 1000, "body_size": 100, "first": "2024-02-03T04:05:06Z", "interval": "10ms"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Hub{
		{Name: "orders", Partitions: 8, ConsumerGroups: []string{"audit"}, RetentionCount: 100, RetentionAge: 24 * time.Hour, MaxMessageSize: 2048},
		{Name: "backlog", Synthetic: &Synthetic{Events: 1000, BodySize: 100, First: time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC), Interval: 10 * time.Millisecond}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hubs (-want +got):\n%s", diff)
	}
}

func TestParseConfigErrors(t *testing.T) {
	for document, want := range map[string]string{
		``:                                      "EOF",
		`{}`:                                    "it has no hubs",
		`{"hubs":[]}`:                           "it has no hubs",
		`{"hubs":[]} {}`:                        "there is more after",
		`{"hubs":[{"name":"a","partition":3}]}`: `unknown field "partition"`,
		`{"hubs":[{"name":"a","synthetic":{"event":3}}]}`:                `unknown field "event"`,
		`{"hubs":[{"name":"a","retention_age":"long"}]}`:                 `"long" is no duration`,
		`{"hubs":[{"name":"a","partitions":"x"}]}`:                       "partitions",
		`{"hubs":[{"name":"a","synthetic":{"events":1,"first":"now"}}]}`: "now",
	} {
		if _, err := ParseConfig([]byte(document)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", document, err, want)
		}
	}
}
