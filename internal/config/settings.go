package config

import (
	"cmp"
	"fmt"
	"time"
)

// Settings that others are checked against.
const (
	serviceSetting      = "SERVICE_TYPE"
	hubSetting          = "EVENT_HUB_CONN_STRING"
	hubNameSetting      = "EVENT_HUB_NAME"
	checkpointSetting   = "EVENT_HUB_CHECKPOINT_STORAGE_CONN_STRING"
	busSetting          = "SERVICE_BUS_CONNECTION_STRING"
	entitySetting       = "SERVICE_BUS_TYPE"
	queueSetting        = "SERVICE_BUS_QUEUE_NAME"
	topicSetting        = "SERVICE_BUS_TOPIC_NAME"
	subscriptionSetting = "SERVICE_BUS_SUB_NAME"
	subqueueSetting     = "SERVICE_BUS_SUBQUEUE"
	sessionsSetting     = "SERVICE_BUS_SESSIONS"
	storageSetting      = "PERSISTOR_STORAGE_CONNECTION_STRING"
	containerSetting    = "PERSISTOR_CONTAINER_NAME"
	queueServiceSetting = storageSetting + "__queueServiceUri"
	keySetting          = "WORKER_KEY"
	targetsSetting      = "FUNC_TO_INVOKE"

	backfillQueueSetting = "PERSISTOR_BACKFILL_QUEUE"
)

// Where the programs listen when no setting says: not at the same port, so that both run on one machine.
const (
	workerAddress  = "127.0.0.1:8080"
	invokerAddress = "127.0.0.1:8081"
)

// defaultMemory holds a batch being stored, one being gathered and what is received ahead of them, at
// the default BATCH_BYTES.
const defaultMemory = 32 << 20

// settings are all that the worker reads, in the order of the documentation. Whether the queue is a
// topic's subscription goes to topic, and
// where telemetry is sent to sent.
func (w *Worker) settings(topic *bool, sent *exports) []setting {
	var all []setting
	all = append(all, variantSettings(&w.Service)...)
	all = append(all, w.Hub.settings()...)
	all = append(all, w.Checkpoint.settings()...)
	all = append(all, w.Queue.settings(topic)...)
	all = append(all, storageConnectionSettings(&w.Storage.Connection)...)
	all = append(all, w.Storage.settings()...)
	all = append(all, w.Record.settings()...)
	all = append(all, w.Batch.settings()...)
	all = append(all, w.Append.settings()...)
	all = append(all, w.Pull.settings()...)
	all = append(all,
		setting{name: "WORKER_TIMEOUT", value: seconds(&w.Timeout, 5*time.Second, 24*time.Hour), fallback: "230",
			meaning: "How long one call may last: the nearest of the function's own timeout and what its callers wait, which is 230 s for an HTTP trigger. The worker is back a tenth of it earlier, or 10 s if that is less."},
		setting{name: "WORKER_CONCURRENCY", value: whole(&w.Concurrency, 1, 256), fallback: "1",
			meaning: "Work units that one worker takes on at once. Further calls are answered 429, so that they land on another instance."},
		setting{name: "MEMORY_LIMIT", value: size(&w.MemoryLimit, 1<<20, 64<<30), otherwise: "32 MiB, or four times `BATCH_BYTES` if that is more",
			meaning: "Bytes of messages that one worker holds at once: received ahead, gathered and being stored. The process itself takes about 40 MiB more. At least twice `BATCH_BYTES`."},
	)
	all = append(all, w.Telemetry.settings(sent)...)
	return append(all, w.Server.settings(workerAddress)...)
}

