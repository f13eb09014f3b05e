package demo

import (
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"persistor/internal/terminal"
)

// progress shows how far something is that goes on in several parts. Its methods are called by one
// goroutine; counts never fall.
type progress interface {
	// update tells how much of each part is done, in the order of the parts.
	update(done []int64)
	// end is the last call: it leaves the final state to be read.
	end()
}

// part is one line of progress.
type part struct {
	name  string
	total int64
}

const (
	barInterval  = 100 * time.Millisecond
	lineInterval = time.Second
	mostBars     = 40 // partitions beyond that are shown as one
)

// newProgress shows bars on a terminal, which width > 0 stands for, and a line each second elsewhere.
func newProgress(w io.Writer, width int, what string, parts []part) progress {
	if width <= 0 {
		return newLines(w, what, parts)
	}
	return newBars(w, width, what, parts)
}

// bars is a bar for each part.
type bars struct {
	container *mpb.Progress
	bars      []*mpb.Bar
	single    bool // all parts are one bar
}

func newBars(w io.Writer, width int, what string, parts []part) *bars {
	b := &bars{
		container: mpb.New(mpb.WithOutput(w), mpb.WithWidth(min(width, 100)), mpb.WithRefreshRate(barInterval), mpb.WithAutoRefresh()),
		single:    len(parts) > mostBars,
	}
	if b.single {
		parts = []part{{name: what, total: total(parts)}}
	}
	for _, p := range parts {
		b.bars = append(b.bars, b.container.New(p.total,
			mpb.BarStyle().Lbound("▕").Filler("█").Tip("█").Padding("░").Rbound("▏"),
			mpb.PrependDecorators(decor.Name("  "+p.name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(
				decor.Any(func(s decor.Statistics) string { return terminal.Group(s.Current) + " of " + terminal.Group(s.Total) }, decor.WCSyncSpace),
			),
		))
	}
	return b
}

func (b *bars) update(done []int64) {
	if b.single {
		done = []int64{sum(done)}
	}
	for i, n := range done {
		b.bars[i].SetCurrent(n)
	}
}

func (b *bars) end() {
	for _, bar := range b.bars {
		bar.Abort(false) // where it was complete, nothing happens
	}
	b.container.Wait()
}

// lines is a line each second in which something was done, and one at the end.
type lines struct {
	w     io.Writer
	what  string
	parts []part
	began time.Time
	told  time.Time
	last  int64 // how much was done when it was told last
	done  []int64
}

func newLines(w io.Writer, what string, parts []part) *lines {
	now := time.Now()
	return &lines{w: w, what: what, parts: parts, began: now, told: now}
}

func (l *lines) update(done []int64) {
	l.done = done
	if now := time.Now(); now.Sub(l.told) >= lineInterval && sum(done) != l.last {
		l.told = now
		l.tell()
	}
}

func (l *lines) end() { l.tell() }

func (l *lines) tell() {
	l.last = sum(l.done)
	complete := 0
	for i, n := range l.done {
		if n >= l.parts[i].total {
			complete++
		}
	}
	fmt.Fprintf(l.w, "  %s %s of %s", l.what, terminal.Group(sum(l.done)), terminal.Group(total(l.parts)))
	if len(l.parts) > 1 {
		fmt.Fprintf(l.w, ", %d of %d partitions complete", complete, len(l.parts))
	}
	fmt.Fprintf(l.w, ", %.1f s\n", time.Since(l.began).Seconds())
}

func total(parts []part) (n int64) {
	for _, p := range parts {
		n += p.total
	}
	return n
}

func sum(counts []int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
