package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"persistor/emulator"
)

// The address and key of Microsoft's own emulator, so that what is set up for that one finds this one.
const (
	emulatorAddress = "127.0.0.1:5672"
	emulatorKey     = "SAS_KEY_VALUE"
)

// maxConfig bounds the emulator's configuration file, in bytes.
const maxConfig = 1 << 20

func newEmulator() *cobra.Command {
	var address, key string
	var entities entityFlags
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Run an emulator of Event Hubs and Service Bus on this machine",
		Long: `Emulator serves Event Hubs and Service Bus to the real clients over AMQP 1.0, on loopback and
without TLS. Messages are held in memory and are gone when it ends. It runs until Ctrl-C.

Address and key are by default those of Microsoft's emulators, so that

  Endpoint=sb://localhost;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true

reaches this one too. The key is real: a client with another one is refused.

Rules of subscriptions, and limits such as lock durations and times to live, are in the file of
--config, which is JSON:

  {"hubs": [{"name": "rides", "partitions": 4}],
   "queues": [{"name": "orders", "sessions": true, "lock_duration": "30s", "max_delivery_count": 5}],
   "topics": [{"name": "prices", "subscriptions": [{"name": "cheap", "rules": [{"name": "r", "sql": "price < 10"}]}]}]}

Exit status: 0 after Ctrl-C; 1 it could not listen; 2 wrong arguments.`,
		Example: `  persistor emulator --hub rides:4
  persistor emulator --queue orders --queue journeys:sessions
  persistor emulator --topic prices/audit --topic prices/billing:sessions --address 127.0.0.1:0
  persistor emulator --config emulator.json`,
		GroupID: groupTry,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := entities.config()
			if err != nil {
				return usageError{err}
			}
			e, err := emulator.Start(emulator.Options{
				Address: address, Key: key, Hubs: config.Hubs, Queues: config.Queues, Topics: config.Topics,
			})
			if listening := (*net.OpError)(nil); errors.As(err, &listening) {
				return err // the address is taken, or not this machine's
			} else if err != nil {
				return usageError{err}
			}
			announceEmulator(cmd.OutOrStdout(), e, config)
			<-cmd.Context().Done()
			return e.Close()
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&entities.hubs, "hub", nil, "an Event Hub as `NAME:PARTITIONS`, or NAME for one partition; repeat it for more")
	flags.StringArrayVar(&entities.queues, "queue", nil, "a Service Bus queue as `NAME[:sessions]`; repeat it for more")
	flags.StringArrayVar(&entities.topics, "topic", nil, "a topic's subscription as `TOPIC/SUBSCRIPTION[:sessions]`; repeat it for more")
	flags.StringVar(&entities.configFile, "config", "", "`FILE` with all of these as JSON, in place of the flags")
	flags.StringVar(&address, "address", emulatorAddress, "loopback `HOST:PORT` to listen on; port 0 takes a free one")
	flags.StringVar(&key, "key", emulatorKey, "shared access `KEY` of RootManageSharedAccessKey")
	return cmd
}

// entityFlags are the flags that say what the namespace holds.
type entityFlags struct {
	hubs, queues, topics []string
	configFile           string
}

// config takes what the namespace holds from the file or from the flags.
func (f *entityFlags) config() (c emulator.Config, err error) {
	named := len(f.hubs) + len(f.queues) + len(f.topics)
	switch {
	case f.configFile != "" && named > 0:
		return c, errors.New("--config excludes --hub, --queue and --topic: name what there is in one place")
	case f.configFile != "":
		return readEmulatorConfig(f.configFile)
	case named == 0:
		return c, errors.New("nothing to serve is named: add --hub NAME:PARTITIONS, --queue NAME, --topic TOPIC/SUBSCRIPTION, or --config FILE")
	}
	if c.Hubs, err = parseHubs(f.hubs); err != nil {
		return c, err
	}
	if c.Queues, err = parseQueues(f.queues); err != nil {
		return c, err
	}
	c.Topics, err = parseTopics(f.topics)
	return c, err
}

func parseHubs(texts []string) (hubs []emulator.Hub, err error) {
	for _, text := range texts {
		name, count, given := strings.Cut(text, ":")
		partitions := 1
		if given {
			if partitions, err = strconv.Atoi(count); err != nil || partitions < 1 {
				return nil, fmt.Errorf("--hub %q: %q is no number of partitions, expected NAME:PARTITIONS such as rides:4", text, count)
			}
		}
		hubs = append(hubs, emulator.Hub{Name: name, Partitions: partitions})
	}
	return hubs, nil
}

