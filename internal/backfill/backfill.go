// Package backfill carries out a backlog that outlasts any function's timeout as a chain of waves. A wave is one
// invocation of the invoker: it claims its number in the run's document, plans what is still to do, has the workers
// do it within the time that it has, writes down what became of it, and asks for the next wave.
//
//	Begin --document: queued--> Chain --message--> Wave: claim - lease - plan - dispatch - checkpoints - conclude
//	                              ^                                                                        |
//	                              '---------------------------- ask for the next -------------------------'
//
// Whoever asks is dumb: a message may come twice, late or never. The run's document (package ledger) decides, by
// compare-and-swap. Of several messages for one wave one claims it; a wave whose invoker has gone silent is taken over;
// one that is done, but hasn't asked for its successor, does so when its message comes again. Each wave ends in one write,
// which has its outcome and its successor's number; asking comes after it, and is confirmed by another. So a kill at any
// instant leaves a chain that goes on when the message comes again, or a run that shows as abandoned and can be resumed.
//
// A document is also kept of runs that are a single invocation: see [Engine.Record].
package backfill

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/pull"
)

// Hub is the Event Hub that is drained.
type Hub interface {
	fanout.Hub
	// SequenceAt returns the sequence number of the first event of a partition that was enqueued at a time or
	// later; the one behind the last event if there is none.
	SequenceAt(ctx context.Context, partition string, t time.Time) (int64, error)
	// SetCheckpoint moves a partition's checkpoint forward to a mark; never back.
	SetCheckpoint(ctx context.Context, partition string, m pull.Mark) error
}

// Chain asks for waves. It may lose what was asked, and say it more than once.
type Chain interface {
	// Ask has [Engine.Wave] called with the message after a time, by whichever process. It retries until ctx ends.
	Ask(ctx context.Context, m Message, after time.Duration) error
}

// Message asks for a wave of a run.
type Message struct {
	Run  string `json:"run"`
	Wave int    `json:"wave"` // from 1
}

// Lock has one run of the source under way at a time.
type Lock interface {
	// Take returns an [*fanout.UnderWayError] at once while another run has it. release is called once.
	Take(ctx context.Context, run fanout.Run) (release func(), err error)
}

// Options are what an [Engine] works with. All are needed unless said otherwise.
type Options struct {
	Source     string // as config.Invoker.Source writes it
	Ledger     *ledger.Ledger
	Chain      Chain
	Lock       Lock
	Dispatcher *fanout.Dispatcher
	Hub        Hub            // nil for Service Bus
	Planner    fanout.Planner // of a whole run; of Service Bus also of each wave
	Units      int            // N of requests that don't say it; 0 leaves it to the planner
	Tracked    bool           // the workers find the ledger, too
	Timing     Timing         // zero fields are defaults
	Log        *slog.Logger   // nil drops lines
}

// Timing are the times that the engine keeps to.
type Timing struct {
	// Alive is how long a wave's invoker may be silent before it is taken for dead; 30 s if zero. It writes three
	// times as often, and looks as often as Watch says whether the run is to be cancelled; 2 s if zero.
	Alive, Watch time.Duration
	// Queued is how long a wave may take from being asked for to its beginning, before the run shows as abandoned; 15
	// minutes if zero: the queue's own delay, and another run's invocation.
	Queued time.Duration
	// Pause lies between two waves of a run that follows the hub and has caught up; 30 s if zero.
	Pause time.Duration
	// Busy is how long a wave that couldn't have the lease waits for another try, and, doubled for each, one that
	// stored nothing; 5 s if zero.
	Busy time.Duration
}

func (t Timing) orDefaults() Timing {
	return Timing{
		Alive: cmp.Or(t.Alive, 30*time.Second), Watch: cmp.Or(t.Watch, 2*time.Second), Queued: cmp.Or(t.Queued, 15*time.Minute),
		Pause: cmp.Or(t.Pause, 30*time.Second), Busy: cmp.Or(t.Busy, 5*time.Second),
	}
}

