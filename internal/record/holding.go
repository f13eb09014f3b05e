package record

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Holding is what a blob's metadata say of the messages of a Service Bus entity that it holds. Unlike a
// [Span] it has holes: several receivers share an entity's sequence numbers, and so do sessions.
type Holding struct {
	// Entity is the path of the queue, subscription or dead-letter queue that the messages come from.
	Entity string
	// Session is the id of the session that all of the messages belong to, nil when the entity's receivers
	// compete. The id "" is one like any other.
	Session *string
	// Held are the messages' sequence numbers, one at least.
	Held Sequences
	// Earliest and Latest are the first and the last time at which one of the messages was enqueued, to the
	// millisecond, both on one UTC day.
	Earliest, Latest time.Time
	// After is, in a session, the sequence number of its last message stored before this blob, as far as the
	// writer knew, -1 when there is none.
	After int64
	Bytes int64 // length of the blob
	Run   string
	// Unsettled says that the messages' completion is not confirmed: they may come again. Competing
	// receivers alone say so; what a session holds is known from its blobs' names.
	Unsettled bool
	// Begun is, in a blob of competing receivers that grew, how many messages it began with: those are its
	// first records, and its name is theirs. 0 says that its name is that of all.
	Begun int64
}

// How long, in bytes, an entity's path and a session's id may be as metadata, with their escapes. The
// service's own limits are 260 and 128 characters. Longer ones end with a hash, as in names, so that the
// metadata of a blob are never too large to be stored.
const (
	maxEntity  = 512
	maxSession = 1152
)

// Holds reports whether the blob holds the message with this sequence number that was enqueued at this
// time. A queue that was deleted and created anew counts from 1 again; the time tells its messages from
// those of the old one. Whether the entity is the same is for the caller to say.
func (h Holding) Holds(sequenceNumber int64, enqueued time.Time) bool {
	at := enqueued.UnixMilli()
	return h.Earliest.UnixMilli() <= at && at <= h.Latest.UnixMilli() && h.Held.Contains(sequenceNumber)
}

// Of reports whether the messages come from the entity with this path and, unless session is nil, belong to
// the session with this id. It knows names that were cut by their hash. The case of a path means nothing to
// the service.
func (h Holding) Of(entity string, session *string) bool {
	if !strings.EqualFold(h.Entity, entity) && h.Entity != entityText(entity) {
		return false
	}
	if h.Session == nil || session == nil {
		return h.Session == session
	}
	return *h.Session == *session || *h.Session == sessionText(*session, maxSession)
}

// Metadata is the holding as a blob's metadata, which are never more than a store takes. Entity and
// session are escaped as in names, but for the '/' and '$' of an entity, which stand for themselves.
func (h Holding) Metadata() map[string]string {
	m := map[string]string{"entity": entityText(h.Entity), "held": h.Held.Encode(), "run": h.Run}
	for key, n := range map[string]int64{
		"first": h.Held.First(), "last": h.Held.Last(), "count": h.Held.Len(), "bytes": h.Bytes,
		"enqueued_first": h.Earliest.UnixMilli(), "enqueued_last": h.Latest.UnixMilli(),
	} {
		m[key] = strconv.FormatInt(n, 10)
	}
	if h.Session != nil {
		m["session"] = sessionText(*h.Session, maxSession)
		m["after"] = strconv.FormatInt(h.After, 10)
	}
	if h.Unsettled {
		m["unsettled"] = "true"
	}
	if h.Begun > 0 {
		m["begun"] = strconv.FormatInt(h.Begun, 10)
	}
	return m
}

