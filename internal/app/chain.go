package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/queueerror"

	"persistor/internal/backfill"
	"persistor/internal/config"
)

// developmentQueues is what UseDevelopmentStorage=true stands for.
// https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
const developmentQueues = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;" +
	"AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;" +
	"QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"

// queueChain asks for waves by messages in a queue of Azure Storage, which the Functions host brings to the function
// backfill. They are JSON as it is, as host.json has it (messageEncoding none).
type queueChain struct {
	queue *azqueue.QueueClient
	name  string
}

// newQueueChain makes a chain; nothing is asked of the service yet.
func newQueueChain(c config.Connection, runs config.Runs) (*queueChain, error) {
	service, err := openQueues(c, runs)
	if err != nil {
		return nil, fmt.Errorf("connect to queue %s (PERSISTOR_BACKFILL_QUEUE): %w", runs.Queue, err)
	}
	return &queueChain{service.NewQueueClient(runs.Queue), runs.Queue}, nil
}

func openQueues(c config.Connection, runs config.Runs) (*azqueue.ServiceClient, error) {
	if text := c.ConnectionString.Reveal(); text != "" {
		if strings.EqualFold(strings.TrimRight(text, ";"), "UseDevelopmentStorage=true") {
			text = developmentQueues
		}
		return azqueue.NewServiceClientFromConnectionString(text, nil)
	}
	uri := runs.QueueService
	if uri == "" {
		uri = strings.Replace(c.BlobServiceURI, ".blob.", ".queue.", 1)
	}
	token, err := c.TokenCredential()
	if err != nil {
		return nil, err
	}
	return azqueue.NewServiceClient(uri, token, nil)
}

// Ask implements [backfill.Chain]. It creates the queue if it is missing. An answer that was lost can have a wave asked
// for twice, which does no harm.
func (q *queueChain) Ask(ctx context.Context, m backfill.Message, after time.Duration) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	seconds := int32((max(after, 0) + time.Second - 1) / time.Second)
	o := &azqueue.EnqueueMessageOptions{VisibilityTimeout: &seconds}
	_, err = q.queue.EnqueueMessage(patient(ctx), string(text), o)
	if queueerror.HasCode(err, queueerror.QueueNotFound) {
		if _, err = q.queue.Create(patient(ctx), nil); err == nil || queueerror.HasCode(err, queueerror.QueueAlreadyExists) {
			_, err = q.queue.EnqueueMessage(patient(ctx), string(text), o)
		}
	}
	if err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("send to queue %s: %s; the invoker needs the right to create queues and to send (role Storage Queue Data Contributor)", q.name, line)
	}
	return nil
}
