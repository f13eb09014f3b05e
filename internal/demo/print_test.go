package demo

import (
	"fmt"
	"strings"
	"testing"

	"persistor/internal/audit"
	"persistor/internal/fanout"
	"persistor/internal/store"
	"persistor/internal/work"
)

func TestTreeShowsTheFirstBlobsAndTheLast(t *testing.T) {
	list := func(yield func(store.Blob, error) bool) {
		for i := range 9 {
			if !yield(store.Blob{Name: fmt.Sprintf("hub/2026/03/01/%d.txt", i), Size: 1 << 20, Metadata: map[string]string{"count": "1234"}}, nil) {
				return
			}
		}
		yield(store.Blob{Name: "hub/2026/03/02/x.txt", Size: 7, Metadata: map[string]string{"count": "1"}}, nil)
	}
	var b strings.Builder
	if err := printTree(&b, "out/blobs", list); err != nil {
		t.Fatal(err)
	}
	want := `  out/blobs
  ├─ hub/2026/03/01/
  │  ├─ 0.txt    1,048,576 bytes, 1,234 messages
  │  ├─ 1.txt    1,048,576 bytes, 1,234 messages
  │  ├─ 2.txt    1,048,576 bytes, 1,234 messages
  │  ├─ … 5 more
  │  └─ 8.txt    1,048,576 bytes, 1,234 messages
  └─ hub/2026/03/02/
     └─ x.txt            7 bytes, 1 message
`
	if b.String() != want {
		t.Errorf("tree\n%swant\n%s", b.String(), want)
	}
}

func TestTreeShowsTheFirstFoldersAndTheLast(t *testing.T) {
	list := func(yield func(store.Blob, error) bool) {
		for i := range 12 {
			if !yield(store.Blob{Name: fmt.Sprintf("queue/2026/03/01/session-%02d/1.txt", i), Size: 10, Metadata: map[string]string{"count": "1"}}, nil) {
				return
			}
		}
	}
	var b strings.Builder
	if err := printTree(&b, "out/blobs", list); err != nil {
		t.Fatal(err)
	}
	want := `  out/blobs
  ├─ queue/2026/03/01/session-00/
  │  └─ 1.txt           10 bytes, 1 message
  ├─ queue/2026/03/01/session-01/
  │  └─ 1.txt           10 bytes, 1 message
  ├─ queue/2026/03/01/session-02/
  │  └─ 1.txt           10 bytes, 1 message
  ├─ … 8 more
  └─ queue/2026/03/01/session-11/
     └─ 1.txt           10 bytes, 1 message
`
	if b.String() != want {
		t.Errorf("tree\n%swant\n%s", b.String(), want)
	}
}

func TestRecordIsLaidOutAndCut(t *testing.T) {
	content := `{"DATA":"plain"}` + "\n\n" +
		`{"DATA":"{\"note\":\"Налягането е в норма и така нататък\"}","SYSTEM":{"partition_key":"k"}}` + "\n\n"
	var b strings.Builder
	if err := printRecord(&b, strings.NewReader(content), []string{`"partition_key"`}, 30); err != nil {
		t.Fatal(err)
	}
	want := `  {
    "DATA": "{\"note\":\"Наля…
    "SYSTEM": {
      "partition_key": "k"
    }
  }
`
	if b.String() != want {
		t.Errorf("record\n%swant\n%s", b.String(), want)
	}
	if err := printRecord(&b, strings.NewReader("\n\n"), nil, 30); err == nil {
		t.Error("a blob without records gave none")
	}
}

func TestUnitsAddUp(t *testing.T) {
	var b strings.Builder
	printUnits(&b, "partition", []fanout.UnitRow{
		{Unit: 0, Ended: work.Drained, Sources: []work.Source{
			{Partition: "0", Messages: 1000, Bytes: 2_000_000, Blobs: 2, ElapsedSeconds: 1.5, Ended: work.Drained},
			{Partition: "10", Messages: 1, Bytes: 10, Blobs: 1, Ended: work.Deadline},
		}},
		{Unit: 1, Partitions: []string{"3"}, Ended: work.Failed, Error: "worker did not answer"},
	})
	want := `  unit  partition    messages         bytes   blobs      time  ended
     0  0               1,000     2,000,000       2     1.50s  drained
     0  10                  1            10       1     0.00s  deadline
     1  3                   -             -       -     0.00s  failed
        worker did not answer
   all                  1,001     2,000,010       3
`
	if b.String() != want {
		t.Errorf("table\n%swant\n%s", b.String(), want)
	}
}

func TestUnitsOfServiceBusAddUp(t *testing.T) {
	var b strings.Builder
	printUnits(&b, "receiver", []fanout.UnitRow{
		{Unit: 0, Receivers: 2, Ended: work.Drained, Sources: []work.Source{
			{Receiver: new(0), Sessions: 1200, Messages: 2400, Bytes: 24_000, Blobs: 1200, ElapsedSeconds: 4, Ended: work.Drained},
			{Receiver: new(1), Messages: 0, Ended: work.Drained},
		}},
	})
	want := `  unit  receiver     sessions    messages         bytes   blobs      time  ended
     0  0               1,200       2,400        24,000   1,200     4.00s  drained
     0  1                   0           0             0       0     0.00s  drained
   all                  1,200       2,400        24,000   1,200
`
	if b.String() != want {
		t.Errorf("table\n%swant\n%s", b.String(), want)
	}
}

func TestAuditInAFewLines(t *testing.T) {
	for want, a := range map[string]audit.Report{
		"  complete: 5 messages in 2 blobs of 1 partition, read and compared in 0.50 s\n" +
			"  gaps 0, duplicates 0, missing 0, altered 0, lost to retention 0\n": {
			Complete: true, Messages: 5, Blobs: 2, Partitions: []audit.Partition{{}}, ElapsedSeconds: 0.5,
		},
		"  NOT complete: 5 messages in 2 blobs of 2 sessions, numbered 1 to 6, read and compared in 0.50 s\n" +
			"  gaps 1, duplicates 0, missing 1, altered 0, out of order 3\n" +
			"  ! what was wrong\n": {
			Messages: 5, Blobs: 2, Gaps: 1, Missing: 1, OutOfOrder: 3, Entities: []audit.Entity{{Sessions: 2, From: 1, To: 6}},
			Problems: []string{"what was wrong"}, ElapsedSeconds: 0.5,
		},
	} {
		var b strings.Builder
		if printAudit(&b, a); b.String() != want {
			t.Errorf("audit\n%swant\n%s", b.String(), want)
		}
	}
}
