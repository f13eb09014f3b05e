package audit_test

import (
	"context"
	"iter"
	"maps"
	"strings"
	"testing"
	"time"

	"persistor/internal/audit"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// rename gives a blob another name.
func (s memory) rename(from, to string) {
	s[to] = s[from]
	delete(s, from)
}

// putGrown stores messages as a blob of competing receivers that began with the first few of them.
func (s memory) putGrown(begun int, messages ...*message.Message) string {
	name := s.putQueue(messages[:begun]...)
	h := holding("orders", contentOf(messages), messages)
	h.Begun = int64(begun)
	s[name] = memoryBlob{contentOf(messages), h.Metadata()}
	return name
}

// Blobs that grew, and those of a minute, are as good as others.
func TestGrownBlobsAreComplete(t *testing.T) {
	s := make(memory)
	s.putGrown(2, orders(5, 6, 1, 2, 3)...)
	s.rename(s.putGrown(3, orders(4, 8, 7)...), "x")
	s.rename("x", record.ByMinute(record.QueueName(queueFolder, "orders", []record.Key{{SequenceNumber: 4, Enqueued: order(4).EnqueuedTime}, {SequenceNumber: 8, Enqueued: order(8).EnqueuedTime}, {SequenceNumber: 7, Enqueued: order(7).EnqueuedTime}}), day))
	report, err := audit.Run(t.Context(), s, queueFolder, audit.Expectation{Entities: map[string]record.Sequences{"orders": record.SequenceRange(1, 8)}})
	if err != nil || !report.Complete || report.Messages != 8 || report.Ignored != 0 {
		t.Errorf("queue: %v %+v", err, report)
	}

	s = make(memory)
	s.rename(s.put(-1, events("0", 0, 4)...), record.ByMinute(name("0", 0), day))
	s.put(4, events("0", 5, 9)...)
	report, err = audit.Run(t.Context(), s, folder, audit.Expectation{Partitions: map[string]work.Range{"0": {From: 0, To: 9}}})
	if err != nil || !report.Complete || report.Messages != 10 || report.Ignored != 0 {
		t.Errorf("hub: %v %+v", err, report)
	}

	s = make(memory)
	first := s.putSession(-1, rides("a", 1, 2)...)
	s.rename(first, record.ByMinute(first, day))
	s.putSession(2, rides("a", 3, 4)...)
	report, err = audit.Run(t.Context(), s, sessionFolder, audit.Expectation{})
	if err != nil || !report.Complete || report.Messages != 4 || report.Ignored != 0 {
		t.Errorf("session: %v %+v", err, report)
	}
}

// A blob that was appended to since it was listed is judged by what it was.
func TestBlobGrowsWhileAudited(t *testing.T) {
	s := make(memory)
	name := s.put(-1, events("0", 0, 4)...)
	short := maps.Clone(s)
	s[name] = memoryBlob{append(contentOf(events("0", 0, 4)), contentOf(events("0", 5, 9))...), nil}
	report, err := audit.Run(t.Context(), listedBefore{s, short}, folder, audit.Expectation{})
	if err != nil || !report.Complete || report.Messages != 5 {
		t.Errorf("%v %+v", err, report)
	}
}

// listedBefore lists what there was, and opens what there is.
type listedBefore struct {
	memory
	before memory
}

func (l listedBefore) List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error] {
	return l.before.List(ctx, prefix)
}

func TestGrownBlobsDamage(t *testing.T) {
	for what, damage := range map[string]struct {
		do   func(s memory) string
		want string
	}{
		"began with more": {func(s memory) string {
			name := s.putGrown(2, orders(1, 2, 3, 4)...)
			s.edit(name, "begun", "3")
			return queueFolder
		}, "its name is not that of the messages in it"},
		"began with none": {func(s memory) string {
			name := s.putGrown(2, orders(1, 2, 3, 4)...)
			s.edit(name, "begun", "")
			return queueFolder
		}, "its metadata say that it holds 1 to 4"},
		"lacks what it began with": {func(s memory) string {
			name := s.putGrown(2, orders(1, 2, 3, 4)...)
			messages := orders(2, 3, 4)
			h := holding("orders", contentOf(messages), messages)
			h.Begun = 2
			s[name] = memoryBlob{contentOf(messages), h.Metadata()}
			return queueFolder
		}, "its metadata say that it holds 2 to 4"},
		"another minute": {func(s memory) string {
			plain := s.put(-1, events("0", 0, 4)...)
			s.rename(plain, record.ByMinute(plain, day.Add(time.Minute)))
			return folder
		}, "the blob's name tells the minute 12:01"},
		"another minute of a queue": {func(s memory) string {
			plain := s.putQueue(orders(1, 2, 70)...)
			s.rename(plain, record.ByMinute(plain, day))
			return queueFolder
		}, "the blob's name tells the minute 12:00"},
	} {
		s := make(memory)
		report, err := audit.Run(t.Context(), s, damage.do(s), audit.Expectation{})
		if err != nil || report.Complete || !strings.Contains(strings.Join(report.Problems, "\n"), damage.want) {
			t.Errorf("%s: %v %+v, want %q", what, err, report, damage.want)
		}
	}
}
