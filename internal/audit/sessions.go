package audit

import "crypto/sha256"

// sessions is how far each session of an entity has come, in the blobs seen so far. Ids stand there as hashes, so that
// their length doesn't matter.
type sessions struct {
	highest map[sessionKey]int64
	// at is the session looked at last, and end how far it has come, whether or not there is room for it: a
	// session's blobs of one day are listed one after the other.
	at  sessionKey
	end int64
	any bool
}

type sessionKey [16]byte

// maxSessions bounds the sessions of one entity: some 50 MB. It is a variable for tests alone.
var maxSessions = 1 << 20

func keyOfSession(id string) sessionKey {
	sum := sha256.Sum256([]byte(id))
	return sessionKey(sum[:16])
}

// last returns the highest number of a session, if it is known.
func (s *sessions) last(id string) (n int64, known bool) {
	key := keyOfSession(id)
	if s.any && s.at == key {
		return s.end, true
	}
	n, known = s.highest[key]
	return n, known
}

// set says how far a session has come; false if there is no room for it.
func (s *sessions) set(id string, n int64) bool {
	key := keyOfSession(id)
	s.at, s.end, s.any = key, n, true
	if _, known := s.highest[key]; !known && len(s.highest) >= maxSessions {
		return false
	}
	if s.highest == nil {
		s.highest = make(map[sessionKey]int64)
	}
	s.highest[key] = n
	return true
}

// count is how many there are, as far as there was room.
func (s *sessions) count() int64 { return int64(len(s.highest)) }
