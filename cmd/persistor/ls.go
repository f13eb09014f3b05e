package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/selection"
	"persistor/internal/terminal"
)

func newList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:   "ls [CONTAINER]",
		Short: "List stored blobs, with what they hold",
		Long: `Ls lists the blobs of a container: how many messages each holds, its bytes, its last sequence
number, and its name, which has the first one; then what that comes to. Contents are not read,
so a blob of which a part alone is selected counts as a whole.

` + selectionHelp + `

--json writes a line of JSON for each blob, or, with --total, for all of them.

Exit status: 0 all is listed; 1 it is not, or a blob's metadata contradict its name; 2 wrong
arguments.`,
		Example: `  persistor ls persistor-out/blobs
  persistor ls https://myaccount.blob.core.windows.net/blobs --folder rides --from 2h
  persistor ls --folder rides --partition 0,3 --from 1200000 --until 1300000
  persistor ls --json --folder orders | jq -r 'select(.bytes > 1e6).name'
  persistor ls --total --json --from 2026-03-01 --until 2026-04-01`,
		GroupID: groupStored,
		Args:    arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := l.selection(time.Now())
			if err != nil {
				return err
			}
			return l.run(cmd.Context(), sel, container(args), streams{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	l.flags(flags)
	flags.BoolVar(&l.total, "total", false, "write only what it comes to")
	flags.BoolVar(&l.json, "json", false, "write lines of JSON")
	return cmd
}

// container is the one that arguments name; "" for that of the settings.
func container(args []string) string {
	if len(args) == 0 || args[0] == "-" {
		return ""
	}
	return args[0]
}

// listing is what the flags say.
type listing struct {
	selecting
	total, json bool
}

// totals add up what is listed.
type totals struct {
	Blobs    int64 `json:"blobs"`
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
}

func (l *listing) run(ctx context.Context, sel selection.Selection, location string, s streams) error {
	from, err := openContainer(ctx, location)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(s.out, 64<<10)
	defer out.Flush()
	var all totals
	damaged := 0
	for b, err := range sel.Blobs(ctx, from) {
		switch {
		case err != nil && b.Name == "":
			return interrupted(ctx, "ls", err)
		case err != nil:
			damaged++
			fmt.Fprintln(s.err, "persistor:", err)
		}
		all.Blobs, all.Messages, all.Bytes = all.Blobs+1, all.Messages+b.Count, all.Bytes+b.Size
		if !l.total {
			l.print(out, b, all.Blobs == 1)
		}
	}
	if l.total && l.json {
		_ = json.NewEncoder(out).Encode(all) // what fails shows at Flush
	} else if !l.json {
		fmt.Fprintf(out, "%s, %s, %s\n", terminal.Count(all.Blobs, "blob"), terminal.Count(all.Messages, "message"), terminal.Count(all.Bytes, "byte"))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("ls: write: %w", err)
	}
	if damaged > 0 {
		return fmt.Errorf("ls: the metadata of %s can't be read or contradict the name, see above; persistor verify says more", terminal.Count(int64(damaged), "blob"))
	}
	return nil
}

// print writes a line for a blob, and before the first one the heads of the columns.
func (l *listing) print(out io.Writer, b selection.Blob, first bool) {
	if l.json {
		_ = json.NewEncoder(out).Encode(b)
		return
	}
	if first {
		fmt.Fprintf(out, "%10s %13s %12s  %s\n", "messages", "bytes", "last", "blob")
	}
	fmt.Fprintf(out, "%10s %13s %12s  %s\n", terminal.Group(b.Count), terminal.Group(b.Size), sequenceText(b.Last), b.Name)
}

// interrupted is an error of a job that may have ended since it was told to.
func interrupted(ctx context.Context, job string, err error) error {
	if ctx.Err() != nil {
		return errors.New(job + ": interrupted")
	}
	return fmt.Errorf("%s: %w", job, err)
}
