package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"persistor/internal/audit"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

const folder = "rides"

var (
	day    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	format = record.Format{Metadata: true, Separator: "\n\n"}
)

// memory is a store in memory, and its own catalogue of how to damage it.
type memory map[string]memoryBlob

type memoryBlob struct {
	content  []byte
	metadata map[string]string
}

func (s memory) List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error] {
	return func(yield func(store.Blob, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(s)) {
			if err := ctx.Err(); err != nil {
				yield(store.Blob{}, err)
				return
			}
			b := s[name]
			if strings.HasPrefix(name, prefix) && !yield(store.Blob{Name: name, Size: int64(len(b.content)), Metadata: b.metadata}, nil) {
				return
			}
		}
	}
}

func (s memory) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	b, ok := s[name]
	if !ok {
		return nil, store.ErrNotFound
	}
	if b.content == nil {
		return nil, errors.New("storage is down")
	}
	return io.NopCloser(bytes.NewReader(b.content)), nil
}

// put stores messages as one blob that follows on from the number after.
func (s memory) put(after int64, messages ...*message.Message) string {
	var content []byte
	for _, m := range messages {
		content = format.Append(content, m)
	}
	first, last := messages[0], messages[len(messages)-1]
	span := record.Span{
		First: first.SequenceNumber, Last: last.SequenceNumber, After: after,
		Count: int64(len(messages)), Bytes: int64(len(content)), Run: "test",
	}
	name := record.EventHubName(folder, first.Partition, first.EnqueuedTime, first.SequenceNumber)
	s[name] = memoryBlob{content, span.Metadata()}
	return name
}

// event is the message with a sequence number in a partition; its body names both.
func event(partition string, sequence int64) *message.Message {
	return &message.Message{
		Body:           message.Body{Data: [][]byte{fmt.Appendf(nil, "%s/%d", partition, sequence)}},
		Properties:     map[string]any{"number": number(partition, sequence)},
		SequenceNumber: sequence, EnqueuedTime: day, Partition: partition, Offset: "0",
	}
}

func events(partition string, from, to int64) (all []*message.Message) {
	for n := from; n <= to; n++ {
		all = append(all, event(partition, n))
	}
	return all
}

func number(partition string, sequence int64) int64 {
	if partition == "1" {
		return 20 + sequence
	}
	return sequence
}

// sound is a store of two partitions of 20 events in blobs of 5, and what should be in it.
func sound(t *testing.T) (memory, audit.Expectation) {
	s := make(memory)
	published := audit.NewPublished(40, func(m *message.Message) (int, bool) {
		n, ok := m.Properties["number"].(int64)
		return int(n), ok
	})
	for _, partition := range []string{"0", "1"} {
		for from := int64(0); from < 20; from += 5 {
			blob := events(partition, from, from+4)
			for _, m := range blob {
				if err := published.Keep(m); err != nil {
					t.Fatal(err)
				}
			}
			s.put(from-1, blob...)
		}
	}
	return s, audit.Expectation{
		Partitions: map[string]work.Range{"0": {From: 0, To: 19}, "1": {From: 0, To: 19}},
		Contents:   published,
	}
}

func name(partition string, first int64) string {
	return record.EventHubName(folder, partition, day, first)
}

func TestSoundFolderIsComplete(t *testing.T) {
	s, expect := sound(t)
	s[folder+"/README.txt"] = memoryBlob{content: []byte("not a blob of ours")}
	s["rides-other/2026/03/01/x.txt"] = memoryBlob{content: []byte("another folder")}
	s[record.EventHubName(folder+"/inner", "0", day, 3)] = memoryBlob{content: []byte("a folder within")}
	r, err := audit.Run(t.Context(), s, folder, expect)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete || r.Messages != 40 || r.Blobs != 8 || r.Ignored != 2 || len(r.Problems) != 0 {
		t.Errorf("report: %+v", r)
	}
	if p := r.Partitions; len(p) != 2 || p[1].Partition != "1" || p[1].From != 0 || p[1].To != 19 || p[1].Messages != 20 || p[1].Blobs != 4 {
		t.Errorf("partitions: %+v", p)
	}
}

