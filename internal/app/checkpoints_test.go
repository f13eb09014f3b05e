package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/internal/config"
)

// A checkpoint whose answer is lost is written again; it doesn't hold up the loop until its deadline.
func TestCheckpointWhoseAnswerIsLost(t *testing.T) {
	var puts atomic.Int64
	release := make(chan struct{})
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead: // the container is looked for
			w.Header().Set("x-ms-error-code", "BlobNotFound")
			w.WriteHeader(http.StatusNotFound)
		case puts.Add(1) == 1:
			<-release
		default:
			w.Header().Set("ETag", `"1"`)
		}
	}))
	defer storage.Close()
	defer close(release)
	kept, err := openCheckpoints(t.Context(), config.Checkpoint{Container: "checkpoints", Connection: config.Connection{
		ConnectionString: config.Secret("AccountName=account;AccountKey=a2V5;BlobEndpoint=" + storage.URL + "/account;"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	sequence, offset := int64(1), "1"
	err = kept.SetCheckpoint(ctx, azeventhubs.Checkpoint{
		FullyQualifiedNamespace: "n", EventHubName: "h", ConsumerGroup: "g", PartitionID: "0", SequenceNumber: &sequence, Offset: &offset,
	}, nil)
	if err != nil || puts.Load() != 2 {
		t.Errorf("%d attempts: %v", puts.Load(), err)
	}
}
