package pull

import "time"

// Step is something that a loop has done, for whoever watches it. There are a few for each batch, and none for a message.
type Step struct {
	Kind  StepKind
	Began time.Time
	Took  time.Duration
	Err   error
	// Messages and Bytes are of the batch, or the part of it, that the step is about; Bytes as encoded. Of a batch kept
	// they are what was stored; of one settled, Bytes is 0.
	Messages, Bytes int64
	// Already counts the messages of a batch kept that were stored before. Of a batch stored it is 1 where its blob's name,
	// or its place, was taken.
	Already int64
	// Last is the sequence number of the last message.
	Last int64
}

// StepKind says what a [Step] is.
type StepKind int

const (
	// Received is a batch that was gathered: from its first message on until it was handed over.
	Received StepKind = iota
	// Stored is a request that puts a batch, or a part of one, into a blob.
	Stored
	// Settled is a checkpoint, or the completion of a batch's messages.
	Settled
	// Kept is a batch with which everything was done: it is stored, and where it had to be, settled.
	Kept
)

// clock is the time that a step begins at. Nobody asks for it where nobody watches.
func (l *Loop) clock() time.Time {
	if l.Observe == nil {
		return time.Time{}
	}
	return time.Now()
}

// observe tells of a step that has ended now.
func (l *Loop) observe(s Step) {
	if l.Observe == nil {
		return
	}
	s.Took = time.Since(s.Began)
	l.Observe(s)
}
