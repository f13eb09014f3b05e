package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"persistor/internal/ledger"
	"persistor/internal/remote"
)

func newRuns() *cobra.Command {
	var r reach
	var limit int
	var state string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List runs, watch one, and cancel, retry or resume it",
		Long: `Runs lists the runs of an invoker, the newest first: their state, the waves that they took so
far, what they stored and what is left. Its commands take a run's id, or latest for the run
begun last.

States: queued, a wave waits for its turn; running; succeeded; failed, see retry; cancelled and
abandoned, see resume. A run is abandoned whose invoker died.

` + reachHelp + `

Exit status: 0 it is done; 1 it could not be; 2 wrong arguments or settings.`,
		Example: `  persistor runs
  persistor runs --state failed --json | jq -r .runs[].id
  persistor runs watch latest
  persistor runs retry 20261125T040509Z-3f9a1c`,
		GroupID: groupOperate,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > remote.MaxRuns {
				return usagef("--limit is %d, expected 1 to %d", limit, remote.MaxRuns)
			}
			if state != "" && !slices.Contains(states, state) {
				return usagef("--state is %.40q, expected one of %v", state, states)
			}
			return r.use(cmd, func(ctx context.Context, i invoker, s streams) error {
				runs, err := i.Runs(ctx, limit, ledger.State(state))
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(s, map[string][]ledger.Run{"runs": runs})
				}
				printRuns(s.out, runs)
				return nil
			})
		},
	}
	r.flags(cmd.PersistentFlags())
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "write JSON")
	cmd.Flags().IntVar(&limit, "limit", 20, fmt.Sprintf("list `N` runs at most, 1 to %d", remote.MaxRuns))
	cmd.Flags().StringVar(&state, "state", "", "list the runs in this `STATE` alone")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(newShow(&r, &asJSON), newWatch(&r, &asJSON), newCancel(&r, &asJSON), newRetry(&r, &asJSON), newResume(&r, &asJSON))
	return cmd
}

// states are those that a run shows as.
var states = []string{"queued", "running", "succeeded", "failed", "cancelled", "abandoned"}

func newShow(r *reach, asJSON *bool) *cobra.Command {
	return onRun(r, &cobra.Command{
		Use:   "show RUN",
		Short: "Show what was asked of a run, and how far each partition is",
		Example: `  persistor runs show latest
  persistor runs show latest --json | jq .partitions`,
	}, nil, func(ctx context.Context, i invoker, id string, s streams) error {
		run, err := i.Run(ctx, id)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(s, run)
		}
		printRun(s.out, run, i.local)
		return nil
	})
}

func newWatch(r *reach, asJSON *bool) *cobra.Command {
	return onRun(r, &cobra.Command{
		Use:   "watch RUN",
		Short: "Follow a run to its end",
		Long: `Watch shows how far a run is until it has ended, as persistor backfill does. Ctrl-C ends the
watching, and not the run.

Exit status: 0 the run has succeeded; 1 it ended otherwise, or the watching was interrupted; 2
wrong arguments or settings.`,
		Example: `  persistor runs watch latest`,
	}, []ledger.State{ledger.Queued, ledger.Running}, func(ctx context.Context, i invoker, id string, s streams) error {
		return watch(ctx, i, id, newView(s, *asJSON), s)
	})
}

func newCancel(r *reach, asJSON *bool) *cobra.Command {
	return change(r, asJSON, &cobra.Command{
		Use:     "cancel RUN",
		Short:   "End a run before its time; what is stored stays, and it can be resumed",
		Example: `  persistor runs cancel latest`,
	}, []ledger.State{ledger.Queued, ledger.Running, ledger.Abandoned}, (*remote.Invoker).Cancel)
}

func newRetry(r *reach, asJSON *bool) *cobra.Command {
	return change(r, asJSON, &cobra.Command{
		Use:     "retry RUN",
		Short:   "Have a run that failed do again what failed, and nothing else",
		Example: `  persistor runs retry latest && persistor runs watch latest`,
	}, []ledger.State{ledger.Failed}, (*remote.Invoker).Retry)
}

func newResume(r *reach, asJSON *bool) *cobra.Command {
	return change(r, asJSON, &cobra.Command{
		Use:     "resume RUN",
		Short:   "Have a run go on that was cancelled, or whose invoker died",
		Example: `  persistor runs resume latest && persistor runs watch latest`,
	}, []ledger.State{ledger.Cancelled, ledger.Abandoned}, (*remote.Invoker).Resume)
}

// change completes a command that asks the invoker to change a run. A local one watches the run that goes on here, since
// it ends with this process.
func change(r *reach, asJSON *bool, cmd *cobra.Command, states []ledger.State, do func(*remote.Invoker, context.Context, string) (ledger.Run, error)) *cobra.Command {
	return onRun(r, cmd, states, func(ctx context.Context, i invoker, id string, s streams) error {
		run, err := do(i.Invoker, ctx, id)
		if err != nil {
			return err
		}
		if i.local && !run.State.Over() {
			return watch(ctx, i, id, newView(s, *asJSON), s)
		}
		if *asJSON {
			return printJSON(s, run)
		}
		fmt.Fprintf(s.out, "%s: %s\n", run.ID, stateOf(run))
		return nil
	})
}

// onRun completes a command whose one argument is a run.
func onRun(r *reach, cmd *cobra.Command, states []ledger.State, do func(ctx context.Context, i invoker, id string, s streams) error) *cobra.Command {
	cmd.Args = arguments(func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one RUN: an id, or latest", cmd.Name())
		}
		if !runID.MatchString(args[0]) {
			return fmt.Errorf("%.80q is no id of a run", args[0])
		}
		return nil
	})
	cmd.ValidArgsFunction = r.completeRuns(states...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return r.use(cmd, func(ctx context.Context, i invoker, s streams) error {
			id, err := i.find(ctx, args[0])
			if err != nil {
				return err
			}
			return do(ctx, i, id, s)
		})
	}
	return cmd
}

var runID = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

// use opens the invoker for as long as do works with it.
func (r *reach) use(cmd *cobra.Command, do func(context.Context, invoker, streams) error) error {
	ctx, s := cmd.Context(), streams{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
	i, err := r.open(ctx, s)
	if err != nil {
		return err
	}
	defer i.close()
	err = do(ctx, i, s)
	var said *remote.Error
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: interrupted", cmd.Name())
	case errors.As(err, &said) && said.Status == http.StatusBadRequest:
		return usageError{err}
	}
	return err
}

// printJSON writes one JSON document.
func printJSON(s streams, document any) error {
	out := json.NewEncoder(s.out)
	out.SetIndent("", "  ")
	if err := out.Encode(document); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// stateOf is a run's state, and whether it is to change.
func stateOf(run ledger.Run) string {
	if run.State == ledger.Running && !run.CancelRequested.IsZero() {
		return "running, to be cancelled"
	}
	return string(run.State)
}
