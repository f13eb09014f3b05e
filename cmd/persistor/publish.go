package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"persistor/internal/config"
	"persistor/internal/publish"
	"persistor/internal/terminal"
)

func newPublish() *cobra.Command {
	var p publication
	cmd := &cobra.Command{
		Use:   "publish FILE|-",
		Short: "Send a file's lines to an Event Hub, a queue or a topic, a line a message",
		Long: `Publish sends every line of FILE, or of standard input for "-", as a message to any Event Hub,
or any queue or topic of Service Bus. The bytes of a line are the message's body as they are,
without the newline; they need not be text. Lines with the same key, partition or session keep
their order.

What the flags don't say comes from the worker's settings: SERVICE_TYPE chooses the service,
EVENT_HUB_NAME, SERVICE_BUS_QUEUE_NAME or SERVICE_BUS_TOPIC_NAME is where the lines go, and
EVENT_HUB_CONN_STRING or SERVICE_BUS_CONNECTION_STRING how to get there; an identity works as
well (docs/settings.md). A connection string in the environment does not show in the system's
list of processes.

Types of properties: ` + strings.Join(publish.PropertyTypes(), ", ") + `.

Exit status: 0 all lines are accepted; 1 not all are, and it is told how many; 2 wrong arguments.`,
		Example: `  persistor publish rides.jsonl --hub rides
  tail -f app.log | persistor publish - --hub logs --key web-1
  persistor publish orders.jsonl --queue orders --property source=import --property attempt:int=2
  persistor publish legs.csv --queue journeys --session car-7
  persistor publish prices.jsonl --topic prices`,
		GroupID: groupTry,
		Args: arguments(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("publish takes one FILE, or - for standard input")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.keyGiven, p.sessionGiven = cmd.Flags().Changed("key"), cmd.Flags().Changed("session")
			return p.run(cmd.Context(), args[0], streams{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&p.hub, "hub", "", "`NAME` of the Event Hub to send to")
	flags.StringVar(&p.queue, "queue", "", "`NAME` of the Service Bus queue to send to")
	flags.StringVar(&p.topic, "topic", "", "`NAME` of the Service Bus topic to send to")
	flags.StringVar(&p.connection, "connection-string", "", "of the namespace")
	flags.StringVar(&p.session, "session", "", "session `ID` of all messages; a queue with sessions wants one")
	flags.StringVar(&p.key, "key", "", "partition `KEY` of all messages")
	flags.StringVar(&p.partition, "partition", "", "`ID` of the Event Hub's partition for all events")
	flags.StringVar(&p.contentType, "content-type", "", "content `TYPE` of all messages, such as application/json")
	flags.StringArrayVar(&p.properties, "property", nil, "application property of all messages, `NAME[:TYPE]=VALUE`; repeat it for more")
	return cmd
}

// publication is what the flags say.
type publication struct {
	hub, queue, topic      string
	connection             string
	session, key           string
	sessionGiven, keyGiven bool // an empty one is one too
	partition, contentType string
	properties             []string
}

func (p *publication) run(ctx context.Context, file string, s streams) error {
	if err := p.check(); err != nil {
		return usageError{err}
	}
	options, err := p.options()
	if err != nil {
		return usageError{err}
	}
	producer, where, err := p.producer()
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		producer.Close(closing) // everything sent has been answered
	}()
	input := s.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return usageError{fmt.Errorf("open file: %w", err)}
		}
		defer f.Close()
		input = f
	}
	result, err := publish.Lines(ctx, producer, input, options)
	fmt.Fprintf(s.out, "published %s, %s, in %s and %.2f s to %s\n", terminal.Count(int64(result.Messages), "message"),
		terminal.Count(result.Bytes, "byte"), terminal.Count(int64(result.Batches), "batch"), result.Elapsed.Seconds(), where)
	return err
}

// check refuses flags that contradict each other.
func (p *publication) check() error {
	named := 0
	for _, name := range []string{p.hub, p.queue, p.topic} {
		if name != "" {
			named++
		}
	}
	switch {
	case named > 1:
		return errors.New("--hub, --queue and --topic exclude each other")
	case p.toServiceBus() && p.partition != "":
		return errors.New("--partition is for an Event Hub: Service Bus chooses partitions itself")
	case p.sessionGiven && !p.toServiceBus():
		return errors.New("--session is for Service Bus: name a --queue or a --topic")
	case utf8.RuneCountInString(p.session) > 128:
		return fmt.Errorf("--session has %d characters: want at most 128", utf8.RuneCountInString(p.session))
	case p.sessionGiven && p.keyGiven:
		return errors.New("--session and --key exclude each other: a session is its own partition key")
	}
	return nil
}

// options are what all messages have in common.
func (p *publication) options() (publish.LineOptions, error) {
	o := publish.LineOptions{Partition: p.partition}
	if p.keyGiven {
		o.Key = &p.key
	}
	if p.sessionGiven {
		o.Session = &p.session
	}
	if p.contentType != "" {
		o.ContentType = &p.contentType
	}
	for _, text := range p.properties {
		name, value, err := publish.ParseProperty(text)
		if err != nil {
			return o, fmt.Errorf("--property %q: %w", text, err)
		}
		if _, twice := o.Properties[name]; twice {
			return o, fmt.Errorf("--property %q: there are two of this name", text)
		}
		if o.Properties == nil {
			o.Properties = make(map[string]any)
		}
		o.Properties[name] = value
	}
	return o, nil
}

// producer is for what flags and settings name, which it says in words.
func (p *publication) producer() (producer publish.Producer, where string, err error) {
	if !p.toServiceBus() {
		hub, err := config.ReadHub(p.lookup)
		if err != nil {
			return nil, "", err
		}
		producer, err = publish.ToHub(hub)
		return producer, hub.Name, err
	}
	queue, err := config.ReadQueue(p.lookup)
	if err != nil {
		return nil, "", err
	}
	producer, err = publish.ToQueue(queue)
	return producer, cmp.Or(queue.Topic, queue.Name), err
}

// toServiceBus reports whether the lines go there: by a flag, or else as the worker's settings say.
func (p *publication) toServiceBus() bool {
	service := strings.TrimSpace(os.Getenv("SERVICE_TYPE"))
	return p.queue != "" || p.topic != "" || p.hub == "" && strings.EqualFold(service, string(config.ServiceBus))
}

// lookup gives the settings, with the flags in place of those that they stand for.
func (p *publication) lookup(name string) (string, bool) {
	setting, _, identity := strings.Cut(name, "__")
	switch {
	case p.connection != "" && (setting == "EVENT_HUB_CONN_STRING" || setting == "SERVICE_BUS_CONNECTION_STRING"):
		if identity {
			return "", false // it would contradict the flag
		}
		return p.connection, true
	case p.hub != "" && name == "EVENT_HUB_NAME":
		return p.hub, true
	case p.queue != "" && name == "SERVICE_BUS_TYPE":
		return "QUEUE", true
	case p.queue != "" && name == "SERVICE_BUS_QUEUE_NAME":
		return p.queue, true
	case p.topic != "" && name == "SERVICE_BUS_TYPE":
		return "TOPIC", true
	case p.topic != "" && name == "SERVICE_BUS_TOPIC_NAME":
		return p.topic, true
	}
	return os.LookupEnv(name)
}
