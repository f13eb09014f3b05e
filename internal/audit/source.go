package audit

import (
	"context"
	"fmt"
	"maps"

	"persistor/internal/work"
)

// Source is a partition as its Event Hub has it, beside what is stored of it.
type Source struct {
	// First and Last are the sequence numbers of the hub's oldest and newest event; Last is one less than First
	// where it has none.
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	// Checkpoint is up to where everything is said to be stored, -1 for nowhere.
	Checkpoint int64 `json:"checkpoint"`
	// Before counts what the hub has before the first that is stored; all of it is in a gap, unless draining began
	// later. Backlog counts what it has behind the last, and behind the checkpoint.
	Before  int64 `json:"before"`
	Backlog int64 `json:"backlog"`
	// Beyond counts the numbers that are stored though the hub hasn't come to them.
	Beyond int64 `json:"beyond"`
}

// compare looks at a partition as its hub has it, and returns which numbers should be stored. Of stored, To < From
// says that there are none.
func (a *audit) compare(p *Partition, stored work.Range) (should work.Range) {
	hub, known := a.expect.Partitions[p.Partition]
	if !known {
		a.problem("partition %s: it is stored, but the hub has no such partition", p.Partition)
		return stored
	}
	if p.To > hub.To {
		a.problem("partition %s: number %d is stored, but the hub's last is %d", p.Partition, p.To, hub.To)
	}
	if a.expect.Checkpoints == nil {
		if hub.From <= hub.To {
			return work.Range{From: min(hub.From, stored.From), To: hub.To}
		}
		return stored
	}
	at, settled := a.expect.Checkpoints[p.Partition]
	if !settled {
		at = -1
	}
	p.Source = &Source{First: hub.From, Last: hub.To, Checkpoint: at}
	return a.compareProgress(p, stored)
}

// compareProgress is compare for a partition that need not be stored up to the hub's last event.
func (a *audit) compareProgress(p *Partition, stored work.Range) (should work.Range) {
	s := p.Source
	end := max(stored.To, s.Checkpoint) // up to here everything is said to be stored
	if s.Checkpoint > s.Last {
		a.problem("partition %s: its checkpoint is %d, but the hub's last is %d", p.Partition, s.Checkpoint, s.Last)
	}
	if s.Checkpoint > stored.To {
		a.problem("partition %s: its checkpoint says that all is stored up to %d, %s", p.Partition, s.Checkpoint, lastStored(stored))
	}
	s.Beyond = max(0, stored.To-max(s.Last, stored.From-1))
	s.Backlog = max(0, s.Last-max(end, s.First-1))
	if end < 0 {
		return stored // it has not begun
	}
	if should = (work.Range{From: stored.From, To: end}); stored.To < 0 {
		should.From = s.Checkpoint
	}
	if s.First <= s.Last && stored.To >= 0 {
		s.Before = max(0, min(should.From, s.Last+1)-s.First)
	}
	if !a.expect.Late && s.First <= s.Last {
		should.From = min(should.From, s.First)
	}
	if behind := (work.Range{From: end + 1, To: s.First - 1}); behind.From <= behind.To && s.Last >= 0 {
		p.LostToRetention = append(p.LostToRetention, behind)
	}
	return should
}

func lastStored(stored work.Range) string {
	if stored.To < 0 {
		return "but nothing is"
	}
	return fmt.Sprintf("but the last in a blob is %d", stored.To)
}

// refresh asks for what the hub has now that all is listed.
func (c *container) refresh(ctx context.Context) error {
	a := c.folders[c.own]
	if a == nil || a.expect.Refresh == nil {
		return nil
	}
	now, err := a.expect.Refresh(ctx)
	if err != nil {
		return err
	}
	a.expect.Partitions = maps.Clone(a.expect.Partitions)
	for id, hub := range now {
		if before, ok := a.expect.Partitions[id]; ok {
			a.expect.Partitions[id] = work.Range{From: before.From, To: max(before.To, hub.To)}
		}
	}
	return nil
}
