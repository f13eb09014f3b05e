package record

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A set agrees with the plainest one there is, whatever is put in, in whatever order.
func TestSequencesAgreeWithAPlainSet(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		spread := []int64{20, 300, 1 << 40}[random.IntN(3)]
		offset := []int64{0, 1, 1 << 50, math.MaxInt64 - spread}[random.IntN(4)]
		var s Sequences
		plain := map[int64]bool{}
		for range random.IntN(60) {
			n := offset + random.Int64N(spread+1)
			with := s.EncodedLenWith(n)
			if s.Contains(n) != plain[n] || s.Add(n) == plain[n] {
				t.Fatalf("%d is in %v by one account alone", n, s.runs)
			}
			plain[n] = true
			if got := s.EncodedLen(); got != with || got != len(s.Encode()) {
				t.Fatalf("%v: encoded length %d, foretold %d, in truth %d", s.runs, got, with, len(s.Encode()))
			}
		}
		want := slices.Sorted(maps.Keys(plain))
		if got := slices.Collect(s.All()); !slices.Equal(got, want) || s.Len() != int64(len(want)) {
			t.Fatalf("got %v (%d), want %v", got, s.Len(), want)
		}
		for i, r := range s.runs {
			if r.last < r.first || i > 0 && r.first <= s.runs[i-1].last+1 {
				t.Fatalf("runs %v are not apart", s.runs)
			}
		}
		if len(want) == 0 {
			continue
		}
		if s.First() != want[0] || s.Last() != want[len(want)-1] || s.Contains(want[0]-1) {
			t.Fatalf("%v: first %d, last %d", want, s.First(), s.Last())
		}
		got, err := ParseSequences(s.First(), s.Encode())
		if err != nil || !slices.Equal(got.runs, s.runs) || got.Len() != s.Len() || got.EncodedLen() != s.EncodedLen() {
			t.Fatalf("%v read back as %v, %v", s.runs, got, err)
		}
	}
}

func TestSequencesEncode(t *testing.T) {
	for _, test := range []struct {
		set  Sequences
		want []byte
	}{
		{NewSequences(7), []byte{0, 1}},
		{NewSequences(9, 7, 8, 7), []byte{0, 3}},
		{NewSequences(7, 9), []byte{0, 1, 1, 1}},
		{NewSequences(0, 1, 130, 131, 132), []byte{0, 2, 128, 1, 3}},
		{NewSequences(math.MaxInt64), []byte{0, 1}},
		{SequenceRange(0, math.MaxInt64-1), append([]byte{0}, 255, 255, 255, 255, 255, 255, 255, 255, 127)},
		{SequenceRange(5, 4), nil},
	} {
		if got, want := test.set.Encode(), base64.RawURLEncoding.EncodeToString(test.want); got != want || test.set.EncodedLen() != len(want) {
			t.Errorf("%v: got %s, want %s, of length %d", test.set.runs, got, want, test.set.EncodedLen())
		}
	}
	var none Sequences
	if none.Len() != 0 || none.First() != 0 || none.Last() != -1 || none.Contains(0) || len(slices.Collect(none.All())) != 0 {
		t.Errorf("the empty set: %+v", none)
	}
	if got := slices.Collect(SequenceRange(math.MaxInt64-1, math.MaxInt64).All()); !slices.Equal(got, []int64{math.MaxInt64 - 1, math.MaxInt64}) {
		t.Errorf("the last numbers: %v", got)
	}
	for range NewSequences(1, 2, 5).All() {
		break // is let go
	}
	for range NewSequences(1, 2, 5).Runs() {
		break
	}
}

