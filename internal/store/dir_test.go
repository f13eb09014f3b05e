package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func openDir(t *testing.T, root string) *Dir {
	t.Helper()
	d, err := OpenDir(root, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func names(t *testing.T, d Store, prefix string) []string {
	t.Helper()
	var names []string
	for b, err := range d.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, b.Name)
	}
	return names
}

func staged(t *testing.T, root string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, stagingDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDirKeepsPlainFiles(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	if _, err := d.Create(t.Context(), "hub/2026/1.txt", []byte("content"), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "hub/2026/1.txt")); err != nil || string(got) != "content" {
		t.Errorf("the blob's file holds %q, %v", got, err)
	}
	if left := staged(t, root); left != nil {
		t.Errorf("left in staging: %v", left)
	}
}

func TestDirListsItsBlobsAlone(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	if err := os.WriteFile(filepath.Join(root, "notes"), []byte("put here by hand"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d, ""); got != nil {
		t.Errorf("List yields %q, which no Create stored", got)
	}
	if _, err := d.Open(t.Context(), "notes"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open of a file that no Create stored: %v, want ErrNotFound", err)
	}
}

// TestDirLoserLeavesNothing has another process commit the name at the last moment.
func TestDirLoserLeavesNothing(t *testing.T) {
	root := t.TempDir()
	winner, loser := openDir(t, root), openDir(t, root)
	loser.step = func(done string) {
		if done == "staging synced" {
			if _, err := winner.Create(t.Context(), "blob", []byte("x"), map[string]string{"by": "winner"}); err != nil {
				t.Error(err)
			}
		}
	}
	there, err := loser.Create(t.Context(), "blob", []byte("y"), nil)
	if !errors.Is(err, ErrExists) || there["by"] != "winner" {
		t.Errorf("Create = %v, %v; want the winner's metadata and ErrExists", there, err)
	}
	whole(t, winner, "blob", []byte("x"))
	if left := staged(t, root); left != nil {
		t.Errorf("left in staging: %q", left)
	}
}

// TestDirListsLargeFolders lists folders of more entries than are held in memory.
func TestDirListsLargeFolders(t *testing.T) {
	d := openDir(t, t.TempDir())
	d.page = 3
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("a/%02d", i), fmt.Sprintf("a/%02d/x", i+50))
	}
	for _, name := range want {
		if _, err := d.Create(t.Context(), name, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	if got := names(t, d, ""); !slices.Equal(got, want) {
		t.Errorf("List = %q, want %q", got, want)
	}
	if got := names(t, d, "a/1"); !slices.Equal(got, want[10:20]) {
		t.Errorf("List of a/1 = %q, want %q", got, want[10:20])
	}
}

// TestDirListsFromThePrefixOn expects of every prefix, however odd, what a look at all names gives, and
// that no folder is read that it does not lead to.
func TestDirListsFromThePrefixOn(t *testing.T) {
	d := openDir(t, t.TempDir())
	all := []string{"a", "b-c", "b/c", "b/c-d", "c-/x", "c/d-e/f", "c/d/a", "c/d/b/x", "c/d/é", "c/d0", "c0"}
	for _, name := range all {
		if _, err := d.Create(t.Context(), name, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	for _, prefix := range []string{
		"", "a", "a/", "a/b", "a/b/c", "b", "b/", "b/c", "b/c/", "b/c-", "c", "c/", "c/d", "c/d/", "c/d/b/x", "c/d/b/x/", "c/d/b/x/y/z", "c/d/é", "x/y/z",
		".", "./", "../", "./c/", "c/./d", "c/../", "c/../c/", "c/..", "c//", "c//d", "/", "/c/", "//", ".persistor/", ".persistor/metadata/", ".persistor/metadata/c/",
		"../metadata/c/", "../staging/", "../../", "c/d\x00/", "c/\xff/", strings.Repeat("c/", 1000), strings.Repeat("c", 300) + "/x",
	} {
		var want []string
		for _, name := range all {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		if got := names(t, d, prefix); !slices.Equal(got, want) {
			t.Errorf("List(%q) = %q, want %q", prefix, got, want)
		}
	}

	// A damaged blob in a folder beside is nobody's business, and one in it is.
	if err := os.WriteFile(filepath.Join(d.Path(), commitsDir, "c/d/a"), []byte("damaged"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d, "c/d/b/"); !slices.Equal(got, []string{"c/d/b/x"}) {
		t.Errorf("beside a damaged one: %q", got)
	}
	for b, err := range d.List(t.Context(), "c/d/") {
		if err == nil || !strings.Contains(err.Error(), "damaged") || b.Name != "c/d/a" {
			t.Errorf("List with a damaged blob = %v, %v", b, err)
		}
		break
	}
	var behind []string // for whoever goes on
	for b, err := range d.List(t.Context(), "c/d/") {
		if err == nil {
			behind = append(behind, b.Name)
		}
	}
	if want := []string{"c/d/b/x", "c/d/é"}; !slices.Equal(behind, want) {
		t.Errorf("behind a damaged one: %q, want %q", behind, want)
	}
}

// BenchmarkDirListSession lists one session's blobs of a day that has 10,000 sessions.
func BenchmarkDirListSession(b *testing.B) {
	d, err := OpenDir(b.TempDir(), true)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	const day = "orders/2026/03/09/"
	for i := range 10_000 {
		if err := d.root.MkdirAll(fmt.Sprintf("%s/%ssession-%d", commitsDir, day, i), 0o777); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := d.Create(b.Context(), day+"session-5000/1.txt", nil, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		found := 0
		for _, err := range d.List(b.Context(), day+"session-5000/") {
			if err != nil {
				b.Fatal(err)
			}
			found++
		}
		if found != 1 {
			b.Fatalf("found %d", found)
		}
	}
}

func TestDirRefusesBlobsNamedAsFolders(t *testing.T) {
	for _, order := range [][2]string{{"a", "a/b"}, {"a/b", "a"}} {
		d := openDir(t, t.TempDir())
		if _, err := d.Create(t.Context(), order[0], []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
		_, err := d.Create(t.Context(), order[1], []byte("y"), nil)
		if err == nil || errors.Is(err, ErrExists) {
			t.Errorf("Create(%q) beside %q = %v, want it refused", order[1], order[0], err)
		}
		if got := names(t, d, ""); !slices.Equal(got, order[:1]) {
			t.Errorf("List = %q, want %q alone", got, order[0])
		}
	}
}

// TestDirTellsOfRemovedFiles has a blob's file removed by hand: no method may take it for one that
// never was.
func TestDirTellsOfRemovedFiles(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	if _, err := d.Create(t.Context(), "a/b", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "a")); err != nil {
		t.Fatal(err)
	}
	_, err := d.Metadata(t.Context(), "a/b")
	check := func(method string, err error) {
		if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), ".persistor/metadata/a/b") {
			t.Errorf("%s = %v, want an error that names what is left of the blob", method, err)
		}
	}
	check("Metadata", err)
	_, err = d.Open(t.Context(), "a/b")
	check("Open", err)
	_, err = d.Create(t.Context(), "a/b", nil, nil)
	check("Create", err)
	for _, err := range d.List(t.Context(), "") {
		check("List", err)
	}
}

// TestDirSweep opens a directory in which dead processes left files, old and recent.
func TestDirSweep(t *testing.T) {
	root := t.TempDir()
	openDir(t, root)
	old := time.Now().Add(-staleAfter - time.Hour)
	for file, age := range map[string]time.Time{
		"OLD.data": old, "OLD.json": old, // died between steps 2 and 3
		"TORN.data": old, "TORN.json": old, // died in step 2
		"LONE.data":    old, // died between steps 1 and 2
		"OLD.metadata": old, // died before it replaced metadata
		"NEW.data":     time.Now(), "NEW.json": time.Now(), "NEW.metadata": time.Now(),
	} {
		content := `{"name":"blob","staging":"` + strings.TrimSuffix(file, ".json") + `","metadata":{}}`
		if strings.HasPrefix(file, "TORN") {
			content = content[:20]
		}
		path := filepath.Join(root, stagingDir, file)
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o666), os.Chtimes(path, age, age)); err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(t, root)
	var left []string
	for _, file := range staged(t, root) {
		left = append(left, filepath.Base(file))
	}
	if want := []string{"NEW.data", "NEW.json", "NEW.metadata"}; !slices.Equal(left, want) {
		t.Errorf("after the sweep staging holds %q, want %q", left, want)
	}
	if got := names(t, d, ""); got != nil {
		t.Errorf("the sweep made blobs of what was never committed: %q", got)
	}
}

// TestDirIsHeldToItsRoot follows a link out of the directory: it must not.
func TestDirIsHeldToItsRoot(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	d := openDir(t, root)
	if err := os.Symlink(outside, filepath.Join(root, "out")); err != nil {
		t.Skip(err)
	}
	if _, err := d.Create(t.Context(), "out/blob", nil, nil); err == nil {
		t.Error("a blob was created through a link that leads out of the directory")
	}
	if _, err := os.Stat(filepath.Join(outside, "blob")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was written outside of the directory: %v", err)
	}
}

func TestOpenRefusesOddDirectories(t *testing.T) {
	for _, o := range []Options{
		{Location: "file://relative/path"}, {Location: "file:relative"}, {Location: "file:///tmp?x=1"}, {Location: "file:///%zz"},
		{Location: "file://" + t.TempDir(), Container: "../x", Create: true},
		{Location: "file://" + t.TempDir(), Container: "a/b", Create: true},
	} {
		if _, err := Open(t.Context(), o); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open(%+v) = %v, want one line of error", o, err)
		}
	}
}

// whole fails the test unless a blob is there with the given content, by every method.
func whole(t *testing.T, d Store, name string, body []byte) {
	t.Helper()
	r, err := d.Open(t.Context(), name)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%s holds %d bytes (%v), not the %d that were created", name, len(got), err, len(body))
	}
	if got := names(t, d, name); !slices.Equal(got, []string{name}) {
		t.Errorf("List(%q) = %q", name, got)
	}
	if _, err := d.Create(t.Context(), name, nil, nil); !errors.Is(err, ErrExists) {
		t.Errorf("Create(%q) again = %v, want ErrExists", name, err)
	}
}
