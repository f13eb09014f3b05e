package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/internal/azurite/azuritetest"
)

// countUp adds one to the number in the document "counter".
func countUp(ctx context.Context, d Documents) error {
	for {
		body, version, err := d.Read(ctx, "counter")
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(body))
		if _, err = d.Write(ctx, "counter", fmt.Append(nil, n+1), version); !errors.Is(err, ErrChanged) {
			return err
		}
	}
}

const countContainer = "counters"

// countUpForever is a process that counts up, and says each time that it has, up to as many times as it is told.
func countUpForever(location, times string) {
	s := must(Open(context.Background(), Options{Location: location, Container: countContainer, Create: true}))
	for range must(strconv.Atoi(times)) {
		must(0, countUp(context.Background(), s.(Documents)))
		fmt.Println("counted")
	}
}

// runCounting runs such a process, kills it after its life unless that is 0, and returns how many times it said so.
func runCounting(t *testing.T, location string, times int, life time.Duration) (said int) {
	c := process("counter", location, strconv.Itoa(times))
	stdout, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	if life > 0 {
		defer time.AfterFunc(life, func() { c.Process.Kill() }).Stop()
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if lines.Text() == "counted" {
			said++
		}
	}
	if err := c.Wait(); err != nil && life == 0 {
		t.Errorf("a process that was left alone: %v", err)
	}
	return said
}

func counted(t *testing.T, location string) int {
	t.Helper()
	s, err := Open(t.Context(), Options{Location: location, Container: countContainer})
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := s.(*Dir); ok {
		defer d.Close()
	}
	body, _, err := s.(Documents).Read(t.Context(), "counter")
	n, bad := strconv.Atoi(string(body))
	if err != nil || bad != nil {
		t.Fatalf("the counter holds %q, %v", body, err)
	}
	return n
}

// TestProcessesCountUp has processes count up in one document: nothing is lost.
func TestProcessesCountUp(t *testing.T) {
	t.Parallel()
	for name, location := range map[string]string{"dir": "file://" + t.TempDir(), "azure": azuritetest.Run(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const processes, each = 3, 20
			var wg sync.WaitGroup
			for range processes {
				wg.Go(func() {
					if said := runCounting(t, location, each, 0); said != each {
						t.Errorf("a process counted %d times, want %d", said, each)
					}
				})
			}
			wg.Wait()
			if n := counted(t, location); n != processes*each {
				t.Errorf("%d times counted up, the document says %d", processes*each, n)
			}
		})
	}
}