func TestParseSequencesRefuses(t *testing.T) {
	encode := func(numbers ...uint64) string {
		var b []byte
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	raw := func(b ...byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	var long Sequences
	for n := int64(0); long.EncodedLen() <= MaxHeld; n += 2 {
		long.Add(n)
	}
	for _, test := range []struct {
		first      int64
		text, want string
	}{
		{0, "", "it has 0 bytes"}, {-1, encode(0, 1), "below 0"}, {0, long.Encode(), "expected 1 to 4096"},
		{0, "A", "not base64"}, {0, "AAE=", "not base64"}, {0, "AA+/", "not base64"}, {0, "A\nAE", "canonical"}, {0, "AAF", "canonical"},
		{0, raw(0), "cut short"}, {0, raw(0, 1, 1), "cut short"}, {0, raw(0, 128), "cut short"}, {0, raw(0, 129, 0), "canonical"}, {0, raw(128, 0, 1), "canonical"},
		{0, encode(1, 1), "not apart"}, {0, encode(0, 0), "is empty"}, {0, encode(0, 1, 0, 1), "not apart"}, {0, encode(0, 1, 1, 0), "is empty"},
		{0, encode(0, math.MaxInt64+1), "goes beyond"}, {0, encode(0, math.MaxUint64), "goes beyond"}, {1, encode(0, 1, math.MaxInt64-1, 1), "goes beyond"},
		{math.MaxInt64, encode(0, 2), "goes beyond"}, {math.MaxInt64, encode(0, 1, math.MaxUint64, 1), "goes beyond"}, {math.MaxInt64, encode(0, 1, 1, 1), "goes beyond"},
		{0, raw(0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2), "64 bits"},
	} {
		if got, err := ParseSequences(test.first, test.text); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%d, %.40q: got %v, %v; want %q", test.first, test.text, got.runs, err, test.want)
		}
	}
	if s, err := ParseSequences(1, encode(0, 1, math.MaxInt64-2, 1)); err != nil || s.Last() != math.MaxInt64 {
		t.Errorf("the last number: %v, %v", s, err)
	}
}

// Texts are read as Encode writes them or not at all.
func FuzzParseSequences(f *testing.F) {
	for _, s := range []Sequences{NewSequences(0), NewSequences(1, 2, 300, 5), SequenceRange(9, 1<<40), NewSequences(math.MaxInt64, 3)} {
		f.Add(s.First(), s.Encode())
	}
	f.Add(int64(0), "AAF")
	f.Fuzz(func(t *testing.T, first int64, text string) {
		s, err := ParseSequences(first, text)
		if err != nil {
			if len(s.runs) > 0 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v with %v", err, s)
			}
			return
		}
		if s.Encode() != text || s.EncodedLen() != len(text) || s.First() != first || s.Len() <= 0 || s.Last() < first {
			t.Fatalf("%d %q became %+v", first, text, s)
		}
		var again Sequences
		for first, last := range s.Runs() { // the ends alone, as runs may be long
			again.Add(last)
			again.Add(first)
		}
		if again.First() != s.First() || again.Last() != s.Last() || !s.Contains(again.Last()) || s.Last() < math.MaxInt64 && s.Contains(s.Last()+1) {
			t.Fatalf("%v is not what it holds", s.runs)
		}
	})
}

// A batch of 10,000 messages, as one receiver of two and one of eight gets them, and in no order at all.
func BenchmarkSequences(b *testing.B) {
	batch := map[string][]int64{}
	for i := range int64(10_000) {
		batch["all"] = append(batch["all"], i)
		batch["runs of 100 of two"] = append(batch["runs of 100 of two"], i+i/100*100)
		batch["shuffled"] = append(batch["shuffled"], i*7919%10_007)
	}
	for name, numbers := range batch {
		b.Run(fmt.Sprintf("add/%s", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var s Sequences
				for _, n := range numbers {
					if s.EncodedLenWith(n) > 100*MaxHeld {
						b.Fatal("too long")
					}
					s.Add(n)
				}
			}
		})
		s := NewSequences(numbers...)
		b.Run("contains/"+name, func(b *testing.B) {
			for b.Loop() {
				for _, n := range numbers {
					if !s.Contains(n) {
						b.Fatal("lost")
					}
				}
			}
		})
	}
}