// settings are all that the invoker reads. Whether the queue is a topic's subscription goes to topic, and
// where telemetry is sent to sent.
func (i *Invoker) settings(topic *bool, sent *exports) []setting {
	var all []setting
	all = append(all, variantSettings(&i.Service)...)
	all = append(all,
		setting{name: targetsSetting, value: targets(&i.Targets), required: true, secret: true,
			meaning: "URL of the worker's function. A list of several, separated by commas, is used in turn, where no load balancer does that. A URL without a path gets `/api/pull`."},
		setting{name: "DELAY_BETWEEN_FUNCS", value: seconds(&i.Delay, 0, time.Minute), fallback: "0.25",
			meaning: "Between the starts of two calls; the calls themselves overlap."},
		setting{name: "INVOKER_TIMEOUT", value: seconds(&i.Timeout, 5*time.Second, 24*time.Hour), fallback: "180",
			meaning: "How long one invocation may last; an HTTP trigger's caller waits 230 s. The invoker answers a tenth of it earlier, or 10 s if that is less, and gives its workers no longer."},
		setting{name: "INVOKER_CONCURRENCY", value: whole(&i.Concurrency, 1, 1024), fallback: "64",
			meaning: "Calls to workers that are under way at once."},
		setting{name: "INVOKER_UNITS", value: whole(&i.Units, 1, 1024), otherwise: "chosen by the backlog",
			meaning: "How many units a run has that isn't told by `N`, as those of a timer. Needed for a queue without sessions where the invoker's identity may not know how many messages wait."},
	)
	all = append(all, triggerSettings()...)
	all = append(all, i.Runs.settings()...)
	all = append(all, i.Storage.leaseSettings()...)
	all = append(all, i.Hub.settings()...)
	all = append(all, i.Checkpoint.settings()...)
	all = append(all, i.Queue.settings(topic)...)
	all = append(all, i.Telemetry.settings(sent)...)
	return append(all, i.Server.settings(invokerAddress)...)
}

// triggerSettings are read by the Functions host, which finds their names in function.json. The invoker
// checks them, for the host says little about a function whose trigger it can't make.
func triggerSettings() []setting {
	return []setting{
		{name: "PERSISTOR_SCHEDULE", value: schedule(),
			meaning: "When the Functions host's timer starts a run (function `schedule`), in UTC unless the function app has a time zone. A time that comes while a run is under way is skipped."},
		{name: "PERSISTOR_QUEUE", value: storageQueue(new(string)),
			meaning: "The queue, in the account of `" + storageSetting + "`, whose messages start runs (function `queue`). A message is the JSON that `POST /api/invoke` takes."},
	}
}

// settings of the runs that are kept.
func (r *Runs) settings() []setting {
	return []setting{
		{name: backfillQueueSetting, value: storageQueue(&r.Queue),
			otherwise: "none: under the Functions host there is no backfill then; elsewhere the invoker carries the waves out by itself",
			meaning:   "The queue, in the account of `" + storageSetting + "`, by whose messages a backfill goes on from wave to wave under the Functions host (function `backfill`). The invoker creates it, and sends the messages itself."},
		{name: queueServiceSetting, value: text(&r.QueueService, "a URI"), otherwise: "that of `" + storageSetting + suffixBlobService + "`, with `queue` in place of `blob`",
			meaning: "The URI of the account's queue service, such as `https://myaccount.queue.core.windows.net`, in the identity form. The Functions host reads it, too."},
		{name: "RUNS_KEEP_DAYS", value: days(&r.Age, 1, 3650), fallback: "30",
			meaning: "Days for which the document of a run that is over is kept, below `_runs` in `" + containerSetting + "`."},
		{name: "RUNS_KEEP", value: whole(&r.Count, 1, 100_000), fallback: "1000",
			meaning: "Documents of runs that are kept; of those that are over the oldest go first."},
	}
}

