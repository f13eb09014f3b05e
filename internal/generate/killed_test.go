package generate

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/audit"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// Handlers are killed without warning while messages flow, again and again: every message is stored, once.
func TestVariantsSurviveKills(t *testing.T) {
	t.Parallel()
	kills := 2
	if os.Getenv("PERSISTOR_SOAK") != "" {
		kills = 40
	}
	each(t, slices.Concat(variants, appending), func(t *testing.T, v variant) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		a := attach(t, v, false)
		a.create(t, a.container)
		c := &crowd{attached: a, random: rand.New(rand.NewPCG(seed, 0)), kills: kills}
		c.feed(t)
		a.start(t)
		switch {
		case v.pulls():
			c.killPulls(t)
		case v.grid():
			c.killDeliveries(t)
		default:
			c.killInvocations(t)
		}
		if !v.grid() && !slices.ContainsFunc(a.host.Results(), failed) {
			t.Error("no invocation was killed")
		}
		c.audit(t)
	})
}

// crowd is a variant with many messages to come, whose handler is killed so often.
type crowd struct {
	*attached
	random *rand.Rand
	kills  int
	count  int // messages, of a hub in each partition
}

// feed puts so many messages that they last for all the kills. Batches are of 100 messages at most.
func (c *crowd) feed(t *testing.T) {
	t.Helper()
	c.count = 100 * c.kills
	if c.pulls() || c.many() {
		c.count = 2000 * c.kills
	}
	for n := range c.count {
		body := []byte(bodyOf(n))
		var err error
		switch {
		case c.grid():
			c.events = append(c.events, json.RawMessage(fmt.Sprintf(`{"id":"%d","topic":"/subscriptions/5/t","subject":"s","eventType":"e","eventTime":"2026-11-24T23:59:58Z","data":"%s","dataVersion":"1"}`, n, body)))
		case c.hub():
			for _, partition := range partitions {
				err = c.emulator.Put("rides", partition, emulator.Event{Body: body, Enqueued: goldenTime(n * 5 / c.count)})
			}
		default:
			err = c.emulator.PutMessages(c.entity(), emulator.QueueMessage{Body: body, Enqueued: goldenTime(n * 5 / c.count)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// bodyOf is the body of the n-th message, from 0 on.
func bodyOf(n int) string { return fmt.Sprintf("message %d \xff", n) }

// kill kills the handler, and has what it had locked come again.
func (c *crowd) kill(t *testing.T) {
	if err := c.host.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	c.expireLocks(t)
}

// killWithin kills when so many more invocations have ended, at most.
func (c *crowd) killWithin(t *testing.T, invocations int) {
	next := len(c.host.Results()) + 1 + c.random.IntN(invocations)
	awaitAnyhow(t, c.host, func() bool { return len(c.host.Results()) >= next || c.done(t) })
	c.kill(t)
}

// killInvocations kills when some more invocations have ended, so that others are under way.
func (c *crowd) killInvocations(t *testing.T) {
	share := c.count / 4 / c.kills
	if c.many() {
		share = 5
	}
	for range c.kills {
		c.killWithin(t, share)
	}
	for n := 0; n < 20 && !slices.ContainsFunc(c.host.Results(), failed) && !c.done(t); n++ {
		c.killWithin(t, 3) // those before came when nothing was under way
	}
	awaitAnyhow(t, c.host, func() bool { return c.done(t) })
}

// killDeliveries delivers events, some at a time, until they are accepted.
func (c *crowd) killDeliveries(t *testing.T) {
	var killing sync.WaitGroup
	defer killing.Wait()
	killing.Go(func() { c.killAtRandom(t, func() int { return len(c.host.Results()) }, 20) })
	for some := range slices.Chunk(c.events, 10) {
		for attempt := 0; c.host.Deliver(t.Context(), "persist", some...) != nil; attempt++ {
			if attempt > 100 {
				t.Error("not delivered")
				return
			}
		}
	}
}

// killPulls pulls until a call is answered well, with all kills behind it.
func (c *crowd) killPulls(t *testing.T) {
	var killing sync.WaitGroup
	killing.Go(func() { c.killAtRandom(t, func() int { return c.bytes(t) }, 400_000) })
	c.bringAll(t, "N=2&batch_store_size=100")
	killing.Wait()
	c.bringAll(t, "N=2&batch_store_size=100")
}

// bytes counts the bytes that are stored. Each message has some 200.
func (c *crowd) bytes(t *testing.T) (all int) {
	for _, path := range c.blobs(t) {
		if info, err := os.Stat(path); err == nil {
			all += int(info.Size())
		}
	}
	return all
}

// killAtRandom kills whenever up to so many more of what is counted are there.
func (c *crowd) killAtRandom(t *testing.T, counted func() int, most int) {
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for range c.kills {
		deadline := time.Now().Add(time.Minute)
		for next := counted() + 1 + c.random.IntN(most); counted() < next; {
			select {
			case <-poll.C:
			case <-t.Context().Done():
				return
			}
			if time.Now().After(deadline) {
				t.Error("nothing more was stored that a kill could hit")
				return
			}
		}
		c.kill(t)
	}
}

// audit proves that everything is stored once, as it was.
func (c *crowd) audit(t *testing.T) {
	t.Helper()
	if c.grid() {
		c.auditEvents(t)
		return
	}
	expect := audit.Expectation{Contents: c, Partitions: map[string]work.Range{}}
	folder := "rides"
	if c.hub() {
		for _, partition := range partitions {
			expect.Partitions[partition] = work.Range{From: 0, To: int64(c.count) - 1}
		}
	} else {
		folder = strings.Replace(c.entity(), "/Subscriptions", "", 1)
		expect.Entities = map[string]record.Sequences{c.entity(): record.SequenceRange(1, int64(c.count))}
	}
	found, err := audit.Run(t.Context(), c.blobStore(t), folder, expect)
	if err != nil || !found.Complete {
		t.Errorf("the audit does not hold: %v: %+v", err, found)
	}
	t.Logf("%d kills, %d messages in %d blobs", c.kills, found.Messages, found.Blobs)
}

// Check is part of [audit.Contents]; sequence numbers tell whether all are there.
func (c *crowd) Check(m *message.Message) audit.Verdict {
	n := int(m.SequenceNumber)
	if c.bus() {
		n--
	}
	if len(m.Body.Data) != 1 || string(m.Body.Data[0]) != bodyOf(n) {
		return audit.Altered
	}
	return audit.Intact
}

func (c *crowd) Missing() int64 { return 0 }

// auditEvents counts every event.
func (c *crowd) auditEvents(t *testing.T) {
	t.Helper()
	seen := map[string]int{}
	blobs := c.blobStore(t)
	for b, err := range blobs.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		content, err := blobs.Open(t.Context(), b.Name)
		if err != nil {
			t.Fatal(err)
		}
		records := record.NewReader(content, 1<<20)
		for {
			m, err := records.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", b.Name, err)
			}
			seen[fmt.Sprint(m.Properties["id"])]++
		}
		content.Close()
	}
	for n := range c.count {
		if times := seen[fmt.Sprint(n)]; times != 1 {
			t.Errorf("event %d is stored %d times", n, times)
		}
	}
}
