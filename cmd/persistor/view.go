package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"persistor/internal/ledger"
	"persistor/internal/terminal"
)

// newView shows bars on a terminal, lines elsewhere, or lines of JSON.
func newView(s streams, asJSON bool) view {
	width := terminal.Width(s.out)
	switch {
	case asJSON:
		return &jsonView{lineView{out: s.out, err: s.err}}
	case width > 0:
		return newBarView(s.out, width)
	}
	return &lineView{out: s.out, err: s.err}
}

// lineEvery lies between two lines of a run that does nothing but go on.
const lineEvery = 10 * time.Second

// lineView writes a line each ten seconds, and whenever the run's state or wave changes.
type lineView struct {
	out, err io.Writer
	told     time.Time
	state    string
	wave     int
	errors   ledger.Error // the last one told
}

func (v *lineView) update(p progress) {
	if v.due(p) {
		fmt.Fprintln(v.out, progressText(p))
	}
	v.errors = tellErrors(v.err, p.run.Run, v.errors)
}

// due reports whether it is time for another line. The end has one of its own.
func (v *lineView) due(p progress) bool {
	now, state := time.Now(), stateOf(p.run.Run)
	if p.run.State.Over() || state == v.state && p.run.Wave == v.wave && now.Sub(v.told) < lineEvery {
		return false
	}
	v.told, v.state, v.wave = now, state, p.run.Wave
	return true
}

func (v *lineView) tell(text string) { fmt.Fprintln(v.err, "persistor:", text) }

func (v *lineView) end(p progress) {
	if p.run.State.Over() {
		fmt.Fprintln(v.out, summary(p.run.Run))
	}
}

// progressText is a run's progress in a line.
func progressText(p progress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", p.run.ID, stateOf(p.run.Run))
	if p.run.Kind == ledger.Backfill && p.run.Wave > 0 {
		fmt.Fprintf(&b, ", wave %d", p.run.Wave)
	}
	fmt.Fprintf(&b, ": %s", countText(p.done, p.total))
	if p.total > 0 {
		fmt.Fprintf(&b, " (%d%%)", 100*p.done/p.total)
	}
	if rate := rateText(p); rate != "" {
		b.WriteString(", " + rate)
	}
	return b.String()
}

func countText(done, total int64) string {
	if total < 0 {
		return terminal.Group(done) + " messages"
	}
	return terminal.Group(done) + " of " + terminal.Group(total)
}

// rateText is how fast a run is, and how long it will take; "" while that isn't known.
func rateText(p progress) string {
	if p.rate < 1 {
		return ""
	}
	text := terminal.Group(int64(p.rate)) + "/s"
	if p.left >= 0 {
		text += ", " + span(p.left) + " left"
	}
	return text
}

// summary is what came of a run that is over, in a line.
func summary(r ledger.Run) string {
	text := fmt.Sprintf("%s %s: %s, %s", r.ID, r.State, storedText(r.Counts), span(tookOf(r)))
	var lost int64
	for _, p := range r.Partitions {
		for _, l := range p.Lost {
			lost += l.To - l.From + 1
		}
	}
	if lost > 0 {
		text += fmt.Sprintf("; %s the hub had dropped before", terminal.Group(lost))
	}
	if r.Counts.Remaining > 0 {
		text += fmt.Sprintf("; %s are left", terminal.Group(r.Counts.Remaining))
	}
	return text
}

// tellErrors writes the errors of a run that came after the one that was told last, and returns the last one.
func tellErrors(w io.Writer, r ledger.Run, told ledger.Error) ledger.Error {
	from := 0
	for i, e := range r.Errors {
		if e == told {
			from = i + 1
		}
	}
	for _, e := range r.Errors[from:] {
		fmt.Fprintln(w, errorText(e))
		told = e
	}
	return told
}

// jsonView writes lines of JSON as lineView writes lines, and at the end one that has the whole run.
type jsonView struct{ lineView }

// jsonProgress is one of its lines.
type jsonProgress struct {
	Time     time.Time    `json:"time"`
	Run      string       `json:"run"`
	State    ledger.State `json:"state"`
	Wave     int          `json:"wave"`
	Done     int64        `json:"done"`
	Total    int64        `json:"total"` // -1: not known
	Rate     float64      `json:"messages_per_second"`
	Left     float64      `json:"seconds_left"` // -1: not known
	Document *ledger.Live `json:"document,omitempty"`
}

func (v *jsonView) update(p progress) {
	if v.due(p) {
		v.write(p, nil)
	}
}

func (v *jsonView) end(p progress) { v.write(p, &p.run) }

func (v *jsonView) write(p progress, document *ledger.Live) {
	left := p.left.Seconds()
	if p.left < 0 {
		left = -1
	}
	_ = json.NewEncoder(v.out).Encode(jsonProgress{
		time.Now().UTC().Truncate(time.Millisecond), p.run.ID, p.run.State, p.run.Wave, p.done, p.total, p.rate, left, document,
	})
}

// mostBars is how many partitions have a bar each; more are shown as one.
const mostBars = 40

// barView is a bar for each partition on a terminal, and one for the whole run below them.
type barView struct {
	out       io.Writer
	width     int
	container *mpb.Progress
	bars      []*mpb.Bar
	errors    ledger.Error

	mu  sync.Mutex // the bars are drawn by a goroutine of their own
	now progress
}

func newBarView(w io.Writer, width int) *barView {
	return &barView{out: w, width: width, container: mpb.New(
		mpb.WithOutput(w), mpb.WithWidth(min(width, 100)), mpb.WithRefreshRate(200*time.Millisecond), mpb.WithAutoRefresh())}
}

func (v *barView) update(p progress) {
	v.mu.Lock()
	v.now = p
	v.mu.Unlock()
	parts := p.parts
	if len(parts) > mostBars || len(parts) == 0 {
		parts = nil
	}
	if v.bars == nil {
		for i := range parts {
			v.bars = append(v.bars, v.bar(parts[i].name, func() string { return v.partText(i) }))
		}
		v.bars = append(v.bars, v.bar("all", v.allText))
	}
	for i, q := range append(parts[:len(parts):len(parts)], part{"all", p.done, p.total}) {
		if i < len(v.bars) {
			v.bars[i].SetTotal(max(q.total, q.done, 1), false)
			v.bars[i].SetCurrent(q.done)
		}
	}
	v.errors = tellErrors(v.container, p.run.Run, v.errors)
}

func (v *barView) bar(name string, text func() string) *mpb.Bar {
	return v.container.New(0, mpb.BarStyle().Lbound("▕").Filler("█").Tip("█").Padding("░").Rbound("▏"),
		mpb.PrependDecorators(decor.Name("  "+terminal.Cut(name, v.width/4), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return text() }, decor.WCSyncSpace)))
}

func (v *barView) partText(i int) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i >= len(v.now.parts) {
		return ""
	}
	return countText(v.now.parts[i].done, v.now.parts[i].total)
}

func (v *barView) allText() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if rate := rateText(v.now); rate != "" {
		return rate
	}
	return stateOf(v.now.run.Run)
}

func (v *barView) tell(text string) { fmt.Fprintln(v.container, text) }

func (v *barView) end(p progress) {
	for _, bar := range v.bars {
		bar.Abort(false)
	}
	v.container.Wait()
	if p.run.State.Over() {
		fmt.Fprintln(v.out, summary(p.run.Run))
	}
}
