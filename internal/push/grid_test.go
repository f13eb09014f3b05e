package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/record"
)

const (
	subscription = "0f0a2f7e-7a0b-4e7f-9d57-5e2f3f6a1b2c"
	topic        = "/subscriptions/" + subscription + "/resourceGroups/g/providers/Microsoft.EventGrid/topics/t"
	gridEvent    = `{"id":"1","topic":"` + topic + `","subject":"s","eventType":"e","eventTime":"2026-11-24T23:59:58.1234567Z","data":{"a":[1,2.50],"é":"ü"},"dataVersion":"1","metadataVersion":"1"}`
	cloudEvent   = `{"specversion":"1.0","id":"1","source":"/cars/7","type":"e","time":"2026-11-25T01:59:58+02:00","datacontenttype":"application/json","data":{"a":1},"extra":7}`
)

// gridOne and gridMany are deliveries to functions of either cardinality.
func gridOne(t *testing.T, event string) *host.Invocation {
	return invocation(t, event, map[string]string{"data": `{"a":1}`})
}

func gridMany(t *testing.T, events ...string) *host.Invocation {
	return invocation(t, quoted("["+strings.Join(events, ",")+"]"), nil)
}

func TestGridEvents(t *testing.T) {
	digest := record.EventDigest(topic, "1")
	cloud := record.EventDigest("/cars/7", "1")
	for _, test := range []struct {
		name, event, folder string
		want                string // name
		record              string
	}{
		{"Event Grid", gridEvent, "", subscription + "/2026/11/24/235958-" + digest + ".txt",
			`{"DATA":{"a":[1,2.50],"é":"ü"},"BODY":"json","METADATA":{"dataVersion":"1","eventTime":"2026-11-24T23:59:58.1234567Z","eventType":"e","id":"1","metadataVersion":"1","subject":"s","topic":"` + topic + `"}}`},
		{"with a folder", gridEvent, "a/b", "a/b/2026/11/24/235958-" + digest + ".txt", ""},
		{"CloudEvents", cloudEvent, "", "event-grid/2026/11/24/235958-" + cloud + ".txt",
			`{"DATA":{"a":1},"BODY":"json","METADATA":{"datacontenttype":"application/json","extra":7,"id":"1","source":"/cars/7","specversion":"1.0","time":"2026-11-25T01:59:58+02:00","type":"e"}}`},
		{"of a subscription", strings.Replace(cloudEvent, "/cars/7", "/Subscriptions/x/y", 1), "", "x/2026/11/24/235958-" + record.EventDigest("/Subscriptions/x/y", "1") + ".txt", ""},
		{"bytes", `{"specversion":"1.0","id":"1","source":"/cars/7","data_base64":"AP8="}`, "", "event-grid/undated/" + cloud + ".txt",
			`{"DATA":"AP8=","ENCODING":"base64","METADATA":{"id":"1","source":"/cars/7","specversion":"1.0"}}`},
		{"text as bytes", `{"specversion":"1.0","id":"1","source":"/cars/7","data":null,"data_base64":"YQ=="}`, "", "event-grid/undated/" + cloud + ".txt",
			`{"DATA":"a","METADATA":{"id":"1","source":"/cars/7","specversion":"1.0"}}`},
		{"no data", `{"specversion":"1.0","id":"1","source":"/cars/7","time":"soon"}`, "", "event-grid/undated/" + cloud + ".txt",
			`{"DATA":null,"BODY":"json","METADATA":{"id":"1","source":"/cars/7","specversion":"1.0","time":"soon"}}`},
		{"data is text", `{"specversion":"1.0","id":"1","source":"/cars/7","time":"12026-01-01T00:00:00Z","data":"x"}`, "", "event-grid/undated/" + cloud + ".txt",
			`{"DATA":"x","BODY":"json","METADATA":{"id":"1","source":"/cars/7","specversion":"1.0","time":"12026-01-01T00:00:00Z"}}`},
	} {
		for _, i := range []*host.Invocation{gridOne(t, test.event), invocation(t, quoted(test.event), nil), gridMany(t, test.event)} {
			f, l := newFolder(t), &logged{}
			o := options(f, l)
			o.Folder = test.folder
			if _, err := NewGrid(o).Persist(t.Context(), i); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if names := f.names(t); len(names) != 1 || names[0] != test.want {
				t.Errorf("%s: blobs %v, want %s", test.name, names, test.want)
			} else if got := f.read(t, names[0]); test.record != "" && got != test.record+"\n" {
				t.Errorf("%s: %s", test.name, cmp.Diff(test.record+"\n", got))
			}
			if l.String() != "" {
				t.Errorf("%s: logged %s", test.name, l)
			}
		}
	}
}

