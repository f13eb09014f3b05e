package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"persistor/internal/audit"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// These folders are of Service Bus: a queue with competing receivers, and an entity with sessions.
const (
	queueFolder   = "orders"
	sessionFolder = "rides-by-car"
	topic         = "rides/Subscriptions/by-car"
)

// order is the message of a queue with this sequence number, delivered for the first time.
func order(n int64) *message.Message {
	return &message.Message{
		Body:           message.Body{Data: [][]byte{fmt.Appendf(nil, "order/%d", n)}},
		Properties:     map[string]any{"number": n},
		SequenceNumber: n, EnqueuedTime: day.Add(time.Duration(n) * time.Second), DeliveryCount: 1,
	}
}

func orders(numbers ...int64) (all []*message.Message) {
	for _, n := range numbers {
		all = append(all, order(n))
	}
	return all
}

// ride is a message of a session.
func ride(session string, n int64) *message.Message {
	m := order(n)
	m.Body.Data = [][]byte{fmt.Appendf(nil, "ride/%s/%d", session, n)}
	m.SessionID = &session
	return m
}

func rides(session string, numbers ...int64) (all []*message.Message) {
	for _, n := range numbers {
		all = append(all, ride(session, n))
	}
	return all
}

// holding is what the metadata of a blob with these messages and this content say.
func holding(entity string, content []byte, messages []*message.Message) record.Holding {
	h := record.Holding{Entity: entity, After: -1, Bytes: int64(len(content)), Run: "test", Earliest: messages[0].EnqueuedTime, Latest: messages[0].EnqueuedTime}
	for _, m := range messages {
		h.Held.Add(m.SequenceNumber)
		if m.EnqueuedTime.Before(h.Earliest) {
			h.Earliest = m.EnqueuedTime
		}
		if m.EnqueuedTime.After(h.Latest) {
			h.Latest = m.EnqueuedTime
		}
	}
	return h
}

func contentOf(messages []*message.Message) (content []byte) {
	for _, m := range messages {
		content = format.Append(content, m)
	}
	return content
}

// putQueue stores messages as a blob of competing receivers.
func (s memory) putQueue(messages ...*message.Message) string {
	content := contentOf(messages)
	var keys []record.Key
	for _, m := range messages {
		keys = append(keys, record.Key{SequenceNumber: m.SequenceNumber, Enqueued: m.EnqueuedTime})
	}
	name := record.QueueName(queueFolder, "orders", keys)
	s[name] = memoryBlob{content, holding("orders", content, messages).Metadata()}
	return name
}

// putSession stores messages as a blob of a session that follows on from the number after.
func (s memory) putSession(after int64, messages ...*message.Message) string {
	content := contentOf(messages)
	h := holding(topic, content, messages)
	h.Session, h.After = messages[0].SessionID, after
	name := record.SessionName(sessionFolder, *h.Session, h.Earliest, h.Held.First())
	s[name] = memoryBlob{content, h.Metadata()}
	return name
}

// edit changes a blob's metadata.
func (s memory) edit(name string, keysAndValues ...string) {
	b := s[name]
	b.metadata = maps.Clone(b.metadata)
	for pair := range slices.Chunk(keysAndValues, 2) {
		if b.metadata[pair[0]] = pair[1]; pair[1] == "" {
			delete(b.metadata, pair[0])
		}
	}
	s[name] = b
}

func kept(t *testing.T, messages ...*message.Message) *audit.Published {
	published := audit.NewPublished(100, func(m *message.Message) (int, bool) {
		n, ok := m.Properties["number"].(int64)
		return int(n), ok
	})
	for _, m := range messages {
		if err := published.Keep(m); err != nil {
			t.Fatal(err)
		}
	}
	return published
}

