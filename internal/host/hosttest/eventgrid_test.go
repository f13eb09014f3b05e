package hosttest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

const (
	gridEvent  = `{"id":"1","topic":"/subscriptions/s","subject":"a","eventType":"t","eventTime":"2026-11-25T10:11:12Z","data":{"k":"v"},"dataVersion":"1"}`
	cloudEvent = `{"specversion":"1.0","id":"2","source":"/subscriptions/s","type":"t","data":[1]}`
)

func gridFunction(binding string) string {
	return `{"bindings":[{"type":"eventGridTrigger","direction":"in","name":"event"` + binding + `}]}`
}

func TestEventGrid(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), "")
	h := run(t, a.with())
	if err := h.Deliver(t.Context(), "persist", json.RawMessage(gridEvent)); err != nil {
		t.Fatal(err)
	}
	if err := h.Deliver(t.Context(), "persist", json.RawMessage(cloudEvent)); err != nil {
		t.Fatal(err)
	}
	got := a.kept(t)
	if string(got[0].Data["event"]) != gridEvent || string(got[0].Metadata["data"]) != `{"k":"v"}` || len(got[0].Metadata) != 2 {
		t.Errorf("%s", got[0])
	}
	if string(got[1].Data["event"]) != cloudEvent || string(got[1].Metadata["data"]) != `"[1]"` {
		t.Errorf("%s", got[1])
	}
	err := h.Deliver(t.Context(), "persist", json.RawMessage(gridEvent), json.RawMessage(`{"id":"3","data":"fail"}`))
	if err == nil || len(h.Results()) != 4 {
		t.Errorf("error %v after %d invocations", err, len(h.Results()))
	}

	many := newApp(t, "persist", gridFunction(`,"cardinality":"many"`), "")
	h = run(t, many.with())
	if err := h.Deliver(t.Context(), "persist", json.RawMessage(gridEvent), json.RawMessage(cloudEvent)); err != nil {
		t.Fatal(err)
	}
	var text string
	if err := json.Unmarshal(many.kept(t)[0].Data["event"], &text); err != nil || text != "["+gridEvent+","+cloudEvent+"]" {
		t.Errorf("error %v, %s", err, text)
	}
	if data := string(many.kept(t)[0].Metadata["data"]); data != `"[{\"k\":\"v\"},[1]]"` {
		t.Errorf("data %s", data)
	}
}

func TestEventGridWebhook(t *testing.T) {
	t.Parallel()
	a := newApp(t, "persist", gridFunction(""), "")
	h := run(t, a.with())
	hook := h.URL() + "/runtime/webhooks/EventGrid?functionName=persist&code="
	for _, c := range []struct {
		url, kind, body string
		status          int
		says            string
	}{
		{hook + h.FunctionKey(), "SubscriptionValidation", `[{"data":{"validationCode":"512d"}}]`, 200, `{"validationResponse":"512d"}`},
		{hook + h.FunctionKey(), "Notification", "[" + gridEvent + "]", 202, ""},
		{hook + h.FunctionKey(), "", cloudEvent, 202, ""},
		{hook + h.FunctionKey(), "Notification", `[{"data":"fail"}]`, 500, ""},
		{hook + "x", "Notification", "[]", 401, ""},
		{strings.Replace(hook, "persist", "nobody", 1) + h.FunctionKey(), "", "[]", 404, "nobody"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("aeg-event-type", c.kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(text), c.says) {
			t.Errorf("%s: %d %s, want %d with %s", c.body, resp.StatusCode, text, c.status, c.says)
		}
	}
	if got := len(a.kept(t)); got != 3 {
		t.Errorf("%d invocations", got)
	}
}
