package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/pull"
	"persistor/internal/pull/servicebus"
	"persistor/internal/work"
)

// QueueDrainer carries out work units of a Service Bus entity: loops that compete for its messages, or
// take its sessions.
type QueueDrainer struct {
	Draining
	Entity *servicebus.Entity
	Queue  config.Queue
}

const (
	// drainedAfter is how long no message has come to a receiver that takes the entity for drained.
	drainedAfter = 3 * time.Second
	// givingBack is how long it may take to give back what could not be stored, at most.
	givingBack = 2 * time.Second
)

// Drain runs a unit and answers within its budget, or the worker's own if that is shorter. When ctx
// ends, it stores what it holds and answers.
func (d *QueueDrainer) Drain(ctx context.Context, unit work.Unit) work.Report {
	loops := max(unit.Tasks, 1)
	named := &sessionList{ids: unit.Sessions}
	return d.run(unit, loops, loops, func(n int, deadline time.Time) work.Source {
		began := time.Now()
		l := queueLoop{
			QueueDrainer: d, unit: unit, loops: loops, progress: new(pull.Progress),
			// What can't be stored is given back within the budget, too.
			deadline: deadline.Add(-min(givingBack, d.budget(unit)/10)),
			row:      work.Source{Receiver: &n, Checkpoint: -1, Backlog: -1},
		}
		defer d.watch(l.progress, api.Progress{Run: unit.Run, Unit: unit.Unit, Receiver: &n, Last: -1})()
		if l.row.Ended = d.untaken(ctx, unit, deadline); l.row.Ended == "" {
			if d.Queue.Sessions && !d.Queue.DeadLetter {
				l.sessions(ctx, named)
			} else {
				l.compete(ctx)
			}
		}
		l.row.ElapsedSeconds = time.Since(began).Seconds()
		return l.row
	})
}

// Plan makes one unit with as many loops as were asked for.
func (d *QueueDrainer) Plan(_ context.Context, req fanout.Request) (work.Unit, error) {
	return work.Unit{Run: fanout.NewRun(time.Now()).ID, Tasks: max(req.PerFunc, 1), Batch: req.Batch}, nil
}

// Close gives back what the drainer holds.
func (d *QueueDrainer) Close(ctx context.Context) error {
	err := d.Entity.Close(ctx)
	d.close()
	return err
}

// sessionList deals out the sessions that a unit names.
type sessionList struct {
	ids  []string
	next atomic.Int64
}

func (l *sessionList) take() (id string, ok bool) {
	i := l.next.Add(1) - 1
	if i >= int64(len(l.ids)) {
		return "", false
	}
	return l.ids[i], true
}

// queueLoop is one loop of a unit, and what came of it so far.
type queueLoop struct {
	*QueueDrainer
	unit     work.Unit
	loops    int
	deadline time.Time
	progress *pull.Progress
	row      work.Source
}

// fail ends the loop with an error, unless it was told to stop, which explains any error.
func (l *queueLoop) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		l.row.Ended = work.Cancelled
		return
	}
	l.row.Ended, l.row.Error = work.Failed, err.Error()
}

// compete receives beside other loops, until nothing comes any more.
func (l *queueLoop) compete(ctx context.Context) {
	receiver, err := l.Entity.OpenReceiver(l.loops)
	if err != nil {
		l.fail(ctx, err)
		return
	}
	queue := pull.Queue{
		Loop: l.loop(l.unit, l.loops, l.deadline, l.progress), Source: receiver,
		Entity: l.Entity.Path(), Frozen: l.Queue.DeadLetter,
	}
	if l.Idle == 0 {
		queue.Quiet = drainedAfter
	}
	l.add(queue.Run(ctx))
	l.row.Abandoned += givenBack(receiver)
}

// maxStumbles is how many sessions in a row may fail, or hold nothing, before a loop takes no further
// ones: the service may be handing out the same one again and again.
const maxStumbles = 8

