package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/store"
	"persistor/internal/work"
)

// folder is a pull.Sink over a local directory.
type folder struct{ *store.Dir }

func newFolder(t *testing.T) folder {
	t.Helper()
	dir, err := store.OpenDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	return folder{dir}
}

func (f folder) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	held, err := f.Dir.Create(ctx, name, body, metadata)
	if errors.Is(err, store.ErrExists) {
		return held, nil
	}
	return nil, err
}

func (f folder) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	held, err := f.Dir.Append(ctx, name, at, body, metadata)
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrPosition) || errors.Is(err, store.ErrFull) {
		return held, nil
	}
	if errors.Is(err, store.ErrNotFound) {
		err = ErrGone
	}
	return nil, err
}

func (f folder) List(ctx context.Context, prefix string) iter.Seq2[Blob, error] {
	return func(yield func(Blob, error) bool) {
		for b, err := range f.Dir.List(ctx, prefix) {
			if !yield(Blob{b.Name, b.Metadata}, err) {
				return
			}
		}
	}
}

// partition is what the chain reads from: its first message still there, and its checkpoint.
type partition struct {
	mu         sync.Mutex
	checkpoint Mark
	set        int // how often the checkpoint was written
}

func (p *partition) Receive(context.Context, int) ([]message.Message, error) {
	return nil, errors.New("not received from in this test")
}

func (p *partition) Checkpoint(_ context.Context, m Mark) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkpoint = m
	p.set++
	return nil
}

var firstEnqueued = time.Date(2026, 11, 24, 23, 30, 0, 0, time.UTC)

// at is the message with the given sequence number: three a minute, so that a few hundred span midnight.
func at(sequence int64) *message.Message {
	return &message.Message{
		Body:           message.Body{Data: [][]byte{[]byte("message " + strconv.FormatInt(sequence, 10))}},
		SequenceNumber: sequence,
		Offset:         strconv.FormatInt(sequence*100, 10),
		EnqueuedTime:   firstEnqueued.Add(time.Duration(sequence%10_000) * 20 * time.Second),
		Partition:      "3",
	}
}

// modes are the ways in which batches become blobs. A blob is full soon where they are joined, and can be.
var modes = map[string]Append{"apart": Apart, "joined": Joined, "by minute": ByMinute}

func eachMode(test func(t *testing.T, mode Append)) func(*testing.T) {
	return func(t *testing.T) {
		for name, mode := range modes {
			t.Run(name, func(t *testing.T) { test(t, mode) })
		}
	}
}

// newChain is a chain that begins behind after; below -1: anywhere.
func newChain(sink Sink, log Log, after int64, mode Append) *chain {
	return &chain{loop: &Loop{Sink: sink, Folder: "hub", RunID: "r1", Append: mode, AppendBytes: 4000, MaxAppend: 1 << 20}, log: log, partition: "3", anchored: after >= -1, after: after, settled: after, looked: math.MinInt64, resolved: -1, limit: math.MaxInt64}
}

// write stores messages from through to in batches of at most size, as one writer does; it stops before
// a batch when stop says so.
func write(c *chain, from, to int64, size int, stop func() bool) error {
	return writeEarlier(c, from, to, size, 0, stop)
}

// writeEarlier does so with messages that were enqueued earlier.
func writeEarlier(c *chain, from, to int64, size int, earlier time.Duration, stop func() bool) error {
	limits := Limits{Count: size, Bytes: 1 << 20, Age: time.Hour, minute: c.loop.Append == ByMinute}
	b, reading := &batch{}, &partitionReader{}
	for next := from; next <= to; {
		m := at(next)
		m.EnqueuedTime = m.EnqueuedTime.Add(-earlier)
		if reading.joins(b, m) && b.add(m, record.Format{}, limits) {
			next++
			if next <= to {
				continue
			}
		}
		if stop() {
			return nil
		}
		if err := c.keep(context.Background(), b); err != nil {
			return err
		}
		b.reset()
	}
	return nil
}

func never() bool { return false }

