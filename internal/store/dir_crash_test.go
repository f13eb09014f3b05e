package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be run as a process that stores blobs, to be killed.
func TestMain(m *testing.M) {
	switch root := os.Getenv("STORE_TEST_ROOT"); os.Getenv("STORE_TEST_AS") {
	case "dies at a step":
		dieAt(root, os.Getenv("STORE_TEST_STEP"))
	case "dies setting metadata":
		dieSettingMetadata(root, os.Getenv("STORE_TEST_STEP"))
	case "creator":
		createAll(root)
	case "dies beginning":
		dieBeginning(root, os.Getenv("STORE_TEST_STEP"))
	case "dies appending":
		dieAppending(root, os.Getenv("STORE_TEST_STEP"))
	case "appender":
		appendForever(root, os.Getenv("STORE_TEST_STEP"))
	case "dies writing":
		dieWriting(root, os.Getenv("STORE_TEST_STEP"))
	case "dies removing":
		dieRemoving(root, os.Getenv("STORE_TEST_STEP"))
	case "counter":
		countUpForever(root, os.Getenv("STORE_TEST_STEP"))
	case "setter":
		setMetadataForever(root)
	case "holder":
		holdLock(root)
	default:
		os.Exit(m.Run())
	}
}

func process(as, root, step string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "STORE_TEST_AS="+as, "STORE_TEST_ROOT="+root, "STORE_TEST_STEP="+step)
	c.Stderr = os.Stderr
	return c
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return v
}

const crashName = "hub/2026/01/31/3/blob.txt"

var crashBody = bytes.Repeat([]byte("whole or not at all\n"), 5000)

func dieAt(root, step string) {
	d := must(OpenDir(root, true))
	d.step = dieAfter(step)
	must(d.Create(context.Background(), crashName, crashBody, map[string]string{"by": "the dead"}))
}

func dieSettingMetadata(root, step string) {
	d := must(OpenDir(root, false))
	d.step = dieAfter(step)
	must(0, d.SetMetadata(context.Background(), crashName, map[string]string{"by": "the dead", "as": "new"}))
}

// dieAfter returns a function for Dir.step that kills this process after the given step.
func dieAfter(step string) func(string) {
	return func(done string) {
		if done == step {
			self := must(os.FindProcess(os.Getpid()))
			self.Kill()
			select {}
		}
	}
}

// TestDirKilledAtEachStep kills a process after each step of Create, and lets each method in turn be
// the first to look at what it left.
func TestDirKilledAtEachStep(t *testing.T) {
	var steps []string
	d := openDir(t, t.TempDir())
	d.step = func(done string) { steps = append(steps, done) }
	if _, err := d.Create(t.Context(), crashName, crashBody, nil); err != nil {
		t.Fatal(err)
	}
	if len(steps) < 7 {
		t.Fatalf("Create went through %q only", steps)
	}
	looks := map[string]func(d *Dir) (found bool, err error){
		"Metadata": func(d *Dir) (bool, error) {
			_, err := d.Metadata(t.Context(), crashName)
			return err == nil, ignore(err, ErrNotFound)
		},
		"Open": func(d *Dir) (bool, error) {
			r, err := d.Open(t.Context(), crashName)
			if err == nil {
				r.Close()
			}
			return err == nil, ignore(err, ErrNotFound)
		},
		"List": func(d *Dir) (bool, error) {
			for b, err := range d.List(t.Context(), "hub/") {
				return err == nil && b.Size == int64(len(crashBody)), err
			}
			return false, nil
		},
		"Create": func(d *Dir) (bool, error) {
			there, err := d.Create(t.Context(), crashName, crashBody, map[string]string{"by": "the living"})
			return there["by"] == "the dead", ignore(err, ErrExists)
		},
		"SetMetadata": func(d *Dir) (bool, error) {
			err := d.SetMetadata(t.Context(), crashName, map[string]string{"by": "the living"})
			return err == nil, ignore(err, ErrNotFound)
		},
		"sweep": func(d *Dir) (bool, error) {
			if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
				return false, err
			}
			_, err := d.Metadata(t.Context(), crashName)
			return err == nil, ignore(err, ErrNotFound)
		},
	}
	for i, step := range steps {
		committed := i >= slices.Index(steps, "committed")
		for method, look := range looks {
			t.Run(step+"/"+method, func(t *testing.T) {
				t.Parallel()
				root := t.TempDir()
				if err := process("dies at a step", root, step).Run(); err == nil {
					t.Fatal("the process was not killed")
				}
				d := openDir(t, root)
				found, err := look(d)
				if err != nil || found != committed {
					t.Fatalf("first look: found %v, error %v; want found %v", found, err, committed)
				}
				if !committed && method != "Create" {
					if got := names(t, d, ""); got != nil {
						t.Fatalf("List = %q of what is not there", got)
					}
					if _, err := d.Create(t.Context(), crashName, crashBody, nil); err != nil {
						t.Fatalf("Create after the kill: %v", err)
					}
				}
				whole(t, d, crashName, crashBody)
				if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
				if left := staged(t, root); left != nil {
					t.Errorf("after a sweep staging holds %q", left)
				}
				whole(t, d, crashName, crashBody)
			})
		}
	}
}

