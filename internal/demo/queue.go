package demo

import (
	"context"
	"fmt"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/record"
)

// queue is a queue of Service Bus: a unit for each worker, whose receivers all compete for its messages.
type queue struct{ Options }

// receivers is how many compete in one unit.
const receivers = 2

func (q queue) setup() setup {
	return setup{
		title:     fmt.Sprintf("Queue %q of Service Bus", name),
		namespace: emulator.Options{Queues: []emulator.Queue{{Name: name}}},
		producer: func(c config.Connection) (publish.Producer, error) {
			return publish.ToQueue(config.Queue{Connection: c, Name: name})
		},
		settings:   []string{"SERVICE_TYPE=SERVICE_BUS_PULL", "SERVICE_BUS_QUEUE_NAME=" + name},
		connection: "SERVICE_BUS_CONNECTION_STRING",
		folder:     name,
		units:      q.Workers,
		loops:      receivers,
		row:        "receiver",
		shows:      []string{`"partition_key"`},
		publish:    "--queue " + name,
	}
}

func (queue) address(*message.Message) {}

func (queue) prepare(context.Context, *demo, func(int64)) error { return nil }

func (queue) stock(e *emulator.Emulator, contents audit.Contents) (stock, error) {
	return stockOf(e, name, contents)
}

// stockOf is every message that a queue has ever had: none is taken out but to be stored.
func stockOf(e *emulator.Emulator, path string, contents audit.Contents) (stock, error) {
	info, err := e.Queue(path)
	if err != nil {
		return stock{}, err
	}
	return stock{
		parts: []part{{"messages", info.Active}},
		expect: audit.Expectation{
			Entities: map[string]record.Sequences{path: record.SequenceRange(1, info.LastSequenceNumber)},
			Contents: contents,
		},
	}, nil
}
