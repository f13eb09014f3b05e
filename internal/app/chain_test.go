package app

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/backfill"
	"persistor/internal/config"
)

// A wave is asked for by a message that the host can read, in a queue that need not be there, for the time when it is due.
func TestQueueChain(t *testing.T) {
	t.Parallel()
	storage, name := azuritetest.Run(t), azuritetest.Container(t)
	connection := config.Connection{ConnectionString: config.Secret(storage)}
	chain, err := newQueueChain(connection, config.Runs{Queue: name})
	if err != nil {
		t.Fatal(err)
	}
	for wave, after := range []time.Duration{0, time.Hour, 0} {
		if err := chain.Ask(t.Context(), backfill.Message{Run: "r", Wave: wave}, after); err != nil {
			t.Fatal(err)
		}
	}
	service, err := azqueue.NewServiceClientFromConnectionString(storage, nil)
	if err != nil {
		t.Fatal(err)
	}
	most := int32(32)
	got, err := service.NewQueueClient(name).DequeueMessages(t.Context(), &azqueue.DequeueMessagesOptions{NumberOfMessages: &most})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range got.Messages {
		texts = append(texts, *m.MessageText)
	}
	if len(texts) != 2 || texts[0] != `{"run":"r","wave":0}` || texts[1] != `{"run":"r","wave":2}` {
		t.Errorf("%q", texts)
	}
}

// The queue is in the blobs' account, however that is named.
func TestQueueServiceOfAnAccount(t *testing.T) {
	for _, c := range []struct {
		connection config.Connection
		runs       config.Runs
		want       string
	}{
		{config.Connection{ConnectionString: "UseDevelopmentStorage=true"}, config.Runs{}, "http://127.0.0.1:10001/devstoreaccount1/"},
		{config.Connection{ConnectionString: "AccountName=a;AccountKey=aGk="}, config.Runs{}, "https://a.queue.core.windows.net/"},
		{config.Connection{BlobServiceURI: "https://a.blob.core.windows.net", Credential: "managedidentity"}, config.Runs{}, "https://a.queue.core.windows.net"},
		{config.Connection{BlobServiceURI: "https://a.blob.core.windows.net", Credential: "managedidentity"}, config.Runs{QueueService: "https://other.example"}, "https://other.example"},
	} {
		service, err := openQueues(c.connection, c.runs)
		if err != nil {
			t.Fatal(err)
		}
		if got := service.URL(); got != c.want {
			t.Errorf("%+v: %s, want %s", c, got, c.want)
		}
	}
}
