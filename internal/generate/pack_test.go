package generate

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/functions"
)

func TestPackage(t *testing.T) {
	output := t.TempDir()
	writeFile(t, output, "a/.funcignore", "# comment\n*.md\n/secret\n")
	writeFile(t, output, "a/README.md", "x")
	writeFile(t, output, "a/data/notes.md", "x")
	writeFile(t, output, "a/secret/key", "x")
	writeFile(t, output, "a/data/table.csv", "x")
	generateInto(t, output, onePull, func(o *Options) { o.Zip = true })
	first := read(t, filepath.Join(output, "a.zip"))
	z, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		want := fs.FileMode(0o644)
		if f.Name == functions.Handler {
			want = 0o755
		}
		if !f.Modified.Equal(packed) {
			t.Errorf("%s is of %v, want %v, as every file ever packed", f.Name, f.Modified, packed)
		}
		if f.Mode() != want || f.CreatorVersion>>8 != 3 {
			t.Errorf("%s has mode %v of system %d, want %v of Unix (3)", f.Name, f.Mode(), f.CreatorVersion>>8, want)
		}
	}
	// .funcignore is there for it is the user's own, which doesn't name itself.
	want := []string{".funcignore", "data/table.csv", "handler", "host.json", "pull/function.json", "status/function.json"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	packed, err := z.Open(functions.Handler)
	if err != nil {
		t.Fatal(err)
	}
	program, err := io.ReadAll(packed)
	if err != nil || !bytes.Equal(program, read(t, filepath.Join(output, "a", functions.Handler))) {
		t.Errorf("the packed handler is another one: %v", err)
	}

	other := t.TempDir()
	for name, content := range tree(t, output) {
		writeFile(t, other, name, content)
	}
	generateInto(t, other, onePull, func(o *Options) { o.Zip = true })
	if !bytes.Equal(first, read(t, filepath.Join(other, "a.zip"))) {
		t.Error("the same files make another package")
	}
}

func TestPackageHasNoSettings(t *testing.T) {
	output := t.TempDir()
	for _, name := range []string{"Local.Settings.json", "local.settings.json.bak", "local.settings.production.json", "lib/local.settings.json"} {
		writeFile(t, output, "a/"+name, "{}")
	}
	writeFile(t, output, "a/.funcignore", "")
	writeFile(t, output, "a/local.txt", "")
	generateInto(t, output, onePull, func(o *Options) { o.Zip = true })
	z, err := zip.OpenReader(filepath.Join(output, "a.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	want := []string{".funcignore", "handler", "host.json", "local.txt", "pull/function.json", "status/function.json"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestPackageHasWhatTheHostNeeds(t *testing.T) {
	for _, left := range []string{"handler", "host.json"} {
		output := t.TempDir()
		writeFile(t, output, "a/.funcignore", left+"\n")
		_, err := Run(t.Context(), Options{Config: []byte(onePull), Output: output, Handler: handlers(t), Arch: runtime.GOARCH, Zip: true})
		if err == nil || !strings.Contains(err.Error(), ".funcignore leaves out "+left) {
			t.Errorf("%v, want that %s is left out", err, left)
		}
		if _, err := os.Stat(filepath.Join(output, "a.zip")); err == nil {
			t.Errorf("there is a package without %s", left)
		}
	}
}

func TestPackageTakesNoLinks(t *testing.T) {
	output := t.TempDir()
	if err := os.MkdirAll(filepath.Join(output, "a"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(output, "a", "link")); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), Options{Config: []byte(onePull), Output: output, Handler: handlers(t), Arch: runtime.GOARCH, Zip: true})
	if err == nil || !strings.Contains(err.Error(), "link is no regular file") {
		t.Errorf("%v, want an error about the link", err)
	}
	if _, err := os.Stat(filepath.Join(output, "a.zip")); err == nil {
		t.Error("there is a package all the same")
	}
}
