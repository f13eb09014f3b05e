package servicebus

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"persistor/emulator"
)

// redirect sends what goes to a namespace's management, which is HTTPS, to the emulator's.
type redirect string

func (r redirect) Do(request *http.Request) (*http.Response, error) {
	to, err := url.Parse(string(r))
	if err != nil {
		return nil, err
	}
	request.URL.Scheme, request.URL.Host = to.Scheme, to.Host
	return http.DefaultClient.Do(request)
}

func TestBacklogTakesTheRightToManage(t *testing.T) {
	listen := emulator.Key{Name: "listen", Value: "bGlzdGVuIGFuZCBub3RoaW5nIGVsc2U=", Listen: true}
	e, err := emulator.Start(emulator.Options{
		Queues: []emulator.Queue{{Name: "orders"}}, Keys: []emulator.Key{listen},
		Topics: []emulator.Topic{{Name: "events", Subscriptions: []emulator.Subscription{{Name: "audit"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	managed := httptest.NewServer(e.AdminHandler())
	defer managed.Close()
	for path, n := range map[string]int{"orders": 3, "orders/$DeadLetterQueue": 2, "events": 4} {
		if err := e.PutMessages(path, make([]emulator.QueueMessage, n)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name       string
		options    Options
		connection string
		want       int64
		says       string
	}{
		{"queue", Options{Queue: "orders"}, e.ConnectionString(), 3, ""},
		{"dead-letter queue", Options{Queue: "orders", DeadLetter: true}, e.ConnectionString(), 2, ""},
		{"subscription", Options{Topic: "events", Subscription: "audit"}, e.ConnectionString(), 4, ""},
		{"no right", Options{Queue: "orders"}, e.ConnectionStringFor(listen.Name, listen.Value), 0, ErrNoRight.Error()},
		{"unknown queue", Options{Queue: "nothere"}, e.ConnectionString(), 0, "SERVICE_BUS_QUEUE_NAME"},
		{"unknown subscription", Options{Topic: "events", Subscription: "nothere"}, e.ConnectionString(), 0, "SERVICE_BUS_SUB_NAME"},
	} {
		o := test.options
		o.ConnectionString, o.ManageBy = test.connection, redirect(managed.URL)
		entity, err := Connect(o)
		if err != nil {
			t.Fatal(err)
		}
		n, err := entity.Backlog(t.Context())
		switch {
		case test.says == "" && (err != nil || n != test.want):
			t.Errorf("%s: %d, %v", test.name, n, err)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, expected one line with %q", test.name, err, test.says)
		}
		entity.Close(t.Context())
	}

	// An emulator has no HTTPS: that is known without trying.
	entity, err := Connect(Options{Queue: "orders", ConnectionString: e.ConnectionString()})
	if err != nil {
		t.Fatal(err)
	}
	defer entity.Close(t.Context())
	if _, err := entity.Backlog(t.Context()); !errors.Is(err, ErrNoRight) {
		t.Error(err)
	}
}
