package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The parts of a name are bounded, in bytes, so that a whole name stays below the 1,024 characters of a
// blob's name and each segment below the 255 bytes of a file's.
const (
	maxFolder  = 512
	maxSegment = 128
)

// namePlain is what stands in a name as it is, besides the letters of ASCII and digits.
const namePlain = "._-"

// EventHubBlob is what the name of a blob of an Event Hub says.
type EventHubBlob struct {
	Folder    string    // as given to EventHubName, without empty segments
	Partition string    // the partition's id
	Day       time.Time // midnight UTC of the day on which the first message was enqueued
	First     int64     // sequence number of the first message
	// Minute is the start of the one UTC minute in which all messages were enqueued; zero when the name is
	// not one of [ByMinute]'s.
	Minute time.Time
}

// EventHubName names the blob of a partition whose first message has sequence number first (0 and up)
// and was enqueued at enqueued:
//
//	{folder}/{yyyy}/{mm}/{dd}/{partition}-{first}.txt
//
// in UTC, a numeric partition padded to 4 digits and first to 20, so that a partition's names sort as
// its messages do. The name depends on nothing else: whoever stores these messages finds the same name.
//
// A folder may have several segments; empty ones are dropped. What is not a letter of ASCII, a digit or
// one of "._-" is written as ~XX, which no store, shell or URL reads as anything else; so is the dot at
// a segment's start or end, so that neither ".." nor a hidden file can occur. A segment over 128 bytes
// and a folder over 512 are cut and end with "~~" and a hash of the whole.
func EventHubName(folder, partition string, enqueued time.Time, first int64) string {
	return EventHubDay(folder, partition, enqueued) + fmt.Sprintf("%020d.txt", first)
}

// ByMinute is the name of a blob that has the given name otherwise, and that holds nothing but messages of
// the UTC minute in which enqueued lies: with the hour and the minute behind its stem,
//
//	...-{hhmm}.txt
func ByMinute(name string, enqueued time.Time) string {
	return strings.TrimSuffix(name, ".txt") + enqueued.UTC().Format("-1504") + ".txt"
}

// byMinute matches what ByMinute wrote: no other name ends with a dash and four digits.
var byMinute = regexp.MustCompile(`-([01][0-9]|2[0-3])([0-5][0-9])\.txt$`)

// cutMinute undoes ByMinute; of is how far the minute is from midnight.
func cutMinute(name string) (plain string, of time.Duration, ok bool) {
	if dash := len(name) - len("-hhmm.txt"); dash < 0 || name[dash] != '-' {
		return name, 0, false // as most are
	}
	m := byMinute.FindStringSubmatch(name)
	if m == nil {
		return name, 0, false
	}
	hours, _ := strconv.Atoi(m[1])
	minutes, _ := strconv.Atoi(m[2])
	return strings.TrimSuffix(name, m[0]) + ".txt", time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute, true
}

// EventHubDay is what the names of one partition's blobs of one UTC day, and no others, begin with.
func EventHubDay(folder, partition string, day time.Time) string {
	y, m, d := day.UTC().Date()
	return EventHubFolder(folder) + fmt.Sprintf("%04d/%02d/%02d/%s-", y, m, d, partitionSegment(partition))
}

// EventHubFolder is what the names of all blobs in a folder begin with, those of Service Bus too: the
// folder made safe and a slash, or "" when it has no segments.
func EventHubFolder(folder string) string {
	var segments []string
	for s := range strings.SplitSeq(folder, "/") {
		if s != "" {
			segments = append(segments, shorten(escape(s, namePlain), maxSegment))
		}
	}
	if len(segments) == 0 {
		return ""
	}
	return shorten(strings.Join(segments, "/"), maxFolder) + "/"
}

// ParseEventHubName reads a name that EventHubName wrote, or ByMinute after it, and refuses any other. A folder that was cut
// is returned as it stands in the name; a partition that was cut can't be told, and is refused.
func ParseEventHubName(name string) (EventHubBlob, error) {
	plain, minute, ok := cutMinute(name)
	b, err := parseEventHubName(plain)
	if err != nil {
		return EventHubBlob{}, fmt.Errorf("parse blob name %q: %w; expected {folder}/{yyyy}/{mm}/{dd}/{partition}-{first}.txt, or -{hhmm} before the end", name, err)
	}
	if ok {
		b.Minute = b.Day.Add(minute)
	}
	return b, nil
}

