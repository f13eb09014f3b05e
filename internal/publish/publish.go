// Package publish sends messages to an Event Hub, or to a queue or topic of Service Bus, in full batches of
// which several are under way at once.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/amqpclient"
)

// Options say how to send. The zero value is usable.
type Options struct {
	// InFlight is how many batches are under way at once: 1 to 64, 0 means 8. Batches of one partition, key
	// or session follow each other, whatever it says.
	InFlight int
	// Progress is called after every batch that the service has accepted, one call at a time; nil for none.
	Progress func(Result)
}

// Result counts what the service has accepted.
type Result struct {
	Messages int64
	Bytes    int64 // of bodies
	Batches  int64
	Elapsed  time.Duration
}

// TooLargeError says which message does not fit into a batch of its own.
type TooLargeError struct {
	Message int64 // counts from 0
	Bytes   int   // of its body
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("message %d with a body of %d bytes is larger than a batch may be", e.Message, e.Bytes)
}

const (
	defaultInFlight = 8
	maxInFlight     = 64
	// maxHeld bounds the bytes that batches hold while they fill, over all lanes.
	maxHeld = 32 << 20
	// maxLanes bounds the lanes that are being filled, for messages of many keys or sessions.
	maxLanes = 1024
)

// Send sends messages in the order they come, by partition, key or session: within one of these no message
// overtakes another. Messages with none may. It returns when all that it sent is answered, and counts what
// the service accepted also when it fails; a batch that failed may have been accepted nevertheless (its
// answer lost), and the SDKs' own retries can repeat a batch for the same reason.
//
// When ctx ends, the error wraps its cause.
func Send(ctx context.Context, to Producer, messages iter.Seq[Message], options Options) (Result, error) {
	if options.InFlight < 0 || options.InFlight > maxInFlight {
		return Result{}, fmt.Errorf("publish messages: %d batches in flight: expected 1 to %d", options.InFlight, maxInFlight)
	}
	if options.InFlight == 0 {
		options.InFlight = defaultInFlight
	}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(options.InFlight)
	s := &sender{
		producer: to,
		group:    group,
		lanes:    make(map[target]*lane),
		progress: options.Progress,
		start:    time.Now(),
	}
	fillErr := s.fill(sending, messages)
	sendErr := group.Wait()
	s.result.Elapsed = time.Since(s.start)
	switch {
	case ctx.Err() != nil:
		return s.result, fmt.Errorf("publish messages: stopped after %d were accepted: %w", s.result.Messages, context.Cause(ctx))
	case sendErr != nil: // the cause of a fillErr, if both failed
		return s.result, fmt.Errorf("publish messages: after %d were accepted: %w", s.result.Messages, sendErr)
	case fillErr != nil:
		return s.result, fmt.Errorf("publish messages: after %d were accepted: %w", s.result.Messages, fillErr)
	}
	return s.result, nil
}

// lane is a target's batch while it fills.
type lane struct {
	target target
	batch  batch   // nil when nothing waits
	bodies int64   // bytes
	last   *flight // the batch before; nil when there is none
}

// flight is a batch that was handed over for sending. The field err is set before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

type sender struct {
	producer Producer
	group    *errgroup.Group

	// Of the filling goroutine alone.
	lanes map[target]*lane
	held  uint64 // bytes in batches that fill

	mu       sync.Mutex // guards result, and serialises progress
	result   Result
	progress func(Result)
	start    time.Time
}

// fill puts messages into batches, and hands over those that are full, then the rest.
func (s *sender) fill(ctx context.Context, messages iter.Seq[Message]) error {
	var n int64
	for m := range messages {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.add(ctx, &m); errors.Is(err, errFull) {
			s.flush(ctx) // what came before it is sent
			return &TooLargeError{n, len(m.Body)}
		} else if err != nil {
			return fmt.Errorf("add message %d: %w", n, err)
		}
		n++
		if s.held > maxHeld || len(s.lanes) > maxLanes {
			if err := s.relieve(ctx); err != nil {
				return err
			}
		}
	}
	s.flush(ctx)
	return nil
}

// add puts a message into its lane's batch. When the batch is full it goes, and the message starts the next.
func (s *sender) add(ctx context.Context, m *Message) error {
	t, err := s.producer.target(m)
	if err != nil {
		return err
	}
	l := s.lanes[t]
	if l == nil {
		l = &lane{target: t}
		s.lanes[t] = l
	}
	if l.batch != nil {
		err := s.put(l, m)
		if !errors.Is(err, errFull) {
			return err
		}
		s.send(ctx, l)
	}
	if l.batch, err = s.producer.open(ctx, t); err != nil {
		return fmt.Errorf("open a batch: %w", amqpclient.OneLine(err))
	}
	if err := s.put(l, m); err != nil {
		l.batch = nil
		return err
	}
	return nil
}

func (s *sender) put(l *lane, m *Message) error {
	before := l.batch.bytes()
	if err := l.batch.add(m); err != nil {
		return err
	}
	l.bodies += int64(len(m.Body))
	s.held += l.batch.bytes() - before
	return nil
}

// relieve hands over the fullest batches until half of the room is free, and forgets their lanes once
// they are answered: a lane that comes back later starts anew, with nothing to wait for.
func (s *sender) relieve(ctx context.Context) error {
	fullestFirst := slices.SortedFunc(maps.Values(s.lanes), func(a, b *lane) int {
		return cmp.Compare(b.size(), a.size())
	})
	var emptied []*lane
	for _, l := range fullestFirst {
		if s.held <= maxHeld/2 && len(s.lanes)-len(emptied) <= maxLanes/2 {
			break
		}
		if l.batch != nil {
			s.send(ctx, l)
		}
		emptied = append(emptied, l)
	}
	for _, l := range emptied {
		if l.last != nil {
			select {
			case <-l.last.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		delete(s.lanes, l.target)
	}
	return nil
}

// size is how many bytes wait in a lane.
func (l *lane) size() uint64 {
	if l.batch == nil {
		return 0
	}
	return l.batch.bytes()
}

// flush hands over every batch that holds something.
func (s *sender) flush(ctx context.Context) {
	for _, l := range s.lanes {
		if l.batch != nil {
			s.send(ctx, l)
		}
	}
}

// send hands a lane's batch over, once fewer than InFlight are under way.
func (s *sender) send(ctx context.Context, l *lane) {
	batch, bodies, before, target := l.batch, l.bodies, l.last, l.target
	this := &flight{done: make(chan struct{})}
	s.held -= batch.bytes()
	l.batch, l.bodies, l.last = nil, 0, this
	if !target.ordered() {
		before = nil
	}
	s.group.Go(func() error {
		defer close(this.done)
		this.err = s.deliver(ctx, batch, bodies, before, target)
		return this.err
	})
}

// deliver sends one batch, after the one before it was accepted.
func (s *sender) deliver(ctx context.Context, batch batch, bodies int64, before *flight, t target) error {
	if before != nil {
		<-before.done // ends with ctx
		if before.err != nil {
			return before.err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := batch.send(ctx); err != nil {
		return fmt.Errorf("send %d messages%s: %w", batch.messages(), t.to(), amqpclient.OneLine(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Batches++
	s.result.Messages += int64(batch.messages())
	s.result.Bytes += bodies
	s.result.Elapsed = time.Since(s.start)
	if s.progress != nil {
		s.progress(s.result)
	}
	return nil
}
