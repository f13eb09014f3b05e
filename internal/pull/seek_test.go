package pull

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// tape is a partition that holds the messages up to last, but for those in holes.
type tape struct {
	last  int64
	holes []work.Range
	next  int64
	sent  int
}

func (p *tape) has(n int64) bool {
	return !slices.ContainsFunc(p.holes, func(r work.Range) bool { return r.From <= n && n <= r.To })
}

func (p *tape) Receive(ctx context.Context, count int) (messages []message.Message, err error) {
	for ; p.next <= p.last && len(messages) < count; p.next++ {
		if p.has(p.next) {
			messages = append(messages, *at(p.next))
		}
	}
	p.sent += len(messages)
	if len(messages) == 0 {
		<-ctx.Done()
	}
	return messages, nil
}

func (p *tape) Peek(ctx context.Context) ([]message.Message, error) {
	here := p.next
	defer func() { p.next = here }()
	return p.Receive(ctx, 1)
}

func (p *tape) Seek(_ context.Context, after int64) { p.next = after + 1 }

func (p *tape) Checkpoint(context.Context, Mark) error {
	return errors.New("a cell's loop writes no checkpoint")
}

// drainCell drains a cell of a tape.
func drainCell(f folder, p *tape, r work.Range, mode Append, batch int) work.Source {
	p.next = r.From
	loop := Partition{
		Loop: Loop{
			Sink: f, Folder: "hub", RunID: "r1", Append: mode, AppendBytes: 4000, MaxAppend: 1 << 20, Chunk: max(1, batch/2),
			Limits: Limits{Count: batch, Bytes: 1 << 20, Age: time.Hour}, Deadline: time.Now().Add(time.Minute),
		},
		Source: p, Partition: "3", Start: Start{After: r.From - 1, Anchored: true, Target: r.To, Bounded: true},
	}
	return loop.Run(context.Background())
}

// Loops over the cells of one partition, side by side and several on the same one, in any mode: what the partition holds
// is stored once, and what it doesn't hold is reported as lost by whoever gets there.
func TestCellsMeet(t *testing.T) {
	rounds := uint64(4)
	if os.Getenv("PERSISTOR_SOAK") != "" {
		rounds = 500
	}
	eachMode(func(t *testing.T, mode Append) {
		for seed := range rounds {
			raceOverCells(t, seed, mode)
		}
	})(t)
}