// soundQueue is a queue of 20 messages that two receivers shared, and what should be stored of it. It
// returns the names of its blobs.
func soundQueue(t *testing.T) (memory, audit.Expectation, []string) {
	s := make(memory)
	names := []string{
		s.putQueue(orders(1, 2, 5, 6)...), s.putQueue(orders(4, 3, 7)...), s.putQueue(orders(8, 10, 12, 14, 16)...), s.putQueue(orders(9, 11, 13, 15, 17, 18, 19, 20)...),
	}
	var all []*message.Message
	for n := range int64(20) {
		all = append(all, order(n+1))
	}
	return s, audit.Expectation{Entities: map[string]record.Sequences{"orders": record.SequenceRange(1, 20)}, Contents: kept(t, all...)}, names
}

func TestSoundQueueIsComplete(t *testing.T) {
	s, expect, names := soundQueue(t)
	s.edit(names[3], "unsettled", "true")
	s[queueFolder+"/README.txt"] = memoryBlob{content: []byte("not a blob of ours")}
	dead := strings.Replace(names[0], queueFolder, queueFolder+"/deadletter", 1)
	s[dead] = s[names[0]]
	r, err := audit.Run(t.Context(), s, queueFolder, expect)
	if err != nil {
		t.Fatal(err)
	}
	want := audit.Entity{Entity: "orders", From: 1, To: 20, Messages: 20, Blobs: 4, Bytes: r.Bytes, Unsettled: 1}
	if !r.Complete || r.Messages != 20 || r.Blobs != 4 || r.Bytes == 0 || r.Unsettled != 1 || r.Ignored != 2 || len(r.Problems) != 0 || r.Partitions != nil {
		t.Errorf("report: %+v", r)
	}
	if len(r.Entities) != 1 || fmt.Sprintf("%+v", r.Entities[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("entities: %+v, want %+v", r.Entities, want)
	}
}

// counts are the counts of a report, for comparison.
func counts(r audit.Report) audit.Report {
	return audit.Report{
		Messages: r.Messages, Gaps: r.Gaps, Duplicates: r.Duplicates, Missing: r.Missing, Altered: r.Altered, LostToRetention: r.LostToRetention,
		OutOfOrder: r.OutOfOrder, Declared: r.Declared, Unsettled: r.Unsettled,
	}
}

func again(n int64, deliveries uint32) *message.Message {
	m := order(n)
	m.DeliveryCount = deliveries
	return m
}

// Each of these damages makes the audit of a queue fail, and says what is wrong.
func TestQueueDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(s memory, expect *audit.Expectation, names []string)
		want   audit.Report // only the counts are compared
		says   string
	}{
		{"a blob is gone", func(s memory, _ *audit.Expectation, names []string) {
			delete(s, names[2])
		}, audit.Report{Messages: 15, Gaps: 5, Missing: 5}, ""},
		{"all is gone", func(s memory, _ *audit.Expectation, _ []string) {
			clear(s)
		}, audit.Report{Gaps: 1, Missing: 20}, ""},
		{"more was enqueued", func(s memory, expect *audit.Expectation, _ []string) {
			expect.Entities["orders"] = record.SequenceRange(1, 22)
		}, audit.Report{Messages: 20, Gaps: 1}, ""},
		{"a blob is gone, and what was sent is not known", func(s memory, expect *audit.Expectation, names []string) {
			expect.Contents = nil
			delete(s, names[1])
		}, audit.Report{Messages: 17, Gaps: 2, Missing: 3}, ""},
		{"a message is stored twice", func(s memory, _ *audit.Expectation, _ []string) {
			s.putQueue(order(10), order(11))
		}, audit.Report{Messages: 22, Duplicates: 2}, "2 of its sequence numbers 10 to 11 are in another blob"},
		{"a message is stored twice, and says so", func(s memory, _ *audit.Expectation, _ []string) {
			s.putQueue(again(10, 3), order(11))
		}, audit.Report{Messages: 22, Duplicates: 2, Declared: 1}, "another record holds too"},
		{"a message is stored three times", func(s memory, _ *audit.Expectation, _ []string) {
			s.putQueue(again(10, 2))
			s.putQueue(again(10, 3), again(11, 2))
		}, audit.Report{Messages: 23, Duplicates: 3, Declared: 2}, "are in another blob"},
		{"a message has two numbers", func(s memory, expect *audit.Expectation, names []string) {
			expect.Entities["orders"] = record.SequenceRange(1, 21)
			m := again(10, 2)
			m.SequenceNumber = 21
			delete(s, names[2])
			s.putQueue(append(orders(8, 10, 12, 14, 16), m)...)
		}, audit.Report{Messages: 21, Duplicates: 1}, "another record holds too, and says that it was delivered 2 times"},
		{"a blob holds what was not expected", func(s memory, expect *audit.Expectation, _ []string) {
			expect.Entities["orders"] = record.NewSequences(1, 2, 3, 4, 5, 6, 7, 20)
		}, audit.Report{Messages: 20}, "numbers 8 to 19 are stored, but were not to be expected"},
		{"an entity that was not expected", func(s memory, expect *audit.Expectation, _ []string) {
			expect.Entities = map[string]record.Sequences{}
		}, audit.Report{Messages: 20}, "entity orders: it is stored, but none of this name"},
		{"a blob of another entity", func(s memory, expect *audit.Expectation, names []string) {
			s.edit(names[0], "entity", "orders/$DeadLetterQueue")
		}, audit.Report{Messages: 20, Gaps: 2}, "entity orders/$DeadLetterQueue: it is stored"},
		{"one byte of a body is another", func(s memory, _ *audit.Expectation, names []string) {
			b := s[names[1]]
			b.content = bytes.Replace(b.content, []byte("order/7"), []byte("order/8"), 1)
			s[names[1]] = b
		}, audit.Report{Messages: 20, Altered: 1, Missing: 1}, "record 2 is not as it was sent"},
		{"a record is gone from a blob", func(s memory, _ *audit.Expectation, names []string) {
			b := s[names[1]]
			b.content = b.content[bytes.Index(b.content, []byte("\n\n"))+2:]
			s[names[1]] = b
		}, audit.Report{Messages: 19, Missing: 1}, "it holds 2 records, its metadata say 3"},
		{"a record is twice in a blob", func(s memory, _ *audit.Expectation, names []string) {
			b := s[names[1]]
			b.content = contentOf(orders(4, 3, 3))
			s[names[1]] = b
		}, audit.Report{Messages: 20, Missing: 1, Duplicates: 1}, "record 2 is number 3, as one before it"},
		{"a record of another blob", func(s memory, _ *audit.Expectation, names []string) {
			b := s[names[1]]
			b.content = contentOf(orders(4, 3, 8))
			s[names[1]] = b
		}, audit.Report{Messages: 20, Missing: 1, Duplicates: 1}, "record 2 is number 8, enqueued at 2026-03-01T12:00:08Z, and not in the blob"},
		{"a record of the queue that was there before", func(s memory, _ *audit.Expectation, names []string) {
			m := order(7)
			m.EnqueuedTime = day
			b := s[names[1]]
			b.content = contentOf([]*message.Message{order(4), order(3), m})
			s[names[1]] = b
			s.edit(names[1], "bytes", fmt.Sprint(len(b.content)))
		}, audit.Report{Messages: 20}, "record 2 is number 7, enqueued at 2026-03-01T12:00:00Z, and not in the blob"},
		{"a blob is cut off", func(s memory, _ *audit.Expectation, names []string) {
			b := s[names[1]]
			b.content = b.content[:len(b.content)-9]
			s[names[1]] = b
		}, audit.Report{Messages: 20, Altered: 1, Missing: 1}, "cut short"},
		{"a blob has grown by what is no record", func(s memory, _ *audit.Expectation, names []string) {
			b := s[names[1]]
			b.content = append(slices.Clone(b.content), '\n')
			s[names[1]] = b
		}, audit.Report{Messages: 20}, "bytes, its metadata say"},
		{"metadata are gone", func(s memory, _ *audit.Expectation, names []string) {
			s[names[1]] = memoryBlob{content: s[names[1]].content}
		}, audit.Report{Messages: 17, Gaps: 2, Missing: 3}, "first is missing"},
		{"metadata hold more than the blob can", func(s memory, _ *audit.Expectation, names []string) {
			h, _ := record.ParseHolding(s[names[0]].metadata)
			h.Held, h.Bytes = record.SequenceRange(1, 1<<60), 1<<61
			delete(s, names[0])
			name := record.QueueName(queueFolder, "orders", []record.Key{{SequenceNumber: 1, Enqueued: day}, {SequenceNumber: 1 << 60, Enqueued: day}})
			s[name] = memoryBlob{[]byte("{}\n\n"), h.Metadata()}
		}, audit.Report{Messages: 16, Gaps: 2, Missing: 4}, "it has 4 bytes, its metadata say 2305843009213693952"},
		{"a blob stands under another's name", func(s memory, _ *audit.Expectation, names []string) {
			s[strings.Replace(names[1], "0003-", "0002-", 1)] = s[names[1]]
			delete(s, names[1])
		}, audit.Report{Messages: 17, Gaps: 2, Missing: 3}, "say that it holds 3 to 7"},
		{"a blob ends elsewhere by its name", func(s memory, _ *audit.Expectation, names []string) {
			s[strings.Replace(names[1], "0007-", "0008-", 1)] = s[names[1]]
			delete(s, names[1])
		}, audit.Report{Messages: 17, Gaps: 2, Missing: 3}, "say that it holds 3 to 7"},
		{"a blob stands under another day", func(s memory, _ *audit.Expectation, names []string) {
			s[strings.Replace(names[1], "/01/", "/02/", 1)] = s[names[1]]
			delete(s, names[1])
		}, audit.Report{Messages: 17, Gaps: 2, Missing: 3}, "say that it is of 2026-03-01"},
		{"a blob's digest is another's", func(s memory, _ *audit.Expectation, names []string) {
			s[names[1][:len(names[1])-8]+"0000.txt"] = s[names[1]]
			delete(s, names[1])
		}, audit.Report{Messages: 20}, "its name is not that of the messages in it"},
		{"a blob says that it is a session's", func(s memory, _ *audit.Expectation, names []string) {
			s.edit(names[1], "session", "~", "after", "-1")
		}, audit.Report{Messages: 17, Gaps: 2, Missing: 3}, `say that it belongs to session ""`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, expect, names := soundQueue(t)
			test.damage(s, &expect, names)
			r, err := audit.Run(t.Context(), s, queueFolder, expect)
			if err != nil {
				t.Fatal(err)
			}
			if r.Complete {
				t.Error("the audit calls it complete")
			}
			if got := counts(r); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("counts\n got %+v\nwant %+v\nproblems %q", got, test.want, r.Problems)
			}
			if said := strings.Join(r.Problems, "\n"); test.says == "" && said != "" || !strings.Contains(said, test.says) {
				t.Errorf("problems %q, expected one with %q", r.Problems, test.says)
			}
		})
	}
}