// leaseSettings say where the lease of the run under way is kept: where the workers store, so that they are
// the workers' settings.
func (s *Storage) leaseSettings() []setting {
	return append(storageConnection(&s.Connection, storageSetting,
		"Connection string of the storage account that keeps the lease of the run under way, the runs' documents, and the checkpoints where these have none of their own. Take the workers'.",
		"of an Event Hub required, unless the identity form is used or the checkpoints have a connection of their own, which then keeps the lease; of Service Bus none: runs don't exclude each other, and none are kept"),
		setting{name: containerSetting, value: container(&s.Container), otherwise: "of an Event Hub the checkpoints' container, by their connection; of Service Bus none: runs don't exclude each other, and none are kept",
			meaning: "The container that keeps the lease of the run under way, and the runs' documents. Take the workers', who write there how far a run is, and look whether it is to be cancelled."},
		setting{name: createSetting, value: boolean(&s.CreateContainer), fallback: "FALSE", meaning: createContainer},
	)
}

// only marks settings as those of one service.
func only(service Service, settings []setting) []setting {
	for i := range settings {
		settings[i].service = service
	}
	return settings
}

// variantSettings choose among the original's variants. All but the first are read to refuse what would
// silently not be done.
func variantSettings(chosen *Service) []setting {
	never := func() string {
		return fmt.Sprintf("an output binding can't be used by a function that pulls (%s): set it to FALSE or remove it", cmp.Or(*chosen, serviceSetting))
	}
	return []setting{
		{name: serviceSetting, value: service(chosen), fallback: string(EventHub),
			meaning: "What is drained: an Event Hub, or a queue or subscription of Service Bus. Settings of the other one are ignored. `BINDING` is the push program's and refused."},
		{name: "PERSISTOR_OUTPUT_BINDING", value: refused(never), fallback: "FALSE",
			meaning: "An output binding can't be used by a function that pulls."},
	}
}

func (h *Hub) settings() []setting {
	return only(EventHub, append(eventHubs.settings(&h.Connection, hubSetting),
		setting{name: hubNameSetting, value: matching(&h.Name, hubName, "a hub's name: up to 256 letters, digits, periods, hyphens and underscores"), otherwise: "the connection string's EntityPath",
			meaning: "The hub to drain. When the connection string has an `EntityPath`, both have to agree."},
		setting{name: "EVENT_HUB_CONSUMER_GROUP", value: matching(&h.ConsumerGroup, groupName, "a consumer group's name: up to 256 letters, digits, periods, hyphens and underscores"), fallback: "$Default",
			meaning: "The consumer group to read as. Give the persistor one of its own: it takes partitions over from other readers of the group."},
		setting{name: "EVENT_HUB_CUSTOM_ENDPOINT", value: matching(&h.CustomEndpoint, hostPort, "a host name, with a port or without"),
			meaning: customEndpoint},
	))
}

const customEndpoint = "A host to connect to in place of the namespace's own, such as a proxy or a private endpoint."

// settings read the names of the kind of entity that is drained; those of the other kind are not looked
// at, for an app may well have both.
func (q *Queue) settings(topic *bool) []setting {
	isTopic := func() bool { return *topic }
	isQueue := func() bool { return !*topic }
	return only(ServiceBus, append(serviceBus.settings(&q.Connection, busSetting),
		setting{name: entitySetting, value: choice(topic, []string{"QUEUE", "TOPIC"}, false, true), fallback: "QUEUE",
			meaning: "Whether a queue is drained or a topic's subscription."},
		setting{name: queueSetting, value: entityName(&q.Name, "queue"), when: isQueue, otherwise: "the connection string's EntityPath",
			meaning: "The queue to drain, where `" + entitySetting + "` is `QUEUE`. When the connection string has an `EntityPath`, both have to agree."},
		setting{name: topicSetting, value: entityName(&q.Topic, "topic"), when: isTopic, otherwise: "the connection string's EntityPath",
			meaning: "The topic whose subscription is drained, where `" + entitySetting + "` is `TOPIC`. When the connection string has an `EntityPath`, both have to agree."},
		setting{name: subscriptionSetting, value: matching(&q.Subscription, subscriptionName, "a subscription's name: up to 50 letters, digits, periods, hyphens and underscores"), when: isTopic, otherwise: "required for a topic",
			meaning: "The subscription to drain. Give the persistor one of its own: what it drains is gone for other readers of the subscription."},
		setting{name: subqueueSetting, value: choice(&q.DeadLetter, []string{"none", "deadletter"}, false, true), fallback: "none",
			meaning: "`deadletter` drains the dead-letter queue of the queue or subscription. It has no sessions, whatever `" + sessionsSetting + "` says."},
		setting{name: sessionsSetting, value: boolean(&q.Sessions), fallback: "FALSE",
			meaning: "Whether the queue or subscription requires sessions. It has to say what the entity does: neither can be drained as the other."},
		setting{name: "SERVICE_BUS_CUSTOM_ENDPOINT", value: matching(&q.CustomEndpoint, hostPort, "a host name, with a port or without"),
			meaning: customEndpoint},
	))
}