func parseQueues(texts []string) (queues []emulator.Queue, err error) {
	for _, text := range texts {
		name, sessions, err := cutSessions(text)
		if err != nil {
			return nil, fmt.Errorf("--queue %q: %w, expected NAME or NAME:sessions", text, err)
		}
		queues = append(queues, emulator.Queue{Name: name, Sessions: sessions})
	}
	return queues, nil
}

// parseTopics puts the subscriptions of one topic together, whose name has any case.
func parseTopics(texts []string) (topics []emulator.Topic, err error) {
	for _, text := range texts {
		path, sessions, err := cutSessions(text)
		if err != nil {
			return nil, fmt.Errorf("--topic %q: %w, expected TOPIC/SUBSCRIPTION or TOPIC/SUBSCRIPTION:sessions", text, err)
		}
		cut := strings.LastIndex(path, "/") // the name of a topic may have slashes in it
		if cut < 0 {
			return nil, fmt.Errorf("--topic %q: it names no subscription, expected TOPIC/SUBSCRIPTION such as prices/audit", text)
		}
		topic := path[:cut]
		i := slices.IndexFunc(topics, func(t emulator.Topic) bool { return strings.EqualFold(t.Name, topic) })
		if i < 0 {
			i, topics = len(topics), append(topics, emulator.Topic{Name: topic})
		}
		topics[i].Subscriptions = append(topics[i].Subscriptions, emulator.Subscription{Name: path[cut+1:], Sessions: sessions})
	}
	return topics, nil
}

// cutSessions takes :sessions off a name.
func cutSessions(text string) (name string, sessions bool, err error) {
	name, option, sessions := strings.Cut(text, ":")
	if sessions && option != "sessions" {
		return "", false, fmt.Errorf("%q is no option", option)
	}
	return name, sessions, nil
}

func readEmulatorConfig(file string) (c emulator.Config, err error) {
	f, err := os.Open(file)
	if err != nil {
		return c, fmt.Errorf("open --config: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return c, fmt.Errorf("read --config: %w", err)
	}
	if len(content) > maxConfig {
		return c, fmt.Errorf("read --config: %s is larger than %d bytes", file, maxConfig)
	}
	if c, err = emulator.ParseConfig(content); err != nil {
		return c, fmt.Errorf("read --config %s: %w", file, err)
	}
	return c, nil
}

// announceEmulator says how to reach the emulator. Its key is for this machine alone, and meant to be seen.
func announceEmulator(w io.Writer, e *emulator.Emulator, c emulator.Config) {
	fmt.Fprintf(w, "Emulator of Event Hubs and Service Bus on %s, until Ctrl-C\n", e.Address())
	for _, h := range c.Hubs {
		fmt.Fprintf(w, "  %s: Event Hub, %d partitions\n", h.Name, max(h.Partitions, 1))
	}
	for _, q := range c.Queues {
		fmt.Fprintf(w, "  %s: queue%s\n", q.Name, withSessions(q.Sessions))
	}
	for _, t := range c.Topics {
		fmt.Fprintf(w, "  %s: topic\n", t.Name)
		for _, s := range t.Subscriptions {
			fmt.Fprintf(w, "  %s/%s: subscription%s%s\n", t.Name, s.Name, withSessions(s.Sessions), withRules(s.Rules))
		}
	}
	fmt.Fprintf(w, "Connection string:\n  %s\n", e.ConnectionString())
	if to := example(c); to != "" {
		fmt.Fprintf(w, "For example, in another terminal, a line is a message:\n  persistor publish FILE %s --connection-string '%s'\n", to, e.ConnectionString())
	}
}

// example is how to publish to the first of what there is; "" to nothing.
func example(c emulator.Config) string {
	switch {
	case len(c.Hubs) > 0:
		return "--hub " + c.Hubs[0].Name
	case len(c.Queues) > 0 && c.Queues[0].Sessions:
		return "--queue " + c.Queues[0].Name + " --session ID"
	case len(c.Queues) > 0:
		return "--queue " + c.Queues[0].Name
	case len(c.Topics) > 0:
		return "--topic " + c.Topics[0].Name
	}
	return ""
}

func withSessions(sessions bool) string {
	if sessions {
		return " with sessions"
	}
	return ""
}

// withRules counts rules; nil is the one that matches everything.
func withRules(rules []emulator.Rule) string {
	if rules == nil {
		return ""
	}
	return fmt.Sprintf(", %d rules", len(rules))
}