// What is repeated is listed by sequence number, and what of it the records themselves declare.
func TestRepeatsAreListed(t *testing.T) {
	s, expect, _ := soundQueue(t)
	s.putQueue(order(3), again(10, 2), again(11, 2), again(12, 4), order(13))
	s.putQueue(again(1, 2), order(12))
	r, err := audit.Run(t.Context(), s, queueFolder, expect)
	if err != nil || r.Complete || r.Duplicates != 7 || r.Declared != 4 {
		t.Fatalf("report %+v, %v", r, err)
	}
	e := r.Entities[0]
	if want := []work.Range{{From: 1, To: 1}, {From: 3, To: 3}, {From: 10, To: 13}}; !slices.Equal(e.Repeated, want) || e.Duplicates != 7 {
		t.Errorf("repeated %v (%d), want %v", e.Repeated, e.Duplicates, want)
	}
	if want := []work.Range{{From: 1, To: 1}, {From: 10, To: 12}}; !slices.Equal(e.Declared, want) {
		t.Errorf("declared %v, want %v", e.Declared, want)
	}
}

// Messages that were delivered before, but are stored once, are nothing wrong.
func TestRedeliveriesAreNoRepeats(t *testing.T) {
	s := make(memory)
	s.putQueue(again(1, 2), again(2, 10), order(3))
	expect := audit.Expectation{Entities: map[string]record.Sequences{"orders": record.SequenceRange(1, 3)}, Contents: kept(t, orders(1, 2, 3)...)}
	if r, err := audit.Run(t.Context(), s, queueFolder, expect); err != nil || !r.Complete || r.Declared != 0 || r.Entities[0].Declared != nil {
		t.Errorf("report %+v, %v", r, err)
	}
}

