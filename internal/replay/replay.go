// Package replay sends stored messages back to an Event Hub, or to a queue or topic of Service Bus: with the bodies,
// properties and AMQP types that they had, in the order that they had.
//
// A replay may be interrupted at any point, and goes on where its progress says. Each message is sent at least once.
// Twice it is sent only when its batch was under way as the replay was killed, since nobody knows then whether the
// service has it; and its id is the same then, so that a queue with duplicate detection drops it.
package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"persistor/internal/publish"
	"persistor/internal/selection"
)

// Task says what is sent where. It is what progress belongs to.
type Task struct {
	// Source is the container, and Target the hub, queue or topic with its namespace, in words and without a secret.
	Source string `json:"source"`
	Target string `json:"target"`
	ToHub  bool   `json:"to_hub"` // else to Service Bus

	Selection selection.Selection `json:"selection"`
	// Selected is the selection in the words of who asked for it, such as "--from 2h", "" for none. Then a replay goes
	// on that has the same words, with the selection that they meant when it was begun.
	Selected string `json:"selected,omitempty"`
	// Expression is that of the filter, "" for none.
	Expression string `json:"jq,omitempty"`

	// KeepPartition sends each event to the partition of the number that it was in. Without it an event goes where
	// its key leads, or else those of one partition go to one partition.
	KeepPartition bool `json:"keep_partition,omitempty"`
	// AnyPartition sends events that have no key to any partition, in no order.
	AnyPartition bool `json:"any_partition,omitempty"`
	// Mark sets [MarkProperty].
	Mark bool `json:"mark,omitempty"`
}

// Options say how it is sent. The zero value is usable.
type Options struct {
	// Filter is the compiled [Task.Expression], nil for none.
	Filter *Filter
	// Rate is how many messages a second are sent at most; 0 is as many as the service takes.
	Rate float64
	// Report is called after every batch, one call at a time; nil for none.
	Report func(Result)
}

// Result is how far a replay is, over all of the times that it was begun and went on.
type Result struct {
	// Sent counts the messages that the target has accepted, Bytes those of their bodies.
	Sent  int64 `json:"sent"`
	Bytes int64 `json:"bytes"`
	// Uncertain counts the messages whose batches were under way when the replay was killed, or failed. They were sent
	// again: the target may have them twice.
	Uncertain int64 `json:"uncertain"`
	// Deselected counts the messages that the expression didn't select.
	Deselected int64 `json:"deselected"`
	// Unreadable counts records and blobs that couldn't be read, and blobs from which records may be missing. Problems tells of the first of them, since the
	// replay last went on.
	Unreadable int64    `json:"unreadable"`
	Problems   []string `json:"problems,omitempty"`
	// Missed counts the blobs that came, since the replay was begun, among those that it had behind it, and were not
	// sent: a replay of their own may send them.
	Missed int64 `json:"missed_blobs,omitempty"`
	// Complete says that all there is to send was sent.
	Complete bool `json:"complete"`
	// Now counts the messages sent since the replay last went on, in Elapsed.
	Now     int64         `json:"sent_now"`
	Elapsed time.Duration `json:"-"`
}

// MaxProblems bounds [Result.Problems].
const MaxProblems = 20

// Errors of progress. They come with words on what to do.
var (
	// ErrComplete says that all was sent already.
	ErrComplete = errors.New("this replay is complete already")
	// ErrOther says that the progress is another replay's.
	ErrOther = errors.New("the progress is that of another replay")
	// ErrDamaged says that the progress can't be read.
	ErrDamaged = errors.New("the progress is damaged, or none: restore it, or remove it to begin anew, which sends again what was sent")
	// ErrNothing says that there is nothing to send.
	ErrNothing = errors.New("no blob holds what is selected: correct the container, the folder, or what else is selected by")
	// ErrChanged says that blobs are not what they were when the replay was begun.
	ErrChanged = errors.New("what is stored has changed since the replay was begun")
)

// Keeper keeps a replay's progress.
type Keeper interface {
	// Load returns what was saved last, nil when nothing was.
	Load() ([]byte, error)
	// Save puts state in place of what was saved before, wholly and durably or not at all.
	Save(state []byte) error
}

// inFlight is how many batches are under way at once, of 1 MiB each as a rule. All of them are uncertain after a kill.
const inFlight = 16

