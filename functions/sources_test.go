package functions_test

import (
	"slices"
	"strings"
)

// host is host.json.
type host struct {
	Version         string        `json:"version"`
	FunctionTimeout string        `json:"functionTimeout"`
	ExtensionBundle bundle        `json:"extensionBundle"`
	CustomHandler   customHandler `json:"customHandler"`
	Extensions      *extensions   `json:"extensions,omitempty"`
}

type bundle struct {
	ID      string `json:"id"`
	Version string `json:"version"`
}

type customHandler struct {
	Description struct {
		DefaultExecutablePath string `json:"defaultExecutablePath"`
	} `json:"description"`
	EnableForwardingHTTPRequest bool `json:"enableForwardingHttpRequest,omitempty"`
}

type extensions struct {
	HTTP       *httpExtension       `json:"http,omitempty"`
	Queues     *queuesExtension     `json:"queues,omitempty"`
	EventHubs  *eventHubsExtension  `json:"eventHubs,omitempty"`
	ServiceBus *serviceBusExtension `json:"serviceBus,omitempty"`
}

type httpExtension struct {
	RoutePrefix            string `json:"routePrefix"`
	MaxConcurrentRequests  int    `json:"maxConcurrentRequests"`
	MaxOutstandingRequests int    `json:"maxOutstandingRequests"`
}

type queuesExtension struct {
	BatchSize         int    `json:"batchSize"`
	NewBatchThreshold int    `json:"newBatchThreshold"`
	VisibilityTimeout string `json:"visibilityTimeout"`
	MaxDequeueCount   int    `json:"maxDequeueCount"`
	MessageEncoding   string `json:"messageEncoding"`
}

type eventHubsExtension struct {
	MaxEventBatchSize        int    `json:"maxEventBatchSize"`
	MinEventBatchSize        int    `json:"minEventBatchSize,omitempty"`
	MaxWaitTime              string `json:"maxWaitTime,omitempty"`
	PrefetchCount            int    `json:"prefetchCount"`
	BatchCheckpointFrequency int    `json:"batchCheckpointFrequency"`
}

type serviceBusExtension struct {
	AutoCompleteMessages       bool   `json:"autoCompleteMessages"`
	PrefetchCount              int    `json:"prefetchCount"`
	MaxAutoLockRenewalDuration string `json:"maxAutoLockRenewalDuration,omitempty"`
	MaxConcurrentCalls         int    `json:"maxConcurrentCalls,omitempty"`
	MaxMessageBatchSize        int    `json:"maxMessageBatchSize,omitempty"`
}

// function is function.json.
type function struct {
	Bindings []binding `json:"bindings"`
	Retry    *retry    `json:"retry,omitempty"`
}

type binding struct {
	Type             string   `json:"type"`
	Direction        string   `json:"direction"`
	Name             string   `json:"name"`
	AuthLevel        string   `json:"authLevel,omitempty"`
	Methods          []string `json:"methods,omitempty"`
	Route            string   `json:"route,omitempty"`
	Schedule         string   `json:"schedule,omitempty"`
	EventHubName     string   `json:"eventHubName,omitempty"`
	ConsumerGroup    string   `json:"consumerGroup,omitempty"`
	QueueName        string   `json:"queueName,omitempty"`
	TopicName        string   `json:"topicName,omitempty"`
	SubscriptionName string   `json:"subscriptionName,omitempty"`
	Path             string   `json:"path,omitempty"`
	Connection       string   `json:"connection,omitempty"`
	Cardinality      string   `json:"cardinality,omitempty"`
	DataType         string   `json:"dataType,omitempty"`
}

type retry struct {
	Strategy        string `json:"strategy"`
	MaxRetryCount   int    `json:"maxRetryCount"`
	MinimumInterval string `json:"minimumInterval"`
	MaximumInterval string `json:"maximumInterval"`
}

