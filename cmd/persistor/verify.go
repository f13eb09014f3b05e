package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/app"
	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/selection"
	"persistor/internal/store"
	"persistor/internal/terminal"
)

func newVerify() *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:     "verify [CONTAINER]",
		GroupID: groupStored,
		Short:   "Prove that what is stored is complete: no gap, nothing twice",
		Long: `Verify proves, for each folder of a container, that what is stored is complete: of a
partition of an Event Hub an unbroken chain, with no gap and nothing twice; of a queue or
subscription of Service Bus no number twice, and sessions in order; and that every blob is what
its name and metadata say. It lists the container once, and reads names and metadata; --deep
reads every record as well. What is told, and what it means, is in docs/verify.md.

--against-hub compares with an Event Hub, by the worker's settings (docs/settings.md): what it
still has of what should be stored, what its checkpoints promise, and how much is left to be
stored, which is nothing wrong.

A container is a directory that Persistor stores in, or file:///DIR; or
https://ACCOUNT/CONTAINER, with a SAS or else by the identity that you are signed in with; or,
if none is given, what PERSISTOR_STORAGE_CONNECTION_STRING and PERSISTOR_CONTAINER_NAME name.

Exit status: 0 it is proven; 1 it is not, or not all of it could be looked at; 2 wrong
arguments or settings.`,
		Example: `  persistor verify persistor-out/blobs
  persistor verify 'https://account.blob.core.windows.net/landing?sv=...' --deep
  persistor verify --against-hub
  persistor verify persistor-out/blobs --until 1d --json | jq .folders[].partitions`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			v.folderGiven = cmd.Flags().Changed("folder")
			return v.run(cmd.Context(), container(args), streams{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&v.folder, "folder", "", "main `FOLDER` to look at, as in STORE_PARAM, and what is below\n_failed/ of it (default all)")
	flags.StringSliceVar(&v.partitions, "partition", nil, "`ID`s of partitions of an Event Hub, and nothing else")
	flags.StringVar(&v.from, "from", "", "`DAY` in UTC to begin with, by the dates in names; 7d is 7 days ago")
	flags.StringVar(&v.until, "until", "", "`DAY` in UTC to end before")
	flags.BoolVar(&v.deep, "deep", false, "read contents, too, and compare them with names and metadata")
	flags.BoolVar(&v.against, "against-hub", false, "compare with the Event Hub of the worker's settings, and with its\ncheckpoints")
	flags.StringVar(&v.hub, "hub", "", "`NAME` of the Event Hub to compare with, in place of EVENT_HUB_NAME")
	flags.BoolVar(&v.asJSON, "json", false, "print one JSON document")
	return cmd
}

// verification is what the flags say.
type verification struct {
	folder      string
	folderGiven bool
	partitions  []string
	from, until string
	deep        bool
	against     bool
	hub         string
	asJSON      bool
}

func (v *verification) run(ctx context.Context, location string, s streams) error {
	scope, err := v.scope(time.Now())
	if err != nil {
		return usageError{err}
	}
	blobs, err := openContainer(ctx, location)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if dir, ok := blobs.(*store.Dir); ok {
		defer dir.Close()
	}
	expect, closing, err := v.expectation(ctx, &scope)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer closing()

	listed := newCounter(s.err)
	scope.Listed = listed.update
	summary, err := audit.Container(ctx, blobs, scope, expect)
	listed.end()
	if printErr := v.print(s.out, summary); printErr != nil {
		return fmt.Errorf("verify: print what was found: %w", printErr)
	}
	if err != nil {
		return interrupted(ctx, "verify", err)
	}
	if !summary.Complete {
		return errors.New("verify: what is stored is not proven to be complete")
	}
	return nil
}

// scope is what the flags select. Times stand for the days that they are in.
func (v *verification) scope(now time.Time) (audit.Scope, error) {
	scope := audit.Scope{Partitions: v.partitions, Deep: v.deep}
	if v.folderGiven {
		scope.Folder = &v.folder
	}
	var err error
	if scope.From, err = dayOf("--from", v.from, now); err != nil {
		return scope, err
	}
	if scope.Until, err = dayOf("--until", v.until, now); err != nil {
		return scope, err
	}
	if !scope.Until.IsZero() {
		scope.Until = scope.Until.Add(-time.Nanosecond) // the last day before
	}
	switch {
	case !scope.From.IsZero() && !scope.Until.IsZero() && scope.Until.Before(scope.From):
		return scope, errors.New("--from and --until leave no day: the one of --until is not looked at")
	case v.hub != "" && !v.against:
		return scope, errors.New("--hub goes with --against-hub")
	case v.against && v.from+v.until != "":
		return scope, errors.New("--against-hub compares with all that is stored: leave --from and --until out")
	}
	return scope, nil
}

// dayOf reads a day, or a time on it.
func dayOf(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, number, err := selection.ParseBound(text, now)
	if err == nil && number != nil {
		err = fmt.Errorf("%s is a sequence number, and days are what can be chosen; --partition chooses partitions", text)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", flag, err)
	}
	return at.Truncate(24 * time.Hour), nil
}

// expectation is what the hub should have stored, if one is to be compared with, and the folder where.
func (v *verification) expectation(ctx context.Context, scope *audit.Scope) (audit.Expectation, func(), error) {
	if !v.against {
		return audit.Expectation{}, func() {}, nil
	}
	drained, err := config.ReadDrained(func(name string) (string, bool) {
		if v.hub != "" && name == "EVENT_HUB_NAME" {
			return v.hub, true
		}
		return os.LookupEnv(name)
	})
	if err != nil {
		return audit.Expectation{}, nil, err
	}
	if scope.Folder == nil {
		scope.Folder = &drained.Folder
	}
	expect, closing, err := app.ExpectOfHub(ctx, drained)
	if err != nil {
		return expect, nil, err
	}
	return expect, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = closing(end) // everything asked has been answered
	}, nil
}

// rangesInJSON is how many ranges of one kind the document has for each partition or entity.
const rangesInJSON = 1000

func (v *verification) print(w io.Writer, summary audit.Summary) error {
	if !v.asJSON {
		return printSummary(w, summary)
	}
	summary.Cut(rangesInJSON)
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(summary)
}

// counter shows on a terminal how many blobs have been listed.
type counter struct {
	w     io.Writer // nil: no terminal
	shown time.Time
	any   bool
}

func newCounter(w io.Writer) *counter {
	if terminal.Width(w) == 0 {
		return &counter{}
	}
	return &counter{w: w, shown: time.Now()}
}

func (c *counter) update(blobs int64) {
	if now := time.Now(); c.w != nil && now.Sub(c.shown) > 200*time.Millisecond {
		c.shown, c.any = now, true
		fmt.Fprintf(c.w, "\r  %s listed", terminal.Count(blobs, "blob"))
	}
}

// end wipes it.
func (c *counter) end() {
	if c.any {
		fmt.Fprint(c.w, "\r\x1b[K")
	}
}
