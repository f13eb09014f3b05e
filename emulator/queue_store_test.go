package emulator

import "testing"

// Messages of a synthetic queue's sessions come in turns from all of its length, and go again.
func TestMessageStoreTakesAnyOrder(t *testing.T) {
	const stride, length = 7, 5 * chunkSize
	var s messageStore
	for session := range int64(stride) {
		var made []*message
		for n := session + 1; n <= length; n += stride {
			m := &message{sequence: n}
			s.put(m)
			made = append(made, m)
		}
		for _, m := range made {
			if s.at(m.sequence) != m {
				t.Fatalf("message %d of session %d is not there", m.sequence, session)
			}
			s.remove(m)
			if s.at(m.sequence) != nil {
				t.Fatalf("message %d of session %d is still there", m.sequence, session)
			}
		}
		for m := range s.from(1) {
			t.Fatalf("message %d was left", m.sequence)
		}
	}
}
