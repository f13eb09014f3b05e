package record

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Key is what tells a message of a Service Bus entity from all others that it ever had: sequence numbers
// begin anew in an entity that is deleted and created again.
type Key struct {
	SequenceNumber int64
	Enqueued       time.Time
}

// QueueBlob is what the name of a blob with messages of competing receivers says.
type QueueBlob struct {
	Folder string    // as given to QueueName, without empty segments
	Day    time.Time // midnight UTC of the day on which its messages were enqueued
	First  int64     // lowest sequence number
	Last   int64     // highest sequence number
	Digest string    // of all sequence numbers and times, 16 hexadecimal digits
	Minute time.Time // as in [EventHubBlob]
}

// SessionBlob is what the name of a blob with messages of a session says.
type SessionBlob struct {
	Folder  string    // as given to SessionName, without empty segments
	Session string    // the session's id; its segment in the name, when that was cut
	Day     time.Time // midnight UTC of the day on which its messages were enqueued
	First   int64     // sequence number of the first message
	Minute  time.Time // as in [EventHubBlob]
}

// QueueName names the blob that holds the given messages, one at least and all enqueued on one UTC day,
// of a queue or subscription whose receivers compete:
//
//	{folder}/{yyyy}/{mm}/{dd}/{first}-{last}-{digest}.txt
//
// with the lowest and the highest sequence number in 20 digits. Which other numbers lie between is up to
// who was faster, so a digest of all of them, of the times, and of the entity's path makes the name that of
// this very set of messages, in whatever order. Folders are those of EventHubName.
func QueueName(folder, entity string, messages []Key) string {
	if !slices.IsSortedFunc(messages, Key.compare) {
		messages = slices.Clone(messages)
		slices.SortFunc(messages, Key.compare)
	}
	first, last := messages[0], messages[len(messages)-1]
	return QueueDay(folder, first.Enqueued) +
		fmt.Sprintf("%020d-%020d-%s.txt", first.SequenceNumber, last.SequenceNumber, digest(entity, messages))
}

// QueueDay is what the names of the blobs of one UTC day begin with: those of competing receivers, and
// those of all sessions.
func QueueDay(folder string, day time.Time) string {
	y, m, d := day.UTC().Date()
	return EventHubFolder(folder) + fmt.Sprintf("%04d/%02d/%02d/", y, m, d)
}

// SessionName names the blob that holds messages of one session, all enqueued on the UTC day of enqueued,
// the first of them with sequence number first:
//
//	{folder}/{yyyy}/{mm}/{dd}/{session}/{first}.txt
//
// with first in 20 digits, so that a session's names sort as its messages do. The session's id is escaped
// as a folder's segment is, and the id "" is written as "~".
func SessionName(folder, session string, enqueued time.Time, first int64) string {
	return SessionDay(folder, session, enqueued) + fmt.Sprintf("%020d.txt", first)
}

// SessionDay is what the names of one session's blobs of one UTC day, and no others, begin with.
func SessionDay(folder, session string, day time.Time) string {
	return QueueDay(folder, day) + sessionText(session, maxSegment) + "/"
}

// ParseQueueName reads a name that QueueName wrote, or ByMinute after it, and refuses any other. A folder that was cut is
// returned as it stands in the name. Whether the digest is right can't be told from a name.
func ParseQueueName(name string) (QueueBlob, error) {
	plain, minute, ok := cutMinute(name)
	b, err := parseQueueName(plain)
	if err != nil {
		return QueueBlob{}, fmt.Errorf("parse blob name %q: %w; expected {folder}/{yyyy}/{mm}/{dd}/{first}-{last}-{digest}.txt, or -{hhmm} before the end", name, err)
	}
	if ok {
		b.Minute = b.Day.Add(minute)
	}
	return b, nil
}

func parseQueueName(name string) (QueueBlob, error) {
	fail := func(why string) (QueueBlob, error) {
		return QueueBlob{}, errors.New(why)
	}
	folder, day, file, ok := cutDate(name, 1)
	if !ok {
		return fail("no date")
	}
	parts := strings.Split(strings.TrimSuffix(file, ".txt"), "-")
	if len(parts) != 3 {
		return fail("not three parts behind the date")
	}
	first, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return fail("no first sequence number")
	}
	last, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || first < 0 || last < first {
		return fail("no range of sequence numbers")
	}
	b := QueueBlob{Day: day, First: first, Last: last, Digest: parts[2]}
	if !isDigest(b.Digest) {
		return fail("no digest of 16 hexadecimal digits")
	}
	if b.Folder, ok = parseFolder(folder); !ok || file != fmt.Sprintf("%020d-%020d-%s.txt", first, last, b.Digest) {
		return fail("not in canonical form")
	}
	return b, nil
}

// ParseSessionName reads a name that SessionName wrote, or ByMinute after it, and refuses any other. A folder or a session that
// was cut is returned as it stands in the name.
func ParseSessionName(name string) (SessionBlob, error) {
	plain, minute, ok := cutMinute(name)
	b, err := parseSessionName(plain)
	if err != nil {
		return SessionBlob{}, fmt.Errorf("parse blob name %q: %w; expected {folder}/{yyyy}/{mm}/{dd}/{session}/{first}.txt, or -{hhmm} before the end", name, err)
	}
	if ok {
		b.Minute = b.Day.Add(minute)
	}
	return b, nil
}

func parseSessionName(name string) (SessionBlob, error) {
	fail := func(why string) (SessionBlob, error) {
		return SessionBlob{}, errors.New(why)
	}
	folder, day, rest, ok := cutDate(name, 2)
	if !ok {
		return fail("no date")
	}
	session, file, _ := strings.Cut(rest, "/")
	first, err := strconv.ParseInt(strings.TrimSuffix(file, ".txt"), 10, 64)
	if err != nil || first < 0 {
		return fail("no sequence number")
	}
	b := SessionBlob{Day: day, First: first}
	if b.Session, ok = uncut(session, maxSegment, func(id string) string { return sessionText(id, maxSegment) }); !ok {
		return fail("no session")
	}
	if b.Folder, ok = parseFolder(folder); !ok || file != fmt.Sprintf("%020d.txt", first) {
		return fail("not in canonical form")
	}
	return b, nil
}

// digest tells sets of messages apart, sorted as they are. The case of an entity's path means nothing.
func digest(entity string, messages []Key) string {
	hash := sha256.New()
	hash.Write([]byte(strings.ToLower(entity) + "\x00"))
	var room [4 << 10]byte
	b := room[:0]
	for _, m := range messages {
		if len(b)+16 > len(room) {
			hash.Write(b)
			b = room[:0]
		}
		b = binary.BigEndian.AppendUint64(b, uint64(m.SequenceNumber))
		b = binary.BigEndian.AppendUint64(b, uint64(m.Enqueued.UnixMilli()))
	}
	hash.Write(b)
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

func isDigest(s string) bool { return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == "" }

// compare orders keys by sequence number; times count in milliseconds, as the service gives them.
func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.SequenceNumber, other.SequenceNumber), cmp.Compare(k.Enqueued.UnixMilli(), other.Enqueued.UnixMilli()))
}
