package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/pull"
	"persistor/internal/record"
)

// journal is the blob to which this process appends the events of one folder and day, or minute. It is named by its first
// event and taken for as long as it doesn't exist, so that no other process appends to it.
//
// An event that comes again is known by its key: those of this process, and those that the blobs' metadata tell, which
// are read once, when the journal is begun. So what is repeated, and is in the record twice, is an event that comes again
// to another process which has begun the same day before, or one that a process had stored long before it was killed.
type journal struct {
	turn  chan struct{} // who has the token may use the rest
	begun bool          // seen has what others have stored

	name   string // of the blob; "" for none yet
	first  record.Event
	recent []record.EventKey

	seen  map[record.EventKey]bool
	order []record.EventKey // of seen, the oldest first
}

const (
	// maxJournals bounds how many journals are open; Event Grid delivers the events of a few days, at most.
	maxJournals = 64
	// maxSeen bounds how many events a journal knows.
	maxSeen = 1 << 14
)

// join appends events to the journals of their folders and days.
func (g *Grid) join(ctx context.Context, run string, events []event) error {
	groups := map[string][]event{}
	for _, e := range events {
		prefix := record.EventDay(e.folder, e.at)
		if g.Append == pull.ByMinute {
			prefix = record.EventMinute(e.folder, e.at)
		}
		groups[prefix] = append(groups[prefix], e)
	}
	var all errgroup.Group
	all.SetLimit(eventsAtOnce)
	for prefix, events := range groups {
		all.Go(func() error {
			j := g.journal(prefix)
			select {
			case j.turn <- struct{}{}:
				defer func() { <-j.turn }()
			case <-ctx.Done():
				return fmt.Errorf("store %d events: those before are not stored yet: %w", len(events), ctx.Err())
			}
			return persevere(ctx, func(ctx context.Context) error { return g.append(ctx, run, prefix, j, events) })
		})
	}
	return all.Wait()
}

// journal finds a journal, or begins one.
func (g *Grid) journal(prefix string) *journal {
	g.mu.Lock()
	defer g.mu.Unlock()
	j := g.journals[prefix]
	if j == nil {
		if len(g.journals) >= maxJournals {
			clear(g.journals) // their blobs end here
		}
		j = &journal{turn: make(chan struct{}, 1), seen: map[record.EventKey]bool{}}
		g.journals[prefix] = j
	}
	return j
}

// append stores those events that are not known to be stored.
func (g *Grid) append(ctx context.Context, run, prefix string, j *journal, events []event) error {
	if !j.begun {
		for blob, err := range g.Sink.List(ctx, prefix) {
			if err != nil {
				return fmt.Errorf("look for events that are stored: %w", err)
			}
			j.learn(blob)
		}
		j.begun = true
	}
	for {
		batch, body := g.batch(j, events)
		if len(batch) == 0 {
			return nil
		}
		err := g.extend(ctx, run, j, batch, body)
		if errors.Is(err, pull.ErrForeign) { // it has the name of the first
			if err = g.store(ctx, run, batch[0]); err == nil {
				j.see(batch[0].key())
			}
		}
		if err != nil {
			return err
		}
	}
}

// batch is as many of the events as are stored at once: each once, and none that is known to be stored.
func (g *Grid) batch(j *journal, events []event) (batch []*event, body []byte) {
	var keys []record.EventKey
	for n := range events {
		e := &events[n]
		key := e.key()
		if j.seen[key] || slices.Contains(keys, key) {
			continue
		}
		size := len(body)
		body = g.Format.Append(body, &e.message)
		if len(batch) > 0 && (len(batch) >= min(record.MaxRecent, g.Limits.Count) || len(body) > min(g.Limits.Bytes, g.MaxAppend)) {
			return batch, body[:size]
		}
		batch, keys = append(batch, e), append(keys, key)
	}
	return batch, body
}

// extend appends a batch to the journal's blob, or begins a blob with it, or finds out what is there instead.
func (g *Grid) extend(ctx context.Context, run string, j *journal, batch []*event, body []byte) error {
	first := batch[0]
	if j.name == "" || j.first.Bytes >= g.AppendBytes {
		j.name = record.EventName(first.folder, first.source, first.id, first.at)
		j.first, j.recent = record.Event{Source: first.source, ID: first.id, Content: first.content}, nil
	}
	keys := make([]record.EventKey, 0, len(batch))
	for _, e := range batch {
		keys = append(keys, e.key())
	}
	next := j.first
	next.Count, next.Bytes, next.Run = j.first.Count+int64(len(batch)), j.first.Bytes+int64(len(body)), run
	next.Recent = append(slices.Clone(j.recent), keys...)
	next.Recent = next.Recent[max(0, len(next.Recent)-record.MaxRecent):]
	began := time.Now()
	held, err := g.Sink.Append(ctx, j.name, j.first.Bytes, body, next.Metadata())
	g.stored(ctx, began, len(batch), len(body), held, err)
	switch {
	case j.first.Bytes > 0 && errors.Is(err, pull.ErrGone):
		j.name = "" // a new blob is begun
		return nil
	case err != nil:
		j.begun = false // it may be stored: what there is tells
		if j.first.Bytes == 0 {
			j.name = "" // and is another event's, next time
		}
		return fmt.Errorf("store %d events from %.80q of %.80q on: %w", len(batch), first.id, first.source, err)
	case held != nil:
		return g.meet(ctx, j, first, held)
	}
	j.first, j.recent = next, next.Recent
	for _, key := range keys {
		j.see(key)
	}
	return nil
}

// meet goes on with what is there where a batch was to be appended: a blob that another process began with the same
// event; or, after an answer that got lost, the batch itself; or a blob that takes no more.
func (g *Grid) meet(ctx context.Context, j *journal, first *event, held map[string]string) error {
	name, at := j.name, j.first.Bytes
	j.name = "" // whatever it is, a new blob is begun
	there, err := record.ParseEvent(held)
	if at == 0 {
		there, err = g.compare(ctx, first, name, held)
	}
	if err != nil {
		return fmt.Errorf("store event %.80q of %.80q: %w", first.id, first.source, err)
	}
	if at == 0 {
		j.see(first.key())
	}
	for _, key := range there.Recent {
		j.see(key)
	}
	return nil
}

// learn takes in which events a blob holds, as far as its name and its metadata tell.
func (j *journal) learn(blob pull.Blob) {
	e, err := record.ParseEvent(blob.Metadata)
	if err != nil {
		return // a name alone tells nothing
	}
	if key, ok := record.EventKeyOfName(blob.Name); ok {
		j.see(key)
	}
	for _, key := range e.Recent {
		j.see(key)
	}
}

// see takes in that an event is stored.
func (j *journal) see(key record.EventKey) {
	if j.seen[key] {
		return
	}
	if len(j.order) >= maxSeen {
		delete(j.seen, j.order[0])
		j.order = j.order[1:]
	}
	j.seen[key] = true
	j.order = append(j.order, key)
}

// key tells the event apart.
func (e *event) key() record.EventKey { return record.EventKeyOf(record.EventDigest(e.source, e.id)) }
