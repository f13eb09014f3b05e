package record

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Event is what a blob's metadata say of the Event Grid event that it holds, or, of one that was appended to, of the
// first of its events.
type Event struct {
	// Source and ID identify the event together: its topic or source, and its id there. Read back they are as in the
	// metadata: with escapes as in names, but for '/' and ':', and cut where they are very long.
	Source, ID string
	// Content is a digest of the event as it was delivered, 32 hexadecimal digits.
	Content string
	Count   int64 // events, 1 and up
	Bytes   int64 // length of the blob
	Run     string
	// Recent are the keys of the events last appended, the latest at the end: all of the last batch, and as many
	// before it as there is room for. A blob that is not appended to has none.
	Recent []EventKey
}

// EventKey tells events apart in metadata: the beginning of their digest.
type EventKey uint64

// MaxRecent is how many keys a blob's metadata hold, at most, and with it how many events can be appended at once.
const MaxRecent = 200

// maxEventText is how long a source and an id may be as metadata, in bytes with their escapes: twice the keys, which change
// with every append, have to go with them.
const maxEventText = 512

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
		return EventDay(folder, at) + digest + ".txt"
	}
	return EventMinute(folder, at) + fmt.Sprintf("%02d-%s.txt", at.UTC().Second(), digest)
}

// EventBlob is what the name of a blob of Event Grid says.
type EventBlob struct {
	Folder string    // as given to EventName, without empty segments
	Day    time.Time // midnight UTC of the day of At; zero when no time is known
	At     time.Time // time of the event, to the second; that of the first, where events are appended
	Digest string    // of source and id, 32 hexadecimal digits
}

// ParseEventName reads a name that EventName wrote, and refuses any other. A folder that was cut is returned as it
// stands in the name.
func ParseEventName(name string) (EventBlob, error) {
	b, err := parseEventName(name)
	if err != nil {
		return EventBlob{}, fmt.Errorf("parse blob name %q: %w; expected {folder}/{yyyy}/{mm}/{dd}/{hhmmss}-{digest}.txt, or {folder}/undated/{digest}.txt", name, err)
	}
	return b, nil
}

func parseEventName(name string) (b EventBlob, err error) {
	slash := strings.LastIndexByte(name, '/') + 1
	days, file := name[:slash], name[slash:]
	if folder, ok := strings.CutSuffix(days, undated+"/"); ok {
		b.Digest = strings.TrimSuffix(file, ".txt")
		days = folder
	} else {
		var ok bool
		if days, b.Day, file, ok = cutDate(name, 1); !ok {
			return b, errors.New("no date")
		}
		clock, digest, _ := strings.Cut(strings.TrimSuffix(file, ".txt"), "-")
		at, err := time.Parse("150405", clock)
		if err != nil || len(clock) != len("150405") {
			return b, errors.New("no time of day")
		}
		hour, minute, second := at.Clock()
		b.At = b.Day.Add(time.Duration(hour*3600+minute*60+second) * time.Second)
		b.Digest = digest
	}
	if !isEventDigest(b.Digest) || !strings.HasSuffix(file, ".txt") {
		return b, errors.New("no digest of 32 hexadecimal digits")
	}
	var ok bool
	if b.Folder, ok = parseFolder(days); !ok {
		return b, errors.New("not in canonical form")
	}
	return b, nil
}

// EventDay is what the names of a day's events begin with, those of the zero time where there is none.
func EventDay(folder string, at time.Time) string {
	if at.IsZero() {
		return EventHubFolder(folder) + undated + "/"
	}
	return QueueDay(folder, at)
}

// EventMinute is what the names of a minute's events begin with.
func EventMinute(folder string, at time.Time) string {
	if at.IsZero() {
		return EventDay(folder, at)
	}
	hour, minute, _ := at.UTC().Clock()
	return EventDay(folder, at) + fmt.Sprintf("%02d%02d", hour, minute)
}

// EventDigest tells events apart: 32 hexadecimal digits of a SHA-256 of source and id.
func EventDigest(source, id string) string {
	digest := sha256.Sum256([]byte(source + "\x00" + id))
	return hex.EncodeToString(digest[:16])
}

// EventKeyOf is the key of the event with this digest.
func EventKeyOf(digest string) EventKey {
	key, _ := strconv.ParseUint(digest[:min(16, len(digest))], 16, 64)
	return EventKey(key)
}

// EventKeyOfName is the key of the first event of the blob of this name, if it is one of EventName.
func EventKeyOfName(name string) (EventKey, bool) {
	digest := strings.TrimSuffix(name[strings.LastIndexAny(name, "/-")+1:], ".txt")
	return EventKeyOf(digest), isEventDigest(digest)
}

func isEventDigest(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" }

// Metadata is the event as a blob's metadata, which are never more than a store takes.
func (e Event) Metadata() map[string]string {
	m := map[string]string{
		"source": eventText(e.Source), "id": eventText(e.ID), "content": e.Content,
		"count": strconv.FormatInt(e.Count, 10), "bytes": strconv.FormatInt(e.Bytes, 10), "run": e.Run,
	}
	if len(e.Recent) > 0 {
		var keys []byte
		for _, key := range e.Recent[max(0, len(e.Recent)-MaxRecent):] {
			keys = binary.BigEndian.AppendUint64(keys, uint64(key))
		}
		m["recent"] = base64.RawURLEncoding.EncodeToString(keys)
	}
	return m
}

// ParseEvent reads an event out of a blob's metadata. Keys match in any case; others are ignored.
func ParseEvent(metadata map[string]string) (e Event, err error) {
	for key, into := range map[string]*string{"source": &e.Source, "id": &e.ID, "content": &e.Content, "run": &e.Run} {
		if *into, err = lookup(metadata, key); err != nil {
			return Event{}, fmt.Errorf("parse blob metadata: %w", err)
		}
	}
	if e.Recent, err = parseRecent(metadata); err == nil {
		err = e.parseNumbers(metadata)
	}
	if err == nil && !isEventDigest(e.Content) {
		err = fmt.Errorf("content is %.80q, expected 32 hexadecimal digits", e.Content)
	}
	if err == nil {
		err = checkRun(e.Run)
	}
	if err != nil {
		return Event{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	return e, nil
}

func (e *Event) parseNumbers(metadata map[string]string) (err error) {
	if e.Bytes, err = lookupNumber(metadata, "bytes"); err != nil {
		return err
	}
	if e.Count, err = lookupNumber(metadata, "count"); err != nil {
		return err
	}
	if e.Count < 1 || e.Bytes < e.Count {
		return fmt.Errorf("count is %d and bytes is %d, which no blob has", e.Count, e.Bytes)
	}
	return nil
}

func parseRecent(metadata map[string]string) (recent []EventKey, err error) {
	text, there, err := lookupOptional(metadata, "recent")
	if err != nil || !there {
		return nil, err
	}
	keys, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(keys)%8 != 0 || len(keys) == 0 || len(keys) > 8*MaxRecent {
		return nil, fmt.Errorf("recent is %.40q, expected 1 to %d keys of 8 bytes in base64 for URLs", text, MaxRecent)
	}
	for ; len(keys) > 0; keys = keys[8:] {
		recent = append(recent, EventKey(binary.BigEndian.Uint64(keys)))
	}
	return recent, nil
}

// Of reports whether the blob holds the event with this id of this source.
func (e Event) Of(source, id string) bool {
	return e.Source == eventText(source) && e.ID == eventText(id)
}

func eventText(s string) string { return shorten(escape(s, namePlain+"/:"), maxEventText) }