// Records written without metadata are counted, and the rest is up to the blobs' metadata.
func TestQueueWithoutMetadata(t *testing.T) {
	s := make(memory)
	name := s.putQueue(orders(1, 2, 3)...)
	expect := audit.Expectation{Entities: map[string]record.Sequences{"orders": record.SequenceRange(1, 3)}}
	for _, records := range []int{3, 2} {
		content := bytes.Repeat([]byte("{\"DATA\":\"x\"}\n\n"), records)
		s[name] = memoryBlob{content, s[name].metadata}
		s.edit(name, "bytes", fmt.Sprint(len(content)))
		if r, err := audit.Run(t.Context(), s, queueFolder, expect); err != nil || r.Complete != (records == 3) || r.Messages != int64(records) {
			t.Errorf("%d records: report %+v, %v", records, r, err)
		}
	}
}

// Without expectations holes are nothing wrong: others took those messages. Repeats are.
func TestEntityAlone(t *testing.T) {
	s, _, names := soundQueue(t)
	delete(s, names[2])
	r, err := audit.Run(t.Context(), s, queueFolder, audit.Expectation{})
	if err != nil || !r.Complete || r.Gaps != 0 || r.Missing != 0 || r.Entities[0].Messages != 15 || r.Entities[0].From != 1 || r.Entities[0].To != 20 {
		t.Fatalf("a queue with holes: %+v, %v", r, err)
	}
	s.putQueue(order(20))
	if r, err := audit.Run(t.Context(), s, queueFolder, audit.Expectation{}); err != nil || r.Complete || r.Duplicates != 1 {
		t.Errorf("with a repeat: %+v, %v", r, err)
	}
	if r, err := audit.Run(t.Context(), s, queueFolder, audit.Expectation{Partitions: map[string]work.Range{}}); err != nil || r.Duplicates != 1 || r.Entities[0].Gaps != nil {
		t.Errorf("where a hub was expected: %+v, %v", r, err)
	}
}

