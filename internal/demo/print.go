package demo

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"

	"persistor/internal/audit"
	"persistor/internal/fanout"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/terminal"
	"persistor/internal/work"
)

// recordWidth is how much of a record's lines is shown where there is no terminal, in characters.
const recordWidth = 100

// report writes what a person wants to see at the end.
func (d *demo) report(ctx context.Context, r Result) error {
	w := d.Report
	fmt.Fprintln(w, "\nReport")
	printUnits(w, d.setup.row, r.Units)

	fmt.Fprintln(w, "\nStored")
	if err := printTree(w, d.shown, d.store.List(ctx, record.EventHubFolder(d.setup.folder))); err != nil {
		return err
	}

	if r.Messages > 0 {
		fmt.Fprintln(w, "\nOne record")
		if err := d.reportRecord(ctx, w); err != nil {
			fmt.Fprintf(w, "  can't be shown: %v\n", err) // what that means is for the audit to say
		}
	}

	fmt.Fprintln(w, "\nAudit")
	printAudit(w, r.Audit)
	fmt.Fprintf(w, "\nAll of it took %.1f s: publishing %.1f, draining %.1f, the audit %.1f.\n",
		r.ElapsedSeconds, r.PublishSeconds, r.DrainSeconds, r.Audit.ElapsedSeconds)
	return nil
}

// reportRecord shows a record of the first blob.
func (d *demo) reportRecord(ctx context.Context, w io.Writer) error {
	for b, err := range d.store.List(ctx, record.EventHubFolder(d.setup.folder)) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		content, err := d.store.Open(ctx, b.Name)
		if err != nil {
			return fmt.Errorf("open blob %s: %w", b.Name, err)
		}
		defer content.Close()
		return printRecord(w, content, d.setup.shows, cmp.Or(d.Width, recordWidth))
	}
	return nil
}

// printUnits is the report table: a line for each row of the units' reports, a partition or a receiver,
// with a column for sessions where there are any.
func printUnits(w io.Writer, row string, units []fanout.UnitRow) {
	var all work.Source
	for _, u := range units {
		for _, s := range u.Sources {
			all.Sessions, all.Messages, all.Bytes, all.Blobs = all.Sessions+s.Sessions, all.Messages+s.Messages, all.Bytes+s.Bytes, all.Blobs+s.Blobs
		}
	}
	line := func(unit, row, sessions, messages, bytes, blobs, rest string) {
		if all.Sessions > 0 {
			row = fmt.Sprintf("%-9s %11s", row, sessions)
		}
		fmt.Fprintf(w, "  %4s  %-9s %11s %13s %7s%s\n", unit, row, messages, bytes, blobs, rest)
	}
	line("unit", row, "sessions", "messages", "bytes", "blobs", "      time  ended")
	for _, u := range units {
		unit := strconv.Itoa(u.Unit)
		if len(u.Sources) == 0 {
			line(unit, strings.Join(u.Partitions, ","), "-", "-", "-", "-", fmt.Sprintf(" %8.2fs  %s", u.ElapsedSeconds, u.Ended))
		}
		for _, s := range u.Sources {
			id := strings.TrimPrefix(s.Name(), row+" ")
			line(unit, id, terminal.Group(s.Sessions), terminal.Group(s.Messages), terminal.Group(s.Bytes), terminal.Group(s.Blobs), fmt.Sprintf(" %8.2fs  %s", s.ElapsedSeconds, s.Ended))
		}
		if u.Error != "" {
			fmt.Fprintf(w, "        %s\n", u.Error)
		}
	}
	line("all", "", terminal.Group(all.Sessions), terminal.Group(all.Messages), terminal.Group(all.Bytes), terminal.Group(all.Blobs), "")
}

// printAudit is the audit in a few lines; problems, if there are any, follow it.
func printAudit(w io.Writer, a audit.Report) {
	verdict := "complete"
	if !a.Complete {
		verdict = "NOT complete"
	}
	fmt.Fprintf(w, "  %s: %s in %s%s, read and compared in %.2f s\n",
		verdict, terminal.Count(a.Messages, "message"), terminal.Count(a.Blobs, "blob"), extent(a), a.ElapsedSeconds)
	fmt.Fprintf(w, "  gaps %s, duplicates %s, missing %s, altered %s, ", terminal.Group(a.Gaps), terminal.Group(a.Duplicates), terminal.Group(a.Missing), terminal.Group(a.Altered))
	if len(a.Entities) == 0 {
		fmt.Fprintf(w, "lost to retention %s\n", terminal.Group(a.LostToRetention))
	} else {
		fmt.Fprintf(w, "out of order %s\n", terminal.Group(a.OutOfOrder))
	}
	for _, p := range a.Problems {
		fmt.Fprintln(w, "  !", p)
	}
}

