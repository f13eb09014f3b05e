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
	"runtime"
	"slices"
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

// Expectation is what a folder should hold. The zero value asks for readable records: of an Event Hub in
// unbroken chains, each from wherever it begins to wherever it ends, of Service Bus none twice and each
// session in order. Which service a blob is of, its name tells.
type Expectation struct {
	// Partitions are the sequence numbers that the hub has in each partition, by partition id; To < From is
	// an empty partition. All of them should be stored, and nothing above; numbers below them may be: the
	// hub forgets. With nil, each partition is judged from its first blob to its last.
	Partitions map[string]work.Range
	// Entities are the sequence numbers that should be stored of each queue, subscription or dead-letter
	// queue, by its path: all of them, and no others. With nil, what is stored is judged by itself, and
	// holes in it are nothing wrong: other receivers, or time, may have taken those messages.
	Entities map[string]record.Sequences
	// Contents judges the messages; nil leaves it at counting them.
	Contents Contents
}

// Report is what an audit found.
type Report struct {
	// Complete says that everything below is as it should be: no gap, nothing twice, missing or altered,
	// out of order or lost to retention, no other problem.
	Complete bool `json:"complete"`
	// Messages counts records read, Blobs and Bytes what held them.
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
	// Ignored counts files in the folder whose names are not those of its blobs.
	Ignored int64 `json:"ignored,omitempty"`
	// Partitions are those of an Event Hub, Entities those of Service Bus: a report usually has one kind,
	// and leaves Partitions out only when it has Entities.
	Partitions []Partition `json:"partitions,omitzero"`
	Entities   []Entity    `json:"entities,omitempty"`
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

// Run audits what the store holds under folder. It lists blobs in one goroutine, which follows the chains,
// and reads them in as many as there are processors; it holds one record for each of these, and a few
// numbers for each partition, each session and each hole.
//
// What the audit finds is in the report; an error says that the audit itself could not be finished, and
// the report is then of what was read until then.
func Run(ctx context.Context, s Store, folder string, expect Expectation) (Report, error) {
	started := time.Now()
	a := &audit{store: s, folder: folder, expect: expect, chains: make(map[string]*chain), entities: make(map[string]*entity)}
	for partition := range expect.Partitions {
		a.chain(partition)
	}
	for path := range expect.Entities {
		a.entity(path)
	}
	err := a.read(ctx)
	report := a.report()
	report.ElapsedSeconds = time.Since(started).Seconds()
	if err != nil {
		report.Complete = false
		return report, fmt.Errorf("audit folder %q: %w", folder, err)
	}
	return report, nil
}

// audit is one run. The goroutine that lists owns chains and entities; the rest is shared, under mu.
type audit struct {
	store    Store
	folder   string
	expect   Expectation
	chains   map[string]*chain
	entities map[string]*entity

	mu       sync.Mutex
	tally    tally
	ignored  int64
	problems []string
	trouble  int64 // problems, told or not
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

// read lists the folder's blobs and reads each of them.
func (a *audit) read(ctx context.Context) error {
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(runtime.GOMAXPROCS(0))
	for blob, err := range a.store.List(ctx, record.EventHubFolder(a.folder)) {
		if err != nil {
			// A reader's failure ends the list too, and says more.
			return cmp.Or(readers.Wait(), fmt.Errorf("list blobs: %w", err))
		}
		if p := a.follow(blob); p != nil {
			readers.Go(func() error { return a.readBlob(ctx, blob, p) })
		}
	}
	return readers.Wait()
}

// follow adds a blob to what it belongs to, by what its name and metadata say; nil means that it is none
// of this folder's, or that they contradict each other and it can't be judged further.
func (a *audit) follow(blob store.Blob) promise {
	// A folder within this one is another audit's: behind the prefix come year, month, day and file, or a
	// session before the file.
	switch strings.Count(blob.Name[len(record.EventHubFolder(a.folder)):], "/") {
	case 3:
		if name, err := record.ParseEventHubName(blob.Name); err == nil {
			return a.followChain(blob, name)
		}
		if name, err := record.ParseQueueName(blob.Name); err == nil {
			return a.followQueue(blob, name)
		}
	case 4:
		if name, err := record.ParseSessionName(blob.Name); err == nil {
			return a.followSession(blob, name)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ignored++
	return nil
}

// readBlob reads one blob's records and compares them with its metadata and with what was sent. A blob that
// grows may be longer by now than it was listed.
func (a *audit) readBlob(ctx context.Context, blob store.Blob, p promise) error {
	name := blob.Name
	content, err := a.store.Open(ctx, name)
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
	r := Report{Messages: a.tally.messages, Altered: a.tally.altered, Ignored: a.ignored}
	if len(a.chains) > 0 || len(a.entities) == 0 {
		r.Partitions = make([]Partition, 0, len(a.chains))
	}
	var repeated, unstored int64
	for id, c := range a.chains {
		p := a.closeChain(id, c)
		r.Blobs += p.Blobs
		r.Bytes += p.Bytes
		r.Gaps += int64(len(p.Gaps))
		r.LostToRetention += ranges(p.LostToRetention).count()
		repeated += p.Duplicates
		unstored += ranges(p.Gaps).count()
		r.Partitions = append(r.Partitions, p)
	}
	for path, e := range a.entities {
		s := a.closeEntity(path, e)
		r.Blobs += s.Blobs
		r.Bytes += s.Bytes
		r.Gaps += int64(len(s.Gaps))
		r.OutOfOrder += s.OutOfOrder
		r.Declared += ranges(s.Declared).count()
		r.Unsettled += s.Unsettled
		repeated += s.Duplicates
		unstored += ranges(s.Gaps).count()
		r.Entities = append(r.Entities, s)
	}
	slices.SortFunc(r.Partitions, func(a, b Partition) int { return compareIDs(a.Partition, b.Partition) })
	slices.SortFunc(r.Entities, func(a, b Entity) int { return cmp.Compare(a.Entity, b.Entity) })
	r.Duplicates = max(repeated, a.tally.repeated)
	if r.Missing = unstored; a.expect.Contents != nil {
		r.Missing = a.expect.Contents.Missing()
	}
	r.Problems = a.problems
	r.Complete = a.trouble == 0 && r.Gaps+r.Duplicates+r.Missing+r.Altered+r.LostToRetention+r.OutOfOrder == 0
	return r
}
