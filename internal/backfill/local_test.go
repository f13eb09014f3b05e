package backfill

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Waves are carried out one at a time, when their time has come; one that failed is tried again, later each time.
func TestLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		chain := NewLocal(nil)
		ctx, cancel := context.WithCancel(t.Context())
		failures := 3
		var all []string
		inside := 0
		done := make(chan struct{})
		ask := func(m Message, after time.Duration) {
			if err := chain.Ask(ctx, m, after); err != nil {
				t.Error(err)
			}
		}
		ask(Message{"late", 1}, time.Minute)
		ask(Message{"twice", 1}, 0)
		ask(Message{"twice", 1}, time.Hour)
		ask(Message{"failing", 1}, 0)
		go func() {
			defer close(done)
			chain.Run(ctx, func(_ context.Context, m Message) error {
				if inside++; inside > 1 {
					t.Error("two at a time")
				}
				defer func() { inside-- }()
				all = append(all, fmt.Sprintf("%s %v", m.Run, time.Since(began)))
				time.Sleep(time.Second)
				if m.Run == "failing" && failures > 0 {
					failures--
					return errors.New("no")
				}
				if m.Run == "twice" && m.Wave == 1 {
					ask(Message{"twice", 2}, 0)
				}
				return nil
			})
		}()
		time.Sleep(5 * time.Minute)
		cancel()
		<-done
		want := []string{"twice 0s", "failing 1s", "twice 2s", "failing 3s", "failing 6s", "failing 11s", "late 1m0s"}
		if fmt.Sprint(all) != fmt.Sprint(want) {
			t.Errorf("%q\nwant %q", all, want)
		}
	})
}

// Who asks while the chain's process ends is told so: nobody would carry the wave out.
func TestLocalRefusesAtItsEnd(t *testing.T) {
	l := NewLocal(nil)
	ctx, end := context.WithCancel(t.Context())
	end()
	l.Run(ctx, func(context.Context, Message) error { return nil })
	if err := l.Ask(t.Context(), Message{Run: "a", Wave: 1}, 0); err == nil {
		t.Error("the chain took a message that it won't carry out")
	}
}
