package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// programsOf are the programs that read such settings, by name.
func programsOf(settings map[string]string) map[string]func(Lookup) (any, error) {
	if settings["BINDING_SERVICE"] != "" {
		return map[string]func(Lookup) (any, error){"push": func(l Lookup) (any, error) { return ReadPush(l) }}
	}
	return map[string]func(Lookup) (any, error){
		"worker":  func(l Lookup) (any, error) { return ReadWorker(l) },
		"invoker": func(l Lookup) (any, error) { return ReadInvoker(l) },
	}
}

// pushEnvironment is what the original's local.settings.json has for a service, all of the others left empty.
func pushEnvironment(of Service, changes ...string) map[string]string {
	settings := map[string]string{
		"AzureWebJobsStorage":                   "UseDevelopmentStorage=true",
		"FUNCTIONS_CUSTOMHANDLER_PORT":          "43210",
		"SERVICE_TYPE":                          "BINDING",
		"BINDING_SERVICE":                       string(of),
		"PERSISTOR_STORAGE_CONNECTION_STRING":   storeString,
		"PERSISTOR_CONTAINER_NAME":              "messages",
		"APPEND":                                "FALSE",
		"TIMED_APPEND":                          "FALSE",
		"GET_METADATA":                          "FALSE",
		"PERSISTOR_OUTPUT_BINDING":              "FALSE",
		"STORE_PARAM":                           "",
		"EVENT_HUB_NAME_BINDING":                "",
		"EVENT_HUB_BINDING_CONNECTION_STR":      "",
		"CONSUMER_GROUP":                        "",
		"SERVICE_BUS_BINDING_QUEUE_NAME":        "",
		"SERVICE_BUS_BINDING_TOPIC_NAME":        "",
		"SERVICE_BUS_BINDING_SUB_NAME":          "",
		"SERVICE_BUS_BINDING_CONNECTION_STRING": "",
	}
	switch of {
	case BindingEventHub:
		settings["EVENT_HUB_NAME_BINDING"], settings["EVENT_HUB_BINDING_CONNECTION_STR"] = "telemetry", hubString
	case BindingServiceBus:
		settings["SERVICE_BUS_BINDING_QUEUE_NAME"], settings["SERVICE_BUS_BINDING_CONNECTION_STRING"] = "orders", busString
	}
	for i := 0; i < len(changes); i += 2 {
		settings[changes[i]] = changes[i+1]
	}
	return settings
}

func TestPushWarnsOfTwoHubs(t *testing.T) {
	for entity, want := range map[string]int{"": 0, ";EntityPath=Telemetry": 0, ";EntityPath=another": 1} {
		settings := pushEnvironment(BindingEventHub)
		settings["EVENT_HUB_BINDING_CONNECTION_STR"] += entity
		p, err := ReadPush(func(name string) (string, bool) { value, ok := settings[name]; return value, ok })
		if err != nil || p.Hub.Name != "telemetry" || len(p.Warnings) != want {
			t.Errorf("%q: hub %q, warnings %q, %v; want telemetry and %d", entity, p.Hub.Name, p.Warnings, err, want)
		}
	}
}

// isOfPush reports whether the push program alone reads a setting of this name.
func isOfPush(setting string) bool {
	return !slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Name == setting && !s.ofPush() })
}

// pushServiceOf is the one for which a setting of the push program is read.
func pushServiceOf(setting string) Service {
	for _, s := range Settings() {
		if s.Name == setting && s.Service != "" {
			return s.Service
		}
	}
	return BindingEventGrid
}