// check reads all blobs back and fails unless they hold from through to, each message once, in a chain.
func check(t *testing.T, f folder, from, to int64) []record.Span {
	t.Helper()
	var spans []record.Span
	next, after := from, int64(-2)
	for b, err := range f.Dir.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		s, err := record.ParseSpan(b.Metadata)
		if err != nil {
			t.Fatalf("%s: %v", b.Name, err)
		}
		if s.First != next || after != -2 && s.After != after {
			t.Fatalf("%s: holds %d to %d after %d, expected first %d after %d", b.Name, s.First, s.Last, s.After, next, after)
		}
		if s.Bytes != b.Size {
			t.Errorf("%s: %d bytes, metadata say %d", b.Name, b.Size, s.Bytes)
		}
		content, err := f.Dir.Open(t.Context(), b.Name)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for n := s.First; n <= s.Last; n++ {
			want = record.Format{}.Append(want, at(n))
		}
		var got bytes.Buffer
		_, err = got.ReadFrom(content)
		content.Close()
		if err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%s: content differs (%v)", b.Name, err)
		}
		if a, z := at(s.First).EnqueuedTime, at(s.Last).EnqueuedTime; day(a) != day(z) {
			t.Errorf("%s: spans days", b.Name)
		}
		if name, err := record.ParseEventHubName(b.Name); err != nil || !name.Minute.IsZero() && minute(name.Minute) != minute(at(s.Last).EnqueuedTime) {
			t.Errorf("%s: does not hold what its name says (%v)", b.Name, err)
		}
		if s.First/record.CellSize != s.Last/record.CellSize {
			t.Errorf("%s: spans cells", b.Name)
		}
		spans, next, after = append(spans, s), s.Last+1, s.Last
	}
	if next != to+1 {
		t.Fatalf("stored up to %d, expected %d", next-1, to)
	}
	return spans
}

func TestChainStoresEachMessageOnce(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			f, p := newFolder(t), &partition{}
			c := newChain(f, p, -1, mode)
			if err := write(c, 0, 299, 25, never); err != nil {
				t.Fatal(err)
			}
			blobs := check(t, f, 0, 299)
			// 12 batches and a cut at midnight; four blobs of 4,000 bytes that are cut there, too; 100 minutes.
			want := map[Append]int{Apart: 13, Joined: 3, ByMinute: 100}[mode]
			if len(blobs) != want || c.blobs != int64(want) {
				t.Errorf("%d blobs, %d reported; want %d", len(blobs), c.blobs, want)
			}
			if want := (Mark{299, "29900"}); p.checkpoint != want {
				t.Errorf("checkpoint %v, expected %v", p.checkpoint, want)
			}
			if c.messages != 300 || c.bytes != sum(blobs) {
				t.Errorf("%d messages of %d bytes reported, %d bytes stored", c.messages, c.bytes, sum(blobs))
			}

			// Again from the beginning, from any place inside, with other batches, in any mode: nothing is added.
			for _, mode := range modes {
				for after := int64(-1); after < 299; after += 37 {
					again := newChain(f, p, after, mode)
					if err := write(again, after+1, 299, 23, never); err != nil {
						t.Fatal(err)
					}
					if again.messages != 0 || again.already != 299-after {
						t.Errorf("after %d: stored %d, found %d", after, again.messages, again.already)
					}
					if p.checkpoint.SequenceNumber != 299 {
						t.Errorf("after %d: checkpoint %v", after, p.checkpoint)
					}
				}
			}
			check(t, f, 0, 299)
		})
	}
}

func sum(blobs []record.Span) (bytes int64) {
	for _, s := range blobs {
		bytes += s.Bytes
	}
	return bytes
}

// A loop goes on with the blob that the one before left, wherever its checkpoint is, and whatever mode that had.
func TestChainGoesOnWithTheLastBlob(t *testing.T) {
	f, p := newFolder(t), &partition{}
	for n, mode := range []Append{Joined, Joined, Apart, Joined, Joined, ByMinute, ByMinute, ByMinute, Joined} {
		next := int64(n * 7) // of each loop's seven messages, but some begin before
		if err := write(newChain(f, p, max(next-1-int64(n%3), -1), mode), max(next-int64(n%3), 0), next+6, 3, never); err != nil {
			t.Fatal(err)
		}
	}
	var firsts []int64
	for _, s := range check(t, f, 0, 62) {
		firsts = append(firsts, s.First)
	}
	want := []int64{0, 14, 15, 18, 21, 35, 36, 39, 42, 45, 48, 51, 54, 56} // 48 to 50 are of one minute
	if !slices.Equal(firsts, want) {
		t.Errorf("blobs begin at %v, want %v", firsts, want)
	}
}