func newHost(x *extensions, forwarding bool) host {
	h := host{
		Version:         "2.0",
		FunctionTimeout: "00:05:00",
		ExtensionBundle: bundle{"Microsoft.Azure.Functions.ExtensionBundle", "[4.*, 5.0.0)"},
		CustomHandler:   customHandler{EnableForwardingHTTPRequest: forwarding},
		Extensions:      x,
	}
	h.CustomHandler.Description.DefaultExecutablePath = "handler"
	return h
}

func worker(settings []setting) app {
	return app{
		host: newHost(&extensions{HTTP: &httpExtension{RoutePrefix: "api", MaxConcurrentRequests: 1, MaxOutstandingRequests: 1}}, true),
		functions: map[string]function{
			"pull":   onRequest("pull", "get", "post"),
			"status": onRequest("status", "get"),
		},
		settings: settings,
	}
}

func invoker(settings []setting) app {
	return app{
		host: newHost(&extensions{Queues: &queuesExtension{
			BatchSize: 1, NewBatchThreshold: 0, VisibilityTimeout: "00:01:00", MaxDequeueCount: 100, MessageEncoding: "none",
		}}, true),
		functions: map[string]function{
			"invoke":   onRequest("invoke", "get", "post"),
			"schedule": {Bindings: []binding{{Type: "timerTrigger", Direction: "in", Name: "timer", Schedule: "%PERSISTOR_SCHEDULE%"}}},
			"queue":    onMessage("request", "%PERSISTOR_QUEUE%"),
			// The three of runs that take several waves; a wave is asked for by a message of the invoker's own.
			"backfill_start": onRequest("backfill", "post"),
			"backfill":       onMessage("wave", "%PERSISTOR_BACKFILL_QUEUE%"),
			"runs":           onRequest("runs/{id?}/{action?}", "get", "post", "delete"),
			"state":          onRequest("status", "get"),
		},
		settings: settings,
	}
}

// onMessage is a function for the messages of a storage queue.
func onMessage(name, queue string) function {
	return function{Bindings: []binding{{Type: "queueTrigger", Direction: "in", Name: name, QueueName: queue, Connection: "PERSISTOR_STORAGE_CONNECTION_STRING"}}}
}

// onRequest is an HTTP function.
func onRequest(route string, methods ...string) function {
	return function{Bindings: []binding{
		{Type: "httpTrigger", Direction: "in", Name: "req", AuthLevel: "function", Methods: methods, Route: route},
		{Type: "http", Direction: "out", Name: "res"},
	}}
}

// source is a service whose host extension hands messages over.
type source struct {
	name, service string
	trigger       binding
	settings      []setting
	one, many     *extensions
	retry         *retry
	// timeout is BINDING_TIMEOUT.
	timeout string
	// path is that of a message's blob in the form where the host writes it, made of what identifies the
	// message, so that one that comes again overwrites itself. Events of Event Grid have nothing of that kind
	// that a path could name.
	path string
}

