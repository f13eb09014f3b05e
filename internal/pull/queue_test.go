package pull

import (
	"context"
	"slices"
	"testing"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
)

// counter is a receiver whose messages are all completed.
type counter struct{ completed, again []int64 }

func (c *counter) Receive(context.Context, int) ([]message.Message, error) {
	panic("not received from")
}

func (c *counter) Check([]int64) (lost, again []int64) { return nil, c.again }

func (c *counter) Complete(_ context.Context, numbers []int64) []int64 {
	c.completed = append(c.completed, numbers...)
	return nil
}

func (c *counter) Window() time.Duration { return time.Hour }
func (c *counter) Room() int             { return 1 << 20 }

// newShelf is what a receiver that competes stores with.
func newShelf(sink Sink, source Locks, run string, mode Append) *shelf {
	return &shelf{queue: &Queue{Loop: Loop{Sink: sink, Folder: "orders", RunID: run, Append: mode, AppendBytes: 1 << 20, MaxAppend: 1 << 20}, Source: source, Entity: "orders"}}
}

// keepNumbers stores messages as one batch.
func keepNumbers(t *testing.T, k *shelf, numbers ...int64) {
	t.Helper()
	b := &batch{}
	for _, n := range numbers {
		m := at(n)
		m.EnqueuedTime = firstEnqueued
		if !b.add(m, record.Format{}, Limits{Count: 1 << 20, Bytes: 1 << 30, Age: time.Hour}) {
			t.Fatal("the batch is full")
		}
	}
	if err := k.keep(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// shelved are all blobs, in order.
func shelved(t *testing.T, f folder) (all []record.Holding) {
	t.Helper()
	for blob, err := range f.Dir.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.ParseHolding(blob.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		if h.Bytes != blob.Size {
			t.Errorf("%s has %d bytes, and says %d", blob.Name, blob.Size, h.Bytes)
		}
		all = append(all, h)
	}
	return all
}

// What is left of a batch when much of it was found to be stored may have more holes than one blob's metadata
// can tell: then it becomes several blobs.
func TestQueueSplitsWhatOneBlobCantTell(t *testing.T) { eachMode(splitWhatOneBlobCantTell)(t) }

func splitWhatOneBlobCantTell(t *testing.T, mode Append) {
	f, c := newFolder(t), &counter{}
	k := newShelf(f, c, "r1", mode)
	const messages = 5000
	var odd []int64
	for n := int64(1); n < 2*messages; n += 2 {
		odd = append(odd, n)
	}
	keepNumbers(t, k, odd[:100]...) // which the next part is appended to, as far as may be
	keepNumbers(t, k, odd[100:]...)
	seen := map[int64]bool{}
	blobs := shelved(t, f)
	for _, h := range blobs {
		for n := range h.Held.All() {
			if seen[n] {
				t.Errorf("message %d is stored twice", n)
			}
			seen[n] = true
		}
		if h.Unsettled || h.Held.EncodedLen() > k.queue.maxHeld() {
			t.Errorf("a blob has kept its mark (%t), or tells of too much: %d bytes", h.Unsettled, h.Held.EncodedLen())
		}
	}
	if len(seen) != messages || len(c.completed) != messages || len(blobs) < 3 || k.messages != messages || k.blobs != int64(len(blobs)) {
		t.Errorf("%d messages in %d blobs, %d completed, %d counted in %d", len(seen), len(blobs), len(c.completed), k.messages, k.blobs)
	}
}

// A message that came again while it waited in a batch was in somebody else's hands in between, who may have
// stored it.
func TestQueueLooksForWhatCameAgainMeanwhile(t *testing.T) {
	eachMode(func(t *testing.T, mode Append) {
		f := newFolder(t)
		keepNumbers(t, newShelf(f, unconfirming{&counter{}}, "r1", mode), 3)
		c := &counter{again: []int64{3}}
		mine := newShelf(f, c, "r2", mode)
		keepNumbers(t, mine, 1, 2, 3, 4)
		if mine.messages != 3 || mine.already != 1 || len(c.completed) != 4 {
			t.Errorf("%d stored, %d found, %d completed", mine.messages, mine.already, len(c.completed))
		}
	})(t)
}

// A blob keeps its mark while a part of its messages may come again, and whoever completes those doesn't undo
// what its owner appends meanwhile.
func TestQueueMarksWhatGrows(t *testing.T) {
	f := newFolder(t)
	source := &interrupted{counter: &counter{}}
	owner := newShelf(f, source, "r1", Joined)
	marked := func(when string, want bool, numbers ...int64) {
		t.Helper()
		blobs := shelved(t, f)
		if len(blobs) != 1 || blobs[0].Unsettled != want || blobs[0].Begun != 2 || !slices.Equal(slices.Collect(blobs[0].Held.All()), numbers) {
			t.Errorf("%s: %+v, want %v, marked %t", when, blobs, numbers, want)
		}
	}
	keepNumbers(t, owner, 1, 2)
	marked("all are settled", false, 1, 2)
	source.during = func([]int64) { marked("before they are settled", true, 1, 2, 3, 7) }
	keepNumbers(t, owner, 7, 3)
	marked("again", false, 1, 2, 3, 7)
	source.unconfirmed = []int64{5}
	source.during = nil
	keepNumbers(t, owner, 4, 5)
	source.unconfirmed = nil
	keepNumbers(t, owner, 6)
	marked("one was not", true, 1, 2, 3, 4, 5, 6, 7)

	// Another receiver gets a whole blob again, and completes it while the owner appends.
	f = newFolder(t)
	source = &interrupted{counter: &counter{}, unconfirmed: []int64{1, 2}}
	owner = newShelf(f, source, "r1", Joined)
	keepNumbers(t, owner, 1, 2)
	other := &interrupted{counter: &counter{again: []int64{1, 2}}}
	source.unconfirmed = []int64{3}
	other.during = func([]int64) { keepNumbers(t, owner, 3) }
	keepNumbers(t, newShelf(f, other, "r2", Joined), 1, 2)
	marked("completed by another", true, 1, 2, 3)
}

// interrupted is a receiver in whose completing something happens.
type interrupted struct {
	*counter
	during      func([]int64)
	unconfirmed []int64
}

func (i *interrupted) Complete(ctx context.Context, numbers []int64) []int64 {
	if i.during != nil {
		i.during(numbers)
	}
	i.counter.Complete(ctx, numbers)
	return slices.Clone(i.unconfirmed)
}

// unconfirming completes nothing.
type unconfirming struct{ *counter }

func (u unconfirming) Complete(_ context.Context, numbers []int64) []int64 { return numbers }
