package demo

import (
	"context"
	"fmt"
	"time"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/message"
)

// deadLetters is the dead-letter queue of a queue with a [consumer] that refuses everything.
type deadLetters struct{ queue }

const deadLetterPath = name + "/$DeadLetterQueue"

func (d deadLetters) setup() setup {
	at := d.queue.setup()
	at.title = fmt.Sprintf("Dead-letter queue of queue %q of Service Bus", name)
	at.namespace.Queues[0].MaxDeliveryCount = deliveries
	at.settings = append(at.settings, "SERVICE_BUS_SUBQUEUE=deadletter")
	at.folder += "/deadletter"
	at.prepared = "Refused"
	at.shows = []string{`"dead_letter_reason"`, `"partition_key"`}
	return at
}

// prepare has the consumer refuse all that is published, now and later.
func (deadLetters) prepare(ctx context.Context, d *demo, progress func(int64)) error {
	c, err := newConsumer(d.emulator.ConnectionString())
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	d.background(func(ctx context.Context) { failed <- c.run(ctx) })
	tick := time.NewTicker(barInterval)
	defer tick.Stop()
	for {
		refused, err := d.emulator.Queue(deadLetterPath)
		if err != nil {
			return err
		}
		progress(refused.Sent)
		if refused.Sent == int64(d.Events) {
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (deadLetters) stock(e *emulator.Emulator, contents audit.Contents) (stock, error) {
	return stockOf(e, deadLetterPath, refused{contents})
}

// refused judges messages also by why they were refused.
type refused struct{ audit.Contents }

func (r refused) Check(m *message.Message) audit.Verdict {
	why := refusalOf(m.Properties)
	if value(m.DeadLetterReason) != why.reason || value(m.DeadLetterDescription) != why.description || value(m.DeadLetterSource) != name {
		return audit.Altered
	}
	return r.Contents.Check(m)
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
