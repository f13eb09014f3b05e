package push

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"persistor/internal/message"
)

// event is one event of Event Grid, in its own schema or in that of CloudEvents 1.0.
type event struct {
	source, id string
	at         time.Time // that it says; zero for none
	content    string    // digest of all of it
	folder     string    // main folder of its blob's name
	message    message.Message
}

// schema is what the parts of an event are called.
type schema struct{ name, source, time string }

var (
	// https://learn.microsoft.com/azure/event-grid/event-schema
	eventGridSchema = schema{"Event Grid", "topic", "eventTime"}
	// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
	cloudEvents = schema{"CloudEvents", "source", "time"}
)

// parseEvent reads an event. It fails on one that doesn't say which event it is.
func parseEvent(raw []byte) (event, error) {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return event{}, errors.New("it is no JSON object")
	}
	if line.Len() > maxEvent {
		return event{}, fmt.Errorf("it has %d bytes: expected at most %d", line.Len(), maxEvent)
	}
	var envelope map[string]json.RawMessage
	if err := json.Unmarshal(line.Bytes(), &envelope); err != nil {
		return event{}, errors.New("it is no JSON object")
	}
	s := eventGridSchema
	if envelope["specversion"] != nil {
		s = cloudEvents
	}
	digest := sha256.Sum256(line.Bytes())
	e := event{source: stringIn(envelope, s.source), id: stringIn(envelope, "id"), content: hex.EncodeToString(digest[:16])}
	if e.source == "" || e.id == "" {
		return event{}, fmt.Errorf("it lacks id or %s, which identify it in the schema of %s", s.source, s.name)
	}
	if at, err := parseTime(stringIn(envelope, s.time)); err == nil {
		e.at = at
	}
	body, err := dataOf(envelope)
	if err != nil {
		return event{}, err
	}
	e.message.Body = body
	rest, err := json.Marshal(envelope)
	if err == nil {
		e.message.Properties, err = objectOf(rest)
	}
	return e, err
}

// dataOf takes the data out of an envelope.
func dataOf(envelope map[string]json.RawMessage) (message.Body, error) {
	data := envelope["data"]
	if envelope["specversion"] != nil && !isNull(envelope["data_base64"]) {
		if !isNull(data) {
			return message.Body{}, errors.New("it has both data and data_base64")
		}
		decoded, err := base64.StdEncoding.DecodeString(stringIn(envelope, "data_base64"))
		if err != nil {
			return message.Body{}, errors.New("its data_base64 is no base64")
		}
		delete(envelope, "data")
		delete(envelope, "data_base64")
		return message.Body{Data: [][]byte{decoded}}, nil
	}
	delete(envelope, "data")
	if data == nil {
		data = json.RawMessage("null")
	}
	return message.Body{Kind: message.JSON, JSON: data}, nil
}

// stringIn is a member that is a string; "" for none.
func stringIn(object map[string]json.RawMessage, name string) (text string) {
	_ = json.Unmarshal(object[name], &text)
	return text
}

// subscription is the main folder of an event where STORE_PARAM names none: the id of the subscription that its
// source lies in, as the original has it.
func (e event) subscription() string {
	const prefix = "/subscriptions/"
	if len(e.source) > len(prefix) && strings.EqualFold(e.source[:len(prefix)], prefix) {
		id, _, _ := strings.Cut(e.source[len(prefix):], "/")
		if id != "" {
			return id
		}
	}
	return eventFolder
}

// eventFolder is the main folder of what tells no subscription.
const eventFolder = "event-grid"
