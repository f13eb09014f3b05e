package audit

import (
	"fmt"
	"strings"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
)

// Events is what is stored of Event Grid in a folder, and of what could not be told to be of anything.
type Events struct {
	Messages int64 `json:"messages"` // by the metadata
	Blobs    int64 `json:"blobs"`
	Bytes    int64 `json:"bytes"`
	// Duplicates counts events stored more than once, by their source and id. Contents alone tell.
	Duplicates int64 `json:"duplicates"`
	// Unfollowed counts events that were not compared with the others, since there are too many to be held.
	Unfollowed int64 `json:"unfollowed,omitempty"`
	// Unidentified counts blobs with what doesn't say which event or message it is.
	Unidentified int64 `json:"unidentified,omitempty"`
}

// events is what names and metadata say of Event Grid's blobs.
type events struct {
	Events
	seen map[record.EventKey]struct{} // under the audit's mu
}

// maxEvents bounds the identities that an audit holds for one folder: some 150 MB. It is a variable for tests alone.
var maxEvents = 1 << 23

func (a *audit) event() *events {
	if a.events == nil {
		a.events = &events{seen: make(map[record.EventKey]struct{})}
	}
	return a.events
}

// followEvent adds a blob of Event Grid; nil means that its name and metadata contradict each other.
func (a *audit) followEvent(blob store.Blob, name record.EventBlob) promise {
	e := a.event()
	e.Blobs++
	e.Bytes += blob.Size
	held, err := record.ParseEvent(blob.Metadata)
	if err != nil {
		a.problem("blob %s: %v", blob.Name, err)
		return nil
	}
	if held.Bytes != blob.Size {
		a.problem("blob %s: it has %d bytes, its metadata say %d", blob.Name, blob.Size, held.Bytes)
	}
	if digest, ok := held.Digest(); ok && digest != name.Digest {
		a.problem("blob %s: its metadata say that it is of event %q of %q", blob.Name, held.ID, held.Source)
		return nil
	}
	e.Messages += held.Count
	a.counted += held.Count
	return &identified{audit: a, name: blob.Name, first: name.Digest, count: held.Count}
}

// identified is the promise of a blob of Event Grid: so many events, each of which is nowhere else, the first that
// of the name.
type identified struct {
	audit *audit
	name  string
	first string // digest
	count int64
}

func (i *identified) check(n int64, m *message.Message) string {
	digest, known := digestOfEvent(m)
	switch {
	case n == 0 && known && digest != i.first:
		return "is another event than that of the blob's name"
	case n == 0:
		digest = i.first
	case !known:
		return "" // written without metadata: nobody can tell which it is
	}
	if i.audit.sees(record.EventKeyOf(digest)) {
		return "holds an event that another record holds too"
	}
	return ""
}

func (i *identified) end(n int64) string { return countOf(n, i.count) }

// digestOfEvent identifies an event by its envelope, in Event Grid's schema or in that of CloudEvents.
func digestOfEvent(m *message.Message) (digest string, ok bool) {
	source := "topic"
	if m.Properties["specversion"] != nil {
		source = "source"
	}
	of, hasSource := m.Properties[source].(string)
	id, hasID := m.Properties["id"].(string)
	return record.EventDigest(of, id), hasSource && hasID
}

// sees notes an event, and reports whether it has been seen before.
func (a *audit) sees(key record.EventKey) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, before := a.events.seen[key]; before {
		a.events.Duplicates++
		return true
	}
	if len(a.events.seen) >= maxEvents {
		a.events.Unfollowed++
		return false
	}
	a.events.seen[key] = struct{}{}
	return false
}

// closeEvents is what is known of Event Grid once all reading has ended; nil if there is none.
func (a *audit) closeEvents() *Events {
	if a.events == nil {
		return nil
	}
	if n := a.events.Unfollowed; n > 0 {
		a.problem("%d events were not compared with the others, since there are more than %d; verify some days at a time", n, maxEvents)
	}
	return &a.events.Events
}

// unidentifiedFolder is where, below _failed/ and a main folder, what can't be told to be of anything is (package push).
const unidentifiedFolder = "unidentified"

func isUnidentified(name string) bool {
	segments := strings.Split(name, "/")
	n := len(segments)
	_, digest := record.EventKeyOfName(name)
	return n >= 3 && segments[n-2] == unidentifiedFolder && segments[0]+"/" == failedFolder && digest && !strings.Contains(segments[n-1], "-")
}

// followUnidentified adds a blob with one record of what can't be told to be of anything.
func (a *audit) followUnidentified(blob store.Blob) promise {
	e := a.event()
	e.Blobs++
	e.Bytes += blob.Size
	e.Unidentified++
	e.Messages++
	a.counted++
	if told := blob.Metadata["bytes"]; told != "" && told != fmt.Sprint(blob.Size) {
		a.problem("blob %s: it has %d bytes, its metadata say %.40q", blob.Name, blob.Size, told)
	}
	return single{}
}

// single is the promise of a blob with one record.
type single struct{}

func (single) check(int64, *message.Message) string { return "" }

func (single) end(n int64) string { return countOf(n, 1) }
