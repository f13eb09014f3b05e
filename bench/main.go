// Bench measures what Persistor adds to a bare drain of the official clients: the same emulator serves
// both in the same run, each in a process of its own, so that CPU time and memory are theirs alone.
//
//	go run ./bench                            all tables, about half an hour; with Azurite after `make azurite`
//	go run ./bench -quick -json               a few cases, within a minute and a half
//	go run ./bench -parts queues,sessions     some tables
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
	"strings"
	"text/tabwriter"

	"persistor/internal/azurite"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what is measured, and what came of it so far.
type bench struct {
	quick   bool
	rounds  int
	azurite bool // it runs
	results Results
}

// parts are what can be measured, in their order.
var parts = []struct {
	name    string
	measure func(context.Context, *bench) error
}{
	{"hubs", measureHubs},
	{"appends", measureAppends},
	{"cells", measureCells},
	{"queues", measureQueues},
	{"sessions", measureSessions},
	{"large", measureLarge},
	{"fanout", measureFanout},
}

func run() error {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		return child(os.Args[2:])
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	b := &bench{}
	flag.BoolVar(&b.quick, "quick", false, "a few cases only, within 50 s")
	asJSON := flag.Bool("json", false, "print one JSON document")
	flag.IntVar(&b.rounds, "rounds", 0, "rounds of each case, 1 to 9, of which the median counts (default 3, quick 1)")
	chosen := flag.String("parts", strings.Join(names, ","), "what to measure")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -help", flag.Arg(0))
	}
	for part := range strings.SplitSeq(*chosen, ",") {
		if !slices.Contains(names, part) {
			return fmt.Errorf("-parts has %q, expected some of %s", part, strings.Join(names, ","))
		}
	}
	if b.rounds == 0 {
		b.rounds = 3
		if b.quick {
			b.rounds = 1
		}
	}
	if b.rounds < 1 || b.rounds > 9 {
		return fmt.Errorf("-rounds is %d, expected 1 to 9", b.rounds)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if !b.quick {
		end, err := b.startAzurite(ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	for _, p := range parts {
		if slices.Contains(strings.Split(*chosen, ","), p.name) {
			if err := p.measure(ctx, b); err != nil {
				return err
			}
		}
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(b.results)
	}
	b.results.print()
	return nil
}

// startAzurite starts Azurite for the children, where it is installed.
func (b *bench) startAzurite(ctx context.Context) (end func(), err error) {
	dir, err := os.MkdirTemp("", "persistor-bench-")
	if err != nil {
		return nil, err
	}
	storage, err := azurite.Start(ctx, dir)
	if err != nil {
		os.RemoveAll(dir)
		if errors.Is(err, azurite.ErrNotInstalled) {
			b.say("without Azurite: %v", err)
			return func() {}, nil
		}
		return nil, err
	}
	b.azurite = true
	os.Setenv("AZURITE_CONNECTION_STRING", storage.ConnectionString())
	return func() {
		storage.Close()
		os.RemoveAll(dir)
	}, nil
}

// say tells of progress.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (b *bench) roundsOf(once bool) int {
	if once {
		return 1
	}
	return b.rounds
}

// Results are all that was measured.
type Results struct {
	Pull     []PullRow    `json:"pull,omitempty"`
	Append   []AppendRow  `json:"append,omitempty"`
	Cells    []CellRow    `json:"cells,omitempty"`
	Queues   []QueueRow   `json:"queues,omitempty"`
	Sessions []SessionRow `json:"sessions,omitempty"`
	Large    []LargeRow   `json:"large,omitempty"`
	Fanout   []FanoutRow  `json:"fanout,omitempty"`
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

// print prints a table for each part.
func (r Results) print() {
	table(r.Pull, "body\tpartitions\tstore\tevents\tevents/s\tfloor\tCPU us/event\tfloor\tratio\tpeak MB\tfloor\temulator us/event", func(p PullRow) string {
		return fmt.Sprintf("%d\t%d\t%s\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.2f",
			p.Body, p.Partitions, p.Store, p.Events, p.EventsPerSecond, p.FloorPerSecond,
			p.CPUPerEvent, p.FloorCPUPerEvent, p.CPURatio, p.PeakMB, p.FloorPeakMB, p.EmulatorCPUPerEvent)
	})
	table(r.Append, "store\tbatch\tevents\tevents/s\tapart\tratio\tCPU us/event\tapart\tratio", func(a AppendRow) string {
		return fmt.Sprintf("%s\t%d\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f",
			a.Store, a.Batch, a.Events, a.PerSecond, a.ApartPerSecond, a.RateRatio, a.CPU, a.ApartCPU, a.CPURatio)
	})
	table(r.Cells, "store\tcells at once\tevents\tevents/s\tplain\tratio\tCPU us/event\tplain\tratio\tpeak MB", func(c CellRow) string {
		return fmt.Sprintf("%s\t%d\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f",
			c.Store, c.AtOnce, c.Events, c.PerSecond, c.PlainPerSecond, c.RateRatio, c.CPU, c.PlainCPU, c.CPURatio, c.PeakMB)
	})
	table(r.Queues, "body\tloops\tRTT ms\tstore\tmessages\tmessages/s\tfloor\tone by one\ttimes\tCPU us/message\tfloor\tone by one\tratio\tpeak MB\tfloor\temulator us/message", func(q QueueRow) string {
		return fmt.Sprintf("%d\t%d\t%.0f\t%s\t%d\t%.0f\t%.0f\t%s\t%s\t%.1f\t%.1f\t%s\t%.2f\t%.0f\t%.0f\t%.1f",
			q.Body, q.Loops, q.DelayMS, q.Store, q.Messages, q.PerSecond, q.FloorPerSecond,
			measured("%.0f", q.OneByOnePerSecond), measured("%.1f", q.Speedup),
			q.CPU, q.FloorCPU, measured("%.1f", q.OneByOneCPU), q.CPURatio, q.PeakMB, q.FloorPeakMB, q.EmulatorCPU)
	})
	table(r.Sessions, "sessions\tmessages\tloops\tRTT ms\tmessages/s\tfloor\tsessions/s\tCPU us/message\tfloor\tratio\tpeak MB\tfloor", func(s SessionRow) string {
		return fmt.Sprintf("%d\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%.2f\t%.0f\t%.0f",
			s.Sessions, s.Messages, s.Loops, s.DelayMS, s.PerSecond, s.FloorPerSecond, s.SessionsPerSecond,
			s.CPU, s.FloorCPU, s.CPURatio, s.PeakMB, s.FloorPeakMB)
	})
	table(r.Large, "body\tmessages\tseconds\tfloor\tpeak MB\tfloor", func(l LargeRow) string {
		return fmt.Sprintf("%d\t%d\t%.1f\t%.1f\t%.0f\t%.0f", l.Body, l.Messages, l.Seconds, l.FloorSeconds, l.PeakMB, l.FloorPeakMB)
	})
	table(r.Fanout, "units\tseconds\tus/unit", func(f FanoutRow) string {
		return fmt.Sprintf("%d\t%.3f\t%.0f", f.Units, f.Seconds, f.PerUnitMicro)
	})
}

// table prints rows under a line of heads, and nothing where there are none.
func table[Row any](rows []Row, heads string, format func(Row) string) {
	if len(rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, heads+"\t")
	for _, r := range rows {
		fmt.Fprintln(w, format(r)+"\t")
	}
	w.Flush()
	fmt.Println()
}

// measured formats a figure, unless it is none.
func measured(format string, figure float64) string {
	if figure == 0 {
		return ""
	}
	return fmt.Sprintf(format, figure)
}

// figures are the medians of some rounds; CPU times are in microseconds a message.
type figures struct{ rate, cpu, peak, emulator float64 }

func middle(rounds []usage) figures {
	of := func(value func(usage) float64) float64 {
		values := make([]float64, len(rounds))
		for i, u := range rounds {
			values[i] = value(u)
		}
		return median(values)
	}
	return figures{
		rate:     of(func(u usage) float64 { return float64(u.Messages) / u.Seconds }),
		cpu:      of(func(u usage) float64 { return u.CPUSeconds / float64(u.Messages) * 1e6 }),
		peak:     of(func(u usage) float64 { return u.PeakMB }),
		emulator: of(func(u usage) float64 { return u.emulatorCPU / float64(u.Messages) * 1e6 }),
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