// grace is how long what is under way may take to be answered when a replay is told to end.
const grace = 10 * time.Second

// Run sends what the task says, from where the progress is. When ctx ends, what is under way is answered first, for 10
// s at most, so that nothing is uncertain; the error wraps the cause. Whatever the error is, the replay can go on
// later with the same task and keeper.
//
// It holds at most some hundred MB, and three times the largest record for each of 8 partitions or sessions that it
// reads side by side.
func Run(ctx context.Context, from selection.Store, to publish.Producer, task Task, keeper Keeper, options Options) (Result, error) {
	r, err := begin(from, to, task, keeper, options)
	if err != nil {
		return Result{}, err
	}
	return r.goOn(ctx)
}

// goOn sends what is left.
func (r *replay) goOn(ctx context.Context) (Result, error) {
	err := r.run(ctx)
	if saveErr := r.progress.end(err == nil); err == nil {
		err = saveErr
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = fmt.Errorf("replay: stopped: %w", context.Cause(ctx))
	default:
		err = fmt.Errorf("replay: %w", err)
	}
	return r.result(), err
}

// replay is one run.
type replay struct {
	from     selection.Store
	to       publish.Producer
	task     Task
	options  Options
	address  *address
	pace     *pace
	progress *progress
	portion  int // blobs, at most
	started  time.Time

	reporting sync.Mutex
}

func begin(from selection.Store, to publish.Producer, task Task, keeper Keeper, options Options) (*replay, error) {
	if task.KeepPartition && !task.ToHub {
		return nil, errors.New("replay: to keep partitions is for an Event Hub: Service Bus chooses them itself")
	}
	p, err := openProgress(keeper, task)
	if err != nil {
		return nil, err
	}
	task = p.state.Task
	return &replay{
		from: from, to: to, task: task, options: options, progress: p, pace: newPace(options.Rate), portion: portionBlobs,
		address: &address{Task: task}, started: time.Now(),
	}, nil
}

// run sends one portion after the other.
func (r *replay) run(ctx context.Context) error {
	var err error
	if r.address.partitions, err = publish.Partitions(ctx, r.to); err != nil {
		return err
	}
	listing, err := newListing(ctx, r)
	if err != nil {
		return err
	}
	defer listing.close()
	for {
		p, err := listing.next()
		if err != nil {
			return err
		}
		if len(p) == 0 {
			return r.lookBack(ctx)
		}
		if err := r.send(ctx, p); err != nil {
			return err
		}
		if err := r.progress.pass(p); err != nil {
			return err
		}
	}
}

// lookBack tells, when all is sent, of blobs that came meanwhile among those that the replay had behind it.
func (r *replay) lookBack(ctx context.Context) error {
	if r.progress.state.Passed.Blobs == 0 {
		return ErrNothing
	}
	listing, err := newListing(ctx, r)
	switch {
	case errors.Is(err, ErrChanged):
		return nil // what is gone was sent before
	case err == nil:
		listing.close()
	}
	return err
}

// send sends a portion. It outlives ctx by what is under way.
func (r *replay) send(ctx context.Context, p portion) error {
	sending, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
	})
	defer stop()

	reader := newReader(ctx, r, p)
	defer reader.close()
	_, err := publish.Send(sending, r.to, reader.messages(), publish.Options{
		InFlight: inFlight, Batch: r.pace.batch,
		Sending: func(_ context.Context, numbers []int64) error {
			if err := r.pace.wait(ctx, len(numbers)); err != nil {
				return err
			}
			return r.progress.sending(numbers)
		},
		Sent: func(_ context.Context, numbers []int64) error {
			r.progress.sent(numbers)
			r.report()
			return nil
		},
	})
	var large *publish.TooLargeError
	if errors.As(err, &large) {
		return fmt.Errorf("%s: its body of %d bytes is larger than a batch of the target may be: leave it out with --jq, or send to a target that takes it", r.progress.place(large.Message), large.Bytes)
	}
	if cause := reader.err(); cause != nil {
		return cause
	}
	return err
}

func (r *replay) report() {
	if r.options.Report == nil {
		return
	}
	r.reporting.Lock()
	defer r.reporting.Unlock()
	r.options.Report(r.result())
}

func (r *replay) result() Result {
	result := r.progress.result()
	result.Elapsed = time.Since(r.started)
	return result
}
