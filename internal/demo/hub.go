package demo

import (
	"context"
	"fmt"
	"strconv"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/work"
)

// hub is an Event Hub: a unit for each worker drains a few partitions side by side.
type hub struct{ Options }

func (h hub) setup() setup {
	units := min(h.Workers, h.Partitions)
	return setup{
		title:     fmt.Sprintf("Event Hub %q with %d partitions", name, h.Partitions),
		namespace: emulator.Options{Hubs: []emulator.Hub{{Name: name, Partitions: h.Partitions}}},
		producer: func(c config.Connection) (publish.Producer, error) {
			return publish.ToHub(config.Hub{Connection: c, Name: name})
		},
		settings:   []string{"SERVICE_TYPE=EVENT_HUB_PULL", "EVENT_HUB_NAME=" + name},
		connection: "EVENT_HUB_CONN_STRING",
		folder:     name,
		units:      units,
		loops:      min(16, (h.Partitions+units-1)/units),
		row:        "partition",
		shows:      []string{`"partition_key"`},
		publish:    "--hub " + name,
	}
}

func (hub) address(*message.Message) {}

func (hub) prepare(context.Context, *demo, func(int64)) error { return nil }

// stock is each partition, as far as it goes.
func (h hub) stock(e *emulator.Emulator, contents audit.Contents) (s stock, err error) {
	held := make(map[string]work.Range, h.Partitions)
	for i := range h.Partitions {
		id := strconv.Itoa(i)
		p, err := e.Partition(name, id)
		if err != nil {
			return stock{}, err
		}
		held[id] = work.Range{From: max(p.First, 0), To: p.Last}
		s.parts = append(s.parts, part{work.Source{Partition: id}.Name(), p.Last - held[id].From + 1})
	}
	s.expect = audit.Expectation{Partitions: held, Contents: contents}
	return s, nil
}
