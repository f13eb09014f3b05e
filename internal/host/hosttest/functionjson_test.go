package hosttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The host does not start what these tables hold, and says why.
func TestHostJSONIsRefused(t *testing.T) {
	t.Parallel()
	const handler = `"customHandler":{"description":{"defaultExecutablePath":"handler"}}`
	for _, c := range []struct{ text, says string }{
		{`{"version":"2.0",` + bundle + `,` + handler + `}`, ""},
		{`{"version":"2.0",` + bundle + `,` + handler + `,"unknown":1}`, ""},
		{`{`, "read "},
		{`{` + handler + `}`, `version is ""`},
		{`{"version":"2.0",` + bundle + `}`, "customHandler is missing"},
		{`{"version":"2.0",` + bundle + `,"customHandler":{"description":{}}}`, "defaultExecutablePath is missing"},
		{`{"version":"2.0",` + bundle + `,"customHandler":{"description":{"defaultExecutablePath":"h"},"http":{}}}`, "beside function.json"},
		{`{"version":"2.0",` + bundle + `,"functionTimeout":"5m",` + handler + `}`, "functionTimeout: \"5m\" is no time span"},
		{`{"version":"2.0",` + handler + `}`, "needs extensionBundle"},
		{`{"version":"2.0","extensionBundle":{"id":"x","version":"[3.*, 4.0.0)"},` + handler + `}`, "extensionBundle.id"},
		{`{"version":"2.0","extensionBundle":{"id":"x","version":"[3.*, 4.0.0)"},` + handler + `}`, "extensionBundle.version"},
	} {
		a := newApp(t, "persist", gridFunction(""), "")
		a.write(t, "host.json", c.text)
		_, err := readApp(a.folder, nil)
		checkSays(t, c.text, err, c.says)
	}
}

func TestFunctionJSONIsRefused(t *testing.T) {
	t.Parallel()
	trigger := func(text string) string { return `{"bindings":[{"direction":"in","name":"m",` + text + `}]}` }
	for _, c := range []struct{ text, says string }{
		{trigger(`"type":"eventGridTrigger"`), ""},
		{`{"bindings":[]}`, "no trigger"},
		{`{"bindings":[{"type":"eventGridTrigger","name":"a"},{"type":"eventGridTrigger","name":"b"}]}`, "several triggers"},
		{trigger(`"type":"warmupTrigger"`), `"warmupTrigger" is not known`},
		{trigger(`"type":"blob"`), "not known"},
		{`{"bindings":[{"type":"eventGridTrigger","direction":"in"}]}`, "name is missing"},
		{trigger(`"type":"queueTrigger","queueName":"%MISSING%"`), "%MISSING% does not resolve to a value"},
		{trigger(`"type":"queueTrigger","queueName":"%EMPTY%"`), "queueName is missing or empty"},
		{trigger(`"type":"queueTrigger","queueName":"50%"`), "no closing %"},
		{trigger(`"type":"queueTrigger","queueName":"q","connection":"%EMPTY%"`), "without %"},
		{trigger(`"type":"eventHubTrigger"`), "eventHubName"},
		{trigger(`"type":"serviceBusTrigger","topicName":"t"`), "subscriptionName"},
		{trigger(`"type":"serviceBusTrigger","topicName":"t","queueName":"q"`), "both"},
		{trigger(`"type":"eventGridTrigger","cardinality":"some"`), `cardinality "some"`},
		{trigger(`"type":"eventGridTrigger","dataType":"bytes"`), `dataType "bytes"`},
		{trigger(`"type":"eventGridTrigger"},{"type":"blob","direction":"out","name":"b","path":"{"`), "path"},
		{trigger(`"type":"eventGridTrigger"},{"type":"table","direction":"out","name":"b"`), `"table" is not known`},
		{`{"retry":{"strategy":"fixedDelay"},"bindings":[{"type":"eventGridTrigger","name":"a"}]}`, "maxRetryCount"},
		{`{"retry":{"strategy":"never","maxRetryCount":1},"bindings":[{"type":"eventGridTrigger","name":"a"}]}`, `"never"`},
		{`{"retry":{"strategy":"exponentialBackoff","maxRetryCount":1,"minimumInterval":"00:01:00","maximumInterval":"00:00:01"},"bindings":[{"type":"eventGridTrigger","name":"a"}]}`, "above"},
	} {
		a := newApp(t, "persist", c.text, "")
		_, err := readApp(a.folder, map[string]string{"EMPTY": ""})
		checkSays(t, c.text, err, c.says)
	}
}

// Everything that is wrong is told at once.
func TestAllProblemsAreTold(t *testing.T) {
	t.Parallel()
	a := newApp(t, "1persist", gridFunction(""), `"functionTimeout":"x"`)
	a.write(t, "queue/function.json", queueFunction)
	_, err := readApp(a.folder, nil)
	for _, says := range []string{"begin with a letter", "%QUEUE%", "functionTimeout", "customHandler is missing"} {
		checkSays(t, "a bad app", err, says)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), "")
	for text, says := range map[string]string{
		`{"IsEncrypted":true}`: "encrypted", `{"Values":{"A":[]}}`: "setting A", `{"Values":{"FUNCTIONS_WORKER_RUNTIME":"node"}}`: "want custom", `{"Values":{}}`: "AzureWebJobsStorage", `[]`: "read ",
	} {
		a.write(t, "local.settings.json", text)
		_, err := readApp(a.folder, nil)
		checkSays(t, text, err, says)
	}
	if err := os.Remove(filepath.Join(a.folder, "local.settings.json")); err != nil {
		t.Fatal(err)
	}
	app, err := readApp(a.folder, map[string]string{"AzureWebJobsStorage__accountName": "a", "ID__clientId": "c", "AzureWebJobsX": "y"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ID": "!managed identity", "NONE": "!missing or empty", "X": "y"} {
		got, err := app.settings.connection(name)
		if says, fails := strings.CutPrefix(want, "!"); fails {
			checkSays(t, name, err, says)
		} else if err != nil || got != want {
			t.Errorf("%s: %q, error %v", name, got, err)
		}
	}
}

func TestDisabledFunctions(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), "")
	a.write(t, "other/function.json", `{"disabled":true,"bindings":[{"type":"eventGridTrigger","name":"a"}]}`)
	app, err := readApp(a.folder, map[string]string{"AzureWebJobs.persist.Disabled": "true"})
	if err != nil || len(app.functions) != 0 {
		t.Errorf("%+v, error %v", app, err)
	}
}

func TestTimeSpans(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"00:00:10": 10 * time.Second, "1.02:03:04": 26*time.Hour + 3*time.Minute + 4*time.Second, "00:00:00.25": 250 * time.Millisecond,
		"5": -1, "24:00:00": -1, "00:60:00": -1, "": -1,
	} {
		got := time.Duration(-1)
		if err := timeSpan(&text, &got); got != want || (err != nil) != (want < 0) {
			t.Errorf("%q: %v, error %v", text, got, err)
		}
	}
}

func TestRetryWaits(t *testing.T) {
	t.Parallel()
	policy := &retry{count: -1, least: time.Second, most: 10 * time.Second}
	for n, want := range []time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second} {
		if got := policy.wait(n); want > 0 && got != want {
			t.Errorf("before retry %d: %v, want %v", n, got, want)
		}
	}
	if got := policy.wait(5000); got != policy.most {
		t.Errorf("%v", got)
	}
}

func checkSays(t *testing.T, of string, err error, says string) {
	t.Helper()
	if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
		t.Errorf("%s: error %v, want %q", of, err, says)
	}
}
