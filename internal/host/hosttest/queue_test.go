package hosttest

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"

	"persistor/internal/azurite/azuritetest"
)

const queueFunction = `{"bindings":[{"type":"queueTrigger","direction":"in","name":"request","queueName":"%QUEUE%","connection":"STORAGE"}]}`

func TestQueue(t *testing.T) {
	t.Parallel()
	storage := azuritetest.Run(t)
	name := azuritetest.Container(t)
	service, err := azqueue.NewServiceClientFromConnectionString(storage, nil)
	if err != nil {
		t.Fatal(err)
	}
	queue, poison := service.NewQueueClient(name), service.NewQueueClient(name+"-poison")
	if _, err := queue.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	a := newApp(t, "queue", queueFunction, `"extensions":{"queues":{"maxDequeueCount":2}},"customHandler":{"description":{"defaultExecutablePath":"handler"}}`)
	h := run(t, a.with("STORAGE="+storage, "QUEUE="+name))
	for n, body := range []string{`{"N":2,"Id":"spoofed"}`, "fail"} {
		if _, err := queue.EnqueueMessage(t.Context(), base64.StdEncoding.EncodeToString([]byte(body)), nil); err != nil {
			t.Fatal(err)
		}
		await(t, h, 1+2*n)
	}
	got := a.kept(t)
	if string(got[0].Data["request"]) != `"\"{\\\"N\\\":2,\\\"Id\\\":\\\"spoofed\\\"}\""` {
		t.Errorf("data %s", got[0].Data["request"])
	}
	for name, want := range map[string]string{"DequeueCount": `"1"`, "Id": `"\"spoofed\""`, "N": `"\"2\""`} {
		if string(got[0].Metadata[name]) != want {
			t.Errorf("%s is %s, want %s", name, got[0].Metadata[name], want)
		}
	}
	if _, there := got[0].Metadata["QueueTrigger"]; there || !strings.HasSuffix(string(got[0].Metadata["InsertionTime"]), `+00:00"`) {
		t.Errorf("%s", got[0].Metadata)
	}
	if string(got[2].Metadata["DequeueCount"]) != `"2"` {
		t.Errorf("%s", got[2].Metadata)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		peeked, err := poison.PeekMessage(t.Context(), nil)
		if err == nil && len(peeked.Messages) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing in the poison queue: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(h.Results()); n != 3 {
		t.Errorf("%d invocations", n)
	}
}
