package pull

import (
	"context"
	"fmt"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
)

// Locks is a Source whose messages stay locked for the one who received them until they are settled. It
// renews the locks of what it has given out, and keeps track of those that were lost all the same. What
// it gave out and what was neither completed nor lost goes back to the service when it is closed. Its
// methods may be called while Receive waits.
type Locks interface {
	Source
	// Check tells what has become of messages while they waited. Those whose locks have been lost it forgets:
	// the service delivers them again. Others were delivered again already, which took their locks over from
	// another receiver that had them in between.
	Check(numbers []int64) (lost, again []int64)
	// Complete removes messages from the service, many at a time, for as long as ctx allows. It returns
	// the numbers of those whose removal the service has not confirmed; it may deliver them again.
	Complete(ctx context.Context, numbers []int64) (unconfirmed []int64)
	// Window is how long messages may wait before they are stored: a part of the time that a lock lasts,
	// as far as that is known, so that few locks have to be renewed.
	Window() time.Duration
	// Room is how many messages a batch may hold, at least 1: beside their records they take memory until
	// they are settled.
	Room() int
}

// within is the loop with batches that its source has room for.
func (l Loop) within(s Locks) *Loop {
	l.Limits.Count = min(l.Limits.Count, s.Room())
	return &l
}

// complete removes messages from the service, as [Locks] does.
func (l *Loop) complete(ctx context.Context, s Locks, numbers []int64) (unconfirmed []int64) {
	step := Step{Kind: Settled, Began: l.clock(), Messages: int64(len(numbers))}
	unconfirmed = s.Complete(ctx, numbers)
	if n := len(unconfirmed); n > 0 {
		step.Err = fmt.Errorf("the service has not confirmed that %d of %d messages are completed", n, len(numbers))
	}
	l.observe(step)
	return unconfirmed
}

// locked is the part of a [reader] that Queue and Session have in common.
type locked struct{ Locks }

// left is not known to a receiver of Service Bus: there is always another message to be expected.
func (locked) left() int64 { return 1 << 62 }

func (locked) came(messages []message.Message) []message.Message { return messages }

func (l locked) patience() time.Duration { return l.Window() }

// joins keeps the text within bounds in which a blob's metadata say which messages it holds.
func (locked) joins(b *batch, m *message.Message) bool {
	if b.len() == 0 {
		b.held = record.Sequences{}
	} else if b.held.EncodedLenWith(m.SequenceNumber) > record.MaxHeld {
		return false
	}
	b.held.Add(m.SequenceNumber)
	return true
}

// foreignError is an [ErrForeign] that says more.
type foreignError struct{ error }

func (e *foreignError) Unwrap() error        { return e.error }
func (e *foreignError) Is(target error) bool { return target == ErrForeign }

// foreign is the error of a name that is taken by a blob that isn't one of this entity's.
func foreign(name string, why error) error {
	return &foreignError{fmt.Errorf("blob %s is there already, but not as Persistor writes it for this entity: %w; move it away, or set STORE_PARAM to another folder", name, why)}
}
