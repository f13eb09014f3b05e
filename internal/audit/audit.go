// Package audit proves that a folder of blobs holds what it should: per partition of an Event Hub a
// complete chain, with no gap and nothing twice; per queue or subscription of Service Bus every sequence
// number expected, none twice, and sessions in order; and in the blobs the very messages that were sent.
//
// It trusts nothing that it can check: a blob's name against its metadata, the metadata against the
// records inside, both against what the source says of itself, the records against what was published.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

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

// Expectation is what a folder should hold. The zero value asks for readable records: of an Event Hub in
// unbroken chains, each from wherever it begins to wherever it ends, of Service Bus none twice and each
// session in order. Which service a blob is of, its name tells.
type Expectation struct {
	// Partitions are the sequence numbers that the hub has in each partition, by partition id; To < From is
	// an empty partition. All of them should be stored, and nothing above; numbers below them may be: the
	// hub forgets. With nil, each partition is judged from its first blob to its last.
	Partitions map[string]work.Range
	// Hub is the Event Hub that Partitions are of, as record.HubText writes it; chains of others are told apart
	// and judged by themselves. With "", it is whichever the blobs name.
	Hub string
	// Checkpoints are how far each partition is said to be stored, by partition id. With them, what the hub has
	// behind both a partition's checkpoint and its last blob is a backlog, and not missing; with nil, it is
	// missing.
	Checkpoints map[string]int64
	// Late says that draining may have begun somewhere behind the hub's first event. What the hub has before the
	// first blob is then not missing.
	Late bool
	// Refresh, if it isn't nil, is asked for Partitions again when all is listed, since what is sent and stored
	// meanwhile is in order.
	Refresh func(ctx context.Context) (map[string]work.Range, error)
	// Entities are the sequence numbers that should be stored of each queue, subscription or dead-letter
	// queue, by its path: all of them, and no others. With nil, what is stored is judged by itself, and
	// holes in it are nothing wrong: other receivers, or time, may have taken those messages.
	Entities map[string]record.Sequences
	// Contents judges the messages; nil leaves it at counting them.
	Contents Contents
}

// Report is what an audit found in one folder.
type Report struct {
	// Folder is what the names of its blobs begin with, without the slash at its end; Failed says that it is below
	// _failed/, where what could not be stored in its place is. Chains there have holes by their nature.
	Folder string `json:"folder"`
	Failed bool   `json:"failed,omitempty"`
	// Complete says that everything below is as it should be: no gap, nothing twice, missing or altered,
	// out of order or lost to retention, no other problem.
	Complete bool `json:"complete"`
	// Messages counts records read, or, where contents are not read, those that the metadata tell of; Blobs and
	// Bytes what held them.
	Messages int64 `json:"messages"`
	Blobs    int64 `json:"blobs"`
	Bytes    int64 `json:"bytes"`
	// Gaps counts the ranges of sequence numbers that no blob holds and no blob explains, though they were
	// to be expected.
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
	// OutOfOrder counts blobs of sessions that hold numbers below some in a blob before them.
	OutOfOrder int64 `json:"out_of_order,omitempty"`
	// Declared counts sequence numbers of Service Bus that are stored more than once where a record itself
	// says, by its delivery count, that the message had been delivered before. They are in Duplicates all
	// the same.
	Declared int64 `json:"declared_duplicates,omitempty"`
	// Unsettled counts blobs whose messages' completion was never confirmed, and which still say so. Their
	// messages may have come again: they were then completed, not stored. That is nothing wrong.
	Unsettled int64 `json:"unsettled_blobs,omitempty"`
	// Ignored counts files in the folder whose names are not those of its blobs; only [Run] tells.
	Ignored int64 `json:"ignored,omitempty"`
	// Apart counts sequence numbers of an Event Hub that are in no blob of this folder, but in one below _failed/.
	// They are no gaps.
	Apart int64 `json:"apart,omitempty"`
	// Backlog counts what the Event Hub has, and is still to be stored: see [Expectation.Checkpoints].
	Backlog int64 `json:"backlog,omitempty"`
	// Partitions are those of an Event Hub, Entities those of Service Bus: a report usually has one kind,
	// and leaves Partitions out only when it has another. Events are those of Event Grid.
	Partitions []Partition `json:"partitions,omitzero"`
	Entities   []Entity    `json:"entities,omitempty"`
	Events     *Events     `json:"events,omitempty"`
	// Problems tells the first of what was wrong, in words: at most [MaxProblems].
	Problems       []string `json:"problems,omitempty"`
	ElapsedSeconds float64  `json:"elapsed_seconds"`
}

// MaxProblems bounds [Report.Problems]; MaxRecord, in bytes, is the largest record that an audit reads: one
// that fills a blob by itself, since Service Bus has messages of 100 MB.
const (
	MaxProblems = 20
	MaxRecord   = store.MaxBody
)

// Run audits what the store holds under one folder, contents included. Folders within it, and what was stored below
// _failed/, are not looked at. For the rest it is as [Container].
func Run(ctx context.Context, s Store, folder string, expect Expectation) (Report, error) {
	started := time.Now()
	c := newContainer(s, Scope{Deep: true}, expect)
	c.own = record.EventHubFolder(folder)
	c.wanted = map[string]bool{c.own: true}
	a := c.folder(c.own)
	err := c.read(ctx)
	report := a.report()
	report.Ignored = c.ignored
	report.Problems = append(report.Problems, c.problems...)
	report.Complete = report.Complete && c.trouble == 0 && err == nil
	report.ElapsedSeconds = time.Since(started).Seconds()
	if err != nil {
		return report, fmt.Errorf("audit folder %q: %w", folder, err)
	}
	return report, nil
}

