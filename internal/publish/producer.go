package publish

import (
	"context"
	"errors"
	"fmt"
)

// Producer sends to one Event Hub, queue or topic: [ToHub] and [ToQueue] make one. Its methods may be called
// concurrently. The caller closes it.
type Producer interface {
	// target says what a message shares with those that may be in its batch; an error is a message that
	// the service has no place for.
	target(m *Message) (target, error)
	// open begins a batch. It connects when it is first called.
	open(ctx context.Context, t target) (batch, error)
	// Close ends the connection. What was sent by then has been answered.
	Close(ctx context.Context) error
}

// batch is messages as the client holds them, until they are sent together. It is full by the client's own
// rule, which knows what the service accepts.
type batch interface {
	// add encodes a message, and so keeps nothing of it; errFull when there is no room for it.
	add(m *Message) error
	messages() int
	bytes() uint64
	send(ctx context.Context) error
}

var errFull = errors.New("the batch has no room for the message")

// target is what the messages of one batch have in common.
type target struct {
	kind targetKind
	name string // may be "", also of a key or a session
}

type targetKind uint8

const (
	anywhere targetKind = iota
	toPartition
	toKey
	toSession
	ofStream
)

// ordered reports whether a target's batches have to follow each other.
func (t target) ordered() bool { return t.kind != anywhere }

// to is the target in an error: "" or " to ...".
func (t target) to() string {
	switch t.kind {
	case toPartition:
		return fmt.Sprintf(" to partition %q", t.name)
	case toKey:
		return fmt.Sprintf(" to the partition of key %q", t.name)
	case toSession:
		return fmt.Sprintf(" to session %q", t.name)
	case ofStream:
		return fmt.Sprintf(" of %s", t.name)
	}
	return ""
}