// What others have stored further on is left out, wherever in a batch it begins, and what is between is filled.
func TestChainFillsWhatOthersLeft(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			f, p := newFolder(t), &partition{}
			for _, r := range []work.Range{{From: 25, To: 34}, {From: 35, To: 40}, {From: 50, To: 50}, {From: 93, To: 99}} {
				if err := write(newChain(f, p, r.From-1, mode), r.From, r.To, 7, never); err != nil {
					t.Fatal(err)
				}
			}
			c := newChain(f, p, 9, mode)
			if err := write(c, 10, 110, 1000, never); err != nil {
				t.Fatal(err)
			}
			check(t, f, 10, 110)
			if p.checkpoint != (Mark{110, "11000"}) || c.already != 24 || c.messages != 101-24 {
				t.Errorf("checkpoint %v, %d stored, %d found", p.checkpoint, c.messages, c.already)
			}
		})
	}
}

func TestChainCutsAtCells(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			from, to := int64(2*record.CellSize-50), int64(2*record.CellSize+49)
			if err := write(newChain(f, &partition{}, from-1, mode), from, to, 30, never); err != nil {
				t.Fatal(err)
			}
			check(t, f, from, to)
		})
	}
}

// A message that is too large to be appended becomes a blob by itself, and the chain goes on behind it.
func TestChainStoresWhatIsTooLargeToAppend(t *testing.T) {
	f := newFolder(t)
	size := len(record.Format{}.Append(nil, at(10))) - 1 // with two digits or more
	for range 2 {
		c := newChain(f, &partition{}, -1, Joined)
		c.loop.MaxAppend = size
		if err := write(c, 0, 12, 1, never); err != nil {
			t.Fatal(err)
		}
		if got := len(check(t, f, 0, 12)); got != 4 {
			t.Errorf("%d blobs, want 4: one of 10 messages and three of one", got)
		}
	}
}

// Many writers, each starting where some checkpoint was or anywhere at all, each with batches of its
// own, some killed at some batch, all at once: what is there at the end is one chain.
func TestChainHoldsForConcurrentWriters(t *testing.T) {
	rounds := 5
	if os.Getenv("PERSISTOR_SOAK") != "" {
		rounds = 1000
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			for round := range rounds {
				raceInChain(t, uint64(round), 4, func(*rand.Rand) Append { return mode })
			}
		})
	}
	// One after the other, each in a mode of its own.
	t.Run("in turn", func(t *testing.T) {
		for round := range rounds {
			raceInChain(t, uint64(round), 1, func(r *rand.Rand) Append { return Append(r.IntN(len(modes))) })
		}
	})
}

func raceInChain(t *testing.T, seed uint64, writers int, mode func(*rand.Rand) Append) {
	f, p := newFolder(t), &partition{checkpoint: Mark{SequenceNumber: -1}}
	const last = 250
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(writer)))
			for range 12 / writers {
				p.mu.Lock()
				after := p.checkpoint.SequenceNumber
				p.mu.Unlock()
				if after >= 0 && r.IntN(3) == 0 {
					after = r.Int64N(after + 1)
				}
				err := write(newChain(f, p, after, mode(r)), after+1, last, 1+r.IntN(60), func() bool { return r.IntN(8) == 0 })
				if err != nil {
					t.Errorf("seed %d, writer %d: %v", seed, writer, err)
				}
			}
		})
	}
	group.Wait()
	if err := write(newChain(f, p, -1, mode(rand.New(rand.NewPCG(seed, 99)))), 0, last, 40, never); err != nil {
		t.Fatal(err)
	}
	check(t, f, 0, last)
	if t.Failed() {
		t.Fatalf("seed %d", seed)
	}
}

