package generate

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the variants are expected to store")

// goldenMessages are those whose storage is compared to the letter.
var goldenMessages = []struct {
	body       string
	properties map[string]any
}{
	{"speed=71", map[string]any{"site": "north", "temp": int32(21), "share": 0.5, "test": true}},
	{"\x00\x01\xfe\xff\x80", map[string]any{"kind": "binary"}},
	{"", nil},
	{"Привет, 京都 🚂", map[string]any{"город": "Київ", "empty": ""}},
	{`{"SequenceNumber": 77, "EnqueuedTimeUtc": "2001-01-01T00:00:00Z", "a": [1, 2.50]}`, map[string]any{"content": "looks like metadata"}},
	{"two\n\nlines, \"quotes\", \\ and \u2028\t\x7f", nil},
	{`{"DATA":"looks like a record"}` + "\n\n", nil},
	{strings.Repeat("0123456789", 30), map[string]any{"long": int64(1) << 40}},
}

// goldenTime is when the n-th of them is enqueued: three at the end of a day, three in the next minute, two in the one after.
func goldenTime(n int) time.Time {
	return time.Date(2026, 11, 24, 23, 59, 0, 250e6, time.UTC).Add(time.Duration(n) * 20 * time.Second)
}

// feedGolden sends the golden messages, to each partition of a hub, by the services' own clients.
func (a *attached) feedGolden(t *testing.T) {
	t.Helper()
	defer a.clock.at(time.Time{})
	switch {
	case a.grid():
		a.events = goldenEvents()
	case a.hub():
		for _, partition := range partitions {
			a.sendEvents(t, partition)
		}
	default:
		a.sendMessages(t)
	}
}

func (a *attached) sendEvents(t *testing.T, partition string) {
	t.Helper()
	client, err := azeventhubs.NewProducerClientFromConnectionString(a.emulator.ConnectionString(), "rides", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	for n, m := range goldenMessages {
		batch, err := client.NewEventDataBatch(t.Context(), &azeventhubs.EventDataBatchOptions{PartitionID: &partition})
		if err == nil {
			event := &azeventhubs.EventData{Body: []byte(m.body), Properties: m.properties, MessageID: new(fmt.Sprint("message-", n))}
			if n == 0 {
				event.ContentType, event.CorrelationID = new("text/plain"), "run-1"
			}
			err = batch.AddEventData(event, nil)
		}
		a.clock.at(goldenTime(n))
		if err == nil {
			err = client.SendEventDataBatch(t.Context(), batch, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a.clock.at(goldenTime(0)) // of the next partition
}

func (a *attached) sendMessages(t *testing.T) {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(a.emulator.ConnectionString(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	to, _, _ := strings.Cut(a.entity(), "/")
	sender, err := client.NewSender(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n, m := range goldenMessages {
		a.clock.at(goldenTime(n))
		message := &azservicebus.Message{Body: []byte(m.body), ApplicationProperties: m.properties, MessageID: new(fmt.Sprint("message-", n))}
		if n == 0 {
			message.ContentType, message.CorrelationID, message.Subject = new("text/plain"), new("run-1"), new("measured")
		}
		if err := sender.SendMessage(t.Context(), message, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// goldenEvents are of both schemas; the last two have the same id, from different sources.
func goldenEvents() (events []json.RawMessage) {
	for _, text := range []string{
		`{"id":"1","topic":"/subscriptions/7c02/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a","subject":"/blobs/b","eventType":"Microsoft.Storage.BlobCreated","eventTime":"2026-11-24T23:59:59.75Z","dataVersion":"1","metadataVersion":"1","data":{"api":"PutBlob","contentLength":524288,"город":"Київ 🚂"}}`,
		`{"id":"2","topic":"/subscriptions/7c02/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a","subject":"/blobs/c","eventType":"Microsoft.Storage.BlobCreated","eventTime":"2026-11-25T00:00:00Z","dataVersion":"1","metadataVersion":"1","data":{"list":[1,2.50,null],"text":"two\n\nlines"}}`,
		`{"specversion":"1.0","id":"3","source":"/subscriptions/7c02/resourceGroups/h","type":"com.example.made","time":"2026-11-25T00:00:01+01:00","datacontenttype":"application/json","data":"a text"}`,
		`{"specversion":"1.0","id":"3","source":"/machines/9","type":"com.example.made","time":"2026-11-25T00:00:01Z","data_base64":"AP+A"}`,
	} {
		events = append(events, json.RawMessage(text))
	}
	return events
}

// compare compares what is stored with what is expected. What came again may say so in its record.
func (a *attached) compare(t *testing.T, cameAgain bool) {
	t.Helper()
	file := filepath.Join("testdata", "variants", a.golden+".txt")
	got := a.listing(t, varying...)
	if *update && !cameAgain && !a.invoked() { // which shares its workers' file
		writeFile(t, ".", file, got)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	expected := string(want)
	if cameAgain {
		got, expected = deliveryCount.ReplaceAllString(got, ""), deliveryCount.ReplaceAllString(expected, "")
	}
	if diff := cmp.Diff(strings.Split(expected, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("stored (+) and expected (-) in %s: %s", file, diff)
	}
}

// compareRecords compares records alone, in whatever blobs they are.
func (a *attached) compareRecords(t *testing.T) {
	t.Helper()
	expected := records(string(read(t, filepath.Join("testdata", "variants", a.golden+".txt"))))
	if diff := cmp.Diff(expected, records(a.listing(t))); diff != "" {
		t.Errorf("records stored (+) and expected (-): %s", diff)
	}
}

// records are those of a listing, in order, without what tells that they came again.
func records(listing string) []string {
	lines := strings.Split(deliveryCount.ReplaceAllString(listing, ""), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "{") })
	slices.Sort(lines)
	return lines
}

var deliveryCount = regexp.MustCompile(`"delivery_count":\d+`)

// varying are the metadata that differ from run to run: who stored a blob, and Blob Storage's own marks of that.
var varying = []string{"run", "writer", "announced"}

// listing is all that is stored: names, metadata but some, and contents of all blobs.
func (a *attached) listing(t *testing.T, without ...string) string {
	t.Helper()
	var text strings.Builder
	blobs := a.blobStore(t)
	for b, err := range blobs.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(b.Name, "_runs/") { // the lock of the invoker's runs
			continue
		}
		content, err := blobs.Open(t.Context(), b.Name)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(content)
		content.Close()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "-- %s --\n", b.Name)
		for _, name := range without {
			delete(b.Metadata, name)
		}
		for _, name := range sortedKeys(b.Metadata) {
			fmt.Fprintf(&text, "%s: %s\n", name, b.Metadata[name])
		}
		fmt.Fprintf(&text, "\n%s", body)
	}
	return text.String()
}
