package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/record"
	"persistor/internal/work"
)

// appendModes are the settings with which batches are joined. Blobs are full soon.
var appendModes = map[string][]string{
	"append":       {"APPEND=TRUE", "APPEND_BYTES=1MiB"},
	"timed append": {"TIMED_APPEND=TRUE", "APPEND_BYTES=1MiB"},
}

// onAzurite has a site store its blobs in Azurite, and its checkpoints where they were.
func (s *site) onAzurite(t testing.TB) string {
	connection := azuritetest.Run(t)
	s.settings = s.settings.with(
		"PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "PERSISTOR_CONTAINER_NAME="+azuritetest.Container(t),
		"EVENT_HUB_CHECKPOINT_STORAGE_CONN_STRING=file://"+filepath.ToSlash(s.dir))
	return connection
}

// A worker that appends is killed at any moment, again and again: every event is stored, once.
func TestKilledAppenderLosesAndRepeatsNothing(t *testing.T) {
	kills := 6
	switch {
	case isSoak():
		kills = 100
	case testing.Short():
		kills = 2
	}
	for mode, settings := range appendModes {
		for _, storage := range []string{"directory", "azurite"} {
			t.Run(mode+" "+storage, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, 2, 60_000)
				if storage == "azurite" {
					s.onAzurite(t)
				}
				s.settings = s.settings.with(settings...)
				killAtRandom(t, s, kills)
			})
		}
	}
}

// requests that an append is made of, as they pass on their way to storage.
const (
	announcing = "announcing" // the metadata of what is to be appended, or an append blob without content
	adding     = "appending"  // the block
)

func requestOf(r *http.Request) string {
	switch comp := r.URL.Query().Get("comp"); {
	case comp == "appendblock":
		return adding
	case comp == "metadata" || r.Header.Get("x-ms-blob-type") == "AppendBlob":
		return announcing
	}
	return ""
}

// crossing is a proxy in front of Azurite at which something happens to the n-th request of a kind.
type crossing struct {
	mu     sync.Mutex
	kind   string
	left   int
	before func() // it has come, and is not passed on if this says so
	after  func() // it was answered, and the answer is not passed on
}

func (c *crossing) set(kind string, n int, before, after func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kind, c.left, c.before, c.after = kind, n, before, after
}

// hit says what is to happen to a request; nothing, mostly.
func (c *crossing) hit(r *http.Request) (before, after func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if requestOf(r) != c.kind {
		return nil, nil
	}
	if c.left--; c.left != 0 {
		return nil, nil
	}
	return c.before, c.after
}

// newCrossing puts a crossing on a site's way to Azurite.
func newCrossing(t *testing.T, s *site) *crossing {
	t.Helper()
	connection := s.onAzurite(t)
	_, endpoint, _ := strings.Cut(connection, "BlobEndpoint=")
	endpoint, _, _ = strings.Cut(endpoint, ";")
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c := new(crossing)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target.Host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before, after := c.hit(r)
		body, err := io.ReadAll(r.Body) // so that what was sent arrives, whatever becomes of its sender
		if err != nil || before != nil {
			if before != nil {
				before()
			}
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if after != nil {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			after()
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.settings = s.settings.with("PERSISTOR_STORAGE_CONNECTION_STRING=" + strings.Replace(connection, target.Host, server.Listener.Addr().String(), 1))
	return c
}

// A worker is killed at every step of an append to Blob Storage: when a request was sent and has not arrived,
// and when it was carried out and not answered. Or it lives on, and only the answer is lost.
func TestAppendersRequestsLost(t *testing.T) {
	for mode, settings := range appendModes {
		for _, kind := range []string{announcing, adding} {
			for _, when := range []string{"before", "after"} {
				for _, dies := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s %s %s dies %t", mode, when, kind, dies), func(t *testing.T) {
						t.Parallel()
						s := newSite(t, 1, 1000)
						c := newCrossing(t, s)
						s.settings = s.settings.with(settings...).with("BATCH_COUNT=100", "GET_METADATA=TRUE", "EVENT_HUB_CHECKPOINT_UPDATE_RATE=1")
						loseRequests(t, s, c, kind, when, dies)
					})
				}
			}
		}
	}
}

func loseRequests(t *testing.T, s *site, c *crossing, kind, when string, dies bool) {
	lost := 0
	for attempt := range 30 {
		worker := start(t, "worker", s.settings)
		at := func() {
			lost++
			if dies {
				worker.kill()
			}
		}
		n := 1 + attempt%3 // the first makes the blob
		if when == "before" {
			c.set(kind, n, at, nil)
		} else {
			c.set(kind, n, nil, at)
		}
		var report work.Report
		_, text, err := tryCall(worker.url+"/api/pull", s.unit("lost", 1, int64(attempt+1)))
		worker.kill()
		if err != nil && dies {
			continue
		}
		if err == nil {
			err = json.Unmarshal([]byte(text), &report)
		}
		if err != nil || !drained(report) {
			t.Fatalf("not drained: %v %s", err, text)
		}
		if lost == 0 {
			t.Fatal("no request was lost")
		}
		found := s.audit(t, hubName)
		if found.Blobs > 2 {
			t.Errorf("%d blobs; want one, or one for each minute", found.Blobs)
		}
		return
	}
	t.Fatal("never drained")
}

