// Package audit proves that a folder of blobs holds what it should: per partition a complete chain, with
// no gap and nothing twice, and in the blobs the very messages that were sent.
//
// It trusts nothing that it can check: a blob's name against its metadata, the metadata against the
// records inside, the chain against what the hub says of itself, the records against what was published.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// Store is the part of a blob store that an audit reads.
type Store interface {
	List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error]
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Expectation is what a folder should hold. The zero value asks for unbroken chains of readable records,
// each from wherever it begins to wherever it ends.
type Expectation struct {
	// Partitions are the sequence numbers that the hub has in each partition, by partition id; To < From is
	// an empty partition. All of them should be stored, and nothing above; numbers below them may be: the
	// hub forgets. With nil, each partition is judged from its first blob to its last.
	Partitions map[string]work.Range
	// Contents judges the messages; nil leaves it at counting them.
	Contents Contents
}

// Report is what an audit found.
type Report struct {
	// Complete says that everything below is as it should be: no gap, nothing twice, missing or altered,
	// nothing lost to retention, no other problem.
	Complete bool `json:"complete"`
	// Messages counts records read, Blobs and Bytes what held them.
	Messages int64 `json:"messages"`
	Blobs    int64 `json:"blobs"`
	Bytes    int64 `json:"bytes"`
	// Gaps counts the ranges of sequence numbers that no blob holds and no blob explains.
	Gaps int64 `json:"gaps"`
	// Duplicates counts messages stored more than once, by sequence number or by content, whichever
	// finds more.
	Duplicates int64 `json:"duplicates"`
	// Missing counts messages that were sent and are nowhere, or, where the contents are not known,
	// sequence numbers within gaps.
	Missing int64 `json:"missing"`
	// Altered counts records that are not what was sent, or can't be read.
	Altered int64 `json:"altered"`
	// LostToRetention counts sequence numbers that the source itself no longer had: the blob behind such a
	// hole names in its metadata the number that it follows on from.
	LostToRetention int64 `json:"lost_to_retention"`
	// Ignored counts files in the folder whose names are not those of its partitions' blobs.
	Ignored    int64       `json:"ignored,omitempty"`
	Partitions []Partition `json:"partitions"`
	// Problems tells the first of what was wrong, in words: at most [MaxProblems].
	Problems       []string `json:"problems,omitempty"`
	ElapsedSeconds float64  `json:"elapsed_seconds"`
}

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

// MaxProblems bounds [Report.Problems]; MaxRecord, in bytes, is the largest record that an audit reads: an
// event of 1 MiB, its bytes written in base64 or escaped, with room to spare.
const (
	MaxProblems = 20
	MaxRecord   = 16 << 20
)

// Run audits what the store holds under folder. It lists blobs in one goroutine, which follows the chains,
// and reads them in as many as there are processors; it holds one record for each of these, and a few
// numbers for each partition and each hole.
//
// What the audit finds is in the report; an error says that the audit itself could not be finished, and
// the report is then of what was read until then.
func Run(ctx context.Context, s Store, folder string, expect Expectation) (Report, error) {
	started := time.Now()
	a := &audit{store: s, expect: expect, chains: make(map[string]*chain)}
	for partition := range expect.Partitions {
		a.chain(partition)
	}
	err := a.read(ctx, folder)
	report := a.report()
	report.ElapsedSeconds = time.Since(started).Seconds()
	if err != nil {
		report.Complete = false
		return report, fmt.Errorf("audit folder %q: %w", folder, err)
	}
	return report, nil
}

// audit is one run. The goroutine that lists owns chains; the rest is shared, under mu.
type audit struct {
	store  Store
	expect Expectation
	chains map[string]*chain

	mu       sync.Mutex
	tally    tally
	ignored  int64
	problems []string
	trouble  int64 // problems, told or not
}

// chain is what the blobs' names and metadata say of one partition.
type chain struct {
	blobs, bytes, repeated int64
	covered                ranges // sequence numbers that a blob holds
	skipped                ranges // sequence numbers that a blob says were not there to be stored
}

// tally is what reading the records found.
type tally struct{ messages, repeated, altered int64 }

// read lists the folder's blobs and reads each of them.
func (a *audit) read(ctx context.Context, folder string) error {
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(runtime.GOMAXPROCS(0))
	prefix := record.EventHubFolder(folder)
	for blob, err := range a.store.List(ctx, prefix) {
		if err != nil {
			// A reader's failure ends the list too, and says more.
			return cmp.Or(readers.Wait(), fmt.Errorf("list blobs: %w", err))
		}
		name, err := record.ParseEventHubName(blob.Name)
		// A folder within this one is another audit's: behind the prefix come year, month, day and file.
		if err != nil || strings.Count(blob.Name[len(prefix):], "/") != 3 {
			a.mu.Lock()
			a.ignored++
			a.mu.Unlock()
			continue
		}
		span, ok := a.follow(blob, name)
		if !ok {
			continue
		}
		readers.Go(func() error { return a.readBlob(ctx, blob.Name, name.Partition, span) })
	}
	return readers.Wait()
}

