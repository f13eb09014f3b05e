package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// ParseConfig reads hubs from JSON:
//
//	{"hubs": [
//	  {"name": "orders", "partitions": 8, "consumer_groups": ["audit"], "retention_count": 100000,
//	   "retention_age": "24h", "max_message_size": 1048576},
//	  {"name": "backlog", "synthetic": {"events": 1000000, "body_size": 1024,
//	   "first": "2024-01-01T00:00:00Z", "interval": "1ms"}}
//	]}
//
// Only the name is needed, and the number of events of a synthetic hub. Unknown fields are errors that name them. What
// the values may be is checked by [Start].
func ParseConfig(document []byte) ([]Hub, error) {
	var c struct {
		Hubs []hubConfig `json:"hubs"`
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("parse emulator configuration: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("parse emulator configuration: there is more after the first JSON value")
	}
	if len(c.Hubs) == 0 {
		return nil, errors.New(`parse emulator configuration: it has no hubs; want {"hubs": [{"name": "..."}]}`)
	}
	hubs := make([]Hub, len(c.Hubs))
	for i, h := range c.Hubs {
		hubs[i] = Hub{
			Name: h.Name, Partitions: h.Partitions, ConsumerGroups: h.ConsumerGroups,
			RetentionCount: h.RetentionCount, RetentionAge: time.Duration(h.RetentionAge), MaxMessageSize: h.MaxMessageSize,
		}
		if s := h.Synthetic; s != nil {
			hubs[i].Synthetic = &Synthetic{Events: s.Events, BodySize: s.BodySize, First: s.First, Interval: time.Duration(s.Interval)}
		}
	}
	return hubs, nil
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
