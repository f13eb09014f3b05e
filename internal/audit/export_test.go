package audit

import "testing"

// Bounds are how much an audit holds.
type Bounds struct{ Sessions, Events, Subjects, Pages int }

// Bound has audits hold no more than that until the test ends; 0 leaves a bound as it is.
func Bound(t *testing.T, b Bounds) {
	for limit, n := range map[*int]int{&maxSessions: b.Sessions, &maxEvents: b.Events, &maxSubjects: b.Subjects, &maxPages: b.Pages} {
		if n > 0 {
			before := *limit
			*limit = n
			t.Cleanup(func() { *limit = before })
		}
	}
}
