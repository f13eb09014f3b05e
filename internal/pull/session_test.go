package pull

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
)

// room is a session as the service keeps it: its messages, in order, until they are completed by the
// receiver that has it.
type room struct {
	mu      sync.Mutex
	left    []int64
	tenancy int // counts the receivers that had the session
}

// tenant is a receiver that took the session over, from whoever had it.
type tenant struct {
	*room
	mine   int
	random *rand.Rand
	failed bool // a settlement wasn't confirmed
}

func (r *room) take(random *rand.Rand) (*tenant, []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tenancy++
	return &tenant{r, r.tenancy, random, false}, slices.Clone(r.left)
}

func (t *tenant) Receive(context.Context, int) ([]message.Message, error) { panic("not received from") }

func (t *tenant) Window() time.Duration { return time.Hour }
func (t *tenant) Room() int             { return 1000 }

// Check tells of a lost lock, sometimes: a receiver may not know of it yet.
func (t *tenant) Check(numbers []int64) (lost, again []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed || t.tenancy != t.mine && t.random.IntN(3) == 0 {
		return numbers, nil
	}
	return nil, nil
}

// Complete removes the messages, or some of them, as long as the session is still this receiver's. Where one
// isn't confirmed the session is given up, as package servicebus does it.
func (t *tenant) Complete(_ context.Context, numbers []int64) (unconfirmed []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	partly := t.random.IntN(4) == 0
	for _, n := range numbers {
		if t.tenancy != t.mine || partly && t.random.IntN(2) == 0 {
			unconfirmed = append(unconfirmed, n)
		} else {
			t.left = slices.DeleteFunc(t.left, func(other int64) bool { return other == n })
		}
	}
	t.failed = t.failed || len(unconfirmed) > 0
	return unconfirmed
}

const roomID = "room/№ 1"

// keepRoom stores the messages of a session in batches of at most size, as one receiver does that is killed
// before a batch when stop says so.
func keepRoom(sink Sink, locks Locks, mode Append, numbers []int64, size int, stop func() bool) error {
	s := &Session{Loop: Loop{Sink: sink, Folder: "orders", RunID: "r1", Append: mode, AppendBytes: 1000, MaxAppend: 1 << 20}, Source: locks, Entity: "orders", ID: roomID}
	k, reading, b := &thread{session: s, after: -1, looked: math.MinInt64}, &sessionReader{locked: locked{locks}}, &batch{}
	limits := Limits{Count: size, Bytes: 1 << 20, Age: time.Hour, minute: mode == ByMinute}
	for len(numbers) > 0 {
		if m := at(numbers[0]); reading.joins(b, m) && b.add(m, record.Format{}, limits) {
			if numbers = numbers[1:]; len(numbers) > 0 {
				continue
			}
		}
		if stop() {
			return nil
		}
		if err := k.keep(context.Background(), b); err != nil {
			return err
		}
		b.reset()
	}
	return nil
}

// Many receivers of one session, each in its turn and some beyond it, some killed, some of whose messages
// are settled and others not: every message is in one blob.
func TestSessionHoldsForReceiversInTurnAndBeyond(t *testing.T) { eachMode(shareRoom)(t) }

func shareRoom(t *testing.T, mode Append) {
	rounds := 10
	if os.Getenv("PERSISTOR_SOAK") != "" {
		rounds = 2000
	}
	for seed := range uint64(rounds) {
		f, r := newFolder(t), &room{}
		random := rand.New(rand.NewPCG(seed, 99))
		for n := int64(1); len(r.left) < 200; n += 1 + random.Int64N(5) {
			r.left = append(r.left, n)
		}
		all := slices.Clone(r.left)
		var group sync.WaitGroup
		for receiver := range 4 {
			group.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(receiver)))
				for range 3 {
					mine, numbers := r.take(random)
					err := keepRoom(f, mine, mode, numbers, 1+random.IntN(50), func() bool { return random.IntN(8) == 0 })
					if err != nil && err != ErrSuperseded {
						t.Errorf("seed %d, receiver %d: %v", seed, receiver, err)
					}
				}
			})
		}
		group.Wait()
		for len(r.left) > 0 {
			mine, numbers := r.take(random)
			if err := keepRoom(f, mine, mode, numbers, 40, never); err != nil && err != ErrSuperseded {
				t.Fatal(err)
			}
		}
		seen := map[int64]int{}
		for b, err := range f.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			h, err := record.ParseHolding(b.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			for n := range h.Held.All() {
				seen[n]++
			}
		}
		for _, n := range all {
			if seen[n] != 1 {
				t.Errorf("seed %d: message %d is stored %d times", seed, n, seen[n])
			}
		}
		if t.Failed() {
			return
		}
	}
}

// A message that comes out of its turn begins a blob of its own, and the blobs' order is the messages'.
func TestSessionOutOfTurn(t *testing.T) {
	eachMode(func(t *testing.T, mode Append) {
		if mode != ByMinute { // which cuts more
			keepOutOfTurn(t, mode)
		}
	})(t)
}

func keepOutOfTurn(t *testing.T, mode Append) {
	f, r := newFolder(t), &room{}
	mine, _ := r.take(rand.New(rand.NewPCG(0, 0)))
	if err := keepRoom(f, mine, mode, []int64{10, 11, 15, 12, 13, 16, 17, 14, 18}, 100, never); err != nil {
		t.Fatal(err)
	}
	var got [][]int64
	for b, err := range f.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.ParseHolding(b.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, slices.Collect(h.Held.All()))
	}
	// Only what came too late to join its neighbours is beside them.
	want := [][]int64{{10, 11, 15}, {12, 13}, {14}, {16, 17}, {18}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("blobs hold %v, expected %v", got, want)
	}
}
