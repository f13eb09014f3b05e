package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/work"
)

// measureFanout measures what a unit costs beside its work: the invoker sends units over loopback HTTP to a
// worker that does nothing.
func measureFanout(ctx context.Context, b *bench) error {
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var unit work.Unit
		if err := json.NewDecoder(r.Body).Decode(&unit); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		sources := make([]work.Source, len(unit.Partitions))
		for i, p := range unit.Partitions {
			sources[i] = work.Source{Partition: p, Ended: work.Drained}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(work.NewReport(unit, sources, 0))
	}))
	defer worker.Close()
	dispatcher, err := fanout.NewDispatcher(fanout.Options{Workers: []string{worker.URL + "/api/pull"}, Budget: time.Minute})
	if err != nil {
		return err
	}

	for _, units := range []int{1, 4, 16, 64, 256} {
		parts := make([]fanout.Partition, units)
		for i := range parts {
			parts[i] = fanout.Partition{ID: strconv.Itoa(i), Last: 1000, Checkpoint: -1}
		}
		var seconds []float64
		for range 15 {
			run := fanout.NewRun(time.Now())
			plan, err := fanout.NewPlan(run, parts, fanout.Request{})
			if err != nil {
				return err
			}
			began := time.Now()
			report := dispatcher.Dispatch(ctx, plan, fanout.Request{})
			seconds = append(seconds, time.Since(began).Seconds())
			if report.Status != fanout.OK {
				return fmt.Errorf("fan-out of %d units: %s", units, report.Status)
			}
		}
		s := median(seconds)
		b.results.Fanout = append(b.results.Fanout, FanoutRow{Units: units, Seconds: s, PerUnitMicro: s / float64(units) * 1e6})
	}
	return nil
}
