package record

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
)

// MaxHeld is how long the text may be, in bytes, that tells in a blob's metadata which sequence numbers
// it holds. Numbers in an unbroken row take a few bytes however many they are, and numbers that lie
// apart some three bytes each; so a batch rarely comes near, but it is cut before it is over.
const MaxHeld = 4 << 10

// MaxHeldGrowing is the same for a blob that grows: its metadata before and after are kept side by side for a
// moment.
const MaxHeldGrowing = 2 << 10

// Sequences is an exact set of sequence numbers, 0 and up. It is kept as runs, each an unbroken row of
// numbers, so its size is that of its holes. The zero value is the empty set. Copies share memory: once
// one is handed on, no number is added to another.
type Sequences struct {
	runs  []run // in rising order, with at least one number missing between them
	count int64
	bytes int // of the encoding before base64
}

// run is the numbers from first to last, both of them in it.
type run struct{ first, last int64 }

// NewSequences is the set of the given numbers, in any order; one that comes again changes nothing.
func NewSequences(numbers ...int64) Sequences {
	var s Sequences
	for _, n := range numbers {
		s.Add(n)
	}
	return s
}

// SequenceRange is the set of all numbers from first to last, empty when last is below first.
func SequenceRange(first, last int64) Sequences {
	if last < first {
		return Sequences{}
	}
	all := run{first, last}
	return Sequences{runs: []run{all}, count: int64(all.length()), bytes: size(first-1, all)}
}

// Add puts a number in, and reports whether it is new. A number behind all others costs next to nothing,
// and one between them no more than to move the runs that follow.
func (s *Sequences) Add(n int64) bool {
	if s.Contains(n) {
		return false
	}
	from, to, grown := s.place(n)
	s.bytes += s.growth(from, to, grown)
	s.count++
	if from < to {
		s.runs[from] = grown
		s.runs = slices.Delete(s.runs, from+1, to)
	} else {
		s.runs = slices.Insert(s.runs, from, grown)
	}
	return true
}

// Clone is a copy to which numbers can be added.
func (s Sequences) Clone() Sequences {
	s.runs = slices.Clone(s.runs)
	return s
}

// Contains reports whether n is in the set.
func (s Sequences) Contains(n int64) bool {
	i := s.search(n)
	return i < len(s.runs) && s.runs[i].first <= n
}

// Len is how many numbers there are.
func (s Sequences) Len() int64 { return s.count }

// First is the lowest number, 0 when there is none.
func (s Sequences) First() int64 {
	if len(s.runs) == 0 {
		return 0
	}
	return s.runs[0].first
}

// Last is the highest number, -1 when there is none.
func (s Sequences) Last() int64 {
	if len(s.runs) == 0 {
		return -1
	}
	return s.runs[len(s.runs)-1].last
}

// All yields the numbers in rising order.
func (s Sequences) All() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for first, last := range s.Runs() {
			for n := first; ; n++ {
				if !yield(n) {
					return
				}
				if n == last {
					break
				}
			}
		}
	}
}

// Runs yields the first and the last number of each unbroken row, in rising order.
func (s Sequences) Runs() iter.Seq2[int64, int64] {
	return func(yield func(first, last int64) bool) {
		for _, r := range s.runs {
			if !yield(r.first, r.last) {
				return
			}
		}
	}
}

