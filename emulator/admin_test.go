package emulator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/google/go-cmp/cmp"

	"persistor/emulator"
)

// adminTransport takes requests for https://<the connection string's host>/ to the emulator's handler.
type adminTransport struct{ server *httptest.Server }

func (a adminTransport) Do(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context()) // its Host stays, as a proxy's would
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(a.server.URL, "http://")
	return a.server.Client().Do(r)
}

// adminOptions are those of a client that reaches an emulator's handler, and reports an error at once.
func adminOptions(t testing.TB, e *emulator.Emulator) azcore.ClientOptions {
	t.Helper()
	server := httptest.NewServer(e.AdminHandler())
	t.Cleanup(server.Close)
	return azcore.ClientOptions{Transport: adminTransport{server}, Retry: policy.RetryOptions{MaxRetries: -1}}
}

func newAdmin(t testing.TB, e *emulator.Emulator, connectionString string) *admin.Client {
	t.Helper()
	c, err := admin.NewClientFromConnectionString(connectionString, &admin.ClientOptions{ClientOptions: adminOptions(t, e)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var epoch = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func runAdmin(t testing.TB) *emulator.Emulator {
	return run(t, emulator.Options{
		Queues: []emulator.Queue{
			{
				Name: "Orders", LockDuration: 90 * time.Second, MaxDeliveryCount: 3, TTL: 26 * time.Hour, DeadLetterOnExpiration: true,
				DuplicateDetection: 20 * time.Second, MaxMessageSize: 2 << 20, MaxSize: 5<<20 + 1,
			},
			{Name: "journeys", Sessions: true},
			{Name: "deep/er"},
		},
		Topics: []emulator.Topic{{Name: "prices", DuplicateDetection: time.Hour, Subscriptions: []emulator.Subscription{
			{Name: "audit", Sessions: true, LockDuration: 30 * time.Second, MaxDeliveryCount: 7, TTL: time.Minute},
			{Name: "cheap", Rules: []emulator.Rule{
				{Name: "a", Filter: emulator.SQLFilter{Expression: "price < 10"}}, {Name: "b", Filter: emulator.CorrelationFilter{Subject: "x"}},
			}},
		}}},
		Keys: []emulator.Key{{Name: "reader", Value: "a", Send: true, Listen: true}, {Name: "manager", Value: "b", Manage: true}},
		Now:  func() time.Time { return epoch },
	})
}

func TestAdminProperties(t *testing.T) {
	t.Parallel()
	e := runAdmin(t)
	c := newAdmin(t, e, e.ConnectionString())
	const forever = "P10675199DT2H48M5.4775807S"
	active := admin.EntityStatusActive

	namespace, err := c.GetNamespaceProperties(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(admin.NamespaceProperties{CreatedTime: epoch, ModifiedTime: epoch, SKU: "Standard", Name: e.Address()}, namespace.NamespaceProperties); diff != "" {
		t.Errorf("namespace (-want +got):\n%s", diff)
	}

	queue, err := c.GetQueue(t.Context(), "orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantQueue := admin.QueueProperties{
		LockDuration: ptr("PT1M30S"), MaxSizeInMegabytes: ptr(int32(6)), RequiresDuplicateDetection: ptr(true), RequiresSession: ptr(false),
		DefaultMessageTimeToLive: ptr("P1DT2H"), DeadLetteringOnMessageExpiration: ptr(true), DuplicateDetectionHistoryTimeWindow: ptr("PT20S"),
		MaxDeliveryCount: ptr(int32(3)), EnableBatchedOperations: ptr(true), Status: &active, AutoDeleteOnIdle: ptr(forever),
		EnablePartitioning: ptr(false), MaxMessageSizeInKilobytes: ptr(int64(2048)),
	}
	if diff := cmp.Diff(wantQueue, queue.QueueProperties); diff != "" {
		t.Errorf("queue (-want +got):\n%s", diff)
	}
	queue, err = c.GetQueue(t.Context(), "JOURNEYS", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantQueue.RequiresSession, wantQueue.RequiresDuplicateDetection, wantQueue.DeadLetteringOnMessageExpiration = ptr(true), ptr(false), ptr(false)
	wantQueue.LockDuration, wantQueue.MaxSizeInMegabytes, wantQueue.DefaultMessageTimeToLive = ptr("PT1M"), ptr(int32(81920)), ptr(forever)
	wantQueue.DuplicateDetectionHistoryTimeWindow, wantQueue.MaxDeliveryCount, wantQueue.MaxMessageSizeInKilobytes = ptr("PT10M"), ptr(int32(10)), ptr(int64(1024))
	if diff := cmp.Diff(wantQueue, queue.QueueProperties); diff != "" {
		t.Errorf("queue with defaults (-want +got):\n%s", diff)
	}

	topic, err := c.GetTopic(t.Context(), "prices", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTopic := admin.TopicProperties{
		MaxSizeInMegabytes: ptr(int32(81920)), RequiresDuplicateDetection: ptr(true), DefaultMessageTimeToLive: ptr(forever),
		DuplicateDetectionHistoryTimeWindow: ptr("PT1H"), EnableBatchedOperations: ptr(true), Status: &active, AutoDeleteOnIdle: ptr(forever),
		EnablePartitioning: ptr(false), SupportOrdering: ptr(true), MaxMessageSizeInKilobytes: ptr(int64(1024)),
	}
	if diff := cmp.Diff(wantTopic, topic.TopicProperties); diff != "" {
		t.Errorf("topic (-want +got):\n%s", diff)
	}

	subscription, err := c.GetSubscription(t.Context(), "prices", "audit", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantSubscription := admin.SubscriptionProperties{
		LockDuration: ptr("PT30S"), RequiresSession: ptr(true), DefaultMessageTimeToLive: ptr("PT1M"), DeadLetteringOnMessageExpiration: ptr(false),
		EnableDeadLetteringOnFilterEvaluationExceptions: ptr(false), MaxDeliveryCount: ptr(int32(7)), Status: &active,
		AutoDeleteOnIdle: ptr(forever), EnableBatchedOperations: ptr(true),
	}
	if diff := cmp.Diff(wantSubscription, subscription.SubscriptionProperties); diff != "" {
		t.Errorf("subscription (-want +got):\n%s", diff)
	}
	if deep, err := c.GetQueue(t.Context(), "deep/er", nil); err != nil || deep == nil {
		t.Errorf("a queue with a slash in its name: %v, %v", deep, err)
	}

	if err := e.SetDisabled("orders", true); err != nil {
		t.Fatal(err)
	}
	if queue, err = c.GetQueue(t.Context(), "orders", nil); err != nil || *queue.Status != admin.EntityStatusDisabled {
		t.Errorf("a disabled queue: %v, %v", queue, err)
	}
}

func TestAdminCounts(t *testing.T) {
	t.Parallel()
	e := runAdmin(t)
	c := newAdmin(t, e, e.ConnectionString())
	bus := newBus(t, e, sbAtOnce)
	put(t, e, "Orders", "one", "two", "three", "four", "five", "six")
	if _, err := newBusSender(t, bus, "orders").ScheduleMessages(withTimeout(t), []*azservicebus.Message{text("later"), text("later still")}, epoch.Add(time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	r := newBusReceiver(t, bus, "orders", peekLock)
	received, err := r.ReceiveMessages(withTimeout(t), 4, nil)
	if err != nil || len(received) != 4 {
		t.Fatalf("%d messages, %v", len(received), err)
	}
	// One is gone, one is dead, one deferred, one stays locked, and two nobody has.
	for i, err := range []error{
		r.CompleteMessage(withTimeout(t), received[0], nil), r.DeadLetterMessage(withTimeout(t), received[1], nil), r.DeferMessage(withTimeout(t), received[2], nil),
	} {
		if err != nil {
			t.Fatalf("settle message %d: %v", i, err)
		}
	}
	got, err := c.GetQueueRuntimeProperties(t.Context(), "orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.SizeInBytes < 100 {
		t.Errorf("%d bytes", got.SizeInBytes)
	}
	got.SizeInBytes = 0
	want := admin.QueueRuntimeProperties{
		CreatedAt: epoch, UpdatedAt: epoch, AccessedAt: epoch,
		TotalMessageCount: 7, ActiveMessageCount: 4, DeadLetterMessageCount: 1, ScheduledMessageCount: 2,
	}
	if diff := cmp.Diff(want, got.QueueRuntimeProperties); diff != "" {
		t.Errorf("queue (-want +got):\n%s", diff)
	}

	sender := newBusSender(t, bus, "prices")
	for _, price := range []int{5, 15} {
		m := text("price", "s1")
		m.ApplicationProperties = map[string]any{"price": price}
		sendTo(t, sender, m)
	}
	for name, want := range map[string]int32{"audit": 2, "cheap": 1} {
		got, err := c.GetSubscriptionRuntimeProperties(t.Context(), "prices", name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(admin.SubscriptionRuntimeProperties{
			TotalMessageCount: int64(want), ActiveMessageCount: want, AccessedAt: epoch, CreatedAt: epoch, UpdatedAt: epoch,
		}, got.SubscriptionRuntimeProperties); diff != "" {
			t.Errorf("subscription %s (-want +got):\n%s", name, diff)
		}
	}
	topic, err := c.GetTopicRuntimeProperties(t.Context(), "prices", nil)
	if err != nil {
		t.Fatal(err)
	}
	if topic.SubscriptionCount != 2 || topic.SQLFilterCount != 2 || topic.CorrelationFilterCount != 1 || topic.SizeInBytes < 10 {
		t.Errorf("topic: %+v", topic.TopicRuntimeProperties)
	}
}

// What is not there is nil and no error to the client, as with the service; hubs and sub-queues are no entities here.
func TestAdminMissing(t *testing.T) {
	t.Parallel()
	e := runAdmin(t)
	c := newAdmin(t, e, e.ConnectionString())
	for _, name := range []string{"missing", hub, "orders/$DeadLetterQueue", "prices/Subscriptions/audit/$DeadLetterQueue", ""} {
		if got, err := c.GetQueue(t.Context(), name, nil); got != nil || err != nil {
			t.Errorf("queue %q: %v, %v", name, got, err)
		}
		if got, err := c.GetQueueRuntimeProperties(t.Context(), name, nil); got != nil || err != nil {
			t.Errorf("counts of queue %q: %v, %v", name, got, err)
		}
	}
	if got, err := c.GetTopic(t.Context(), "missing", nil); got != nil || err != nil {
		t.Errorf("topic: %v, %v", got, err)
	}
	if got, err := c.GetSubscription(t.Context(), "prices", "missing", nil); got != nil || err != nil {
		t.Errorf("subscription: %v, %v", got, err)
	}
	if got, err := c.GetSubscriptionRuntimeProperties(t.Context(), "orders", "missing", nil); got != nil || err != nil {
		t.Errorf("counts of a subscription: %v, %v", got, err)
	}
}

// A key without the right to manage is told so in the service's words, a wrong one that it is wrong.
func TestAdminRights(t *testing.T) {
	t.Parallel()
	e := runAdmin(t)
	for connection, want := range map[string]string{
		e.ConnectionStringFor("manager", "b"): "",
		e.ConnectionStringFor("reader", "a"):  "<Error><Code>401</Code><Detail>Manage,EntityRead claims required for this operation.</Detail></Error>",
		e.ConnectionStringFor("reader", "x"):  "<Detail>InvalidSignature: The token has an invalid signature.</Detail>",
		e.ConnectionStringFor("nobody", "a"):  "<Detail>InvalidSignature: The token has an invalid signature.</Detail>",
	} {
		_, err := newAdmin(t, e, connection).GetQueueRuntimeProperties(t.Context(), "orders", nil)
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		wantResponse(t, err, http.StatusUnauthorized, want)
	}
}

func wantResponse(t *testing.T, err error, status int, body string) {
	t.Helper()
	response, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || response.StatusCode != status {
		t.Errorf("got %v, want status %d", err, status)
		return
	}
	got, err := io.ReadAll(response.RawResponse.Body)
	if err != nil || !strings.Contains(string(got), body) {
		t.Errorf("got %s, %v; want %s", got, err, body)
	}
}

// A token can be for the namespace, for the entity, or for the request; one for something else does not do.
func TestAdminTokens(t *testing.T) {
	t.Parallel()
	e := runAdmin(t)
	server := httptest.NewServer(e.AdminHandler())
	defer server.Close()
	sas := func(resource string) string { return signed(resource, "manager", "b", epoch.Add(time.Hour)) }
	for token, want := range map[string]int{
		sas("https://" + e.Address()):                                200,
		sas("https://" + e.Address() + "/"):                          200,
		sas("sb://" + e.Address() + "/orders"):                       200,
		sas("https://" + e.Address() + "/orders?api-version=x"):      200,
		sas("https://" + e.Address() + "/journeys"):                  401,
		sas("https://elsewhere/orders"):                              401,
		"":                                                           401,
		"Bearer eyJ0eXAiOiJKV1QifQ.e30.c2ln":                         401,
		strings.Repeat("SharedAccessSignature sr=x&sig=y&se=z", 200): 401,
	} {
		r, err := http.NewRequest(http.MethodGet, server.URL+"/orders?api-version=x", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = e.Address()
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%.80s: status %d, want %d", token, response.StatusCode, want)
		}
	}
}

// With any token allowed an identity does too.
func TestAdminAnyToken(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{AllowAnyToken: true, Queues: []emulator.Queue{{Name: queueName}}})
	c, err := admin.NewClient(e.Address(), anyIdentity{}, &admin.ClientOptions{ClientOptions: adminOptions(t, e)})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetQueue(t.Context(), queueName, nil); got == nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

type anyIdentity struct{}

func (anyIdentity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "opaque", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// Whatever would change the namespace, and what is left out, is refused clearly.
func TestAdminLeftOut(t *testing.T) {
	t.Parallel()
	e := runAdmin(t)
	c := newAdmin(t, e, e.ConnectionString())
	const readOnly, leftOut = "can&#39;t be changed", "no lists and no rules"
	_, err := c.CreateQueue(t.Context(), "more", nil)
	wantResponse(t, err, http.StatusMethodNotAllowed, readOnly)
	_, err = c.DeleteQueue(t.Context(), "orders", nil)
	wantResponse(t, err, http.StatusMethodNotAllowed, readOnly)
	_, err = c.UpdateTopic(t.Context(), "prices", admin.TopicProperties{}, nil)
	wantResponse(t, err, http.StatusMethodNotAllowed, readOnly)
	_, err = c.NewListQueuesPager(nil).NextPage(t.Context())
	wantResponse(t, err, http.StatusNotImplemented, leftOut)
	_, err = c.NewListSubscriptionsPager("prices", nil).NextPage(t.Context())
	wantResponse(t, err, http.StatusNotImplemented, leftOut)
	_, err = c.NewListRulesPager("prices", "cheap", nil).NextPage(t.Context())
	wantResponse(t, err, http.StatusNotImplemented, leftOut)
	_, err = c.GetRule(t.Context(), "prices", "cheap", "a", nil)
	wantResponse(t, err, http.StatusNotImplemented, leftOut)
}
