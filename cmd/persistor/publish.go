package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/config"
	"persistor/internal/publish"
)

// The settings that flags stand in for.
const (
	hubConnectionSetting = "EVENT_HUB_CONN_STRING"
	hubNameSetting       = "EVENT_HUB_NAME"
)

func newPublish() *cobra.Command {
	var p publication
	cmd := &cobra.Command{
		Use:   "publish FILE|-",
		Short: "Send a file's lines to an Event Hub, a line an event",
		Long: `Publish sends every line of FILE, or of standard input for "-", as an event to any Event Hub.
The bytes of a line are the event's body as they are, without the newline; they need not be text.
Lines with the same key or partition keep their order.

The connection comes from --connection-string or EVENT_HUB_CONN_STRING; an identity works as for
the worker (EVENT_HUB_CONN_STRING__fullyQualifiedNamespace, see docs/settings.md). A connection
string in the environment does not show in the system's list of processes.

Types of properties: ` + strings.Join(publish.PropertyTypes(), ", ") + `.

Exit status: 0 all lines are accepted; 1 not all are, and it is told how many; 2 wrong arguments.`,
		Example: `  persistor publish rides.jsonl --hub rides
  tail -f app.log | persistor publish - --hub logs --key web-1
  persistor publish rides.jsonl --hub rides --property source=import --property attempt:int=2`,
		Args: arguments(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("publish takes one FILE, or - for standard input")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.keyGiven = cmd.Flags().Changed("key")
			return p.run(cmd.Context(), args[0], streams{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&p.hub, "hub", "", "`NAME` of the Event Hub; by default EVENT_HUB_NAME, or what the connection string names")
	flags.StringVar(&p.connection, "connection-string", "", "of the Event Hubs namespace; by default EVENT_HUB_CONN_STRING")
	flags.StringVar(&p.key, "key", "", "partition `KEY` of all events")
	flags.StringVar(&p.partition, "partition", "", "`ID` of the partition for all events")
	flags.StringVar(&p.contentType, "content-type", "", "content `TYPE` of all events, such as application/json")
	flags.StringArrayVar(&p.properties, "property", nil, "application property of all events, `NAME[:TYPE]=VALUE`; repeat it for more")
	return cmd
}

// publication is what the flags say.
type publication struct {
	hub, connection             string
	key, partition, contentType string
	keyGiven                    bool // an empty key is one too
	properties                  []string
}

func (p *publication) run(ctx context.Context, file string, s streams) error {
	options, err := p.options()
	if err != nil {
		return usageError{err}
	}
	hub, err := config.ReadHub(p.lookup)
	if err != nil {
		return err
	}
	input := s.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return usageError{fmt.Errorf("open file: %w", err)}
		}
		defer f.Close()
		input = f
	}
	return p.send(ctx, hub, input, options, s.out)
}

func (p *publication) send(ctx context.Context, hub config.Hub, input io.Reader, options publish.LineOptions, out io.Writer) error {
	producer, err := publish.NewProducer(hub)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		producer.Close(closing) // everything sent has been answered
	}()
	result, err := publish.Lines(ctx, producer, input, options)
	fmt.Fprintf(out, "published %d events, %d bytes, in %d batches and %.2f s to %s\n",
		result.Events, result.Bytes, result.Batches, result.Elapsed.Seconds(), hub.Name)
	return err
}

func (p *publication) options() (publish.LineOptions, error) {
	o := publish.LineOptions{Partition: p.partition}
	if p.keyGiven {
		o.Key = &p.key
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

// lookup gives the settings, with the flags in place of those that they stand for.
func (p *publication) lookup(name string) (string, bool) {
	switch {
	case name == hubConnectionSetting && p.connection != "":
		return p.connection, true
	case strings.HasPrefix(name, hubConnectionSetting+"__") && p.connection != "":
		return "", false // an identity would contradict the flag
	case name == hubNameSetting && p.hub != "":
		return p.hub, true
	}
	return os.LookupEnv(name)
}
