package eventhub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// Checkpoints keeps how far each partition is stored. It is the part of [azeventhubs.CheckpointStore]
// that is used here, so the client's own store in Blob Storage (azeventhubs/checkpoints) is one: what it
// writes, other consumers and KEDA's blobMetadata strategy read. Ownership is not: the invoker assigns
// partitions, and the service's owner levels keep zombies out.
type Checkpoints interface {
	ListCheckpoints(ctx context.Context, namespace, eventHub, consumerGroup string, o *azeventhubs.ListCheckpointsOptions) ([]azeventhubs.Checkpoint, error)
	SetCheckpoint(ctx context.Context, c azeventhubs.Checkpoint, o *azeventhubs.SetCheckpointOptions) error
}

// DirCheckpoints keeps checkpoints in a local directory, one file each, under the names that the blobs
// would have: namespace/hub/group/checkpoint/partition, each segment escaped. Several processes may share it.
type DirCheckpoints string

type checkpointFile struct {
	SequenceNumber string `json:"sequencenumber"`
	Offset         string `json:"offset"`
}

// ListCheckpoints implements [Checkpoints].
func (d DirCheckpoints) ListCheckpoints(_ context.Context, namespace, eventHub, group string, _ *azeventhubs.ListCheckpointsOptions) ([]azeventhubs.Checkpoint, error) {
	dir := d.dir(namespace, eventHub, group)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var list []azeventhubs.Checkpoint
	for _, entry := range entries {
		partition, err := url.PathUnescape(entry.Name())
		if err != nil || entry.Name()[0] == '.' {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		var file checkpointFile
		if err := json.Unmarshal(content, &file); err != nil {
			return nil, fmt.Errorf("read checkpoint %s: %w; remove the file to start from EVENT_HUB_START", filepath.Join(dir, entry.Name()), err)
		}
		sequence, err := strconv.ParseInt(file.SequenceNumber, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read checkpoint %s: sequencenumber is not a number; remove the file to start from EVENT_HUB_START", filepath.Join(dir, entry.Name()))
		}
		list = append(list, azeventhubs.Checkpoint{
			FullyQualifiedNamespace: namespace, EventHubName: eventHub, ConsumerGroup: group, PartitionID: partition,
			SequenceNumber: &sequence, Offset: &file.Offset,
		})
	}
	return list, nil
}

// SetCheckpoint implements [Checkpoints]; the file is replaced at once and durable when it returns.
func (d DirCheckpoints) SetCheckpoint(_ context.Context, c azeventhubs.Checkpoint, _ *azeventhubs.SetCheckpointOptions) error {
	if c.SequenceNumber == nil || c.Offset == nil || c.PartitionID == "" {
		return errors.New("set checkpoint: partition, sequence number and offset are all needed")
	}
	dir := d.dir(c.FullyQualifiedNamespace, c.EventHubName, c.ConsumerGroup)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("set checkpoint: %w", err)
	}
	content, err := json.Marshal(checkpointFile{SequenceNumber: strconv.FormatInt(*c.SequenceNumber, 10), Offset: *c.Offset})
	if err != nil {
		return fmt.Errorf("set checkpoint: %w", err)
	}
	return replaceFile(dir, url.PathEscape(c.PartitionID), content)
}

func (d DirCheckpoints) dir(namespace, eventHub, group string) string {
	return filepath.Join(string(d), url.PathEscape(namespace), url.PathEscape(eventHub), url.PathEscape(group), "checkpoint")
}

// replaceFile writes a file in a way that leaves the old content or the new, whatever happens.
func replaceFile(dir, name string, content []byte) error {
	temporary, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("set checkpoint: %w", err)
	}
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return fmt.Errorf("set checkpoint: %w", err)
	}
	return nil
}
