package hosttest

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Tick fires a timer once and waits for its end, after that of a tick before it, for the host runs one at a time. The
// error is that of the invocation.
func (h *Host) Tick(ctx context.Context, name string) error {
	f, err := h.function(name, "timerTrigger")
	if err != nil {
		return err
	}
	h.timers[name].Lock()
	defer h.timers[name].Unlock()
	now := time.Now()
	_, err = h.execute(ctx, call{function: f, metadata: bindingData{}, data: map[string]any{
		"Schedule": map[string]any{"AdjustForDST": true},
		"ScheduleStatus": map[string]any{
			"Last": now.Add(-time.Minute).Format(time.RFC3339Nano), "Next": now.Add(time.Minute).Format(time.RFC3339Nano),
			"LastUpdated": now.Add(-time.Minute).Format(time.RFC3339Nano),
		},
		"IsPastDue": false,
	}})
	return err
}

// checkSchedule takes NCRONTAB expressions of five or six fields, and time spans.
func checkSchedule(schedule string) error {
	if fields := len(strings.Fields(schedule)); fields == 5 || fields == 6 {
		return nil
	}
	var span time.Duration
	if err := timeSpan(&schedule, &span); err != nil {
		return fmt.Errorf("schedule %q is no NCRONTAB expression of 5 or 6 fields, and no time span", schedule)
	}
	return nil
}
