package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/api"
	"persistor/internal/terminal"
)

func newStatus() *cobra.Command {
	var r reach
	var asJSON bool
	var most int64
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how much waits to be stored, and the run that is under way",
		Long: `Status shows the lag of each partition of an Event Hub, by the hub's properties and the
checkpoints, or how many messages of a Service Bus entity wait, where the invoker's identity may
know; and the run that is under way. With --max-lag it is a check for monitoring.

` + reachHelp + `

Exit status: 0 it is shown; 1 it could not be, or more waits than --max-lag; 2 wrong arguments
or settings.`,
		Example: `  persistor status
  persistor status --json | jq .backlog
  persistor status --max-lag 100000 || alert "Persistor lags behind"`,
		GroupID: groupOperate,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			limited := cmd.Flags().Changed("max-lag")
			if limited && most < 0 {
				return usagef("--max-lag is %d, expected 0 or more", most)
			}
			return r.use(cmd, func(ctx context.Context, i invoker, s streams) error {
				status, err := i.Status(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					err = printJSON(s, status)
				} else {
					printStatus(s.out, status, time.Now())
				}
				if err != nil || !limited {
					return err
				}
				return checkLag(status, most)
			})
		},
	}
	r.flags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	cmd.Flags().Int64Var(&most, "max-lag", 0, "exit with 1 if more than `N` messages wait, or nobody knows")
	return cmd
}

// checkLag fails where too much waits, over all partitions.
func checkLag(s api.Standing, most int64) error {
	switch {
	case s.Backlog < 0:
		return fmt.Errorf("status: how many messages wait isn't known, as --max-lag asks: the invoker's identity needs the right to manage the namespace")
	case s.Backlog > most:
		return fmt.Errorf("status: %s waiting, more than --max-lag %s", terminal.Count(s.Backlog, "message"), terminal.Group(most))
	}
	return nil
}

// printStatus is the status in 80 columns.
func printStatus(w io.Writer, s api.Standing, now time.Time) {
	fmt.Fprintln(w, s.Source)
	if len(s.Partitions) > 0 {
		fmt.Fprintf(w, "  %-9s %12s %12s %12s %13s  %s\n", "partition", "first", "last", "checkpoint", "lag", "newest")
	}
	for _, p := range s.Partitions {
		newest := "-"
		if !p.Empty && !p.LastEnqueued.IsZero() {
			newest = span(now.Sub(p.LastEnqueued)) + " ago"
		}
		fmt.Fprintf(w, "  %-9s %12s %12s %12s %13s  %s\n", p.Partition, sequenceText(p.First), sequenceText(p.Last), sequenceText(p.Checkpoint), terminal.Group(p.Backlog), newest)
	}
	switch {
	case s.Backlog < 0:
		fmt.Fprintln(w, "  how many messages wait isn't known: the invoker's identity may not manage the namespace")
	case s.Backlog == 0:
		fmt.Fprintln(w, "  nothing waits to be stored")
	default:
		fmt.Fprintf(w, "  %s waiting to be stored\n", terminal.Count(s.Backlog, "message"))
	}
	if s.Run != nil {
		fmt.Fprintf(w, "  under way: %s %s, %s\n", s.Run.Kind, s.Run.ID, stateOf(*s.Run))
	}
}

// sequenceText is a sequence number as it stands in tables; none, which is below 0, is "-".
func sequenceText(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}
