package selection_test

import (
	"testing"
	"time"

	"persistor/internal/selection"
)

func TestParseBound(t *testing.T) {
	now := time.Date(2026, 3, 9, 12, 0, 0, 0, time.FixedZone("", 3600))
	for text, want := range map[string]string{
		"2026-03-09":                "2026-03-09T00:00:00Z",
		"2026-03-09T04:05":          "2026-03-09T04:05:00Z",
		"2026-03-09T04:05:06":       "2026-03-09T04:05:06Z",
		"2026-03-09T04:05:06.5Z":    "2026-03-09T04:05:06.5Z",
		"2026-03-09T04:05:06+01:00": "2026-03-09T03:05:06Z",
		"90m":                       "2026-03-09T09:30:00Z",
		"3d":                        "2026-03-06T11:00:00Z",
	} {
		at, number, err := selection.ParseBound(text, now)
		if got := at.Format(time.RFC3339Nano); got != want || number != nil || err != nil {
			t.Errorf("%s: %s, %v, %v", text, got, number, err)
		}
	}
	for text, want := range map[string]int64{"0": 0, "9223372036854775807": 1<<63 - 1} {
		if at, number, err := selection.ParseBound(text, now); !at.IsZero() || number == nil || *number != want || err != nil {
			t.Errorf("%s: %s, %v, %v", text, at, number, err)
		}
	}
	for _, text := range []string{"", "-1", "9223372036854775808", "2026-3-9", "yesterday", "-2h", "99999d", "1e3h", "2026-03-09 04:05"} {
		if at, number, err := selection.ParseBound(text, now); err == nil {
			t.Errorf("%q: %s, %v", text, at, number)
		}
	}
}