// ParseHolding reads a holding out of a blob's metadata. Keys match in any case, since HTTP changes
// theirs; others are ignored. It fails, naming the key, on metadata that say what no holding can. An
// entity or a session that was cut is returned as it stands.
func ParseHolding(metadata map[string]string) (Holding, error) {
	h, err := parseHolding(metadata)
	if err == nil {
		err = h.validate()
	}
	if err != nil {
		return Holding{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	return h, nil
}

func parseHolding(metadata map[string]string) (h Holding, err error) {
	if h.Held, err = parseHeld(metadata); err != nil {
		return h, err
	}
	if h.Bytes, err = lookupNumber(metadata, "bytes"); err != nil {
		return h, err
	}
	if h.Earliest, err = lookupTime(metadata, "enqueued_first"); err != nil {
		return h, err
	}
	if h.Latest, err = lookupTime(metadata, "enqueued_last"); err != nil {
		return h, err
	}
	if h.Run, err = lookup(metadata, "run"); err != nil {
		return h, err
	}
	entity, err := lookup(metadata, "entity")
	if err != nil {
		return h, err
	}
	var ok bool
	if h.Entity, ok = uncut(entity, maxEntity, entityText); !ok {
		return h, fmt.Errorf("entity is %.80q, expected a path with ~XX for what is no letter, digit or one of %s", entity, entityPlain)
	}
	if h.Session, err = parseSession(metadata); err != nil {
		return h, err
	}
	if h.After = -1; h.Session != nil {
		if h.After, err = lookupNumber(metadata, "after"); err != nil {
			return h, err
		}
	}
	if _, there, _ := lookupOptional(metadata, "begun"); there {
		if h.Begun, err = lookupNumber(metadata, "begun"); err == nil && (h.Begun < 1 || h.Begun > h.Held.Len()) {
			err = fmt.Errorf("begun is %d, expected 1 to %d, the number of messages", h.Begun, h.Held.Len())
		}
		if err != nil {
			return h, err
		}
	}
	h.Unsettled, err = lookupMark(metadata, "unsettled")
	return h, err
}

// Unsettled reports whether a blob's metadata have the mark that its messages may come again. It is quick,
// and doesn't check anything else.
func Unsettled(metadata map[string]string) bool {
	_, there, _ := lookupOptional(metadata, "unsettled")
	return there
}

// parseHeld reads held, and makes sure that first, last and count say the same.
func parseHeld(metadata map[string]string) (held Sequences, err error) {
	first, err := lookupNumber(metadata, "first")
	if err != nil {
		return held, err
	}
	last, err := lookupNumber(metadata, "last")
	if err != nil {
		return held, err
	}
	count, err := lookupNumber(metadata, "count")
	if err != nil {
		return held, err
	}
	text, err := lookup(metadata, "held")
	if err != nil {
		return held, err
	}
	if held, err = ParseSequences(first, text); err != nil {
		return held, fmt.Errorf("held, from first %d on: %w", first, err)
	}
	switch {
	case held.Last() != last:
		return held, fmt.Errorf("last is %d, but the last number in held is %d", last, held.Last())
	case held.Len() != count:
		return held, fmt.Errorf("count is %d, but held has %d numbers", count, held.Len())
	}
	return held, nil
}

func parseSession(metadata map[string]string) (*string, error) {
	text, there, err := lookupOptional(metadata, "session")
	if err != nil || !there {
		return nil, err
	}
	id, ok := uncut(text, maxSession, func(id string) string { return sessionText(id, maxSession) })
	if !ok {
		return nil, fmt.Errorf("session is %.80q, expected an id with ~XX for what is no letter, digit or one of %s, or ~", text, namePlain)
	}
	return &id, nil
}

func (h Holding) validate() error {
	earliest, latest := h.Earliest.UnixMilli(), h.Latest.UnixMilli()
	switch {
	case latest < earliest || h.Earliest.Truncate(24*time.Hour) != h.Latest.Truncate(24*time.Hour):
		return fmt.Errorf("enqueued_first %d and enqueued_last %d are no two times of one day, in that order", earliest, latest)
	case h.After < -1 || h.After >= h.Held.First():
		return fmt.Errorf("after is %d, expected -1 to %d, one less than first", h.After, h.Held.First()-1)
	case h.Entity == "":
		return errors.New("entity is empty")
	case h.Bytes < h.Held.Len():
		return fmt.Errorf("bytes is %d, too little for %d messages", h.Bytes, h.Held.Len())
	case h.Session != nil && h.Begun > 0:
		return errors.New("begun is there, but so is session: the name of a session's blob is of its first message alone")
	case h.Session != nil && h.Unsettled:
		return errors.New("unsettled is there, but so is session: a session's messages are never marked so")
	}
	return checkRun(h.Run)
}

// entityPlain is what of an entity's path is not escaped, besides letters and digits.
const entityPlain = namePlain + "/$"

func entityText(path string) string { return shorten(escape(path, entityPlain), maxEntity) }

// sessionText writes a session's id for a name or for metadata. No id but the empty one gives "~".
func sessionText(id string, limit int) string {
	if id == "" {
		return "~"
	}
	return shorten(escape(id, namePlain), limit)
}
