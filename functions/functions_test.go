package functions_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"persistor/functions"
	"persistor/internal/config"
)

// eachFile calls do with every file of every variant.
func eachFile(t *testing.T, do func(t *testing.T, variant, name string, content []byte)) {
	for _, variant := range functions.Variants() {
		files, err := functions.Files(variant)
		if err != nil {
			t.Fatal(err)
		}
		err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := fs.ReadFile(files, name)
			t.Run(variant+"/"+name, func(t *testing.T) { do(t, variant, name, content) })
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreWhatTheirSchemasSay(t *testing.T) {
	schemas := map[string]*jsonschema.Schema{}
	for _, name := range []string{functions.HostFile, functions.FunctionFile, functions.SettingsFile} {
		schemas[name] = compile(t, name)
	}
	eachFile(t, func(t *testing.T, _, name string, content []byte) {
		schema := schemas[path.Base(name)]
		if schema == nil {
			return
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(content)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Error(err)
		}
	})
}

// compile compiles a published schema. That of host.json is closed first, so that a misspelt name shows;
// that of function.json says that it is of draft 4, and has a keyword (const) that only later ones know.
func compile(t *testing.T, name string) *jsonschema.Schema {
	f, err := os.Open("testdata/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	document, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	switch name {
	case functions.HostFile:
		closeObjects(document)
	case functions.FunctionFile:
		document.(map[string]any)["$schema"] = "http://json-schema.org/draft-07/schema#"
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// closeObjects refuses properties that a schema doesn't name.
func closeObjects(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, object := s["properties"].(map[string]any); object && s["additionalProperties"] == nil {
			s["additionalProperties"] = false
		}
		for _, part := range s {
			closeObjects(part)
		}
	case []any:
		for _, part := range s {
			closeObjects(part)
		}
	}
}

var (
	expansion  = regexp.MustCompile(`%([^%]*)%`)
	connection = regexp.MustCompile(`"connection": "([^"]*)"`)
)

// What the host expands has to be in the settings and, where a connection may be missing, not empty.
func TestNamesInFunctionsAreSettings(t *testing.T) {
	eachFile(t, func(t *testing.T, variant, name string, content []byte) {
		if path.Base(name) != functions.FunctionFile {
			return
		}
		values := settingsOf(t, variant)
		for _, m := range slices.Concat(expansion.FindAllSubmatch(content, -1), connection.FindAllSubmatch(content, -1)) {
			if _, ok := values[string(m[1])]; !ok {
				t.Errorf("%s names %s, which the variant has no setting for", name, m[1])
			}
		}
	})
}

func settingsOf(t *testing.T, variant string) map[string]string {
	files, err := functions.Files(variant)
	if err != nil {
		t.Fatal(err)
	}
	content, err := fs.ReadFile(files, functions.SettingsFile)
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Values map[string]string }
	if err := json.Unmarshal(content, &s); err != nil {
		t.Fatal(err)
	}
	return s.Values
}

// ofHost are the settings that the host reads itself.
var ofHost = []string{
	"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage", "AzureWebJobs.schedule.Disabled", "AzureWebJobs.queue.Disabled",
}

// A setting is one that the variant's program knows, with its default or empty.
func TestSettingsAreKnown(t *testing.T) {
	for _, variant := range functions.Variants() {
		for name, value := range settingsOf(t, variant) {
			known, fallback := lookUp(functions.Program(variant), name)
			switch {
			case slices.Contains(ofHost, name):
			case !known:
				t.Errorf("%s has a setting %s, which its program doesn't know", variant, name)
			case value != "" && value != fallback && !slices.Contains(chosen, name):
				t.Errorf("%s sets %s to %q, while the default is %q", variant, name, value, fallback)
			}
		}
	}
}

// lookUp finds a setting of a program.
func lookUp(program, name string) (known bool, fallback string) {
	for _, s := range config.Settings() {
		if (s.Name == name || s.Alias == name) && slices.ContainsFunc(s.Programs, func(p string) bool { return strings.HasPrefix(p, program) }) {
			return true, s.Default
		}
	}
	return false, ""
}

// chosen are settings that make a variant what it is.
var chosen = []string{"SERVICE_TYPE", "BINDING_SERVICE", "PERSISTOR_OUTPUT_BINDING", "PERSISTOR_SCHEDULE", "PERSISTOR_QUEUE", "PERSISTOR_BACKFILL_QUEUE", "STORE_PARAM", "BINDING_TIMEOUT"}

// The host kills a program whose call lasts longer than functionTimeout, and no HTTP caller waits for more
// than 230 s; each plan of Azure allows five minutes.
func TestCallsEndBeforeTheHostKillsThem(t *testing.T) {
	for _, variant := range functions.Variants() {
		files, _ := functions.Files(variant)
		content, err := fs.ReadFile(files, functions.HostFile)
		if err != nil {
			t.Fatal(err)
		}
		var h host
		if err := json.Unmarshal(content, &h); err != nil {
			t.Fatal(err)
		}
		clock, err := time.Parse(time.TimeOnly, h.FunctionTimeout)
		if err != nil {
			t.Fatal(err)
		}
		allowed := time.Duration(clock.Hour())*time.Hour + time.Duration(clock.Minute())*time.Minute + time.Duration(clock.Second())*time.Second
		for name, value := range settingsOf(t, variant) {
			if !strings.HasSuffix(name, "_TIMEOUT") || strings.Contains(name, "IDLE") {
				continue
			}
			if call, err := time.ParseDuration(value + "s"); err != nil || call+10*time.Second > allowed {
				t.Errorf("%s: %s is %s s, and the host kills after %v (%v)", variant, name, value, allowed, err)
			}
		}
		if allowed > 5*time.Minute {
			t.Errorf("%s: functionTimeout %v is more than the Consumption plan gives without being asked", variant, allowed)
		}
	}
}

// A variant's folders are the functions of its program, all of them.
func TestFoldersAreFunctions(t *testing.T) {
	for _, variant := range functions.Variants() {
		files, _ := functions.Files(variant)
		found, err := fs.Glob(files, "*/"+functions.FunctionFile)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, name := range functions.Names()[functions.Program(variant)] {
			want = append(want, name+"/"+functions.FunctionFile)
		}
		slices.Sort(want)
		if !slices.Equal(found, want) {
			t.Errorf("%s has %v, want %v", variant, found, want)
		}
	}
	if _, err := functions.Files("kafka"); err == nil || !strings.Contains(err.Error(), "worker-event-hub") {
		t.Errorf("Files of a variant that isn't: %v, want an error that names those that are", err)
	}
}