// Two runs at once, with batches of different sizes: what is there at the end is one chain.
func TestOverlappingAppenders(t *testing.T) {
	for mode, settings := range appendModes {
		for _, storage := range []string{"directory", "azurite"} {
			t.Run(mode+" "+storage, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, 2, 20_000)
				if storage == "azurite" {
					s.onAzurite(t)
				}
				s.settings = s.settings.with(settings...).with("GET_METADATA=TRUE")
				var wg sync.WaitGroup
				for i, count := range []string{"BATCH_COUNT=300", "BATCH_COUNT=700"} {
					worker := start(t, "worker", s.settings.with(count))
					wg.Go(func() {
						var report work.Report
						_, text, err := tryCall(worker.url+"/api/pull", s.unit(fmt.Sprint("run", i), 2, int64(i+1)))
						if err == nil {
							err = json.Unmarshal([]byte(text), &report)
						}
						for _, source := range report.Sources {
							if !source.Ended.OK() {
								t.Errorf("run %d: %+v", i, source)
							}
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				s.audit(t, hubName)
			})
		}
	}
}

// Runs that join their batches and runs that don't take turns on one folder; a blob goes on where the last
// one ended, if it may.
func TestModesTakeTurns(t *testing.T) {
	s := newSite(t, 1, 900)
	s.settings = s.settings.with("BATCH_COUNT=100", "GET_METADATA=TRUE", "EVENT_HUB_RECEIVE_DURATION=")
	modes := []string{"APPEND=TRUE", "", "TIMED_APPEND=TRUE", "APPEND=TRUE"}
	for n, mode := range modes {
		// Each begins without a checkpoint, and so reads everything again.
		worker := start(t, "worker", s.settings.with(mode, fmt.Sprint("EVENT_HUB_CHECKPOINT_CONTAINER=checkpoints-", n)))
		var report work.Report
		status, text := call(t, worker.url+"/api/pull", s.unit(fmt.Sprint("run", n), 1, int64(n+1)), &report)
		if status != 200 || !drained(report) || n > 0 && report.Messages != 0 {
			t.Fatalf("run %d: status %d: %s", n, status, text)
		}
		s.audit(t, hubName)
		worker.kill()
	}
}

// A blob holds one minute of enqueued time, and its name tells which, across midnight.
func TestTimedAppend(t *testing.T) {
	d := newDrains(t, emulator.Hub{})
	d.Append, d.AppendBytes = 2, 1<<20
	day := time.Date(2026, 11, 24, 23, 58, 0, 0, time.UTC)
	for n := range 20 { // every 15 s, so that four are of one minute
		if err := d.hub.Put(hubName, "0", emulator.Event{Body: []byte("x"), Enqueued: day.Add(time.Duration(n) * 15 * time.Second)}); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 { // so that blobs go on over several runs
			d.drain(work.Drained)
		}
	}
	d.drain(work.Drained)
	var names []string
	for b, err := range d.Store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(b.Name, hubName+"/2026/11/"))
	}
	want := []string{
		"24/0000-00000000000000000000-2358.txt", "24/0000-00000000000000000004-2359.txt",
		"25/0000-00000000000000000008-0000.txt", "25/0000-00000000000000000012-0001.txt", "25/0000-00000000000000000016-0002.txt",
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("%q, want %q", names, want)
	}
	d.stored()
}

// Messages of Service Bus are appended, too: a blob for each receiver, or session, and minute, which is marked
// as long as what was appended last may come again.
func TestQueueIsAppended(t *testing.T) {
	for mode, settings := range appendModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newQueueSite(t, emulator.Queue{}, append(settings, "BATCH_COUNT=100")...)
			s.put(t, 1, 3000, 0)
			report := drainQueue(t, s.drainer(t), 2, work.Drained)
			held, _ := s.blobs(t)
			if report.Messages != 3000 || report.Blobs != int64(len(held)) || len(held) > 8 {
				t.Errorf("%d blobs: %+v", len(held), report)
			}
			for _, h := range held {
				if h.Unsettled || h.Begun == 0 || h.Begun > 100 {
					t.Errorf("%+v", h)
				}
			}
			s.once(t, 3000)
			s.empty(t)
		})
	}
}

func TestSessionsAreAppendedInOrder(t *testing.T) {
	for mode, settings := range appendModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newQueueSite(t, emulator.Queue{Sessions: true}, append(settings, "BATCH_COUNT=30")...)
			for n := range 2 { // a run goes on with the blobs of the one before
				s.put(t, 1+n*1000, 1000, 10)
				report := drainQueue(t, s.drainer(t), 3, work.Drained)
				if report.Messages != 1000 {
					t.Errorf("%+v", report)
				}
			}
			s.once(t, 2000)
			s.empty(t)
			if held, _ := s.blobs(t); len(held) > 30 || mode == "append" && len(held) > 20 { // more at midnight, and a minute's end
				t.Errorf("%d blobs of 10 sessions", len(held))
			}
		})
	}
}

// A set of numbers with too many holes for a blob's metadata ends the blob.
func TestAppendedSetsAreBounded(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Sessions: true}, "APPEND=TRUE", "BATCH_COUNT=300")
	s.put(t, 1, 9000, 3) // each has every third number
	d := s.drainer(t)
	drainQueue(t, d, 1, work.Drained)
	s.once(t, 9000)
	held, _ := s.blobs(t)
	for _, h := range held {
		if n := h.Held.EncodedLen(); n > record.MaxHeldGrowing {
			t.Errorf("%d bytes of text for %d numbers", n, h.Held.Len())
		}
	}
	if len(held) <= 3 {
		t.Errorf("%d blobs, each of 3,000 holes", len(held))
	}
}
