package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/work"
)

// Recognisable keys: no output may hold a piece of them.
const secretText = "SuperSecretKeyThatNobodyMaySee42"

var (
	secretKey   = base64.StdEncoding.EncodeToString([]byte(secretText))
	hubString   = "Endpoint=sb://my-namespace.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=" + secretKey
	busString   = "Endpoint=sb://my-bus.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=" + secretKey
	storeString = "DefaultEndpointsProtocol=https;AccountName=myaccount;AccountKey=" + secretKey + ";EndpointSuffix=core.windows.net"
)

// environment is the least that both programs need, with changes: "" removes a setting.
func environment(changes ...string) map[string]string {
	settings := map[string]string{
		"EVENT_HUB_CONN_STRING":               hubString,
		"EVENT_HUB_NAME":                      "telemetry",
		"EVENT_HUB_CHECKPOINT_CONTAINER":      "checkpoints",
		"PERSISTOR_STORAGE_CONNECTION_STRING": storeString,
		"PERSISTOR_CONTAINER_NAME":            "messages",
		"FUNC_TO_INVOKE":                      "https://worker.azurewebsites.net/api/pull",
	}
	for i := 0; i < len(changes); i += 2 {
		settings[changes[i]] = changes[i+1]
	}
	return settings
}

// busEnvironment is the same for a queue of Service Bus.
func busEnvironment(changes ...string) map[string]string {
	return environment(append([]string{
		"EVENT_HUB_CONN_STRING", "", "EVENT_HUB_NAME", "", "EVENT_HUB_CHECKPOINT_CONTAINER", "",
		"SERVICE_TYPE", "SERVICE_BUS_PULL",
		"SERVICE_BUS_CONNECTION_STRING", busString,
		"SERVICE_BUS_QUEUE_NAME", "orders",
	}, changes...)...)
}

// topicEnvironment is the same for a topic's subscription.
func topicEnvironment(changes ...string) map[string]string {
	return busEnvironment(append([]string{
		"SERVICE_BUS_QUEUE_NAME", "", "SERVICE_BUS_TYPE", "TOPIC",
		"SERVICE_BUS_TOPIC_NAME", "events", "SERVICE_BUS_SUB_NAME", "audit",
	}, changes...)...)
}

// environmentOf is the one in which a setting is read.
func environmentOf(setting string, changes ...string) map[string]string {
	switch {
	case setting == topicSetting || setting == subscriptionSetting:
		return topicEnvironment(changes...)
	case isOfPush(setting):
		return pushEnvironment(pushServiceOf(setting), changes...)
	case strings.HasPrefix(setting, "SERVICE_BUS_"):
		return busEnvironment(changes...)
	}
	return environment(changes...)
}

func lookupIn(settings map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := settings[name]; return v, ok }
}

