package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"

	"persistor/internal/audit"
	"persistor/internal/terminal"
	"persistor/internal/work"
)

// mostRanges is how many ranges of one kind are told for each partition or entity.
const mostRanges = 20

// printSummary is what an audit found, for people: a table for each folder, with what is wrong below it, and the verdict.
func printSummary(w io.Writer, s audit.Summary) error {
	out := bufio.NewWriter(w)
	for _, r := range s.Folders {
		printFolder(out, r)
	}
	for _, p := range s.Problems {
		fmt.Fprintln(out, "!", p)
	}
	printVerdict(out, s)
	return out.Flush()
}

func printFolder(w io.Writer, r audit.Report) {
	heading := cmp.Or(r.Folder, "(no folder)")
	if r.Failed {
		heading += ": could not be stored in its place"
	}
	fmt.Fprintln(w, heading)
	hub := ""
	for i, p := range r.Partitions {
		if p.Hub != hub || i == 0 {
			if hub = p.Hub; hub != "" {
				fmt.Fprintln(w, "  Event Hub", hub)
			}
			fmt.Fprintf(w, "  %-9s %13s %13s %13s %10s %13s\n", "partition", "first", "last", "messages", "blobs", "backlog")
		}
		backlog := "-"
		if p.Source != nil {
			backlog = terminal.Group(p.Source.Backlog)
		}
		fmt.Fprintf(w, "  %-9s %13s %13s %13s %10s %13s\n", p.Partition, number(p.From), number(p.To), terminal.Group(p.Messages), terminal.Group(p.Blobs), backlog)
	}
	if len(r.Entities) > 0 {
		fmt.Fprintf(w, "  %13s %13s %13s %10s %10s  %s\n", "first", "last", "messages", "blobs", "sessions", "entity")
	}
	for _, e := range r.Entities {
		sessions := "-"
		if e.Sessions > 0 {
			sessions = terminal.Group(e.Sessions)
		}
		fmt.Fprintf(w, "  %13s %13s %13s %10s %10s  %s\n", number(e.From), number(e.To), terminal.Group(e.Messages), terminal.Group(e.Blobs), sessions, e.Entity)
	}
	if e := r.Events; e != nil {
		fmt.Fprintf(w, "  Event Grid: %s, %s, %s\n", terminal.Count(e.Messages, "message"), terminal.Count(e.Blobs, "blob"), terminal.Count(e.Bytes, "byte"))
		if e.Unidentified > 0 {
			fmt.Fprintf(w, "  %s with what doesn't say which message it is\n", terminal.Count(e.Unidentified, "blob"))
		}
	}
	printHoles(w, r)
	for _, p := range r.Problems {
		fmt.Fprintln(w, "  !", p)
	}
	fmt.Fprintln(w)
}

// number is a sequence number, or a dash for none.
func number(n int64) string {
	if n < 0 {
		return "-"
	}
	return terminal.Group(n)
}

// printHoles tells every range that is missing, twice or elsewhere, on a line each.
func printHoles(w io.Writer, r audit.Report) {
	for _, p := range r.Partitions {
		of := "partition " + p.Partition
		printRanges(w, "gap in "+of, p.Gaps)
		printRanges(w, "lost to retention in "+of, p.LostToRetention)
		printRanges(w, "below _failed/ of "+of, p.Apart)
		if s := p.Source; s != nil && s.Beyond > 0 {
			fmt.Fprintf(w, "  beyond the hub's end in %s: %s\n", of, terminal.Count(s.Beyond, "message"))
		}
	}
	for _, e := range r.Entities {
		printRanges(w, "gap in "+e.Entity, e.Gaps)
		printRanges(w, "repeated in "+e.Entity, e.Repeated)
	}
}

func printRanges(w io.Writer, what string, ranges []work.Range) {
	for _, r := range ranges[:min(len(ranges), mostRanges)] {
		fmt.Fprintf(w, "  %s: %s to %s (%s)\n", what, terminal.Group(r.From), terminal.Group(r.To), terminal.Count(r.To-r.From+1, "message"))
	}
	if more := len(ranges) - mostRanges; more > 0 {
		fmt.Fprintf(w, "  %s: and %s more\n", what, terminal.Group(int64(more)))
	}
}

func printVerdict(w io.Writer, s audit.Summary) {
	verdict := "proven"
	switch {
	case !s.Finished:
		verdict = "not finished"
	case !s.Complete:
		verdict = "NOT proven"
	}
	fmt.Fprintf(w, "%s: %s in %s and %s\n", verdict, terminal.Count(s.Messages, "message"), terminal.Count(s.Blobs, "blob"), terminal.Count(int64(len(s.Folders)), "folder"))
	fmt.Fprintf(w, "gaps %s, missing %s, duplicates %s, lost to retention %s\n",
		terminal.Group(s.Gaps), terminal.Group(s.Missing), terminal.Group(s.Duplicates), terminal.Group(s.LostToRetention))
	fmt.Fprintf(w, "out of order %s, altered %s\n", terminal.Group(s.OutOfOrder), terminal.Group(s.Altered))
	note(w, s.Backlog, "still to be stored")
	note(w, s.Apart, "below _failed/")
	note(w, s.Ignored, "of other names ignored")
	note(w, s.LeftOut, "blobs left out")
	read := "names and metadata"
	if s.Deep {
		read = "names, metadata and contents"
	}
	fmt.Fprintf(w, "%s read in %.1f s\n", read, s.ElapsedSeconds)
}

// note tells of what is nothing wrong.
func note(w io.Writer, n int64, what string) {
	if n > 0 {
		fmt.Fprintf(w, "%s %s\n", terminal.Group(n), what)
	}
}