func raceOverCells(t *testing.T, seed uint64, mode Append) {
	r := rand.New(rand.NewPCG(seed, 7))
	f := newFolder(t)
	var holes []work.Range
	for from := r.Int64N(100); from < 500; from += 60 + r.Int64N(200) {
		holes = append(holes, work.Range{From: from, To: from + r.Int64N(50)})
	}
	whole := tape{last: 600, holes: holes}
	var group sync.WaitGroup
	for from := int64(0); from <= 500; {
		cell := work.Range{From: from, To: min(from+20+r.Int64N(150), 500)}
		from = cell.To + 1
		for range 1 + r.IntN(2) {
			p, batch := whole, 1+r.IntN(60)
			group.Go(func() {
				s := drainCell(f, &p, cell, mode, batch)
				if s.Ended != work.Drained || s.Checkpoint != cell.To || s.Backlog != 0 || *s.Cell != cell {
					t.Errorf("seed %d: cell %v: %+v", seed, cell, s)
				}
				for _, lost := range s.LostToRetention {
					for n := lost.From; n <= lost.To; n++ {
						if p.has(n) || n < cell.From || n > cell.To {
							t.Errorf("seed %d: cell %v: %d is reported as lost", seed, cell, n)
						}
					}
				}
			})
		}
	}
	group.Wait()
	times := map[int64]int{}
	for b, err := range f.Dir.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		s, err := record.ParseSpan(b.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		for n := s.First; n <= s.Last; n++ {
			times[n]++
		}
	}
	for n := range int64(601) {
		if want := n <= 500 && whole.has(n); times[n] > 1 || (times[n] == 1) != want {
			t.Errorf("seed %d: message %d is stored %d times, of those that are there: %v", seed, n, times[n], want)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// Of two loops over one cell, one looks before the cell before it is stored to its end, and one after that. They begin
// in one place all the same.
func TestCellsMeetWhereTheOneBeforeEnds(t *testing.T) {
	eachMode(func(t *testing.T, mode Append) {
		f := newFolder(t)
		cell := func(r work.Range) *chain {
			c := newChain(f, &partition{}, r.From-1, mode)
			c.limit = r.To
			return c
		}
		looked := func() *chain {
			c := cell(work.Range{From: 52, To: 99})
			m := at(52)
			if err := c.look(t.Context(), sampleOf(entry{number: m.SequenceNumber, enqueued: m.EnqueuedTime})); err != nil {
				t.Fatal(err)
			}
			return c
		}
		early := looked()
		if err := write(cell(work.Range{From: 0, To: 51}), 0, 51, 20, never); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*chain{early, looked()} {
			if err := write(c, 52, 99, 23, never); err != nil {
				t.Fatal(err)
			}
		}
		check(t, f, 0, 99)
	})(t)
}

// What is stored of a cell from its beginning on is passed over, into the next days as well; and no further than it
// goes on without a break, in numbers or in time.
func TestApproachPassesOverWhatIsStored(t *testing.T) {
	const day = 24 * 60 * 3 // messages
	for name, test := range map[string]struct {
		stored  []work.Range
		earlier time.Duration // that the last of these were enqueued
		begins  int64         // at which message the loop does
	}{
		"nothing":                  {nil, 0, 10},
		"what is behind":           {[]work.Range{{From: 100, To: 199}}, 0, 10},
		"the beginning":            {[]work.Range{{From: 0, To: 49}}, 0, 50},
		"several blobs":            {[]work.Range{{From: 5, To: 49}, {From: 50, To: 119}}, 0, 120},
		"with a hole":              {[]work.Range{{From: 5, To: 49}, {From: 51, To: 119}}, 0, 50},
		"three days":               {[]work.Range{{From: 0, To: 2*day + 999}}, 0, 2*day + 1000},
		"a hole at midnight":       {[]work.Range{{From: 0, To: 89}, {From: 91, To: 2000}}, 0, 90},
		"all of it":                {[]work.Range{{From: 0, To: 2*day + 1299}}, 0, 2*day + 1100},
		"older messages behind it": {[]work.Range{{From: 0, To: 49}, {From: 50, To: 85}}, time.Hour, 50},
	} {
		t.Run(name, eachMode(func(t *testing.T, mode Append) {
			f := newFolder(t)
			for i, r := range test.stored {
				earlier := time.Duration(0)
				if i == len(test.stored)-1 {
					earlier = test.earlier
				}
				if err := writeEarlier(newChain(f, &partition{}, r.From-1, Apart), r.From, r.To, 1000, earlier, never); err != nil {
					t.Fatal(err)
				}
			}
			p := &tape{last: 2*day + 1300, next: 10}
			loop := Partition{Loop: Loop{Sink: f, Folder: "hub", RunID: "r1", Append: mode}, Source: p, Partition: "3",
				Start: Start{After: 9, Anchored: true, Target: 2*day + 1099, Bounded: true}}
			r := &partitionReader{Log: p, seeker: p, target: loop.Start.Target, bounded: true, seen: 9, placed: true}
			c := newChain(f, p, 9, mode)
			c.loop, c.limit, c.seeks = &loop.Loop, loop.Start.Target, true
			if err := loop.approach(t.Context(), r, c); err != nil {
				t.Fatal(err)
			}
			if p.next != test.begins || r.seen != test.begins-1 || p.sent != 1 {
				t.Errorf("the loop begins at %d, after %d messages; want %d, after 1", p.next, p.sent, test.begins)
			}
		}))
	}
}

// A day of blobs of one hub behind those of another that counts the same numbers is no one stretch, or the messages
// of the newer one would be taken for stored.
func TestStretchesEndWhereTimeGoesBack(t *testing.T) {
	f := newFolder(t)
	if err := writeEarlier(newChain(f, &partition{}, 19, Apart), 20, 39, 1000, 20*time.Hour, never); err != nil {
		t.Fatal(err)
	}
	if err := write(newChain(f, &partition{}, -1, Apart), 0, 19, 1000, never); err != nil {
		t.Fatal(err)
	}
	c := newChain(f, &partition{}, 9, Apart)
	err := write(c, 10, 39, 5, never)
	if c.after != 19 || !errors.Is(err, ErrForeign) {
		t.Errorf("the chain ends at %d, error %v; want 19, and one of a blob in the way", c.after, fmt.Sprint(err))
	}
}
