package main

import (
	"testing"
	"time"

	"persistor/internal/ledger"
)

// A run that has just been abandoned may be taken up yet by an invoker that was started again; one that was abandoned
// long ago may not.
func TestAbandonedMayBeTakenUp(t *testing.T) {
	now := time.Now()
	var w watcher
	run := ledger.Run{State: ledger.Abandoned, Alive: now.Add(-time.Second)}
	if w.over(run, now) || w.over(run, now.Add(2*time.Second)) {
		t.Error("watching ends before an invoker can take the run up")
	}
	if w.over(ledger.Run{State: ledger.Running}, now.Add(3*time.Second)) || w.over(run, now.Add(4*time.Second)) {
		t.Error("a run that was taken up is not watched further")
	}
	if !w.over(run, now.Add(4*time.Second+takenUpWithin)) {
		t.Error("a run that nobody takes up is watched without end")
	}
	// The invoker's clock is ahead by an hour.
	run.Alive = now.Add(time.Hour)
	if w = (watcher{}); w.over(run, now) || !w.over(run, now.Add(takenUpWithin)) {
		t.Error("clocks that differ decide")
	}
	run.Alive = now.Add(-time.Hour)
	if w = (watcher{}); !w.over(run, now) {
		t.Error("a run that was abandoned long ago is waited for")
	}
	if !w.over(ledger.Run{State: ledger.Succeeded}, now) {
		t.Error("a run that has succeeded is waited for")
	}
}
