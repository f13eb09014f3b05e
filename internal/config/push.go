package config

import (
	"cmp"
	"errors"
	"strings"
	"time"
)

// Push is what the push program runs by, whose messages the Functions host brings.
type Push struct {
	Server Server
	// Service says whether Hub, Queue or neither is where messages come from: BindingEventHub,
	// BindingServiceBus or BindingEventGrid.
	Service Service
	// Hub and Queue have no connection: the host has.
	Hub   Hub
	Queue Queue
	// Storage has no Folder for Event Grid unless STORE_PARAM names one: then the event tells it.
	Storage Storage
	// Failed is a second account for what Storage doesn't take; zero for none.
	Failed Connection
	Record Record
	Batch  Batch
	Append Append
	// Output says to give records back to the host, which stores them by an output binding, where it can name them.
	Output bool
	// Timeout is how long one invocation may last. Plan with [Push.Budget].
	Timeout   time.Duration
	Telemetry Telemetry
	Warnings  []string
}

// The services whose triggers bring messages, as BINDING_SERVICE names them.
const (
	BindingEventGrid  Service = "EVENT_GRID"
	BindingEventHub   Service = "EVENT_HUB"
	BindingServiceBus Service = "SERVICE_BUS"
)

// Budget is how long one invocation may work: the timeout less a tenth of it, 10 s at most, in which the
// answer travels.
func (p Push) Budget() time.Duration { return budget(p.Timeout) }

// Settings that others are checked against.
const (
	hubBindingSetting          = "EVENT_HUB_BINDING_CONNECTION_STR"
	hubNameBindingSetting      = "EVENT_HUB_NAME_BINDING"
	busBindingSetting          = "SERVICE_BUS_BINDING_CONNECTION_STRING"
	queueBindingSetting        = "SERVICE_BUS_BINDING_QUEUE_NAME"
	topicBindingSetting        = "SERVICE_BUS_BINDING_TOPIC_NAME"
	subscriptionBindingSetting = "SERVICE_BUS_BINDING_SUB_NAME"
	failedSetting              = "FAILED_STORAGE_CONNECTION_STRING"
)

// How long an invocation may last by default: what an HTTP trigger's caller waits, which is below every plan's
// functionTimeout; and what Event Grid waits for an answer before it delivers an event again.
// https://learn.microsoft.com/azure/event-grid/delivery-and-retry
const (
	bindingTimeout   = 230 * time.Second
	eventGridTimeout = 30 * time.Second
)

// ReadPush reads the push program's settings. The error is an [*Error].
func ReadPush(lookup Lookup) (Push, error) {
	var p Push
	var connection Secret
	r := reader{lookup: lookup, service: &p.Service}
	var sent exports
	r.read(p.settings(&connection, &sent))

	folder := ""
	switch p.Service {
	case BindingEventHub:
		entity := entityPath(connection)
		p.Hub.Name = cmp.Or(p.Hub.Name, entity)
		// https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-hubs-trigger
		if entity != "" && !strings.EqualFold(p.Hub.Name, entity) {
			r.warn("%s differs from the EntityPath in %s, which is the hub that the host reads: have them agree, or remove one of them", hubNameBindingSetting, hubBindingSetting)
		}
		if folder = p.Hub.Name; folder == "" && p.Storage.Folder == "" && !r.blames(hubNameBindingSetting) {
			r.problem(hubNameBindingSetting, "not set, and %s has no EntityPath: expected the hub's name", hubBindingSetting)
		}
	case BindingServiceBus:
		r.checkBinding(&p.Queue, entityPath(connection))
		folder = p.Queue.folder()
	}
	if p.Output && p.Storage.Folder == "" && p.Service != BindingEventGrid {
		r.warn("STORE_PARAM is not set: where the path of the output binding in function.json has %%STORE_PARAM%%, its blobs are in a folder without a name")
	}
	p.Storage.Folder = cmp.Or(p.Storage.Folder, folder)
	r.checkStorage(&p.Storage.Connection)
	p.Failed.checkStorage(&r, failedSetting)
	r.checkTelemetry(&p.Telemetry, sent, "push", p.Server.Hosted)
	if p.Timeout == 0 {
		p.Timeout = bindingTimeout
		if p.Service == BindingEventGrid {
			p.Timeout = eventGridTimeout
		}
	}
	p.Warnings = r.warnings
	if err := r.err(); err != nil {
		return Push{}, err
	}
	return p, nil
}

