package app

import (
	"testing"

	"persistor/emulator"
	"persistor/internal/work"
)

// drainCells drains parts of partition 0 as one unit, and expects an end of all of them.
func (d *drains) drainCells(want work.Ended, ranges ...work.Range) []work.Source {
	d.t.Helper()
	unit := work.Unit{Run: "cells", Tasks: 2}
	for _, r := range ranges {
		unit.Cells = append(unit.Cells, work.Cell{Partition: "0", Range: r})
	}
	report := d.Drain(d.t.Context(), unit)
	for i, s := range report.Sources {
		if s.Ended != want || s.Cell == nil || *s.Cell != ranges[i] || s.Partition != "0" {
			d.t.Fatalf("ended %s, expected %s: %+v", s.Ended, want, s)
		}
	}
	return report.Sources
}

// Cells end where they should, whatever the source holds behind them, and write no checkpoint.
func TestCellsEndWhereTheyShould(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.put(1000)
	rows := d.drainCells(work.Drained, work.Range{From: 0, To: 299}, work.Range{From: 300, To: 449})
	for i, want := range []int64{300, 150} {
		if s := rows[i]; s.Messages != want || s.Checkpoint != s.Cell.To || s.Offset == "" || s.Backlog != 0 {
			t.Errorf("%+v", s)
		}
	}
	if spans := d.stored(); spans[len(spans)-1].Last != 449 {
		t.Errorf("stored up to %d", spans[len(spans)-1].Last)
	}
	partitions, err := d.Hub.Partitions(t.Context())
	if err != nil || partitions[0].Checkpoint != nil {
		t.Errorf("checkpoint %v, error %v", partitions[0].Checkpoint, err)
	}
	// A plain run finds them stored, and goes on behind.
	if s := d.drain(work.Drained); s.Messages != 550 || s.AlreadyStored != 0 {
		t.Errorf("%+v", s)
	}
	d.stored()
}