// Each of these damages makes the audit fail, and says what is wrong.
func TestDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(s memory, expect *audit.Expectation)
		want   audit.Report // only the counts are compared
		says   string
	}{
		{"a blob in the middle is gone", func(s memory, _ *audit.Expectation) {
			delete(s, name("0", 5))
		}, audit.Report{Messages: 35, Gaps: 1, Missing: 5}, ""},
		{"the first blob is gone", func(s memory, _ *audit.Expectation) {
			delete(s, name("0", 0))
		}, audit.Report{Messages: 35, Gaps: 1, Missing: 5}, ""},
		{"the last blob is gone", func(s memory, _ *audit.Expectation) {
			delete(s, name("1", 15))
		}, audit.Report{Messages: 35, Gaps: 1, Missing: 5}, ""},
		{"a partition is gone", func(s memory, _ *audit.Expectation) {
			maps.DeleteFunc(s, func(n string, _ memoryBlob) bool { return strings.Contains(n, "0001-") })
		}, audit.Report{Messages: 20, Gaps: 1, Missing: 20}, ""},
		{"two blobs overlap", func(s memory, _ *audit.Expectation) {
			s.put(7, events("0", 8, 9)...)
		}, audit.Report{Messages: 42, Duplicates: 2}, "are in another blob"},
		{"the same numbers under another day", func(s memory, _ *audit.Expectation) {
			again := events("0", 5, 9)
			for _, m := range again {
				m.EnqueuedTime = day.AddDate(0, 0, 1)
			}
			s.put(4, again...)
		}, audit.Report{Messages: 45, Duplicates: 5}, "are in another blob"},
		{"an event was stored twice, under two numbers", func(s memory, expect *audit.Expectation) {
			expect.Partitions["0"] = work.Range{From: 0, To: 20}
			again := event("0", 3)
			again.SequenceNumber = 20
			s.put(19, again)
		}, audit.Report{Messages: 41, Duplicates: 1}, "another record holds too"},
		{"one byte of a body is another", func(s memory, _ *audit.Expectation) {
			b := s[name("0", 5)]
			b.content = bytes.Replace(b.content, []byte("0/7"), []byte("0/8"), 1)
			s[name("0", 5)] = b
		}, audit.Report{Messages: 40, Altered: 1, Missing: 1}, "is not as it was sent"},
		{"a record is gone from a blob", func(s memory, _ *audit.Expectation) {
			b := s[name("0", 5)]
			b.content = b.content[bytes.Index(b.content, []byte("\n\n"))+2:]
			s[name("0", 5)] = b
		}, audit.Report{Messages: 39, Missing: 1}, "it holds 4 records, its metadata say 5"},
		{"a blob is cut off", func(s memory, _ *audit.Expectation) {
			b := s[name("0", 5)]
			b.content = b.content[:len(b.content)-9]
			s[name("0", 5)] = b
		}, audit.Report{Messages: 40, Altered: 1, Missing: 1}, "cut short"},
		{"a blob has grown by what is no record", func(s memory, _ *audit.Expectation) {
			b := s[name("0", 5)]
			b.content = append(slices.Clone(b.content), '\n')
			s[name("0", 5)] = b
		}, audit.Report{Messages: 40}, "it has 716 bytes, its metadata say 715"},
		{"records have changed places", func(s memory, _ *audit.Expectation) {
			blob := events("0", 5, 9)
			after := s[name("0", 5)].metadata
			slices.Reverse(blob[1:])
			s.put(4, blob...)
			s[name("0", 5)] = memoryBlob{s[name("0", 5)].content, after}
		}, audit.Report{Messages: 40}, "record 1 is number 9 of partition \"0\", expected number 6"},
		{"metadata are gone", func(s memory, _ *audit.Expectation) {
			b := s[name("0", 5)]
			b.metadata = nil
			s[name("0", 5)] = b
		}, audit.Report{Messages: 35, Gaps: 1, Missing: 5}, name("0", 5)},
		{"a blob stands under another's name", func(s memory, _ *audit.Expectation) {
			s[name("0", 6)] = s[name("0", 5)]
			delete(s, name("0", 5))
		}, audit.Report{Messages: 35, Gaps: 1, Missing: 5}, "say that it begins at 5"},
		{"a blob stands in another partition", func(s memory, expect *audit.Expectation) {
			expect.Partitions["2"] = work.Range{From: 0, To: 4}
			s[name("2", 0)] = s[name("0", 0)]
		}, audit.Report{Messages: 45, Duplicates: 5}, `expected number 0 of partition "2"`},
		{"an event that was never sent", func(s memory, expect *audit.Expectation) {
			expect.Partitions["0"] = work.Range{From: 0, To: 20}
			s.put(19, event("0", 20))
		}, audit.Report{Messages: 41, Altered: 1}, "is not as it was sent"},
		{"more is stored than the hub has", func(s memory, expect *audit.Expectation) {
			expect.Partitions["0"] = work.Range{From: 0, To: 14}
		}, audit.Report{Messages: 40}, "the hub's last is 14"},
		{"a partition that the hub does not have", func(s memory, expect *audit.Expectation) {
			delete(expect.Partitions, "1")
		}, audit.Report{Messages: 40}, "no such partition"},
		{"retention was faster", func(s memory, expect *audit.Expectation) {
			delete(s, name("0", 10))
			b := s[name("0", 15)]
			b.metadata = maps.Clone(b.metadata)
			b.metadata["after"] = "9"
			s[name("0", 15)] = b
		}, audit.Report{Messages: 35, Missing: 5, LostToRetention: 5}, ""},
		{"a blob crosses a cell", func(s memory, expect *audit.Expectation) {
			expect.Partitions = nil
			expect.Contents = nil
			s.put(record.CellSize-2, events("5", record.CellSize-1, record.CellSize)...)
		}, audit.Report{Messages: 40}, "different cells"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, expect := sound(t)
			test.damage(s, &expect)
			r, err := audit.Run(t.Context(), s, folder, expect)
			if err != nil {
				t.Fatal(err)
			}
			if r.Complete {
				t.Error("the audit calls it complete")
			}
			got := audit.Report{
				Messages: r.Messages, Gaps: r.Gaps, Duplicates: r.Duplicates,
				Missing: r.Missing, Altered: r.Altered, LostToRetention: r.LostToRetention,
			}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("counts\n got %+v\nwant %+v\nproblems %q", got, test.want, r.Problems)
			}
			if said := strings.Join(r.Problems, "\n"); test.says == "" && said != "" || !strings.Contains(said, test.says) {
				t.Errorf("problems %q, expected one with %q", r.Problems, test.says)
			}
		})
	}
}