// TestDirKilledSettingMetadata kills a process after each step of SetMetadata, and lets each method in
// turn be the first to look at what it left: the old metadata or the new ones, and the whole blob.
func TestDirKilledSettingMetadata(t *testing.T) {
	old, dead, living := map[string]string{"by": "nobody"}, map[string]string{"by": "the dead", "as": "new"}, map[string]string{"by": "the living"}
	var steps []string
	d := openDir(t, t.TempDir())
	if _, err := d.Create(t.Context(), crashName, crashBody, old); err != nil {
		t.Fatal(err)
	}
	d.step = func(done string) { steps = append(steps, done) }
	if err := d.SetMetadata(t.Context(), crashName, dead); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 3 {
		t.Fatalf("SetMetadata went through %q", steps)
	}
	looks := map[string]func(d *Dir) (map[string]string, error){
		"Metadata": func(d *Dir) (map[string]string, error) { return d.Metadata(t.Context(), crashName) },
		"List": func(d *Dir) (map[string]string, error) {
			for b, err := range d.List(t.Context(), "hub/") {
				return b.Metadata, err
			}
			return nil, ErrNotFound
		},
		"Create": func(d *Dir) (map[string]string, error) {
			there, err := d.Create(t.Context(), crashName, nil, nil)
			return there, ignore(err, ErrExists)
		},
		"sweep": func(d *Dir) (map[string]string, error) {
			if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
				return nil, err
			}
			return d.Metadata(t.Context(), crashName)
		},
	}
	for i, step := range steps {
		want := old
		if i >= slices.Index(steps, "metadata replaced") {
			want = dead
		}
		for method, look := range looks {
			t.Run(step+"/"+method, func(t *testing.T) {
				t.Parallel()
				root := t.TempDir()
				d := openDir(t, root)
				if _, err := d.Create(t.Context(), crashName, crashBody, old); err != nil {
					t.Fatal(err)
				}
				if err := process("dies setting metadata", root, step).Run(); err == nil {
					t.Fatal("the process was not killed")
				}
				if got, err := look(d); err != nil || !maps.Equal(got, want) {
					t.Fatalf("first look: %v, %v; want %v", got, err, want)
				}
				whole(t, d, crashName, crashBody)
				if err := d.SetMetadata(t.Context(), crashName, living); err != nil {
					t.Fatal(err)
				}
				if got, err := d.Metadata(t.Context(), crashName); err != nil || !maps.Equal(got, living) {
					t.Errorf("set after the kill: %v, %v", got, err)
				}
				if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
				if left := staged(t, root); left != nil {
					t.Errorf("after a sweep staging holds %q", left)
				}
				whole(t, d, crashName, crashBody)
			})
		}
	}
}

// setMetadataForever counts in the metadata of a blob, and prints each number once it is there.
func setMetadataForever(root string) {
	d := must(OpenDir(root, false))
	for n := 1; ; n++ {
		text := strconv.Itoa(n)
		must(0, d.SetMetadata(context.Background(), crashName, map[string]string{"n": text, "again": text}))
		fmt.Println(text)
	}
}

