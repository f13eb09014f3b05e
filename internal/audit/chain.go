package audit

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// Partition is one partition's chain. From and To are the first and last sequence number stored, both -1
// where there is none.
type Partition struct {
	Partition       string       `json:"partition"`
	From            int64        `json:"from"`
	To              int64        `json:"to"`
	Messages        int64        `json:"messages"`
	Blobs           int64        `json:"blobs"`
	Bytes           int64        `json:"bytes"`
	Duplicates      int64        `json:"duplicates"`
	Gaps            []work.Range `json:"gaps,omitempty"`
	LostToRetention []work.Range `json:"lost_to_retention,omitempty"`
}

// chain is what the blobs' names and metadata say of one partition.
type chain struct {
	blobs, bytes, repeated int64
	covered                ranges // sequence numbers that a blob holds
	skipped                ranges // sequence numbers that a blob says were not there to be stored
}

// chain returns the chain of a partition, a new one for a partition not seen before.
func (a *audit) chain(partition string) *chain {
	c := a.chains[partition]
	if c == nil {
		c = new(chain)
		a.chains[partition] = c
	}
	return c
}

// followChain adds a blob to its partition's chain; nil means that its name and metadata contradict each
// other.
func (a *audit) followChain(blob store.Blob, name record.EventHubBlob) promise {
	c := a.chain(name.Partition)
	c.blobs++
	c.bytes += blob.Size
	span, err := record.ParseSpan(blob.Metadata)
	if err != nil {
		a.problem("blob %s: %v", blob.Name, err)
		return nil
	}
	if span.First != name.First {
		a.problem("blob %s: its metadata say that it begins at %d", blob.Name, span.First)
		return nil
	}
	if span.Bytes != blob.Size {
		a.problem("blob %s: it has %d bytes, its metadata say %d", blob.Name, blob.Size, span.Bytes)
	}
	if repeated := c.covered.add(span.First, span.Last); repeated > 0 {
		c.repeated += repeated
		a.problem("blob %s: %d of its sequence numbers %d to %d are in another blob", blob.Name, repeated, span.First, span.Last)
	}
	c.skipped.add(span.After+1, span.First-1)
	return &unbroken{partition: name.Partition, span: span, minute: name.Minute}
}

// unbroken is the promise of an Event Hub's blob: all messages of its span, in order, and of its minute, if
// its name tells one.
type unbroken struct {
	partition string
	span      record.Span
	minute    time.Time
}

func (u *unbroken) check(n int64, m *message.Message) string {
	// Records written without metadata have no sequence number to compare.
	if at := u.span.First + n; !m.EnqueuedTime.IsZero() && (m.SequenceNumber != at || m.Partition != u.partition) {
		return fmt.Sprintf("is number %d of partition %q, expected number %d of partition %q", m.SequenceNumber, m.Partition, at, u.partition)
	}
	return notWithin(u.minute, m)
}

func (u *unbroken) end(n int64) string { return countOf(n, u.span.Count) }

// notWithin says that a message was not enqueued in the minute that a blob's name tells, or "".
func notWithin(minute time.Time, m *message.Message) string {
	if minute.IsZero() || m.EnqueuedTime.IsZero() || m.EnqueuedTime.Truncate(time.Minute).Equal(minute) {
		return ""
	}
	return fmt.Sprintf("was enqueued at %s, and the blob's name tells the minute %s", m.EnqueuedTime.UTC().Format(time.RFC3339Nano), minute.Format("15:04"))
}

// countOf says what is wrong with n records where there should be so many.
func countOf(n, should int64) string {
	if n == should {
		return ""
	}
	return fmt.Sprintf("it holds %d records, its metadata say %d", n, should)
}

// closeChain compares a chain with the numbers that its partition should have, or else with its own extent.
func (a *audit) closeChain(id string, c *chain) Partition {
	p := Partition{Partition: id, From: -1, To: -1, Messages: c.covered.count(), Blobs: c.blobs, Bytes: c.bytes, Duplicates: c.repeated}
	should := work.Range{From: math.MaxInt64, To: -1} // nothing
	if n := len(c.covered); n > 0 {
		p.From, p.To = c.covered[0].From, c.covered[n-1].To
		should = work.Range{From: p.From, To: p.To}
	}
	if a.expect.Partitions != nil {
		hub, known := a.expect.Partitions[id]
		if !known {
			a.problem("partition %s: it is stored, but the hub has no such partition", id)
		} else if p.To > hub.To {
			a.problem("partition %s: number %d is stored, but the hub's last is %d", id, p.To, hub.To)
		}
		if known && hub.From <= hub.To {
			should = work.Range{From: min(hub.From, should.From), To: hub.To}
		}
	}
	for _, hole := range c.covered.without(should) {
		// What a blob says was not there is the source's loss; the rest is ours.
		unexplained := c.skipped.without(hole)
		p.Gaps = append(p.Gaps, unexplained...)
		p.LostToRetention = append(p.LostToRetention, unexplained.without(hole)...)
	}
	return p
}

// compareIDs orders partition ids as people do: numbers by value, and before any other text.
func compareIDs(a, b string) int {
	m, errM := strconv.ParseUint(a, 10, 64)
	n, errN := strconv.ParseUint(b, 10, 64)
	switch {
	case errM == nil && errN == nil && m != n:
		return cmp.Compare(m, n)
	case (errM == nil) != (errN == nil):
		if errM == nil {
			return -1
		}
		return 1
	}
	return cmp.Compare(a, b)
}
