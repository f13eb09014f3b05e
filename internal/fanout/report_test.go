package fanout

import (
	"testing"
	"time"

	"persistor/internal/work"
)

// A worker that never came to a partition doesn't know what waits there: then the plan's figure stands, or
// that of an earlier attempt.
func TestUnknownBacklogs(t *testing.T) {
	row := UnitRow{Partitions: []string{"0", "1"}}
	unread := work.Source{Partition: "0", Ended: work.Deadline, Checkpoint: -1, Backlog: -1}
	row.add(work.Report{Status: OK, Sources: []work.Source{unread, {Partition: "1", Ended: work.Failed, Checkpoint: 59, Backlog: 40}}})
	row.add(work.Report{Status: OK, Sources: []work.Source{{Partition: "1", Ended: work.Cancelled, Checkpoint: -1, Backlog: -1}}})
	report := newReport(Plan{Backlog: map[string]int64{"0": 500, "1": 100}}, []UnitRow{row}, time.Second)
	if report.RemainingBacklog != 540 || row.Sources[1].Checkpoint != 59 {
		t.Errorf("remaining backlog %d, checkpoint %d, want 540 and 59", report.RemainingBacklog, row.Sources[1].Checkpoint)
	}
}
