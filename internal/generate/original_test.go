package generate

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"persistor/internal/config"
)

// original is what the original's generator wrote into local.settings.json for each app of its own sample,
// read from its generator.py and local_settings_common.json (syntio/aquarium-persistor-azure 1.0.0). An
// empty value is one that its user fills in.
var original = map[string]map[string]string{
	"eventGridTest": with(pushed("EVENT_GRID"), "PERSISTOR_OUTPUT_BINDING", "TRUE"),
	"eventHubPushTest": with(pushed("EVENT_HUB"), "EVENT_HUB_NAME_BINDING", "", "EVENT_HUB_BINDING_CONNECTION_STR", "", "CONSUMER_GROUP", "",
		"PERSISTOR_OUTPUT_BINDING", "TRUE"),
	"serviceBusPushTest": with(pushed("SERVICE_BUS"), "SERVICE_BUS_BINDING_TOPIC_NAME", "", "SERVICE_BUS_BINDING_SUB_NAME", "",
		"SERVICE_BUS_BINDING_CONNECTION_STRING", "", "SERVICE_BUS_TYPE", "TOPIC", "APPEND", "TRUE", "TIMED_APPEND", "TRUE"),
	"eventHubPullTest":              with(pulledHub, "APPEND", "TRUE", "TIMED_APPEND", "TRUE"),
	"eventHubPullTestWithInvoker":   with(pulledHub, invoked...),
	"serviceBusPullTest":            with(pulledBus, "APPEND", "TRUE", "TIMED_APPEND", "TRUE"),
	"serviceBusPullTestWithInvoker": with(pulledBus, invoked...),
}

var (
	invoked   = []string{"FUNC_TO_INVOKE", "", "DELAY_BETWEEN_FUNCS", "", "INVOKER_TIMEOUT", ""}
	stored    = map[string]string{"PERSISTOR_STORAGE_CONNECTION_STRING": "", "PERSISTOR_CONTAINER_NAME": ""}
	pulledHub = with(stored, "SERVICE_TYPE", "EVENT_HUB_PULL", "EVENT_HUB_CONN_STRING", "", "EVENT_HUB_NAME", "", "EVENT_HUB_CONSUMER_GROUP", "",
		"EVENT_HUB_IDLE_TIMEOUT", "", "EVENT_HUB_RECEIVE_DURATION", "", "EVENT_HUB_PREFETCH", "", "EVENT_HUB_PULL_BATCH_SIZE", "",
		"EVENT_HUB_CHECKPOINT_STORAGE_CONN_STRING", "", "EVENT_HUB_CHECKPOINT_CONTAINER", "")
	pulledBus = with(stored, "SERVICE_TYPE", "SERVICE_BUS_PULL", "SERVICE_BUS_CONNECTION_STRING", "", "SERVICE_BUS_IDLE_TIMEOUT", "",
		"SERVICE_BUS_RECEIVE_DURATION", "", "SERVICE_BUS_PREFETCH", "", "SERVICE_BUS_TYPE", "TOPIC", "SERVICE_BUS_TOPIC_NAME", "", "SERVICE_BUS_SUB_NAME", "")
)

func pushed(service string) map[string]string {
	return with(stored, "SERVICE_TYPE", "BINDING", "BINDING_SERVICE", service, "STORE_PARAM", "")
}

