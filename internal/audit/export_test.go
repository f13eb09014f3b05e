package audit

import "testing"

// Bound has an audit hold fewer sessions of an entity, and fewer events of a folder, until the test ends.
func Bound(t *testing.T, sessions, events int) {
	s, e := maxSessions, maxEvents
	maxSessions, maxEvents = sessions, events
	t.Cleanup(func() { maxSessions, maxEvents = s, e })
}