// follow adds a blob to its partition's chain by what its name and metadata say; false means that they
// contradict each other and the blob can't be judged further.
func (a *audit) follow(blob store.Blob, name record.EventHubBlob) (record.Span, bool) {
	c := a.chain(name.Partition)
	c.blobs++
	c.bytes += blob.Size
	span, err := record.ParseSpan(blob.Metadata)
	if err != nil {
		a.problem("blob %s: %v", blob.Name, err)
		return span, false
	}
	if span.First != name.First {
		a.problem("blob %s: its metadata say that it begins at %d", blob.Name, span.First)
		return span, false
	}
	if span.Bytes != blob.Size {
		a.problem("blob %s: it has %d bytes, its metadata say %d", blob.Name, blob.Size, span.Bytes)
	}
	if repeated := c.covered.add(span.First, span.Last); repeated > 0 {
		c.repeated += repeated
		a.problem("blob %s: %d of its sequence numbers %d to %d are in another blob", blob.Name, repeated, span.First, span.Last)
	}
	c.skipped.add(span.After+1, span.First-1)
	return span, true
}

// readBlob reads one blob's records and compares them with its metadata and with what was sent.
func (a *audit) readBlob(ctx context.Context, name, partition string, span record.Span) error {
	content, err := a.store.Open(ctx, name)
	if err != nil {
		return fmt.Errorf("open blob %s: %w", name, err)
	}
	defer content.Close()

	var t tally
	defer a.add(&t)
	records := record.NewReader(content, MaxRecord)
	for {
		m, err := records.Next()
		if err == io.EOF {
			break
		}
		if corrupt := new(record.CorruptError); errors.As(err, &corrupt) {
			a.problem("blob %s: %v", name, err)
			t.messages++
			t.altered++
			continue
		}
		if err != nil {
			return fmt.Errorf("read blob %s: %w", name, err)
		}
		// Records written without metadata have no sequence number to compare.
		if at := span.First + t.messages; !m.EnqueuedTime.IsZero() && (m.SequenceNumber != at || m.Partition != partition) {
			a.problem("blob %s: record %d is number %d of partition %q, expected number %d of partition %q",
				name, t.messages, m.SequenceNumber, m.Partition, at, partition)
		}
		t.messages++
		a.judge(&t, m, name)
	}
	if t.messages != span.Count {
		a.problem("blob %s: it holds %d records, its metadata say %d", name, t.messages, span.Count)
	}
	return nil
}

func (a *audit) add(t *tally) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tally.messages += t.messages
	a.tally.repeated += t.repeated
	a.tally.altered += t.altered
}

func (a *audit) judge(t *tally, m *message.Message, name string) {
	if a.expect.Contents == nil {
		return
	}
	switch a.expect.Contents.Check(m) {
	case Repeated:
		t.repeated++
		a.problem("blob %s: record %d holds a message that another record holds too", name, t.messages-1)
	case Altered:
		t.altered++
		a.problem("blob %s: record %d is not as it was sent", name, t.messages-1)
	}
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

func (a *audit) problem(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.trouble++; len(a.problems) < MaxProblems {
		a.problems = append(a.problems, fmt.Sprintf(format, args...))
	}
}

// report sums up, once all reading has ended.
func (a *audit) report() Report {
	r := Report{
		Messages:   a.tally.messages,
		Altered:    a.tally.altered,
		Ignored:    a.ignored,
		Partitions: make([]Partition, 0, len(a.chains)),
	}
	var repeated, unstored int64
	for id, c := range a.chains {
		p := a.close(id, c)
		r.Blobs += p.Blobs
		r.Bytes += p.Bytes
		r.Gaps += int64(len(p.Gaps))
		r.LostToRetention += ranges(p.LostToRetention).count()
		repeated += p.Duplicates
		unstored += ranges(p.Gaps).count()
		r.Partitions = append(r.Partitions, p)
	}
	slices.SortFunc(r.Partitions, func(a, b Partition) int { return compareIDs(a.Partition, b.Partition) })
	r.Duplicates = max(repeated, a.tally.repeated)
	if r.Missing = unstored; a.expect.Contents != nil {
		r.Missing = a.expect.Contents.Missing()
	}
	r.Problems = a.problems
	r.Complete = a.trouble == 0 && r.Gaps+r.Duplicates+r.Missing+r.Altered+r.LostToRetention == 0
	return r
}

// close compares a chain with the numbers that its partition should have, or else with its own extent.
func (a *audit) close(id string, c *chain) Partition {
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
