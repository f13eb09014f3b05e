package work

import (
	"encoding/json"
	"testing"
	"time"
)

func TestRowsAreToldApart(t *testing.T) {
	for want, row := range map[string]Source{
		"partition 7":             {Partition: "7"},
		"partition 7 from 262144": {Partition: "7", Cell: &Range{From: 262144, To: 262200}},
		"receiver 0":              {Receiver: new(0)},
		"receiver 12":             {Receiver: new(12)},
	} {
		if got := row.Name(); got != want {
			t.Errorf("%+v is called %q, want %q", row, got, want)
		}
	}
}

// A report says nothing of what its service doesn't have, and everything of what counts, zero or not.
func TestJSON(t *testing.T) {
	for want, v := range map[string]any{
		`{"partition":"7","ended":"drained","messages":0,"bytes":0,"blobs":0,"checkpoint":0,"backlog":0,"elapsed_seconds":0}`: Source{Partition: "7", Ended: Drained},
		`{"receiver":0,"ended":"idle","messages":0,"bytes":0,"blobs":0,"checkpoint":-1,"backlog":-1,"redelivery_expected":1,"abandoned":2,"sessions":3,"skipped":1,"skipped_sessions":[{"session":"","reason":"locked"}],"elapsed_seconds":0}`: Source{
			Receiver: new(0), Ended: Idle, Checkpoint: -1, Backlog: -1, RedeliveryExpected: 1, Abandoned: 2, Sessions: 3,
			Skipped: 1, SkippedSessions: []SkippedSession{{"", "locked"}},
		},
		`{"run":"r","unit":0,"partitions":["0"],"owner_level":5}`:             Unit{Run: "r", Partitions: []string{"0"}, OwnerLevel: 5},
		`{"run":"r","unit":1,"sessions":[""],"only_sessions":true,"tasks":2}`: Unit{Run: "r", Unit: 1, Sessions: []string{""}, OnlySessions: true, Tasks: 2},
	} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("%s, want %s; error %v", got, want, err)
		}
	}
}

func TestReportsNameFewSkippedSessions(t *testing.T) {
	rows := []Source{
		{Receiver: new(0), Ended: Drained, Messages: 1, Skipped: 60, SkippedSessions: make([]SkippedSession, 60)},
		{Receiver: new(1), Ended: Drained, Messages: 2, Skipped: 60, SkippedSessions: make([]SkippedSession, 60)},
		{Receiver: new(2), Ended: Failed, Messages: 4, Skipped: 60, SkippedSessions: make([]SkippedSession, 60)},
	}
	r := NewReport(Unit{Run: "r", Unit: 3}, rows, time.Second)
	if r.Run != "r" || r.Unit != 3 || r.Status != "failed" || r.Messages != 7 || r.ElapsedSeconds != 1 {
		t.Errorf("report %+v", r)
	}
	for i, want := range []int{60, 40, 0} {
		if s := r.Sources[i]; len(s.SkippedSessions) != want || s.Skipped != 60 {
			t.Errorf("row %d names %d of %d sessions, want %d", i, len(s.SkippedSessions), s.Skipped, want)
		}
	}
}
