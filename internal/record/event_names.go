package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Event is what a blob's metadata say of the Event Grid event that it holds.
type Event struct {
	// Source and ID identify the event together: its topic or source, and its id there. Read back they are as in the
	// metadata: with escapes as in names, but for '/' and ':', and cut where they are very long.
	Source, ID string
	// Content is a digest of the event as it was delivered, 32 hexadecimal digits.
	Content string
	Bytes   int64 // length of the blob
	Run     string
}

// maxEventText is how long a source and an id may be as metadata, in bytes with their escapes.
const maxEventText = 1024

// undated is the folder of events whose time isn't known.
const undated = "undated"

// EventName names the blob of the event with this id of this source, at the time that it says itself:
//
//	{folder}/{yyyy}/{mm}/{dd}/{hhmmss}-{digest}.txt
//
// in UTC, with a digest of source and id in 32 hexadecimal digits. The zero time is that of an event that says none,
// which goes to {folder}/undated/{digest}.txt. Folders are those of EventHubName.
func EventName(folder, source, id string, at time.Time) string {
	digest := EventDigest(source, id)
	if at.IsZero() {
		return EventHubFolder(folder) + undated + "/" + digest + ".txt"
	}
	at = at.UTC()
	hour, minute, second := at.Clock()
	return QueueDay(folder, at) + fmt.Sprintf("%02d%02d%02d-%s.txt", hour, minute, second, digest)
}

// EventDigest tells events apart: 32 hexadecimal digits of a SHA-256 of source and id.
func EventDigest(source, id string) string {
	digest := sha256.Sum256([]byte(source + "\x00" + id))
	return hex.EncodeToString(digest[:16])
}

// Metadata is the event as a blob's metadata, which are never more than a store takes.
func (e Event) Metadata() map[string]string {
	return map[string]string{
		"source": eventText(e.Source), "id": eventText(e.ID), "content": e.Content,
		"count": "1", "bytes": strconv.FormatInt(e.Bytes, 10), "run": e.Run,
	}
}

// ParseEvent reads an event out of a blob's metadata. Keys match in any case; others are ignored.
func ParseEvent(metadata map[string]string) (e Event, err error) {
	for key, into := range map[string]*string{"source": &e.Source, "id": &e.ID, "content": &e.Content, "run": &e.Run} {
		if *into, err = lookup(metadata, key); err != nil {
			return Event{}, fmt.Errorf("parse blob metadata: %w", err)
		}
	}
	if e.Bytes, err = lookupNumber(metadata, "bytes"); err != nil {
		return Event{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	if len(e.Content) != 32 || strings.Trim(e.Content, "0123456789abcdef") != "" {
		return Event{}, fmt.Errorf("parse blob metadata: content is %.80q, expected 32 hexadecimal digits", e.Content)
	}
	if err := checkRun(e.Run); err != nil {
		return Event{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	return e, nil
}

// Of reports whether the blob holds the event with this id of this source.
func (e Event) Of(source, id string) bool {
	return e.Source == eventText(source) && e.ID == eventText(id)
}

func eventText(s string) string { return shorten(escape(s, namePlain+"/:"), maxEventText) }
