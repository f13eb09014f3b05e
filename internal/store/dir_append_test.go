package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const crashMore = "more, whole or not at all\n"

// What the processes do that TestMain makes of this binary.

func dieAppending(root, step string) {
	d := must(OpenDir(root, false))
	d.step = dieAfter(step)
	must(d.Append(context.Background(), crashName, int64(len(crashBody)), []byte(crashMore), map[string]string{"by": "the dead", "as": "new"}))
}

func dieBeginning(root, step string) {
	d := must(OpenDir(root, true))
	d.step = dieAfter(step)
	must(d.Append(context.Background(), crashName, 0, crashBody, map[string]string{"by": "the dead"}))
}

// appendForever appends numbered lines, wherever the blob ends, and prints each once it is there.
func appendForever(root, me string) {
	d := must(OpenDir(root, false))
	at := int64(0)
	for n := 0; ; {
		line := me + " " + strconv.Itoa(n) + "\n"
		end := strconv.FormatInt(at+int64(len(line)), 10)
		there, err := d.Append(context.Background(), crashName, at, []byte(line), map[string]string{"bytes": end, "again": end})
		switch {
		case err == nil:
			fmt.Print(line)
			at += int64(len(line))
			n++
		case errors.Is(err, ErrPosition):
			at = must(strconv.ParseInt(there["bytes"], 10, 64))
		default:
			must(0, err)
		}
	}
}

// TestDirKilledBeginning kills a process after each step of an Append that begins a blob.
func TestDirKilledBeginning(t *testing.T) {
	steps := stepsOf(t, func(d *Dir) error {
		_, err := d.Append(t.Context(), crashName, 0, crashBody, nil)
		return err
	})
	for i, step := range steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if err := process("dies beginning", root, step).Run(); err == nil {
				t.Fatal("the process was not killed")
			}
			d := openDir(t, root)
			there, err := d.Append(t.Context(), crashName, 0, crashBody, map[string]string{"by": "the living"})
			if i >= slices.Index(steps, "committed") {
				if !errors.Is(err, ErrPosition) || there["by"] != "the dead" {
					t.Fatalf("Append = %v, %v; want what the dead has appended", there, err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			mustAppendTo(t, d, int64(len(crashBody)), crashMore)
			whole(t, d, crashName, append(slices.Clone(crashBody), crashMore...))
			if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if left := staged(t, root); left != nil {
				t.Errorf("after a sweep staging holds %q", left)
			}
			whole(t, d, crashName, append(slices.Clone(crashBody), crashMore...))
		})
	}
}

func mustAppendTo(t *testing.T, d *Dir, at int64, body string) {
	t.Helper()
	if _, err := d.Append(t.Context(), crashName, at, []byte(body), map[string]string{"by": "the living"}); err != nil {
		t.Fatal(err)
	}
}

// stepsOf are the steps that something takes in a directory of its own.
func stepsOf(t *testing.T, do func(d *Dir) error) (steps []string) {
	t.Helper()
	d := openDir(t, t.TempDir())
	d.step = func(done string) { steps = append(steps, done) }
	if err := do(d); err != nil {
		t.Fatal(err)
	}
	return steps
}

