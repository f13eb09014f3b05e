package backfill

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Local is a [Chain] within one process: it carries the waves out one after the other, and forgets what was asked for
// when the process ends, see [Engine.Recover].
type Local struct {
	log *slog.Logger

	mu    sync.Mutex
	asked []asked      // in order of time
	ended func() error // why nothing is carried out any more; nil before Run
	wake  chan struct{}
}

type asked struct {
	Message
	at       time.Time
	failures int
}

const (
	// maxAsked bounds what waits.
	maxAsked = 10_000
	// failedPause is how long a wave waits that failed, doubled for each failure in a row, up to failedPauseMax.
	failedPause    = time.Second
	failedPauseMax = time.Minute
)

// NewLocal makes a chain. A nil log drops lines.
func NewLocal(log *slog.Logger) *Local {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Local{log: log, wake: make(chan struct{}, 1)}
}

// Ask implements [Chain]. A message that waits already is not asked for twice; the sooner of the two holds. It fails
// when Run is at its end, so that nobody waits for what won't come.
func (l *Local) Ask(ctx context.Context, m Message, after time.Duration) error {
	l.mu.Lock()
	ended := l.ended
	l.mu.Unlock()
	if ended != nil && ended() != nil {
		return errors.New("the process that carries the waves out is ending: resume the run, or start the invoker again")
	}
	l.put(ctx, asked{Message: m, at: time.Now().Add(after)})
	return nil
}

func (l *Local) put(ctx context.Context, a asked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.asked, func(b asked) bool { return b.Message == a.Message }); i >= 0 {
		if !a.at.Before(l.asked[i].at) {
			return
		}
		l.asked = slices.Delete(l.asked, i, i+1)
	}
	if len(l.asked) >= maxAsked {
		l.log.ErrorContext(ctx, "too many waves wait: a run will show as abandoned", "run", a.Run, "wave", a.Wave)
		return
	}
	i := slices.IndexFunc(l.asked, func(b asked) bool { return b.at.After(a.at) })
	if i < 0 {
		i = len(l.asked)
	}
	l.asked = slices.Insert(l.asked, i, a)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run has the waves carried out until ctx ends.
func (l *Local) Run(ctx context.Context, carryOut func(context.Context, Message) error) {
	l.mu.Lock()
	l.ended = ctx.Err
	l.mu.Unlock()
	for {
		a, wait, ok := l.next()
		if !ok {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-l.wake:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			timer.Stop()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err := carryOut(ctx, a.Message); err != nil && ctx.Err() == nil {
			pause := min(failedPause<<min(a.failures, 10), failedPauseMax)
			l.log.ErrorContext(ctx, "a wave could not be carried out; it is tried again", "run", a.Run, "wave", a.Wave, "pause", pause, "error", err)
			a.failures++
			a.at = time.Now().Add(pause)
			l.put(ctx, a)
		}
	}
}

// next takes the message whose time has come, or says how long to wait for one.
func (l *Local) next() (a asked, wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) == 0 {
		return a, time.Hour, false
	}
	a = l.asked[0]
	if wait := time.Until(a.at); wait > 0 {
		return a, wait, false
	}
	l.asked = l.asked[1:]
	return a, 0, true
}