// Without expectations a chain is judged from its first blob to its last.
func TestChainAlone(t *testing.T) {
	s, _ := sound(t)
	delete(s, name("0", 0))
	r, err := audit.Run(t.Context(), s, folder, audit.Expectation{})
	if err != nil || !r.Complete {
		t.Fatalf("a chain that begins late: %+v, %v", r, err)
	}
	s.put(16, events("1", 17, 19)...)
	r, err = audit.Run(t.Context(), s, folder, audit.Expectation{})
	if err != nil || r.Complete || r.Duplicates != 3 {
		t.Fatalf("a chain with an overlap: %+v, %v", r, err)
	}
	delete(s, name("1", 17))
	delete(s, name("0", 10))
	r, err = audit.Run(t.Context(), s, folder, audit.Expectation{})
	if err != nil || r.Complete || r.Gaps != 1 || r.Missing != 5 {
		t.Fatalf("a chain with a gap: %+v, %v", r, err)
	}
	delete(s, name("0", 15))
	s.put(9, events("0", 15, 19)...)
	r, err = audit.Run(t.Context(), s, folder, audit.Expectation{})
	if want := []work.Range{{From: 10, To: 14}}; err != nil || r.Complete || r.Gaps != 0 || r.LostToRetention != 5 || !slices.Equal(r.Partitions[0].LostToRetention, want) {
		t.Fatalf("a chain with a hole that it explains: %+v, %v", r, err)
	}
}