// sessions drains one session after the other: first those that were named, then whichever is available,
// until there is none.
func (l *queueLoop) sessions(ctx context.Context, named *sessionList) {
	began := time.Now()
	acceptor, err := l.Entity.OpenAcceptor(l.loops)
	if err != nil {
		l.fail(ctx, err)
		return
	}
	defer closeWithin(acceptor.Close, givingBack)
	for stumbles := 0; stumbles < maxStumbles; {
		left := time.Until(l.deadline)
		if l.ReceiveFor > 0 {
			left = min(left, l.ReceiveFor-time.Since(began))
		}
		switch {
		case ctx.Err() != nil:
			l.row.Ended = work.Cancelled
			return
		case left < leastTurn/2:
			l.row.Ended = work.Deadline
			return
		}
		session, id, err := l.accept(ctx, acceptor, named, left)
		switch {
		case errors.Is(err, servicebus.ErrSessionLocked):
			l.skip(id, err)
			continue
		case err != nil:
			l.fail(ctx, err)
			return
		case session == nil:
			return // accept says why
		}
		if l.ReceiveFor > 0 {
			left = l.ReceiveFor - time.Since(began)
		}
		switch progress := l.drainSession(ctx, session, left); {
		case l.row.Ended == work.Deadline || l.row.Ended == work.Cancelled:
			return
		case progress:
			stumbles = 0
		default:
			stumbles++
		}
	}
	l.end(work.Drained) // the sessions that are handed out hold nothing
}

// accept takes the next of the named sessions, or else the next available one. Where there is none it
// returns nil, and the row says how the loop ended.
func (l *queueLoop) accept(ctx context.Context, from *servicebus.Acceptor, named *sessionList, left time.Duration) (*servicebus.Session, string, error) {
	if id, ok := named.take(); ok {
		ctx, cancel := context.WithTimeout(ctx, left)
		defer cancel()
		s, err := from.Accept(ctx, id)
		return s, id, err
	}
	end, wait := work.Drained, drainedAfter
	if l.unit.OnlySessions {
		l.end(end)
		return nil, "", nil
	}
	if l.Idle > 0 {
		end, wait = work.Idle, l.Idle
	}
	if wait > left {
		end, wait = work.Deadline, left
	}
	s, err := from.Next(ctx, wait)
	switch {
	case err != nil:
		return nil, "", err
	case s == nil:
		l.end(end)
		return nil, "", nil
	}
	return s, s.ID(), nil
}

// end ends the loop: as failed, when one of its sessions has.
func (l *queueLoop) end(as work.Ended) {
	if l.row.Ended = as; l.row.Error != "" {
		l.row.Ended = work.Failed
	}
}

// drainSession drains a session and gives it back. It reports whether that went well and there was
// something to drain. A session that fails doesn't keep the loop from the others.
func (l *queueLoop) drainSession(ctx context.Context, s *servicebus.Session, left time.Duration) (progress bool) {
	session := pull.Session{
		Loop: l.loop(l.unit, l.loops, l.deadline, l.progress), Source: s, Entity: l.Entity.Path(), ID: s.ID(),
	}
	session.Idle = 0 // the source knows when its session is drained
	if l.ReceiveFor > 0 {
		session.Duration = max(left, time.Nanosecond)
	}
	row := session.Run(ctx)
	l.row.Abandoned += givenBack(s)
	l.add(row)
	switch row.Ended {
	case work.Drained:
		l.row.Sessions++
		return row.Messages+row.AlreadyStored > 0
	case work.Superseded:
		l.skip(s.ID(), errors.New("its lock was lost"))
	case work.Failed:
		l.skip(s.ID(), errors.New(row.Error))
	}
	return false
}

// add takes in what came of a part of the loop.
func (l *queueLoop) add(s work.Source) {
	l.row.Ended = s.Ended
	l.row.Messages += s.Messages
	l.row.Bytes += s.Bytes
	l.row.Blobs += s.Blobs
	l.row.AlreadyStored += s.AlreadyStored
	l.row.RedeliveryExpected += s.RedeliveryExpected
	if l.row.Error == "" {
		l.row.Error = s.Error
	}
}

func (l *queueLoop) skip(id string, why error) {
	l.row.Skipped++
	if len(l.row.SkippedSessions) < work.MaxSkipped {
		l.row.SkippedSessions = append(l.row.SkippedSessions, work.SkippedSession{Session: id, Reason: why.Error()})
	}
}

// givenBack closes a source and says how many messages it gave back. It waits no longer than givingBack:
// the client can wait for a peer that is gone whatever its context says.
func givenBack(source interface {
	Close(ctx context.Context) (abandoned int64, err error)
}) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), givingBack)
	defer cancel()
	closed := make(chan int64, 1)
	go func() {
		abandoned, _ := source.Close(ctx)
		closed <- abandoned
	}()
	select {
	case n := <-closed:
		return n
	case <-ctx.Done():
		return 0
	}
}
