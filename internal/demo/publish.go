package demo

import (
	"context"
	"iter"
	"strings"
	"time"

	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
)

// publish sends all events to the source, and keeps what the audit has to know of each.
func (d *demo) publish(ctx context.Context) error {
	producer, err := d.setup.producer(config.Connection{ConnectionString: config.Secret(d.emulator.ConnectionString())})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		producer.Close(closing) // everything sent has been answered
	}()
	shown := newProgress(d.Progress, d.Width, "Published", []part{{name: "published", total: int64(d.Events)}})
	defer shown.end()
	var keepErr error
	_, err = publish.Send(ctx, producer, d.events(&keepErr), publish.Options{
		Progress: func(r publish.Result) { shown.update([]int64{r.Messages}) },
	})
	if err == nil {
		err = keepErr
	}
	return err
}

// events makes the events and keeps what they hold; an error ends them.
func (d *demo) events(err *error) iter.Seq[publish.Message] {
	return func(yield func(publish.Message) bool) {
		for n := range d.Events {
			m := d.telemetry.Event(n)
			d.source.address(m)
			if *err = d.published.Keep(m); *err != nil || !yield(messageOf(m)) {
				return
			}
		}
	}
}

// prepare has the source bring what was published to where it is drained from.
func (d *demo) prepare(ctx context.Context) error {
	if d.setup.prepared == "" {
		return nil
	}
	shown := newProgress(d.Progress, d.Width, d.setup.prepared, []part{{name: strings.ToLower(d.setup.prepared), total: int64(d.Events)}})
	defer shown.end()
	return d.source.prepare(ctx, d, func(done int64) { shown.update([]int64{done}) })
}

// messageOf is a message as it is published.
func messageOf(m *message.Message) publish.Message {
	return publish.Message{
		Body:          m.Body.Data[0],
		Properties:    m.Properties,
		ContentType:   m.ContentType,
		Subject:       m.Subject,
		ID:            m.ID,
		CorrelationID: m.CorrelationID,
		Session:       m.SessionID,
		Key:           m.PartitionKey,
	}
}