// TestDirKilledCounting kills processes that count up in one document: what was said to be counted is, and what was
// not is at most once for each kill.
func TestDirKilledCounting(t *testing.T) {
	t.Parallel()
	kills := 16
	if os.Getenv("PERSISTOR_SOAK") == "1" {
		kills = 1000
	}
	location := "file://" + t.TempDir()
	runCounting(t, location, 1, 0)
	said := 1
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range kills / 2 {
				n := runCounting(t, location, 1_000_000, time.Duration(10+mathrand.IntN(80))*time.Millisecond)
				mu.Lock()
				said += n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := counted(t, location); n < said || n > said+kills {
		t.Errorf("%d times said to be counted, %d kills, and the document says %d", said, kills, n)
	}
	root := filepath.Join(strings.TrimPrefix(location, "file://"), countContainer)
	if err := openDir(t, root).sweep(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left := staged(t, root); left != nil {
		t.Errorf("after a sweep staging holds %q", left)
	}
}

const crashDocument = "_runs/hub/1.json"

func dieWriting(root, step string) {
	d := must(OpenDir(root, true))
	version := ""
	if body, now, err := d.Read(context.Background(), crashDocument); err == nil && len(body) > 0 {
		version = now
	}
	d.step = dieAfter(step)
	must(d.Write(context.Background(), crashDocument, crashBody, version))
}

func dieRemoving(root, step string) {
	d := must(OpenDir(root, false))
	d.step = dieAfter(step)
	must(0, d.Remove(context.Background(), crashDocument, ""))
}

// TestDirKilledChangingDocument kills a process after each step of changing a document, and looks: the old one or the
// new one is there, or none, as a whole, and it can be written and removed.
func TestDirKilledChangingDocument(t *testing.T) {
	const none = "(none)"
	for name, c := range map[string]struct {
		as       string
		old, new string
		turning  string // the step from which on the new one is there
	}{
		"create":  {"dies writing", none, string(crashBody), "committed"},
		"replace": {"dies writing", "old", string(crashBody), "document replaced"},
		"remove":  {"dies removing", "old", none, "commit removed"},
	} {
		prepare := func(t *testing.T) (root string, d *Dir) {
			root = t.TempDir()
			d = openDir(t, root)
			if c.old != none {
				if _, err := d.Write(t.Context(), crashDocument, []byte(c.old), ""); err != nil {
					t.Fatal(err)
				}
			}
			return root, d
		}
		look := func(d *Dir) string {
			body, _, err := d.Read(t.Context(), crashDocument)
			if errors.Is(err, ErrNotFound) {
				return none
			} else if err != nil {
				return err.Error()
			}
			return string(body)
		}
		var steps []string
		_, d := prepare(t)
		d.step = func(done string) { steps = append(steps, done) }
		_, version, _ := d.Read(t.Context(), crashDocument)
		change := func() error {
			if c.new == none {
				return d.Remove(t.Context(), crashDocument, "")
			}
			_, err := d.Write(t.Context(), crashDocument, crashBody, version)
			return err
		}
		if err := change(); err != nil || !slices.Contains(steps, c.turning) {
			t.Fatalf("%s: %v, in steps %q", name, err, steps)
		}
		for i, step := range steps {
			t.Run(name+"/"+step, func(t *testing.T) {
				t.Parallel()
				root, d := prepare(t)
				if err := process(c.as, root, step).Run(); err == nil {
					t.Fatal("the process was not killed")
				}
				want := c.old
				if i >= slices.Index(steps, c.turning) {
					want = c.new
				}
				if got := look(d); got != want {
					t.Fatalf("after the kill there is %.40q, want %.40q", got, want)
				}
				if listed := names(t, d, "_runs/"); (want == none) != (listed == nil) {
					t.Errorf("List = %q, and Read finds %.40q", listed, want)
				}
				if err := d.Remove(t.Context(), crashDocument, ""); err != nil {
					t.Error(err)
				}
				if got := look(d); got != none {
					t.Errorf("after Remove there is %.40q", got)
				}
				if _, err := d.Write(t.Context(), crashDocument, []byte("next"), ""); err != nil || look(d) != "next" {
					t.Errorf("Write after that: %v, and there is %.40q", err, look(d))
				}
				if err := d.sweep(time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
				if left := staged(t, root); left != nil || look(d) != "next" {
					t.Errorf("after a sweep staging holds %q, and there is %.40q", left, look(d))
				}
			})
		}
	}
}

// TestDirDocumentLeavesNothing: of what was removed no file and no folder stays, and what others put there does.
func TestDirDocumentLeavesNothing(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	for _, name := range []string{"_runs/hub/run/1-0.json", "_runs/hub/run/1-1.json", "_runs/hub/run.json", "top"} {
		if err := d.Overwrite(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(file string) bool {
		_, err := os.Stat(filepath.Join(root, file))
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, name := range []string{"_runs/hub/run/1-0.json", "_runs/hub/run/1-1.json", "top"} {
		if err := d.Remove(t.Context(), name, ""); err != nil || exists(name) {
			t.Errorf("Remove(%q) = %v, its file is there: %v", name, err, exists(name))
		}
	}
	if exists("_runs/hub/run") || exists(commitsDir+"/_runs/hub/run") || !exists("_runs/hub/run.json") {
		t.Error("the empty folder stays, or what is beside it doesn't")
	}
	if err := os.WriteFile(filepath.Join(root, "notes"), []byte("put here by hand"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), "notes", ""); err != nil || !exists("notes") {
		t.Errorf("Remove of what is no document = %v, and it is there: %v", err, exists("notes"))
	}
	if err := d.Overwrite(t.Context(), "_runs/hub", nil); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("Overwrite of a folder = %v", err)
	}
	if _, err := d.Append(t.Context(), "grows", 0, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Overwrite(t.Context(), "grows", nil); err == nil {
		t.Error("a blob that grows was overwritten")
	}
}

// TestDirKilledRemovingThenCreating: the file that a process left which was killed removing a document isn't taken for
// the one of whoever was killed creating it anew.
func TestDirKilledRemovingThenCreating(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := openDir(t, root)
	if _, err := d.Write(t.Context(), crashDocument, []byte("old"), ""); err != nil {
		t.Fatal(err)
	}
	for _, death := range [][2]string{{"dies removing", "commit removed"}, {"dies writing", "committed"}} {
		if err := process(death[0], root, death[1]).Run(); err == nil {
			t.Fatal("the process was not killed")
		}
	}
	if body, _, err := d.Read(t.Context(), crashDocument); err != nil || string(body) != string(crashBody) {
		t.Errorf("Read = %.40q, %v; want what was created", body, err)
	}
}