// with is settings and more of them.
func with(settings map[string]string, more ...string) map[string]string {
	all := maps.Clone(settings)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// The original's sample runs unchanged, and gives the folders and the settings that it gave: where they had a
// value the same, else the default or nothing. An invoker's are in its own app.
func TestOriginalSampleGivesWhatItGave(t *testing.T) {
	output := t.TempDir()
	report := generateInto(t, output, string(read(t, "testdata/generator_config.json")))
	if want := len(original) + 2; len(report.Apps) != want {
		t.Errorf("%d apps, want %d", len(report.Apps), want)
	}
	for name, settings := range original {
		written := valuesOf(t, filepath.Join(output, name))
		invoker := map[string]string{}
		if settings["FUNC_TO_INVOKE"] == "" && strings.HasSuffix(name, "WithInvoker") {
			invoker = valuesOf(t, filepath.Join(output, name+invokerSuffix))
		}
		for setting, want := range settings {
			got, ok := written[setting]
			if !ok {
				got, ok = invoker[setting]
			}
			if !ok || want != "" && got != want {
				t.Errorf("%s: %s is %q, %t, want %q", name, setting, got, ok, want)
			}
		}
	}
}

func valuesOf(t *testing.T, dir string) map[string]string {
	var file struct{ Values map[string]string }
	if err := json.Unmarshal(read(t, filepath.Join(dir, "local.settings.json")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Values
}

// filledIn is what a user of the original has in the settings that its generator left empty.
var filledIn = map[string]string{
	"PERSISTOR_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true", "PERSISTOR_CONTAINER_NAME": "messages", "STORE_PARAM": "main",
	"EVENT_HUB_CONN_STRING": hubString, "EVENT_HUB_NAME": "telemetry", "EVENT_HUB_CHECKPOINT_CONTAINER": "checkpoints",
	"EVENT_HUB_IDLE_TIMEOUT": "10", "EVENT_HUB_RECEIVE_DURATION": "60", "EVENT_HUB_PREFETCH": "512", "EVENT_HUB_PULL_BATCH_SIZE": "128",
	"SERVICE_BUS_CONNECTION_STRING": hubString, "SERVICE_BUS_TOPIC_NAME": "prices", "SERVICE_BUS_SUB_NAME": "all", "SERVICE_BUS_IDLE_TIMEOUT": "3",
	"EVENT_HUB_NAME_BINDING": "telemetry", "EVENT_HUB_BINDING_CONNECTION_STR": hubString, "CONSUMER_GROUP": "$Default",
	"SERVICE_BUS_BINDING_TOPIC_NAME": "prices", "SERVICE_BUS_BINDING_SUB_NAME": "all", "SERVICE_BUS_BINDING_CONNECTION_STRING": hubString,
	"FUNC_TO_INVOKE": "https://workers.example/api/main", "DELAY_BETWEEN_FUNCS": "0.25", "INVOKER_TIMEOUT": "75",
}

const hubString = "Endpoint=sb://my-namespace.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=c2VjcmV0c2VjcmV0c2VjcmV0"

// A local.settings.json of the original, without a name that is ours alone, is all that a program needs; and so
// is what is generated beside it.
func TestSettingsOfTheOriginalAreEnough(t *testing.T) {
	output := t.TempDir()
	for name, settings := range original {
		theirs := map[string]string{"AzureWebJobsStorage": "", "FUNCTIONS_WORKER_RUNTIME": "python", "FUNCTIONS_WORKER_PROCESS_COUNT": "10"}
		for setting, value := range settings {
			if theirs[setting] = value; value == "" {
				theirs[setting] = filledIn[setting]
			}
		}
		accepted(t, name+", as it was", theirs)
		file, err := json.Marshal(map[string]any{"isEncrypted": false, "Values": theirs})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(output, name), "local.settings.json", string(file))
	}
	generateInto(t, output, string(read(t, "testdata/generator_config.json")))
	for name := range original {
		accepted(t, name+", generated upon", valuesOf(t, filepath.Join(output, name)))
		if !strings.HasSuffix(name, "WithInvoker") {
			continue
		}
		// The invoker's app has all of it, but for where the workers are, which is another address now.
		invoker := valuesOf(t, filepath.Join(output, name+invokerSuffix))
		if invoker["INVOKER_TIMEOUT"] != "75" || invoker["FUNC_TO_INVOKE"] != "" {
			t.Errorf("%s has INVOKER_TIMEOUT %q and FUNC_TO_INVOKE %q, want 75 and nothing", name+invokerSuffix, invoker["INVOKER_TIMEOUT"], invoker["FUNC_TO_INVOKE"])
		}
		invoker["FUNC_TO_INVOKE"] = "https://workers.example"
		acceptedByInvoker(t, name+invokerSuffix, invoker)
	}
}

// accepted has the programs that an app's settings are for read them.
func accepted(t *testing.T, name string, settings map[string]string) {
	t.Helper()
	if settings["SERVICE_TYPE"] == "BINDING" {
		settings["FUNCTIONS_CUSTOMHANDLER_PORT"] = "7071" // of the host
		if _, err := config.ReadPush(lookupIn(settings)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	if _, err := config.ReadWorker(lookupIn(settings)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if settings["FUNC_TO_INVOKE"] != "" {
		acceptedByInvoker(t, name, settings)
	}
}

func acceptedByInvoker(t *testing.T, name string, settings map[string]string) {
	t.Helper()
	if _, err := config.ReadInvoker(lookupIn(settings)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func lookupIn(settings map[string]string) config.Lookup {
	return func(name string) (string, bool) {
		value, ok := settings[name]
		return value, ok
	}
}
