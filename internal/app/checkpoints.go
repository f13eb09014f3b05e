package app

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/pull/eventhub"
)

// patientCheckpoints asks storage that is down again for as long as ctx lasts, as package store does for
// blobs, and gives up an attempt that gets no answer. The client's own store tries four times in some ten
// seconds, and waits for a lost answer until ctx ends.
type patientCheckpoints struct{ eventhub.Checkpoints }

func (p patientCheckpoints) ListCheckpoints(ctx context.Context, namespace, eventHub, group string, o *azeventhubs.ListCheckpointsOptions) ([]azeventhubs.Checkpoint, error) {
	return p.Checkpoints.ListCheckpoints(patient(ctx), namespace, eventHub, group, o)
}

func (p patientCheckpoints) SetCheckpoint(ctx context.Context, c azeventhubs.Checkpoint, o *azeventhubs.SetCheckpointOptions) error {
	return p.Checkpoints.SetCheckpoint(patient(ctx), c, o)
}

func patient(ctx context.Context) context.Context {
	try := 15 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		try = min(try, max(time.Until(deadline)/3, time.Second))
	}
	return policy.WithRetryOptions(ctx, policy.RetryOptions{
		MaxRetries: 120, TryTimeout: try, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 4 * time.Second,
	})
}

// sharedCheckpoints keeps checkpoints under the names that other programs look for: all in lower case,
// "$default" included, as the SDKs for Python, .NET and Java write them, and as KEDA's blobMetadata strategy
// reads them (pkg/scalers/azure/azure_eventhub_checkpoint.go). The client's own store takes names as they
// are given. To the service a name is the same in any case.
type sharedCheckpoints struct{ eventhub.Checkpoints }

func (s sharedCheckpoints) ListCheckpoints(ctx context.Context, namespace, eventHub, group string, o *azeventhubs.ListCheckpointsOptions) ([]azeventhubs.Checkpoint, error) {
	return s.Checkpoints.ListCheckpoints(ctx, strings.ToLower(namespace), strings.ToLower(eventHub), strings.ToLower(group), o)
}

func (s sharedCheckpoints) SetCheckpoint(ctx context.Context, c azeventhubs.Checkpoint, o *azeventhubs.SetCheckpointOptions) error {
	c.FullyQualifiedNamespace = strings.ToLower(c.FullyQualifiedNamespace)
	c.EventHubName = strings.ToLower(c.EventHubName)
	c.ConsumerGroup = strings.ToLower(c.ConsumerGroup)
	return s.Checkpoints.SetCheckpoint(ctx, c, o)
}
