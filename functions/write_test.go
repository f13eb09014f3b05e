package functions_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"persistor/functions"
)

var update = flag.Bool("update", false, "write the folders of the variants")

// app is a function app, from which its folder is written.
type app struct {
	host      host
	functions map[string]function
	settings  []setting
}

// variants are all of them, by the names of their folders.
func variants() map[string]app {
	all := map[string]app{
		"worker-event-hub":    worker(settings("EVENT_HUB_PULL", stored, kept, hub, hubPull, limit)),
		"worker-service-bus":  worker(settings("SERVICE_BUS_PULL", stored, kept, bus, busPull, limit)),
		"invoker-event-hub":   invoker(settings("EVENT_HUB_PULL", calls, stored, hub, triggers)),
		"invoker-service-bus": invoker(settings("SERVICE_BUS_PULL", calls, stored, bus, triggers)),
	}
	for _, s := range []source{eventGrid, eventHub, queue, topic} {
		for _, form := range []string{"one", "many", "output"} {
			if form != "output" || s.path != "" {
				all[s.name+"-"+form] = s.app(form)
			}
		}
	}
	return all
}

// TestFolders compares the folders with the tables.
func TestFolders(t *testing.T) {
	written := map[string]bool{}
	for name, a := range variants() {
		for path, content := range a.files(t) {
			file := filepath.Join(name, filepath.FromSlash(path))
			written[file] = true
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, content, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if found, _ := os.ReadFile(file); !bytes.Equal(found, content) {
				t.Errorf("%s is not what the tables say: run go test ./functions -update", file)
			}
		}
	}
	for _, name := range functions.Variants() {
		err := filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && !written[path] {
				t.Errorf("%s is in no table: remove it", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func (a app) files(t *testing.T) map[string][]byte {
	files := map[string][]byte{
		functions.HostFile:     encode(t, a.host),
		functions.SettingsFile: encode(t, localSettings{Values: a.settings}),
		functions.IgnoreFile:   []byte(ignored),
	}
	for name, f := range a.functions {
		files[name+"/"+functions.FunctionFile] = encode(t, f)
	}
	return files
}

func encode(t *testing.T, v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ignored is what a deployment leaves out.
const ignored = `.git*
.vscode
.funcignore
local.settings.json
*.zip
*.go
`

// localSettings is local.settings.json.
type localSettings struct {
	IsEncrypted bool
	Values      values
}

// setting is one of Values.
type setting struct{ name, value string }

// values keep their order in JSON.
type values []setting

func (v values) MarshalJSON() ([]byte, error) {
	var pairs []string
	for _, s := range v {
		pairs = append(pairs, fmt.Sprintf("%q:%q", s.name, s.value))
	}
	return []byte("{" + strings.Join(pairs, ",") + "}"), nil
}

// settings are those that the host needs, the type, and the parts that follow.
func settings(service string, parts ...[]setting) []setting {
	host := []setting{
		{"FUNCTIONS_WORKER_RUNTIME", "custom"},
		{"AzureWebJobsStorage", "UseDevelopmentStorage=true"},
		{"SERVICE_TYPE", service},
	}
	return slices.Concat(append([][]setting{host}, parts...)...)
}

// Settings that several variants have, with their defaults.
var (
	stored = []setting{
		{"PERSISTOR_STORAGE_CONNECTION_STRING", ""},
		{"PERSISTOR_CONTAINER_NAME", ""},
	}
	kept = []setting{
		{"STORE_PARAM", ""},
		{"GET_METADATA", "FALSE"},
		{"APPEND", "FALSE"},
		{"TIMED_APPEND", "FALSE"},
	}
	hub = []setting{
		{"EVENT_HUB_CONN_STRING", ""},
		{"EVENT_HUB_NAME", ""},
		{"EVENT_HUB_CONSUMER_GROUP", "$Default"},
		{"EVENT_HUB_CHECKPOINT_STORAGE_CONN_STRING", ""},
		{"EVENT_HUB_CHECKPOINT_CONTAINER", ""},
	}
	hubPull = []setting{
		{"EVENT_HUB_IDLE_TIMEOUT", ""},
		{"EVENT_HUB_RECEIVE_DURATION", ""},
		{"EVENT_HUB_PREFETCH", ""},
		{"EVENT_HUB_PULL_BATCH_SIZE", ""},
	}
	bus = []setting{
		{"SERVICE_BUS_CONNECTION_STRING", ""},
		{"SERVICE_BUS_TYPE", "QUEUE"},
		{"SERVICE_BUS_QUEUE_NAME", ""},
		{"SERVICE_BUS_TOPIC_NAME", ""},
		{"SERVICE_BUS_SUB_NAME", ""},
		{"SERVICE_BUS_SUBQUEUE", "none"},
		{"SERVICE_BUS_SESSIONS", "FALSE"},
	}
	busPull = []setting{
		{"SERVICE_BUS_IDLE_TIMEOUT", "0"},
		{"SERVICE_BUS_RECEIVE_DURATION", ""},
		{"SERVICE_BUS_PREFETCH", ""},
	}
	limit = []setting{{"WORKER_TIMEOUT", "230"}}
	calls = []setting{
		{"FUNC_TO_INVOKE", ""},
		{"DELAY_BETWEEN_FUNCS", "0.25"},
		{"INVOKER_TIMEOUT", "180"},
		{"INVOKER_UNITS", ""},
	}
	// The triggers are named so that the host can read them. Those that start runs are off until somebody wants them.
	triggers = []setting{
		{"PERSISTOR_BACKFILL_QUEUE", "persistor-backfill"},
		{"PERSISTOR_SCHEDULE", "0 0 * * * *"},
		{"PERSISTOR_QUEUE", "persistor-runs"},
		{"AzureWebJobs.schedule.Disabled", "true"},
		{"AzureWebJobs.queue.Disabled", "true"},
	}
)
