package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"persistor/internal/ledger"
	"persistor/internal/terminal"
	"persistor/internal/work"
)

// printRuns is the table of runs, in 80 columns.
func printRuns(w io.Writer, runs []ledger.Run) {
	if len(runs) == 0 {
		fmt.Fprintln(w, "no runs")
		return
	}
	fmt.Fprintf(w, "%-23s %-10s %4s %12s %12s %8s\n", "run", "state", "wave", "messages", "left", "took")
	for _, r := range runs {
		wave := "-"
		if r.Kind == ledger.Backfill {
			wave = strconv.Itoa(r.Wave)
		}
		fmt.Fprintf(w, "%-23s %-10s %4s %12s %12s %8s\n", r.ID, r.State, wave,
			terminal.Group(r.Counts.Messages), groupKnown(r.Counts.Remaining), span(tookOf(r)))
	}
}

// tookOf is how long a run took, or has taken until it was last written.
func tookOf(r ledger.Run) time.Duration {
	end := r.Ended
	if end.IsZero() {
		end = r.Updated
	}
	return end.Sub(r.Created)
}

// groupKnown is a number, or a dash for -1, which says that it isn't known.
func groupKnown(n int64) string {
	if n < 0 {
		return "-"
	}
	return terminal.Group(n)
}

// span writes a duration in six characters or less: 4.2s, 3m20s, 2h05m, 3d04h.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// shownErrors is how many of a run's errors are shown.
const shownErrors = 10

// printRun is a run in all that a person asks of it.
func printRun(w io.Writer, r ledger.Live, local bool) {
	fmt.Fprintf(w, "%s %s, %s\n", r.Kind, r.ID, stateOf(r.Run))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("source", "%s", r.Source)
	line("asked", "%s", asked(r.Run))
	ended := ""
	if !r.Ended.IsZero() {
		ended = ", ended " + r.Ended.Format(time.RFC3339)
	}
	line("begun", "%s%s, took %s", r.Created.Format(time.RFC3339), ended, span(tookOf(r.Run)))
	if r.Kind == ledger.Backfill {
		line("waves", "%d", r.Wave)
	}
	line("stored", "%s", storedText(r.Counts))
	if r.Counts.Remaining != 0 {
		line("left", "%s", groupKnown(r.Counts.Remaining))
	}
	if r.Retries > 0 {
		line("retries", "%d", r.Retries)
	}
	printPartitions(w, r.Partitions)
	printUnits(w, r.Units)
	for _, note := range r.Notes {
		line("note", "%s", note)
	}
	printErrors(w, r.Errors)
	if advice := adviceOn(r.Run, local); advice != "" {
		fmt.Fprintln(w, advice)
	}
}

// storedText says what was stored.
func storedText(c ledger.Counts) string {
	text := fmt.Sprintf("%s, %s, %s", terminal.Count(c.Messages, "message"), terminal.Count(c.Bytes, "byte"), terminal.Count(c.Blobs, "blob"))
	if c.AlreadyStored > 0 {
		text += fmt.Sprintf("; %s were stored already", terminal.Group(c.AlreadyStored))
	}
	return text
}

// asked is what was asked of a run, in words.
func asked(run ledger.Run) string {
	r := run.Request
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if run.Kind == ledger.Backfill && len(run.Partitions) > 0 {
		add("from %s", boundText(r.From, "the checkpoint"))
		add("until %s", boundText(r.Until, "its beginning"))
	}
	if len(r.Partitions) > 0 {
		add("partitions %s", strings.Join(r.Partitions, ","))
	}
	if len(r.Sessions) > 0 {
		add("%s", terminal.Count(int64(len(r.Sessions)), "session"))
	}
	if r.N > 0 {
		add("%s", terminal.Count(int64(r.N), "unit"))
	}
	if r.PerFunc > 0 {
		add("%s a unit", terminal.Count(int64(r.PerFunc), "loop"))
	}
	if r.MaxMessages > 0 {
		add("%s at most", terminal.Count(r.MaxMessages, "message"))
	}
	if r.MaxWaves > 0 {
		add("%s at most", terminal.Count(int64(r.MaxWaves), "wave"))
	}
	if len(parts) == 0 {
		return "all that there was"
	}
	return strings.Join(parts, ", ")
}