func TestChainReportsHoles(t *testing.T) {
	for _, test := range []struct {
		name   string
		stored []work.Range // by another writer, before
		want   []work.Range
	}{
		{"nothing of it is stored", nil, []work.Range{{From: 10, To: 49}}},
		{"all of it is stored", []work.Range{{From: 10, To: 49}}, nil},
		{"more than all of it is stored", []work.Range{{From: 10, To: 54}}, nil},
		{"its beginning is stored", []work.Range{{From: 10, To: 29}}, []work.Range{{From: 30, To: 49}}},
		{"its end is stored", []work.Range{{From: 30, To: 49}}, []work.Range{{From: 10, To: 29}}},
		{"parts are stored", []work.Range{{From: 15, To: 19}, {From: 30, To: 34}}, []work.Range{{From: 10, To: 14}, {From: 20, To: 29}, {From: 35, To: 49}}},
	} {
		t.Run(test.name, eachMode(func(t *testing.T, mode Append) {
			f := newFolder(t)
			for _, r := range test.stored {
				if err := write(newChain(f, &partition{}, r.From-1, mode), r.From, r.To, 1000, never); err != nil {
					t.Fatal(err)
				}
			}
			c := newChain(f, &partition{}, 9, mode)
			if err := write(c, 50, 59, 1000, never); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(c.lost) != fmt.Sprint(test.want) {
				t.Errorf("lost %v, expected %v", c.lost, test.want)
			}
			if c.after != 59 {
				t.Errorf("chain ends at %d, expected 59", c.after)
			}
		}))
	}
}

// A batch that begins before what is stored is cut where that begins, so that no message is stored twice.
func TestChainFillsInBetweenBlobs(t *testing.T) { eachMode(fillInBetweenBlobs)(t) }

func fillInBetweenBlobs(t *testing.T, mode Append) {
	f := newFolder(t)
	for _, r := range []work.Range{{From: 15, To: 19}, {From: 30, To: 34}, {From: 35, To: 39}} {
		if err := write(newChain(f, &partition{}, r.From-1, Apart), r.From, r.To, 1000, never); err != nil {
			t.Fatal(err)
		}
	}
	p := &partition{}
	c := newChain(f, p, -2, mode)
	if err := write(c, 10, 44, 1000, never); err != nil {
		t.Fatal(err)
	}
	check(t, f, 10, 44)
	if c.messages != 20 || c.already != 15 || p.checkpoint.SequenceNumber != 44 || len(c.lost) > 0 {
		t.Errorf("stored %d, found %d, checkpoint at %d, lost %v; expected 20, 15, 44 and none", c.messages, c.already, p.checkpoint.SequenceNumber, c.lost)
	}
}

// counting counts the looks at what is there.
type counting struct {
	folder
	lists *int
}

func (f counting) List(ctx context.Context, prefix string) iter.Seq2[Blob, error] {
	*f.lists++
	return f.folder.List(ctx, prefix)
}

// A hole is followed back no further than to the day whose blobs begin before it.
func TestChainLooksForHolesOnFewDays(t *testing.T) {
	f := newFolder(t)
	if err := write(newChain(f, &partition{}, -1, Apart), 0, 149, 1000, never); err != nil { // the second day begins at 120
		t.Fatal(err)
	}
	for _, test := range []struct{ last, lists int }{{149, 1}, {119, 2}} {
		lists := 0
		c := newChain(counting{f, &lists}, &partition{}, int64(test.last)-10, Apart)
		if err := write(c, 200, 209, 1000, never); err != nil {
			t.Fatal(err)
		}
		if lists > test.lists {
			t.Errorf("behind %d: %d looks, expected %d at most", test.last, lists, test.lists)
		}
	}
}

// inMemory is a partition whose messages are there already.
type inMemory struct {
	partition
	messages []message.Message
}

func (m *inMemory) Receive(_ context.Context, count int) ([]message.Message, error) {
	if len(m.messages) == 0 {
		return nil, ErrDrained
	}
	count = min(count, len(m.messages))
	given := m.messages[:count]
	m.messages = m.messages[count:]
	return given, nil
}

// Of loops that follow each other only the first has to look, and every one goes on with the blob of the one before.
func TestChainKnowsItsTail(t *testing.T) { eachMode(knowTail)(t) }