// Engine begins runs, carries out their waves, and cancels, retries and resumes them. It holds nothing of a run in
// memory between two waves, and is safe for concurrent use, by any number of processes on one ledger.
type Engine struct {
	Options
}

// New makes an engine.
func New(o Options) *Engine {
	o.Timing = o.Timing.orDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{o}
}

// maxStalled is after how many waves in a row that stored nothing, and left something to do, a run has failed.
const maxStalled = 3

// longestLock is how long a message of Service Bus, or a session, is locked at most for somebody who has died.
// https://learn.microsoft.com/azure/service-bus-messaging/message-transfers-locks-settlement
const longestLock = 5 * time.Minute

// errSuperseded ends an update by an invoker whose wave another one has taken over.
var errSuperseded = errors.New("another invoker has taken the wave over")

// Cancel asks for the end of a run, and returns it. A wave that is under way stops at its workers' next batches; what
// they have stored stays. Where none is, the run is over at once. To cancel again changes nothing. The error is a
// [ledger.ErrState] for a run that ended otherwise, and a [ledger.ErrNoRun].
func (e *Engine) Cancel(ctx context.Context, id string) (ledger.Run, error) {
	return e.Ledger.Update(ctx, id, func(run *ledger.Run) error {
		now := time.Now()
		switch {
		case run.State == ledger.Cancelled:
			return nil
		case run.State.Over():
			return fmt.Errorf("cancel run %s: %w: %s", id, ledger.ErrState, run.State)
		case run.CancelRequested.IsZero():
			run.CancelRequested = now
		}
		if run.State == ledger.Queued || run.StateAt(now) == ledger.Abandoned {
			finish(run, ledger.Cancelled, now)
		}
		return nil
	})
}

// ask asks for the run's next wave and confirms that it was asked for. A run that somebody else has taken on
// meanwhile is left alone.
func (e *Engine) ask(ctx context.Context, run ledger.Run, after time.Duration) error {
	if err := e.Chain.Ask(ctx, Message{Run: run.ID, Wave: run.Next}, after); err != nil {
		return fmt.Errorf("ask for wave %d of run %s: %w", run.Next, run.ID, err)
	}
	_, err := e.Ledger.Update(ctx, run.ID, func(now *ledger.Run) error {
		if now.State != ledger.Queued || now.Next != run.Next || !now.NextAsked.IsZero() {
			return errSuperseded
		}
		now.NextAsked = time.Now()
		now.Alive = time.Now().Add(after + e.Timing.Queued)
		return nil
	})
	if errors.Is(err, errSuperseded) {
		return nil // the wave was faster
	}
	return err
}

// finish ends a run.
func finish(run *ledger.Run, state ledger.State, now time.Time) {
	run.State, run.Ended = state, now
	run.Next, run.NextAsked, run.Alive, run.Invoker, run.Stalled = 0, time.Time{}, time.Time{}, "", 0
	if w := lastWave(run); w != nil && w.Ended.IsZero() {
		w.Ended = now
	}
}

// lastWave is the wave that was begun last; nil if none was.
func lastWave(run *ledger.Run) *ledger.Wave {
	if len(run.Waves) == 0 {
		return nil
	}
	return &run.Waves[len(run.Waves)-1]
}

func newMark() string { return rand.Text() }

// note adds a note once.
func note(run *ledger.Run, text string) {
	for _, n := range run.Notes {
		if n == text {
			return
		}
	}
	if len(run.Notes) < ledger.MaxNotes {
		run.Notes = append(run.Notes, text)
	}
}

// complain adds an error; the oldest go first.
func complain(run *ledger.Run, unit int, text string, now time.Time) {
	if len(run.Errors) >= ledger.MaxErrors {
		run.Errors = append(run.Errors[:0:0], run.Errors[len(run.Errors)-ledger.MaxErrors+1:]...)
	}
	run.Errors = append(run.Errors, ledger.Error{Time: now, Wave: run.Wave, Unit: unit, Error: text})
}
