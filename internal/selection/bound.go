package selection

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TimeForms says how a time may be written for ParseBound.
const TimeForms = "2026-03-09, 2026-03-09T04:05 or 2026-03-09T04:05:06 in UTC, 2026-03-09T04:05:06+01:00, or how long ago: 90m, 2h, 3d"

// timeLayouts are those of TimeForms.
var timeLayouts = []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339}

// ParseBound reads one end of a range as a person writes it: a sequence number, which is a whole number from 0 on, or
// else a time as [TimeForms] has it, of which now is that from which "2h" counts back.
func ParseBound(text string, now time.Time) (at time.Time, number *int64, err error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return time.Time{}, &n, nil
	}
	for _, layout := range timeLayouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil, nil
		}
	}
	if ago, ok := parseAgo(text); ok {
		return now.Add(-ago).UTC(), nil, nil
	}
	return time.Time{}, nil, fmt.Errorf("%.80q is neither a sequence number nor a time: expected %s", text, TimeForms)
}

// maxAgo is as far back as a time goes: no source keeps messages for longer.
const maxAgo = 100 * 366 * 24 * time.Hour

// parseAgo reads a duration, which may be in days.
func parseAgo(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err == nil && n <= uint64(maxAgo/(24*time.Hour))
	}
	ago, err := time.ParseDuration(text)
	return ago, err == nil && 0 <= ago && ago <= maxAgo
}
