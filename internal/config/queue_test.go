package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQueueDefaults(t *testing.T) {
	want := Worker{
		Server:      Server{Address: "127.0.0.1:8080"},
		Service:     ServiceBus,
		Queue:       Queue{Connection: Connection{ConnectionString: Secret(busString)}, Name: "orders"},
		Storage:     Storage{Connection: Connection{ConnectionString: Secret(storeString)}, Container: "messages", Folder: "orders"},
		Record:      Record{Separator: "\n\n"},
		Batch:       Batch{Count: 10_000, Bytes: 4 << 20, Age: time.Minute},
		Append:      Append{Bytes: 256 << 20},
		Timeout:     230 * time.Second,
		Concurrency: 1,
		MemoryLimit: 32 << 20,
	}
	got, err := ReadWorker(lookupIn(busEnvironment()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The invoker stores nothing, and keeps no checkpoints either.
	i, err := ReadInvoker(lookupIn(busEnvironment(storageSetting, "", "PERSISTOR_CONTAINER_NAME", "")))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Queue, i.Queue); diff != "" || i.Service != ServiceBus || i.Hub != (Hub{}) || i.Checkpoint != (Checkpoint{}) {
		t.Errorf("invoker %+v: %s", i, diff)
	}
}

// The app settings that the original's guide and generator produce are all accepted, also those of an app
// that drained an Event Hub before.
func TestOriginalQueueSettings(t *testing.T) {
	w, err := ReadWorker(lookupIn(topicEnvironment(
		"SERVICE_TYPE", "service_bus_pull",
		"APPEND", "False", "TIMED_APPEND", "true", "PERSISTOR_OUTPUT_BINDING", "FALSE", "GET_METADATA", "True",
		"SERVICE_BUS_TYPE", "Topic", "SERVICE_BUS_QUEUE_NAME", "<the queue's name>",
		"SERVICE_BUS_IDLE_TIMEOUT", "3", "SERVICE_BUS_RECEIVE_DURATION", "60.5", "SERVICE_BUS_PREFETCH", "512",
		"EVENT_HUB_CONN_STRING", "bad", "EVENT_HUB_NAME", "a b", "EVENT_HUB_IDLE_TIMEOUT", "1", "EVENT_HUB_PREFETCH", "1e9",
		"EVENT_HUB_CHECKPOINT_CONTAINER", "A", "BINDING_SERVICE", "SERVICE_BUS",
	)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Pull{IdleTimeout: 3 * time.Second, ReceiveDuration: 60500 * time.Millisecond, Prefetch: 512}, w.Pull); diff != "" {
		t.Error(diff)
	}
	if w.Queue.Topic != "events" || w.Queue.Subscription != "audit" || w.Queue.Name != "" || w.Storage.Folder != "events/audit" {
		t.Errorf("queue %+v, folder %q", w.Queue, w.Storage.Folder)
	}
	if w.Hub != (Hub{}) || w.Checkpoint != (Checkpoint{}) {
		t.Errorf("hub %+v, checkpoints %+v: want none", w.Hub, w.Checkpoint)
	}
	// And the other way round.
	readWorker(t, "SERVICE_BUS_CONNECTION_STRING", "bad", "SERVICE_BUS_TYPE", "?", "SERVICE_BUS_QUEUE_NAME", "a b", "SERVICE_BUS_IDLE_TIMEOUT", "1")
}

func TestQueues(t *testing.T) {
	const sas = "SharedAccessSignature=SharedAccessSignature sr=x&sig=y&se=1&skn=z"
	connected := Connection{ConnectionString: Secret(busString)}
	for _, test := range []struct {
		name        string
		settings    map[string]string
		want        Queue
		path, title string
		folder      string
	}{
		{"queue", busEnvironment("SERVICE_BUS_TYPE", "queue"), Queue{Connection: connected, Name: "orders"},
			"orders", "queue orders", "orders"},
		{"a queue with slashes", busEnvironment(queueSetting, "eu/orders.v2_x-1"), Queue{Connection: connected, Name: "eu/orders.v2_x-1"},
			"eu/orders.v2_x-1", "queue eu/orders.v2_x-1", "eu/orders.v2_x-1"},
		{"a long name", busEnvironment(queueSetting, strings.Repeat("q", 260)), Queue{Connection: connected, Name: strings.Repeat("q", 260)},
			strings.Repeat("q", 260), "queue " + strings.Repeat("q", 260), strings.Repeat("q", 260)},
		{"subscription", topicEnvironment(), Queue{Connection: connected, Topic: "events", Subscription: "audit"},
			"events/Subscriptions/audit", "subscription audit of topic events", "events/audit"},
		{"dead-letter queue", busEnvironment(subqueueSetting, "DeadLetter"), Queue{Connection: connected, Name: "orders", DeadLetter: true},
			"orders/$DeadLetterQueue", "dead-letter queue of queue orders", "orders/deadletter"},
		{"dead-letter queue of a subscription with sessions", topicEnvironment(subqueueSetting, "deadletter", sessionsSetting, "TRUE"),
			Queue{Connection: connected, Topic: "events", Subscription: "audit", DeadLetter: true},
			"events/Subscriptions/audit/$DeadLetterQueue", "dead-letter queue of subscription audit of topic events", "events/audit/deadletter"},
		{"sessions", busEnvironment(sessionsSetting, "true", subqueueSetting, "None"), Queue{Connection: connected, Name: "orders", Sessions: true},
			"orders", "queue orders", "orders"},
		{"a folder of its own", busEnvironment("STORE_PARAM", "main", subqueueSetting, "deadletter"), Queue{Connection: connected, Name: "orders", DeadLetter: true},
			"orders/$DeadLetterQueue", "dead-letter queue of queue orders", "main"},
		{"entity path alone", busEnvironment(busSetting, busString+";EntityPath=other", queueSetting, ""), Queue{Connection: connected, Name: "other"},
			"other", "queue other", "other"},
		{"entity path that agrees", busEnvironment(busSetting, "entitypath=Orders;"+busString), Queue{Connection: connected, Name: "orders"},
			"orders", "queue orders", "orders"},
		{"entity path of a topic", topicEnvironment(busSetting, busString+";EntityPath=events", topicSetting, ""), Queue{Connection: connected, Topic: "events", Subscription: "audit"},
			"events/Subscriptions/audit", "subscription audit of topic events", "events/audit"},
		{"SAS", busEnvironment(busSetting, "Endpoint=sb://h/;"+sas), Queue{Connection: Connection{ConnectionString: "Endpoint=sb://h/;" + sas}, Name: "orders"},
			"orders", "queue orders", "orders"},
		{"emulator", busEnvironment(busSetting, "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true", "SERVICE_BUS_CUSTOM_ENDPOINT", "localhost:5671"),
			Queue{Connection: Connection{ConnectionString: "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true"}, Name: "orders", CustomEndpoint: "localhost:5671"},
			"orders", "queue orders", "orders"},
		{"identity", busEnvironment(busSetting, "", busNS, "ns.servicebus.windows.net", busSetting+suffixCredential, "managedidentity", busSetting+suffixClientID, "11-22"),
			Queue{Connection: Connection{FullyQualifiedNamespace: "ns.servicebus.windows.net", Credential: "managedidentity", ClientID: "11-22"}, Name: "orders"},
			"orders", "queue orders", "orders"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, err := ReadWorker(lookupIn(test.settings))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, w.Queue); diff != "" {
				t.Error(diff)
			}
			if w.Queue.Path() != test.path || w.Queue.String() != test.title || w.Storage.Folder != test.folder {
				t.Errorf("path %q, called %q, folder %q", w.Queue.Path(), w.Queue, w.Storage.Folder)
			}
			i, err := ReadInvoker(lookupIn(test.settings))
			if diff := cmp.Diff(w.Queue, i.Queue); err != nil || diff != "" {
				t.Errorf("the invoker differs: %v %s", err, diff)
			}
		})
	}
}

