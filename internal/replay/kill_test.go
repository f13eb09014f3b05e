package replay

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"persistor/emulator"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
	"persistor/internal/selection"
	"persistor/internal/store"
)

// TestMain lets the test binary be run as a process that replays, to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("REPLAY_TEST_FILE") == "" {
		os.Exit(m.Run())
	}
	if err := replayAndDie(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// replayAndDie replays as its environment says, and dies at a step of saving its progress, the n-th time that it comes
// there. It writes a line for each batch that was accepted.
func replayAndDie() error {
	from, err := store.OpenDir(os.Getenv("REPLAY_TEST_DIR"), false)
	if err != nil {
		return err
	}
	to, task, err := target(os.Getenv("REPLAY_TEST_CONNECTION"), os.Getenv("REPLAY_TEST_TARGET"))
	if err != nil {
		return err
	}
	keeper, err := OpenFile(os.Getenv("REPLAY_TEST_FILE"))
	if err != nil {
		return err
	}
	times, _ := strconv.Atoi(os.Getenv("REPLAY_TEST_TIMES"))
	keeper.step = func(done string) {
		if done != os.Getenv("REPLAY_TEST_STEP") {
			return
		}
		if times--; times == 0 {
			die()
		}
	}
	_, err = Run(context.Background(), from, to, task, keeper, Options{Report: func(Result) { fmt.Println("batch") }})
	return err
}

func die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// target is a hub, or a queue if its name says so.
func target(connection, name string) (publish.Producer, Task, error) {
	c := config.Connection{ConnectionString: config.Secret(connection)}
	if strings.HasPrefix(name, "queue") {
		p, err := publish.ToQueue(config.Queue{Connection: c, Name: name})
		return p, Task{Target: name}, err
	}
	p, err := publish.ToHub(config.Hub{Connection: c, Name: name})
	return p, Task{ToHub: true, KeepPartition: true, Target: name}, err
}

// victim is a replay that is killed again and again.
type victim struct {
	*site
	random    *rand.Rand
	from      *store.Dir
	target    string
	file      string
	uncertain map[string]bool // ids of messages that were under way at a kill
	kills     int
}

// run runs the replay until it is killed, at a step of saving or at some batch, and reports whether it ended by itself.
func (v *victim) run(step string) bool {
	v.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "REPLAY_TEST_FILE="+v.file, "REPLAY_TEST_DIR="+v.from.Path(), "REPLAY_TEST_CONNECTION="+v.bus.ConnectionString(),
		"REPLAY_TEST_TARGET="+v.target, "REPLAY_TEST_STEP="+step, "REPLAY_TEST_TIMES="+strconv.Itoa(1+v.random.IntN(16)))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		v.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		v.t.Fatal(err)
	}
	if step == "" {
		lines := bufio.NewScanner(out)
		for range 1 + v.random.IntN(12) {
			if !lines.Scan() {
				break
			}
		}
		c.Process.Kill()
	}
	err = c.Wait()
	status, _ := c.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil && !status.Signaled() {
		v.t.Fatalf("replay: %v", err)
	}
	return err == nil
}

// look notes what was under way at a kill, as the file has it, and reports whether the replay was complete by then.
func (v *victim) look() (complete bool) {
	v.t.Helper()
	v.kills++
	text, err := os.ReadFile(v.file)
	if os.IsNotExist(err) {
		return false
	}
	var s state
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		v.t.Fatalf("progress after kill %d: %v\n%.300s", v.kills, err, text)
	}
	for _, e := range s.Blobs {
		if e.Sending.Len() == 0 {
			continue
		}
		var all selection.Selection
		for b, err := range all.Blobs(v.t.Context(), v.from) {
			if err != nil {
				v.t.Fatal(err)
			}
			index := int64(0)
			if b.Name != e.Name {
				continue
			}
			for m, err := range all.Records(v.t.Context(), v.from, b) {
				if err != nil {
					v.t.Fatal(err)
				}
				if e.Sending.Contains(index) {
					v.uncertain[m.ID.(string)] = true
				}
				index++
			}
		}
	}
	return s.Complete
}

// killAll kills at each step in turn, and between them, until the replay is complete.
func (v *victim) killAll(atLeast int) {
	v.t.Helper()
	steps := []string{"written", "synced", "renamed", ""}
	for n := 0; ; n++ {
		if v.run(steps[n%len(steps)]) {
			break
		}
		if v.look() {
			break // killed behind its last save
		}
	}
	if v.kills < atLeast {
		v.t.Errorf("it was killed %d times, expected %d: there is too little to send", v.kills, atLeast)
	}
	v.t.Logf("%d kills, %d messages uncertain", v.kills, len(v.uncertain))
}

