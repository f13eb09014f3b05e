package backfill

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"persistor/internal/ledger"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// What becomes of a message, by where its run is.
func TestClaim(t *testing.T) {
	const alive = 30 * time.Second
	later := noon.Add(time.Hour)
	ended := []ledger.Wave{{Wave: 1, Began: noon.Add(-time.Hour), Ended: noon.Add(-time.Minute)}}
	under := []ledger.Wave{{Wave: 1, Began: noon.Add(-time.Hour)}}
	for _, c := range []struct {
		name string
		run  ledger.Run
		wave int
		want verdict
		then ledger.State
	}{
		{"the first", ledger.Run{State: ledger.Queued, Next: 1}, 1, carryOut, ledger.Running},
		{"the next", ledger.Run{State: ledger.Queued, Wave: 1, Next: 2, Waves: ended}, 2, carryOut, ledger.Running},
		{"one that was never asked for", ledger.Run{State: ledger.Queued, Wave: 1, Next: 2, Waves: ended}, 3, drop, ledger.Queued},
		{"one of long ago", ledger.Run{State: ledger.Queued, Wave: 2, Next: 3, Waves: ended}, 1, drop, ledger.Queued},
		{"of a run that is over", ledger.Run{State: ledger.Succeeded, Wave: 1, Waves: ended}, 1, drop, ledger.Succeeded},
		{"under way", ledger.Run{State: ledger.Running, Wave: 1, Waves: under, Alive: later}, 1, postpone, ledger.Running},
		{"whose invoker is dead", ledger.Run{State: ledger.Running, Wave: 1, Waves: under, Alive: noon.Add(-time.Second)}, 1, carryOut, ledger.Running},
		{"whose invoker is dead, and whose waves were cut from the document", ledger.Run{State: ledger.Running, Wave: 1, Alive: noon.Add(-time.Second)}, 1, carryOut, ledger.Running},
		{"done, its successor asked for", ledger.Run{State: ledger.Queued, Wave: 1, Next: 2, NextAsked: noon, Waves: ended, Alive: later}, 1, drop, ledger.Queued},
		{"done just now", ledger.Run{State: ledger.Queued, Wave: 1, Next: 2, Waves: ended, Alive: later}, 1, postpone, ledger.Queued},
		{"done, its successor not asked for", ledger.Run{State: ledger.Queued, Wave: 1, Next: 2, Waves: ended, Alive: noon.Add(-time.Second)}, 1, askAgain, ledger.Queued},
		{"the next of a run to be cancelled", ledger.Run{State: ledger.Queued, Wave: 1, Next: 2, Waves: ended, CancelRequested: noon}, 2, drop, ledger.Cancelled},
		{"of a dead invoker's run to be cancelled", ledger.Run{State: ledger.Running, Wave: 1, Waves: under, Alive: noon.Add(-time.Second), CancelRequested: noon}, 1, drop, ledger.Cancelled},
		{"under way and to be cancelled", ledger.Run{State: ledger.Running, Wave: 1, Waves: under, Alive: later, CancelRequested: noon}, 1, postpone, ledger.Running},
		{"of an invocation", ledger.Run{Kind: ledger.Invoke, State: ledger.Running, Wave: 1, Waves: under, Alive: noon.Add(-time.Second)}, 1, drop, ledger.Running},
		{"of an invocation that is retried", ledger.Run{Kind: ledger.Invoke, Retries: 1, State: ledger.Queued, Wave: 1, Next: 2, Waves: ended}, 2, carryOut, ledger.Running},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := c.run
			v, wait := claim(&run, Message{Wave: c.wave}, "mine", noon, alive)
			if v != c.want || run.State != c.then {
				t.Fatalf("verdict %d, state %s: want %d, %s", v, run.State, c.want, c.then)
			}
			if v == postpone && wait <= 0 {
				t.Errorf("postponed by %v", wait)
			}
			if v != carryOut {
				return
			}
			if w := lastWave(&run); run.Invoker != "mine" || run.Wave != c.wave || run.Next != 0 || !run.Alive.Equal(noon.Add(alive)) || w.Wave != c.wave || !w.Ended.IsZero() {
				t.Errorf("%+v", run)
			}
			if again, _ := claim(&run, Message{Wave: c.wave}, "another", noon, alive); again != postpone {
				t.Errorf("a second message: verdict %d, want that it is postponed", again)
			}
		})
	}
}

// Whatever order messages come in, and whoever dies: no wave is carried out by two at once, waves are counted without a
// hole, and as long as each message that isn't done with comes again the chain goes on to its end.
func TestChainsGoOn(t *testing.T) {
	const waves = 6
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := noon
		run := ledger.Run{ID: "r", State: ledger.Queued, Next: 1, Alive: now.Add(30 * time.Second)}
		messages := []Message{{Wave: 1}}
		if r.IntN(4) == 0 { // the first asking was cut off, and is done again by whoever resumes the run
			messages = append(messages, messages[0])
		}
		began := map[int]bool{}
		for step := 0; !run.State.Over(); step++ {
			if step > 10_000 || len(messages) == 0 {
				t.Fatalf("seed %d: the chain has broken: %+v", seed, run)
			}
			now = now.Add(time.Duration(r.IntN(20)) * time.Second)
			i := r.IntN(len(messages))
			m := messages[i]
			if r.IntN(8) > 0 {
				messages = append(messages[:i], messages[i+1:]...)
			} // else it is delivered twice
			dies := r.IntN(5) == 0
			back := func() { messages = append(messages, m) }
			switch v, _ := claim(&run, m, fmt.Sprint(step), now, 30*time.Second); v {
			case postpone:
				back()
			case askAgain:
				messages = append(messages, Message{Wave: run.Next})
				if dies {
					back()
					continue
				}
				run.NextAsked, run.Alive = now, now.Add(time.Hour)
			case carryOut:
				for n := 1; n < m.Wave; n++ {
					if !began[n] {
						t.Fatalf("seed %d: wave %d before wave %d", seed, m.Wave, n)
					}
				}
				began[m.Wave] = true
				if dies {
					back() // as the queue does
					continue
				}
				now = now.Add(10 * time.Second)
				before := run
				run.Counts.Remaining = int64(waves - m.Wave)
				conclude(&run, &before, outcome{err: nil}, false, true, now)
				run.Alive = now.Add(30 * time.Second)
				if run.Next == 0 {
					continue
				}
				if dies = r.IntN(5) == 0; dies && r.IntN(2) == 0 {
					back()
					continue
				}
				messages = append(messages, Message{Wave: run.Next})
				if dies {
					back()
					continue
				}
				run.NextAsked, run.Alive = now, now.Add(time.Hour)
			}
		}
		if run.State != ledger.Succeeded || run.Wave != waves {
			t.Fatalf("seed %d: %+v", seed, run)
		}
	}
}
