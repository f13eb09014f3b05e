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
	"unicode/utf8"

	"persistor/internal/audit"
	"persistor/internal/fanout"
	"persistor/internal/record"
	"persistor/internal/store"
)

// recordWidth is how much of a record's lines is shown where there is no terminal, in characters.
const recordWidth = 100

// report writes what a person wants to see at the end.
func (d *demo) report(ctx context.Context, r Result) error {
	w := d.Report
	fmt.Fprintln(w, "\nReport")
	printUnits(w, r.Units)

	fmt.Fprintln(w, "\nStored")
	if err := printTree(ctx, w, d.shown, d.store.List(ctx, record.EventHubFolder(hubName))); err != nil {
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
	for b, err := range d.store.List(ctx, record.EventHubFolder(hubName)) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		content, err := d.store.Open(ctx, b.Name)
		if err != nil {
			return fmt.Errorf("open blob %s: %w", b.Name, err)
		}
		defer content.Close()
		return printRecord(w, content, cmp.Or(d.Width, recordWidth))
	}
	return nil
}

// printUnits is the report table: a row for each partition that a unit drained.
func printUnits(w io.Writer, units []fanout.UnitRow) {
	var messages, size, blobs int64
	fmt.Fprintln(w, "  unit  partition    messages         bytes   blobs      time  ended")
	for _, u := range units {
		if len(u.Sources) == 0 {
			fmt.Fprintf(w, "  %4d  %-9s %11s %13s %7s %8.2fs  %s\n", u.Unit, strings.Join(u.Partitions, ","), "-", "-", "-", u.ElapsedSeconds, u.Ended)
		}
		for _, s := range u.Sources {
			fmt.Fprintf(w, "  %4d  %-9s %11s %13s %7s %8.2fs  %s\n",
				u.Unit, s.Partition, group(s.Messages), group(s.Bytes), group(s.Blobs), s.ElapsedSeconds, s.Ended)
			messages, size, blobs = messages+s.Messages, size+s.Bytes, blobs+s.Blobs
		}
		if u.Error != "" {
			fmt.Fprintf(w, "        %s\n", u.Error)
		}
	}
	fmt.Fprintf(w, "   all            %11s %13s %7s\n", group(messages), group(size), group(blobs))
}

// printAudit is the audit in a few lines; problems, if there are any, follow it.
func printAudit(w io.Writer, a audit.Report) {
	verdict := "complete"
	if !a.Complete {
		verdict = "NOT complete"
	}
	fmt.Fprintf(w, "  %s: %s messages in %s blobs of %s partitions, read and compared in %.2f s\n",
		verdict, group(a.Messages), group(a.Blobs), group(int64(len(a.Partitions))), a.ElapsedSeconds)
	fmt.Fprintf(w, "  gaps %s, duplicates %s, missing %s, altered %s, lost to retention %s\n",
		group(a.Gaps), group(a.Duplicates), group(a.Missing), group(a.Altered), group(a.LostToRetention))
	for _, p := range a.Problems {
		fmt.Fprintln(w, "  !", p)
	}
}

// listed is how many blobs of a folder the tree shows at its beginning, and how many at its end.
const (
	listedFirst = 3
	listedLast  = 1
)

// printTree shows the folders of a container in short: some blobs of each, and how many more there are.
func printTree(ctx context.Context, w io.Writer, root string, blobs iter.Seq2[store.Blob, error]) error {
	fmt.Fprintln(w, " ", root)
	for folder, err := range folders(blobs) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		fmt.Fprintf(w, "  └─ %s/\n", folder.name)
		for i, b := range folder.shown {
			if i == listedFirst && folder.count > int64(len(folder.shown)) {
				fmt.Fprintf(w, "     ├─ … %s more\n", group(folder.count-int64(len(folder.shown))))
			}
			branch := "├─"
			if i == len(folder.shown)-1 {
				branch = "└─"
			}
			fmt.Fprintf(w, "     %s %s  %11s bytes, %s messages\n", branch, path.Base(b.Name), group(b.Size), groupText(b.Metadata["count"]))
		}
	}
	return nil
}

// folder is what the tree shows of one folder.
type folder struct {
	name  string
	shown []store.Blob // the first ones and the last
	count int64
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

// printRecord shows one stored record, laid out and cut to width characters.
func printRecord(w io.Writer, content io.Reader, width int) error {
	line, err := sample(content)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, line, "  ", "  "); err != nil {
		return fmt.Errorf("lay out record: %w", err)
	}
	for l := range strings.Lines("  " + pretty.String() + "\n") {
		fmt.Fprintln(w, cut(strings.TrimSuffix(l, "\n"), width))
	}
	return nil
}

// mostLooked is how many lines sample looks at.
const mostLooked = 5000

// sample picks a record that shows much and is not too long to look at, or else the first.
func sample(content io.Reader) ([]byte, error) {
	var first []byte
	lines := bufio.NewReader(content)
	for range mostLooked {
		line, err := lines.ReadBytes('\n')
		line = bytes.TrimSpace(line)
		if len(line) > 0 {
			if first == nil {
				first = line
			}
			text, key := bytes.Contains(line, []byte(`\"note\"`)), bytes.Contains(line, []byte(`"partition_key"`))
			if text && key && len(line) < 2000 {
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

// cut shortens a line to the columns of a terminal.
func cut(line string, width int) string {
	used, end := 0, 0 // columns, and bytes that leave one for the ellipsis
	for i, r := range line {
		if used += columns(r); used > width {
			return line[:end] + "…"
		}
		if used < width {
			end = i + utf8.RuneLen(r)
		}
	}
	return line
}

// columns is how much room a character takes on a terminal: two for the scripts of East Asia and for
// emoji, which begin where Hangul does. It is a rough rule; what it calls too wide is only cut earlier.
func columns(r rune) int {
	if r >= 0x1100 && (r < 0x2000 || r >= 0x2e80) {
		return 2
	}
	return 1
}

// group writes a number with separators between thousands.
func group(n int64) string { return groupText(strconv.FormatInt(n, 10)) }

func groupText(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}