func parseEventHubName(name string) (EventHubBlob, error) {
	fail := func(why string) (EventHubBlob, error) {
		return EventHubBlob{}, errors.New(why)
	}
	folder, day, file, ok := cutDate(name, 1)
	if !ok {
		return fail("no date")
	}
	partition, number, _ := strings.Cut(strings.TrimSuffix(file, ".txt"), "-")
	first, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return fail("no sequence number")
	}
	b := EventHubBlob{Day: day, First: first}
	if b.Partition, ok = unescape(partition); !ok {
		return fail("no partition")
	}
	if isNumber(partition) {
		b.Partition = strings.TrimLeft(partition[:len(partition)-1], "0") + partition[len(partition)-1:]
	}
	// One message, one name: a name that says the same in another way is not ours.
	if b.Folder, ok = parseFolder(folder); !ok || name != folder+EventHubName("", b.Partition, day, first) {
		return fail("not in canonical form")
	}
	return b, nil
}

// cutDate cuts a name that has so many segments behind its date: into the folder, as a prefix, the
// date, and what is behind it.
func cutDate(name string, behind int) (folder string, day time.Time, rest string, ok bool) {
	segments := strings.Split(name, "/")
	at := len(segments) - behind - 3
	if at < 0 {
		return "", time.Time{}, "", false
	}
	day, err := time.Parse("2006/01/02", strings.Join(segments[at:at+3], "/"))
	if at > 0 {
		folder = strings.Join(segments[:at], "/") + "/"
	}
	return folder, day, strings.Join(segments[at+3:], "/"), err == nil
}

// parseFolder undoes EventHubFolder. A folder that was cut is returned as it stands, without the slash.
func parseFolder(prefix string) (string, bool) {
	folder := strings.TrimSuffix(prefix, "/")
	unescaped, ok := unescape(folder)
	if !ok {
		return folder, true
	}
	return unescaped, EventHubFolder(unescaped) == prefix
}

// partitionSegment pads the numbers that partition ids are. Other ids escape '-' too, so that the first
// one in a file's name ends the partition, and ids such as "007" and "" get names of their own.
func partitionSegment(id string) string {
	switch {
	case isNumber(id) && (id == "0" || id[0] != '0'):
		return shorten(strings.Repeat("0", max(0, 4-len(id)))+id, maxSegment)
	case isNumber(id):
		return shorten("~30"+id[1:], maxSegment)
	default:
		return shorten(escape(id, "._"), maxSegment)
	}
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// escape writes every byte as ~XX that is not a letter of ASCII, a digit or one of plain. A dot at either
// end is never plain.
func escape(s, plain string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte(plain, c) >= 0 && (c != '.' || 0 < i && i < len(s)-1):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "~%02X", c)
		}
	}
	return b.String()
}

// unescape undoes escape; it fails on what shorten has cut.
func unescape(s string) (string, bool) {
	before, rest, found := strings.Cut(s, "~")
	if !found {
		return s, true
	}
	var b strings.Builder
	b.WriteString(before)
	for part := range strings.SplitSeq(rest, "~") {
		if len(part) < 2 {
			return "", false
		}
		c, err := strconv.ParseUint(part[:2], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		b.WriteString(part[2:])
	}
	return b.String(), true
}

// cutMark stands where shorten has cut, before 16 hexadecimal digits.
const cutMark = "~~"

// shorten keeps s within limit bytes, and different strings different.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	hash := sha256.Sum256([]byte(s))
	mark := cutMark + hex.EncodeToString(hash[:8])
	return s[:limit-len(mark)] + mark
}

// uncut undoes write, which escapes and shortens to limit, and reports whether write can have written
// text. What was cut can't be undone and is returned as it stands.
func uncut(text string, limit int, write func(string) string) (string, bool) {
	if text == write("") {
		return "", true
	}
	if original, ok := unescape(text); ok {
		return original, write(original) == text
	}
	_, hash, _ := strings.Cut(text, cutMark)
	return text, len(text) == limit && isDigest(hash)
}
