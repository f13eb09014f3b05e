package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// Scope is what of a container is looked at, and how closely. The zero value is everything, by names and metadata
// alone.
type Scope struct {
	// Folder is the main folder, as STORE_PARAM has it; what was stored below _failed/ in its stead belongs to
	// it. With nil, each main folder that there is is judged by itself.
	Folder *string
	// From and Until are the first and the last UTC day, by the dates in names; zero: no limit. Blobs of no day
	// are left out where there is one.
	From, Until time.Time
	// Partitions are the ids of the only partitions to look at, of Event Hubs then alone; none: everything.
	Partitions []string
	// Deep reads contents, too.
	Deep bool
	// Listed, if it isn't nil, is told now and then, by one goroutine, how many blobs have been listed.
	Listed func(blobs int64)
}

// Summary is what an audit of a container found, over all folders. Its counts are those of the reports together.
type Summary struct {
	// Complete says that everything is as it should be, in each folder; Finished that all of it was looked at.
	Complete bool `json:"complete"`
	Finished bool `json:"finished"`
	// Deep says that contents were read, and not names and metadata alone.
	Deep            bool  `json:"deep"`
	Messages        int64 `json:"messages"`
	Blobs           int64 `json:"blobs"`
	Bytes           int64 `json:"bytes"`
	Gaps            int64 `json:"gaps"`
	Duplicates      int64 `json:"duplicates"`
	Missing         int64 `json:"missing"`
	Altered         int64 `json:"altered"`
	LostToRetention int64 `json:"lost_to_retention"`
	OutOfOrder      int64 `json:"out_of_order"`
	// Apart counts messages in blobs below _failed/. They are stored, though not in their place.
	Apart int64 `json:"apart"`
	// Backlog counts what an Event Hub that was compared with has, and is still to be stored.
	Backlog int64 `json:"backlog,omitempty"`
	// Ignored counts blobs whose names are not Persistor's; LeftOut those outside of the scope.
	Ignored int64 `json:"ignored"`
	LeftOut int64 `json:"left_out,omitempty"`
	// Folders are in order of their names, those below _failed/ behind all others.
	Folders []Report `json:"folders"`
	// Problems are those of no one folder: at most [MaxProblems].
	Problems       []string `json:"problems,omitempty"`
	ElapsedSeconds float64  `json:"elapsed_seconds"`
}

const (
	// failedFolder is where blobs are that could not be stored in their place (package push).
	failedFolder = "_failed/"
	// runsFolder and replaysFolder are where runs and replays are kept account of. They hold no messages.
	runsFolder    = "_runs/"
	replaysFolder = "_replays/"
	// leastReaders is how many blobs are read at once, at least: storage far away takes its time for each.
	leastReaders = 8
	// listedEvery is how many blobs lie between two calls of Scope.Listed.
	listedEvery = 1000
)

// maxSubjects bounds how many folders, partitions, hubs and entities an audit tells apart, all together. It is a
// variable for tests alone.
var maxSubjects = 1 << 16

// Container audits all folders of a store, or those of the scope, in one list. What is expected is expected of
// scope.Folder, which has to be given then.
//
// It lists blobs in one goroutine, which follows the chains, and reads them, if it does, in some others; it holds one
// record for each of these, and a few numbers for each partition, session and hole. Folders, partitions and sessions
// that are too many to be held are counted, and told as a problem.
//
// What the audit finds is in the summary; an error says that the audit itself could not be finished, and the summary
// is then of what was read until then. A writer that is at work meanwhile may make blobs that are not listed, and then
// others behind them that are: what is missing for that reason isn't there the next time.
func Container(ctx context.Context, s Store, scope Scope, expect Expectation) (Summary, error) {
	started := time.Now()
	c := newContainer(s, scope, expect)
	if scope.Folder != nil {
		c.own = record.EventHubFolder(*scope.Folder)
		c.wanted = map[string]bool{c.own: true, record.EventHubFolder(failedFolder + *scope.Folder): true}
		c.folder(c.own)
	}
	err := c.read(ctx)
	if err == nil {
		err = c.refresh(ctx)
	}
	summary := c.summary(err == nil)
	summary.ElapsedSeconds = time.Since(started).Seconds()
	if err != nil {
		return summary, fmt.Errorf("audit: %w", err)
	}
	return summary, nil
}

