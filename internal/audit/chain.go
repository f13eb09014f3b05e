package audit

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// Partition is one partition's chain. From and To are the first and last sequence number stored, both -1
// where there is none.
type Partition struct {
	Partition string `json:"partition"`
	// Hub is the Event Hub, as the blobs' metadata name it; "" where they don't.
	Hub        string `json:"hub,omitempty"`
	From       int64  `json:"from"`
	To         int64  `json:"to"`
	Messages   int64  `json:"messages"`
	Blobs      int64  `json:"blobs"`
	Bytes      int64  `json:"bytes"`
	Duplicates int64  `json:"duplicates"`
	// Covered are the ranges of sequence numbers that are stored: one, if there is no hole.
	Covered []work.Range `json:"covered,omitempty"`
	Gaps    []work.Range `json:"gaps,omitempty"`
	// LostToRetention are holes that the blob behind them explains: the hub no longer had the messages. Apart are
	// those whose messages are stored below _failed/.
	LostToRetention []work.Range `json:"lost_to_retention,omitempty"`
	Apart           []work.Range `json:"apart,omitempty"`
	// Source is the partition as its hub has it, if the audit was told.
	Source *Source `json:"source,omitempty"`
}

// chainKey tells chains of one folder apart.
type chainKey struct{ hub, partition string }

// chain is what the blobs' names and metadata say of one partition.
type chain struct {
	blobs, bytes, repeated int64
	covered                ranges // sequence numbers that a blob holds
	skipped                ranges // sequence numbers that a blob says were not there to be stored
}

// chain returns the chain of a partition, a new one for a partition not seen before; nil if there are too many.
func (a *audit) chain(hub, partition string) *chain {
	key := chainKey{hub, partition}
	c := a.chains[key]
	if c == nil && a.container.subject("partition "+partition+" of folder "+a.prefix) {
		c = new(chain)
		a.chains[key] = c
	}
	return c
}

// followChain adds a blob to its partition's chain; nil means that its name and metadata contradict each
// other.
func (a *audit) followChain(blob store.Blob, name record.EventHubBlob) promise {
	span, err := record.ParseSpan(blob.Metadata)
	c := a.chain(span.Hub, name.Partition)
	if c == nil {
		return nil
	}
	c.blobs++
	c.bytes += blob.Size
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
	if span.After < span.First-1 {
		c.skipped.add(span.After+1, span.First-1)
	}
	if !span.Latest.IsZero() && !span.Latest.Truncate(24*time.Hour).Equal(name.Day) {
		a.problem("blob %s: its metadata say that it is of %s", blob.Name, span.Latest.Format(time.DateOnly))
	}
	a.counted += span.Count
	return &unbroken{partition: name.Partition, span: span, day: name.Day, minute: name.Minute}
}

// unbroken is the promise of an Event Hub's blob: all messages of its span, in order, of its day, and of its minute, if
// its name tells one.
type unbroken struct {
	partition   string
	span        record.Span
	day, minute time.Time
}

func (u *unbroken) check(n int64, m *message.Message) string {
	// Records written without metadata have no sequence number to compare.
	at := u.span.First + n
	switch {
	case m.EnqueuedTime.IsZero():
		return ""
	case m.SequenceNumber != at || m.Partition != u.partition:
		return fmt.Sprintf("is number %d of partition %q, expected number %d of partition %q", m.SequenceNumber, m.Partition, at, u.partition)
	case n == 0 && !m.EnqueuedTime.Truncate(24*time.Hour).Equal(u.day):
		return fmt.Sprintf("was enqueued at %s, and the blob's name tells another day", m.EnqueuedTime.UTC().Format(time.RFC3339Nano))
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

// joinUnnamed adds chains of blobs that name no hub to those of the hub that the others name, if there is only one.
func (a *audit) joinUnnamed() {
	hubs := a.hubs()
	if a.expect.Hub == "" && len(hubs) > 1 && a.expect.Partitions != nil {
		a.problem("there are blobs of %d Event Hubs, and it was not said which of them is meant: %s", len(hubs), strings.Join(hubs[:min(len(hubs), 5)], ", "))
	}
	for key, c := range a.chains {
		if key.hub != "" || len(hubs) == 0 || len(hubs) > 1 && c.blobs > 0 {
			continue
		}
		delete(a.chains, key)
		if len(hubs) > 1 {
			continue // it was to be expected of whichever hub there is
		}
		named := chainKey{hubs[0], key.partition}
		if a.chains[named] == nil {
			a.chains[named] = new(chain)
		}
		if repeated := a.chains[named].join(c); repeated > 0 {
			a.problem("partition %s: %d sequence numbers are in blobs that name Event Hub %s, and in others that name none", key.partition, repeated, named.hub)
		}
	}
}

// hubs are those that the chains are of, as far as they say.
func (a *audit) hubs() (hubs []string) {
	for key := range a.chains {
		if key.hub != "" && !slices.Contains(hubs, key.hub) {
			hubs = append(hubs, key.hub)
		}
	}
	slices.Sort(hubs)
	return hubs
}

// join adds another chain, and says how many numbers are in both.
func (c *chain) join(other *chain) (repeated int64) {
	c.blobs += other.blobs
	c.bytes += other.bytes
	for _, r := range other.covered {
		repeated += c.covered.add(r.From, r.To)
	}
	for _, r := range other.skipped {
		c.skipped.add(r.From, r.To)
	}
	c.repeated += other.repeated + repeated
	return repeated
}

// closeChain compares a chain with the numbers that its partition should have, or else with its own extent.
func (a *audit) closeChain(key chainKey, c *chain) Partition {
	p := Partition{
		Partition: key.partition, Hub: key.hub, From: -1, To: -1, Messages: c.covered.count(), Blobs: c.blobs, Bytes: c.bytes,
		Duplicates: c.repeated, Covered: c.covered,
	}
	should := work.Range{From: math.MaxInt64, To: -1} // nothing
	if n := len(c.covered); n > 0 {
		p.From, p.To = c.covered[0].From, c.covered[n-1].To
		should = work.Range{From: p.From, To: p.To}
	}
	if a.failed {
		return p
	}
	if a.expect.Partitions != nil && (a.expect.Hub == "" || a.expect.Hub == key.hub) {
		should = a.compare(&p, should)
	}
	for _, hole := range c.covered.without(should) {
		// What a blob says was not there is the source's loss; the rest is ours.
		unexplained := c.skipped.without(hole)
		p.LostToRetention = append(p.LostToRetention, unexplained.without(hole)...)
		apart := a.coveredApart(key)
		for _, gap := range unexplained {
			left := apart.without(gap)
			p.Gaps = append(p.Gaps, left...)
			p.Apart = append(p.Apart, left.without(gap)...)
		}
	}
	slices.SortFunc(p.LostToRetention, func(a, b work.Range) int { return cmp.Compare(a.From, b.From) })
	return p
}

// coveredApart are the sequence numbers of a partition that are stored below _failed/.
func (a *audit) coveredApart(key chainKey) ranges {
	if a.apart == nil || a.apart.chains[key] == nil {
		return nil
	}
	return a.apart.chains[key].covered
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
