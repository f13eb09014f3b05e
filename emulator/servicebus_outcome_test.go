package emulator

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/emulator/internal/wire"
)

// TestServiceBusOutcomes answers each settlement with its own type, bare, and does what it says.
func TestServiceBusOutcomes(t *testing.T) {
	annotations := wire.Map{{Key: wire.Symbol("p"), Value: "v"}}
	for name, c := range map[string]struct {
		outcome wire.State
		want    string // the type of the answer
		counts  string
	}{
		"accepted":        {&wire.Accepted{}, "*wire.Accepted", "0 active, 0 locked, 0 deferred"},
		"released":        {&wire.Released{}, "*wire.Released", "1 active, 0 locked, 0 deferred"},
		"abandoned":       {&wire.Modified{Annotations: annotations}, "*wire.Modified", "1 active, 0 locked, 0 deferred"},
		"failed":          {&wire.Modified{Failed: true}, "*wire.Modified", "1 active, 0 locked, 0 deferred"},
		"deferred":        {&wire.Modified{Undeliverable: true, Annotations: annotations}, "*wire.Modified", "0 active, 0 locked, 1 deferred"},
		"dead-lettered":   {&wire.Rejected{Error: &wire.Error{Condition: conditionDeadLetter, Info: wire.Map{{Key: propertyReason, Value: "r"}, {Key: propertyDescription, Value: nil}}}}, "*wire.Rejected", "0 active, 0 locked, 0 deferred"},
		"rejected":        {&wire.Rejected{}, "*wire.Rejected", "0 active, 0 locked, 0 deferred"},
		"without outcome": {nil, "*wire.Released", "1 active, 0 locked, 0 deferred"},
	} {
		for _, settled := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " settled ", settled), func(t *testing.T) {
				e := openQueue(t, Queue{})
				putBodies(t, e, "q", "a")
				p := authorized(t, e, plainOpen)
				p.send(locking("r", 0, "q"))
				expect[*wire.Attach](p)
				p.credit(0, 0, 1)
				f := expect[*wire.Transfer](p)
				if len(f.DeliveryTag) != 16 || counts(t, e, "q") != "0 active, 1 locked, 0 deferred" {
					t.Fatalf("transfer %+v, %s", f, counts(t, e, "q"))
				}
				p.settle(0, 0, settled, c.outcome)
				if !settled {
					d := expect[*wire.Disposition](p)
					rejected, _ := d.State.(*wire.Rejected)
					modified, _ := d.State.(*wire.Modified)
					if fmt.Sprintf("%T", d.State) != c.want || !d.Settled || d.Role != wire.RoleSender || d.First != 0 || rejected != nil && rejected.Error != nil || modified != nil && modified.Annotations != nil {
						t.Errorf("the answer is %+v with %+v", d, d.State)
					}
				} else {
					p.send(&wire.Flow{IncomingWindow: 5000, Echo: true})
					expect[*wire.Flow](p) // and no answer before
				}
				if got := counts(t, e, "q"); got != c.counts {
					t.Errorf("then there are %s, want %s", got, c.counts)
				}
			})
		}
	}
}

// TestServiceBusOutcomesOfMany answers a range in as few frames as there are different outcomes in a row.
func TestServiceBusOutcomesOfMany(t *testing.T) {
	e := openQueue(t, Queue{})
	for i := range 10 {
		putBodies(t, e, "q", fmt.Sprint(i))
	}
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	p.credit(0, 0, 10)
	var tags [][]byte
	for range 10 {
		tags = append(tags, bytes.Clone(expect[*wire.Transfer](p).DeliveryTag))
	}
	p.settle(1, 1, false, &wire.Released{})
	expect[*wire.Disposition](p)
	q := e.queues["q"]
	q.mu.Lock()
	q.abandon(q.withLock(guid([16]byte(tags[4]))), q.now())
	q.mu.Unlock()
	p.settle(0, 7, false, &wire.Accepted{})
	var got []string
	for _, range_ := range []string{"0-0", "2-3", "4-4", "5-7"} {
		d := expect[*wire.Disposition](p)
		line := fmt.Sprintf("%d-%d", d.First, *d.Last)
		if rejected, ok := d.State.(*wire.Rejected); ok {
			expectError(t, rejected.Error, conditionLockLost)
			line += " lost"
		}
		got = append(got, line)
		if !strings.HasPrefix(line, range_) {
			t.Errorf("got the answer %s, want %s", line, range_)
		}
	}
	if want := "0-0 2-3 4-4 lost 5-7"; strings.Join(got, " ") != want {
		t.Errorf("the answers are %v, want %s", got, want)
	}
	p.settle(20, 30, false, &wire.Accepted{})
	if rejected, ok := expect[*wire.Disposition](p).State.(*wire.Rejected); !ok {
		t.Error("deliveries that never were are settled")
	} else {
		expectError(t, rejected.Error, wire.ConditionNotFound)
	}
	if got := counts(t, e, "q"); got != "2 active, 2 locked, 0 deferred" {
		t.Errorf("then there are %s", got)
	}
}

// TestServiceBusBadProperties refuses properties that cannot be, and leaves the message as it is.
func TestServiceBusBadProperties(t *testing.T) {
	e := openQueue(t, Queue{})
	putBodies(t, e, "q", "a", "b")
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	p.credit(0, 0, 2)
	expect[*wire.Transfer](p)
	expect[*wire.Transfer](p)
	for i, s := range []wire.State{
		&wire.Modified{Annotations: wire.Map{{Key: wire.Symbol("p"), Value: []string{"an array"}}}},
		&wire.Rejected{Error: &wire.Error{Info: wire.Map{{Key: int64(1), Value: "x"}}}},
	} {
		p.settle(uint32(i), uint32(i), false, s)
		if rejected, ok := expect[*wire.Disposition](p).State.(*wire.Rejected); !ok || rejected.Error == nil {
			t.Error("a property that cannot be was set")
		} else {
			expectError(t, rejected.Error, wire.ConditionInvalidField)
		}
	}
	if got := counts(t, e, "q"); got != "0 active, 2 locked, 0 deferred" {
		t.Errorf("then there are %s", got)
	}
}

// TestServiceBusChangedProperties has each property once, with its last value.
func TestServiceBusChangedProperties(t *testing.T) {
	e := openQueue(t, Queue{})
	message := wire.AppendAny(wire.AppendSection(nil, wire.SectionApplicationProperties), wire.Map{{Key: "kept", Value: int64(1)}, {Key: "changed", Value: "before"}})
	if err := e.PutMessages("q", QueueMessage{Message: append(message, dataMessage("x")...)}); err != nil {
		t.Fatal(err)
	}
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	p.credit(0, 0, 2)
	expect[*wire.Transfer](p)
	p.settle(0, 0, false, &wire.Modified{Annotations: wire.Map{{Key: wire.Symbol("changed"), Value: true}, {Key: "new", Value: wire.UUID{1}}}})
	expect[*wire.Disposition](p)
	_, encoded := expectPayload[*wire.Transfer](p)
	want := wire.Map{{Key: "kept", Value: int64(1)}, {Key: "changed", Value: true}, {Key: "new", Value: wire.UUID{1}}}
	for section := range wire.Sections(encoded) {
		if section.Code == wire.SectionApplicationProperties {
			if diff := cmp.Diff(want, wire.NewReader(section.Value).Any()); diff != "" {
				t.Errorf("properties (-want +got):\n%s", diff)
			}
		}
	}
}
