package push

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/host"
	"persistor/internal/message"
)

// An event in each shape that the host may give it.
func TestHubDecodes(t *testing.T) {
	t.Parallel()
	number := map[string]string{
		"PartitionContext": `{"FullyQualifiedNamespace":"n","EventHubName":"hub","ConsumerGroup":"$Default","PartitionId":"3","IsCheckpointingAfterInvocation":true}`,
		"SequenceNumber":   `"17"`, "Offset": `"\"4294967296\""`, "EnqueuedTimeUtc": `"2026-11-24T10:00:17"`, "PartitionKey": `"\"car-7\""`,
		"Properties": `{"a":"b","n":7,"f":1.5,"big":123456789012345678901,"o":{"l":[1,null]}}`,
		"SystemProperties": `{"x-opt-sequence-number":17,"x-opt-offset":"4294967296","content-type":"text/plain","message-id":"m","user-id":"AP8=","group-sequence":3,
			"creation-time":"2026-11-24T10:00:00Z","x-opt-other":1,"to":5,"SequenceNumber":17,"correlation-id":null}`,
	}
	arrays := map[string]string{
		"PartitionContext": number["PartitionContext"], "SequenceNumberArray": `"[17]"`, "OffsetArray": `"[\"4294967296\"]"`,
		"EnqueuedTimeUtcArray": `"[\"2026-11-24T10:00:17.0000000Z\"]"`, "PartitionKeyArray": `"[\"car-7\"]"`,
	}
	for name, of := range map[string]string{"PropertiesArray": "Properties", "SystemPropertiesArray": "SystemProperties"} {
		var v any
		if err := json.Unmarshal([]byte(number[of]), &v); err != nil {
			t.Fatal(err)
		}
		arrays[name] = text([]json.RawMessage{json.RawMessage(number[of])})
	}
	want := message.Message{
		Partition: "3", SequenceNumber: 17, Offset: "4294967296", EnqueuedTime: day.Add(17 * time.Second), PartitionKey: new("car-7"),
		Properties:  map[string]any{"a": "b", "n": int64(7), "f": 1.5, "big": "123456789012345678901", "o": map[string]any{"l": []any{int64(1), nil}}},
		ContentType: new("text/plain"), ID: "m", UserID: []byte{0, 255}, GroupSequence: new(uint32(3)), CreationTime: new(day),
		Annotations: map[string]any{"x-opt-other": int64(1), "to": int64(5)},
	}
	for _, test := range []struct {
		name, data, body string
		metadata         map[string]string
	}{
		{"one, binary", `"AP8="`, "\x00\xff", number},
		{"one, binary and empty", `""`, "", number},
		{"one, text", `"\"a b\""`, "a b", number},
		{"one, text in one string", `"a b"`, "a b", number},
		{"one, JSON text", `"\"{\\\"a\\\":1}\""`, `{"a":1}`, number},
		{"one, JSON nested", `{"a":1}`, `{"a":1}`, number},
		{"one, JSON array as text", `"\"[1,2]\""`, `[1,2]`, number},
		{"many, binary", `"[\"AP8=\"]"`, "\x00\xff", arrays},
		{"many, binary and nested", `["AP8="]`, "\x00\xff", arrays},
		{"many, text", `"[\"a b\"]"`, "a b", arrays},
		{"many, JSON", `"[{\"a\":1}]"`, `{"a":1}`, arrays},
	} {
		from, got, many, err := decodeHub(invocation(t, test.data, test.metadata))
		if err != nil || from != (origin{"n/hub", "3"}) || len(got) != 1 || many != strings.HasPrefix(test.name, "many") {
			t.Errorf("%s: from %+v, %d events, many %t, error %v", test.name, from, len(got), many, err)
			continue
		}
		want.Body.Data = [][]byte{[]byte(test.body)}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// Of invocations that can't be told apart nothing is lost, and nothing is stored twice.
func TestHubKeepsWhatItCantIdentify(t *testing.T) {
	t.Parallel()
	with := func(name, value string) *host.Invocation {
		i := hubOne(t, "0", 5)
		if i.Metadata[name] = json.RawMessage(value); value == "" {
			delete(i.Metadata, name)
		}
		return i
	}
	payload := func(text string) *host.Invocation {
		i := hubOne(t, "0", 5)
		i.Data["message"] = json.RawMessage(quoted(quoted(text)))
		return i
	}
	short := hubMany(t, "0", 1, 2)
	short.Metadata["SequenceNumberArray"] = json.RawMessage(`"[1]"`)
	null := hubMany(t, "0", 1, 2)
	null.Metadata["SequenceNumberArray"] = json.RawMessage(`"[1,null]"`)
	two := hubOne(t, "0", 5)
	two.Data["other"] = json.RawMessage(`"x"`)
	for name, i := range map[string]*host.Invocation{
		"no number": with("SequenceNumber", ""), "number is text": with("SequenceNumber", `"\"x\""`), "negative number": with("SequenceNumber", `"-1"`),
		"no time": with("EnqueuedTimeUtc", ""), "bad time": with("EnqueuedTimeUtc", `"yesterday"`), "no partition": with("PartitionContext", `{}`),
		"properties are a list": with("Properties", `"[1]"`), "too few numbers": short, "a null among numbers": null, "two inputs": two,
		"spoofed number": payload(`{"SequenceNumber":1}`), "spoofed in another case": payload(`{"sequencenumber":1}`),
		"spoofed by an escape": payload(`{"\u0053equenceNumber":1}`), "spoofed laxly": payload(`{SequenceNumber:1}`), "spoofed in quotes": payload(`{'\u0053equenceNumber':1}`),
		"spoofed partition": payload(` {"a":1,"PartitionContext":{"PartitionId":"9"}} `), "spoofed batch": payload(`{"SequenceNumberArray":"[7]"}`),
	} {
		t.Run(name, func(t *testing.T) {
			f, l := newFolder(t), &logged{}
			h := NewHub("hub", options(f, l))
			for range 2 {
				if _, err := h.Persist(t.Context(), i); err != nil {
					t.Fatal(err)
				}
				i.Metadata["sys"] = json.RawMessage(`{"UtcNow":"later"}`)
				i.Metadata["RetryContext"] = json.RawMessage(`{"RetryCount":"1"}`)
				i.ID = "another"
			}
			names := f.names(t)
			if len(names) != 1 || !strings.HasPrefix(names[0], "_failed/hub/unidentified/") {
				t.Fatalf("blobs %v", names)
			}
			records := f.records(t, "")
			data, _ := json.Marshal(i.Data)
			if len(records) != 1 || records[0].Body.Kind != message.JSON || string(records[0].Body.JSON) != string(data) {
				t.Errorf("records %+v", records)
			}
			if !strings.Contains(l.String(), `"level":"ERROR"`) || !strings.Contains(l.String(), names[0]) {
				t.Errorf("the log doesn't tell: %s", l)
			}
		})
	}
}

// What only looks like metadata is no reason to set a message apart.
func TestHubTakesHarmlessContent(t *testing.T) {
	t.Parallel()
	for _, content := range []string{`{"number":1}`, `{"a":{"SequenceNumber":1}}`, `["SequenceNumber"]`, `SequenceNumber`, `{not json}`, `{"SequenceNumber":1} x`} {
		i := hubOne(t, "0", 5)
		i.Data["message"] = json.RawMessage(quoted(quoted(content)))
		if _, _, _, err := decodeHub(i); err != nil {
			t.Errorf("%s: %v", content, err)
		}
	}
	i := hubOne(t, "0", 5) // as bytes nothing is overwritten
	i.Data["message"] = json.RawMessage(`"eyJTZXF1ZW5jZU51bWJlciI6MX0="`)
	if _, events, _, err := decodeHub(i); err != nil || string(events[0].Body.Data[0]) != `{"SequenceNumber":1}` {
		t.Error(events, err)
	}
}