func TestQueuePulls(t *testing.T) {
	for _, test := range []struct {
		setting, text string
		want          Pull
	}{
		{"SERVICE_BUS_IDLE_TIMEOUT", "0", Pull{}},
		{"SERVICE_BUS_IDLE_TIMEOUT", "0s", Pull{}},
		{"SERVICE_BUS_IDLE_TIMEOUT", "0.0", Pull{}},
		{"SERVICE_BUS_IDLE_TIMEOUT", "", Pull{}},
		{"SERVICE_BUS_IDLE_TIMEOUT", "3", Pull{IdleTimeout: 3 * time.Second}},
		{"SERVICE_BUS_IDLE_TIMEOUT", "1m", Pull{IdleTimeout: time.Minute}},
		{"SERVICE_BUS_RECEIVE_DURATION", "90s", Pull{ReceiveDuration: 90 * time.Second}},
		{"SERVICE_BUS_PREFETCH", "5000", Pull{Prefetch: 5000}},
	} {
		w, err := ReadWorker(lookupIn(busEnvironment(test.setting, test.text)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, w.Pull); diff != "" {
			t.Errorf("%s=%s: %s", test.setting, test.text, diff)
		}
	}
}

// Every problem names the setting to change, and says what to change it to.
func TestQueueProblems(t *testing.T) {
	const endpoint, name, key = "Endpoint=sb://h/;", "SharedAccessKeyName=n;", "SharedAccessKey=k;"
	for _, test := range []struct {
		settings      map[string]string
		setting, want string
	}{
		{busEnvironment(queueSetting, ""), queueSetting, "has no EntityPath: expected the queue's name"},
		{topicEnvironment(entitySetting, ""), queueSetting, "to drain a topic's subscription, set SERVICE_BUS_TYPE=TOPIC"},
		{topicEnvironment(entitySetting, "QUEUE", topicSetting, ""), queueSetting, "set SERVICE_BUS_TYPE=TOPIC"},
		{topicEnvironment(subscriptionSetting, ""), subscriptionSetting, "expected the name of the topic's subscription"},
		{topicEnvironment(topicSetting, ""), topicSetting, "has no EntityPath: expected the topic's name"},
		{busEnvironment(entitySetting, "TOPIC", subscriptionSetting, "audit"), topicSetting, "set SERVICE_BUS_TYPE=QUEUE"},
		{busEnvironment(entitySetting, "TOPIC", topicSetting, "events"), subscriptionSetting, "set SERVICE_BUS_TYPE=QUEUE"},
		{busEnvironment(entitySetting, "SUBSCRIPTION", queueSetting, ""), entitySetting, "expected QUEUE or TOPIC"},
		{busEnvironment(queueSetting, "orders/$DeadLetterQueue"), queueSetting, "SERVICE_BUS_SUBQUEUE=deadletter"},
		{busEnvironment(queueSetting, "events/Subscriptions/audit"), queueSetting, "expected SERVICE_BUS_TYPE=TOPIC"},

		{busEnvironment(busSetting, ""), busSetting, "expected the connection string of a Service Bus namespace"},
		{busEnvironment(busSetting, "nonsense"), busSetting, "no equals sign in part 1"},
		{busEnvironment(busSetting, "nonsense", queueSetting, ""), busSetting, "no equals sign in part 1"},
		{busEnvironment(busSetting, endpoint+key), busSetting, "has no SharedAccessKeyName"},
		{busEnvironment(busSetting, storeString), busSetting, "of a storage account, not of Service Bus"},
		{busEnvironment(busSetting, endpoint+name+key+"EntityPath=a b"), busSetting, "EntityPath that is no queue's or topic's name"},
		{busEnvironment(busSetting, busString+";EntityPath=other"), queueSetting, "differs from the EntityPath in SERVICE_BUS_CONNECTION_STRING"},
		{topicEnvironment(busSetting, busString+";EntityPath=other"), topicSetting, "differs from the EntityPath"},
		{busEnvironment(busNS, "ns.servicebus.windows.net"), busSetting, "not both"},
		{busEnvironment(busSetting, "", busSetting+suffixCredential, managedIdentity), busNS, "not set, though"},
		{busEnvironment(busSetting, "", busNS, "sb://ns.servicebus.windows.net/"), busNS, "a host name alone"},

		{busEnvironment("PERSISTOR_OUTPUT_BINDING", "TRUE"), "PERSISTOR_OUTPUT_BINDING", "SERVICE_BUS_PULL"},
		{busEnvironment("SERVICE_TYPE", "BINDING", queueSetting, ""), "SERVICE_TYPE", "this one runs EVENT_HUB_PULL or SERVICE_BUS_PULL"},
		// What else is wrong can't be known while the service isn't.
		{busEnvironment("SERVICE_TYPE", "SERVICE_BUS", queueSetting, "", "EVENT_HUB_NAME", "a b"), "SERVICE_TYPE", "expected EVENT_HUB_PULL or SERVICE_BUS_PULL"},
	} {
		found := problems(t, test.settings)
		if len(found) != 1 || !strings.Contains(found[test.setting], test.want) {
			t.Errorf("problems %v, want one of %s with %q", found, test.setting, test.want)
		}
	}
}

func TestAllProblemsOfAQueueAtOnce(t *testing.T) {
	_, err := ReadWorker(lookupIn(map[string]string{
		"SERVICE_TYPE": "SERVICE_BUS_PULL", "SERVICE_BUS_TYPE": "TOPIC", "SERVICE_BUS_QUEUE_NAME": "orders",
		"SERVICE_BUS_SESSIONS": "yes", "SERVICE_BUS_IDLE_TIMEOUT": "1", "APPEND": "on",
	}))
	const want = `read settings: 8 settings are missing or wrong:
  SERVICE_BUS_SESSIONS: expected TRUE or FALSE, got "yes"
  PERSISTOR_CONTAINER_NAME: not set: expected a container's name: 3 to 63 lower-case letters, digits and single hyphens
  APPEND: expected TRUE or FALSE, got "on"
  SERVICE_BUS_IDLE_TIMEOUT: expected 0, or seconds, or a duration such as 90s or 2m, from 3 s to 24 h, got "1"
  SERVICE_BUS_CONNECTION_STRING: not set: expected the connection string of a Service Bus namespace, or SERVICE_BUS_CONNECTION_STRING__fullyQualifiedNamespace for an identity
  SERVICE_BUS_TOPIC_NAME: not set, and SERVICE_BUS_CONNECTION_STRING has no EntityPath: expected the topic's name; to drain the queue in SERVICE_BUS_QUEUE_NAME, set SERVICE_BUS_TYPE=QUEUE
  SERVICE_BUS_SUB_NAME: not set: expected the name of the topic's subscription to drain; to drain the queue in SERVICE_BUS_QUEUE_NAME, set SERVICE_BUS_TYPE=QUEUE
  PERSISTOR_STORAGE_CONNECTION_STRING: not set: expected a storage account's connection string, UseDevelopmentStorage=true, file:///ABSOLUTE/DIRECTORY, or PERSISTOR_STORAGE_CONNECTION_STRING__blobServiceUri for an identity
set them as environment variables (the app settings of a function app); docs/settings.md explains each`
	var all *Error
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" || !errors.As(err, &all) {
		t.Error(diff)
	}
}

// Who sends to a queue or topic needs none of what says how it is drained.
func TestReadQueue(t *testing.T) {
	for _, test := range []struct {
		settings map[string]string
		want     Queue
	}{
		{map[string]string{busSetting: busString, queueSetting: "orders", subqueueSetting: "deadletter", sessionsSetting: "TRUE"},
			Queue{Connection: Connection{ConnectionString: Secret(busString)}, Name: "orders"}},
		{map[string]string{busSetting: busString + ";EntityPath=prices", entitySetting: "TOPIC"},
			Queue{Connection: Connection{ConnectionString: Secret(busString)}, Topic: "prices"}},
		{map[string]string{busSetting: busString, entitySetting: "TOPIC", topicSetting: "prices", subscriptionSetting: "audit"},
			Queue{Connection: Connection{ConnectionString: Secret(busString)}, Topic: "prices"}},
	} {
		got, err := ReadQueue(lookupIn(test.settings))
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%v: %v %s", test.settings, err, diff)
		}
	}
	var all *Error
	if _, err := ReadQueue(lookupIn(map[string]string{entitySetting: "TOPIC"})); !errors.As(err, &all) || len(all.Problems) != 2 {
		t.Errorf("error %v, want two problems", err)
	}
}
