package hosttest

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/queueerror"
)

// queueOptions are extensions.queues of host.json; the zero value is the host's default.
type queueOptions struct {
	BatchSize, MaxDequeueCount *int
	VisibilityTimeout          *string // after a failure
	MessageEncoding            string
}

const (
	queuePoll = 50 * time.Millisecond // the host waits up to a minute in a quiet queue
	queueLock = 10 * time.Minute      // for which a message that is being processed isn't seen
)

// queueListener polls a queue of Azure Storage, for one function.
type queueListener struct {
	host       *Host
	function   *function
	queue      *azqueue.QueueClient
	poison     *azqueue.QueueClient
	batch      int
	deliveries int64
	again      time.Duration // before a message that failed is seen again
	text       bool          // messages are not base64
}

// listenQueue connects to the trigger's queue, which need not be there yet.
func (h *Host) listenQueue(_ context.Context, f *function) (func(context.Context), error) {
	text, err := h.app.settings.connection(f.trigger.Connection)
	if err != nil {
		return nil, err
	}
	service, err := azqueue.NewServiceClientFromConnectionString(text, nil)
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", f.trigger.Connection, err)
	}
	options := h.app.host.Extensions.Queues
	l := &queueListener{
		host: h, function: f, queue: service.NewQueueClient(f.trigger.QueueName), poison: service.NewQueueClient(f.trigger.QueueName + "-poison"),
		batch: orElse(options.BatchSize, 16), deliveries: int64(orElse(options.MaxDequeueCount, 5)), text: strings.EqualFold(options.MessageEncoding, "none"),
	}
	if l.batch < 1 || l.batch > 32 {
		return nil, fmt.Errorf("host.json: queues.batchSize is %d: want 1 to 32", l.batch)
	}
	if err := timeSpan(options.VisibilityTimeout, &l.again); err != nil {
		return nil, fmt.Errorf("host.json: queues.visibilityTimeout: %w", err)
	}
	return l.run, nil
}

// run polls until ctx ends; what it has taken runs at once, a batch at most.
func (l *queueListener) run(ctx context.Context) {
	poll := time.NewTicker(queuePoll)
	defer poll.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	free := make(chan struct{}, l.batch)
	for {
		free <- struct{}{}
		most := int32(1 + cap(free) - len(free))
		<-free
		got, err := l.queue.DequeueMessages(ctx, &azqueue.DequeueMessagesOptions{
			NumberOfMessages: to.Ptr(min(most, 32)), VisibilityTimeout: to.Ptr(int32(queueLock.Seconds())),
		})
		if err != nil && !queueerror.HasCode(err, queueerror.QueueNotFound) && ctx.Err() == nil {
			l.host.log.Info("a queue can't be read", "function", l.function.name, "error", err)
		}
		for _, m := range got.Messages {
			free <- struct{}{}
			running.Go(func() { defer func() { <-free }(); l.deliver(ctx, m) })
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// deliver calls the function, and removes the message, gives it back, or moves it to the poison queue.
func (l *queueListener) deliver(ctx context.Context, m *azqueue.DequeuedMessage) {
	err := l.invoke(ctx, m)
	settling, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	switch {
	case err == nil:
	case *m.DequeueCount >= l.deliveries:
		_, _ = l.poison.Create(settling, nil)
		if _, err := l.poison.EnqueueMessage(settling, *m.MessageText, nil); err != nil {
			l.host.log.Info("a message could not be moved to the poison queue", "function", l.function.name, "error", err)
			return
		}
	default:
		_, err := l.queue.UpdateMessage(settling, *m.MessageID, *m.PopReceipt, *m.MessageText, &azqueue.UpdateMessageOptions{
			VisibilityTimeout: to.Ptr(int32(l.again.Seconds())),
		})
		if err != nil {
			l.host.log.Info("a message could not be given back", "function", l.function.name, "error", err)
		}
		return
	}
	if _, err := l.queue.DeleteMessage(settling, *m.MessageID, *m.PopReceipt, nil); err != nil {
		l.host.log.Info("a message could not be removed", "function", l.function.name, "error", err)
	}
	l.host.mu.Lock()
	l.host.notify()
	l.host.mu.Unlock()
}

func (l *queueListener) invoke(ctx context.Context, m *azqueue.DequeuedMessage) error {
	body := []byte(*m.MessageText)
	if !l.text {
		decoded, err := base64.StdEncoding.DecodeString(*m.MessageText)
		if err != nil {
			err = fmt.Errorf("bind %s: the message is no base64: %w", l.function.trigger.Name, err)
			l.host.record(Result{Function: l.function.name, ID: newID(), Began: time.Now(), Source: l.function.trigger.QueueName, Err: err})
			return err
		}
		body = decoded
	}
	data := bindingData{
		"QueueTrigger": string(body), "Id": *m.MessageID, "PopReceipt": *m.PopReceipt, "DequeueCount": *m.DequeueCount,
		"ExpirationTime": offsetTime(*m.ExpirationTime), "InsertionTime": offsetTime(*m.InsertionTime), "NextVisibleTime": offsetTime(*m.TimeNextVisible),
	}
	if !l.function.trigger.binary() {
		applyPayload(data, string(body))
	}
	_, err := l.host.execute(ctx, call{function: l.function, source: l.function.trigger.QueueName, data: messageData(l.function.trigger, body), metadata: data})
	return err
}
