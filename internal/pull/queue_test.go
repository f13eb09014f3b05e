package pull

import (
	"context"
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

// What is left of a batch when much of it was found to be stored may have more holes than one blob's metadata
// can tell: then it becomes several blobs.
func TestQueueSplitsWhatOneBlobCantTell(t *testing.T) {
	f, c := newFolder(t), &counter{}
	k := &shelf{queue: &Queue{Loop: Loop{Sink: f, Folder: "orders", RunID: "r1"}, Source: c, Entity: "orders"}}
	b := &batch{}
	const messages = 5000
	for n := int64(1); n < 2*messages; n += 2 {
		m := at(n)
		m.EnqueuedTime = firstEnqueued
		if !b.add(m, record.Format{}, Limits{Count: 1 << 20, Bytes: 1 << 30, Age: time.Hour}) {
			t.Fatal("the batch is full")
		}
	}
	if err := k.keep(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	blobs := 0
	for blob, err := range f.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.ParseHolding(blob.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		blobs++
		for n := range h.Held.All() {
			if seen[n] {
				t.Errorf("message %d is stored twice", n)
			}
			seen[n] = true
		}
		if h.Unsettled {
			t.Errorf("blob %s has kept its mark", blob.Name)
		}
	}
	if len(seen) != messages || len(c.completed) != messages || blobs < 2 || k.messages != messages {
		t.Errorf("%d messages in %d blobs, %d completed, %d counted", len(seen), blobs, len(c.completed), k.messages)
	}
}

// A message that came again while it waited in a batch was in somebody else's hands in between, who may have
// stored it.
func TestQueueLooksForWhatCameAgainMeanwhile(t *testing.T) {
	f := newFolder(t)
	other := &shelf{queue: &Queue{Loop: Loop{Sink: f, Folder: "orders", RunID: "r1"}, Source: unconfirming{&counter{}}, Entity: "orders"}}
	store := func(k *shelf, numbers ...int64) {
		b := &batch{}
		for _, n := range numbers {
			b.add(at(n), record.Format{}, Limits{Count: 100, Bytes: 1 << 20, Age: time.Hour})
		}
		if err := k.keep(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	store(other, 3)
	c := &counter{again: []int64{3}}
	mine := &shelf{queue: &Queue{Loop: Loop{Sink: f, Folder: "orders", RunID: "r2"}, Source: c, Entity: "orders"}}
	store(mine, 1, 2, 3, 4)
	if mine.messages != 3 || mine.already != 1 || len(c.completed) != 4 {
		t.Errorf("%d stored, %d found, %d completed", mine.messages, mine.already, len(c.completed))
	}
}

// unconfirming completes nothing.
type unconfirming struct{ *counter }

func (u unconfirming) Complete(_ context.Context, numbers []int64) []int64 { return numbers }
