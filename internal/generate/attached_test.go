package generate

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/host/hosttest"
	"persistor/internal/store"
)

// attached is a variant at work: its function apps, as they are generated, under hosts of their own, and what they
// are attached to.
type attached struct {
	*site
	variant
	gate      *gate // in front of Azurite; nil where blobs go to a directory
	container string
	more      []string          // settings that aren't the original's
	host      *hosttest.Host    // of the push app, or of the workers
	invoker   *hosttest.Host    // nil if there is none
	events    []json.RawMessage // what Event Grid delivers
}

// attach generates a variant and fills its settings in, of which it has none that the original doesn't know.
func attach(t *testing.T, v variant, onAzurite bool, change ...func(*Options)) *attached {
	t.Helper()
	config := fmt.Sprintf(`{"persistorServices": [["%s", "app", {%s}]]}`, v.kind, v.options)
	a := &attached{site: newSite(t, config, change...), variant: v, container: azuritetest.Container(t)}
	location := "file://" + filepath.ToSlash(a.stored)
	if onAzurite {
		a.gate = newGate(t, azuritetest.Run(t))
		location = a.gate.connection
	} else {
		a.container = "messages"
	}
	a.create(t, a.checkpoints())
	a.fillIn(t, "app", location, true)
	if v.invoked() {
		a.fillIn(t, "app"+invokerSuffix, location, false)
	}
	if v.hub() && v.many() {
		a.tune(t)
	}
	return a
}

func (a *attached) checkpoints() string { return a.container + "-checkpoints" }

