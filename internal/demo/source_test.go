package demo

import (
	"testing"

	"persistor/internal/audit"
	"persistor/internal/message"
)

// intact takes any message for what was sent.
type intact struct{}

func (intact) Check(*message.Message) audit.Verdict { return audit.Intact }
func (intact) Missing() int64                       { return 0 }

// What was refused has to say so, and why.
func TestRefusedMessagesSayWhy(t *testing.T) {
	seen := make(map[refusal]bool)
	for n := range int64(10) {
		properties := map[string]any{numberProperty: n}
		why := refusalOf(properties)
		seen[why] = true
		m := message.Message{
			Properties:       properties,
			DeadLetterReason: new(why.reason), DeadLetterDescription: new(why.description), DeadLetterSource: new(name),
		}
		if got := (refused{intact{}}).Check(&m); got != audit.Intact {
			t.Errorf("message %d, %v: verdict %d", n, why, got)
		}
		m.DeadLetterReason = new("another")
		if got := (refused{intact{}}).Check(&m); got != audit.Altered {
			t.Errorf("message %d with another reason: verdict %d", n, got)
		}
		m.DeadLetterReason = nil
		if got := (refused{intact{}}).Check(&m); got != audit.Altered {
			t.Errorf("message %d without a reason: verdict %d", n, got)
		}
	}
	if len(seen) != len(refusals)+1 || !seen[givenUp] {
		t.Errorf("%d kinds of refusals among ten messages: %v", len(seen), seen)
	}
	refusalOf(map[string]any{numberProperty: int64(-3)}) // anybody's message is refused
}

// Progress belongs to the part that a row names, or to the only one.
func TestStoredAddsUpByPart(t *testing.T) {
	rows := func(yield func(string, int64) bool) {
		_ = yield("partition 1", 5) && yield("partition 0", 2) && yield("partition 1", 1) && yield("partition 7", 9)
	}
	if got := stored([]part{{name: "partition 0"}, {name: "partition 1"}}, rows); got[0] != 2 || got[1] != 6 {
		t.Errorf("stored %v, want 2 and 6", got)
	}
	if got := stored([]part{{name: "messages"}}, rows); got[0] != 17 {
		t.Errorf("stored %v, want 17", got)
	}
}
