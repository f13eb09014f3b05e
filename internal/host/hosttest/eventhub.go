package hosttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// eventHubOptions are extensions.eventHubs of host.json; the zero value is the host's default.
type eventHubOptions struct {
	MaxEventBatchSize, MinEventBatchSize, BatchCheckpointFrequency, PrefetchCount *int
	MaxWaitTime                                                                   *string
	InitialOffsetOptions                                                          struct {
		Type            string
		EnqueuedTimeUTC string `json:"enqueuedTimeUtc"`
	}
}

func orElse(n *int, other int) int {
	if n == nil {
		return other
	}
	return *n
}

// reopenWait is between a lost link to a partition and the next.
const reopenWait = 100 * time.Millisecond

// hubListener listens to all partitions of a hub, for one function.
type hubListener struct {
	host     *Host
	function *function
	client   *azeventhubs.ConsumerClient
	space    string // the namespace
	least    int    // events of an invocation, unless that takes longer than wait
	wait     time.Duration
	most     int // events of an invocation
	every    int // invocations to a checkpoint

	mu     sync.Mutex
	rewind map[string]chan int64 // by partition: the sequence number to go on behind
}

// listenHub connects to the trigger's hub. What it returns pumps every partition until its context ends.
func (h *Host) listenHub(start context.Context, f *function) (func(context.Context), error) {
	text, err := h.app.settings.connection(f.trigger.Connection)
	if err != nil {
		return nil, err
	}
	parsed, err := azeventhubs.ParseConnectionString(text)
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", f.trigger.Connection, err)
	}
	hub, group := f.trigger.EventHubName, f.trigger.ConsumerGroup
	if group == "" {
		group = azeventhubs.DefaultConsumerGroup
	}
	if parsed.EntityPath != nil {
		hub = "" // the client takes the connection string's
	}
	client, err := azeventhubs.NewConsumerClientFromConnectionString(text, hub, group, nil)
	if err != nil {
		return nil, fmt.Errorf("connect to Event Hub %s: %w", f.trigger.EventHubName, err)
	}
	properties, err := client.GetEventHubProperties(start, nil)
	if err != nil {
		return nil, fmt.Errorf("connect to Event Hub %s: %w", f.trigger.EventHubName, err)
	}
	options := h.app.host.Extensions.EventHubs
	l := &hubListener{
		host: h, function: f, client: client, space: parsed.FullyQualifiedNamespace, rewind: map[string]chan int64{},
		least: 1, wait: time.Minute, most: orElse(options.MaxEventBatchSize, 100), every: max(1, orElse(options.BatchCheckpointFrequency, 1)),
	}
	if f.trigger.many() {
		l.least = orElse(options.MinEventBatchSize, 1)
	}
	if err := timeSpan(options.MaxWaitTime, &l.wait); err != nil {
		return nil, fmt.Errorf("host.json: maxWaitTime: %w", err)
	}
	h.hubs[f.name] = l
	h.mu.Lock()
	h.checkpoints[f.name] = map[string]int64{}
	for partition, number := range h.options.Checkpoints[f.name] {
		h.checkpoints[f.name][partition] = number
	}
	h.mu.Unlock()
	for _, partition := range properties.PartitionIDs {
		l.rewind[partition] = make(chan int64, 1)
	}
	return l.run, nil
}

func (l *hubListener) run(ctx context.Context) {
	var pumps sync.WaitGroup
	for partition := range l.rewind {
		pumps.Go(func() { l.pump(ctx, partition) })
	}
	pumps.Wait()
	closing, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.client.Close(closing)
}

// Checkpoints are how far each partition of a function's hub is done, as sequence numbers. Partitions without
// a checkpoint are not there.
func (h *Host) Checkpoints(function string) map[string]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]int64{}
	for partition, number := range h.checkpoints[function] {
		all[partition] = number
	}
	return all
}

// Rewind has a partition delivered again from a sequence number on, as happens when another instance takes it over
// from an old checkpoint. An invocation that is under way is let finish first.
func (h *Host) Rewind(function, partition string, from int64) error {
	l := h.hubs[function]
	if l == nil || l.rewind[partition] == nil {
		return fmt.Errorf("rewind: function %s listens to no partition %s", function, partition)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.rewind[partition]: // an older wish
	default:
	}
	l.rewind[partition] <- from - 1
	return nil
}

