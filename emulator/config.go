package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Config is what an emulator's namespace holds, as it stands in a file.
type Config struct {
	Hubs   []Hub
	Queues []Queue
	Topics []Topic
}

// ParseConfig reads what a namespace holds from JSON:
//
//	{"hubs": [
//	   {"name": "rides", "partitions": 8, "consumer_groups": ["audit"], "retention_count": 100000,
//	    "retention_age": "24h", "max_message_size": 1048576},
//	   {"name": "backlog", "synthetic": {"events": 1000000, "body_size": 1024,
//	    "first": "2024-01-01T00:00:00Z", "interval": "1ms"}}
//	 ],
//	 "queues": [
//	   {"name": "orders", "sessions": true, "lock_duration": "1m", "max_delivery_count": 10, "ttl": "24h",
//	    "dead_letter_on_expiration": true, "duplicate_detection": "10m", "max_message_size": 1048576,
//	    "max_size": 1073741824},
//	   {"name": "bulk", "sessions": true, "synthetic": {"messages": 1000000, "body_size": 1024, "sessions": 100,
//	    "first": "2024-01-01T00:00:00Z", "interval": "1ms"}}
//	 ],
//	 "topics": [
//	   {"name": "prices", "duplicate_detection": "10m", "max_message_size": 1048576, "subscriptions": [
//	     {"name": "all"},
//	     {"name": "some", "sessions": true, "lock_duration": "30s", "max_delivery_count": 3, "ttl": "1h",
//	      "dead_letter_on_expiration": true, "rules": [
//	        {"name": "cheap", "sql": "price < 10 AND sys.Label LIKE 'eu-%'", "action": "SET cheap = TRUE"},
//	        {"name": "gold", "correlation": {"subject": "gold", "properties": {"rank": 1}}},
//	        {"name": "every", "all": true}
//	     ]}
//	   ]}
//	 ]}
//
// Only a name is needed, and how much there is of what is synthetic; one list of the three is enough. A rule has one of
// sql, correlation, and all, which is true or false. A correlation may have correlation_id, message_id, to, reply_to,
// subject, session_id, reply_to_session_id, content_type and properties. A subscription without rules gets everything,
// and one with the empty list of them nothing. Unknown fields are errors that name them. What the values may be is
// checked by [Start].
func ParseConfig(document []byte) (Config, error) {
	var file configFile
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(&file); err != nil {
		return Config{}, fmt.Errorf("parse emulator configuration: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("parse emulator configuration: there is more after the first JSON value")
	}
	if len(file.Hubs)+len(file.Queues)+len(file.Topics) == 0 {
		return Config{}, errors.New(`parse emulator configuration: it has no hubs, queues or topics; want {"hubs": [{"name": "..."}]}`)
	}
	config, err := file.config()
	if err != nil {
		return Config{}, fmt.Errorf("parse emulator configuration: %w", err)
	}
	return config, nil
}

type configFile struct {
	Hubs   []hubConfig   `json:"hubs"`
	Queues []queueConfig `json:"queues"`
	Topics []topicConfig `json:"topics"`
}

func (f configFile) config() (Config, error) {
	var c Config
	for _, h := range f.Hubs {
		c.Hubs = append(c.Hubs, h.hub())
	}
	for _, q := range f.Queues {
		c.Queues = append(c.Queues, q.queue())
	}
	for _, t := range f.Topics {
		topic, err := t.topic()
		if err != nil {
			return Config{}, fmt.Errorf("topic %q: %w", t.Name, err)
		}
		c.Topics = append(c.Topics, topic)
	}
	return c, nil
}

type hubConfig struct {
	Name           string           `json:"name"`
	Partitions     int              `json:"partitions"`
	ConsumerGroups []string         `json:"consumer_groups"`
	RetentionCount int              `json:"retention_count"`
	RetentionAge   duration         `json:"retention_age"`
	MaxMessageSize int              `json:"max_message_size"`
	Synthetic      *syntheticConfig `json:"synthetic"`
}

type syntheticConfig struct {
	Events   int64     `json:"events"`
	BodySize int       `json:"body_size"`
	First    time.Time `json:"first"`
	Interval duration  `json:"interval"`
}

func (h hubConfig) hub() Hub {
	hub := Hub{
		Name: h.Name, Partitions: h.Partitions, ConsumerGroups: h.ConsumerGroups,
		RetentionCount: h.RetentionCount, RetentionAge: time.Duration(h.RetentionAge), MaxMessageSize: h.MaxMessageSize,
	}
	if s := h.Synthetic; s != nil {
		hub.Synthetic = &Synthetic{Events: s.Events, BodySize: s.BodySize, First: s.First, Interval: time.Duration(s.Interval)}
	}
	return hub
}

// receivingConfig is what queues and subscriptions have in common.
type receivingConfig struct {
	Name                   string   `json:"name"`
	Sessions               bool     `json:"sessions"`
	LockDuration           duration `json:"lock_duration"`
	MaxDeliveryCount       int      `json:"max_delivery_count"`
	TTL                    duration `json:"ttl"`
	DeadLetterOnExpiration bool     `json:"dead_letter_on_expiration"`
}

type queueConfig struct {
	receivingConfig
	DuplicateDetection duration              `json:"duplicate_detection"`
	MaxMessageSize     int                   `json:"max_message_size"`
	MaxSize            int64                 `json:"max_size"`
	Synthetic          *syntheticQueueConfig `json:"synthetic"`
}

type syntheticQueueConfig struct {
	Messages int64     `json:"messages"`
	BodySize int       `json:"body_size"`
	Sessions int       `json:"sessions"`
	First    time.Time `json:"first"`
	Interval duration  `json:"interval"`
}

func (q queueConfig) queue() Queue {
	queue := Queue{
		Name: q.Name, Sessions: q.Sessions, LockDuration: time.Duration(q.LockDuration), MaxDeliveryCount: q.MaxDeliveryCount,
		TTL: time.Duration(q.TTL), DeadLetterOnExpiration: q.DeadLetterOnExpiration,
		DuplicateDetection: time.Duration(q.DuplicateDetection), MaxMessageSize: q.MaxMessageSize, MaxSize: q.MaxSize,
	}
	if s := q.Synthetic; s != nil {
		queue.Synthetic = &SyntheticQueue{
			Messages: s.Messages, BodySize: s.BodySize, Sessions: s.Sessions, First: s.First, Interval: time.Duration(s.Interval),
		}
	}
	return queue
}

type topicConfig struct {
	Name               string               `json:"name"`
	Subscriptions      []subscriptionConfig `json:"subscriptions"`
	DuplicateDetection duration             `json:"duplicate_detection"`
	MaxMessageSize     int                  `json:"max_message_size"`
}

type subscriptionConfig struct {
	receivingConfig
	Rules []ruleConfig `json:"rules"`
}

func (t topicConfig) topic() (Topic, error) {
	topic := Topic{Name: t.Name, DuplicateDetection: time.Duration(t.DuplicateDetection), MaxMessageSize: t.MaxMessageSize}
	for _, s := range t.Subscriptions {
		subscription := Subscription{
			Name: s.Name, Sessions: s.Sessions, LockDuration: time.Duration(s.LockDuration), MaxDeliveryCount: s.MaxDeliveryCount,
			TTL: time.Duration(s.TTL), DeadLetterOnExpiration: s.DeadLetterOnExpiration,
		}
		if s.Rules != nil {
			subscription.Rules = []Rule{}
		}
		for _, r := range s.Rules {
			rule, err := r.rule()
			if err != nil {
				return Topic{}, fmt.Errorf("subscription %q: rule %q: %w", s.Name, r.Name, err)
			}
			subscription.Rules = append(subscription.Rules, rule)
		}
		topic.Subscriptions = append(topic.Subscriptions, subscription)
	}
	return topic, nil
}

type ruleConfig struct {
	Name        string             `json:"name"`
	SQL         *string            `json:"sql"`
	Correlation *correlationConfig `json:"correlation"`
	All         *bool              `json:"all"`
	Action      string             `json:"action"`
}

type correlationConfig struct {
	CorrelationID    string         `json:"correlation_id"`
	MessageID        string         `json:"message_id"`
	To               string         `json:"to"`
	ReplyTo          string         `json:"reply_to"`
	Subject          string         `json:"subject"`
	SessionID        string         `json:"session_id"`
	ReplyToSessionID string         `json:"reply_to_session_id"`
	ContentType      string         `json:"content_type"`
	Properties       map[string]any `json:"properties"`
}

func (r ruleConfig) rule() (Rule, error) {
	rule := Rule{Name: r.Name, Action: r.Action}
	given := 0
	if r.SQL != nil {
		rule.Filter = SQLFilter{*r.SQL}
		given++
	}
	if c := r.Correlation; c != nil {
		filter, err := c.filter()
		if err != nil {
			return Rule{}, err
		}
		rule.Filter = filter
		given++
	}
	if r.All != nil {
		rule.Filter = FalseFilter{}
		if *r.All {
			rule.Filter = TrueFilter{}
		}
		given++
	}
	if given != 1 {
		return Rule{}, fmt.Errorf(`it has %d of sql, correlation and all; want one, such as "all": true`, given)
	}
	return rule, nil
}

// filter tells integers among the properties from other numbers, for a correlation does so too.
func (c correlationConfig) filter() (Filter, error) {
	filter := CorrelationFilter{
		CorrelationID: c.CorrelationID, MessageID: c.MessageID, To: c.To, ReplyTo: c.ReplyTo, Subject: c.Subject,
		SessionID: c.SessionID, ReplyToSessionID: c.ReplyToSessionID, ContentType: c.ContentType,
	}
	for name, v := range c.Properties {
		if n, ok := v.(json.Number); ok {
			var err error
			if strings.ContainsAny(n.String(), ".eE") {
				v, err = n.Float64()
			} else {
				v, err = n.Int64()
			}
			if err != nil {
				return nil, fmt.Errorf("the property %q is %s, which does not fit into 64 bits", name, n)
			}
		}
		if filter.Properties == nil {
			filter.Properties = map[string]any{}
		}
		filter.Properties[name] = v
	}
	return filter, nil
}

// duration is a time.Duration written as "90s" or "24h".
type duration time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration; want one such as 90s or 24h", text)
	}
	*d = duration(parsed)
	return nil
}