// TestDirKilledAtRandomSettingMetadata: what was once said to be set is there, or what came next.
func TestDirKilledAtRandomSettingMetadata(t *testing.T) {
	kills := 12
	if os.Getenv("PERSISTOR_SOAK") == "1" {
		kills = 1000
	}
	root := t.TempDir()
	d := openDir(t, root)
	if _, err := d.Create(t.Context(), crashName, crashBody, map[string]string{"n": "0", "again": "0"}); err != nil {
		t.Fatal(err)
	}
	for range kills {
		if err := d.SetMetadata(t.Context(), crashName, map[string]string{"n": "0", "again": "0"}); err != nil {
			t.Fatal(err)
		}
		c := process("setter", root, "")
		stdout, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(5+mathrand.IntN(60))*time.Millisecond, func() { c.Process.Kill() })
		said := 0
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if n, err := strconv.Atoi(lines.Text()); err == nil && n == said+1 {
				said = n // what the kill cut off is no next number
			}
		}
		c.Wait()
		got, err := d.Metadata(t.Context(), crashName)
		n, _ := strconv.Atoi(got["n"])
		if err != nil || len(got) != 2 || got["n"] != got["again"] || n < said || n > said+1 {
			t.Fatalf("after %d was set: %v, %v", said, got, err)
		}
	}
	if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left := staged(t, root); left != nil {
		t.Errorf("after a sweep staging holds %q", left)
	}
	whole(t, d, crashName, crashBody)
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// In the race, every blob's content follows from its name and its creator.
const raceNames = 60

func raceName(i int) string { return fmt.Sprintf("p/%d/blob-%04d", i%4, i) }

func raceBody(name, creator string) []byte {
	return bytes.Repeat([]byte(name+" by "+creator+"\n"), 2000)
}

// createAll races for every name, and prints each with its creator once it knows.
func createAll(root string) {
	me := strings.ToLower(rand.Text())
	d := must(OpenDir(root, true))
	for _, i := range mathrand.Perm(raceNames) {
		name := raceName(i)
		there, err := d.Create(context.Background(), name, raceBody(name, me), map[string]string{"creator": me})
		switch {
		case err == nil:
			fmt.Println(name, me)
		case errors.Is(err, ErrExists):
			fmt.Println(name, there["creator"])
		default:
			must(0, err)
		}
	}
}

// TestDirKilledAtRandom lets processes race for the same names while they are killed at random. Who
// was once said to have created a blob must be its creator for ever.
// PERSISTOR_SOAK=1 kills many more of them.
func TestDirKilledAtRandom(t *testing.T) {
	kills := 24
	if os.Getenv("PERSISTOR_SOAK") == "1" {
		kills = 2000
	}
	const racers = 3
	for killed := 0; killed < kills; {
		root := t.TempDir()
		var mu sync.Mutex
		creators := make(map[string]string)
		race := func(life time.Duration) bool {
			c := process("creator", root, "")
			stdout, err := c.StdoutPipe()
			if err != nil {
				t.Error(err)
				return false
			}
			if err := c.Start(); err != nil {
				t.Error(err)
				return false
			}
			if life > 0 {
				defer time.AfterFunc(life, func() { c.Process.Kill() }).Stop()
			}
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				name, creator, ok := strings.Cut(lines.Text(), " ")
				if !ok {
					continue // cut off by the kill
				}
				mu.Lock()
				if before, known := creators[name]; known && before != creator {
					t.Errorf("%s was created by %s, and then by %s", name, before, creator)
				}
				creators[name] = creator
				mu.Unlock()
			}
			err = c.Wait()
			if life == 0 && err != nil {
				t.Errorf("a process that was left alone: %v", err)
			}
			return err != nil
		}
		var wg sync.WaitGroup
		for range racers {
			wg.Go(func() {
				for range 4 {
					if race(time.Duration(5+mathrand.IntN(60)) * time.Millisecond) {
						mu.Lock()
						killed++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		race(0)
		if t.Failed() {
			return
		}
		d := openDir(t, root)
		if got := names(t, d, ""); len(got) != raceNames {
			t.Fatalf("List yields %d blobs, want %d", len(got), raceNames)
		}
		for name, creator := range creators {
			whole(t, d, name, raceBody(name, creator))
		}
		if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if left := staged(t, root); left != nil {
			t.Errorf("after a sweep staging holds %q", left)
		}
	}
}
