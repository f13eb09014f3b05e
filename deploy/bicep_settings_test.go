package deploy_test

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"persistor/internal/config"
)

// values stand for parameters and outputs in modules/settings.bicep.
var values = map[string]string{
	"units == 0 ? '' : string(units)": "4",
	"namespaceHost":                   "my-namespace.servicebus.windows.net",
	"entityName":                      "my-entity",
	"consumerGroup":                   "persistor",
	"subscriptionName":                "my-subscription",
	"identityClientId":                "11111111-1111-1111-1111-111111111111",
	"blobServiceUri":                  "https://mystorage.blob.core.windows.net/",
	"queueServiceUri":                 "https://mystorage.queue.core.windows.net/",
	"queueName":                       "persistor-runs",
	"backfillQueueName":               "persistor-backfill",
	"schedule":                        "0 */5 * * * *",
}

// settingsOf reads the settings that a variable or an output of modules/settings.bicep holds. Where there is
// a choice between a topic and a queue, which stand in that order, the queue is taken unless topic is said.
func settingsOf(t *testing.T, declaration string, topic bool) map[string]string {
	t.Helper()
	_, body, found := strings.Cut(read(t, "modules/settings.bicep"), "\n"+declaration+" = ")
	if !found {
		t.Fatalf("modules/settings.bicep: there is no %s", declaration)
	}
	body, _, _ = strings.Cut(body, "\n\n")
	settings := map[string]string{}
	if before, queue, choice := strings.Cut(body, "    : {"); choice {
		before, first, _ := strings.Cut(before, "    ? {")
		if body = before + queue; topic {
			body = before + first
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\s+([A-Z][A-Z_]+(?:__\w+)?): (.*)$`).FindAllStringSubmatch(body, -1) {
		value := values[m[2]]
		if quoted := regexp.MustCompile(`'([^']*)'$`).FindStringSubmatch(m[2]); quoted != nil {
			value = quoted[1]
		}
		if value == "" {
			t.Fatalf("modules/settings.bicep: %s is %s, which this test has no value for", m[1], m[2])
		}
		settings[m[1]] = value
	}
	return settings
}

// appSettings are those that the template gives an app: a worker, an invoker or push.
func appSettings(t *testing.T, program, source string, topic bool) map[string]string {
	t.Helper()
	settings := map[string]string{"FUNCTIONS_CUSTOMHANDLER_PORT": "12345"}
	add := func(declaration string) { maps.Copy(settings, settingsOf(t, declaration, topic)) }
	add("var storage")
	switch program {
	case "worker":
		add("var records")
		add("var " + source + "Pull")
	case "invoker":
		add("var " + source + "Pull")
		add("output invoker object")
		if !strings.HasPrefix(settings["FUNC_TO_INVOKE"], "@Microsoft.KeyVault(") {
			t.Errorf("FUNC_TO_INVOKE is %q, no reference to the vault", settings["FUNC_TO_INVOKE"])
		}
		settings["FUNC_TO_INVOKE"] = "https://persistor-worker.azurewebsites.net/api/pull?code=" + strings.Repeat("k", 56) // hooks/connect.sh
	case "push":
		add("var records")
		add("var " + source + "Push")
		settings["SERVICE_TYPE"] = "BINDING"
	}
	return settings
}

// The programs take the settings that the template gives them.
func TestBicepSettingsAreAccepted(t *testing.T) {
	for _, source := range []string{"eventHub", "serviceBus", "eventGrid"} {
		for _, topic := range []bool{false, true} {
			p, err := config.ReadPush(lookup(appSettings(t, "push", source, topic)))
			if err != nil || len(p.Warnings) > 0 || (p.Queue.Topic != "") != (topic && source == "serviceBus") {
				t.Errorf("push of %s: %v %v %+v", source, err, p.Warnings, p.Queue)
			}
			if source == "eventGrid" {
				continue
			}
			w, err := config.ReadWorker(lookup(appSettings(t, "worker", source, topic)))
			if err != nil || len(w.Warnings) > 0 || (w.Queue.Topic != "") != (topic && source == "serviceBus") {
				t.Errorf("worker of %s: %v %v %+v", source, err, w.Warnings, w.Queue)
			}
			i, err := config.ReadInvoker(lookup(appSettings(t, "invoker", source, topic)))
			if err != nil || len(i.Warnings) > 0 || i.Service != w.Service {
				t.Errorf("invoker of %s: %v %v %v", source, err, i.Warnings, i.Service)
			}
		}
	}
}

// The templates say where runs are started, and what the invoker calls.
func TestBicepURLsAreServed(t *testing.T) {
	for _, plan := range []string{"flex", "premium"} {
		urls := regexp.MustCompile(`output (INVOKER|WORKER)_URL string = .*\.outputs\.uri\}(/[\w/]+)'`).FindAllStringSubmatch(read(t, plan+"/main.bicep"), -1)
		if len(urls) != 2 {
			t.Errorf("%s/main.bicep: %d URLs, want 2", plan, len(urls))
		}
		for _, u := range urls {
			checkServed(t, strings.ToLower(u[1]), u[2])
		}
	}
}