// settings are all that the push program reads. Of the host's connection, which goes to connection, it takes
// no more than the EntityPath. Where telemetry is sent goes to sent.
func (p *Push) settings(connection *Secret, sent *exports) []setting {
	all := []setting{
		{name: serviceSetting, value: binding(), fallback: "BINDING", meaning: "The push program is the one that runs `BINDING`. The others are those of worker and invoker, and refused."},
		{name: "BINDING_SERVICE", value: choice(&p.Service, []string{string(BindingEventGrid), string(BindingEventHub), string(BindingServiceBus)}, BindingEventGrid, BindingEventHub, BindingServiceBus), required: true,
			meaning: "Whose trigger brings the messages. Settings of the others are ignored."},
		{name: "PERSISTOR_OUTPUT_BINDING", value: boolean(&p.Output), fallback: "FALSE",
			meaning: "`TRUE` gives a record back to the host, which stores it by the function's blob output `blob`, under the path that function.json says. That takes single messages of Event Hubs or Service Bus; batches, and events of Event Grid, are stored as without."},
	}
	all = append(all, bindingSettings(&p.Hub, &p.Queue, connection)...)
	all = append(all, storageConnectionSettings(&p.Storage.Connection)...)
	all = append(all, p.Storage.settings()...)
	all = append(all, storageConnection(&p.Failed, failedSetting,
		"Connection string of a second storage account, with a container of the same name. There what can't be stored in the first one goes when an invocation's time is nearly over, below `_failed/`; without it, and before it, below `_failed/` in the container itself.",
		"none")...)
	all = append(all, p.Record.settings()...)
	all = append(all, p.Batch.settings()...)
	all = append(all, p.Append.settings()...)
	all = append(all, p.Telemetry.settings(sent)...)
	return append(all,
		setting{name: "BINDING_TIMEOUT", value: seconds(&p.Timeout, 5*time.Second, 24*time.Hour), otherwise: "230, or 30 for Event Grid",
			meaning: "How long one invocation may last, storage that is down included. It has to be less than `functionTimeout` in host.json, at which the host kills the program; Event Grid waits 30 s. The program answers a tenth of it earlier, or 10 s if that is less."},
		setting{name: "LOG_LEVEL", value: level(&p.Server.LogLevel), fallback: "info", meaning: logLevel},
		setting{name: "FUNCTIONS_CUSTOMHANDLER_PORT", value: noting(&p.Server.Hosted, port(&p.Server.Address, "127.0.0.1")), required: true,
			meaning: "Port that the Functions host asks its custom handler to listen on, at 127.0.0.1. The host sets it, and nobody else calls the program."},
	)
}

