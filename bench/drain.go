package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// drainCase is one row to be measured.
type drainCase struct {
	body, partitions int
	store            string
	events           int64 // in all partitions together
	once             bool  // one round is enough
}

func (c drainCase) hub() string { return fmt.Sprintf("b%d-p%d-n%d", c.body, c.partitions, c.events) }

func cases(quick bool) []drainCase {
	if quick {
		return []drainCase{
			{body: 1024, partitions: 4, store: "discard", events: 400_000},
			{body: 1024, partitions: 1, store: "discard", events: 300_000},
			{body: 1024, partitions: 4, store: "dir", events: 200_000},
			{body: 100, partitions: 4, store: "discard", events: 400_000},
		}
	}
	var all []drainCase
	for _, store := range []string{"discard", "dir", "azurite"} {
		for _, body := range []int{100, 1024, 8192} {
			for _, partitions := range []int{1, 4, 16} {
				events := int64(800_000)
				if body == 8192 {
					events /= 4
				}
				if store == "azurite" {
					events /= 4
				}
				all = append(all, drainCase{body: body, partitions: partitions, store: store, events: events})
			}
		}
	}
	// The same backlog a hundred times over: memory must not follow.
	return append(all,
		drainCase{body: 1024, partitions: 4, store: "discard", events: 100_000},
		drainCase{body: 1024, partitions: 4, store: "discard", events: 10_000_000, once: true})
}

// measure runs all cases. Drain and floor take turns, so that what else the machine does hits both.
func measure(ctx context.Context, cases []drainCase, rounds int, say func(string, ...any)) (Results, error) {
	server, err := startEmulator(ctx, cases)
	if err != nil {
		return Results{}, err
	}
	defer server.stop()

	var results Results
	for _, c := range cases {
		row := PullRow{Body: c.body, Partitions: c.partitions, Store: c.store, Events: c.events}
		var drains, floors []usage
		for round := range rounds {
			if round > 0 && c.once {
				break
			}
			before := server.cpu()
			floor, err := drain(ctx, "floor", server.connection, c)
			if err != nil {
				return results, err
			}
			floor.emulatorCPU = server.cpu() - before
			d, err := drain(ctx, "pull", server.connection, c)
			if err != nil {
				return results, err
			}
			drains, floors = append(drains, d), append(floors, floor)
		}
		per := float64(c.events)
		row.EventsPerSecond = per / middle(drains, func(u usage) float64 { return u.Seconds })
		row.FloorPerSecond = per / middle(floors, func(u usage) float64 { return u.Seconds })
		row.CPUPerEvent = middle(drains, func(u usage) float64 { return u.CPUSeconds }) / per * 1e6
		row.FloorCPUPerEvent = middle(floors, func(u usage) float64 { return u.CPUSeconds }) / per * 1e6
		row.EmulatorCPUPerEvent = middle(floors, func(u usage) float64 { return u.emulatorCPU }) / per * 1e6
		row.PeakMB = middle(drains, func(u usage) float64 { return u.PeakMB })
		row.FloorPeakMB = middle(floors, func(u usage) float64 { return u.PeakMB })
		row.CPURatio = row.CPUPerEvent / row.FloorCPUPerEvent
		results.Pull = append(results.Pull, row)
		say("%5d B, %2d partitions, %-7s: CPU %.2f us/event, floor %.2f, ratio %.2f; %.0f events/s, floor %.0f; peak %.0f MB",
			c.body, c.partitions, c.store, row.CPUPerEvent, row.FloorCPUPerEvent, row.CPURatio, row.EventsPerSecond, row.FloorPerSecond, row.PeakMB)
	}
	results.Fanout, err = fanOut(ctx)
	return results, err
}

// usage is what one process used from its first question to its last answer.
type usage struct {
	Events      int64   `json:"events"`
	Seconds     float64 `json:"seconds"`
	CPUSeconds  float64 `json:"cpu_seconds"`
	PeakMB      float64 `json:"peak_mb"`
	emulatorCPU float64
}

func middle(all []usage, of func(usage) float64) float64 {
	values := make([]float64, len(all))
	for i, u := range all {
		values[i] = of(u)
	}
	return median(values)
}

// drain runs one child to its end and checks that it got everything.
func drain(ctx context.Context, kind, connection string, c drainCase) (usage, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return usage{}, err
	}
	cmd := exec.CommandContext(ctx, self, "child", kind, c.hub(), strconv.Itoa(c.partitions), c.store)
	cmd.Env = append(os.Environ(), "EVENT_HUB_CONN_STRING="+connection)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return usage{}, fmt.Errorf("%s of %s into %s: %w", kind, c.hub(), c.store, err)
	}
	var u usage
	if err := json.Unmarshal(out, &u); err != nil {
		return usage{}, fmt.Errorf("%s of %s into %s: %w", kind, c.hub(), c.store, err)
	}
	if u.Events != c.events {
		return usage{}, fmt.Errorf("%s of %s into %s: %d events, expected %d", kind, c.hub(), c.store, u.Events, c.events)
	}
	return u, nil
}