// extent says what is stored is all of.
func extent(a audit.Report) string {
	if len(a.Entities) != 1 {
		return " of " + terminal.Count(int64(len(a.Partitions)), "partition")
	}
	of, e := "", a.Entities[0]
	if e.Sessions > 0 {
		of = " of " + terminal.Count(e.Sessions, "session")
	}
	return of + fmt.Sprintf(", numbered %s to %s", terminal.Group(e.From), terminal.Group(e.To))
}

// listedFirst and listedLast are how many folders the tree shows at its beginning and its end, and how many
// blobs of each.
const (
	listedFirst = 3
	listedLast  = 1
)

// printTree shows the folders of a container in short: some of them, some blobs of each, and how many more
// there are.
func printTree(w io.Writer, root string, blobs iter.Seq2[store.Blob, error]) error {
	fmt.Fprintln(w, " ", root)
	var shown []folder // the first ones and the last
	count := int64(0)
	for folder, err := range folders(blobs) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if count++; len(shown) == listedFirst+listedLast {
			shown = slices.Delete(shown, listedFirst, listedFirst+1)
		}
		shown = append(shown, folder)
	}
	for i, f := range shown {
		if more := count - int64(len(shown)); i == listedFirst && more > 0 {
			fmt.Fprintf(w, "  ├─ … %s more\n", terminal.Group(more))
		}
		f.print(w, i == len(shown)-1)
	}
	return nil
}

// folder is what the tree shows of one folder.
type folder struct {
	name  string
	shown []store.Blob // the first ones and the last
	count int64
}

func (f folder) print(w io.Writer, last bool) {
	branch, trunk := "├─", "│ "
	if last {
		branch, trunk = "└─", "  "
	}
	fmt.Fprintf(w, "  %s %s/\n", branch, f.name)
	for i, b := range f.shown {
		if more := f.count - int64(len(f.shown)); i == listedFirst && more > 0 {
			fmt.Fprintf(w, "  %s ├─ … %s more\n", trunk, terminal.Group(more))
		}
		branch := "├─"
		if i == len(f.shown)-1 {
			branch = "└─"
		}
		messages, _ := strconv.ParseInt(b.Metadata["count"], 10, 64)
		fmt.Fprintf(w, "  %s %s %s  %11s bytes, %s\n", trunk, branch, path.Base(b.Name), terminal.Group(b.Size), terminal.Count(messages, "message"))
	}
}

// folders sums up blobs, which come in the order of their names, folder by folder.
func folders(blobs iter.Seq2[store.Blob, error]) iter.Seq2[folder, error] {
	return func(yield func(folder, error) bool) {
		var f folder
		for b, err := range blobs {
			if err != nil {
				yield(folder{}, err)
				return
			}
			if dir := path.Dir(b.Name); dir != f.name {
				if f.count > 0 && !yield(f, nil) {
					return
				}
				f = folder{name: dir}
			}
			if f.count++; len(f.shown) == listedFirst+listedLast {
				f.shown = slices.Delete(f.shown, listedFirst, listedFirst+1)
			}
			f.shown = append(f.shown, b)
		}
		if f.count > 0 {
			yield(f, nil)
		}
	}
}

// printRecord shows one stored record, laid out and cut to width characters: one that holds all of the texts,
// if there is one.
func printRecord(w io.Writer, content io.Reader, texts []string, width int) error {
	line, err := sample(content, append(texts, `\"note\"`))
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, line, "  ", "  "); err != nil {
		return fmt.Errorf("lay out record: %w", err)
	}
	for l := range strings.Lines("  " + pretty.String() + "\n") {
		fmt.Fprintln(w, terminal.Cut(strings.TrimSuffix(l, "\n"), width))
	}
	return nil
}

// mostLooked is how many lines sample looks at.
const mostLooked = 5000

// sample picks a record that holds the texts and is not too long to look at, or else the first.
func sample(content io.Reader, texts []string) ([]byte, error) {
	var first []byte
	lines := bufio.NewReader(content)
	for range mostLooked {
		line, err := lines.ReadBytes('\n')
		line = bytes.TrimSpace(line)
		if len(line) > 0 {
			if first == nil {
				first = line
			}
			missing := slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(line, []byte(text)) })
			if !missing && len(line) < 2000 {
				return line, nil
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read record: %w", err)
		}
	}
	if first == nil {
		return nil, fmt.Errorf("read record: the blob holds none")
	}
	return first, nil
}