func readPush(t *testing.T, of Service, changes ...string) Push {
	t.Helper()
	p, err := ReadPush(lookupIn(pushEnvironment(of, changes...)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The original's settings are enough, unchanged.
func TestPushDefaults(t *testing.T) {
	want := Push{
		Server:  Server{Address: "127.0.0.1:43210", Hosted: true},
		Service: BindingEventGrid,
		Storage: Storage{Connection: Connection{ConnectionString: Secret(storeString)}, Container: "messages"},
		Record:  Record{Separator: "\n\n"},
		Batch:   Batch{Count: 10_000, Bytes: 4 << 20, Age: time.Minute},
		Append:  Append{Bytes: 256 << 20},
		Timeout: 30 * time.Second,
	}
	if diff := cmp.Diff(want, readPush(t, BindingEventGrid)); diff != "" {
		t.Error(diff)
	}
	want.Service, want.Timeout, want.Storage.Folder = BindingEventHub, 230*time.Second, "telemetry"
	want.Hub = Hub{Name: "telemetry", ConsumerGroup: "$Default"}
	if diff := cmp.Diff(want, readPush(t, BindingEventHub)); diff != "" {
		t.Error(diff)
	}
	want.Service, want.Storage.Folder, want.Hub, want.Queue = BindingServiceBus, "orders", Hub{}, Queue{Name: "orders"}
	if diff := cmp.Diff(want, readPush(t, BindingServiceBus)); diff != "" {
		t.Error(diff)
	}
	for timeout, want := range map[string]time.Duration{"10": 9 * time.Second, "230": 220 * time.Second} {
		if got := readPush(t, BindingEventHub, "BINDING_TIMEOUT", timeout).Budget(); got != want {
			t.Errorf("of %s s, %v may be worked, want %v", timeout, got, want)
		}
	}
}

func TestPushGiven(t *testing.T) {
	for _, test := range []struct {
		service Service
		changes []string
		of      func(Push) any
		want    any
	}{
		{BindingEventHub, []string{"SERVICE_TYPE", ""}, func(p Push) any { return p.Service }, BindingEventHub},
		{"Event_Hub", []string{"SERVICE_TYPE", "binding", "EVENT_HUB_NAME_BINDING", "t"}, func(p Push) any { return p.Service }, BindingEventHub},
		{BindingEventHub, []string{"APPEND", "TRUE", "TIMED_APPEND", "1", "APPEND_BYTES", "1MiB"}, func(p Push) any { return p.Append }, Append{true, true, 1 << 20}},
		{BindingEventHub, []string{"PERSISTOR_OUTPUT_BINDING", "True"}, func(p Push) any { return p.Output }, true},
		{BindingEventHub, []string{"EVENT_HUB_NAME_BINDING", "", "EVENT_HUB_BINDING_CONNECTION_STR", hubString + ";EntityPath=rides"}, func(p Push) any { return p.Storage.Folder }, "rides"},
		{BindingEventHub, []string{"EVENT_HUB_NAME_BINDING", "", "EVENT_HUB_BINDING_CONNECTION_STR", "", "STORE_PARAM", "a/b"}, func(p Push) any { return p.Storage.Folder }, "a/b"},
		{BindingEventHub, []string{"EVENT_HUB_BINDING_CONNECTION_STR", "", "EVENT_HUB_BINDING_CONNECTION_STR__fullyQualifiedNamespace", "n.servicebus.windows.net"}, func(p Push) any { return p.Hub.Name }, "telemetry"},
		{BindingServiceBus, []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_TOPIC_NAME", "t", "SERVICE_BUS_BINDING_SUB_NAME", "s"}, func(p Push) any { return p.Queue.Path() + " " + p.Storage.Folder }, "t/Subscriptions/s t/s"},
		{BindingServiceBus, []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "a/b/$DeadLetterQueue"}, func(p Push) any { return p.Queue.Path() + " " + p.Storage.Folder }, "a/b/$DeadLetterQueue a/b/deadletter"},
		{BindingServiceBus, []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_TOPIC_NAME", "t", "SERVICE_BUS_BINDING_SUB_NAME", "s/$deadletterqueue"}, func(p Push) any { return p.Queue.Path() }, "t/Subscriptions/s/$DeadLetterQueue"},
		{BindingServiceBus, []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_CONNECTION_STRING", busString + ";EntityPath=q"}, func(p Push) any { return p.Queue.Path() }, "q"},
		{BindingServiceBus, []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_SUB_NAME", "s", "SERVICE_BUS_BINDING_CONNECTION_STRING", busString + ";EntityPath=t"}, func(p Push) any { return p.Queue.Path() }, "t/Subscriptions/s"},
		{BindingEventGrid, []string{"FAILED_STORAGE_CONNECTION_STRING__accountName", "spare"}, func(p Push) any { return p.Failed.BlobServiceURI }, "https://spare.blob.core.windows.net"},
		{BindingEventGrid, []string{"FAILED_STORAGE_CONNECTION_STRING", "file:///tmp/spare"}, func(p Push) any { return p.Failed.Location() }, "file:///tmp/spare"},
	} {
		if diff := cmp.Diff(test.want, test.of(readPush(t, test.service, test.changes...))); diff != "" {
			t.Errorf("%s %q: %s", test.service, test.changes, diff)
		}
	}
}

func TestPushBad(t *testing.T) {
	for _, test := range []struct {
		service       Service
		setting, text string
		says          string
		more          []string
	}{
		{BindingEventHub, "SERVICE_TYPE", "EVENT_HUB_PULL", "worker and invoker", nil},
		{BindingEventHub, "SERVICE_TYPE", "PUSH", "expected BINDING", nil},
		{"EVENT_HUBS", "BINDING_SERVICE", "EVENT_HUBS", "EVENT_GRID, EVENT_HUB or SERVICE_BUS", nil},
		{BindingEventHub, "APPEND", "perhaps", "TRUE or FALSE", nil},
		{BindingEventHub, "PERSISTOR_OUTPUT_BINDING", "perhaps", "TRUE or FALSE", nil},
		{BindingEventHub, "EVENT_HUB_NAME_BINDING", "", "no EntityPath", nil},
		{BindingEventHub, "EVENT_HUB_NAME_BINDING", "a/b", "hub's name", nil},
		{BindingEventHub, "CONSUMER_GROUP", "a/b", "consumer group", nil},
		{BindingEventHub, "FUNCTIONS_CUSTOMHANDLER_PORT", "", "not set", nil},
		{BindingEventHub, "FUNCTIONS_CUSTOMHANDLER_PORT", "0", "1 to 65,535", nil},
		{BindingEventHub, "BINDING_TIMEOUT", "4", "from 5 s", nil},
		{BindingEventHub, "FAILED_STORAGE_CONNECTION_STRING", "AccountName=a", "AccountKey", nil},
		{BindingEventHub, "FAILED_STORAGE_CONNECTION_STRING", storeString, "not both", []string{"FAILED_STORAGE_CONNECTION_STRING__accountName", "spare"}},
		{BindingServiceBus, "SERVICE_BUS_BINDING_QUEUE_NAME", "", "expected the queue's name", nil},
		{BindingServiceBus, "SERVICE_BUS_BINDING_QUEUE_NAME", "orders", "keep the queue's name", []string{"SERVICE_BUS_BINDING_TOPIC_NAME", "t"}},
		{BindingServiceBus, "SERVICE_BUS_BINDING_QUEUE_NAME", "a b", "queue's name", nil},
		{BindingServiceBus, "SERVICE_BUS_BINDING_SUB_NAME", "", "subscription", []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_TOPIC_NAME", "t"}},
		{BindingServiceBus, "SERVICE_BUS_BINDING_TOPIC_NAME", "", "topic's name", []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_SUB_NAME", "s"}},
		{BindingServiceBus, "SERVICE_BUS_BINDING_SUB_NAME", "a/b", "subscription's name", []string{"SERVICE_BUS_BINDING_QUEUE_NAME", "", "SERVICE_BUS_BINDING_TOPIC_NAME", "t"}},
	} {
		found := problems(t, pushEnvironment(test.service, append(test.more, test.setting, test.text)...))
		if len(found) != 1 || !strings.Contains(found[test.setting], test.says) {
			t.Errorf("%s=%.40q: problems %v, want one with %q", test.setting, test.text, found, test.says)
		}
	}
}

func TestPushWarnsOfFolderWithoutName(t *testing.T) {
	for _, test := range []struct {
		folder, output string
		warnings       int
	}{{"", "TRUE", 1}, {"kept", "TRUE", 0}, {"", "FALSE", 0}} {
		p := readPush(t, BindingServiceBus, "PERSISTOR_OUTPUT_BINDING", test.output, "STORE_PARAM", test.folder)
		if len(p.Warnings) != test.warnings {
			t.Errorf("%+v: warnings %q", test, p.Warnings)
		}
	}
}

// Worker and invoker say which program runs what they don't.
func TestPullRefusesBinding(t *testing.T) {
	_, err := ReadWorker(lookupIn(environment("SERVICE_TYPE", "BINDING")))
	if all := (*Error)(nil); !errors.As(err, &all) || len(all.Problems) != 1 || !strings.Contains(all.Problems[0].Problem, "push program") {
		t.Error(err)
	}
}