// events makes events of one source.
func events(first, last int) (all []string) {
	for n := first; n <= last; n++ {
		all = append(all, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/cars/7","time":"2026-11-24T10:00:00Z","data":%d}`, n, n))
	}
	return all
}

func TestGridStoresOnce(t *testing.T) {
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	g := NewGrid(options(f, l))
	var creates, most atomic.Int64
	f.before = func(string, string) error {
		if creates.Add(1) == 30 {
			return errDown // once, which is tried again
		}
		most.Add(1)
		return nil
	}
	for _, delivery := range [][]string{events(1, 50), events(1, 50), events(40, 60)} {
		if _, err := g.Persist(t.Context(), gridMany(t, delivery...)); err != nil {
			t.Fatal(err)
		}
	}
	stored := map[string]int{}
	for _, m := range f.records(t, "hub/2026/11/24/100000-") {
		if stored[string(m.Body.JSON)]++; m.Properties["id"] != string(m.Body.JSON) {
			t.Errorf("%+v", m)
		}
	}
	if len(stored) != 60 || len(f.names(t)) != 60 || l.String() != "" {
		t.Error(len(stored), f.names(t), l)
	}
}

// Of two events of one identity the first stays.
func TestGridKeepsTheFirst(t *testing.T) {
	f, l := newFolder(t), &logged{}
	g := NewGrid(options(f, l))
	for _, event := range []string{cloudEvent, strings.Replace(cloudEvent, `{"a":1}`, `{"a":2}`, 1)} {
		if _, err := g.Persist(t.Context(), gridOne(t, event)); err != nil {
			t.Fatal(err)
		}
	}
	if records := f.records(t, ""); len(records) != 1 || string(records[0].Body.JSON) != `{"a":1}` || !strings.Contains(l.String(), "another content") {
		t.Error(records, l)
	}
}

// An event that isn't stored fails its delivery; the others are stored all the same.
func TestGridFails(t *testing.T) {
	f, l := &fragile{folder: newFolder(t)}, &logged{}
	f.before = func(_, name string) error {
		if strings.Contains(name, record.EventDigest("/cars/7", "7")) {
			return errDown
		}
		return nil
	}
	o := options(f, l)
	o.Timeout = 500 * time.Millisecond
	g := NewGrid(o)
	if _, err := g.Persist(t.Context(), gridMany(t, events(1, 20)...)); !errors.Is(err, errDown) || !strings.Contains(err.Error(), `event "7" of "/cars/7"`) {
		t.Errorf("error %v", err)
	}
	if names := f.names(t); len(names) != 19 {
		t.Errorf("stored %d of 19", len(names))
	}
	f.before = nil
	if _, err := g.Persist(t.Context(), gridMany(t, events(1, 20)...)); err != nil || len(f.names(t)) != 20 {
		t.Error(err, f.names(t))
	}
	if _, err := g.Persist(t.Context(), gridMany(t, events(1, maxEvents+1)...)); err == nil || !strings.Contains(err.Error(), "5001 events") {
		t.Errorf("too many events: error %v", err)
	}
	if _, err := g.Persist(t.Context(), invocation(t, `"x"`, nil)); err == nil {
		t.Error("text passes as events")
	}
}

// Nobody could ever deliver these so that they could be identified.
func TestGridKeepsStrangers(t *testing.T) {
	for name, event := range map[string]string{
		"no id": `{"topic":"t","data":1}`, "id is no text": `{"topic":"t","id":7}`, "no topic": `{"id":"1","source":"s"}`, "no source": `{"specversion":"1.0","id":"1","topic":"t"}`,
		"bad base64": `{"specversion":"1.0","id":"1","source":"s","data_base64":"?"}`, "two kinds of data": `{"specversion":"1.0","id":"1","source":"s","data":1,"data_base64":"YQ=="}`,
		"too long": `{"topic":"t","id":"1","data":"` + strings.Repeat("x", maxEvent) + `"}`,
	} {
		f, l := newFolder(t), &logged{}
		o := options(f, l)
		o.Folder = ""
		g := NewGrid(o)
		for range 2 {
			if _, err := g.Persist(t.Context(), gridMany(t, event, cloudEvent)); err != nil {
				t.Fatal(name, err)
			}
		}
		names := f.names(t)
		if len(names) != 2 || !strings.HasPrefix(names[0], "_failed/event-grid/unidentified/") || !strings.Contains(l.String(), names[0]) {
			t.Errorf("%s: blobs %v, log %s", name, names, l)
			continue
		}
		if got := f.read(t, names[0]); !strings.HasPrefix(got, `{"DATA":`+event+`,"BODY":"json"}`) {
			t.Errorf("%s: %.200s", name, got)
		}
	}
}

func TestGridStepsAside(t *testing.T) {
	name := record.EventName("hub", "/cars/7", "1", time.Date(2026, 11, 24, 23, 59, 58, 0, time.UTC))
	other := record.Event{Source: "/cars/7", ID: "2", Content: strings.Repeat("0", 32), Count: 1, Bytes: 1, Run: "r"}
	for _, held := range []map[string]string{{"by": "else"}, other.Metadata()} {
		f, l := newFolder(t), &logged{}
		if _, err := f.Dir.Create(t.Context(), name, []byte("x"), held); err != nil {
			t.Fatal(err)
		}
		g := NewGrid(options(f, l))
		for range 2 {
			if _, err := g.Persist(t.Context(), gridOne(t, cloudEvent)); err != nil {
				t.Fatal(err)
			}
		}
		if names := f.names(t); len(names) != 2 || names[0] != "_failed/"+name || !strings.Contains(l.String(), `"id":"1"`) {
			t.Error(names, l)
		}
	}
}

func TestGridTellsThatItIsNoOutput(t *testing.T) {
	f, l := newFolder(t), &logged{}
	o := options(f, l)
	o.Output = true
	g := NewGrid(o)
	for range 2 {
		if r, err := g.Persist(t.Context(), gridOne(t, cloudEvent)); err != nil || len(r.Outputs) > 0 {
			t.Error(r, err)
		}
	}
	if strings.Count(l.String(), "output binding") != 1 || len(f.names(t)) != 1 {
		t.Error(l, f.names(t))
	}
}

// Whatever comes, an answer follows, and what is stored can be read.
func FuzzPersist(f *testing.F) {
	f.Add(`{"Data":{"m":"AP8="},"Metadata":{"SequenceNumber":"17","EnqueuedTimeUtc":"2026-11-24T10:00:17","PartitionContext":{"PartitionId":"3"},"DeliveryCount":"1"}}`)
	f.Add(`{"Data":{"m":"[\"AP8=\",\"\"]"},"Metadata":{"SequenceNumberArray":"[1,2]","EnqueuedTimeUtcArray":"[\"2026-11-24T10:00:17\",\"2026-11-24T10:00:18\"]","PartitionContext":"{\"PartitionId\":\"\\u0000\"}"}}`)
	f.Add(`{"Data":{"m":` + gridEvent + `},"Metadata":{}}`)
	f.Add(`{"Data":{"m":` + quoted("["+cloudEvent+"]") + `},"Metadata":{}}`)
	f.Add(`{"Data":{"m":"\"{\\\"SequenceNumber\\\":1}\""},"Metadata":{"SequenceNumber":"\"1\""}}`)
	f.Fuzz(func(t *testing.T, body string) {
		var i host.Invocation
		if json.Unmarshal([]byte(body), &i) != nil {
			return
		}
		sink, l := newFolder(t), &logged{}
		o := options(sink, l)
		o.Timeout = time.Second
		for _, persist := range []host.Function{NewHub("hub", o).Persist, NewQueue("q", false, o).Persist, NewGrid(o).Persist} {
			_, _ = persist(t.Context(), &i)
		}
		var _ []message.Message = sink.records(t, "")
	})
}
