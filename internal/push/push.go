// Package push stores the messages that the Functions host brings: events of an Event Hub, messages of Service
// Bus, events of Event Grid, one or many with each invocation.
//
//	host.Invocation --decode--> messages --> pull.Partition --> blobs of a chain      (Event Hubs)
//	                                     --> pull.Queue ------> blobs of sets         (Service Bus)
//	                                     --> Create ----------> a blob for each event (Event Grid)
//
// The first two are the loops that pull messages, over a source whose messages are there already. So names, metadata
// and records are theirs: what is pushed and what is pulled into one folder are one chain, and an invocation that comes
// again, or overlaps an earlier one, stores what is new.
//
// An answer is a success when everything is stored. What can't be stored is tried again until the invocation's time is
// nearly over. What happens then depends on what the host does with a failure (azure-functions-host and the extensions of
// azure-sdk-for-net):
//
//   - Event Hubs: it goes on with the next messages, whatever the answer was. So the messages are stored apart,
//     below _failed/ and the folder, or in a second account; only when that fails too, the answer is a failure,
//     which the function's retry policy repeats.
//   - Service Bus: the messages are given back, and dead-lettered in the end. So a failure is enough.
//   - Event Grid: the whole delivery comes again, for a day. So a failure is enough.
package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"persistor/internal/pull"
	"persistor/internal/record"
)

// Options are what pushed messages are stored by.
type Options struct {
	// Sink is where blobs go.
	Sink pull.Sink
	// Spare is a second place, in another account, for what Sink doesn't take; nil for none.
	Spare pull.Sink
	// Folder is the main folder of the blobs' names. For Event Grid it may be "": then the event tells it.
	Folder string
	Format record.Format
	// Limits say when a batch becomes a blob; Age means nothing, for nothing more comes.
	Limits pull.Limits
	// Append says which batches become one blob, as in [pull.Loop], with AppendBytes and MaxAppend.
	Append      pull.Append
	AppendBytes int64
	MaxAppend   int
	// Timeout is how long one invocation may last; the answer takes no longer, whatever storage does.
	Timeout time.Duration
	// Output says to give single messages back to the host, as the output Blob, and not to store them.
	Output bool
	// Observe, unless nil, gives what is to be told of each step of storing what the invocation of ctx brings, or nil.
	Observe func(ctx context.Context) func(pull.Step)
	// Log takes what is noticed; nil drops it.
	Log *slog.Logger
}

// Blob is the name of the output binding of which the host makes a blob.
const Blob = "blob"

// failedFolder is what the names of blobs begin with that couldn't be stored in their place.
const failedFolder = "_failed"

// apart is the folder of what couldn't be stored in its place.
func apart(folder string) string { return failedFolder + "/" + folder }

// tellOfBatches says, once, what becomes of batches where the output binding is asked for.
func (o *Options) tellOfBatches(told *sync.Once) {
	told.Do(func() {
		o.log().Warn("batches are stored by this program and not by the output binding, which can't name them: set cardinality to one to use it")
	})
}

func (o *Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// budget is the time of one invocation: until the first moment it tries to store messages where they belong,
// until the second wherever they can be stored.
func (o *Options) budget(began time.Time) (regular, last time.Time) {
	last = began.Add(o.Timeout)
	return last.Add(-min(o.Timeout/4, 30*time.Second)), last
}

// persevere tries again until ctx ends: what storage refuses now it may take in a minute, when a role is assigned
// or a key is exchanged. A blob in the way stays there. What passes by itself, the sink has tried again already.
func persevere(ctx context.Context, attempt func(context.Context) error) error {
	for pause := time.Second; ; pause = min(2*pause, 10*time.Second) {
		err := attempt(ctx)
		if err == nil || errors.Is(err, pull.ErrForeign) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// refuge stores something apart: below _failed/ where it should have been stored, or else in the second account.
// Each gets a share of the time that ctx leaves. It says where.
func (o *Options) refuge(ctx context.Context, store func(ctx context.Context, sink pull.Sink) error) (where string, err error) {
	first := ctx
	if o.Spare != nil {
		deadline, _ := ctx.Deadline()
		var cancel context.CancelFunc
		first, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	err = store(first, o.Sink)
	if err == nil {
		return "the container of the others", nil
	}
	if o.Spare == nil {
		return "", fmt.Errorf("and below %s/: %w", failedFolder, err)
	}
	if spare := store(ctx, o.Spare); spare != nil {
		return "", fmt.Errorf("and below %s/: %w; and in FAILED_STORAGE_CONNECTION_STRING: %w", failedFolder, err, spare)
	}
	return "FAILED_STORAGE_CONNECTION_STRING", nil
}

// observe is what steps are told to; nil for nobody.
func (o *Options) observe(ctx context.Context) func(pull.Step) {
	if o.Observe == nil {
		return nil
	}
	return o.Observe(ctx)
}

// stored tells of a request that has stored some messages by itself, without a loop; held is what it met instead.
func (o *Options) stored(ctx context.Context, began time.Time, messages, bytes int, held map[string]string, err error) {
	observe := o.observe(ctx)
	if observe == nil {
		return
	}
	s := pull.Step{Kind: pull.Stored, Began: began, Took: time.Since(began), Err: err, Messages: int64(messages), Bytes: int64(bytes)}
	if held != nil {
		s.Already = 1
	}
	observe(s)
	s.Kind = pull.Kept
	if held != nil || err != nil {
		s.Messages, s.Bytes = 0, 0
	}
	observe(s)
}

// loop is the part of a pull loop that is the same for all invocations.
func (o *Options) loop(ctx context.Context, sink pull.Sink, folder, run string, messages int) pull.Loop {
	deadline, _ := ctx.Deadline()
	return pull.Loop{
		Observe: o.observe(ctx),
		Sink:    sink, Format: o.Format, Folder: folder, RunID: run, Limits: o.Limits, Chunk: messages, Deadline: deadline,
		Append: o.Append, AppendBytes: o.AppendBytes, MaxAppend: o.MaxAppend,
	}
}

// runID is what goes into a blob's metadata as run: the host's invocation.
func runID(invocation string) string {
	id := []byte(cmp.Or(invocation, "push"))
	for i, c := range id {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			id[i] = '_'
		}
	}
	return string(id[:min(len(id), 64)])
}