// TestDirKilledAppending kills a process after each step of Append, and lets each method in turn be the first
// to look at what it left: the blob as it was before, or as it is after, content and metadata alike.
func TestDirKilledAppending(t *testing.T) {
	old, dead := map[string]string{"by": "nobody"}, map[string]string{"by": "the dead", "as": "new"}
	begin := func(t *testing.T, d *Dir) {
		if _, err := d.Append(t.Context(), crashName, 0, crashBody, old); err != nil {
			t.Fatal(err)
		}
	}
	all := stepsOf(t, func(d *Dir) error {
		begin(t, d)
		_, err := d.Append(t.Context(), crashName, int64(len(crashBody)), []byte(crashMore), dead)
		return err
	})
	steps := all[slices.Index(all, "block written"):]
	if want := []string{"block written", "block synced", "metadata staged", "metadata replaced", "metadata synced"}; !slices.Equal(steps, want) {
		t.Fatalf("Append went through %q, want %q", steps, want)
	}
	end := int64(len(crashBody))
	looks := map[string]func(d *Dir) (map[string]string, error){
		"Metadata": func(d *Dir) (map[string]string, error) { return d.Metadata(t.Context(), crashName) },
		"Create": func(d *Dir) (map[string]string, error) {
			there, err := d.Create(t.Context(), crashName, nil, nil)
			return there, ignore(err, ErrExists)
		},
		"Append elsewhere": func(d *Dir) (map[string]string, error) {
			there, err := d.Append(t.Context(), crashName, 1, []byte("x"), nil)
			return there, ignore(err, ErrPosition)
		},
		"sweep": func(d *Dir) (map[string]string, error) {
			if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
				return nil, err
			}
			return d.Metadata(t.Context(), crashName)
		},
	}
	for i, step := range steps {
		want, body := old, string(crashBody)
		if i >= slices.Index(steps, "metadata replaced") {
			want, body = dead, body+crashMore
		}
		for method, look := range looks {
			t.Run(step+"/"+method, func(t *testing.T) {
				t.Parallel()
				body := body
				root := t.TempDir()
				d := openDir(t, root)
				begin(t, d)
				if err := process("dies appending", root, step).Run(); err == nil {
					t.Fatal("the process was not killed")
				}
				if got, err := look(d); err != nil || !maps.Equal(got, want) {
					t.Fatalf("first look: %v, %v; want %v", got, err, want)
				}
				whole(t, d, crashName, []byte(body))
				// What is appended next is shorter than what the dead may have left.
				there, err := d.Append(t.Context(), crashName, end, []byte("short"), map[string]string{"by": "the living"})
				if wantErr := body != string(crashBody); wantErr != errors.Is(err, ErrPosition) || wantErr && !maps.Equal(there, dead) || !wantErr && err != nil {
					t.Fatalf("Append = %v, %v", there, err)
				} else if !wantErr {
					body += "short"
				}
				whole(t, d, crashName, []byte(body))
				if file, err := os.ReadFile(filepath.Join(root, crashName)); err != nil || string(file) != body {
					t.Errorf("the file itself has %d bytes, want %d (%v)", len(file), len(body), err)
				}
			})
		}
	}
}

// TestDirKilledAtRandomAppending has processes append to one blob, and kills them at random. Each line that was
// said to be appended is there once, in its writer's order, and at most one more that was not said any more.
func TestDirKilledAtRandomAppending(t *testing.T) {
	kills := 12
	if os.Getenv("PERSISTOR_SOAK") == "1" {
		kills = 1000
	}
	root := t.TempDir()
	d := openDir(t, root)
	said := make([]int, kills)
	var wg sync.WaitGroup
	running := make(chan struct{}, 3)
	for n := range kills {
		running <- struct{}{}
		wg.Go(func() {
			defer func() { <-running }()
			c := process("appender", root, "writer-"+strconv.Itoa(n))
			stdout, err := c.StdoutPipe()
			if err == nil {
				err = c.Start()
			}
			if err != nil {
				t.Error(err)
				return
			}
			time.AfterFunc(time.Duration(20+mathrand.IntN(150))*time.Millisecond, func() { c.Process.Kill() })
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				if lines.Text() == fmt.Sprintf("writer-%d %d", n, said[n]) {
					said[n]++
				}
			}
			c.Wait()
		})
	}
	wg.Wait()
	metadata, err := d.Metadata(t.Context(), crashName)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Open(t.Context(), crashName)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next, size := make([]int, kills), 0
	for lines := bufio.NewScanner(r); lines.Scan(); {
		size += len(lines.Text()) + 1
		writer, number, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "writer-"), " ")
		w, err := strconv.Atoi(writer)
		if err != nil || w >= kills || number != strconv.Itoa(next[w]) {
			t.Fatalf("line %q, expected number %d", lines.Text(), next[w])
		}
		next[w]++
	}
	total := 0
	for n := range kills {
		if total += said[n]; next[n] < said[n] || next[n] > said[n]+1 {
			t.Errorf("writer %d said %d, and %d are there", n, said[n], next[n])
		}
	}
	if end := strconv.Itoa(size); metadata["bytes"] != end || metadata["again"] != end {
		t.Errorf("%d bytes, and metadata %v", size, metadata)
	}
	t.Logf("%d kills, %d lines", kills, total)
}

// TestDirTurnIsNotWaitedForEver has it be somebody else's.
func TestDirTurnIsNotWaitedForEver(t *testing.T) {
	root := t.TempDir()
	d, other := openDir(t, root), openDir(t, root)
	end, err := other.turn(t.Context(), crashName)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Append(ctx, crashName, 0, crashBody, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Append = %v, want DeadlineExceeded", err)
	}
	end()
	mustAppendTo(t, d, 0, crashMore)
	whole(t, d, crashName, []byte(crashMore))
}
