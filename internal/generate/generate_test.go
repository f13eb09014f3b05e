package generate

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/functions"
)

// handlers is a folder with a program for each kind of app: this one, for none of them is run here.
func handlers(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the test's own program stands for a handler, and has to be a Linux program")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, program := range functions.Programs() {
		if err := os.Symlink(self, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// generateInto generates a configuration with the handlers, in a folder.
func generateInto(t *testing.T, output, config string, change ...func(*Options)) Report {
	t.Helper()
	o := Options{Config: []byte(config), Output: output, Handler: handlers(t), Arch: runtime.GOARCH}
	for _, c := range change {
		c(&o)
	}
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

const onePull = `{"persistorServices": [["EVENT_HUB_PULL", "a", {"metadata": "true"}]]}`

// tree is all that a folder holds, by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func writeFile(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherRunChangesNothing(t *testing.T) {
	t.Parallel()
	output := t.TempDir()
	sample := string(read(t, "testdata/generator_config.json"))
	generateInto(t, output, sample, func(o *Options) { o.Zip = true })
	before := tree(t, output)
	report := generateInto(t, output, sample, func(o *Options) { o.Zip = true })
	if diff := cmp.Diff(sortedKeys(before), sortedKeys(tree(t, output))); diff != "" {
		t.Error(diff)
	}
	for name, content := range tree(t, output) {
		if before[name] != content {
			t.Errorf("%s is not as before", name)
		}
	}
	for _, a := range report.Apps {
		for _, f := range a.Files {
			if f.Action != Keep {
				t.Errorf("%s: %s of %s, want keep", a.Name, f.Action, f.Path)
			}
		}
		if len(a.Settings) > 0 {
			t.Errorf("%s: settings %+v", a.Name, a.Settings)
		}
	}
}

// What users did to their folders stays.
func TestFoldersAreKept(t *testing.T) {
	output := t.TempDir()
	generateInto(t, output, onePull)
	dir := filepath.Join(output, "a")
	hostFile := `{"version": "2.0", "customHandler": {"description": {"defaultExecutablePath": "handler"}}, "functionTimeout": "00:09:00"}`
	settings := "\xef\xbb\xbf" + `{"isEncrypted": false, "Host": {"LocalHttpPort": 7072}, "Values": {
		"MINE": "<&>", "GET_METADATA": "FALSE", "STORE_PARAM": "mine", "service_type": "event_hub_pull", "FUNCTIONS_WORKER_RUNTIME": "python", "EVENT_HUB_PULL_MAX_BATCH": "7"}, "ConnectionStrings": {}}`
	writeFile(t, dir, functions.HostFile, hostFile)
	writeFile(t, dir, functions.IgnoreFile, "notes\n")
	writeFile(t, dir, functions.SettingsFile, settings)
	writeFile(t, dir, "notes/todo", "feed the cat")
	writeFile(t, dir, "pull/notes.md", "mine")
	writeFile(t, dir, "pull/"+functions.FunctionFile, `{"bindings": []}`)

	report := generateInto(t, output, onePull)
	after := tree(t, dir)
	for name, want := range map[string]string{functions.HostFile: hostFile, functions.IgnoreFile: "notes\n", "notes/todo": "feed the cat", "pull/notes.md": "mine"} {
		if after[name] != want {
			t.Errorf("%s is now %q", name, after[name])
		}
	}
	if !strings.Contains(after["pull/function.json"], "httpTrigger") {
		t.Errorf("pull/function.json is still %s", after["pull/function.json"])
	}
	merged := after[functions.SettingsFile]
	for _, want := range []string{`"MINE": "<&>"`, `"LocalHttpPort": 7072`, `"STORE_PARAM": "mine"`, `"GET_METADATA": "TRUE"`, `"service_type": "event_hub_pull"`, `"FUNCTIONS_WORKER_RUNTIME": "custom"`, `"EVENT_HUB_NAME": ""`, `"isEncrypted": false`} {
		if !strings.Contains(merged, want) {
			t.Errorf("%s lacks %s:\n%s", functions.SettingsFile, want, merged)
		}
	}
	if strings.Contains(merged, "EVENT_HUB_PULL_BATCH_SIZE") {
		t.Errorf("EVENT_HUB_PULL_BATCH_SIZE is added beside its other name:\n%s", merged)
	}
	if i := strings.Index(merged, "MINE"); i > strings.Index(merged, "STORE_PARAM") || strings.Index(merged, "Host") > i {
		t.Errorf("the order is another one:\n%s", merged)
	}
	var changed []SettingChange
	for _, c := range report.Apps[0].Settings {
		if c.Action == "change" {
			changed = append(changed, c)
		}
	}
	want := []SettingChange{{"FUNCTIONS_WORKER_RUNTIME", "change", "python", "custom"}, {"GET_METADATA", "change", "FALSE", "TRUE"}}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Error(diff)
	}
}

// A folder that the original's generator wrote keeps its functions, and its user is told what to do with them.
func TestFolderOfTheOriginal(t *testing.T) {
	output := t.TempDir()
	python := map[string]string{
		"a/host.json":                    `{"version": "2.0"}`,
		"a/proxies.json":                 `{}`,
		"a/requirements.txt":             "azure-functions\n",
		"a/event_hub_pull/function.json": `{"scriptFile": "main.py", "bindings": []}`,
		"a/http_invoker/function.json":   `{"scriptFile": "invoker.py", "bindings": []}`,
		"a/local.settings.json":          `{"isEncrypted": false, "Values": {"AzureWebJobsStorage": "", "FUNCTIONS_WORKER_RUNTIME": "python", "FUNCTIONS_WORKER_PROCESS_COUNT": "10"}}`,
	}
	for name, content := range python {
		writeFile(t, output, name, content)
	}
	report := generateInto(t, output, onePull)
	after := tree(t, output)
	for name, content := range python {
		if name != "a/local.settings.json" && after[name] != content {
			t.Errorf("%s is now %q", name, after[name])
		}
	}
	told := strings.Join(report.Apps[0].Warnings, "\n")
	for _, want := range []string{"event_hub_pull, http_invoker stay beside pull, status", "host.json is kept, and doesn't name the handler"} {
		if !strings.Contains(told, want) {
			t.Errorf("warnings %q lack %q", told, want)
		}
	}
}

func TestPlanWritesNothing(t *testing.T) {
	output := filepath.Join(t.TempDir(), "apps")
	planned := func(o *Options) { o.Plan, o.Zip = true, true }
	report := generateInto(t, output, onePull, planned)
	if _, err := os.Stat(output); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a plan made %s: %v", output, err)
	}
	if f := report.Apps[0].Files[0]; f.Path != functions.Handler || f.Action != Create {
		t.Errorf("%s of %s, want create of the handler", f.Action, f.Path)
	}

	generateInto(t, output, onePull)
	writeFile(t, output, "a/local.settings.json", `{"Values": {"PERSISTOR_STORAGE_CONNECTION_STRING": "old secret", "GET_METADATA": "FALSE", "WORKER_KEY": "old secret"}}`)
	before := tree(t, output)
	report = generateInto(t, output, `apps: [{name: a, source: event-hub, approach: pull, metadata: true, settings:
	  {PERSISTOR_STORAGE_CONNECTION_STRING: new secret, WORKER_KEY: new secret, WEBSITE_PASSWORD: new secret}}]`, planned)
	if diff := cmp.Diff(before, tree(t, output)); diff != "" {
		t.Error(diff)
	}
	shown, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(shown, []byte("secret")) {
		t.Errorf("the plan tells secrets: %s", shown)
	}
	for _, want := range []SettingChange{
		{"GET_METADATA", "change", "FALSE", "TRUE"}, {"WORKER_KEY", "change", "[redacted]", "[redacted]"}, {"WEBSITE_PASSWORD", "add", "", "[redacted]"},
	} {
		if !slices.Contains(report.Apps[0].Settings, want) {
			t.Errorf("the plan lacks %+v: %+v", want, report.Apps[0].Settings)
		}
	}
}

