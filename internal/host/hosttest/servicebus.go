package hosttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// serviceBusOptions are extensions.serviceBus of host.json; the zero value is the host's default.
type serviceBusOptions struct {
	MaxConcurrentCalls, MaxConcurrentSessions, MaxMessageBatchSize *int
	AutoCompleteMessages                                           *bool
	MaxAutoLockRenewalDuration                                     *string
	SessionIdleTimeout                                             *string
}

// settleTimeout bounds a completion or abandonment; a message whose settlement fails comes again.
const settleTimeout = 5 * time.Second

// receiver is what the plain receiver and the session's have in common.
type receiver interface {
	ReceiveMessages(ctx context.Context, most int, o *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	CompleteMessage(ctx context.Context, m *azservicebus.ReceivedMessage, o *azservicebus.CompleteMessageOptions) error
	AbandonMessage(ctx context.Context, m *azservicebus.ReceivedMessage, o *azservicebus.AbandonMessageOptions) error
}

// busListener listens to a queue or subscription, for one function.
type busListener struct {
	host     *Host
	function *function
	client   *azservicebus.Client
	space    string
	renew    time.Duration // for which locks of single messages are renewed
	complete bool
}

// listenBus connects to the trigger's entity. What it returns receives until its context ends.
func (h *Host) listenBus(f *function) (func(context.Context), error) {
	text, err := h.app.settings.connection(f.trigger.Connection)
	if err != nil {
		return nil, err
	}
	client, err := azservicebus.NewClientFromConnectionString(text, nil)
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", f.trigger.Connection, err)
	}
	options := h.app.host.Extensions.ServiceBus
	l := &busListener{host: h, function: f, client: client, space: namespaceOf(text), renew: 5 * time.Minute, complete: true}
	if options.AutoCompleteMessages != nil {
		l.complete = *options.AutoCompleteMessages
	}
	if err := timeSpan(options.MaxAutoLockRenewalDuration, &l.renew); err != nil {
		return nil, fmt.Errorf("host.json: maxAutoLockRenewalDuration: %w", err)
	}
	return l.run, nil
}

// namespaceOf is the host that a connection string names.
func namespaceOf(connection string) string {
	_, endpoint, _ := strings.Cut(connection, "sb://")
	return strings.TrimRight(endpoint[:max(0, strings.IndexAny(endpoint+";", ";"))], "/")
}

// run has one receiver for batches, or for single messages as many calls at once as the options say.
func (l *busListener) run(ctx context.Context) {
	options := l.host.app.host.Extensions.ServiceBus
	loops, most := orElse(options.MaxConcurrentCalls, 16), 1
	if l.function.trigger.Sessions {
		loops = orElse(options.MaxConcurrentSessions, 8)
	}
	if l.function.trigger.many() {
		most = orElse(options.MaxMessageBatchSize, 1000)
		if !l.function.trigger.Sessions {
			loops = 1 // one batch at a time
		}
	}
	var running sync.WaitGroup
	for range loops {
		running.Go(func() { l.loop(ctx, most) })
	}
	running.Wait()
	closing, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.client.Close(closing)
}

// loop receives and delivers, over as many links as it takes.
func (l *busListener) loop(ctx context.Context, most int) {
	for ctx.Err() == nil {
		r, leave, err := l.open(ctx)
		if err == nil {
			err = l.deliver(ctx, r, most)
			leave()
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.host.log.Info("a receiver's link is lost", "function", l.function.name, "error", err)
		select {
		case <-time.After(reopenWait):
		case <-ctx.Done():
		}
	}
}

// open opens a receiver, or takes the next session that has messages.
func (l *busListener) open(ctx context.Context) (receiver, func(), error) {
	b := l.function.trigger
	if !b.Sessions {
		r, err := l.plain()
		return r, func() { closeSoon(r.Close) }, err
	}
	var r *azservicebus.SessionReceiver
	var err error
	if b.QueueName != "" {
		r, err = l.client.AcceptNextSessionForQueue(ctx, b.QueueName, nil)
	} else {
		r, err = l.client.AcceptNextSessionForSubscription(ctx, b.TopicName, b.SubscriptionName, nil)
	}
	if err != nil {
		return nil, nil, err
	}
	return r, func() { closeSoon(r.Close) }, nil
}

func (l *busListener) plain() (*azservicebus.Receiver, error) {
	if b := l.function.trigger; b.QueueName == "" {
		return l.client.NewReceiverForSubscription(b.TopicName, b.SubscriptionName, nil)
	}
	return l.client.NewReceiverForQueue(l.function.trigger.QueueName, nil)
}

func closeSoon(close func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = close(ctx)
}

// deliver hands messages to the function: all of a batch are completed, or all are abandoned. Without an error it returns when a
// session has been silent for a while.
func (l *busListener) deliver(ctx context.Context, r receiver, most int) error {
	for {
		receiving, cancel := ctx, context.CancelFunc(func() {})
		if l.function.trigger.Sessions {
			idle := time.Second
			_ = timeSpan(l.host.app.host.Extensions.ServiceBus.SessionIdleTimeout, &idle)
			receiving, cancel = context.WithTimeout(ctx, idle)
		}
		messages, err := r.ReceiveMessages(receiving, most, nil)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		stop := l.renewLocks(ctx, r, messages)
		err = l.invoke(ctx, r, messages)
		stop()
		l.settle(r, messages, err)
	}
}

// settle completes or abandons. A host that is told to stop still does so; one that is killed does not, and
// locks run out.
func (l *busListener) settle(r receiver, messages []*azservicebus.ReceivedMessage, failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	for _, m := range messages {
		var err error
		switch {
		case failed != nil:
			err = r.AbandonMessage(ctx, m, nil)
		case l.complete:
			err = r.CompleteMessage(ctx, m, nil)
		}
		if err != nil {
			l.host.log.Info("a message could not be settled", "function", l.function.name, "sequence", *m.SequenceNumber, "error", err)
		}
	}
	l.host.mu.Lock()
	l.host.notify()
	l.host.mu.Unlock()
}

// renewLocks renews the lock of a single message while the function runs; the host does not for batches.
func (l *busListener) renewLocks(ctx context.Context, r receiver, messages []*azservicebus.ReceivedMessage) (stop func()) {
	plain, ok := r.(*azservicebus.Receiver)
	if !ok || l.function.trigger.many() || len(messages) != 1 || messages[0].LockedUntil == nil {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, l.renew)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for {
			wait := max(time.Until(*messages[0].LockedUntil)/2, 10*time.Millisecond)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			if err := plain.RenewMessageLock(ctx, messages[0], nil); err != nil {
				return
			}
		}
	})
	return func() { cancel(); renewing.Wait() }
}

