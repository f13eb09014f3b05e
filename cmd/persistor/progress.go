package main

import (
	"time"

	"persistor/internal/ledger"
)

// progress is how far a run is, as it is shown.
type progress struct {
	run   ledger.Live
	parts []part
	done  int64
	total int64         // -1 when it isn't known
	rate  float64       // messages a second, of late
	left  time.Duration // -1 when it isn't known
}

// part is one line of progress: a partition, or all of a Service Bus entity.
type part struct {
	name  string
	done  int64
	total int64 // -1 when it isn't known
}

// progressOf sums a run up.
func progressOf(run ledger.Live, pace *pace, now time.Time) progress {
	p := progress{run: run, left: -1}
	for _, q := range run.Partitions {
		total := max(q.To-q.From+1, 0)
		p.parts = append(p.parts, part{"partition " + q.Partition, total - min(max(q.Counts.Remaining, 0), total), total})
	}
	if len(run.Partitions) == 0 {
		all := part{run.Source, run.Counts.Messages + run.Counts.AlreadyStored, -1}
		if run.Counts.Remaining >= 0 {
			all.total = all.done + run.Counts.Remaining
		}
		p.parts = []part{all}
	}
	for _, q := range p.parts {
		p.done += q.done
		if p.total += q.total; q.total < 0 {
			p.total = -1
		}
	}
	p.rate = pace.of(p.done, now)
	if run.State.Over() {
		p.rate = 0
	}
	if p.rate > 0 && p.total >= 0 {
		p.left = time.Duration(float64(p.total-p.done) / p.rate * float64(time.Second))
	}
	return p
}

// pace measures how fast a count grows, over the last measured time.
type pace struct {
	seen []sample // oldest first
}

type sample struct {
	at   time.Time
	done int64
}

// paceOver is the time that a rate is of: long enough that the units' reports, which come every two seconds, even out.
const paceOver = 15 * time.Second

// of takes a count and returns by how much it grows in a second.
func (p *pace) of(done int64, now time.Time) float64 {
	p.seen = append(p.seen, sample{now, done})
	for len(p.seen) > 2 && now.Sub(p.seen[1].at) >= paceOver {
		p.seen = p.seen[1:]
	}
	first := p.seen[0]
	took := now.Sub(first.at).Seconds()
	if took <= 0 || done <= first.done {
		return 0
	}
	return float64(done-first.done) / took
}