// pump delivers a partition from its checkpoint on, over as many links as it takes.
func (l *hubListener) pump(ctx context.Context, partition string) {
	var position *int64 // the last event that was delivered
	l.host.mu.Lock()
	if number, ok := l.host.checkpoints[l.function.name][partition]; ok {
		position = &number
	}
	l.host.mu.Unlock()
	for ctx.Err() == nil {
		link, err := l.client.NewPartitionClient(partition, &azeventhubs.PartitionClientOptions{
			StartPosition: l.start(position), Prefetch: int32(orElse(l.host.app.host.Extensions.EventHubs.PrefetchCount, 300)),
		})
		if err == nil {
			err = l.deliver(ctx, partition, link, &position)
			closing, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = link.Close(closing)
			cancel()
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.host.log.Info("a partition's link is lost", "function", l.function.name, "partition", partition, "error", err)
		select {
		case <-time.After(reopenWait):
		case <-ctx.Done():
		}
	}
}

func (l *hubListener) start(position *int64) azeventhubs.StartPosition {
	yes := true
	if position != nil {
		return azeventhubs.StartPosition{SequenceNumber: position}
	}
	options := l.host.app.host.Extensions.EventHubs.InitialOffsetOptions
	switch {
	case strings.EqualFold(options.Type, "fromEnd"):
		return azeventhubs.StartPosition{Latest: &yes}
	case strings.EqualFold(options.Type, "fromEnqueuedTime"):
		if at, err := time.Parse(time.RFC3339, options.EnqueuedTimeUTC); err == nil {
			return azeventhubs.StartPosition{EnqueuedTime: &at}
		}
	}
	return azeventhubs.StartPosition{Earliest: &yes}
}

// deliver hands a link's events to the function, one invocation at a time, and sets checkpoints whatever becomes of them. It
// returns without an error to have the partition opened at another position.
func (l *hubListener) deliver(ctx context.Context, partition string, link *azeventhubs.PartitionClient, position **int64) error {
	for batches := 1; ; batches++ {
		events, rewound, err := l.receive(ctx, partition, link)
		if rewound != nil {
			*position = rewound
			l.checkpoint(partition, *rewound)
			return nil
		}
		if err != nil {
			return err
		}
		if l.function.trigger.many() {
			l.invoke(ctx, partition, events)
		} else {
			for _, event := range events {
				l.invoke(ctx, partition, []*azeventhubs.ReceivedEventData{event})
			}
		}
		if ctx.Err() != nil {
			return ctx.Err() // what a host that is told to stop was doing gets no checkpoint
		}
		last := events[len(events)-1].SequenceNumber
		*position = &last
		if batches%l.every == 0 {
			l.checkpoint(partition, last)
		}
	}
}

// receive waits for the next events, or for a rewind.
func (l *hubListener) receive(ctx context.Context, partition string, link *azeventhubs.PartitionClient) ([]*azeventhubs.ReceivedEventData, *int64, error) {
	receiving, cancel := context.WithCancel(ctx)
	defer cancel()
	type received struct {
		events []*azeventhubs.ReceivedEventData
		err    error
	}
	batch := make(chan received, 1)
	go func() {
		events, err := l.batch(receiving, link)
		batch <- received{events, err}
	}()
	select {
	case got := <-batch:
		if len(got.events) > 0 {
			got.err = nil
		}
		return got.events, nil, got.err
	case number := <-l.rewind[partition]:
		cancel()
		<-batch
		return nil, &number, nil
	}
}

// batch waits for an event, then for as many as the least, and takes what else is there already.
func (l *hubListener) batch(ctx context.Context, link *azeventhubs.PartitionClient) ([]*azeventhubs.ReceivedEventData, error) {
	events, err := link.ReceiveEvents(ctx, 1, nil)
	for _, step := range []struct {
		until int
		wait  time.Duration
	}{{l.least, l.wait}, {l.most, 5 * time.Millisecond}} {
		if err != nil || len(events) >= step.until {
			continue
		}
		more, stop := context.WithTimeout(ctx, step.wait)
		rest, wrong := link.ReceiveEvents(more, step.until-len(events), nil)
		stop()
		if events = append(events, rest...); wrong != nil && !errors.Is(wrong, context.DeadlineExceeded) {
			err = wrong
		}
	}
	return events, err
}

func (l *hubListener) checkpoint(partition string, number int64) {
	l.host.mu.Lock()
	defer l.host.mu.Unlock()
	l.host.checkpoints[l.function.name][partition] = number
	l.host.notify()
}

// invoke calls the function with events of a partition. The host goes on whatever the outcome: what it can't bind
// never reaches the handler.
func (l *hubListener) invoke(ctx context.Context, partition string, events []*azeventhubs.ReceivedEventData) {
	c := call{function: l.function, source: partition, metadata: bindingData{"PartitionContext": map[string]any{
		"FullyQualifiedNamespace": l.space, "EventHubName": l.function.trigger.EventHubName,
		"ConsumerGroup": l.function.trigger.ConsumerGroup, "PartitionId": partition, "IsCheckpointingAfterInvocation": true,
	}}}
	bodies := make([][]byte, len(events))
	for n, event := range events {
		bodies[n] = append([]byte{}, event.Body...)
		c.numbers = append(c.numbers, event.SequenceNumber)
	}
	if !l.function.trigger.many() {
		addEvent(c.metadata, events[0])
		c.data = messageData(l.function.trigger, bodies[0])
		if !l.function.trigger.binary() {
			applyPayload(c.metadata, string(bodies[0]))
		}
	} else {
		addEvents(c.metadata, events)
		var err error
		if c.data, err = messagesData(l.function.trigger, bodies); err != nil {
			l.host.record(Result{
				Function: l.function.name, ID: newID(), Began: time.Now(), Source: partition, Numbers: c.numbers,
				Err: fmt.Errorf("bind %s: %w", l.function.trigger.Name, err),
			})
			return
		}
	}
	_, _ = l.host.execute(ctx, c)
}

// addEvent is what EventHubTriggerBindingStrategy says of one event.
func addEvent(data bindingData, event *azeventhubs.ReceivedEventData) {
	data["PartitionKey"] = deref(event.PartitionKey)
	data["Offset"] = event.Offset
	data["SequenceNumber"] = event.SequenceNumber
	data["EnqueuedTimeUtc"] = deref(event.EnqueuedTime)
	data["Properties"] = event.Properties
	if event.Properties == nil {
		data["Properties"] = map[string]any{}
	}
	data["SystemProperties"] = systemProperties(event)
}

// addEvents is the same of many: arrays, in the order of the data.
func addEvents(data bindingData, events []*azeventhubs.ReceivedEventData) {
	var keys, offsets []any
	var numbers []int64
	var times []time.Time
	var properties, system []map[string]any
	for _, event := range events {
		keys = append(keys, deref(event.PartitionKey))
		offsets = append(offsets, event.Offset)
		numbers = append(numbers, event.SequenceNumber)
		times = append(times, *event.EnqueuedTime)
		if event.Properties == nil {
			event.Properties = map[string]any{}
		}
		properties = append(properties, event.Properties)
		system = append(system, systemProperties(event))
	}
	data["PartitionKeyArray"], data["OffsetArray"], data["SequenceNumberArray"] = keys, offsets, numbers
	data["EnqueuedTimeUtcArray"], data["PropertiesArray"], data["SystemPropertiesArray"] = times, properties, system
}

// systemProperties are an event's annotations and AMQP properties, and the four that the extension adds.
func systemProperties(event *azeventhubs.ReceivedEventData) map[string]any {
	all := map[string]any{}
	if raw := event.RawAMQPMessage; raw != nil {
		for name, value := range raw.MessageAnnotations {
			all[fmt.Sprint(name)] = value
		}
		if p := raw.Properties; p != nil {
			for name, value := range map[string]any{
				"message-id": p.MessageID, "correlation-id": p.CorrelationID, "content-type": deref(p.ContentType),
				"content-encoding": deref(p.ContentEncoding), "subject": deref(p.Subject), "to": deref(p.To), "reply-to": deref(p.ReplyTo),
				"group-id": deref(p.GroupID), "reply-to-group-id": deref(p.ReplyToGroupID), "group-sequence": deref(p.GroupSequence),
				"creation-time": deref(p.CreationTime), "absolute-expiry-time": deref(p.AbsoluteExpiryTime),
			} {
				if value != nil {
					all[name] = value
				}
			}
			if p.UserID != nil {
				all["user-id"] = p.UserID
			}
		}
	}
	all["SequenceNumber"], all["Offset"] = event.SequenceNumber, event.Offset
	all["PartitionKey"], all["EnqueuedTimeUtc"] = deref(event.PartitionKey), deref(event.EnqueuedTime)
	return all
}

// deref is what p points to, or nil.
func deref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}
