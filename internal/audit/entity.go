package audit

import (
	"fmt"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// Entity is what is stored of one queue, subscription or dead-letter queue of Service Bus. From and To are
// the lowest and the highest sequence number stored, both -1 where there is none.
//
// An entity that is deleted and created again under its name counts from 1 again. Its numbers then look
// repeated, and rightly: nothing stored tells which of two messages was meant to have a number.
type Entity struct {
	Entity   string `json:"entity"`
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Messages int64  `json:"messages"` // different sequence numbers
	Blobs    int64  `json:"blobs"`
	Bytes    int64  `json:"bytes"`
	Sessions int64  `json:"sessions,omitempty"`
	// Unfollowed counts blobs whose numbers, or whose session's order, were not compared with those before, since
	// there are too many to be held.
	Unfollowed int64 `json:"unfollowed_blobs,omitempty"`
	Unsettled  int64 `json:"unsettled_blobs,omitempty"`
	Duplicates int64 `json:"duplicates"`
	OutOfOrder int64 `json:"out_of_order"`
	// Gaps are expected and in no blob, Repeated in more than one; of these, Declared are known to their
	// records as delivered before.
	Gaps     []work.Range `json:"gaps,omitempty"`
	Repeated []work.Range `json:"repeated,omitempty"`
	Declared []work.Range `json:"declared,omitempty"`
}

// entity is what the blobs' names and metadata say of one entity.
type entity struct {
	blobs, bytes, unsettled int64
	repeated, outOfOrder    int64
	covered                 numbers // sequence numbers that a blob holds
	twice                   numbers // those that another blob holds, too
	sessions                sessions
	unfollowed              int64 // blobs

	redelivered numbers // those whose record says that it was delivered before; under the audit's mu
}

// entity returns what is known of an entity, nothing for one not seen before; nil if there are too many.
func (a *audit) entity(path string) *entity {
	e := a.entities[path]
	if e == nil && a.container.subject("entity "+path+" of folder "+a.prefix) {
		room := &a.container.pages
		e = &entity{covered: numbers{room: room}, twice: numbers{room: room}}
		a.entities[path] = e
	}
	return e
}

// followQueue adds a blob of competing receivers to its entity; nil means that its name and metadata
// contradict each other.
func (a *audit) followQueue(blob store.Blob, name record.QueueBlob) promise {
	h, err := record.ParseHolding(blob.Metadata)
	switch {
	case err != nil:
		a.problem("blob %s: %v", blob.Name, err)
		return nil
	case h.Session != nil:
		a.problem("blob %s: its metadata say that it belongs to session %q", blob.Name, *h.Session)
		return nil
	case h.Begun == 0 && (h.Held.First() != name.First || h.Held.Last() != name.Last),
		!h.Held.Contains(name.First) || !h.Held.Contains(name.Last):
		a.problem("blob %s: its metadata say that it holds %d to %d", blob.Name, h.Held.First(), h.Held.Last())
		return nil
	case !h.Earliest.Truncate(24 * time.Hour).Equal(name.Day):
		a.problem("blob %s: its metadata say that it is of %s", blob.Name, h.Earliest.Format(time.DateOnly))
		return nil
	}
	return a.hold(blob, h, name.Minute)
}

// followSession is followQueue for a blob of a session.
func (a *audit) followSession(blob store.Blob, name record.SessionBlob) promise {
	h, err := record.ParseHolding(blob.Metadata)
	switch {
	case err != nil:
		a.problem("blob %s: %v", blob.Name, err)
		return nil
	case h.Session == nil:
		a.problem("blob %s: its metadata say that it belongs to no session", blob.Name)
		return nil
	case h.Held.First() != name.First:
		a.problem("blob %s: its metadata say that it begins at %d", blob.Name, h.Held.First())
		return nil
	case a.prefix+named(record.SessionName("", *h.Session, h.Earliest, name.First), name.Minute) != blob.Name:
		a.problem("blob %s: its metadata say that it is of session %q and of %s", blob.Name, *h.Session, h.Earliest.Format(time.DateOnly))
		return nil
	}
	if e := a.entity(h.Entity); e != nil {
		a.followOrder(blob.Name, e, h)
	}
	return a.hold(blob, h, name.Minute)
}

// followOrder compares a blob with those of its session before it, which are listed before it.
func (a *audit) followOrder(name string, e *entity, h record.Holding) {
	last, known := e.sessions.last(*h.Session)
	switch {
	case !known: // it may begin anywhere
	case h.Held.First() <= last:
		e.outOfOrder++
		a.problem("blob %s: it holds number %d of session %q, and a blob before it number %d", name, h.Held.First(), *h.Session, last)
	case h.After > last:
		a.problem("blob %s: it follows on from number %d of session %q, and the blob before it ends at %d", name, h.After, *h.Session, last)
	}
	if !e.sessions.set(*h.Session, max(last, h.Held.Last())) {
		a.unfollow(e, "the order of its sessions", "sessions", maxSessions)
	}
}

// unfollow counts a blob that there is no room for, and tells of the first.
func (a *audit) unfollow(e *entity, what, of string, limit int) {
	if e.unfollowed++; e.unfollowed == 1 {
		a.problem("%s can't be followed throughout, since there are more than %d %s; verify some days at a time", what, limit, of)
	}
}

// named is the name of a blob of the given minute, if any.
func named(name string, minute time.Time) string {
	if minute.IsZero() {
		return name
	}
	return record.ByMinute(name, minute)
}

// hold adds what a blob holds to its entity.
func (a *audit) hold(blob store.Blob, h record.Holding, minute time.Time) promise {
	e := a.entity(h.Entity)
	if e == nil {
		return nil
	}
	e.blobs++
	e.bytes += blob.Size
	if h.Unsettled {
		e.unsettled++
	}
	if h.Bytes != blob.Size {
		a.problem("blob %s: it has %d bytes, its metadata say %d", blob.Name, blob.Size, h.Bytes)
	}
	if h.Held.Len() > blob.Size {
		return nil // not worth counting
	}
	a.counted += h.Held.Len()
	repeated, followed := e.add(h.Held)
	if !followed {
		a.unfollow(e, "the numbers of "+h.Entity, "pages of numbers with holes", maxPages)
	}
	if repeated > 0 {
		e.repeated += repeated
		a.problem("blob %s: %d of its sequence numbers %d to %d are in another blob", blob.Name, repeated, h.Held.First(), h.Held.Last())
	}
	return &exact{audit: a, entity: e, name: blob.Name, holding: h, minute: minute}
}

// add puts in what a blob holds, and says how many numbers were there already, and whether there was room for all.
func (e *entity) add(held record.Sequences) (repeated int64, followed bool) {
	followed = true
	for n := range held.All() {
		before, ok := e.covered.add(n)
		if before {
			_, ok = e.twice.add(n)
			repeated++
		}
		followed = followed && ok
	}
	return repeated, followed
}

// exact is the promise of a blob of Service Bus: the messages that its metadata list, each once, and those
// of a session in order.
type exact struct {
	audit   *audit
	entity  *entity
	name    string
	holding record.Holding
	minute  time.Time // that the name tells

	seen        record.Sequences
	keys        []record.Key
	redelivered []int64
}

func (x *exact) check(_ int64, m *message.Message) string {
	if m.EnqueuedTime.IsZero() {
		return "" // records written without metadata have nothing to compare
	}
	n, before, session := m.SequenceNumber, x.seen.Last(), x.holding.Session
	switch {
	case !x.holding.Holds(n, m.EnqueuedTime):
		return fmt.Sprintf("is number %d, enqueued at %s, and not in the blob by its metadata", n, m.EnqueuedTime.Format(time.RFC3339Nano))
	case !x.seen.Add(n):
		return fmt.Sprintf("is number %d, as one before it", n)
	}
	x.keys = append(x.keys, record.Key{SequenceNumber: n, Enqueued: m.EnqueuedTime})
	if m.DeliveryCount > 1 {
		x.redelivered = append(x.redelivered, n)
	}
	switch {
	case session == nil:
	case m.SessionID == nil || *m.SessionID != *session:
		return fmt.Sprintf("is not of session %q", *session)
	case n < before:
		return fmt.Sprintf("is number %d, behind number %d of the same session", n, before)
	}
	return notWithin(x.minute, m)
}

func (x *exact) end(n int64) string {
	x.tell()
	if wrong := countOf(n, x.holding.Held.Len()); wrong != "" {
		return wrong
	}
	// The digest in the name of competing receivers' blobs is of all records, or of those that the blob began
	// with, and known if all tell.
	if x.holding.Session != nil || int64(len(x.keys)) != n {
		return ""
	}
	keys := x.keys
	if x.holding.Begun > 0 {
		keys = keys[:x.holding.Begun]
	}
	if x.audit.prefix+named(record.QueueName("", x.holding.Entity, keys), x.minute) != x.name {
		return "its name is not that of the messages in it"
	}
	return ""
}

// tell lets the audit know of messages that had been delivered before.
func (x *exact) tell() {
	x.audit.mu.Lock()
	defer x.audit.mu.Unlock()
	for _, n := range x.redelivered {
		x.entity.redelivered.add(n)
	}
}

// closeEntity compares what is stored of an entity with the numbers that should be.
func (a *audit) closeEntity(path string, e *entity) Entity {
	covered, twice := e.covered.ranges(), e.twice.ranges()
	s := Entity{
		Entity: path, From: -1, To: -1, Messages: e.covered.count, Blobs: e.blobs, Bytes: e.bytes,
		Sessions: e.sessions.count(), Unfollowed: e.unfollowed, Unsettled: e.unsettled, Duplicates: e.repeated, OutOfOrder: e.outOfOrder,
		Repeated: twice, Declared: twice.minus(twice.minus(e.redelivered.ranges())),
	}
	if n := len(covered); n > 0 {
		s.From, s.To = covered[0].From, covered[n-1].To
	}
	if a.expect.Entities == nil {
		return s
	}
	should, known := a.expect.Entities[path]
	if !known {
		a.problem("entity %s: it is stored, but none of this name was to be expected", path)
		return s
	}
	var expected ranges
	for first, last := range should.Runs() {
		expected = expected.append(work.Range{From: first, To: last})
	}
	s.Gaps = expected.minus(covered)
	for _, r := range covered.minus(expected) {
		a.problem("entity %s: numbers %d to %d are stored, but were not to be expected", path, r.From, r.To)
	}
	return s
}
