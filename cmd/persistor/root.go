package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"persistor/internal/app"
	"persistor/internal/config"
	"persistor/internal/generate"
)

// Exit statuses. Scripts may rely on them; the help of the root command tells them.
const (
	exitOK    = 0
	exitJob   = 1 // the job failed, or was interrupted
	exitUsage = 2 // wrong arguments or settings; nothing was begun
)

// streams are what a command reads and writes. Results go to out, everything else to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// run runs one command line and returns its exit status.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(s.err, "persistor:", err)
	if isUsage(err) {
		return exitUsage
	}
	return exitJob
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "persistor",
		Short: "Land every message of an Event Hub or Service Bus in Blob Storage, exactly once",
		Long: `Persistor lands every message of an Azure Event Hub, or of a Service Bus queue or
subscription, in Blob Storage, so that what went wrong downstream can be looked at and sent
again. An invoker splits the work and calls workers over HTTP; each worker drains its share,
and is back before its deadline.

Exit status: 0 all went well; 1 the job failed or was interrupted; 2 wrong arguments or
settings, nothing was begun.`,
		Example: `  persistor demo                    # see all of it at work, on this machine alone
  persistor demo --source sessions  # the same with Service Bus
  persistor status                  # how much waits, at the invoker in PERSISTOR_URL
  persistor backfill                # store it, however long that takes, and watch
  persistor emulator --hub rides:4  # an Event Hub of your own
  persistor publish rides.jsonl --hub rides --connection-string "$EVENT_HUB_CONN_STRING"
  persistor replay persistor-out/blobs --folder rides --to-hub rides --dry-run`,
		Args:          arguments(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true, // run tells them, once
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; %s --help lists the flags", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: groupTry, Title: "Try it out:"},
		&cobra.Group{ID: groupOperate, Title: "Operate it:"},
		&cobra.Group{ID: groupStored, Title: "What is stored:"},
		&cobra.Group{ID: groupPrograms, Title: "Run and deploy it:"},
	)
	root.AddCommand(newDemo(), newEmulator(), newPublish(), newBackfill(), newRuns(), newStatus(), newList(), newCat(), newReplay(), newVerify(), newWorker(), newInvoker(), newPush(), newGenerate(), newMan(), newVersion())
	return root
}

// Groups of commands in the root's help.
const (
	groupTry      = "try"
	groupOperate  = "operate"
	groupStored   = "stored"
	groupPrograms = "programs"
)

// usageError is an error of whoever typed the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// isUsage reports whether err is about how the command was called: arguments, flags or settings.
func isUsage(err error) bool {
	var usage usageError
	var settings *config.Error
	var apps *generate.Error
	var location app.LocationError
	return errors.As(err, &location) || errors.As(err, &usage) || errors.As(err, &settings) || errors.As(err, &apps) || errors.Is(err, generate.ErrUsage)
}

// arguments makes what a rule for positional arguments refuses a usageError.
func arguments(rule cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := rule(cmd, args)
		if err == nil {
			return nil
		}
		if !cmd.HasParent() && len(args) > 0 {
			err = fmt.Errorf("unknown command %q", args[0])
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(like, " or "))
			}
		}
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	}
}