var (
	eventGrid = source{
		name: "event-grid", service: "EVENT_GRID",
		trigger: binding{Type: "eventGridTrigger"},
		timeout: "30", // as long as Event Grid waits
	}
	eventHub = source{
		name: "event-hub", service: "EVENT_HUB",
		trigger: binding{Type: "eventHubTrigger", EventHubName: "%EVENT_HUB_NAME_BINDING%", ConsumerGroup: "%CONSUMER_GROUP%",
			Connection: "EVENT_HUB_BINDING_CONNECTION_STR", DataType: "binary"},
		settings: []setting{{"EVENT_HUB_NAME_BINDING", ""}, {"EVENT_HUB_BINDING_CONNECTION_STR", ""}, {"CONSUMER_GROUP", "$Default"}},
		one:      &extensions{EventHubs: &eventHubsExtension{MaxEventBatchSize: 100, PrefetchCount: 300, BatchCheckpointFrequency: 1}},
		many: &extensions{EventHubs: &eventHubsExtension{MaxEventBatchSize: 100, MinEventBatchSize: 50, MaxWaitTime: "00:00:30",
			PrefetchCount: 300, BatchCheckpointFrequency: 1}},
		retry:   &retry{Strategy: "exponentialBackoff", MaxRetryCount: -1, MinimumInterval: "00:00:05", MaximumInterval: "00:05:00"},
		path:    day + "%EVENT_HUB_NAME_BINDING%/{PartitionContext.PartitionId}" + one,
		timeout: "230",
	}
	queue = serviceBus("service-bus-queue",
		binding{QueueName: "%SERVICE_BUS_BINDING_QUEUE_NAME%"},
		setting{"SERVICE_BUS_BINDING_QUEUE_NAME", ""})
	topic = serviceBus("service-bus-topic",
		binding{TopicName: "%SERVICE_BUS_BINDING_TOPIC_NAME%", SubscriptionName: "%SERVICE_BUS_BINDING_SUB_NAME%"},
		setting{"SERVICE_BUS_BINDING_TOPIC_NAME", ""}, setting{"SERVICE_BUS_BINDING_SUB_NAME", ""})
)

// The path of a message is made of what identifies it: a queue that is made anew counts from 1 again, and another one
// may have the same STORE_PARAM.
const (
	day = "%PERSISTOR_CONTAINER_NAME%/%STORE_PARAM%/{EnqueuedTimeUtc:yyyy}/{EnqueuedTimeUtc:MM}/{EnqueuedTimeUtc:dd}/"
	one = "/{EnqueuedTimeUtc:HHmmss}-{SequenceNumber}.txt"
)

func serviceBus(name string, trigger binding, names ...setting) source {
	var entity []string
	for _, s := range names {
		entity = append(entity, "%"+s.name+"%")
	}
	trigger.Type, trigger.DataType, trigger.Connection = "serviceBusTrigger", "binary", "SERVICE_BUS_BINDING_CONNECTION_STRING"
	return source{
		name: name, service: "SERVICE_BUS",
		trigger:  trigger,
		settings: append(names, setting{"SERVICE_BUS_BINDING_CONNECTION_STRING", ""}),
		one: &extensions{ServiceBus: &serviceBusExtension{AutoCompleteMessages: true, PrefetchCount: 0,
			MaxAutoLockRenewalDuration: "00:05:00", MaxConcurrentCalls: 16}},
		many: &extensions{ServiceBus: &serviceBusExtension{AutoCompleteMessages: true, PrefetchCount: 0, MaxMessageBatchSize: 500}},
		path: day + strings.Join(entity, "/") + one, timeout: "230",
	}
}

// app is the function app of a form: messages one by one, many at once, or one by one with the blob as an
// output binding.
func (s source) app(form string) app {
	trigger, x, output := s.trigger, s.one, "FALSE"
	trigger.Direction, trigger.Name, trigger.Cardinality = "in", "message", "one"
	if form == "many" {
		trigger.Name, trigger.Cardinality, x = "messages", "many", s.many
	}
	bindings := []binding{trigger}
	written := slices.Clone(kept)
	if form == "output" {
		output = "TRUE"
		written[0].value = s.name // STORE_PARAM is in the path
		bindings = append(bindings, binding{Type: "blob", Direction: "out", Name: "blob", Path: s.path,
			Connection: "PERSISTOR_STORAGE_CONNECTION_STRING"})
	}
	return app{
		host:      newHost(x, false),
		functions: map[string]function{"persist": {Bindings: bindings, Retry: s.retry}},
		settings: settings("BINDING", []setting{{"BINDING_SERVICE", s.service}}, stored, s.settings, written,
			[]setting{{"PERSISTOR_OUTPUT_BINDING", output}, {"FAILED_STORAGE_CONNECTION_STRING", ""}, {"BINDING_TIMEOUT", s.timeout}}),
	}
}
