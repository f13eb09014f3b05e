package generate

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"

	"persistor/internal/azurite/azuritetest"
)

// An invoker's timer and queue start runs where the configuration asks for them, and are off elsewhere.
func TestInvokersTriggersRun(t *testing.T) {
	azurite := azuritetest.Run(t)
	name := azuritetest.Container(t) // a queue's name is made of the same letters
	service, err := azqueue.NewServiceClientFromConnectionString(azurite, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.CreateQueue(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, `apps:
  - {name: a, approach: pull, source: event-hub, invoker: {schedule: "0 0 * * * *", queue: `+name+`}}
  - {name: b, approach: pull, source: event-hub, invoker: true}`)
	workers := s.host(t, "a", "worker")
	settings := []string{"FUNC_TO_INVOKE", workers.URL() + "/api/pull?code=" + workers.FunctionKey(), "PERSISTOR_STORAGE_CONNECTION_STRING", azurite}
	invoker := s.host(t, "a-invoker", "invoker", settings...)

	s.put(t, 10)
	if err := invoker.Tick(t.Context(), "schedule"); err != nil {
		t.Error(err)
	}
	if all, _ := s.records(t); all != 10 {
		t.Errorf("%d messages are stored after the timer's run, want 10", all)
	}
	s.put(t, 10)
	if _, err := service.NewQueueClient(name).EnqueueMessage(t.Context(), `{"N": 1}`, nil); err != nil {
		t.Fatal(err)
	}
	await(t, invoker, func() bool { all, _ := s.records(t); return all == 20 })

	if err := s.host(t, "b-invoker", "invoker", settings...).Tick(t.Context(), "schedule"); err == nil {
		t.Error("the timer of an invoker that has none fired")
	}
}
