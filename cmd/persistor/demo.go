package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"persistor/internal/demo"
	"persistor/internal/terminal"
)

// storageEnv holds the connection string for a demo on real storage. As a flag it would show in the
// system's list of processes.
const storageEnv = "PERSISTOR_STORAGE_CONNECTION_STRING"

func newDemo() *cobra.Command {
	var o demo.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See all of it at work, on this machine alone",
		Long: `Demo emulates an Event Hub or Service Bus, publishes telemetry to it, starts an invoker and
workers as processes of their own, and has them store every message. Then it shows what came of
it, and audits it: no gap, no duplicate, every message as it was published. --source says what
is drained:

  eventhub    an Event Hub, partition by partition
  servicebus  a queue, whose receivers compete for its messages
  sessions    a queue with sessions, each stored in its order
  deadletter  the dead-letter queue of a queue whose consumer refuses everything

Exit status: 0 the audit holds; 1 it does not, or something failed; 2 wrong arguments.`,
		Example: `  persistor demo
  persistor demo --source servicebus
  persistor demo --source sessions --sessions 10000 --events 200000
  persistor demo --source deadletter --json | jq .audit.complete
  persistor demo --events 1000000 --partitions 32 --workers 8 --out /tmp/stored
  persistor demo --storage azurite`,
		GroupID: groupTry,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Storage == "env" {
				if o.Storage = os.Getenv(storageEnv); o.Storage == "" {
					return usagef("--storage env takes the connection string from %s, which is not set", storageEnv)
				}
			}
			if asJSON && o.Keep {
				return usagef("--json and --keep exclude each other: the document is written at the end")
			}
			for flag, source := range map[string]string{"partitions": "eventhub", "sessions": "sessions"} {
				if cmd.Flags().Changed(flag) && o.Source != source {
					return usagef("--%s is for --source %s", flag, source)
				}
			}
			if !cmd.Flags().Changed("events") {
				o.Events = demo.DefaultEvents(o.Source)
			}
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			o.Progress, o.Report = cmd.OutOrStdout(), cmd.OutOrStdout()
			if asJSON {
				o.Progress, o.Report = cmd.ErrOrStderr(), io.Discard
			}
			o.Width = terminal.Width(o.Progress)

			result, err := demo.Run(cmd.Context(), o)
			if err != nil {
				if cmd.Context().Err() != nil {
					return errors.New("demo: interrupted")
				}
				if errors.Is(err, demo.ErrOutput) {
					return usageError{err}
				}
				return fmt.Errorf("demo: %w", err)
			}
			if asJSON {
				out := json.NewEncoder(cmd.OutOrStdout())
				out.SetIndent("", "  ")
				if err := out.Encode(result); err != nil {
					return fmt.Errorf("write result: %w", err)
				}
			}
			if !result.Audit.Complete {
				return errors.New("demo: the audit found that what is stored is not what was published")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.Source, "source", "eventhub", "what is drained: one of "+demo.Sources())
	flags.IntVar(&o.Events, "events", 0, fmt.Sprintf(`events or messages to publish, 1 to %d; each takes about 1.5 KB of memory
(default as many as take a few seconds)`, demo.MaxEvents))
	flags.IntVar(&o.Partitions, "partitions", 8, fmt.Sprintf("partitions of the Event Hub, 1 to %d", demo.MaxPartitions))
	flags.IntVar(&o.Sessions, "sessions", 1000, fmt.Sprintf("sessions of the queue, 1 to %d", demo.MaxSessions))
	flags.IntVar(&o.Workers, "workers", 4, fmt.Sprintf("worker processes, 1 to %d", demo.MaxWorkers))
	flags.StringVar(&o.Storage, "storage", "dir", `where blobs go: "dir", "azurite" (see make azurite), "env" for
`+storageEnv+`, or a connection string`)
	flags.StringVar(&o.Out, "out", "persistor-out", `folder for --storage dir; one of an earlier demo is emptied`)
	flags.BoolVar(&asJSON, "json", false, "print one JSON document on standard output, and progress on standard error")
	flags.BoolVar(&o.Keep, "keep", false, "leave everything running at the end, to be tried out, until Ctrl-C")
	return cmd
}