func knowTail(t *testing.T, mode Append) {
	f, lists := newFolder(t), 0
	if err := write(newChain(f, &partition{}, -1, mode), 0, 9, 5, never); err != nil {
		t.Fatal(err)
	}
	var tail Tail
	drain := func(from, to int64) {
		t.Helper()
		source := &inMemory{}
		for n := from; n <= to; n++ {
			source.messages = append(source.messages, *at(n))
		}
		p := Partition{
			Loop: Loop{
				Sink: counting{f, &lists}, Folder: "hub", RunID: "r1", Limits: Limits{Count: 100, Bytes: 1 << 20, Age: time.Hour}, Chunk: 100,
				Append: mode, AppendBytes: 1 << 20, MaxAppend: 1 << 20,
			},
			Source: source, Partition: "3", Start: Start{After: from - 1, Target: to}, Tail: &tail,
		}
		if s, err := p.Drain(t.Context()); err != nil || s.Ended != work.Drained {
			t.Fatalf("%+v, error %v", s, err)
		}
	}
	for n := int64(10); n < 30; n++ {
		drain(n, n)
	}
	if lists != 1 {
		t.Errorf("%d looks, expected 1", lists)
	}
	drain(25, 34) // what does not follow on is looked for
	if lists != 2 {
		t.Errorf("%d looks, expected 2", lists)
	}
	if spans := check(t, f, 0, 34); mode == Joined && len(spans) != 1 {
		t.Errorf("%d blobs, expected 1", len(spans))
	}
}

// Numbers of one Event Hub say nothing of those of another one, nor of one that was made anew: what is there is
// not taken for what is to be stored.
func TestChainTellsHubsApart(t *testing.T) {
	for _, test := range []struct {
		name, hub string
		earlier   time.Duration
	}{{"another hub", "ns/two", 0}, {"made anew", "ns/one", time.Hour}} {
		t.Run(test.name, eachMode(func(t *testing.T, mode Append) {
			for _, from := range []int64{0, 5} { // at a name that is taken, and elsewhere
				f := newFolder(t)
				there := newChain(f, &partition{}, -1, mode)
				there.hub = test.hub
				if err := writeEarlier(there, 0, 19, 10, test.earlier, never); err != nil {
					t.Fatal(err)
				}
				c := newChain(f, &partition{}, from-1, mode)
				c.hub = "ns/one"
				err := write(c, from, 9, 10, never)
				if c.already != 0 || err == nil && c.messages != 10-from || err != nil && !errors.Is(err, ErrForeign) || err != nil && from > 0 && mode == Apart {
					t.Errorf("from %d on: stored %d, found %d, error %v", from, c.messages, c.already, err)
				}
			}
		}))
	}
}

func TestChainRefusesForeignBlobs(t *testing.T) { eachMode(refuseForeignBlobs)(t) }

func refuseForeignBlobs(t *testing.T, mode Append) {
	f := newFolder(t)
	name := record.EventHubName("hub", "3", firstEnqueued, 0)
	if _, err := f.Dir.Create(t.Context(), name, []byte("x"), map[string]string{"by": "somebody else"}); err != nil {
		t.Fatal(err)
	}
	err := write(newChain(f, &partition{}, -1, mode), 0, 9, 10, never)
	if !errors.Is(err, ErrForeign) {
		t.Fatalf("a blob that is not Persistor's: error %v", err)
	}
	t.Log(err)
}

func TestChainCheckpointsEveryFewMessages(t *testing.T) {
	f, p := newFolder(t), &partition{}
	c := newChain(f, p, -1, Joined)
	c.every = 60
	if err := write(c, 0, 99, 10, never); err != nil {
		t.Fatal(err)
	}
	if p.set != 1 || p.checkpoint.SequenceNumber != 59 {
		t.Errorf("%d checkpoints, the last at %d; expected one at 59", p.set, p.checkpoint.SequenceNumber)
	}
	if err := c.finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.checkpoint.SequenceNumber != 99 {
		t.Errorf("the last checkpoint is %d, expected 99", p.checkpoint.SequenceNumber)
	}
}