// check compares what the target holds with what was stored: all of it, in order, and twice only what was uncertain.
func (v *victim) check(is []*message.Message, group func(*message.Message) string) {
	v.t.Helper()
	times := map[string]int{}
	var once []*message.Message
	for _, m := range is {
		id := m.ID.(string)
		if times[id]++; times[id] == 1 {
			once = append(once, m)
		}
	}
	repeats := 0
	for id, n := range times {
		if n > 1 && !v.uncertain[id] {
			v.t.Errorf("message %s came %d times, and was never uncertain", id, n)
		}
		repeats += n - 1
	}
	v.t.Logf("%d messages came, %d of them again", len(is), repeats)
	inOrder(v.t, v.messages(v.from), once, group)
}

func inOrder(t testing.TB, was, is []*message.Message, group func(*message.Message) string) {
	t.Helper()
	ids := func(all []*message.Message) map[string][]string {
		groups := map[string][]string{}
		for _, m := range all {
			groups[group(m)] = append(groups[group(m)], m.ID.(string))
		}
		return groups
	}
	wasIDs, isIDs := ids(was), ids(is)
	if !slices.Equal(slices.Sorted(maps.Keys(wasIDs)), slices.Sorted(maps.Keys(isIDs))) {
		t.Errorf("groups %v became %v", slices.Sorted(maps.Keys(wasIDs)), slices.Sorted(maps.Keys(isIDs)))
	}
	for g, want := range wasIDs {
		if !slices.Equal(want, isIDs[g]) {
			t.Errorf("group %q: %d messages became %d, or their order changed", g, len(want), len(isIDs[g]))
		}
	}
}

func numbered(n int, place func(i int, m *publish.Message)) []publish.Message {
	all := make([]publish.Message, n)
	for i := range all {
		all[i] = publish.Message{Body: fmt.Appendf(nil, "%0200d", i), ID: fmt.Sprintf("id-%06d", i)}
		place(i, &all[i])
	}
	return all
}

func kills(t *testing.T) (messages, atLeast int) {
	if os.Getenv("PERSISTOR_SOAK") != "" {
		return 400_000, 200
	}
	return 20_000, 6
}

func TestKilledReplayToHub(t *testing.T) {
	t.Parallel()
	n, atLeast := kills(t)
	s := newSite(t, emulator.Options{Hubs: []emulator.Hub{{Name: "was", Partitions: 4}, {Name: "is-hub", Partitions: 4, MaxMessageSize: 64 << 10}}})
	s.send(s.toHub("was"), numbered(n, func(i int, m *publish.Message) { m.Partition = strconv.Itoa(i % 4) })...)
	v := &victim{site: s, random: rand.New(rand.NewPCG(5, 6)), from: s.drainHub("was", "was", nil), target: "is-hub", file: filepath.Join(s.dir, "progress"), uncertain: map[string]bool{}}
	v.killAll(atLeast)
	v.check(s.messages(s.drainHub("is-hub", "is-hub", nil)), byPartition)
}

// A queue that detects duplicates has every message once, however often the replay was killed.
func TestKilledReplayToDetectingQueue(t *testing.T) {
	t.Parallel()
	n, atLeast := kills(t)
	s := newSite(t, emulator.Options{
		Hubs:   []emulator.Hub{{Name: "was", Partitions: 4}},
		Queues: []emulator.Queue{{Name: "queue", MaxMessageSize: 64 << 10, DuplicateDetection: 3600e9}},
	})
	s.send(s.toHub("was"), numbered(n, func(i int, m *publish.Message) { m.Partition = strconv.Itoa(i % 4) })...)
	v := &victim{site: s, random: rand.New(rand.NewPCG(7, 8)), from: s.drainHub("was", "was", nil), target: "queue", file: filepath.Join(s.dir, "progress"), uncertain: map[string]bool{}}
	v.killAll(atLeast)
	is := s.messages(s.drainQueue("queue", "queue", nil))
	if len(is) != n {
		t.Errorf("%d messages became %d", n, len(is))
	}
	slices.SortFunc(is, func(a, b *message.Message) int { return int(a.SequenceNumber - b.SequenceNumber) })
	v.check(is, func(m *message.Message) string {
		i, _ := strconv.Atoi(strings.TrimPrefix(m.ID.(string), "id-"))
		return strconv.Itoa(i % 4)
	})
}
