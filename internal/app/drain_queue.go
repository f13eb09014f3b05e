package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"persistor/internal/api"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/pull"
	"persistor/internal/pull/servicebus"
	"persistor/internal/telemetry"
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
	// fewAfter is the same for another session, where the sessions that there were are named and drained.
	fewAfter = 500 * time.Millisecond
	// givingBack is how long it may take to give back what could not be stored, at most.
	givingBack = 5 * time.Second
	// silent is after what time a session's message no longer comes that the service has shown.
	silent = 15 * time.Second
)

// Drain runs a unit and answers within its budget, or the worker's own if that is shorter. When ctx
// ends, it stores what it holds and answers.
func (d *QueueDrainer) Drain(ctx context.Context, unit work.Unit) work.Report {
	loops := max(unit.Tasks, 1)
	named := &sessionList{ids: unit.Sessions}
	return d.run(ctx, unit, loops, loops, func(ctx context.Context, t turn) work.Source {
		began, n, deadline := time.Now(), t.source, t.deadline
		l := queueLoop{
			QueueDrainer: d, unit: unit, loops: loops, progress: t.progress,
			end: deadline.Add(-min(time.Second, d.budget(unit)/40)),
			// What can't be stored is given back within the budget, too.
			deadline: deadline.Add(-min(givingBack, d.budget(unit)/5)),
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

// sessionList deals out the sessions that a unit names, to several loops.
type sessionList struct {
	mu  sync.Mutex
	ids []string
	// locked are those that another receiver had: they are dealt out once more at the end, for that may
	// have been a sibling that took whichever session was available.
	locked []string
	begun  map[string]bool // those that were drained in part
}

func (l *sessionList) take() (id string, ok bool) { return l.pop(&l.ids) }

func (l *sessionList) takeAgain() (id string, ok bool) { return l.pop(&l.locked) }

func (l *sessionList) pop(from *[]string) (id string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(*from) == 0 {
		return "", false
	}
	id, *from = (*from)[0], (*from)[1:]
	return id, true
}

// again has a session that was drained in part dealt out behind the others.
func (l *sessionList) again(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun == nil {
		l.begun = map[string]bool{}
	}
	l.begun[id] = true
	l.ids = append(l.ids, id)
}

// done takes a session off that is drained, and says whether it was begun before.
func (l *sessionList) done(id string) (begun bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	begun = l.begun[id]
	delete(l.begun, id)
	return begun
}

func (l *sessionList) postpone(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locked = append(l.locked, id)
}

// queueLoop is one loop of a unit, and what came of it so far.
type queueLoop struct {
	*QueueDrainer
	unit     work.Unit
	loops    int
	deadline time.Time // for storing
	end      time.Time // for everything
	pace     pull.Pace // of its sessions, one after the other
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
	defer l.Telemetry.Watch(ctx, &queue.Loop, telemetry.Loop{Source: telemetry.Queue, Target: -1})()
	l.add(queue.Run(ctx))
	if err := receiver.Unread(); err != nil && l.row.Ended.OK() {
		l.row.Ended, l.row.Error = work.Failed, err.Error()
	}
	l.row.Abandoned += l.givenBack(receiver)
}

// maxStumbles is how many sessions in a row may fail, or hold nothing, before a loop takes no further
// ones: the service may be handing out the same one again and again.
const maxStumbles = 8

// sessions drains one session after the other: first those that were named, then whichever is available,
// until there is none; and at the end those of the named that were locked, once more.
func (l *queueLoop) sessions(ctx context.Context, named *sessionList) {
	began := time.Now()
	acceptor, err := l.Entity.OpenAcceptor(l.loops)
	if err != nil {
		l.fail(ctx, err)
		return
	}
	defer closeWithin(acceptor.Close, time.Second)
	from := &sessionSource{acceptor: acceptor, named: named, only: l.unit.OnlySessions, wait: cmp.Or(l.Idle, drainedAfter)}
	if l.Idle == 0 && len(l.unit.Sessions) > 0 {
		from.wait = fewAfter
	}
	for stumbles := 0; stumbles < maxStumbles; {
		left := time.Until(l.deadline)
		if l.ReceiveFor > 0 {
			left = min(left, l.ReceiveFor-time.Since(began))
		}
		switch {
		case ctx.Err() != nil:
			l.row.Ended = work.Cancelled
			return
		case left <= 0 || time.Until(l.deadline) < l.leastSession():
			l.endAs(work.Deadline)
			return
		}
		id, session, err := from.next(ctx, left)
		switch {
		case errors.Is(err, servicebus.ErrSessionLocked):
			l.skip(id, err)
			continue
		case err != nil:
			l.fail(ctx, err)
			return
		case session == nil && left < from.wait:
			l.endAs(work.Deadline)
			return
		case session == nil && l.Idle > 0:
			l.endAs(work.Idle)
			return
		case session == nil:
			l.endAs(work.Drained)
			return
		}
		switch row := l.drainSession(ctx, session, left); {
		case row.Ended == work.Cancelled:
			return
		case row.Ended == work.Deadline:
			l.endAs(work.Deadline)
			return
		case row.Ended == work.Drained && session.More():
			named.again(session.ID())
			stumbles = 0
		case row.Ended == work.Drained && (named.done(session.ID()) || row.Messages+row.AlreadyStored > 0):
			l.row.Sessions++
			stumbles = 0
		case row.Ended == work.Drained && id != "":
			// A named session that held nothing: a sibling was faster.
		default:
			stumbles++
		}
	}
	// The sessions that are handed out hold nothing, or fail.
	if l.row.Error == "" && l.row.Skipped > 0 {
		l.row.Error = fmt.Sprintf("%d sessions in a row could not be drained, the last because %s", maxStumbles, l.row.SkippedSessions[len(l.row.SkippedSessions)-1].Reason)
	}
	l.endAs(work.Drained)
}

// leastSession is the time below which another session isn't worth taking: what is kept for storing, and as
// much again. Of a short budget, half is enough.
func (l *queueLoop) leastSession() time.Duration {
	return min(2*l.pace.Reserve(), l.budget(l.unit)/2)
}

// endAs ends the loop: as failed, when one of its sessions has.
func (l *queueLoop) endAs(end work.Ended) {
	if l.row.Ended = end; l.row.Error != "" {
		l.row.Ended = work.Failed
	}
}

// sessionSource is where a loop's sessions come from.
type sessionSource struct {
	acceptor *servicebus.Acceptor
	named    *sessionList
	only     bool          // no others than those named, or there are none
	wait     time.Duration // for another one to become available
}

// next takes a session, within the time that is left, or returns nil when there is none. The id is set for
// one that was named.
func (f *sessionSource) next(ctx context.Context, left time.Duration) (id string, s *servicebus.Session, err error) {
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	for {
		id, ok := f.named.take()
		if !ok {
			break
		}
		s, err := f.acceptor.Accept(ctx, id)
		if errors.Is(err, servicebus.ErrSessionLocked) {
			f.named.postpone(id)
			continue
		}
		return id, s, err
	}
	if !f.only {
		if s, err := f.acceptor.Next(ctx, f.wait); s != nil || err != nil {
			return "", s, err
		}
		f.only = true
	}
	id, ok := f.named.takeAgain()
	if !ok {
		return "", nil, nil
	}
	s, err = f.acceptor.Accept(ctx, id)
	return id, s, err
}

// drainSession drains a session and gives it back. A session that fails doesn't keep the loop from the
// others.
func (l *queueLoop) drainSession(ctx context.Context, s *servicebus.Session, left time.Duration) work.Source {
	session := pull.Session{
		Loop: l.loop(l.unit, l.loops, l.deadline, l.progress), Source: s, Entity: l.Entity.Path(), ID: s.ID(),
	}
	session.Pace = &l.pace
	session.Idle, session.Quiet = 0, silent // the source knows when its session is drained
	if l.ReceiveFor > 0 {
		session.Duration = left
	}
	defer l.Telemetry.Watch(ctx, &session.Loop, telemetry.Loop{Source: telemetry.Session, Target: -1})()
	row := session.Run(ctx)
	l.row.Abandoned += l.givenBack(s)
	l.add(row)
	switch row.Ended {
	case work.Superseded:
		l.skip(s.ID(), errors.New("its lock was lost, or that its messages are completed was not confirmed"))
	case work.Failed:
		l.skip(s.ID(), errors.New(row.Error))
	}
	return row
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

// givenBack closes a source and says how many messages it gave back. It waits no longer than the unit may
// take: the client can wait for a peer that is gone whatever its context says.
func (l *queueLoop) givenBack(source interface {
	Close(ctx context.Context) (abandoned int64, err error)
}) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), min(givingBack, max(time.Until(l.end), 0)))
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