// invoke calls the function with messages.
func (l *busListener) invoke(ctx context.Context, r receiver, messages []*azservicebus.ReceivedMessage) error {
	b := l.function.trigger
	c := call{function: l.function, source: b.QueueName, metadata: bindingData{}}
	if b.QueueName == "" {
		c.source = b.TopicName + "/Subscriptions/" + b.SubscriptionName
	}
	bodies := make([][]byte, len(messages))
	for n, m := range messages {
		bodies[n] = append([]byte{}, m.Body...)
		c.numbers = append(c.numbers, *m.SequenceNumber)
	}
	for _, name := range []string{"MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions"} {
		c.metadata[name] = map[string]any{}
	}
	c.metadata["Client"] = map[string]any{"FullyQualifiedNamespace": l.space, "IsClosed": false, "TransportType": 0, "Identifier": l.space}
	if !b.many() {
		for name, value := range messageProperties(messages[0]) {
			c.metadata[name] = value
		}
		c.data = messageData(b, bodies[0])
		if !b.binary() {
			applyPayload(c.metadata, string(bodies[0]))
		}
	} else {
		for name, values := range messagesProperties(messages) {
			c.metadata[name+"Array"] = values
		}
		var err error
		if c.data, err = messagesData(b, bodies); err != nil {
			err = fmt.Errorf("bind %s: %w", b.Name, err)
			l.host.record(Result{Function: l.function.name, ID: newID(), Began: time.Now(), Source: c.source, Numbers: c.numbers, Err: err})
			return err
		}
	}
	_, err := l.host.execute(ctx, c)
	return err
}

// messageProperties is what ServiceBusTriggerBindingStrategy says of one message.
func messageProperties(m *azservicebus.ReceivedMessage) map[string]any {
	token := m.LockToken
	properties := m.ApplicationProperties
	if properties == nil {
		properties = map[string]any{}
	}
	all := map[string]any{
		"DeliveryCount": int(m.DeliveryCount), "SequenceNumber": *m.SequenceNumber, "MessageId": m.MessageID,
		"LockToken":   fmt.Sprintf("%x-%x-%x-%x-%x", token[:4], token[4:6], token[6:8], token[8:10], token[10:]),
		"ContentType": deref(m.ContentType), "CorrelationId": deref(m.CorrelationID), "Subject": deref(m.Subject), "Label": deref(m.Subject),
		"To": deref(m.To), "ReplyTo": deref(m.ReplyTo), "SessionId": deref(m.SessionID), "ReplyToSessionId": deref(m.ReplyToSessionID),
		"PartitionKey": deref(m.PartitionKey), "DeadLetterSource": deref(m.DeadLetterSource),
		"ApplicationProperties": properties, "UserProperties": properties,
	}
	expires := time.Date(9999, 12, 31, 23, 59, 59, 999999900, time.UTC)
	if m.ExpiresAt != nil && m.TimeToLive != nil && *m.TimeToLive > 0 { // .NET's client takes none for the longest, Go's for 0
		expires = *m.ExpiresAt
	}
	all["ExpiresAtUtc"], all["ExpiresAt"] = utcTime(expires), offsetTime(expires)
	if m.EnqueuedTime != nil {
		all["EnqueuedTimeUtc"], all["EnqueuedTime"] = utcTime(*m.EnqueuedTime), offsetTime(*m.EnqueuedTime)
	}
	return all
}

// messagesProperties is the same of many, by name: a value for each message, null where one has none.
func messagesProperties(messages []*azservicebus.ReceivedMessage) map[string][]any {
	all := map[string][]any{}
	for n, m := range messages {
		for name, value := range messageProperties(m) {
			if all[name] == nil {
				all[name] = make([]any, len(messages))
			}
			all[name][n] = value
		}
	}
	return all
}