func TestEmptyEntity(t *testing.T) {
	r, err := audit.Run(t.Context(), memory{}, queueFolder, audit.Expectation{Entities: map[string]record.Sequences{"orders": {}}})
	if err != nil || !r.Complete || len(r.Entities) != 1 || r.Entities[0].From != -1 || r.Entities[0].To != -1 {
		t.Errorf("an empty queue and an empty folder: %+v, %v", r, err)
	}
}

// A dead-letter queue's messages have got two properties from the service, which the sender did not send.
func TestDeadLetters(t *testing.T) {
	sent := order(1)
	dead := again(1, 10)
	dead.Properties = maps.Clone(dead.Properties)
	dead.Properties["DeadLetterReason"], dead.Properties["DeadLetterErrorDescription"] = "MaxDeliveryCountExceeded", "Message could not be consumed after 10 delivery attempts."
	dead.DeadLetterReason, dead.DeadLetterSource = new("MaxDeliveryCountExceeded"), new("orders")
	s := make(memory)
	s.putQueue(dead)
	if r, err := audit.Run(t.Context(), s, queueFolder, audit.Expectation{Contents: kept(t, sent)}); err != nil || !r.Complete || r.Messages != 1 {
		t.Errorf("report %+v, %v", r, err)
	}
}

// soundSessions is an entity with three sessions whose messages interleave, over two days.
func soundSessions(t *testing.T) (memory, audit.Expectation) {
	s := make(memory)
	sessions := map[string][]int64{"car-1": {1, 2, 5, 9, 11, 12}, "": {3, 6, 7, 10, 13, 14}, "a/b": {4, 8}}
	var all []*message.Message
	for session, numbers := range sessions {
		all = append(all, rides(session, numbers...)...)
		after := int64(-1)
		for part := range slices.Chunk(numbers, 2) {
			messages := rides(session, part...)
			if part[0] >= 11 {
				after = -1 // the day before is not looked at
				for _, m := range messages {
					m.EnqueuedTime = m.EnqueuedTime.AddDate(0, 0, 1)
				}
			}
			s.putSession(after, messages...)
			after = part[1]
		}
	}
	return s, audit.Expectation{Entities: map[string]record.Sequences{topic: record.SequenceRange(1, 14)}, Contents: kept(t, all...)}
}