// Encode writes the set as text, to be read by [ParseSequences] with the help of the first number: for
// each run, in rising order, how many numbers are missing before it and how many it has, both as varints
// of 7 bits to the byte, lowest first; all of it in base64 for URLs, without padding.
func (s Sequences) Encode() string {
	b := make([]byte, 0, s.bytes)
	before := s.First() - 1
	for _, r := range s.runs {
		b = binary.AppendUvarint(b, r.missing(before))
		b = binary.AppendUvarint(b, r.length())
		before = r.last
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// EncodedLen is the length of what Encode returns. It is known without encoding.
func (s Sequences) EncodedLen() int { return base64.RawURLEncoding.EncodedLen(s.bytes) }

// EncodedLenWith is what EncodedLen would be if n were in the set, so that a batch can be cut before.
func (s Sequences) EncodedLenWith(n int64) int {
	if s.Contains(n) {
		return s.EncodedLen()
	}
	return base64.RawURLEncoding.EncodedLen(s.bytes + s.growth(s.place(n)))
}

// ParseSequences reads what Encode wrote of a set whose lowest number is first. It refuses every other
// text, even one that would make a set, and texts longer than MaxHeld.
func ParseSequences(first int64, text string) (Sequences, error) {
	s, err := parseSequences(first, text)
	if err != nil {
		return Sequences{}, fmt.Errorf("parse sequence numbers %.40q: %w", text, err)
	}
	return s, nil
}

func parseSequences(first int64, text string) (s Sequences, err error) {
	switch {
	case first < 0:
		return s, fmt.Errorf("it begins at %d, below 0", first)
	case text == "" || len(text) > MaxHeld:
		return s, fmt.Errorf("it has %d bytes, expected 1 to %d", len(text), MaxHeld)
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return s, errors.New("it is not base64 for URLs without padding")
	}
	s.bytes = len(b)
	for before := first - 1; len(b) > 0; {
		missing, n := binary.Uvarint(b)
		length, m := binary.Uvarint(b[max(0, n):])
		if n <= 0 || m <= 0 {
			return s, errors.New("it is cut short, or a number in it has more than 64 bits")
		}
		b = b[n+m:]
		room := min(uint64(math.MaxInt64-before), math.MaxInt64) // numbers left behind the run before
		if missing > room || length > room-missing {
			return s, fmt.Errorf("run %d goes beyond %d", len(s.runs), int64(math.MaxInt64))
		}
		if first := len(s.runs) == 0; length == 0 || first != (missing == 0) {
			return s, fmt.Errorf("run %d is empty, or not apart from the one before", len(s.runs))
		}
		r := run{first: before + 1 + int64(missing)}
		r.last = r.first + int64(length-1)
		s.runs = append(s.runs, r)
		s.count += int64(length)
		before = r.last
	}
	// One set, one text: no varint is longer than it must be, no bit is left over, no line is broken.
	if s.Encode() != text {
		return s, errors.New("it is not in canonical form")
	}
	return s, nil
}

// search returns the index of the run that n is in, or else of the first run above it.
func (s Sequences) search(n int64) int {
	if end := len(s.runs); end == 0 || s.runs[end-1].last < n {
		return end // the usual case
	}
	i, _ := slices.BinarySearchFunc(s.runs, n, func(r run, n int64) int { return cmp.Compare(r.last, n) })
	return i
}

// place says how the runs change when n, which is in none of them, is put in: those from from up to but
// not including to, which n touches, become the run grown.
func (s Sequences) place(n int64) (from, to int, grown run) {
	i := s.search(n)
	from, to, grown = i, i, run{n, n}
	if i > 0 && s.runs[i-1].last == n-1 {
		from, grown.first = i-1, s.runs[i-1].first
	}
	if i < len(s.runs) && s.runs[i].first == n+1 {
		to, grown.last = i+1, s.runs[i].last
	}
	return from, to, grown
}

// growth is how many bytes longer the encoding gets by the change that place found; less than 0 when two
// runs become one.
func (s Sequences) growth(from, to int, grown run) int {
	end := min(to+1, len(s.runs)) // the run behind comes nearer, or has one before it at last
	was, behind := s.runs[from:end], s.runs[to:end]
	before, wasBefore := grown.first-1, s.First()-1
	if from > 0 {
		before = s.runs[from-1].last
		wasBefore = before
	}
	return size(before, grown) + size(grown.last, behind...) - size(wasBefore, was...)
}

// size is how many bytes the encoding of runs takes behind a run that ends at before.
func size(before int64, runs ...run) (bytes int) {
	for _, r := range runs {
		bytes += varintLen(r.missing(before)) + varintLen(r.length())
		before = r.last
	}
	return bytes
}

func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// missing is how many numbers lie between the run and one that ends at before.
func (r run) missing(before int64) uint64 { return uint64(r.first - before - 1) }

func (r run) length() uint64 { return uint64(r.last-r.first) + 1 }
