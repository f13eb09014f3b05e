package demo

import (
	"fmt"

	"persistor/internal/message"
	"persistor/internal/terminal"
)

// sessions is a queue whose messages come in sessions, one for each machine: a receiver takes one session
// after the other, and stores each in its order.
type sessions struct{ queue }

func (s sessions) setup() setup {
	at := s.queue.setup()
	at.machines = min(s.Sessions, s.Events)
	at.title += fmt.Sprintf(" with %s sessions", terminal.Group(int64(at.machines)))
	at.namespace.Queues[0].Sessions = true
	at.settings = append(at.settings, "SERVICE_BUS_SESSIONS=TRUE")
	at.shows = []string{`"session_id"`}
	at.publish += " --session SESSION"
	return at
}

// address makes the machine's name, which is the partition key elsewhere, the session.
func (sessions) address(m *message.Message) { m.SessionID, m.PartitionKey = m.PartitionKey, nil }
