// Bench measures what Persistor adds to a bare drain of the official client: the same emulator serves
// both in the same run, each in a process of its own, so that CPU time and memory are theirs alone.
//
//	go run ./bench                 the full table, about a quarter of an hour; with Azurite after `make azurite`
//	go run ./bench -quick -json    within 50 s
//
// Figures of one run compare with each other; machines differ, and shared ones are noisy: quote ratios.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"

	"persistor/internal/azurite"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		return child(os.Args[2:])
	}
	quick := flag.Bool("quick", false, "a few cases only, within 50 s")
	asJSON := flag.Bool("json", false, "print one JSON document")
	rounds := flag.Int("rounds", 0, "rounds of each case, 1 to 9, of which the median counts (default 3, quick 1)")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -help", flag.Arg(0))
	}
	if *rounds == 0 {
		*rounds = 3
		if *quick {
			*rounds = 1
		}
	}
	if *rounds < 1 || *rounds > 9 {
		return fmt.Errorf("-rounds is %d, expected 1 to 9", *rounds)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	chosen := cases(*quick)
	if !*quick {
		dir, err := os.MkdirTemp("", "persistor-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		storage, err := azurite.Start(ctx, dir)
		switch {
		case errors.Is(err, azurite.ErrNotInstalled):
			say("without Azurite: %v", err)
			chosen = slices.DeleteFunc(chosen, func(c drainCase) bool { return c.store == "azurite" })
		case err != nil:
			return err
		default:
			defer storage.Close()
			os.Setenv("AZURITE_CONNECTION_STRING", storage.ConnectionString()) // for the children
		}
	}
	results, err := measure(ctx, chosen, *rounds, say)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	return results.print()
}

// Results are all that was measured; the JSON form is documented in docs/benchmarks.md.
type Results struct {
	Pull   []PullRow   `json:"pull"`
	Fanout []FanoutRow `json:"fanout"`
}

// PullRow is one drain beside its floor: the bare drain of the same events by the client alone.
type PullRow struct {
	Body                int     `json:"body"` // bytes
	Partitions          int     `json:"partitions"`
	Store               string  `json:"store"` // discard, dir or azurite
	Events              int64   `json:"events"`
	EventsPerSecond     float64 `json:"events_per_second"`
	CPUPerEvent         float64 `json:"cpu_us_per_event"`
	FloorPerSecond      float64 `json:"floor_events_per_second"`
	FloorCPUPerEvent    float64 `json:"floor_cpu_us_per_event"`
	CPURatio            float64 `json:"cpu_ratio"`
	PeakMB              float64 `json:"peak_rss_mb"`
	FloorPeakMB         float64 `json:"floor_peak_rss_mb"`
	EmulatorCPUPerEvent float64 `json:"emulator_cpu_us_per_event"`
}

// FanoutRow is one dispatch of units to workers that do nothing.
type FanoutRow struct {
	Units        int     `json:"units"`
	Seconds      float64 `json:"seconds"`
	PerUnitMicro float64 `json:"us_per_unit"`
}

func (r Results) print() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "body\tpartitions\tstore\tevents\tevents/s\tfloor\tCPU us/event\tfloor\tratio\tpeak MB\tfloor\temulator us/event\t")
	for _, p := range r.Pull {
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.2f\t\n",
			p.Body, p.Partitions, p.Store, p.Events, p.EventsPerSecond, p.FloorPerSecond,
			p.CPUPerEvent, p.FloorCPUPerEvent, p.CPURatio, p.PeakMB, p.FloorPeakMB, p.EmulatorCPUPerEvent)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "units\tseconds\tus/unit\t")
	for _, f := range r.Fanout {
		fmt.Fprintf(w, "%d\t%.3f\t%.0f\t\n", f.Units, f.Seconds, f.PerUnitMicro)
	}
	return w.Flush()
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
