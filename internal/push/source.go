package push

import (
	"context"
	"math"
	"time"

	"persistor/internal/message"
	"persistor/internal/pull"
)

// given is a source whose messages are there already. The host settles them, once it has the answer.
type given struct{ messages []message.Message }

// Receive implements [pull.Source].
func (g *given) Receive(_ context.Context, count int) ([]message.Message, error) {
	if len(g.messages) == 0 {
		return nil, pull.ErrDrained
	}
	count = min(count, len(g.messages))
	received := g.messages[:count]
	g.messages = g.messages[count:]
	return received, nil
}

// Checkpoint implements [pull.Log]: the host has its own.
func (g *given) Checkpoint(context.Context, pull.Mark) error { return nil }

// locked is a source of messages that the host has locked. Whether it could complete them only the service
// knows, so their blobs keep the mark that they may come again.
type locked struct{ given }

// Check implements [pull.Locks]: what the host has lost it doesn't tell.
func (l *locked) Check([]int64) (lost, again []int64) { return nil, nil }

// Complete implements [pull.Locks].
func (l *locked) Complete(_ context.Context, numbers []int64) (unconfirmed []int64) { return numbers }

// Window implements [pull.Locks].
func (l *locked) Window() time.Duration { return math.MaxInt64 }

// Room implements [pull.Locks].
func (l *locked) Room() int { return math.MaxInt }