// container is one run. The goroutine that lists owns it; the rest is shared, under mu.
type container struct {
	store  Store
	scope  Scope
	expect Expectation
	own    string          // the folder that expect is of, as a prefix
	wanted map[string]bool // folders to look at, as prefixes; nil: all

	folders  map[string]*audit // by the prefix of their names
	subjects int
	pages    int // see numbers.room
	listed   int64
	ignored  int64
	leftOut  int64

	mu       sync.Mutex
	problems []string
	trouble  int64 // problems, told or not
}

func newContainer(s Store, scope Scope, expect Expectation) *container {
	return &container{store: s, scope: scope, expect: expect, folders: make(map[string]*audit), subjects: maxSubjects, pages: maxPages}
}

// folder returns what is known of a folder, by its prefix, nothing for one not seen before; nil if there are too many.
func (c *container) folder(prefix string) *audit {
	a := c.folders[prefix]
	if a == nil && c.subject("folder "+prefix) {
		a = newAudit(c, prefix)
		c.folders[prefix] = a
	}
	return a
}

// subject reports whether there is room for one more thing to be told apart.
func (c *container) subject(what string) bool {
	if c.subjects--; c.subjects >= 0 {
		return true
	}
	c.problem("%s: not looked at, since there are more than %d folders, partitions and entities; verify folders one by one", what, maxSubjects)
	return false
}

// read lists the blobs and reads each of them, as far as the scope has it.
func (c *container) read(ctx context.Context) error {
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(max(leastReaders, runtime.GOMAXPROCS(0)))
	for _, prefix := range c.prefixes() {
		for blob, err := range c.store.List(ctx, prefix) {
			if err != nil && blob.Name == "" {
				// A reader's failure ends the list too, and says more.
				return cmp.Or(readers.Wait(), fmt.Errorf("list blobs: %w", err))
			}
			if c.listed++; c.scope.Listed != nil && c.listed%listedEvery == 0 {
				c.scope.Listed(c.listed)
			}
			if err != nil {
				c.problem("%v", err)
				continue
			}
			if a, p := c.follow(blob); p != nil && c.scope.Deep {
				readers.Go(func() error { return a.readBlob(ctx, blob, p) })
			}
		}
	}
	return readers.Wait()
}

// prefixes are what the names begin with that have to be listed.
func (c *container) prefixes() []string {
	if c.wanted == nil || c.wanted[""] {
		return []string{""}
	}
	var all []string
	for _, prefix := range slices.Sorted(maps.Keys(c.wanted)) {
		all = append(all, prefix+c.scope.days())
	}
	return all
}

// days is what the dates have in common that names of the scope's days begin with behind the folder.
func (s Scope) days() string {
	if s.From.IsZero() || s.Until.IsZero() {
		return ""
	}
	const layout = "2006/01/02/"
	from, until := s.From.UTC().Format(layout), s.Until.UTC().Format(layout)
	n := 0
	for n < min(len(from), len(until)) && from[n] == until[n] {
		n++
	}
	return from[:n]
}

// has reports whether a day is within the scope.
func (s Scope) has(day time.Time) bool {
	const whole = 24 * time.Hour
	switch {
	case s.From.IsZero() && s.Until.IsZero():
		return true
	case day.IsZero():
		return false
	}
	return !day.Before(s.From.UTC().Truncate(whole)) && (s.Until.IsZero() || !day.After(s.Until.UTC().Truncate(whole)))
}

func (s Scope) looksAt(partition string) bool {
	return len(s.Partitions) == 0 || slices.Contains(s.Partitions, partition)
}

// follow adds a blob to what it belongs to, by what its name and metadata say. A nil promise means that there is
// nothing in it to be compared: it is none of Persistor's, or it is outside of the scope, or its name and metadata
// contradict each other.
func (c *container) follow(blob store.Blob) (*audit, promise) {
	if strings.HasPrefix(blob.Name, runsFolder) || strings.HasPrefix(blob.Name, replaysFolder) {
		return nil, nil
	}
	if name, err := record.ParseEventHubName(blob.Name); err == nil {
		if a := c.within(blob.Name, 4, name.Day, &name.Partition); a != nil {
			return a, a.followChain(blob, name)
		}
		return nil, nil
	}
	if name, err := record.ParseQueueName(blob.Name); err == nil {
		if a := c.within(blob.Name, 4, name.Day, nil); a != nil {
			return a, a.followQueue(blob, name)
		}
		return nil, nil
	}
	if name, err := record.ParseSessionName(blob.Name); err == nil {
		if a := c.within(blob.Name, 5, name.Day, nil); a != nil {
			return a, a.followSession(blob, name)
		}
		return nil, nil
	}
	return c.followEvents(blob)
}

