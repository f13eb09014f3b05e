package hosttest

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"persistor/internal/azurite/azuritetest"
)

// stored are the blobs of a container, by name.
func stored(t *testing.T, connection, container string) map[string]string {
	t.Helper()
	client, err := azblob.NewClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	pages := client.NewListBlobsFlatPager(container, nil)
	for pages.More() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Segment.BlobItems {
			blob, err := client.DownloadStream(t.Context(), container, *item.Name, nil)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(blob.Body)
			if err != nil {
				t.Fatal(err)
			}
			all[*item.Name] = string(content)
		}
	}
	return all
}

// What an Event Hubs function answers as its output is written where the path says, in what the host takes it for.
func TestBlobOutput(t *testing.T) {
	t.Parallel()
	storage := azuritetest.Run(t)
	for _, c := range []struct{ dataType, want string }{
		{"", "\x00\xff"}, {`,"dataType":"binary"`, "AP8="},
	} {
		container := azuritetest.Container(t)
		e := newHub(t, "blob=AP8=", "blob=a text", "no output", "blob=a newer text")
		output := `},{"type":"blob","direction":"out","name":"blob","connection":"STORAGE"` + c.dataType + `,"path":"%CONTAINER%/{PartitionContext.PartitionId}/{EnqueuedTimeUtc:yyyy}/{EnqueuedTimeUtc:MM-dd HHmmss}/{SequenceNumber:0000}.txt"`
		a := newApp(t, "persist", hubFunction(`,"dataType":"binary"`+output, ""), "")
		h := run(t, a.with("HUB=rides", "HUB_CONNECTION="+e.ConnectionString(), "STORAGE="+storage, "CONTAINER="+container))
		checkpointed(t, h, 3)
		if err := h.Rewind("persist", "0", 3); err != nil { // the same again is written over itself
			t.Fatal(err)
		}
		await(t, h, 5)
		got := stored(t, storage, container)
		const folder = "0/2026/11-25 101112/"
		if len(got) != 3 || got[folder+"0.txt"] != c.want || got[folder+"1.txt"] != "a text" || got[folder+"3.txt"] != "a newer text" {
			t.Errorf("%q", got)
		}
		for _, r := range h.Results() {
			if r.Err != nil {
				t.Errorf("%+v", r)
			}
		}
	}
}

// An output that can't be written fails the invocation, although the handler has done its part.
func TestBlobOutputFails(t *testing.T) {
	t.Parallel()
	for path, says := range map[string]string{
		"c/{Nothing}": "no value for named parameter 'Nothing'", "c/{data.nothing}": "property doesn't exist", "c": "no CONTAINER/BLOB", "c/{data.text}": "write output blob",
	} {
		output := `},{"type":"blob","direction":"out","name":"blob","connection":"STORAGE","path":"` + path + `"`
		a := newApp(t, "persist", gridFunction(output), "")
		h := run(t, a.with("STORAGE=DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:1/a;"))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := h.Deliver(ctx, "persist", []byte(`{"id":"1","data":{"text":"blob=x"}}`))
		cancel()
		if err == nil || !strings.Contains(err.Error(), says) || h.Results()[0].Status != 200 {
			t.Errorf("%s: %v, want %s", path, err, says)
		}
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	data := bindingData{
		"text": "t", "n": int64(7), "kind": day, "utc": utcTime(day), "offset": offsetTime(day), "array": []int64{1}, "yes": true, "null": nil,
		"Context": map[string]any{"Id": "0", "Deep": map[string]any{"er": "x"}}, "sys": map[string]any{"RandGuid": "g", "UtcNow": utcTime(day)},
	}
	for _, c := range []struct{ path, want string }{
		{"a/b", "a/b"}, {"{text}-{N}", "t-7"}, {"{{x}}", "{x}"}, {"{context.ID}{Context.Deep.er}", "0x"}, {"{n:0000}", "7"},
		{"{kind}", "2026-01-02T03-04-05"}, {"{utc}", "2026-01-02T03-04-05Z"}, {"{offset}{offset:yyyy}{array}{yes}{Context}{null}", ""}, {"{null.x}", "!doesn't exist"},
		{"{kind:yyyy/MM/dd/HHmmss}", "2026/01/02/030405"}, {"{utc:yy-M-d h:m:s.fff tt 'at' ddd}", "26-1-2 3:4:5.678 AM at Fri"},
		{"{sys.randguid}", "g"}, {"{sys.utcnow:yyyy}", "2026"},
		{"{", "!closing"}, {"}", "!opening"}, {"{}", "!empty"}, {"{a{b}", "!closing"}, {"{a b}", "!no expression"}, {"{a-b}", "!invalid"}, {"{a..b}", "!no expression"},
		{"{kind:d}", "!custom formats"}, {"{kind:qqq}", "!doesn't know"}, {"", "!empty"}, {"{nothing}", "!'nothing'"}, {"{Context.no}", "!doesn't exist"}, {"{text.no}", "!doesn't exist"},
	} {
		template, err := parseTemplate(c.path)
		got := ""
		if err == nil {
			got, err = template.resolve(data)
		}
		if says, fails := strings.CutPrefix(c.want, "!"); fails && (err == nil || !strings.Contains(err.Error(), says)) || !fails && (err != nil || got != c.want) {
			t.Errorf("%s: %q, error %v, want %q", c.path, got, err, c.want)
		}
	}
	for path, length := range map[string]int{"{rand-guid}": 36, "{datetime:yyyy-MM-dd}": 10, "{DateTime}": 20, "{datetime:yyyy.MM}": 4} {
		template, err := parseTemplate(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := template.resolve(data); err != nil || len(got) != length {
			t.Errorf("%s: %q, error %v", path, got, err)
		}
	}
}
