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
	// Batch is how many messages a batch has at most, 0 for as many as the service takes.
	Batch int
	// Sending is called before a batch is sent, and Sent when the service has accepted it, with the numbers of its
	// messages, counted from 0 in the order in which they came; nil for none. Calls for several batches run side by
	// side. The next batch of a partition, key, session or stream need not wait for Sent. Where Sending fails the batch
	// isn't sent, and nothing after it, but what is under way is answered.
	Sending, Sent func(ctx context.Context, messages []int64) error
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
		options:  options,
		start:    time.Now(),
	}
	fillErr := s.fill(sending, messages)
	sendErr := group.Wait()
	s.result.Elapsed = time.Since(s.start)
	switch {
	case ctx.Err() != nil:
		return s.result, fmt.Errorf("publish messages: stopped after %d were accepted: %w", s.result.Messages, context.Cause(ctx))
	case s.refusal() != nil:
		return s.result, fmt.Errorf("publish messages: stopped after %d were accepted: %w", s.result.Messages, s.refused)
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
	load   load    // what is in the batch
	last   *flight // the batch before; nil when there is none
}

// load is what of a batch's messages is to be known when it is sent.
type load struct {
	bodies  int64   // bytes
	numbers []int64 // of the messages, where someone asks for them
}

// flight is a batch that was handed over for sending. The field err is set before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

type sender struct {
	producer Producer
	group    *errgroup.Group
	options  Options

	// Of the filling goroutine alone.
	lanes map[target]*lane
	held  uint64 // bytes in batches that fill

	mu      sync.Mutex // guards result and refused, and serialises Progress
	result  Result
	refused error // by Sending
	start   time.Time
}

// fill puts messages into batches, and hands over those that are full, then the rest.
func (s *sender) fill(ctx context.Context, messages iter.Seq[Message]) error {
	var n int64
	for m := range messages {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.refusal(); err != nil {
			return err
		}
		if err := s.add(ctx, &m, n); errors.Is(err, errFull) {
			s.flush(ctx) // what came before it is sent
			return &TooLargeError{n, m.Size()}
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
func (s *sender) add(ctx context.Context, m *Message, n int64) error {
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
		err := s.put(l, m, n)
		if !errors.Is(err, errFull) {
			return err
		}
		s.send(ctx, l)
	}
	if l.batch, err = s.producer.open(ctx, t); err != nil {
		return fmt.Errorf("open a batch: %w", amqpclient.OneLine(err))
	}
	if err := s.put(l, m, n); err != nil {
		l.batch = nil
		return err
	}
	return nil
}

func (s *sender) put(l *lane, m *Message, n int64) error {
	if s.options.Batch > 0 && l.batch.messages() >= s.options.Batch {
		return errFull
	}
	before := l.batch.bytes()
	if err := l.batch.add(m); err != nil {
		return err
	}
	l.load.bodies += int64(m.Size())
	if s.options.Sending != nil || s.options.Sent != nil {
		l.load.numbers = append(l.load.numbers, n)
	}
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

// reset leaves a lane behind its batch.
func (l *lane) reset(sent *flight) { l.batch, l.load, l.last = nil, load{}, sent }

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
	batch, load, before, target := l.batch, l.load, l.last, l.target
	this := &flight{done: make(chan struct{})}
	s.held -= batch.bytes()
	l.reset(this)
	if !target.ordered() {
		before = nil
	}
	s.group.Go(func() error {
		this.err = s.deliver(ctx, batch, load, before, target)
		close(this.done)
		switch {
		case errors.As(this.err, new(refusedError)):
			return nil // an error would end what is under way
		case this.err == nil && s.options.Sent != nil:
			return s.options.Sent(ctx, load.numbers)
		}
		return this.err
	})
}

// refusal is the error with which Sending ended it all, nil as long as it has not.
func (s *sender) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// ask asks whether a batch may be sent.
func (s *sender) ask(ctx context.Context, numbers []int64) error {
	if err := s.refusal(); err != nil || s.options.Sending == nil {
		return err
	}
	err := s.options.Sending(ctx, numbers)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = refusedError{err}
	}
	return s.refused
}

// refusedError is an error of Sending.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// deliver sends one batch, after the one before it was accepted.
func (s *sender) deliver(ctx context.Context, batch batch, load load, before *flight, t target) error {
	if before != nil {
		<-before.done // ends with ctx
		if before.err != nil {
			return before.err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.ask(ctx, load.numbers); err != nil {
		return err
	}
	if err := batch.send(ctx); err != nil {
		return fmt.Errorf("send %d messages%s: %w", batch.messages(), t.to(), amqpclient.OneLine(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Batches++
	s.result.Messages += int64(batch.messages())
	s.result.Bytes += load.bodies
	s.result.Elapsed = time.Since(s.start)
	if s.options.Progress != nil {
		s.options.Progress(s.result)
	}
	return nil
}