func TestPackage(t *testing.T) {
	output := t.TempDir()
	writeFile(t, output, "a/.funcignore", "# comment\n*.md\n/secret\nlocal.settings.json\n")
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

// A folder may be a link to elsewhere; nothing is written there.
func TestNothingLeadsOutOfTheOutput(t *testing.T) {
	elsewhere, output := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(output, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{Config: []byte(onePull), Output: output, Handler: handlers(t), Arch: runtime.GOARCH}); err == nil {
		t.Error("no error about a folder that is elsewhere")
	}
	if found := tree(t, elsewhere); len(found) > 0 {
		t.Errorf("%v is written elsewhere", sortedKeys(found))
	}
}

func TestFilesThatCannotBeUpdated(t *testing.T) {
	for content, want := range map[string]string{
		`{"IsEncrypted": true, "Values": {}}`:   "its values are encrypted",
		`{"Values": `:                           "it is no JSON",
		`[]`:                                    "expected a JSON object",
		`{"Values": []}`:                        "Values: expected a JSON object",
		`{"Values": {"GET_METADATA": true}}`:    "GET_METADATA is no string",
		strings.Repeat(" ", maxFile+1):          "larger than",
		`{"Values": {"GET_METADATA": "TRUE"}`:   "it is no JSON",
		`{"Values": {}} {"Values": {"a": "b"}}`: "it is no JSON",
	} {
		output := t.TempDir()
		writeFile(t, output, "a/local.settings.json", content)
		before := tree(t, output)
		_, err := Run(t.Context(), Options{Config: []byte(onePull), Output: output, Handler: handlers(t), Arch: runtime.GOARCH})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40s: %v, want %q", content, err, want)
		}
		if diff := cmp.Diff(before, tree(t, output)); diff != "" {
			t.Errorf("%.40s: something is written all the same: %s", content, diff)
		}
	}
}

func TestRunStopsBetweenFiles(t *testing.T) {
	output := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Run(ctx, Options{Config: []byte(onePull), Output: output, Handler: handlers(t), Arch: runtime.GOARCH})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	if found := tree(t, output); len(found) > 0 {
		t.Errorf("%v is written all the same", sortedKeys(found))
	}
}

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
			if err := checkProgram(file, arch); err != nil {
				t.Error(err)
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
