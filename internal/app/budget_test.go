package app

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/fanout"
	"persistor/internal/pull/eventhub"
	"persistor/internal/work"
)

// A partition whose turn doesn't come within the budget has not failed: the next run takes it on. What
// waits in it isn't known, and said to be so.
func TestPartitionsWhoseTurnDoesNotCome(t *testing.T) {
	d := newDrains(t, emulator.Hub{Partitions: 3, Synthetic: &emulator.Synthetic{Events: 5_000_000}})
	unit := work.Unit{Run: "r", Partitions: []string{"0", "1", "2"}, Tasks: 1, OwnerLevel: 1, BudgetSeconds: 2}
	report := d.Drain(t.Context(), unit)
	if report.Status != fanout.OK {
		t.Errorf("%+v", report)
	}
	for i, s := range report.Sources {
		if s.Ended != work.Deadline || i > 0 && (s.Backlog != -1 || s.Checkpoint != -1 || s.Messages != 0) {
			t.Errorf("%+v", s)
		}
	}

	stopped, stop := context.WithCancel(t.Context())
	stop()
	report = d.Drain(stopped, unit)
	for _, s := range report.Sources {
		if s.Ended != work.Cancelled {
			t.Errorf("after a stop: %+v", s)
		}
	}
}

// Each loop of a unit may receive for EVENT_HUB_RECEIVE_DURATION, not the unit as a whole.
func TestReceiveDurationIsOfEachLoop(t *testing.T) {
	d := newDrains(t, emulator.Hub{Partitions: 3, Synthetic: &emulator.Synthetic{Events: 5_000_000}})
	d.ReceiveFor = time.Second
	report := d.Drain(t.Context(), work.Unit{Run: "r", Partitions: []string{"0", "1", "2"}, Tasks: 1, OwnerLevel: 1})
	for _, s := range report.Sources {
		if s.Ended != work.Deadline || s.Messages == 0 || s.Checkpoint+1 != s.Messages {
			t.Errorf("%+v", s)
		}
	}
}

// A worker that plans for itself doesn't wait for ever for a hub that takes connections and says nothing.
func TestPlanIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	h, err := eventhub.Connect(eventhub.Options{
		ConnectionString: "Endpoint=sb://" + silent.Addr().String() + ";SharedAccessKeyName=k;SharedAccessKey=a2V5;UseDevelopmentEmulator=true",
		EventHub:         hubName, Checkpoints: eventhub.DirCheckpoints(t.TempDir()),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &HubDrainer{Hub: h, Draining: Draining{Timeout: time.Second}}
	planned := make(chan error, 1)
	go func() {
		_, err := d.Plan(context.Background(), fanout.Request{})
		planned <- err
	}()
	select {
	case err := <-planned:
		if err == nil || !strings.Contains(err.Error(), silent.Addr().String()) {
			t.Errorf("planned without a hub: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the plan waits for ever")
	}
}

// The time that a plan took is not there for the drain.
func TestPlanCountsTowardsTheBudget(t *testing.T) {
	d := newDrains(t, emulator.Hub{Synthetic: &emulator.Synthetic{Events: 10}})
	d.hub.Delay(100 * time.Millisecond)
	unit, err := d.Plan(t.Context(), fanout.Request{PerFunc: 1})
	if err != nil || unit.BudgetSeconds <= 0 || unit.BudgetSeconds > d.Timeout.Seconds()-0.1 {
		t.Errorf("a budget of %v s after a plan, of %v: %v", unit.BudgetSeconds, d.Timeout, err)
	}
}
