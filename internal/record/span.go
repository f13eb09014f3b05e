package record

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// CellSize is the number of sequence numbers in a cell. A blob never crosses a multiple of it, so that
// several readers can work on one partition, each from a cell's start, and their chains still meet.
const CellSize = 1 << 18

// Span is what a blob's metadata say of the messages of an Event Hub partition that it holds: all from
// First to Last, without a hole. A partition's spans form a chain: each says which one it follows.
type Span struct {
	First int64 // sequence number of the first message, 0 and up
	Last  int64 // of the last, in the same cell
	After int64 // sequence number that this blob follows on from, -1 when there is none
	Count int64 // messages, 1 to CellSize
	Bytes int64 // length of the blob
	Run   string
	// Offset is the last message's, as the service gave it, so that a writer who finds the blob can
	// write a checkpoint behind it; "" when it isn't known.
	Offset string
	// Hub is the Event Hub that the messages come from, as [HubText] writes it; "" when it isn't known.
	Hub string
	// Latest is the last time at which one of the messages was enqueued, to the millisecond; zero when it isn't
	// known.
	Latest time.Time
	// Closed says that nothing is to be appended, for the loop that stored the last message had its end there, in the
	// middle of a cell.
	Closed bool
}

// HubText writes an Event Hub, by its namespace's host name and its own name, for a blob's metadata: in lower
// case, with escapes as in names but for '/' and '$', and without the port that an emulator has. It is ""
// unless both are known.
func HubText(namespace, hub string) string {
	if host, _, err := net.SplitHostPort(namespace); err == nil {
		namespace = host
	}
	if namespace == "" || hub == "" {
		return ""
	}
	return entityText(strings.ToLower(namespace + "/" + hub))
}

// maxRun is the length of a run's id in characters (see work.Unit).
const maxRun = 64

// maxOffset is the length of an offset in characters; longer ones are left out.
const maxOffset = 256

// Metadata is the span as a blob's metadata. Keys are valid C# identifiers, as Blob Storage wants them.
func (s Span) Metadata() map[string]string {
	m := make(map[string]string, 10)
	for key, field := range s.numbers() {
		m[key] = strconv.FormatInt(*field, 10)
	}
	m["run"] = s.Run
	if isOffset(s.Offset) {
		m["offset"] = s.Offset
	}
	if s.Hub != "" {
		m["hub"] = s.Hub
	}
	if !s.Latest.IsZero() {
		m["enqueued_last"] = strconv.FormatInt(s.Latest.UnixMilli(), 10)
	}
	if s.Closed {
		m["closed"] = "true"
	}
	return m
}

// ParseSpan reads a span out of a blob's metadata. Keys match in any case, since HTTP changes theirs;
// others are ignored. It fails, naming the key, on metadata that say what no span can.
func ParseSpan(metadata map[string]string) (Span, error) {
	var s Span
	for key, field := range s.numbers() {
		var err error
		if *field, err = lookupNumber(metadata, key); err != nil {
			return Span{}, fmt.Errorf("parse blob metadata: %w", err)
		}
	}
	var err error
	if s.Run, err = lookup(metadata, "run"); err != nil {
		return Span{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	if offset, err := lookup(metadata, "offset"); err == nil && isOffset(offset) {
		s.Offset = offset
	}
	if s.Hub, _, err = lookupOptional(metadata, "hub"); err != nil {
		return Span{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	if _, there, _ := lookupOptional(metadata, "enqueued_last"); there {
		if s.Latest, err = lookupTime(metadata, "enqueued_last"); err != nil {
			return Span{}, fmt.Errorf("parse blob metadata: %w", err)
		}
	}
	if s.Closed, err = lookupMark(metadata, "closed"); err != nil {
		return Span{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	if err := s.validate(); err != nil {
		return Span{}, fmt.Errorf("parse blob metadata: %w", err)
	}
	return s, nil
}

func (s Span) validate() error {
	switch {
	case s.First < 0 || s.Last < s.First:
		return fmt.Errorf("first %d and last %d are no range of sequence numbers", s.First, s.Last)
	case s.First/CellSize != s.Last/CellSize:
		return fmt.Errorf("first %d and last %d lie in different cells of %d", s.First, s.Last, CellSize)
	case s.Count != s.Last-s.First+1:
		return fmt.Errorf("count is %d, but from first %d to last %d there are %d", s.Count, s.First, s.Last, s.Last-s.First+1)
	case s.After < -1 || s.After >= s.First:
		return fmt.Errorf("after is %d, expected -1 to %d, one less than first", s.After, s.First-1)
	case s.Bytes < s.Count:
		return fmt.Errorf("bytes is %d, too little for %d messages", s.Bytes, s.Count)
	}
	return checkRun(s.Run)
}

// numbers are the numeric fields by their metadata keys.
func (s *Span) numbers() map[string]*int64 {
	return map[string]*int64{"first": &s.First, "last": &s.Last, "after": &s.After, "count": &s.Count, "bytes": &s.Bytes}
}

// isOffset reports whether an offset can stand in a blob's metadata. Offsets are opaque, but so far they
// are numbers, or numbers parted by colons.
func isOffset(offset string) bool {
	return offset != "" && len(offset) <= maxOffset && !strings.ContainsFunc(offset, func(r rune) bool { return r <= ' ' || r > '~' })
}

func checkRun(run string) error {
	if run == "" || len(run) > maxRun || strings.ContainsFunc(run, notInRun) {
		return fmt.Errorf("run is %.80q, expected 1 to %d of A-Z a-z 0-9 . _ -", run, maxRun)
	}
	return nil
}

func notInRun(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-')
}

// lookupNumber is lookup for a whole number.
func lookupNumber(metadata map[string]string, key string) (int64, error) {
	value, err := lookup(metadata, key)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is %.40q, expected a whole number", key, value)
	}
	return n, nil
}

// lookupTime is lookup for a time in milliseconds since 1970.
func lookupTime(metadata map[string]string, key string) (time.Time, error) {
	ms, err := lookupNumber(metadata, key)
	return time.UnixMilli(ms).UTC(), err
}

// lookupMark is lookup for what is true where it is there.
func lookupMark(metadata map[string]string, key string) (bool, error) {
	value, there, err := lookupOptional(metadata, key)
	if err == nil && there && value != "true" {
		err = fmt.Errorf("%s is %.40q, expected true or nothing", key, value)
	}
	return there, err
}

// lookup finds the value whose key equals key but for case. There must be exactly one.
func lookup(metadata map[string]string, key string) (string, error) {
	value, there, err := lookupOptional(metadata, key)
	if err == nil && !there {
		err = fmt.Errorf("%s is missing", key)
	}
	return value, err
}

// lookupOptional is lookup for a key that need not be there.
func lookupOptional(metadata map[string]string, key string) (value string, there bool, err error) {
	for k, v := range metadata {
		if len(k) != len(key) || !strings.EqualFold(k, key) {
			continue
		}
		if there {
			return "", true, fmt.Errorf("%s is there more than once", key)
		}
		value, there = v, true
	}
	return value, there, nil
}
