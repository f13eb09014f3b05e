package generate

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func TestParseOriginalSample(t *testing.T) {
	got, warnings, err := Parse(read(t, "testdata/generator_config.json"), false)
	if err != nil {
		t.Fatal(err)
	}
	topics := []Setting{{"SERVICE_BUS_TYPE", "TOPIC"}}
	noQueue := []string{"SERVICE_BUS_QUEUE_NAME"}
	appended := []Setting{{"TIMED_APPEND", "TRUE"}, {"APPEND", "TRUE"}}
	want := Config{
		Output: "../output/test",
		Apps: []App{
			{Name: "eventGridTest", Variant: "event-grid-one", Set: []Setting{{"PERSISTOR_OUTPUT_BINDING", "TRUE"}}},
			{Name: "eventHubPushTest", Variant: "event-hub-many", Set: []Setting{{"PERSISTOR_OUTPUT_BINDING", "TRUE"}}},
			{Name: "serviceBusPushTest", Variant: "service-bus-topic-one", Set: append(topics, appended...), Omit: noQueue},
			{Name: "eventHubPullTest", Variant: "worker-event-hub", Set: appended},
			{Name: "eventHubPullTestWithInvoker", Variant: "worker-event-hub"},
			{Name: "eventHubPullTestWithInvoker-invoker", Variant: "invoker-event-hub", Workers: "eventHubPullTestWithInvoker"},
			{Name: "serviceBusPullTest", Variant: "worker-service-bus", Set: append(topics, appended...), Omit: noQueue},
			{Name: "serviceBusPullTestWithInvoker", Variant: "worker-service-bus", Set: topics, Omit: noQueue},
			{Name: "serviceBusPullTestWithInvoker-invoker", Variant: "invoker-service-bus", Set: topics, Omit: noQueue,
				Workers: "serviceBusPullTestWithInvoker"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for i, want := range []string{"eventGridTest: the handler stores", "eventHubPushTest: the handler stores", "eventHubPullTest: receive_duration has no effect"} {
		if len(warnings) != 3 || !strings.HasPrefix(warnings[i], want) {
			t.Errorf("warnings %q, want one that %s ...", warnings, want)
		}
	}
}

func TestParse(t *testing.T) {
	on := []Setting{{"PERSISTOR_SCHEDULE", "0 0 * * * *"}, {"AzureWebJobs.schedule.Disabled", "false"}}
	for _, test := range []struct {
		name, content string
		want          []App
	}{
		{"one at a time", `{"persistorServices": [["event_hub_binding", "a", {"Cardinality": "ONE", "append": true}]]}`,
			[]App{{Name: "a", Variant: "event-hub-one", Set: []Setting{{"APPEND", "TRUE"}, {"TIMED_APPEND", "TRUE"}}}}},
		{"explicitly not timed", `{"persistorServices": [["EVENT_HUB_BINDING", "a", {"cardinality": "one", "append": "true", "timed_append": "false"}]]}`,
			[]App{{Name: "a", Variant: "event-hub-one", Set: []Setting{{"APPEND", "TRUE"}, {"TIMED_APPEND", "FALSE"}}}}},
		{"no options", "{\n\t\"persistorServices\": [[\"SERVICE_BUS_BINDING\", \"a\"]]}",
			[]App{{Name: "a", Variant: "service-bus-queue-one"}}},
		{"metadata", `{"persistorServices": [["SERVICE_BUS_PULL", "a", {"metadata": "true", "sb_type": "queue"}]]}`,
			[]App{{Name: "a", Variant: "worker-service-bus", Omit: []string{"SERVICE_BUS_TOPIC_NAME", "SERVICE_BUS_SUB_NAME"},
				Set: []Setting{{"SERVICE_BUS_TYPE", "QUEUE"}, {"GET_METADATA", "TRUE"}}}}},
		{"push in batches", "apps: [{name: a, source: service-bus-topic, approach: push, append: joined}]",
			[]App{{Name: "a", Variant: "service-bus-topic-many", Set: []Setting{{"APPEND", "TRUE"}, {"TIMED_APPEND", "FALSE"}}}}},
		{"output binding", "apps: [{name: a, source: event-hub, approach: push, output: binding}]",
			[]App{{Name: "a", Variant: "event-hub-output", Set: []Setting{{"PERSISTOR_OUTPUT_BINDING", "TRUE"}}}}},
		{"event grid", "apps: [{name: a, source: event-grid}, {name: b, source: event-grid, approach: push, cardinality: many}]",
			[]App{{Name: "a", Variant: "event-grid-one"}, {Name: "b", Variant: "event-grid-many"}}},
		{"settings of worker, invoker and both", `
apps:
  - name: a
    source: event-hub
    approach: pull
    metadata: false
    append: by-minute
    invoker: {schedule: "0 0 * * * *"}
    settings: {BATCH_COUNT: 500, EVENT_HUB_NAME: rides, FUNC_TO_INVOKE: "https://a.example/api/pull", WEBSITE_RUN_FROM_PACKAGE: 1}
`,
			[]App{
				{Name: "a", Variant: "worker-event-hub", Set: []Setting{{"APPEND", "TRUE"}, {"TIMED_APPEND", "TRUE"}, {"GET_METADATA", "FALSE"},
					{"BATCH_COUNT", "500"}, {"EVENT_HUB_NAME", "rides"}, {"WEBSITE_RUN_FROM_PACKAGE", "1"}}},
				// How blobs are written is no business of the invoker's.
				{Name: "a-invoker", Variant: "invoker-event-hub", Workers: "a", Set: append([]Setting{{"EVENT_HUB_NAME", "rides"}, {"WEBSITE_RUN_FROM_PACKAGE", "1"}},
					append(on, Setting{"FUNC_TO_INVOKE", "https://a.example/api/pull"})...)},
			}},
	} {
		c, _, err := Parse([]byte(test.content), false)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if diff := cmp.Diff(test.want, c.Apps); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// mistakes are configurations with what their errors have to say. Those that are dropped when lenient leave
// something to write.
var mistakes = []struct {
	name, content string
	want          []string
	dropped       bool
}{
	{"empty", "", []string{"it is empty"}, false},
	{"no document", "{", []string{"neither YAML nor JSON"}, false},
	{"a list", "[]", []string{"line 1: the configuration: expected names with values, got a list"}, false},
	{"nothing to write", "output: a", []string{`neither "apps" nor`}, false},
	{"no entries", "apps: []", []string{"apps: it is empty"}, false},
	{"two documents", "apps: [{name: a, source: event-grid}]\n---\napps: []", []string{"more follows"}, false},
	{"an alias", "apps:\n - &a {name: a, source: event-grid}\n - *a", []string{"line 2: anchors and aliases are not taken"}, false},
	{"a name twice", "apps: [{name: a, name: b, source: event-grid}]", []string{"name is there twice"}, false},
	{"the same folder", "apps: [{name: a, source: event-grid}, {name: A, source: event-grid}]", []string{"the folder A is that of another function app (a)"}, false},
	{"the invoker's folder", "apps: [{name: a, source: event-hub, approach: pull, invoker: true}, {name: a-invoker, source: event-grid}]", []string{"the folder a-invoker is that of another"}, false},
	{"names that lead elsewhere", `{"persistorServices": [["EVENT_GRID_BINDING", "../a"], ["EVENT_GRID_BINDING", "/a"], ["EVENT_GRID_BINDING", "a/b"], ["EVENT_GRID_BINDING", ".."], ["EVENT_GRID_BINDING", "a\\b"], ["EVENT_GRID_BINDING", ""]]}`,
		[]string{"6 to correct", "../a: its name is no name for the folder"}, false},
	{"names of devices", "apps: [{name: CON, source: event-grid}, {name: nul.d, source: event-grid}, {name: com, source: event-grid}]", []string{"2 to correct", "CON: its name is that of a device", "nul.d: its name is"}, false},
	{"an unknown type", `{"persistorServices": [["KAFKA", "a"]]}`, []string{`"KAFKA" is no type of persistor, expected one of EVENT_GRID_BINDING, EVENT_HUB_BINDING`}, false},
	{"no entry", `{"persistorServices": [{"type": "KAFKA"}, ["EVENT_HUB_PULL"]]}`, []string{"2 to correct", "expected [TYPE, NAME]"}, false},
	{"an option of another type", `{"persistorServices": [["EVENT_GRID_BINDING", "a", {"cardinality": "one", "metdata": "true"}]]}`,
		[]string{"2 to correct", "a: cardinality: EVENT_GRID_BINDING has no such option, only append, timed_append, metadata, output_binding", "a: metdata"}, true},
	{"an option in two cases", `{"persistorServices": [["EVENT_GRID_BINDING", "a", {"append": "true", "Append": "false"}]]}`, []string{"a: append: it is there twice"}, false},
	{"a value that may be a key", `{"persistorServices": [["EVENT_GRID_BINDING", "a", {"append": "0123456789abcdef"}]]}`, []string{"a: append: expected true or false, got a value of 16 bytes"}, true},
	{"a bad value", `{"persistorServices": [["EVENT_HUB_BINDING", "a", {"cardinality": "some"}]]}`, []string{`a: cardinality: expected one or many, got "some"`}, true},
	{"an unknown field", `{"persistorServices": [["EVENT_HUB_BINDING", "a"]], "outptu": "b"}`, []string{"outptu: there is no such option, only persistorServices, output"}, true},
	{"an unknown source", "apps: [{name: a, source: kafka}]", []string{"line 1: a: source: expected one of event-grid, event-hub, service-bus-queue, service-bus-topic, got \"kafka\""}, false},
	{"no source", "apps: [{name: a}]", []string{"a: it has no source"}, false},
	{"no name", "apps: [{source: event-grid}]", []string{"an entry has no name"}, false},
	{"no approach", "apps: [{name: a, source: event-hub}]", []string{"a: it has no approach"}, false},
	{"pulled events", "apps: [{name: a, source: event-grid, approach: pull}]", []string{"Event Grid can't be pulled from"}, false},
	{"many in an output", "apps: [{name: a, source: event-hub, approach: push, output: binding, cardinality: many}]", []string{"an output binding writes messages one by one"}, true},
	{"an output that appends", "apps: [{name: a, source: event-hub, approach: push, output: binding, append: joined}]", []string{"a: append: an output binding writes a blob for each message"}, true},
	{"an output of Event Grid", "apps: [{name: a, source: event-grid, output: binding}]", []string{"a: output: the host can't name a blob"}, true},
	{"cardinality of a pull", "apps: [{name: a, source: event-hub, approach: pull, cardinality: many}]", []string{"a: cardinality: an app whose approach is pull has no such option, only name, source,"}, true},
	{"invoker of a push", "apps: [{name: a, source: event-hub, approach: push, invoker: true}]", []string{"a: invoker: an app whose approach is push"}, true},
	{"values of other types", "apps: [{name: a, source: event-hub, approach: pull, metadata: 3, append: [], invoker: sometimes}]",
		[]string{"3 to correct", "a: metadata: expected true or false, got \"3\"", "a: append: expected one of none, joined, by-minute, got a list", "a: invoker: expected true or false"}, true},
	{"a bad schedule", "apps: [{name: a, source: event-hub, approach: pull, invoker: {schedule: hourly, queue: A_b}}]", []string{"2 to correct", "a: invoker: schedule: expected ", "a: invoker: queue: expected "}, false},
	{"a setting of a bad value", "apps:\n- {name: a, source: service-bus-topic, approach: pull, invoker: true, settings: {\n  BATCH_COUNT: 0, SERVICE_BUS_SUB_NAME: a b, INVOKER_TIMEOUT: soon}}",
		[]string{"3 to correct", "line 3: a: settings: BATCH_COUNT: expected a whole number from 1 to 262,144, got \"0\"", "SERVICE_BUS_SUB_NAME: expected", "INVOKER_TIMEOUT: expected seconds"}, false},
	{"an unknown setting", "apps: [{name: a, source: event-hub, approach: pull, settings: {EVENT_HUB_NAM: b}}]", []string{"a: settings: EVENT_HUB_NAM: the worker knows no such setting"}, true},
	{"settings of no identity", "apps: [{name: a, source: event-hub, approach: pull, settings: {EVENT_HUB_NAME__clientId: b, EVENT_HUB_CONN_STRING__fullyQualifiedNamspace: b}}]",
		[]string{"2 to correct", "EVENT_HUB_NAME__clientId: the worker knows no such setting", "EVENT_HUB_CONN_STRING__fullyQualifiedNamspace: the worker"}, true},
	{"a setting by option", "apps: [{name: a, source: event-hub, approach: pull, append: none, settings: {APPEND: true, SERVICE_TYPE: b}}]", []string{"APPEND: an option of the app chooses it", "SERVICE_TYPE: an option"}, true},
	{"a schedule by two", `apps: [{name: a, source: event-hub, approach: pull, invoker: {schedule: "0 0 * * * *"}, settings: {PERSISTOR_SCHEDULE: "0 5 * * * *", AzureWebJobs.schedule.Disabled: true}}]`,
		[]string{"2 to correct", "a: settings: PERSISTOR_SCHEDULE: an option of the app chooses it", "AzureWebJobs.schedule.Disabled: an option"}, true},
	{"the invoker's setting", "apps: [{name: a, source: event-hub, approach: pull, settings: {FUNC_TO_INVOKE: b}}]", []string{"it is the invoker's, which the app doesn't have"}, true},
	{"a setting that is none", `apps: [{name: a, source: event-hub, approach: pull, settings: {STORE_PARAM: [1], EVENT_HUB_NAME: "a\nb"}}]`, []string{"STORE_PARAM: expected text", "EVENT_HUB_NAME: has a line break"}, true},
}

func TestMistakesAreAllTold(t *testing.T) {
	for _, test := range mistakes {
		_, _, err := Parse([]byte(test.content), false)
		if err == nil {
			t.Errorf("%s: no error, want %q", test.name, test.want)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", test.name, err, want)
			}
		}
		problems := err.(*Error).Problems
		c, warnings, err := Parse([]byte(test.content), true)
		switch {
		case !test.dropped && err == nil:
			t.Errorf("%s: lenient takes it", test.name)
		case test.dropped && (err != nil || len(c.Apps) == 0 || len(warnings) < len(problems)):
			t.Errorf("%s: lenient: %v, %d apps, warnings %q, want each problem as a warning", test.name, err, len(c.Apps), warnings)
		}
	}
}

// Whatever names are made of, each problem takes a line of its own, in the order of the configuration.
func TestProblemsTakeALineEach(t *testing.T) {
	name := `"a\nb\e[31m` + strings.Repeat("c", 1000) + `"`
	for _, content := range []string{
		"apps:\n- {name: " + name + ", " + name + ": 1, source: event-grid, settings: {" + name + ": 1}}\n- {name: a, source: b}\n" + name + ": 1",
		"persistorServices:\n- [EVENT_GRID_BINDING, " + name + ", {" + name + ": 1}]\n- [A, " + name + "]\n- [A, b, {" + name + ": 1, " + name + ": 2}]\n" + name + ": 1",
	} {
		_, _, err := Parse([]byte(content), false)
		wrong := err.(*Error)
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != 1+len(wrong.Problems) || len(lines) < 5 {
			t.Errorf("%d lines for %d problems: %q", len(lines), len(wrong.Problems), err)
		}
		for _, line := range lines {
			if len(line) > 500 || strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("%q is long, or has control characters", line)
			}
		}
		if !slices.IsSortedFunc(wrong.Problems, func(a, b Problem) int { return a.Line - b.Line }) {
			t.Errorf("%v: the lines are not in order", err)
		}
	}
}

// YAML's parser doesn't take all that JSON has.
func TestEveryEscapeOfJSONIsTaken(t *testing.T) {
	c, _, err := Parse([]byte(`{"persistorServices": [["EVENT_GRID_BINDING", "\u0061"]], "output": "..\/\ud83d\ude00\\\\/\"\\ud83d"}`), false)
	if want := "../😀\\\\/\"\\ud83d"; err != nil || c.Output != want {
		t.Errorf("%q, %v, want %q", c.Output, err, want)
	}
}

func TestReferencesToAVaultPass(t *testing.T) {
	reference := `"@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)"`
	_, _, err := Parse([]byte("apps: [{name: a, source: event-hub, approach: pull, invoker: true, settings: {FUNC_TO_INVOKE: "+reference+", EVENT_HUB_CONN_STRING: "+reference+"}}]"), false)
	if err != nil {
		t.Error(err)
	}
}

func TestConfigurationIsBounded(t *testing.T) {
	large := "# " + strings.Repeat("a", MaxConfig)
	if _, _, err := Parse([]byte(large), false); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%d bytes: %v, want an error about that", len(large), err)
	}
	_, _, err := Parse([]byte("apps:\n"+strings.Repeat("- 1\n", maxEntries)), false)
	if err == nil || !strings.HasSuffix(err.Error(), "and 900 more") {
		t.Errorf("1000 mistakes: %v, want the first 100 and how many more", err)
	}
	many := "apps:\n" + strings.Repeat("- {}\n", maxEntries+1)
	if _, _, err := Parse([]byte(many), false); err == nil || !strings.Contains(err.Error(), "it has 1001 entries") {
		t.Errorf("1001 entries: %v, want an error about that", err)
	}
}

// The published schema takes what Parse takes, and refuses what it refuses, as far as a schema can tell.
func TestSchemaAgrees(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/generate.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	beyond := []string{"a name twice", "the same folder", "the invoker's folder", "names of devices", "two documents", "an alias", "a schedule by two", "a setting of a bad value", "an unknown setting", "settings of no identity", "a setting by option", "the invoker's setting"}
	for _, test := range mistakes {
		var value any
		if strings.Contains(test.content, "persistorServices") || yaml.Unmarshal([]byte(test.content), &value) != nil || strings.Contains(strings.Join(beyond, ","), test.name) {
			continue
		}
		if err := schema.Validate(value); err == nil && !strings.Contains(test.content, `a\nb`) {
			t.Errorf("%s: the schema takes it", test.name)
		}
	}
	for _, content := range examples(t) {
		var value any
		if err := yaml.Unmarshal(content, &value); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "persistorServices") {
			continue
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%v:\n%s", err, content)
		}
	}
}

func TestExamplesOfDocumentation(t *testing.T) {
	found := examples(t)
	if len(found) < 2 {
		t.Fatalf("docs/generate.md has %d examples", len(found))
	}
	for _, content := range found {
		if _, warnings, err := Parse(content, false); err != nil || len(warnings) > 0 {
			t.Errorf("%v, warnings %q:\n%s", err, warnings, content)
		}
	}
}

func examples(t *testing.T) [][]byte {
	var found [][]byte
	for _, m := range regexp.MustCompile("(?s)```(?:yaml|json)\n(.*?)```").FindAllSubmatch(read(t, "../../docs/generate.md"), -1) {
		found = append(found, m[1])
	}
	return found
}

func FuzzParse(f *testing.F) {
	for _, test := range mistakes {
		f.Add([]byte(test.content), true)
	}
	f.Fuzz(func(t *testing.T, content []byte, lenient bool) {
		c, _, err := Parse(content, lenient)
		if err != nil {
			return
		}
		for _, a := range c.Apps {
			if strings.ContainsAny(a.Name, `/\`) || strings.Trim(a.Name, ".") == "" {
				t.Errorf("app %q leads out of its folder", a.Name)
			}
			if len(presets()[a.Variant]) == 0 {
				t.Errorf("app %q is a %s, which there isn't", a.Name, a.Variant)
			}
		}
	})
}

func read(t *testing.T, file string) []byte {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