func sessionBlob(session string, first int64) string {
	return record.SessionName(sessionFolder, session, day, first)
}

func TestSoundSessionsAreComplete(t *testing.T) {
	s, expect := soundSessions(t)
	s[strings.Replace(sessionBlob("a/b", 4), sessionFolder, sessionFolder+"/deadletter", 1)] = s[sessionBlob("a/b", 4)]
	r, err := audit.Run(t.Context(), s, sessionFolder, expect)
	if err != nil {
		t.Fatal(err)
	}
	want := audit.Entity{Entity: topic, From: 1, To: 14, Messages: 14, Blobs: 7, Bytes: r.Bytes, Sessions: 3}
	if !r.Complete || r.Messages != 14 || r.Ignored != 1 || len(r.Problems) != 0 || len(r.Entities) != 1 || fmt.Sprintf("%+v", r.Entities[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("report: %+v", r)
	}
}

func TestSessionDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(s memory, expect *audit.Expectation)
		want   audit.Report // only the counts are compared
		says   string
	}{
		{"a blob is gone", func(s memory, _ *audit.Expectation) {
			delete(s, sessionBlob("a/b", 4))
		}, audit.Report{Messages: 12, Gaps: 2, Missing: 2}, ""},
		{"a blob in the middle is gone, and nothing is expected", func(s memory, expect *audit.Expectation) {
			*expect = audit.Expectation{}
			m := rides("car-1", 15)
			m[0].EnqueuedTime = day
			s.putSession(9, m...)
			delete(s, sessionBlob("car-1", 5))
		}, audit.Report{Messages: 13, OutOfOrder: 1}, `follows on from number 9 of session "car-1", and the blob before it ends at 2`},
		{"two blobs overlap", func(s memory, _ *audit.Expectation) {
			s.putSession(-1, rides("car-1", 9)...)
		}, audit.Report{Messages: 15, Duplicates: 1, OutOfOrder: 1}, `holds number 9 of session "car-1", and a blob before it number 9`},
		{"a message comes out of its turn", func(s memory, expect *audit.Expectation) {
			delete(s, sessionBlob("car-1", 5))
			s.putSession(2, rides("car-1", 5, 15)...)
			s.putSession(-1, rides("car-1", 9)...)
			expect.Entities[topic] = record.SequenceRange(1, 15)
			expect.Contents = nil
		}, audit.Report{Messages: 15, OutOfOrder: 2}, "holds number 9 of session"},
		{"records have changed places", func(s memory, _ *audit.Expectation) {
			b := s[sessionBlob("car-1", 5)]
			b.content = contentOf(rides("car-1", 9, 5))
			s[sessionBlob("car-1", 5)] = b
		}, audit.Report{Messages: 14}, "record 1 is number 5, behind number 9 of the same session"},
		{"a record of another session", func(s memory, _ *audit.Expectation) {
			b := s[sessionBlob("car-1", 5)]
			b.content = bytes.ReplaceAll(b.content, []byte(`"session_id":"car-1"`), []byte(`"session_id":"car-2"`))
			s[sessionBlob("car-1", 5)] = b
		}, audit.Report{Messages: 14, Altered: 2, Missing: 2}, `record 0 is not of session "car-1"`},
		{"a record of no session", func(s memory, expect *audit.Expectation) {
			expect.Contents = nil
			b := s[sessionBlob("", 3)]
			b.content = bytes.ReplaceAll(b.content, []byte(`,"session_id":""`), nil)
			s[sessionBlob("", 3)] = b
			s.edit(sessionBlob("", 3), "bytes", fmt.Sprint(len(b.content)))
		}, audit.Report{Messages: 14}, `record 0 is not of session ""`},
		{"a record is gone from a blob", func(s memory, _ *audit.Expectation) {
			b := s[sessionBlob("car-1", 5)]
			b.content = contentOf(rides("car-1", 5))
			s[sessionBlob("car-1", 5)] = b
		}, audit.Report{Messages: 13, Missing: 1}, "it holds 1 records, its metadata say 2"},
		{"a blob stands in another session", func(s memory, _ *audit.Expectation) {
			s[sessionBlob("car-2", 5)] = s[sessionBlob("car-1", 5)]
			delete(s, sessionBlob("car-1", 5))
		}, audit.Report{Messages: 12, Gaps: 2, Missing: 2}, `say that it is of session "car-1" and of 2026-03-01`},
		{"a blob stands under another day", func(s memory, _ *audit.Expectation) {
			s[strings.Replace(sessionBlob("car-1", 5), "/01/", "/05/", 1)] = s[sessionBlob("car-1", 5)]
			delete(s, sessionBlob("car-1", 5))
		}, audit.Report{Messages: 12, Gaps: 2, Missing: 2}, `and of 2026-03-01`},
		{"a blob stands under another number", func(s memory, _ *audit.Expectation) {
			s[sessionBlob("car-1", 4)] = s[sessionBlob("car-1", 5)]
			delete(s, sessionBlob("car-1", 5))
		}, audit.Report{Messages: 12, Gaps: 2, Missing: 2}, "say that it begins at 5"},
		{"a blob says that it is no session's", func(s memory, _ *audit.Expectation) {
			s.edit(sessionBlob("car-1", 5), "session", "")
		}, audit.Report{Messages: 12, Gaps: 2, Missing: 2}, "say that it belongs to no session"},
		{"metadata are gone", func(s memory, _ *audit.Expectation) {
			s[sessionBlob("car-1", 5)] = memoryBlob{content: s[sessionBlob("car-1", 5)].content}
		}, audit.Report{Messages: 12, Gaps: 2, Missing: 2}, "first is missing"},
		{"a message is in two sessions", func(s memory, _ *audit.Expectation) {
			s.putSession(-1, rides("a/b", 9)...)
		}, audit.Report{Messages: 15, Altered: 1, Duplicates: 1}, "are in another blob"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, expect := soundSessions(t)
			test.damage(s, &expect)
			r, err := audit.Run(t.Context(), s, sessionFolder, expect)
			if err != nil {
				t.Fatal(err)
			}
			if r.Complete {
				t.Error("the audit calls it complete")
			}
			if got := counts(r); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("counts\n got %+v\nwant %+v\nproblems %q", got, test.want, r.Problems)
			}
			if said := strings.Join(r.Problems, "\n"); test.says == "" && said != "" || !strings.Contains(said, test.says) {
				t.Errorf("problems %q, expected one with %q", r.Problems, test.says)
			}
		})
	}
}

// What programs read of a report is the same for an Event Hub as it was before there were entities.
func TestReportJSON(t *testing.T) {
	keys := func(r audit.Report) []string {
		asJSON, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(asJSON, &m); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(m))
	}
	hub := []string{"altered", "blobs", "bytes", "complete", "duplicates", "elapsed_seconds", "folder", "gaps", "lost_to_retention", "messages", "missing", "partitions"}
	s, expect := sound(t)
	r, err := audit.Run(t.Context(), s, folder, expect)
	if err != nil || !slices.Equal(keys(r), hub) {
		t.Errorf("%v, %v", keys(r), err)
	}
	r, err = audit.Run(t.Context(), memory{}, folder, audit.Expectation{})
	if err != nil || !slices.Equal(keys(r), hub) {
		t.Errorf("of an empty folder: %v, %v", keys(r), err)
	}
	queue, expect, _ := soundQueue(t)
	r, err = audit.Run(t.Context(), queue, queueFolder, expect)
	if want := slices.Concat(hub[:5], []string{"elapsed_seconds", "entities"}, hub[6:11]); err != nil || !slices.Equal(keys(r), want) {
		t.Errorf("of a queue: %v, %v", keys(r), err)
	}
}
