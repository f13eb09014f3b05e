package emulator

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig([]byte(`{
	"hubs": [
		{"name": "rides", "partitions": 8, "consumer_groups": ["audit"], "retention_count": 100, "retention_age": "24h", "max_message_size": 2048},
		{"name": "backlog", "synthetic": {"events": 1000, "body_size": 100, "first": "2024-02-03T04:05:06Z", "interval": "10ms"}}],
	"queues": [
		{"name": "orders", "sessions": true, "lock_duration": "30s", "max_delivery_count": 3, "ttl": "1h", "dead_letter_on_expiration": true,
		 "duplicate_detection": "10m", "max_message_size": 4096, "max_size": 8589934592},
		{"name": "bulk", "synthetic": {"messages": 1000, "body_size": 100, "sessions": 10, "first": "2024-02-03T04:05:06Z", "interval": "10ms"}}],
	"topics": [
		{"name": "prices", "duplicate_detection": "1m", "max_message_size": 4096, "subscriptions": [
			{"name": "all", "sessions": true, "lock_duration": "10s", "max_delivery_count": 2, "ttl": "2h", "dead_letter_on_expiration": true},
			{"name": "nothing", "rules": []},
			{"name": "some", "rules": [
				{"name": "a", "sql": "x = 1", "action": "SET y = 2"},
				{"name": "b", "correlation": {"correlation_id": "1", "message_id": "2", "to": "3", "reply_to": "4", "subject": "5", "session_id": "6",
				 "reply_to_session_id": "7", "content_type": "8", "properties": {"s": "x", "b": true, "i": 9007199254740993, "f": 1.0, "e": 1e2}}},
				{"name": "c", "correlation": {}}, {"name": "d", "all": true}, {"name": "e", "all": false}]}]},
		{"name": "bare"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	first := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	want := Config{
		Hubs: []Hub{
			{Name: "rides", Partitions: 8, ConsumerGroups: []string{"audit"}, RetentionCount: 100, RetentionAge: 24 * time.Hour, MaxMessageSize: 2048},
			{Name: "backlog", Synthetic: &Synthetic{Events: 1000, BodySize: 100, First: first, Interval: 10 * time.Millisecond}},
		},
		Queues: []Queue{
			{
				Name: "orders", Sessions: true, LockDuration: 30 * time.Second, MaxDeliveryCount: 3, TTL: time.Hour, DeadLetterOnExpiration: true,
				DuplicateDetection: 10 * time.Minute, MaxMessageSize: 4096, MaxSize: 8 << 30,
			},
			{Name: "bulk", Synthetic: &SyntheticQueue{Messages: 1000, BodySize: 100, Sessions: 10, First: first, Interval: 10 * time.Millisecond}},
		},
		Topics: []Topic{
			{Name: "prices", DuplicateDetection: time.Minute, MaxMessageSize: 4096, Subscriptions: []Subscription{
				{Name: "all", Sessions: true, LockDuration: 10 * time.Second, MaxDeliveryCount: 2, TTL: 2 * time.Hour, DeadLetterOnExpiration: true},
				{Name: "nothing", Rules: []Rule{}},
				{Name: "some", Rules: []Rule{
					{Name: "a", Filter: SQLFilter{"x = 1"}, Action: "SET y = 2"},
					{Name: "b", Filter: CorrelationFilter{
						CorrelationID: "1", MessageID: "2", To: "3", ReplyTo: "4", Subject: "5", SessionID: "6", ReplyToSessionID: "7", ContentType: "8",
						Properties: map[string]any{"s": "x", "b": true, "i": int64(9007199254740993), "f": 1.0, "e": 100.0},
					}},
					{Name: "c", Filter: CorrelationFilter{}}, {Name: "d", Filter: TrueFilter{}}, {Name: "e", Filter: FalseFilter{}},
				}},
			}},
			{Name: "bare"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestParseConfigErrors(t *testing.T) {
	rule := func(fields string) string {
		return `{"topics":[{"name":"t","subscriptions":[{"name":"s","rules":[{"name":"r"` + fields + `}]}]}]}`
	}
	for document, want := range map[string]string{
		``:                                      "EOF",
		`{}`:                                    "it has no hubs, queues or topics",
		`{"hubs":[],"queues":[],"topics":[]}`:   "it has no hubs, queues or topics",
		`{"hubs":[]} {}`:                        "there is more after",
		`{"hubs":[{"name":"a","partition":3}]}`: `unknown field "partition"`,
		`{"hubs":[{"name":"a","synthetic":{"event":3}}]}`:                `unknown field "event"`,
		`{"hubs":[{"name":"a","retention_age":"long"}]}`:                 `"long" is no duration`,
		`{"hubs":[{"name":"a","partitions":"x"}]}`:                       "partitions",
		`{"hubs":[{"name":"a","synthetic":{"events":1,"first":"now"}}]}`: "now",
		`{"queues":[{"name":"a","session":true}]}`:                       `unknown field "session"`,
		`{"queues":[{"name":"a","rules":[]}]}`:                           `unknown field "rules"`,
		`{"queues":[{"name":"a","ttl":5}]}`:                              "ttl",
		`{"queues":[{"name":"a","synthetic":{"events":3}}]}`:             `unknown field "events"`,
		`{"topics":[{"name":"a","subscription":[]}]}`:                    `unknown field "subscription"`,
		`{"topics":[{"name":"a","subscriptions":[{"max_size":1}]}]}`:     `unknown field "max_size"`,
		rule(``):                        `topic "t": subscription "s": rule "r": it has 0 of sql, correlation and all; want one`,
		rule(`,"sql":"","all":true`):    "it has 2 of sql, correlation and all",
		rule(`,"filter":"x"`):           `unknown field "filter"`,
		rule(`,"correlation":{"id":1}`): `unknown field "id"`,
		rule(`,"correlation":{"properties":{"n":9223372036854775808}}`): `the property "n" is 9223372036854775808, which does not fit`,
	} {
		if _, err := ParseConfig([]byte(document)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", document, err, want)
		}
	}
}
