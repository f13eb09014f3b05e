package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"persistor/internal/api"
	"persistor/internal/fanout"
	"persistor/internal/work"
)

// maxRounds bounds how often the invoker is called. Once is enough, unless the backlog is more than the
// workers manage before their deadlines.
const maxRounds = 100

// drain invokes, and invokes again, until nothing is left, and adds what came of it to the result.
func (d *demo) drain(ctx context.Context, result *Result, held map[string]work.Range) error {
	began := time.Now()
	parts := make([]part, d.Partitions)
	for i := range parts {
		id := strconv.Itoa(i)
		parts[i] = part{name: "partition " + id, total: held[id].To - held[id].From + 1}
	}
	shown := newProgress(d.Progress, d.Width, "Stored", parts)
	ended := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	watch := newWatch(d.workers, d.key, parts)
	go func() {
		defer close(ended)
		watch.run(watching, shown)
	}()
	err := d.invokeUntilDrained(ctx, result)
	stop()
	<-ended
	shown.update(stored(result.Units, parts))
	shown.end()
	result.DrainSeconds = time.Since(began).Seconds()
	return err
}

func (d *demo) invokeUntilDrained(ctx context.Context, result *Result) error {
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
		result.Units = append(result.Units, report.Units...)
		if err != nil || report.RemainingBacklog == 0 {
			return err
		}
		if report.Messages == 0 {
			return fmt.Errorf("invoke: %s messages are left, but the last run stored none", group(report.RemainingBacklog))
		}
	}
	return fmt.Errorf("invoke: there are still messages left after %d runs", maxRounds)
}

// invoke calls the invoker once: a unit for each worker, all of a unit's partitions side by side.
func (d *demo) invoke(ctx context.Context) (report fanout.Report, err error) {
	units := min(d.Workers, d.Partitions)
	url := fmt.Sprintf("%s/api/invoke?N=%d&N_per_func=%d", d.invoker.url, units, min(16, (d.Partitions+units-1)/units))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
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
		return report, fmt.Errorf("invoke: the invoker answered %s: %s", response.Status, cut(string(bytes.TrimSpace(body)), 300))
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

// stored adds up what units have stored of each part.
func stored(units []fanout.UnitRow, parts []part) []int64 {
	done := make([]int64, len(parts))
	for _, u := range units {
		for _, s := range u.Sources {
			if i, err := strconv.Atoi(s.Partition); err == nil && i >= 0 && i < len(done) {
				done[i] += s.Messages
			}
		}
	}
	return done
}

// watch asks the workers how far they are.
type watch struct {
	workers []*process
	key     string
	client  *http.Client
	// done is what is stored of each partition, as far as was seen; a unit that has ended is seen no more.
	done []int64
}

func newWatch(workers []*process, key string, parts []part) *watch {
	return &watch{workers: workers, key: key, client: &http.Client{Timeout: time.Second}, done: make([]int64, len(parts))}
}

// run asks until the context ends. What it can't learn it leaves out: progress is only to be looked at.
func (w *watch) run(ctx context.Context, shown progress) {
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
		shown.update(w.done)
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
		if i, err := strconv.Atoi(s.Partition); err == nil && i >= 0 && i < len(w.done) {
			w.done[i] = max(w.done[i], s.Stored)
		}
	}
}
