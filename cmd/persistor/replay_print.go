package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"persistor/internal/replay"
	"persistor/internal/terminal"
)

// tell says what became of a replay.
func (r *resending) tell(s streams, task replay.Task, file string, result replay.Result, err error) error {
	if errors.Is(err, replay.ErrComplete) || errors.Is(err, replay.ErrOther) || errors.Is(err, replay.ErrDamaged) {
		return usageError{fmt.Errorf("%w (%s; --progress names another file)", err, file)}
	}
	for _, problem := range result.Problems {
		fmt.Fprintln(s.err, problem)
	}
	if err == nil && result.Unreadable > 0 {
		err = fmt.Errorf("replay: %d records or blobs can't be read, and are not sent", result.Unreadable)
	} else if err != nil && !errors.Is(err, replay.ErrNothing) {
		err = fmt.Errorf("%w; the same command goes on from there (%s)", err, file)
	}
	if err == nil && result.Sent+result.Deselected+result.Unreadable == 0 {
		fmt.Fprintln(s.err, nothingSelected)
	}
	if r.json {
		return cmp.Or(err, writeJSON(s.out, map[string]any{"source": task.Source, "target": task.Target, "progress": file, "result": result, "seconds": result.Elapsed.Seconds()}))
	}
	fmt.Fprintf(s.out, "sent %s, %s, to %s\n", terminal.Count(result.Sent, "message"), terminal.Count(result.Bytes, "byte"), task.Target)
	for _, line := range []struct {
		n    int64
		text string
	}{
		{result.Uncertain, "messages may be there twice: their batches were under way when the replay was interrupted"},
		{result.Deselected, "messages are not sent, since the expression doesn't select them"},
		{result.Missed, "blobs are not sent: they came, among those that were sent already, after the replay was begun"},
	} {
		if line.n > 0 {
			fmt.Fprintf(s.out, "%s %s\n", terminal.Group(line.n), line.text)
		}
	}
	return err
}

// nothingSelected is no error where there are blobs, since there may be nothing to send of them.
const nothingSelected = "persistor: nothing that is stored is selected: persistor ls, with the same --folder, --partition, --session, --from and --until, lists what there is"

func writeJSON(w io.Writer, document any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// show shows a preview.
func (r *resending) show(s streams, task replay.Task, p replay.Preview) error {
	w := s.out
	if p.Messages+p.Deselected+p.Unreadable == 0 {
		fmt.Fprintln(s.err, nothingSelected)
	}
	if r.json {
		return writeJSON(w, map[string]any{"source": task.Source, "target": task.Target, "preview": p})
	}
	fmt.Fprintf(w, "%s, %s, in %s would be sent to %s\n", terminal.Count(p.Messages, "message"), terminal.Count(p.Bytes, "byte"), terminal.Count(p.Blobs, "blob"), task.Target)
	for _, stream := range p.Streams {
		fmt.Fprintf(w, "  %s: %s, %s\n", stream.Name, terminal.Count(stream.Messages, "message"), terminal.Count(stream.Bytes, "byte"))
	}
	if p.Others > 0 {
		fmt.Fprintf(w, "  %s more\n", terminal.Group(p.Others))
	}
	if p.Deselected > 0 {
		fmt.Fprintf(w, "%s would not be sent, since the expression doesn't select them\n", terminal.Group(p.Deselected))
	}
	for _, change := range p.Changed() {
		fmt.Fprintf(w, "%s: %s\n", terminal.Group(p.Changes[change]), change)
	}
	for _, problem := range p.Problems {
		fmt.Fprintln(w, problem)
	}
	if len(p.Samples) > 0 {
		fmt.Fprintf(w, "the first of them:\n%s", strings.Join(p.Samples, ""))
	}
	if p.Unreadable > 0 {
		return fmt.Errorf("replay: %d records or blobs can't be read, and would not be sent", p.Unreadable)
	}
	return nil
}

// statusLine says how far a replay is: a line every few seconds, or on a terminal one that changes.
type statusLine struct {
	w          io.Writer
	onTerminal bool
	next       time.Time
	written    bool
}

func newStatusLine(w io.Writer) *statusLine {
	return &statusLine{w: w, onTerminal: terminal.Width(w) > 0}
}

func (l *statusLine) report(r replay.Result) {
	every := 5 * time.Second
	if l.onTerminal {
		every = 200 * time.Millisecond
	}
	if now := time.Now(); now.After(l.next) {
		l.next = now.Add(every)
	} else {
		return
	}
	text := fmt.Sprintf("sent %s, %s", terminal.Count(r.Sent, "message"), terminal.Count(r.Bytes, "byte"))
	if seconds := r.Elapsed.Seconds(); seconds >= 1 {
		text += fmt.Sprintf(", %s/s", terminal.Group(int64(float64(r.Now)/seconds)))
	}
	if l.written = l.onTerminal; l.onTerminal {
		fmt.Fprintf(l.w, "\r%s\x1b[K", text)
		return
	}
	fmt.Fprintln(l.w, text)
}

// end leaves the line behind.
func (l *statusLine) end() {
	if l.written {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
