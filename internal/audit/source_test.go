package audit_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"persistor/internal/audit"
	"persistor/internal/work"
)

// Stored are 10 to 19 of one partition, in two blobs.
func TestComparedWithTheHub(t *testing.T) {
	const none = -1
	for _, test := range []struct {
		name       string
		hub        work.Range
		checkpoint int64
		late       bool
		want       audit.Source // without First, Last and Checkpoint
		gaps, lost []work.Range
		says       string
	}{
		{name: "all is stored", hub: work.Range{From: 10, To: 19}, checkpoint: 19},
		{name: "the hub has forgotten some", hub: work.Range{From: 14, To: 19}, checkpoint: 19},
		{name: "the hub has forgotten all", hub: work.Range{From: 20, To: 19}, checkpoint: 19},
		{name: "a checkpoint comes late", hub: work.Range{From: 10, To: 19}, checkpoint: 12},
		{name: "no checkpoint", hub: work.Range{From: 10, To: 19}, checkpoint: none},
		{name: "a backlog", hub: work.Range{From: 10, To: 29}, checkpoint: 19, want: audit.Source{Backlog: 10}},
		{name: "a hole behind", hub: work.Range{From: 23, To: 29}, checkpoint: 19, want: audit.Source{Backlog: 7}, lost: []work.Range{{From: 20, To: 22}}},
		{name: "a hole behind, and nothing there", hub: work.Range{From: 23, To: 22}, checkpoint: 19, lost: []work.Range{{From: 20, To: 22}}},
		{name: "some before", hub: work.Range{From: 7, To: 19}, checkpoint: 19, want: audit.Source{Before: 3}, gaps: []work.Range{{From: 7, To: 9}}},
		{name: "some before, on purpose", hub: work.Range{From: 7, To: 19}, checkpoint: 19, late: true, want: audit.Source{Before: 3}},
		{name: "the checkpoint is too far", hub: work.Range{From: 10, To: 29}, checkpoint: 24, want: audit.Source{Backlog: 5}, gaps: []work.Range{{From: 20, To: 24}},
			says: "partition 0: its checkpoint says that all is stored up to 24, but the last in a blob is 19"},
		{name: "another hub's blobs", hub: work.Range{From: 0, To: 14}, checkpoint: none, want: audit.Source{Before: 10, Beyond: 5}, gaps: []work.Range{{From: 0, To: 9}},
			says: "partition 0: number 19 is stored, but the hub's last is 14"},
		{name: "another hub's checkpoint", hub: work.Range{From: 10, To: 19}, checkpoint: 99, gaps: []work.Range{{From: 20, To: 99}},
			says: "partition 0: its checkpoint is 99, but the hub's last is 19"},
		{name: "an empty hub", hub: work.Range{From: 0, To: -1}, checkpoint: none, want: audit.Source{Beyond: 10}, says: "the hub's last is -1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := make(memory)
			s.putIn(folder, ridesHub, 9, events("0", 10, 14)...)
			s.putIn(folder, ridesHub, 14, events("0", 15, 19)...)
			compareWithHub(t, s, test.hub, test.checkpoint, test.late, test.want, test.gaps, test.lost, test.says)
		})
	}
}

func TestNothingStoredComparedWithTheHub(t *testing.T) {
	const none = -1
	for _, test := range []struct {
		name       string
		hub        work.Range
		checkpoint int64
		want       audit.Source
		gaps       []work.Range
		says       string
	}{
		{name: "nothing to store", hub: work.Range{From: 0, To: -1}, checkpoint: none},
		{name: "not begun", hub: work.Range{From: 5, To: 14}, checkpoint: none, want: audit.Source{Backlog: 10}},
		{name: "a checkpoint alone", hub: work.Range{From: 5, To: 14}, checkpoint: 9, want: audit.Source{Backlog: 5}, gaps: []work.Range{{From: 5, To: 9}}, says: "stored up to 9, but nothing is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			compareWithHub(t, memory{}, test.hub, test.checkpoint, false, test.want, test.gaps, nil, test.says)
		})
	}
}

func compareWithHub(t *testing.T, s memory, hub work.Range, checkpoint int64, late bool, want audit.Source, gaps, lost []work.Range, says string) {
	t.Helper()
	name := folder
	expect := audit.Expectation{Hub: ridesHub, Partitions: map[string]work.Range{"0": hub}, Checkpoints: map[string]int64{"0": checkpoint}, Late: late}
	found := verify(t, s, audit.Scope{Folder: &name}, expect)
	p, told := found.Folders[0].Partitions[0], strings.Join(found.Folders[0].Problems, "\n")
	want.First, want.Last, want.Checkpoint = hub.From, hub.To, checkpoint
	if *p.Source != want || !slices.Equal(p.Gaps, gaps) || !slices.Equal(p.LostToRetention, lost) || !strings.Contains(told, says) || says == "" && told != "" {
		t.Errorf("source %+v, gaps %v, lost %v, problems %q\nwant   %+v, gaps %v, lost %v, %q", *p.Source, p.Gaps, p.LostToRetention, told, want, gaps, lost, says)
	}
	if proven := says == "" && len(gaps)+len(lost) == 0; found.Complete != proven || found.Backlog != want.Backlog {
		t.Errorf("complete %t, backlog %d", found.Complete, found.Backlog)
	}
}

// What is sent and stored while blobs are listed is neither another hub's nor a backlog that was there before.
func TestHubIsAskedAgain(t *testing.T) {
	s := make(memory)
	s.putIn(folder, ridesHub, -1, events("0", 0, 9)...)
	name := folder
	expect := audit.Expectation{Hub: ridesHub, Partitions: map[string]work.Range{"0": {From: 0, To: 4}}, Checkpoints: map[string]int64{"0": 4}}
	expect.Refresh = func(context.Context) (map[string]work.Range, error) {
		return map[string]work.Range{"0": {From: 3, To: 11}, "7": {From: 0, To: 3}}, nil
	}
	found, err := audit.Container(t.Context(), s, audit.Scope{Folder: &name}, expect)
	if err != nil || !found.Complete || found.Backlog != 2 || len(found.Folders[0].Partitions) != 1 {
		t.Errorf("%v, %+v", err, found)
	}
	expect.Refresh = func(context.Context) (map[string]work.Range, error) { return nil, errors.New("the hub is down") }
	if found, err := audit.Container(t.Context(), s, audit.Scope{Folder: &name}, expect); err == nil || found.Finished || found.Complete {
		t.Errorf("%v, %+v", err, found)
	}
}

// Partitions that are not looked at are not expected either, and what the hub doesn't have is.
func TestPartitionsOfTheHub(t *testing.T) {
	s, name := container(), folder
	expect := audit.Expectation{Hub: ridesHub, Checkpoints: map[string]int64{}, Partitions: map[string]work.Range{"0": {From: 0, To: 19}, "2": {From: 0, To: 9}}}
	found := verify(t, s, audit.Scope{Folder: &name}, expect)
	if found.Complete || found.Backlog != 10 || !strings.Contains(strings.Join(found.Folders[0].Problems, ""), "partition 1: it is stored, but the hub has no such partition") {
		t.Errorf("%+v", found)
	}
	if found := verify(t, s, audit.Scope{Folder: &name, Partitions: []string{"0"}}, expect); !found.Complete || found.Backlog != 0 || len(found.Folders[0].Partitions) != 1 {
		t.Errorf("%+v", found)
	}
}