func readWorker(t *testing.T, changes ...string) Worker {
	t.Helper()
	w, err := ReadWorker(lookupIn(environment(changes...)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func readInvoker(t *testing.T, changes ...string) Invoker {
	t.Helper()
	i, err := ReadInvoker(lookupIn(environment(changes...)))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// problems are those that either program reports, by setting.
func problems(t *testing.T, settings map[string]string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	var errs []error
	for _, read := range programsOf(settings) {
		_, err := read(lookupIn(settings))
		errs = append(errs, err)
	}
	for _, err := range errs {
		var all *Error
		if errors.As(err, &all) {
			for _, p := range all.Problems {
				found[p.Setting] = p.Problem
			}
		} else if err != nil {
			t.Fatalf("error %v is no *Error", err)
		}
	}
	return found
}

func TestWorkerDefaults(t *testing.T) {
	want := Worker{
		Server:      Server{Address: "127.0.0.1:8080"},
		Service:     EventHub,
		Hub:         Hub{Connection: Connection{ConnectionString: Secret(hubString)}, Name: "telemetry", ConsumerGroup: "$Default"},
		Checkpoint:  Checkpoint{Connection: Connection{ConnectionString: Secret(storeString)}, Container: "checkpoints", Every: 200},
		Storage:     Storage{Connection: Connection{ConnectionString: Secret(storeString)}, Container: "messages", Folder: "telemetry"},
		Record:      Record{Separator: "\n\n"},
		Batch:       Batch{Count: 10_000, Bytes: 4 << 20, Age: time.Minute},
		Append:      Append{Bytes: 256 << 20},
		Pull:        Pull{Start: work.From{Position: "earliest"}},
		Timeout:     230 * time.Second,
		Concurrency: 1,
		MemoryLimit: 32 << 20,
	}
	got := readWorker(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Budget() != 220*time.Second {
		t.Errorf("budget = %v, want 220 s", got.Budget())
	}
}

func TestInvokerDefaults(t *testing.T) {
	want := Invoker{
		Server:      Server{Address: "127.0.0.1:8081"},
		Service:     EventHub,
		Hub:         Hub{Connection: Connection{ConnectionString: Secret(hubString)}, Name: "telemetry", ConsumerGroup: "$Default"},
		Checkpoint:  Checkpoint{Connection: Connection{ConnectionString: Secret(storeString)}, Container: "checkpoints", Every: 200},
		Storage:     Storage{Connection: Connection{ConnectionString: Secret(storeString)}, Container: "messages"},
		Targets:     []Target{{Base: "https://worker.azurewebsites.net/api/pull"}},
		Delay:       250 * time.Millisecond,
		Timeout:     180 * time.Second,
		Concurrency: 64,
		Runs:        Runs{Age: 30 * 24 * time.Hour, Count: 1000, Shared: true},
	}
	if diff := cmp.Diff(want, readInvoker(t)); diff != "" {
		t.Error(diff)
	}
}

// The app settings that the original's guide and generator produce are all accepted.
func TestOriginalSettings(t *testing.T) {
	w := readWorker(t,
		"SERVICE_TYPE", "event_hub_pull",
		"APPEND", "True", "TIMED_APPEND", "false", "PERSISTOR_OUTPUT_BINDING", "FALSE",
		"GET_METADATA", "True", "STORE_PARAM", "main",
		"EVENT_HUB_CONSUMER_GROUP", "$Default",
		"EVENT_HUB_IDLE_TIMEOUT", "10", "EVENT_HUB_RECEIVE_DURATION", "60.5",
		"EVENT_HUB_PREFETCH", "512", "EVENT_HUB_PULL_BATCH_SIZE", "128",
		"EVENT_HUB_CHECKPOINT_STORAGE_CONN_STRING", storeString,
		"EVENT_HUB_CHECKPOINT_UPDATE_RATE", "200",
		"SERVICE_BUS_TYPE", "anything", "BINDING_SERVICE", "EVENT_HUB",
	)
	if diff := cmp.Diff(Pull{Start: work.From{Position: "earliest"}, IdleTimeout: 10 * time.Second, ReceiveDuration: 60500 * time.Millisecond, Prefetch: 512, ReceiveBatch: 128}, w.Pull); diff != "" {
		t.Error(diff)
	}
	if want := (Append{Append: true, Bytes: 256 << 20}); w.Append != want {
		t.Errorf("append %+v, want %+v", w.Append, want)
	}
	if !w.Record.Metadata || w.Storage.Folder != "main" {
		t.Errorf("record %+v, storage folder %q", w.Record, w.Storage.Folder)
	}
}

func TestGood(t *testing.T) {
	for _, test := range []struct {
		changes []string
		of      func(Worker) any
		want    any
	}{
		{[]string{"BATCH_COUNT", "262144"}, func(w Worker) any { return w.Batch.Count }, 262144},
		{[]string{"BATCH_COUNT", " 1 "}, func(w Worker) any { return w.Batch.Count }, 1},
		{[]string{"BATCH_COUNT", ""}, func(w Worker) any { return w.Batch.Count }, 10_000},
		{[]string{"BATCH_BYTES", "65536"}, func(w Worker) any { return w.Batch.Bytes }, 64 << 10},
		{[]string{"BATCH_BYTES", "64 mib"}, func(w Worker) any { return w.Batch.Bytes }, 64 << 20},
		{[]string{"BATCH_BYTES", "1MB"}, func(w Worker) any { return w.Batch.Bytes }, 1_000_000},
		{[]string{"BATCH_BYTES", "64MiB"}, func(w Worker) any { return w.MemoryLimit }, 256 << 20},
		{[]string{"MEMORY_LIMIT", "1GiB"}, func(w Worker) any { return w.MemoryLimit }, 1 << 30},
		{[]string{"BATCH_AGE", "0.1"}, func(w Worker) any { return w.Batch.Age }, 100 * time.Millisecond},
		{[]string{"BATCH_AGE", "2m"}, func(w Worker) any { return w.Batch.Age }, 2 * time.Minute},
		{[]string{"WORKER_TIMEOUT", "10m"}, func(w Worker) any { return w.Budget() }, 10*time.Minute - 10*time.Second},
		{[]string{"WORKER_TIMEOUT", "20"}, func(w Worker) any { return w.Budget() }, 18 * time.Second},
		{[]string{"WORKER_CONCURRENCY", "4"}, func(w Worker) any { return w.Concurrency }, 4},
		{[]string{"WORKER_KEY", "0123456789abcdef"}, func(w Worker) any { return w.Server.Key.Reveal() }, "0123456789abcdef"},
		{[]string{"LOG_LEVEL", "DEBUG"}, func(w Worker) any { return w.Server.LogLevel }, slog.LevelDebug},
		{[]string{"RECORD_SEPARATOR", "One"}, func(w Worker) any { return w.Record.Separator }, "\n"},
		{[]string{"PERSISTOR_CREATE_CONTAINER", "true"}, func(w Worker) any { return w.Storage.CreateContainer }, true},
		{[]string{"STORE_PARAM", "/a/b c/"}, func(w Worker) any { return w.Storage.Folder }, "a/b c"},
		{[]string{"EVENT_HUB_START", "LATEST"}, func(w Worker) any { return w.Pull.Start }, work.From{Position: "latest"}},
		{[]string{"EVENT_HUB_START", "2026-01-31T09:00:00+01:00"}, func(w Worker) any { return w.Pull.Start }, work.From{Position: "time", Time: time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)}},
		{[]string{"EVENT_HUB_PULL_MAX_BATCH", "7", "EVENT_HUB_PULL_BATCH_SIZE", "7"}, func(w Worker) any { return w.Pull.ReceiveBatch }, 7},
		{[]string{"EVENT_HUB_CONSUMER_GROUP", "persistor"}, func(w Worker) any { return w.Hub.ConsumerGroup }, "persistor"},
		{[]string{"EVENT_HUB_CUSTOM_ENDPOINT", "127.0.0.1:5671"}, func(w Worker) any { return w.Hub.CustomEndpoint }, "127.0.0.1:5671"},
		{[]string{"EVENT_HUB_CHECKPOINT_UPDATE_RATE", "50000"}, func(w Worker) any { return w.Checkpoint.Every }, 50_000},
		{[]string{"PORT", "9000"}, func(w Worker) any { return w.Server.Address }, ":9000"},
		{[]string{"LISTEN_ADDRESS", "[::1]:0", "PORT", "9000"}, func(w Worker) any { return w.Server.Address }, "[::1]:0"},
		{[]string{"FUNCTIONS_CUSTOMHANDLER_PORT", "9001"}, func(w Worker) any { return w.Server.Hosted }, true},
		{[]string{"LISTEN_ADDRESS", "127.0.0.1:0", "PORT", "9000"}, func(w Worker) any { return w.Server.Hosted }, false},
		{[]string{"FUNCTIONS_CUSTOMHANDLER_PORT", "9001", "LISTEN_ADDRESS", "0.0.0.0:1", "PORT", "9000"}, func(w Worker) any { return w.Server.Address }, "127.0.0.1:9001"},
	} {
		if diff := cmp.Diff(test.want, test.of(readWorker(t, test.changes...))); diff != "" {
			t.Errorf("%q: %s", test.changes, diff)
		}
	}
}

func TestBad(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for setting, values := range map[string][]string{
		"SERVICE_TYPE":                     {"BINDING", "binding", "EVENT_HUB", "SERVICE_BUS"},
		"APPEND":                           {"yes"},
		"TIMED_APPEND":                     {"1m"},
		"APPEND_BYTES":                     {"1023KiB", "65GiB", "much"},
		"PERSISTOR_OUTPUT_BINDING":         {"True"},
		"EVENT_HUB_NAME":                   {"-a", "a/b", "a b", strings.Repeat("a", 257), "../x"},
		"EVENT_HUB_CONSUMER_GROUP":         {"a/b", "$Other", long},
		"EVENT_HUB_CUSTOM_ENDPOINT":        {"https://host", "host/path", "user@host", "host:port"},
		"EVENT_HUB_CHECKPOINT_CONTAINER":   {"", "ab", "Upper", "a--b", "-ab", "ab-", "a_b", strings.Repeat("a", 64)},
		"EVENT_HUB_CHECKPOINT_UPDATE_RATE": {"0", "-1", "often"},
		"PERSISTOR_CONTAINER_NAME":         {"", "$root", long},
		"PERSISTOR_CREATE_CONTAINER":       {"maybe"},
		"STORE_PARAM":                      {"..", "a/../b", "a//b", "./a", `a\b`, "/", "a\x01b", strings.Repeat("a", 257)},
		"GET_METADATA":                     {"on"},
		"RECORD_SEPARATOR":                 {"three", "1"},
		"BATCH_COUNT":                      {"0", "262145", "1e3", "1.5", "ten", "99999999999999999999"},
		"BATCH_BYTES":                      {"65535", "65MiB", "4TiB", "MiB", "-4MiB", "4 4MiB", "9223372036854775807GiB"},
		"BATCH_AGE":                        {"0", "-1", "3601", "NaN", "Inf", "1e300", "soon", "0.05"},
		"EVENT_HUB_START":                  {"first", "2026-01-31", "@latest"},
		"EVENT_HUB_IDLE_TIMEOUT":           {"0", "9.9", "5s", "86401"},
		"EVENT_HUB_RECEIVE_DURATION":       {"0", "-1"},
		"EVENT_HUB_PREFETCH":               {"0", "5001", "-1"},
		"EVENT_HUB_PULL_MAX_BATCH":         {"0", "10001"},
		"SERVICE_BUS_TYPE":                 {"queues", "SUBSCRIPTION"},
		"SERVICE_BUS_QUEUE_NAME":           {"a b", "/a", "a/", "a//b", "a/../b", "..", "a?b", "b\\c", strings.Repeat("a", 261), "orders/$DeadLetterQueue", "events/Subscriptions/audit"},
		"SERVICE_BUS_TOPIC_NAME":           {"a b", "events/subscriptions/audit"},
		"SERVICE_BUS_SUB_NAME":             {"a/b", "$Default", strings.Repeat("a", 51)},
		"SERVICE_BUS_SUBQUEUE":             {"transfer", "TRUE"},
		"SERVICE_BUS_SESSIONS":             {"yes"},
		"SERVICE_BUS_CUSTOM_ENDPOINT":      {"https://host", "host/path"},
		"SERVICE_BUS_IDLE_TIMEOUT":         {"2.9", "1", "-0.5", "86401", "none"},
		"SERVICE_BUS_RECEIVE_DURATION":     {"0", "-1"},
		"SERVICE_BUS_PREFETCH":             {"0", "5001", "512.0"},
		"WORKER_TIMEOUT":                   {"4", "86401"},
		"WORKER_CONCURRENCY":               {"0", "257"},
		"MEMORY_LIMIT":                     {"1MiB", "8388607", "65GiB"},
		"WORKER_KEY":                       {"short", "with a blank in it", "ключ-ключ-ключ", long},
		"LOG_LEVEL":                        {"verbose"},
		"PORT":                             {"0", "65536", "http"},
		"LISTEN_ADDRESS":                   {"localhost", ":http", "1.2.3.4:65536", "a b:1"},
		"FUNCTIONS_CUSTOMHANDLER_PORT":     {"0", "x"},
		"FUNC_TO_INVOKE":                   {"", ",", "worker/api", "ftp://host/", "https://", "https://user:pw@host/", "https://host/#x", "https://ok/,http://%zz", strings.Repeat("http://h/,", 257)},
		"DELAY_BETWEEN_FUNCS":              {"-0.1", "61", "x"},
		"INVOKER_TIMEOUT":                  {"4", "86401"},
		"INVOKER_CONCURRENCY":              {"0", "1025"},
		"PERSISTOR_SCHEDULE":               badSchedules,
		"PERSISTOR_QUEUE":                  {"ab", "Upper", "a--b", "-ab", "a_b", strings.Repeat("a", 64)},
	} {
		for _, value := range values {
			found := problems(t, environmentOf(setting, setting, value))
			if len(found) != 1 || found[setting] == "" {
				t.Errorf("%s=%.40q: problems %v, want one, of this setting", setting, value, found)
			}
			if len(value) > quotable && strings.Contains(found[setting], value) {
				t.Errorf("%s=%.40q is repeated: %s", setting, value, found[setting])
			}
		}
	}
}

func TestEverySettingIsTestedBad(t *testing.T) {
	for _, s := range Settings() {
		value := strings.Repeat("\x01", 20)
		if found := problems(t, environmentOf(s.Name, s.Name, value)); found[s.Name] == "" {
			t.Errorf("%s takes control characters: %v", s.Name, found)
		}
		value = strings.Repeat("a", maxValue+1)
		if found := problems(t, environmentOf(s.Name, s.Name, value)); found[s.Name] == "" {
			t.Errorf("%s takes %d bytes: %v", s.Name, len(value), found)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := ReadWorker(lookupIn(map[string]string{"BATCH_COUNT": "zero", "GET_METADATA": "maybe", "EVENT_HUB_PREFETCH": "9999"}))
	const want = `read settings: 8 settings are missing or wrong:
  EVENT_HUB_CHECKPOINT_CONTAINER: not set: expected a container's name: 3 to 63 lower-case letters, digits and single hyphens
  PERSISTOR_CONTAINER_NAME: not set: expected a container's name: 3 to 63 lower-case letters, digits and single hyphens
  GET_METADATA: expected TRUE or FALSE, got "maybe"
  BATCH_COUNT: expected a whole number from 1 to 262,144, got "zero"
  EVENT_HUB_PREFETCH: expected a whole number from 1 to 5,000, got "9999"
  EVENT_HUB_CONN_STRING: not set: expected the connection string of an Event Hubs namespace, or EVENT_HUB_CONN_STRING__fullyQualifiedNamespace for an identity
  EVENT_HUB_NAME: not set, and EVENT_HUB_CONN_STRING has no EntityPath: expected the hub's name
  PERSISTOR_STORAGE_CONNECTION_STRING: not set: expected a storage account's connection string, UseDevelopmentStorage=true, file:///ABSOLUTE/DIRECTORY, or PERSISTOR_STORAGE_CONNECTION_STRING__blobServiceUri for an identity
set them as environment variables (the app settings of a function app); docs/settings.md explains each`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

func TestMemoryHoldsTwoBatches(t *testing.T) {
	found := problems(t, environment("BATCH_BYTES", "64MiB", "MEMORY_LIMIT", "127MiB"))
	if len(found) != 1 || !strings.Contains(found["MEMORY_LIMIT"], "at least 128 MiB") {
		t.Errorf("problems %v", found)
	}
}

func TestAliasesMustAgree(t *testing.T) {
	found := problems(t, environment("EVENT_HUB_PULL_MAX_BATCH", "7", "EVENT_HUB_PULL_BATCH_SIZE", "8"))
	if len(found) != 1 || found["EVENT_HUB_PULL_BATCH_SIZE"] == "" {
		t.Errorf("problems %v", found)
	}
}

func TestTargets(t *testing.T) {
	i := readInvoker(t, "FUNC_TO_INVOKE", "https://a.example/api/Pull?code=abc, http://127.0.0.1:7071 ,http://b/")
	want := []Target{{"https://a.example/api/Pull", "code=abc"}, {"http://127.0.0.1:7071/api/pull", ""}, {"http://b/api/pull", ""}}
	if diff := cmp.Diff(want, i.Targets); diff != "" {
		t.Error(diff)
	}
	if url := i.Targets[0].URL(); url != "https://a.example/api/Pull?code=abc" {
		t.Errorf("URL = %q", url)
	}
	if printed := fmt.Sprintf("%v %+v %#v", i.Targets, i.Targets, i.Targets); strings.Contains(printed, "code=abc") {
		t.Errorf("targets print as %s", printed)
	}
}

func TestWarnings(t *testing.T) {
	const key = "0123456789abcdef"
	for _, test := range []struct {
		changes []string
		want    string // in the warning; "" for none
	}{
		{nil, ""},
		{[]string{"PORT", "80"}, "WORKER_KEY is not set"},
		{[]string{"LISTEN_ADDRESS", "0.0.0.0:80"}, "WORKER_KEY is not set"},
		{[]string{"LISTEN_ADDRESS", "localhost:80"}, ""},
		{[]string{"PORT", "80", "WORKER_KEY", key}, ""},
		{[]string{"FUNC_TO_INVOKE", "http://worker/api/pull", "WORKER_KEY", key}, "in clear"},
		{[]string{"FUNC_TO_INVOKE", "http://worker/api/pull?code=1"}, "in clear"},
		{[]string{"FUNC_TO_INVOKE", "http://127.0.0.1/api/pull", "WORKER_KEY", key}, ""},
	} {
		warnings := strings.Join(readInvoker(t, test.changes...).Warnings, "; ")
		if (warnings == "") != (test.want == "") || !strings.Contains(warnings, test.want) {
			t.Errorf("%q: warnings %q, want %q", test.changes, warnings, test.want)
		}
	}
	hosted := readWorker(t, "FUNCTIONS_CUSTOMHANDLER_PORT", "80", "WORKER_KEY", "0123456789abcdef")
	if !hosted.Server.Hosted || len(hosted.Warnings) != 1 || !strings.Contains(hosted.Warnings[0], "callers need both") {
		t.Errorf("%+v", hosted)
	}
	if len(readWorker(t, "PORT", "80").Warnings) != 1 {
		t.Error("the worker does not warn that everybody may call")
	}
}

func TestMisspellings(t *testing.T) {
	for name, want := range map[string]string{
		"EVENT_HUB_PREFECH":         "EVENT_HUB_PREFETCH",
		"EVENTHUB_NAME":             "EVENT_HUB_NAME",
		"PERSISTOR_CONTAINER_NAMES": "PERSISTOR_CONTAINER_NAME",
		"WORKER_KEYS":               "WORKER_KEY",
		"FUNC_TO_INVOK":             "FUNC_TO_INVOKE",
		"EVENT_HUB_CONN_STRING__FullyQualifiedNamespace":                 "EVENT_HUB_CONN_STRING__fullyQualifiedNamespace",
		"SERVICE_BUS_QUEUE_NAMES":                                        "SERVICE_BUS_QUEUE_NAME",
		"SERVICEBUS_SESSIONS":                                            "SERVICE_BUS_SESSIONS",
		"SERVICE_BUS_SUBSCRIPTION_NAME":                                  "",
		"SERVICE_BUS_BINDING_SUB_NAME":                                   "",
		"SERVICE_BUS_CONNECTION_STRING__id":                              "",
		"SERVICE_BUS_BINDING_CONNECTION_STRING__fullyQualifiedNamespace": "",
		"EVENT_HUB_NAME":                                                 "",
		"EVENT_HUB_NAME_BINDING":                                         "",
		"EVENT_HUB_PULL_BATCH_SIZE":                                      "",
		"EVENT_HUB_SOMETHING_ELSE":                                       "",
		"PATH":                                                           "",
		"POST":                                                           "",
		strings.Repeat("WORKER_", 10_000):                                "",
	} {
		got := strings.Join(Misspellings([]string{name + "=" + secretKey}), "; ")
		if (got == "") != (want == "") || !strings.HasSuffix(got, want+"?") && want != "" || strings.Contains(got, secretKey) {
			t.Errorf("%.60s: %q, want %q", name, got, want)
		}
	}
}

// shows fails the test if a secret is in any form of what the value prints as.
func shows(t *testing.T, what string, value any) {
	t.Helper()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", value)
	}
	for _, handler := range []slog.Handler{
		slog.NewTextHandler(&out, nil),
		slog.NewJSONHandler(&out, nil),
	} {
		slog.New(handler).Info("settings", "value", value)
	}
	if err := json.NewEncoder(&out).Encode(value); err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{secretKey[:20], secretText[:12], fmt.Sprintf("%x", secretKey[:20]), base64.StdEncoding.EncodeToString([]byte(secretKey))[:20]} {
		if strings.Contains(out.String(), piece) {
			t.Errorf("%s: shows the secret", what)
			t.Log(out.String())
			return
		}
	}
}

func TestSecretsNeverShow(t *testing.T) {
	shows(t, "secret", Secret(secretKey))
	shows(t, "secrets", map[string][]Secret{"all": {Secret(secretKey)}})
	// Short enough to be quoted, were they not secrets.
	for setting, text := range map[string]string{"WORKER_KEY": "swordfish", "FUNC_TO_INVOKE": "?code=abc", hubSetting: "swordfish", busSetting: "swordfish", storageSetting: "swordfish"} {
		if problem := problems(t, environmentOf(setting, setting, text))[setting]; problem == "" || strings.Contains(problem, text) {
			t.Errorf("%s=%s: %s", setting, text, problem)
		}
	}
	pastes := map[string]string{
		"hub's connection string":     hubString,
		"storage's connection string": storeString,
		"bare key":                    secretKey,
		"key as text":                 secretText,
		"SAS":                         "BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature=sv=2024&sig=" + secretKey,
		"cut string":                  "AccountName=a;AccountKey=" + secretKey[:30] + ";",
		"no equals sign":              hubString + ";" + secretText,
		"key as key":                  secretText + "=x;" + secretText + "=y",
		"URL with key":                "https://host/api?code=" + secretKey,
		"URL with password":           "https://user:" + secretText + "@host/",
		"odd URL":                     "https://host/%zz" + secretText,
		"file URL":                    "file://" + secretText + "/x",
		"endpoint":                    "Endpoint=" + secretText + "://" + secretText + "@%zz;SharedAccessKeyName=a;SharedAccessKey=" + secretKey,
		"with line break":             hubString + "\n" + storeString,
	}
	for _, s := range Settings() {
		for what, text := range pastes {
			t.Run(s.Name+"/"+what, func(t *testing.T) {
				settings := environmentOf(s.Name, "WORKER_KEY", secretKey, s.Name, text)
				for program, read := range programsOf(settings) {
					got, err := read(lookupIn(settings))
					if err != nil {
						shows(t, "error of the "+program, err)
						shows(t, "error as text", err.Error())
					} else if !isName(s.Name) {
						shows(t, program, got)
						shows(t, program+"'s address", &got)
					}
				}
			})
		}
	}
}

// isName reports whether a setting is a name that is free to choose: a key given as the hub's name is
// the hub's name, and no program can tell.
func isName(setting string) bool {
	return slices.Contains([]string{
		"EVENT_HUB_NAME", "EVENT_HUB_CONSUMER_GROUP", "EVENT_HUB_CUSTOM_ENDPOINT", "STORE_PARAM",
		queueSetting, topicSetting, subscriptionSetting, "SERVICE_BUS_CUSTOM_ENDPOINT",
		hubNameBindingSetting, "CONSUMER_GROUP", queueBindingSetting, topicBindingSetting, subscriptionBindingSetting,
	}, setting) ||
		strings.HasSuffix(setting, suffixClientID) || strings.HasSuffix(setting, suffixNamespace)
}

func TestReadNeedsNothingElse(t *testing.T) {
	known := knownNames()
	for _, settings := range []map[string]string{
		environment(), busEnvironment(), topicEnvironment(),
		pushEnvironment(BindingEventGrid), pushEnvironment(BindingEventHub), pushEnvironment(BindingServiceBus),
	} {
		for _, read := range programsOf(settings) {
			asked := make(map[string]bool)
			_, err := read(func(name string) (string, bool) {
				asked[name] = true
				v, ok := settings[name]
				return v, ok
			})
			if err != nil {
				t.Error(err)
			}
			for name := range maps.Keys(asked) {
				if !slices.Contains(known, name) {
					t.Errorf("%s is read but not documented", name)
				}
			}
		}
	}
}