func boundText(b ledger.Bound, zero string) string {
	switch {
	case b.SequenceNumber != nil:
		return "number " + strconv.FormatInt(*b.SequenceNumber, 10)
	case !b.Time.IsZero():
		return b.Time.Format(time.RFC3339)
	case b.Position == "" || b.Position == "checkpoint" || b.Position == "now":
		return zero
	case b.Position == "follow":
		return "cancelled"
	}
	return b.Position
}

// printPartitions is a table of a run's partitions.
func printPartitions(w io.Writer, partitions []ledger.Partition) {
	if len(partitions) == 0 {
		return
	}
	fmt.Fprintf(w, "\n  %-9s %12s %12s %12s %12s %12s\n", "partition", "from", "to", "stored", "left", "checkpoint")
	for _, p := range partitions {
		from, to := strconv.FormatInt(p.From, 10), strconv.FormatInt(p.To, 10)
		if p.To < p.From {
			from, to = "-", "-"
		}
		fmt.Fprintf(w, "  %-9s %12s %12s %12s %12s %12s\n", p.Partition, from, to,
			terminal.Group(p.Counts.Messages), groupKnown(p.Counts.Remaining), sequenceText(p.Checkpoint))
		for _, lost := range p.Lost {
			fmt.Fprintf(w, "  %-9s the hub had dropped %d to %d before\n", "", lost.From, lost.To)
		}
	}
}

// printUnits is a table of what failed, and was under way, of the last wave's units.
func printUnits(w io.Writer, units []ledger.Unit) {
	headed := false
	for _, u := range units {
		if u.State == ledger.UnitDone {
			continue
		}
		if !headed {
			fmt.Fprintf(w, "\n  %4s  %-8s %-10s %12s  %s\n", "unit", "state", "ended", "messages", "of")
			headed = true
		}
		fmt.Fprintf(w, "  %4d  %-8s %-10s %12s  %s\n", u.Unit, u.State, dash(string(u.Ended)), terminal.Group(u.Messages), unitText(u))
		if u.Error != "" {
			fmt.Fprintf(w, "        %s\n", u.Error)
		}
	}
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// unitText says what a unit drains.
func unitText(u ledger.Unit) string {
	switch {
	case len(u.Cells) > 0:
		return cellsText(u.Cells)
	case len(u.Partitions) > 0:
		return "partitions " + strings.Join(u.Partitions, ",")
	case u.Sessions > 0:
		return terminal.Count(int64(u.Sessions), "session")
	}
	return terminal.Count(int64(max(u.Tasks, 1)), "receiver")
}

// cellsText names the first cells.
func cellsText(cells []work.Cell) string {
	const most = 2
	var parts []string
	for i, c := range cells {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more", len(cells)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%s:%d-%d", c.Partition, c.From, c.To))
	}
	return strings.Join(parts, " ")
}

// printErrors shows the last errors of a run.
func printErrors(w io.Writer, errors []ledger.Error) {
	if len(errors) == 0 {
		return
	}
	fmt.Fprintln(w)
	if more := len(errors) - shownErrors; more > 0 {
		fmt.Fprintf(w, "  %s before these\n", terminal.Count(int64(more), "error"))
		errors = errors[more:]
	}
	for _, e := range errors {
		fmt.Fprintln(w, " ", errorText(e))
	}
}

func errorText(e ledger.Error) string {
	text := fmt.Sprintf("! %s wave %d", e.Time.Format(time.TimeOnly), e.Wave)
	if e.Unit >= 0 {
		text += fmt.Sprintf(", unit %d", e.Unit)
	}
	return text + ": " + e.Error
}

// adviceOn says what can be done about a run that doesn't go on by itself, or "".
func adviceOn(r ledger.Run, local bool) string {
	verb, what := "", ""
	switch r.State {
	case ledger.Failed:
		verb, what = "retry", "does again what failed"
	case ledger.Cancelled, ledger.Abandoned:
		verb, what = "resume", "goes on with it"
	default:
		return ""
	}
	if local {
		what = "--local " + what
	}
	return fmt.Sprintf("persistor runs %s %s %s", verb, r.ID, what)
}
