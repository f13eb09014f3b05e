package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/selection"
	"persistor/internal/store"
)

func newCat() *cobra.Command {
	var c concatenation
	cmd := &cobra.Command{
		Use:   "cat [CONTAINER [BLOB]...]",
		Short: "Write stored records, or the bodies of their messages",
		Long: `Cat writes the records of the blobs that are named, or else of all that are selected, to
standard output: each as it is stored, a line of JSON (docs/record.md). --body writes the
messages' bodies instead, byte for byte, each followed by a newline; a body that is an AMQP
value or sequence, or the data of an Event Grid event, is written as JSON. Records of a
partition and of a session come in their order.

` + selectionHelp + `

For blobs of the settings' container say - in place of CONTAINER.

Exit status: 0 all is written; 1 it is not, or records can't be read; 2 wrong arguments.`,
		Example: `  persistor cat persistor-out/blobs --folder rides --partition 3 --from 2h
  persistor cat persistor-out/blobs rides/2026/03/09/0003-00000000000000000000.txt
  persistor cat --folder orders --session car-7 --body | jq .speed
  persistor cat https://myaccount.blob.core.windows.net/blobs --folder rides -n 1 --pretty`,
		GroupID: groupStored,
		Args:    arguments(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.body && c.pretty {
				return usagef("--body and --pretty exclude each other")
			}
			if c.limit < 1 && cmd.Flags().Changed("limit") {
				return usagef("--limit is %d, expected 1 or more", c.limit)
			}
			if len(args) > 1 && (c.folder != "" || len(c.partitions)+len(c.sessions) > 0) {
				return usagef("BLOBs exclude --folder, --partition and --session, which select among all")
			}
			sel, err := c.selection(time.Now())
			if err != nil {
				return err
			}
			return c.run(cmd.Context(), sel, args, streams{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	c.flags(flags)
	flags.BoolVar(&c.body, "body", false, "write bodies alone")
	flags.BoolVar(&c.pretty, "pretty", false, "lay records out over several lines")
	flags.Int64VarP(&c.limit, "limit", "n", 0, "write `N` records at most (default all)")
	return cmd
}

// concatenation is what the flags say.
type concatenation struct {
	selecting
	body, pretty bool
	limit        int64
}

func (c *concatenation) run(ctx context.Context, sel selection.Selection, args []string, s streams) error {
	from, err := openContainer(ctx, container(args))
	if err != nil {
		return err
	}
	blobs := sel.Blobs(ctx, from)
	if len(args) > 1 {
		blobs = named(ctx, from, args[1:])
	}
	out := bufio.NewWriterSize(s.out, 64<<10)
	damaged, err := c.copy(ctx, sel, from, blobs, out, s.err)
	if flushErr := out.Flush(); err == nil && flushErr != nil {
		err = fmt.Errorf("write: %w", flushErr)
	}
	switch {
	case err != nil:
		return interrupted(ctx, "cat", err)
	case damaged > 0:
		return fmt.Errorf("cat: %d records or blobs could not be read, see above", damaged)
	}
	return nil
}

// named yields the blobs with these names.
func named(ctx context.Context, from store.Store, names []string) iter.Seq2[selection.Blob, error] {
	return func(yield func(selection.Blob, error) bool) {
		for _, name := range names {
			if b, err := selection.Find(ctx, from, name); !yield(b, err) {
				return
			}
		}
	}
}

// copy writes the selected records of the blobs. What can't be read of them it tells, counts and leaves out.
func (c *concatenation) copy(ctx context.Context, sel selection.Selection, from store.Store, blobs iter.Seq2[selection.Blob, error], out *bufio.Writer, problems io.Writer) (damaged int, err error) {
	var written int64
	for b, err := range blobs {
		if err != nil && b.Name == "" {
			return damaged, err
		}
		if err != nil {
			damaged++
			fmt.Fprintln(problems, "persistor:", err)
			continue
		}
		for line, err := range sel.Lines(ctx, from, b) {
			if errors.As(err, new(*record.CorruptError)) {
				damaged++
				fmt.Fprintln(problems, "persistor:", err)
				continue
			}
			if err == nil {
				err = c.write(out, line)
			}
			if err != nil {
				return damaged, err
			}
			if written++; written == c.limit {
				return damaged, nil
			}
		}
		if err := b.CheckSize(); err != nil {
			damaged++
			fmt.Fprintln(problems, "persistor:", err)
		}
	}
	return damaged, nil
}

// write writes one record.
func (c *concatenation) write(out *bufio.Writer, line selection.Line) error {
	switch {
	case c.body:
		writeBody(out, line.Message.Body)
	case c.pretty:
		var laid bytes.Buffer
		if err := json.Indent(&laid, line.Record, "", "  "); err != nil {
			return fmt.Errorf("lay out record: %w", err)
		}
		out.Write(laid.Bytes())
	default:
		out.Write(line.Record)
	}
	if err := out.WriteByte('\n'); err != nil { // whatever was written before
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// writeBody writes a body's bytes, or what has none as JSON.
func writeBody(out *bufio.Writer, body message.Body) {
	switch body.Kind {
	case message.Data:
		for _, section := range body.Data {
			out.Write(section)
		}
	case message.JSON:
		out.Write(body.JSON)
	default:
		var written struct{ DATA json.RawMessage }
		if json.Unmarshal(record.Format{}.Append(nil, &message.Message{Body: body}), &written) == nil {
			out.Write(written.DATA)
		}
	}
}
