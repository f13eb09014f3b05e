package generate

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
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

// handlers is a folder with a program for each kind of app.
func handlers(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range functions.Programs() {
		if err := os.WriteFile(filepath.Join(dir, program), linuxProgram(program), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// linuxProgram is what makes a file a Linux program for this processor, and some content. It can't be run.
func linuxProgram(content string) []byte {
	machine := elf.EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_AARCH64
	}
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64,
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, header)
	b.WriteString(content)
	return b.Bytes()
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
	  {PERSISTOR_STORAGE_CONNECTION_STRING: "file:///new/secret", WORKER_KEY: new-secret-of-length, WEBSITE_PASSWORD: new secret}}]`, planned)
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
	if f := report.Apps[0].Files[0]; f.Action != Keep {
		t.Errorf("%s of a handler that is the same, want keep", f.Action)
	}
	for _, want := range []SettingChange{
		{"GET_METADATA", "change", "FALSE", "TRUE"}, {"WORKER_KEY", "change", "[redacted]", "[redacted]"}, {"WEBSITE_PASSWORD", "add", "", "[redacted]"},
	} {
		if !slices.Contains(report.Apps[0].Settings, want) {
			t.Errorf("the plan lacks %+v: %+v", want, report.Apps[0].Settings)
		}
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

// Where something else than a file has the place of one, it stays, and the error says what it is about.
func TestOnlyFilesAreReplaced(t *testing.T) {
	for _, name := range []string{"handler", "host.json", "local.settings.json", "pull/function.json"} {
		for kind, put := range map[string]func(place string) error{
			"a folder":       func(place string) error { return os.Mkdir(place, 0o777) },
			"a link":         func(place string) error { return os.Symlink("mine", place) },
			"a link to none": func(place string) error { return os.Symlink("nothing", place) },
		} {
			output := t.TempDir()
			place := filepath.Join(output, "a", filepath.FromSlash(name))
			writeFile(t, filepath.Dir(place), "mine", "{}")
			if err := put(place); err != nil {
				t.Fatal(err)
			}
			before := entries(t, output)
			_, err := Run(t.Context(), Options{Config: []byte(onePull), Output: output, Handler: handlers(t), Arch: runtime.GOARCH})
			if err == nil || !strings.Contains(err.Error(), name+" is no regular file: put a file there, or remove it") {
				t.Errorf("%s in place of %s: %v", kind, name, err)
			}
			if diff := cmp.Diff(before, entries(t, output)); diff != "" {
				t.Errorf("%s in place of %s: something is written all the same: %s", kind, name, diff)
			}
		}
	}
}

// entries are what there is in a folder, with its kind.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		found = append(found, fs.FormatDirEntry(entry))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFilesThatCannotBeUpdated(t *testing.T) {
	for content, want := range map[string]string{
		`{"IsEncrypted": true, "Values": {}}`:   "its values are encrypted",
		"{\n  // mine\n}":                       "it is no JSON: line 2: ",
		`{"Values": `:                           "it is no JSON",
		`[]`:                                    "expected a JSON object",
		`{"Values": []}`:                        "read Values: expected a JSON object",
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