// A hub that has forgotten its oldest events does not make what is stored of them wrong.
func TestHubForgets(t *testing.T) {
	s, expect := sound(t)
	expect.Partitions["0"] = work.Range{From: 12, To: 19}
	if r, err := audit.Run(t.Context(), s, folder, expect); err != nil || !r.Complete {
		t.Errorf("report %+v, %v", r, err)
	}
	delete(s, name("0", 5))
	if r, err := audit.Run(t.Context(), s, folder, audit.Expectation{Partitions: expect.Partitions}); err != nil || r.Complete || r.Gaps != 1 {
		t.Errorf("a gap below what the hub still has: %+v, %v", r, err)
	}
}

func TestFolderWithoutBlobs(t *testing.T) {
	r, err := audit.Run(t.Context(), memory{}, folder, audit.Expectation{
		Partitions: map[string]work.Range{"0": {From: 0, To: -1}},
	})
	if err != nil || !r.Complete || len(r.Partitions) != 1 || r.Partitions[0].From != -1 {
		t.Errorf("an empty partition and an empty folder: %+v, %v", r, err)
	}
}

// Problems are told up to a limit, and counted beyond it.
func TestProblemsAreBounded(t *testing.T) {
	s, expect := sound(t)
	for n, b := range s {
		b.content = bytes.ReplaceAll(b.content, []byte(`"DATA":"`), []byte(`"DATA":"x`))
		s[n] = b
	}
	r, err := audit.Run(t.Context(), s, folder, expect)
	if err != nil || r.Complete || r.Altered != 40 || len(r.Problems) != audit.MaxProblems {
		t.Errorf("altered %d, %d problems told, %v", r.Altered, len(r.Problems), err)
	}
}

// An audit that could not be finished is an error, never a clean report.
func TestUnfinished(t *testing.T) {
	s, expect := sound(t)
	s[name("0", 5)] = memoryBlob{metadata: s[name("0", 5)].metadata}
	r, err := audit.Run(t.Context(), s, folder, expect)
	if err == nil || !strings.Contains(err.Error(), "storage is down") || r.Complete {
		t.Errorf("storage down: %+v, %v", r, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, expect = sound(t)
	if r, err := audit.Run(ctx, s, folder, expect); !errors.Is(err, context.Canceled) || r.Complete {
		t.Errorf("cancelled: %+v, %v", r, err)
	}
	if r, err := audit.Run(ctx, s, folder, audit.Expectation{}); !errors.Is(err, context.Canceled) || r.Complete {
		t.Errorf("cancelled, with nothing expected: %+v, %v", r, err)
	}
}

func TestKeepRefuses(t *testing.T) {
	published := audit.NewPublished(2, func(m *message.Message) (int, bool) {
		n, ok := m.ID.(uint64)
		return int(n), ok
	})
	if err := published.Keep(&message.Message{ID: uint64(1)}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []any{nil, uint64(2), uint64(1)} {
		if err := published.Keep(&message.Message{ID: id}); err == nil {
			t.Errorf("an event numbered %v was kept", id)
		}
	}
	if got := published.Check(&message.Message{ID: uint64(0)}); got != audit.Altered {
		t.Errorf("an event that was never kept: verdict %d", got)
	}
}