// followEvents is follow for Event Grid, and for what could not be told to be of anything.
func (c *container) followEvents(blob store.Blob) (*audit, promise) {
	if name, err := record.ParseEventName(blob.Name); err == nil {
		segments := 4
		if name.At.IsZero() {
			segments = 2
		}
		if a := c.within(blob.Name, segments, name.At.Truncate(24*time.Hour), nil); a != nil {
			return a, a.followEvent(blob, name)
		}
		return nil, nil
	}
	if isUnidentified(blob.Name) {
		if a := c.within(blob.Name, 2, time.Time{}, nil); a != nil {
			return a, a.followUnidentified(blob)
		}
		return nil, nil
	}
	c.ignored++
	return nil, nil
}

// within returns the folder of a blob, whose name has so many segments behind it; nil if it is not to be looked at.
func (c *container) within(name string, segments int, day time.Time, partition *string) *audit {
	end := len(name)
	for range segments {
		end = max(strings.LastIndexByte(name[:end], '/'), 0)
	}
	prefix := ""
	if end > 0 {
		prefix = name[:end+1]
	}
	if c.wanted != nil && !c.wanted[prefix] {
		c.ignored++ // a folder within this one is another audit's
		return nil
	}
	if !c.scope.has(day) || len(c.scope.Partitions) > 0 && (partition == nil || !c.scope.looksAt(*partition)) {
		c.leftOut++
		return nil
	}
	return c.folder(prefix)
}

func (c *container) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble++; len(c.problems) < MaxProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

// summary sums up, once all reading has ended.
func (c *container) summary(finished bool) Summary {
	s := Summary{Finished: finished, Deep: c.scope.Deep, Ignored: c.ignored, LeftOut: c.leftOut, Folders: make([]Report, 0, len(c.folders))}
	for prefix, a := range c.folders {
		if !a.failed {
			a.apart = c.folders[failedFolder+prefix]
		}
		s.Folders = append(s.Folders, a.report())
	}
	slices.SortFunc(s.Folders, func(a, b Report) int {
		if a.Failed == b.Failed {
			return cmp.Compare(a.Folder, b.Folder)
		}
		if b.Failed {
			return -1
		}
		return 1
	})
	s.Complete = finished
	for _, r := range s.Folders {
		s.add(r)
	}
	if s.Blobs == 0 && c.expect.Partitions == nil && c.expect.Entities == nil {
		c.problem("there is no blob of Persistor's where it was looked for")
	}
	for _, partition := range c.scope.Partitions {
		if !c.knows(partition) {
			c.problem("partition %s: nothing of it is stored where it was looked for", partition)
		}
	}
	s.Complete = s.Complete && c.trouble == 0
	s.Problems = c.problems
	return s
}

// knows reports whether a partition is in any folder, or was to be expected.
func (c *container) knows(partition string) bool {
	for _, a := range c.folders {
		for key := range a.chains {
			if key.partition == partition {
				return true
			}
		}
	}
	return false
}

// Cut leaves at most limit ranges of a kind for each partition and entity, for whoever prints them. Counts stay.
func (s *Summary) Cut(limit int) {
	for _, r := range s.Folders {
		for i := range r.Partitions {
			p := &r.Partitions[i]
			cutRanges(limit, &p.Covered, &p.Gaps, &p.LostToRetention, &p.Apart)
		}
		for i := range r.Entities {
			e := &r.Entities[i]
			cutRanges(limit, &e.Gaps, &e.Repeated, &e.Declared)
		}
	}
}

func cutRanges(limit int, lists ...*[]work.Range) {
	for _, list := range lists {
		*list = (*list)[:min(len(*list), limit)]
	}
}

func (s *Summary) add(r Report) {
	s.Complete = s.Complete && r.Complete
	s.Messages += r.Messages
	s.Blobs += r.Blobs
	s.Bytes += r.Bytes
	s.Gaps += r.Gaps
	s.Duplicates += r.Duplicates
	s.Missing += r.Missing
	s.Altered += r.Altered
	s.LostToRetention += r.LostToRetention
	s.OutOfOrder += r.OutOfOrder
	s.Backlog += r.Backlog
	if r.Failed {
		s.Apart += r.Messages
	}
}