// bindingSettings are those that the trigger in function.json names.
func bindingSettings(h *Hub, q *Queue, connection *Secret) []setting {
	const host = "The host reads it, in this form or as `__fullyQualifiedNamespace` and the like; the program takes an `EntityPath` out of it."
	return append(only(BindingEventHub, []setting{
		{name: hubNameBindingSetting, value: matching(&h.Name, hubName, "a hub's name: up to 256 letters, digits, periods, hyphens and underscores"), otherwise: "the connection string's EntityPath",
			meaning: "Event Hubs: the hub that the trigger reads."},
		{name: hubBindingSetting, value: text(connection, "a connection string"), secret: true,
			meaning: "Event Hubs: the trigger's connection. " + host},
		{name: "CONSUMER_GROUP", value: matching(&h.ConsumerGroup, groupName, "a consumer group's name: up to 256 letters, digits, periods, hyphens and underscores"), fallback: "$Default",
			meaning: "Event Hubs: the consumer group that the trigger reads as."},
	}), only(BindingServiceBus, []setting{
		{name: queueBindingSetting, value: bindingName(&q.Name, &q.DeadLetter, "queue"), otherwise: "the connection string's EntityPath",
			meaning: "Service Bus: the queue that the trigger reads. `/$DeadLetterQueue` at its end is its dead-letter queue."},
		{name: topicBindingSetting, value: entityName(&q.Topic, "topic"), otherwise: "none",
			meaning: "Service Bus: the topic whose subscription the trigger reads, instead of a queue."},
		{name: subscriptionBindingSetting, value: bindingName(&q.Subscription, &q.DeadLetter, "subscription"), otherwise: "required for a topic",
			meaning: "Service Bus: the subscription that the trigger reads. `/$DeadLetterQueue` at its end is its dead-letter queue."},
		{name: busBindingSetting, value: text(connection, "a connection string"), secret: true,
			meaning: "Service Bus: the trigger's connection. " + host},
	})...)
}

// checkBinding asks for a queue's name, or for a topic's and its subscription's, which may come as the
// connection's EntityPath.
func (r *reader) checkBinding(q *Queue, entity string) {
	if r.blames(queueBindingSetting) || r.blames(topicBindingSetting) || r.blames(subscriptionBindingSetting) {
		return
	}
	if q.Name == "" && q.Topic == "" {
		if q.Subscription != "" {
			q.Topic = entity
		} else {
			q.Name = entity
		}
	}
	switch {
	case q.Name != "" && (q.Topic != "" || q.Subscription != ""):
		r.problem(queueBindingSetting, "set together with %s or %s: keep the queue's name or the other two, as the trigger in function.json has them", topicBindingSetting, subscriptionBindingSetting)
	case q.Topic != "" && q.Subscription == "":
		r.problem(subscriptionBindingSetting, "not set: expected the name of the topic's subscription")
	case q.Topic == "" && q.Subscription != "":
		r.problem(topicBindingSetting, "not set, though %s is, and %s has no EntityPath: expected the topic's name", subscriptionBindingSetting, busBindingSetting)
	case q.Name == "" && q.Topic == "":
		r.problem(queueBindingSetting, "not set, and neither is %s, and %s has no EntityPath: expected the queue's name", topicBindingSetting, busBindingSetting)
	}
}

// entityPath is what a connection string says beside the namespace; "" for one that says nothing, or is none.
func entityPath(connection Secret) string {
	parts, problem := splitConnectionString(connection.Reveal(), namespaceKeys)
	if problem != "" || !isEntityName(parts["EntityPath"]) {
		return ""
	}
	return parts["EntityPath"]
}

// bindingName takes the name of a queue or subscription, or the path of its dead-letter queue.
func bindingName(into *string, deadLetter *bool, noun string) value {
	const suffix = "/$deadletterqueue"
	name := entityName(into, noun)
	if noun == "subscription" {
		name = matching(into, subscriptionName, "a subscription's name: up to 50 letters, digits, periods, hyphens and underscores")
	}
	return value{name.expected, func(text string) error {
		if at := len(text) - len(suffix); at > 0 && strings.EqualFold(text[at:], suffix) {
			*deadLetter = true
			text = text[:at]
		}
		return name.parse(text)
	}}
}

// binding takes the one of the original's variants that is pushed to.
func binding() value {
	return value{"BINDING", func(text string) error {
		switch {
		case strings.EqualFold(text, "BINDING"):
			return nil
		case strings.EqualFold(text, string(EventHub)) || strings.EqualFold(text, string(ServiceBus)):
			return errors.New("is what worker and invoker run: this program runs BINDING")
		}
		return errMismatch
	}}
}
