package generate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"persistor/functions"
)

func TestHandlersAreChecked(t *testing.T) {
	dir := handlers(t)
	script := filepath.Join(t.TempDir(), "handler")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	withInvoker := `{"persistorServices": [["EVENT_HUB_PULL", "a", {"invoker": "true"}]]}`
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Handler: filepath.Join(dir, "nothing")}, "find handler"},
		{Options{Handler: t.TempDir()}, "find handler"},
		{Options{Handler: script}, "it is no Linux program: build it with GOOS=linux GOARCH="},
		{Options{Handler: dir, Arch: other}, "--arch " + other + " wants"},
		{Options{Handler: dir, Arch: "mips"}, `"mips" is none, expected amd64 or arm64`},
		{Options{Handler: filepath.Join(dir, "worker"), Config: []byte(withInvoker)}, "it is one program, and 2 are needed: name a folder that has worker, invoker"},
		{Options{Source: t.TempDir()}, "name the source with --source, or built handlers with --handler"},
	} {
		o := test.o
		if o.Config == nil {
			o.Config = []byte(onePull)
		}
		if o.Arch == "" {
			o.Arch = runtime.GOARCH
		}
		o.Output = t.TempDir()
		_, err := Run(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrUsage) {
			t.Errorf("%v, want %q", err, test.want)
		}
		if found := tree(t, o.Output); len(found) > 0 {
			t.Errorf("%q: %v is written all the same", test.want, sortedKeys(found))
		}
	}
	single := filepath.Join(dir, "worker")
	generateInto(t, t.TempDir(), onePull, func(o *Options) { o.Handler = single })
}

// The handlers are built from a module: here from one of the same name with the smallest of programs.
func TestHandlersAreBuiltOnce(t *testing.T) {
	source, output := t.TempDir(), t.TempDir()
	writeFile(t, source, "go.mod", "module persistor\n\ngo 1.26\n")
	for _, program := range functions.Programs() {
		writeFile(t, source, "cmd/"+program+"/main.go", fmt.Sprintf("package main\n\nfunc main() { println(%q) }\n", program))
	}
	var progress bytes.Buffer
	apps := `{"persistorServices": [["EVENT_HUB_PULL", "a", {"invoker": "true"}], ["SERVICE_BUS_PULL", "b", {"invoker": "true"}], ["EVENT_GRID_BINDING", "c"]]}`
	for _, arch := range Architectures() {
		if testing.Short() && arch != runtime.GOARCH {
			continue // its standard library has to be compiled, too
		}
		progress.Reset()
		report, err := Run(t.Context(), Options{Config: []byte(apps), Output: output, Arch: arch, Source: filepath.Join(source, "cmd"), Progress: &progress})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range report.Apps {
			file := filepath.Join(a.Folder, functions.Handler)
			if err := checkProgram(file, a.Program, arch); err != nil {
				t.Error(err)
			}
			if err := checkProgram(file, "another", arch); err == nil || !strings.Contains(err.Error(), "it is the program "+a.Program+", and another is needed") {
				t.Errorf("%v, want that it is another program", err)
			}
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s: %v %v, want mode 0755", file, info.Mode(), err)
			}
			if !bytes.Contains(read(t, file), []byte(a.Program)) {
				t.Errorf("%s is not the %s", file, a.Program)
			}
		}
		for _, program := range functions.Programs() {
			if n := strings.Count("\n"+progress.String(), "\nbuilding "+program+" for linux/"+arch); n != 1 {
				t.Errorf("%s is built %d times for %s:\n%s", program, n, arch, &progress)
			}
		}
	}

	writeFile(t, source, "cmd/push/main.go", "package main\n\nfunc main() { undefined() }\n")
	_, err := Run(t.Context(), Options{Config: []byte(apps), Output: output, Source: source})
	if err == nil || !strings.Contains(err.Error(), "undefined: undefined") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want one line with what the compiler says", err)
	}
}
