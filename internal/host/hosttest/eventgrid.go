package hosttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Deliver gives events, of either schema, to an Event Grid function as the service does: all in one delivery. The error is
// of the invocations that failed; the service would deliver all of the events again.
func (h *Host) Deliver(ctx context.Context, name string, events ...json.RawMessage) error {
	f, err := h.function(name, "eventGridTrigger")
	if err != nil {
		return err
	}
	contents := make([]any, len(events)) // the data of each, which is all that the trigger gives as metadata
	for n, event := range events {
		var object map[string]any
		if err := json.Unmarshal(event, &object); err != nil {
			return fmt.Errorf("deliver event %d: %w", n, err)
		}
		contents[n] = object["data"]
	}
	if f.trigger.many() {
		_, err := h.execute(ctx, call{function: f, data: wireValue(events), metadata: bindingData{"data": contents}})
		return err
	}
	// The events of one delivery go to invocations that run at once.
	failures := make([]error, len(events))
	var invocations sync.WaitGroup
	for n, event := range events {
		invocations.Go(func() {
			_, failures[n] = h.execute(ctx, call{function: f, data: event, metadata: bindingData{"data": contents[n]}})
		})
	}
	invocations.Wait()
	return errors.Join(failures...)
}

// webhook is where the service delivers: POST /runtime/webhooks/EventGrid?functionName=NAME&code=KEY. It answers the
// validation handshake of both schemas, 202 to a delivery that succeeded, and 500 to one that did not.
func (f *front) webhook(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name := query.Get("functionName")
	if _, err := f.host.function(name, "eventGridTrigger"); err != nil {
		http.Error(w, "cannot find function: '"+name+"'", http.StatusNotFound)
		return
	}
	if code := query.Get("code"); !same(code, f.key) && !same(code, f.admin) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodOptions { // of CloudEvents
		w.Header().Set("Webhook-Allowed-Origin", r.Header.Get("Webhook-Request-Origin"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	events, err := deliveredEvents(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if strings.EqualFold(r.Header.Get("aeg-event-type"), "SubscriptionValidation") {
		validate(w, events)
		return
	}
	if err := f.host.Deliver(f.ctx, name, events...); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// deliveredEvents are an array of events, or one CloudEvent by itself.
func deliveredEvents(body []byte) ([]json.RawMessage, error) {
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err == nil {
		return events, nil
	}
	var one map[string]any
	if err := json.Unmarshal(body, &one); err != nil {
		return nil, err
	}
	return []json.RawMessage{body}, nil
}

// validate answers with the code that the first event brings.
func validate(w http.ResponseWriter, events []json.RawMessage) {
	var event struct {
		Data struct{ ValidationCode string }
	}
	if len(events) == 0 || json.Unmarshal(events[0], &event) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"validationResponse": event.Data.ValidationCode})
}
