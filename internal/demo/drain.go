package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"time"

	"persistor/internal/api"
	"persistor/internal/fanout"
	"persistor/internal/terminal"
	"persistor/internal/work"
)

// maxRounds bounds how often the invoker is called, and maxFruitless how often in a row for nothing. Once is
// enough, unless the backlog is more than the workers manage before their deadlines.
const (
	maxRounds    = 100
	maxFruitless = 3
)

// drain invokes, and invokes again, until nothing is left, and adds what came of it to the result.
func (d *demo) drain(ctx context.Context, result *Result, parts []part) error {
	began := time.Now()
	shown := newProgress(d.Progress, d.Width, "Stored", parts)
	ended := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	watch := newWatch(d.workers, d.key)
	go func() {
		defer close(ended)
		watch.run(watching, shown, parts)
	}()
	err := d.invokeUntilDrained(ctx, result)
	stop()
	<-ended
	shown.update(stored(parts, rowsOf(result.Units)))
	shown.end()
	result.DrainSeconds = time.Since(began).Seconds()
	return err
}

func (d *demo) invokeUntilDrained(ctx context.Context, result *Result) error {
	fruitless := 0
	for range maxRounds {
		report, err := d.invoke(ctx)
		if err == nil && report.Status != fanout.OK {
			err = failure(report)
		}
		if dead := d.fleet.dead(); dead != nil {
			err = errors.Join(dead, err)
		}
		result.Messages += report.Messages
		result.Blobs += report.Blobs
		result.Bytes += report.Bytes
		result.Sessions += report.Sessions
		result.Units = append(result.Units, report.Units...)
		if err != nil || report.RemainingBacklog == 0 {
			return err
		}
		if fruitless++; report.Messages > 0 {
			fruitless = 0
		}
		switch left := report.RemainingBacklog; {
		case fruitless > 0 && left > 0:
			return fmt.Errorf("invoke: %s messages are left, but the last run stored none", terminal.Group(left))
		case fruitless == maxFruitless: // how much is left isn't known, and another run might tell
			return fmt.Errorf("invoke: the last %d runs stored nothing, and can't tell that nothing is left", fruitless)
		}
	}
	return fmt.Errorf("invoke: there are still messages left after %d runs", maxRounds)
}

// invocation is what to call for a run.
func (d *demo) invocation() string {
	return fmt.Sprintf("%s/api/invoke?N=%d&N_per_func=%d", d.invoker.url, d.setup.units, d.setup.loops)
}

// invoke calls the invoker once.
func (d *demo) invoke(ctx context.Context) (report fanout.Report, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.invocation(), nil)
	if err != nil {
		return report, fmt.Errorf("invoke: %w", err)
	}
	request.Header.Set("x-functions-key", d.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return report, fmt.Errorf("invoke: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return report, fmt.Errorf("read the invoker's answer: %w", err)
	}
	// A run that failed answers 502, with its report all the same.
	if err := json.Unmarshal(body, &report); err != nil || report.Run == "" {
		return report, fmt.Errorf("invoke: the invoker answered %s: %s", response.Status, terminal.Cut(string(bytes.TrimSpace(body)), 300))
	}
	return report, nil
}

// failure is what was wrong with a run, in one line.
func failure(report fanout.Report) error {
	if report.Error != "" {
		return fmt.Errorf("run %s: %s", report.Run, report.Error)
	}
	for _, u := range report.Units {
		if u.Status != fanout.OK {
			for _, s := range u.Sources {
				if s.Error != "" {
					return fmt.Errorf("run %s: unit %d: %s", report.Run, u.Unit, s.Error)
				}
			}
			return fmt.Errorf("run %s: unit %d: %s", report.Run, u.Unit, u.Error)
		}
	}
	return fmt.Errorf("run %s: %s", report.Run, report.Status)
}

// rowsOf is what each row of the units' reports has stored, by its name.
func rowsOf(units []fanout.UnitRow) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, u := range units {
			for _, s := range u.Sources {
				if !yield(s.Name(), s.Messages) {
					return
				}
			}
		}
	}
}

// stored adds up what rows have stored of each part; all belong to an only one.
func stored(parts []part, rows iter.Seq2[string, int64]) []int64 {
	done := make([]int64, len(parts))
	for name, messages := range rows {
		i := 0
		if len(parts) > 1 {
			i = slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		}
		if i >= 0 {
			done[i] += messages
		}
	}
	return done
}

// watch asks the workers how far they are.
type watch struct {
	workers []*process
	key     string
	client  *http.Client
	// seen is what each loop had stored when it was last seen; one that has ended is seen no more.
	seen map[loop]int64
}

// loop tells the pull loops of all runs apart.
type loop struct {
	run  string
	unit int
	row  string // its name in the report
}

func newWatch(workers []*process, key string) *watch {
	return &watch{workers: workers, key: key, client: &http.Client{Timeout: time.Second}, seen: make(map[loop]int64)}
}

// run asks until the context ends. What it can't learn it leaves out: progress is only to be looked at.
func (w *watch) run(ctx context.Context, shown progress, parts []part) {
	tick := time.NewTicker(barInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range w.workers {
			w.ask(ctx, p.url)
		}
		shown.update(stored(parts, w.rows))
	}
}

// rows is what each loop has stored.
func (w *watch) rows(yield func(string, int64) bool) {
	for l, messages := range w.seen {
		if !yield(l.row, messages) {
			return
		}
	}
}

// ask takes in what one worker says.
func (w *watch) ask(ctx context.Context, url string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/status", nil)
	if err != nil {
		return
	}
	request.Header.Set("x-functions-key", w.key)
	response, err := w.client.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	var status api.Status
	if json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&status) != nil {
		return
	}
	for _, s := range status.Sources {
		w.seen[loop{s.Run, s.Unit, work.Source{Partition: s.Partition, Receiver: s.Receiver}.Name()}] = s.Stored
	}
}
