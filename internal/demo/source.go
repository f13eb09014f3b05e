package demo

import (
	"context"
	"strings"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
)

// name is what the demo calls its Event Hub or its queue, and so the folder of the blobs.
const name = "telemetry"

// source is what a demo publishes to and has drained: a [hub], a [queue], [sessions] or [deadLetters]. The
// rest of the package doesn't ask which one it is.
type source interface {
	// setup tells all that is to be known beforehand.
	setup() setup
	// address gives a message that is about to be sent what the source needs of it.
	address(m *message.Message)
	// prepare brings what was published to where it is drained from, and calls progress with how much is
	// there. What it starts for that may go on in the demo's background.
	prepare(ctx context.Context, d *demo, progress func(done int64)) error
	// stock tells what there is to be drained then, of which the contents are known.
	stock(e *emulator.Emulator, contents audit.Contents) (stock, error)
}

// setup is how a source is set up and shown.
type setup struct {
	title     string           // `Event Hub "telemetry" with 8 partitions`
	namespace emulator.Options // what is emulated
	producer  func(config.Connection) (publish.Producer, error)
	// settings are those by which the programs find the source; connection is the one whose value is the
	// connection string.
	settings   []string
	connection string
	folder     string // of the blobs
	// units and loops are how a run is spread: that many units, of that many loops each.
	units, loops int
	prepared     string   // how progress calls what prepare does, "" when it does nothing
	row          string   // what a row of a unit's report is
	machines     int      // see Telemetry
	shows        []string // what the record should have in it that is shown
	publish      string   // flags of `persistor publish`
}

// stock is what waits to be drained.
type stock struct {
	parts  []part // as progress shows them: the only one, or named like the rows of a report
	expect audit.Expectation
}

// kinds are the sources, by the names that --source has for them, and how many messages each is good for in
// a few seconds.
var kinds = []struct {
	name   string
	events int
	make   func(Options) source
}{
	{"eventhub", 100_000, func(o Options) source { return hub{o} }},
	{"servicebus", 50_000, func(o Options) source { return queue{o} }},
	{"sessions", 20_000, func(o Options) source { return sessions{queue{o}} }},
	{"deadletter", 10_000, func(o Options) source { return deadLetters{queue{o}} }},
}

// Sources are the names that [Options.Source] may have.
func Sources() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// DefaultEvents is how many messages a source is good for in a few seconds; 0 when there is no such source.
func DefaultEvents(source string) int {
	for _, k := range kinds {
		if k.name == source {
			return k.events
		}
	}
	return 0
}

// source makes what Source names, nil when there is none of that name.
func (o Options) source() source {
	for _, k := range kinds {
		if k.name == o.Source {
			return k.make(o)
		}
	}
	return nil
}