func (c *Checkpoint) settings() []setting {
	return only(EventHub, append(storageConnection(&c.Connection, checkpointSetting,
		"Connection string of the storage account that keeps checkpoints, in the format of the Event Hubs SDKs; or `file:///ABSOLUTE/DIRECTORY`.",
		"that of `"+storageSetting+"`"),
		setting{name: "EVENT_HUB_CHECKPOINT_CONTAINER", value: container(&c.Container), required: true,
			meaning: "The container that keeps checkpoints."},
		setting{name: "EVENT_HUB_CHECKPOINT_UPDATE_RATE", value: whole(&c.Every, 1, 1_000_000_000), fallback: "200",
			meaning: "Messages between two checkpoints of a partition, at least. A checkpoint follows a stored blob, so a blob of more messages has one of its own, whatever this says; the last blob of a run always has one."},
	))
}

func storageConnectionSettings(c *Connection) []setting {
	return storageConnection(c, storageSetting,
		"Connection string of the storage account that blobs go to; `UseDevelopmentStorage=true` for Azurite; or `file:///ABSOLUTE/DIRECTORY`.",
		"required, unless the identity form is used")
}

func (s *Storage) settings() []setting {
	return []setting{
		{name: containerSetting, value: container(&s.Container), required: true, meaning: "The container that blobs go to."},
		{name: createSetting, value: boolean(&s.CreateContainer), fallback: "FALSE", meaning: createContainer},
		{name: "STORE_PARAM", value: folder(&s.Folder), otherwise: "the name of the hub or queue, or `TOPIC/SUBSCRIPTION`, with `/deadletter` after it for a dead-letter queue; of Event Grid the id of the subscription in an event's topic or source, else `event-grid`", meaning: "The main folder: the first part of every blob's name."},
	}
}

const (
	createSetting   = "PERSISTOR_CREATE_CONTAINER"
	createContainer = "Whether to create containers that are missing."
)

func (rec *Record) settings() []setting {
	return []setting{
		{name: "GET_METADATA", value: boolean(&rec.Metadata), fallback: "FALSE", meaning: "Whether records keep the message's properties (`METADATA`) and what the service says of it (`SYSTEM`)."},
		{name: "RECORD_SEPARATOR", value: choice(&rec.Separator, []string{"one", "two"}, "\n", "\n\n"), fallback: "two", meaning: "How many newlines end a record."},
	}
}

func (b *Batch) settings() []setting {
	return []setting{
		{name: "BATCH_COUNT", value: whole(&b.Count, 1, 1<<18), fallback: "10000", meaning: "Messages that one blob holds at most."},
		{name: "BATCH_BYTES", value: size(&b.Bytes, 64<<10, 64<<20), fallback: "4MiB", meaning: "Bytes at which a batch becomes a blob. A single message may be larger."},
		{name: "BATCH_AGE", value: seconds(&b.Age, 100*time.Millisecond, time.Hour), fallback: "60", meaning: "How long a message waits at most for its batch to fill."},
	}
}

