package app

import (
	"context"
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