// audit is what is known of one folder. The goroutine that lists owns chains, entities and events; the rest is
// shared, under mu.
type audit struct {
	container *container
	prefix    string // of the names of its blobs
	failed    bool   // it is below _failed/
	apart     *audit // the folder below _failed/ in which what should be in this one may be; nil: none
	expect    Expectation
	chains    map[chainKey]*chain
	entities  map[string]*entity
	events    *events
	counted   int64 // messages, by the metadata

	mu       sync.Mutex
	tally    tally
	problems []string
	trouble  int64 // problems, told or not
}

func newAudit(c *container, prefix string) *audit {
	a := &audit{
		container: c, prefix: prefix, failed: strings.HasPrefix(prefix, failedFolder),
		chains: make(map[chainKey]*chain), entities: make(map[string]*entity),
	}
	if prefix != c.own || c.wanted == nil {
		return a
	}
	a.expect = c.expect
	for partition := range a.expect.Partitions {
		if c.scope.looksAt(partition) {
			a.chain(a.expect.Hub, partition)
		}
	}
	for path := range a.expect.Entities {
		a.entity(path)
	}
	return a
}

// tally is what reading the records found.
type tally struct{ messages, repeated, altered int64 }

// A promise is what a blob's name and metadata say of the records in it. It is used by one goroutine.
type promise interface {
	// check says what is wrong with record n, counted from 0, or "".
	check(n int64, m *message.Message) string
	// end says what is wrong with all n records together, or "".
	end(n int64) string
}

// readBlob reads one blob's records and compares them with its metadata and with what was sent. A blob that
// grows may be longer by now than it was listed.
func (a *audit) readBlob(ctx context.Context, blob store.Blob, p promise) error {
	name := blob.Name
	content, err := a.container.store.Open(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		a.problem("blob %s: it was listed, and is gone", name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("open blob %s: %w", name, err)
	}
	defer content.Close()

	var t tally
	defer a.add(&t)
	records := record.NewReader(io.LimitReader(content, blob.Size), MaxRecord)
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
		if wrong := p.check(t.messages, m); wrong != "" {
			a.problem("blob %s: record %d %s", name, t.messages, wrong)
		}
		t.messages++
		a.judge(&t, m, name)
	}
	if wrong := p.end(t.messages); wrong != "" {
		a.problem("blob %s: %s", name, wrong)
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
		declared := ""
		if m.DeliveryCount > 1 {
			declared = fmt.Sprintf(", and says that it was delivered %d times", m.DeliveryCount)
		}
		a.problem("blob %s: record %d holds a message that another record holds too%s", name, t.messages-1, declared)
	case Altered:
		t.altered++
		a.problem("blob %s: record %d is not as it was sent", name, t.messages-1)
	}
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
		Folder: strings.TrimSuffix(a.prefix, "/"), Failed: a.failed,
		Messages: a.counted, Altered: a.tally.altered, Events: a.closeEvents(),
	}
	if a.container.scope.Deep {
		r.Messages = a.tally.messages
	}
	missing := a.addPartitions(&r) + a.addEntities(&r)
	if e := r.Events; e != nil {
		r.Blobs += e.Blobs
		r.Bytes += e.Bytes
		r.Duplicates += e.Duplicates
	}
	r.Duplicates = max(r.Duplicates, a.tally.repeated)
	if r.Missing = missing; a.expect.Contents != nil {
		r.Missing = a.expect.Contents.Missing()
	}
	r.Problems = a.problems
	r.Complete = a.trouble == 0 && r.Gaps+r.Duplicates+r.Missing+r.Altered+r.LostToRetention+r.OutOfOrder == 0
	return r
}

// addPartitions sums up the chains, and says how many sequence numbers are in gaps.
func (a *audit) addPartitions(r *Report) (missing int64) {
	a.joinUnnamed()
	if len(a.chains) > 0 || len(a.entities) == 0 && r.Events == nil {
		r.Partitions = make([]Partition, 0, len(a.chains))
	}
	for key, c := range a.chains {
		p := a.closeChain(key, c)
		r.Blobs += p.Blobs
		r.Bytes += p.Bytes
		r.Gaps += int64(len(p.Gaps))
		r.LostToRetention += ranges(p.LostToRetention).count()
		r.Apart += ranges(p.Apart).count()
		r.Duplicates += p.Duplicates
		if p.Source != nil {
			r.Backlog += p.Source.Backlog
		}
		missing += ranges(p.Gaps).count()
		r.Partitions = append(r.Partitions, p)
	}
	slices.SortFunc(r.Partitions, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Hub, b.Hub), compareIDs(a.Partition, b.Partition))
	})
	return missing
}

// addEntities is addPartitions for Service Bus.
func (a *audit) addEntities(r *Report) (missing int64) {
	for path, e := range a.entities {
		s := a.closeEntity(path, e)
		r.Blobs += s.Blobs
		r.Bytes += s.Bytes
		r.Gaps += int64(len(s.Gaps))
		r.OutOfOrder += s.OutOfOrder
		r.Declared += ranges(s.Declared).count()
		r.Unsettled += s.Unsettled
		r.Duplicates += s.Duplicates
		missing += ranges(s.Gaps).count()
		r.Entities = append(r.Entities, s)
	}
	slices.SortFunc(r.Entities, func(a, b Entity) int { return cmp.Compare(a.Entity, b.Entity) })
	return missing
}