func (a *Append) settings() []setting {
	return []setting{
		{name: "APPEND", value: boolean(&a.Append), fallback: "FALSE", meaning: "Whether batches are appended to one blob for each partition, session or receiver, and events of Event Grid to one for each process, where they would be a blob each."},
		{name: "TIMED_APPEND", value: boolean(&a.ByMinute), fallback: "FALSE", meaning: "The same with a blob for each minute (UTC) in which messages were enqueued. Implies `APPEND`."},
		{name: "APPEND_BYTES", value: size(&a.Bytes, 1<<20, 64<<30), fallback: "256MiB", meaning: "Bytes at which a blob that was appended to takes no further batch. Storage takes 50,000 batches in a blob, whatever this says."},
	}
}

// settings are those of both services: a program reads one half of them.
func (p *Pull) settings() []setting {
	return append(only(EventHub, []setting{
		{name: "EVENT_HUB_START", value: start(&p.Start), fallback: "earliest", meaning: "Where to start in a partition that has no checkpoint."},
		{name: "EVENT_HUB_IDLE_TIMEOUT", value: seconds(&p.IdleTimeout, 10*time.Second, 24*time.Hour), otherwise: "none", meaning: "Ends a loop that has received nothing for so long."},
		{name: "EVENT_HUB_RECEIVE_DURATION", value: seconds(&p.ReceiveDuration, time.Second, 24*time.Hour), otherwise: "until drained", meaning: receiveDuration},
		{name: "EVENT_HUB_PREFETCH", value: whole(&p.Prefetch, 1, 5000), otherwise: "as many as `MEMORY_LIMIT` allows, up to 5,000", meaning: "Events received ahead. The further away the hub, the more it takes to keep busy."},
		{name: "EVENT_HUB_PULL_MAX_BATCH", alias: "EVENT_HUB_PULL_BATCH_SIZE", value: whole(&p.ReceiveBatch, 1, 10000), otherwise: "chosen by the loop", meaning: "Events that one receive call asks for at most."},
	}), only(ServiceBus, []setting{
		{name: "SERVICE_BUS_IDLE_TIMEOUT", value: orZero(&p.IdleTimeout, seconds(&p.IdleTimeout, 3*time.Second, 24*time.Hour)), fallback: "0", meaning: "Ends a loop that has received nothing for so long. With 0 a loop is drained, and ends, after 3 s without a message."},
		{name: "SERVICE_BUS_RECEIVE_DURATION", value: seconds(&p.ReceiveDuration, time.Second, 24*time.Hour), otherwise: "until drained", meaning: receiveDuration},
		{name: "SERVICE_BUS_PREFETCH", value: whole(&p.Prefetch, 1, 5000), otherwise: "as many as `MEMORY_LIMIT` allows, up to 1,000", meaning: "Messages that one receive call asks for at most. They are locked from the moment on that the service hands them out."},
	})...)
}

const receiveDuration = "Ends a loop that has received for so long; what it holds is stored."

const logLevel = "The least level that is logged."

// settings end with the three that say where to listen, the later ones of which win.
func (s *Server) settings(otherwise string) []setting {
	return []setting{
		{name: keySetting, value: key(&s.Key), secret: true, otherwise: "everybody may call", meaning: "Key that callers have to present in the header `x-functions-key`. The invoker presents it to its workers, too."},
		{name: "LOG_LEVEL", value: level(&s.LogLevel), fallback: "info", meaning: logLevel},
		{name: "PORT", value: port(&s.Address, ""), otherwise: "see `LISTEN_ADDRESS`", meaning: "Port to listen on at every address of the host, as container platforms set it."},
		{name: "LISTEN_ADDRESS", value: address(&s.Address), otherwise: "`" + otherwise + "`", meaning: "Address to listen on; goes before `PORT`."},
		{name: "FUNCTIONS_CUSTOMHANDLER_PORT", value: noting(&s.Hosted, port(&s.Address, "127.0.0.1")), otherwise: "see `LISTEN_ADDRESS`", meaning: "Port that the Functions host asks its custom handler to listen on, at 127.0.0.1; goes before both."},
	}
}
