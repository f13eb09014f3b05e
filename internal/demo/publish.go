package demo

import (
	"context"
	"iter"
	"strconv"
	"time"

	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/work"
)

// publish sends all events to the hub, keeps what the audit has to know of each, and returns what the hub
// has in each partition afterwards.
func (d *demo) publish(ctx context.Context) (held map[string]work.Range, err error) {
	producer, err := publish.ToHub(config.Hub{
		Connection: config.Connection{ConnectionString: config.Secret(d.hub.ConnectionString())},
		Name:       hubName,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		producer.Close(closing) // everything sent has been answered
	}()

	shown := newProgress(d.Progress, d.Width, "Published", []part{{name: "published", total: int64(d.Events)}})
	var keepErr error
	_, err = publish.Send(ctx, producer, d.events(&keepErr), publish.Options{
		Progress: func(r publish.Result) { shown.update([]int64{r.Messages}) },
	})
	shown.end()
	if err == nil {
		err = keepErr
	}
	if err != nil {
		return nil, err
	}
	held = make(map[string]work.Range, d.Partitions)
	for i := range d.Partitions {
		id := strconv.Itoa(i)
		p, err := d.hub.Partition(hubName, id)
		if err != nil {
			return nil, err
		}
		held[id] = work.Range{From: max(p.First, 0), To: p.Last}
	}
	return held, nil
}

// events makes the events and keeps what they hold; an error ends them.
func (d *demo) events(err *error) iter.Seq[publish.Message] {
	return func(yield func(publish.Message) bool) {
		for n := range d.Events {
			m := d.telemetry.Event(n)
			if *err = d.published.Keep(m); *err != nil || !yield(eventOf(m)) {
				return
			}
		}
	}
}

// eventOf is a message as the client sends it.
func eventOf(m *message.Message) publish.Message {
	return publish.Message{
		Body:          m.Body.Data[0],
		Properties:    m.Properties,
		ContentType:   m.ContentType,
		ID:            m.ID,
		CorrelationID: m.CorrelationID,
		Key:           m.PartitionKey,
	}
}
