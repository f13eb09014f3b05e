package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/audit"
	"persistor/internal/config"
	"persistor/internal/pull/eventhub"
	"persistor/internal/record"
	"persistor/internal/work"
)

// ExpectOfHub asks an Event Hub and its checkpoints what should be stored of it. The expectation asks the hub again
// when the audit has listed what is stored; close is called after that. It changes nothing, and creates no container.
func ExpectOfHub(ctx context.Context, d config.Drained) (expect audit.Expectation, closing func(context.Context) error, err error) {
	var checkpoints eventhub.Checkpoints = noCheckpoints{}
	if d.Checkpoint.Container != "" {
		opened, err := openStore(ctx, d.Checkpoint.Connection, d.Checkpoint.Container, false)
		if err != nil {
			return expect, nil, fmt.Errorf("open checkpoints (EVENT_HUB_CHECKPOINT_CONTAINER): %w", err)
		}
		if checkpoints, err = checkpointsIn(opened); err != nil {
			return expect, nil, err
		}
	}
	hub, err := connectHub(d.Hub, checkpoints, 0, 0)
	if err != nil {
		return expect, nil, err
	}
	states, err := hub.Partitions(ctx)
	if err != nil {
		closeWithin(hub.Close, 2*time.Second)
		return expect, nil, err
	}
	expect = audit.Expectation{
		Hub:         record.HubText(d.Hub.Connection.Namespace(), d.Hub.Name),
		Partitions:  rangesOf(states),
		Checkpoints: make(map[string]int64),
		Late:        d.Start.Position == "latest" || d.Start.Position == "time",
		Refresh: func(ctx context.Context) (map[string]work.Range, error) {
			states, err := hub.Partitions(ctx)
			return rangesOf(states), err
		},
	}
	for _, s := range states {
		if s.Checkpoint != nil {
			expect.Checkpoints[s.ID] = *s.Checkpoint
		}
	}
	return expect, hub.Close, nil
}

// rangesOf are the sequence numbers that a hub has in each partition. In an empty one they end before they begin.
func rangesOf(states []eventhub.Partition) map[string]work.Range {
	ranges := make(map[string]work.Range, len(states))
	for _, s := range states {
		if ranges[s.ID] = (work.Range{From: s.First, To: s.Last}); s.Empty {
			ranges[s.ID] = work.Range{From: s.Last + 1, To: s.Last}
		}
	}
	return ranges
}

// noCheckpoints are those of whoever keeps them elsewhere, such as the Functions host.
type noCheckpoints struct{}

func (noCheckpoints) ListCheckpoints(context.Context, string, string, string, *azeventhubs.ListCheckpointsOptions) ([]azeventhubs.Checkpoint, error) {
	return nil, nil
}

func (noCheckpoints) SetCheckpoint(context.Context, azeventhubs.Checkpoint, *azeventhubs.SetCheckpointOptions) error {
	return errors.New("set checkpoint: none are kept here")
}