// create creates a container.
func (a *attached) create(t *testing.T, name string) {
	t.Helper()
	var err error
	if a.gate == nil {
		err = os.MkdirAll(filepath.Join(a.stored, name), 0o777)
	} else {
		_, err = a.azurite(t).CreateContainer(t.Context(), name, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (a *attached) azurite(t *testing.T) *azblob.Client {
	t.Helper()
	client, err := azblob.NewClientFromConnectionString(azuritetest.Run(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// fillIn does with a local.settings.json what its user does. Of the original's settings alone it takes the others out.
func (a *attached) fillIn(t *testing.T, app, location string, ofOriginal bool) {
	t.Helper()
	known := map[string]string{"AzureWebJobsStorage": "", "FUNCTIONS_WORKER_RUNTIME": "", "GET_METADATA": "", "SERVICE_BUS_QUEUE_NAME": "", "SERVICE_BUS_BINDING_QUEUE_NAME": ""}
	for _, settings := range original {
		maps.Copy(known, settings)
	}
	connection := a.emulator.ConnectionString()
	filled := with(filledIn, "PERSISTOR_STORAGE_CONNECTION_STRING", location, "PERSISTOR_CONTAINER_NAME", a.container, "STORE_PARAM", "",
		"EVENT_HUB_CONN_STRING", connection, "EVENT_HUB_NAME", "rides", "EVENT_HUB_CHECKPOINT_CONTAINER", a.checkpoints(),
		"SERVICE_BUS_CONNECTION_STRING", connection, "SERVICE_BUS_QUEUE_NAME", "orders",
		"EVENT_HUB_NAME_BINDING", "rides", "EVENT_HUB_BINDING_CONNECTION_STR", connection,
		"SERVICE_BUS_BINDING_QUEUE_NAME", "orders", "SERVICE_BUS_BINDING_CONNECTION_STRING", connection)
	values := valuesOf(t, filepath.Join(a.output, app))
	for name, value := range values {
		if _, ok := known[name]; !ok && ofOriginal {
			delete(values, name)
		} else if value == "" {
			values[name] = filled[name]
		}
	}
	file, err := json.Marshal(map[string]any{"IsEncrypted": false, "Values": values})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, a.output, filepath.Join(app, "local.settings.json"), string(file))
}

// tune has the host make batches of the golden messages, as its user may do in host.json.
func (a *attached) tune(t *testing.T) {
	t.Helper()
	text := string(read(t, filepath.Join(a.output, "app/host.json")))
	for _, name := range []string{"minEventBatchSize", "maxEventBatchSize"} {
		text = strings.Replace(text, `"`+name+`": 100`, fmt.Sprintf(`"%s": %d`, name, len(goldenMessages)), 1)
	}
	writeFile(t, a.output, "app/host.json", strings.Replace(text, "00:00:30", "00:00:02", 1))
}

// start starts the hosts, or starts them anew.
func (a *attached) start(t *testing.T, change ...func(*hosttest.Options)) {
	t.Helper()
	if a.host != nil {
		_ = a.host.Close()
	}
	program := "push"
	if a.pulls() {
		program = "worker"
	}
	a.host = a.run(t, "app", program, with(map[string]string{}, a.more...), change...)
	if a.invoked() {
		a.invoker = a.run(t, "app"+invokerSuffix, "invoker", with(map[string]string{}, append(a.more,
			"FUNC_TO_INVOKE", a.host.URL()+"/api/pull?code="+a.host.FunctionKey(), "AzureWebJobs.backfill.Disabled", "true")...)) // a directory has no queues
	}
}

// bring has all that there is brought to storage. The error is of what failed; where messages come by themselves, failures are
// made good by those that come again.
func (a *attached) bring(t *testing.T, query string) error {
	t.Helper()
	switch {
	case a.invoked():
		return call(a.invoker.URL() + "/api/invoke?" + query + "&code=" + a.invoker.FunctionKey())
	case a.pulls():
		return call(a.host.URL() + "/api/pull?" + query + "&code=" + a.host.FunctionKey())
	case a.grid():
		return a.host.Deliver(t.Context(), "persist", a.events...)
	}
	awaitAnyhow(t, a.host, func() bool { return a.done(t) })
	return nil
}

// call expects an answer of 200.
func call(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, answer)
	}
	return err
}

// bringAll brings what there is, as often as it takes.
func (a *attached) bringAll(t *testing.T, query string) {
	t.Helper()
	var err error
	for range 100 {
		a.expireLocks(t)
		if err = a.bring(t, query); err == nil {
			return
		}
	}
	t.Fatalf("never done: %v", err)
}

// expireLocks has what a dead process had locked come again.
func (a *attached) expireLocks(t *testing.T) {
	t.Helper()
	if !a.bus() {
		return
	}
	if _, err := a.emulator.ExpireLocks(a.entity()); err != nil {
		t.Error(err)
	}
}

// done reports whether the host has been through all messages.
func (a *attached) done(t *testing.T) bool {
	if a.bus() {
		info, err := a.emulator.Queue(a.entity())
		if err != nil {
			t.Error(err)
		}
		return info.Active == 0 && info.Locked == 0
	}
	for _, partition := range partitions {
		info, err := a.emulator.Partition("rides", partition)
		if err != nil {
			t.Error(err)
		}
		if number, ok := a.host.Checkpoints("persist")[partition]; !ok || number != info.Last {
			return false
		}
	}
	return true
}

// partitions are those of the site's hub.
var partitions = []string{"0", "1"}

// again has everything come again, in every way in which it may.
func (a *attached) again(t *testing.T, query string) {
	t.Helper()
	if a.hub() && !a.pulls() {
		for _, from := range []int64{0, 3} {
			before := a.delivered()
			for _, partition := range partitions {
				if err := a.host.Rewind("persist", partition, from); err != nil {
					t.Fatal(err)
				}
			}
			awaitAnyhow(t, a.host, func() bool {
				now := a.delivered()
				return now["0"] > before["0"] && now["1"] > before["1"] && a.done(t)
			})
		}
	}
	if a.hub() && a.pulls() {
		a.loseCheckpoints(t)
	}
	if err := a.bring(t, query); err != nil {
		t.Error(err)
	}
	// By other processes: of a hub from its beginning, and from within a blob.
	within := map[string]map[string]int64{"persist": {"0": 0, "1": 0}}
	for _, checkpoints := range []map[string]map[string]int64{nil, within} {
		a.start(t, func(o *hosttest.Options) { o.Checkpoints = checkpoints })
		if err := a.bring(t, query); err != nil {
			t.Error(err)
		}
	}
}

// delivered counts the invocations that each partition or entity had.
func (a *attached) delivered() map[string]int {
	counts := map[string]int{}
	for _, r := range a.host.Results() {
		counts[r.Source]++
	}
	return counts
}

func failed(r hosttest.Result) bool { return r.Err != nil }

// failed reports whether an invocation has failed; of a hub, one of each partition.
func (a *attached) failed() bool {
	sources := map[string]bool{}
	for _, r := range a.host.Results() {
		if failed(r) {
			sources[r.Source] = true
		}
	}
	return len(sources) == len(partitions) || a.bus() && len(sources) > 0
}

func (a *attached) loseCheckpoints(t *testing.T) {
	t.Helper()
	client, lost := a.azurite(t), 0
	for pages := client.NewListBlobsFlatPager(a.checkpoints(), nil); pages.More(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Segment.BlobItems {
			if _, err := client.DeleteBlob(t.Context(), a.checkpoints(), *b.Name, nil); err != nil {
				t.Fatal(err)
			}
			lost++
		}
	}
	if lost != len(partitions) {
		t.Errorf("%d checkpoints, want one for each partition", lost)
	}
}

// blobStore opens what is stored.
func (a *attached) blobStore(t *testing.T) store.Store {
	t.Helper()
	o := store.Options{Location: "file://" + filepath.ToSlash(a.stored), Container: a.container}
	if a.gate != nil {
		o.Location = azuritetest.Run(t)
	}
	blobs, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return blobs
}
