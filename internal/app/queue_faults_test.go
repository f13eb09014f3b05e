package app

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/emulator"
	"persistor/internal/azurite/azuritetest"
	"persistor/internal/fanout"
	"persistor/internal/work"
)

// pair is a worker and an invoker that calls it.
func (s *queueSite) pair(t testing.TB, more ...string) (worker, invoker *process) {
	t.Helper()
	worker = start(t, "worker", s.settings.with(more...))
	invoker = start(t, "invoker", s.settings.with(more...).with("FUNC_TO_INVOKE="+worker.url+"/api/pull", "DELAY_BETWEEN_FUNCS=0"))
	return worker, invoker
}

func TestInvokeDrainsAQueue(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{}, "BATCH_COUNT=500")
	s.put(t, 1, 6000, 0)
	worker, invoker := s.pair(t, "WORKER_CONCURRENCY=4")
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke?N=3&N_per_func=2", "", &report)
	if status != 200 || report.Status != fanout.OK || report.Messages != 6000 || len(report.Units) != 3 || report.RemainingBacklog != 0 {
		t.Fatalf("status %d: %s", status, text)
	}
	s.once(t, 6000)
	s.empty(t)

	// Nothing is left: an empty report, and well.
	if status, text := call(t, invoker.url+"/api/invoke?N=2", "", &report); status != 200 || report.Messages != 0 || report.Status != fanout.OK {
		t.Fatalf("second run: status %d: %s", status, text)
	}
	// Nobody can say how many messages there are.
	status, text = call(t, invoker.url+"/api/invoke", "", nil)
	if status != 400 || !strings.Contains(text, "N=4") || !strings.Contains(text, "Manage") && !strings.Contains(text, "manage") {
		t.Errorf("without N: status %d: %s", status, text)
	}
	t.Log(text)
	s.put(t, 6001, 100, 0)
	units := start(t, "invoker", s.settings.with("INVOKER_UNITS=2", "FUNC_TO_INVOKE="+worker.url+"/api/pull"))
	if status, text := call(t, units.url+"/api/invoke", "", &report); status != 200 || report.Messages != 100 || len(report.Units) != 2 {
		t.Errorf("with INVOKER_UNITS: status %d: %s", status, text)
	}
}

func TestInvokeDrainsSessions(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Sessions: true})
	s.put(t, 1, 3000, 150) // more than a page of the list
	_, invoker := s.pair(t, "WORKER_CONCURRENCY=8")
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke?N=4&N_per_func=2", "", &report)
	if status != 200 || report.Messages != 3000 || report.Sessions < 150 || len(report.Units) != 4 || report.RemainingBacklog != 0 {
		t.Fatalf("status %d: %.2000s", status, text)
	}
	s.once(t, 3000)
	s.empty(t)
	report = fanout.Report{}
	status, text = call(t, invoker.url+"/api/invoke", "", &report)
	if status != 200 || report.Messages != 0 || len(report.Units) != 0 {
		t.Errorf("nothing left: status %d: %s", status, text)
	}
}

// A session that another receiver has is skipped and reported; the others are drained. Its state is its
// user's.
func TestSessionLockedBySomebodyElse(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Sessions: true})
	s.put(t, 1, 100, 10)
	client, err := azservicebus.NewClientFromConnectionString(s.bus.ConnectionString(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	theirs, err := client.AcceptSessionForQueue(t.Context(), "orders", "session 3", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, invoker := s.pair(t)
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke?N=2", "", &report)
	if status != 200 || report.Messages != 90 || report.Skipped != 1 || len(report.SkippedSessions) != 1 ||
		report.SkippedSessions[0].Session != "session 3" || !strings.Contains(report.SkippedSessions[0].Reason, "locked") || report.RemainingBacklog == 0 {
		t.Errorf("status %d: %s", status, text)
	}
	err = theirs.SetSessionState(t.Context(), []byte("theirs"), nil)
	if err == nil {
		err = theirs.Close(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	report = fanout.Report{}
	if status, text := call(t, invoker.url+"/api/invoke", "", &report); status != 200 || report.Messages != 10 || report.Skipped != 0 {
		t.Errorf("when it is free: status %d: %s", status, text)
	}
	s.once(t, 100)
	if theirs, err = client.AcceptSessionForQueue(t.Context(), "orders", "session 3", nil); err != nil {
		t.Fatal(err)
	}
	if state, err := theirs.GetSessionState(t.Context(), nil); err != nil || string(state) != "theirs" {
		t.Errorf("the session's state is %q: %v", state, err)
	}
}

func TestWrongEntityAndKey(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{})
	for _, test := range []struct {
		name     string
		settings []string
		says     string
	}{
		{"unknown queue", []string{"SERVICE_BUS_QUEUE_NAME=nothere"}, "SERVICE_BUS_QUEUE_NAME"},
		{"unknown subscription", []string{"SERVICE_BUS_TYPE=TOPIC", "SERVICE_BUS_QUEUE_NAME=", "SERVICE_BUS_TOPIC_NAME=events", "SERVICE_BUS_SUB_NAME=nothere"}, "SERVICE_BUS_SUB_NAME"},
		{"unknown queue with sessions", []string{"SERVICE_BUS_QUEUE_NAME=nothere", "SERVICE_BUS_SESSIONS=TRUE"}, "SERVICE_BUS_QUEUE_NAME"},
		{"sessions of a queue that has none", []string{"SERVICE_BUS_SESSIONS=TRUE"}, "SERVICE_BUS_SESSIONS=FALSE"},
		{"wrong key", []string{"SERVICE_BUS_CONNECTION_STRING=" + s.bus.ConnectionStringFor("RootManageSharedAccessKey", "d3Jvbmcga2V5IHRoYXQgaXMgbm90IHJpZ2h0")}, "SERVICE_BUS_CONNECTION_STRING"},
		{"out of reach", []string{"SERVICE_BUS_CONNECTION_STRING=Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=k;SharedAccessKey=d3Jvbmcga2V5IHRoYXQgaXMgbm90IHJpZ2h0;UseDevelopmentEmulator=true"}, "127.0.0.1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, invoker := s.pair(t, append(test.settings, "INVOKER_TIMEOUT=12", "WORKER_TIMEOUT=10")...)
			began := time.Now()
			var report fanout.Report
			status, text := call(t, invoker.url+"/api/invoke?N=1&exclusive=false", "", &report)
			if status != 502 || report.Status != fanout.Failed || !strings.Contains(text, test.says) {
				t.Errorf("status %d, expected 502 and %q: %s", status, test.says, text)
			}
			if took := time.Since(began); took > 12*time.Second {
				t.Errorf("answered after %v, later than its budget", took)
			}
			if strings.Contains(text, "d3Jvbmc") || strings.Contains(text, `\n`) || strings.Contains(text, "TrackingId") {
				t.Errorf("a secret, several lines or noise: %s", text)
			}
			t.Log(text)
		})
	}
}

// An entity that is disabled fails the run, and says so; when it is enabled again, the next run goes on.
func TestEntityDisabledWhileDraining(t *testing.T) {
	t.Parallel()
	for _, sessions := range []int{0, 5} {
		s := newSource(t, sessions, false, "BATCH_COUNT=50")
		s.put(t, 1, 6_000, sessions)
		worker := start(t, "worker", s.settings)
		disabled := make(chan error, 1)
		go func() {
			for {
				if info, err := s.bus.Queue(s.path); err != nil || info.Completed > 500 {
					disabled <- s.bus.SetDisabled(s.path, true)
					return
				}
			}
		}()
		report, err := pullQueue(worker, "disabled", 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-disabled; err != nil {
			t.Fatal(err)
		}
		for _, row := range report.Sources {
			if row.Ended != work.Failed || !strings.Contains(row.Error, "disabled") {
				t.Errorf("%d sessions: %+v", sessions, row)
			}
		}
		t.Log(report.Sources[0].Error)
		if err := s.bus.SetDisabled(s.path, false); err != nil {
			t.Fatal(err)
		}
		if _, err := s.bus.ExpireLocks(s.path); err != nil {
			t.Fatal(err)
		}
		if report, err := pullQueue(worker, "enabled", 2); err != nil || !drained(report) {
			t.Fatalf("%v: %+v", err, report)
		}
		s.once(t, 6_000)
		s.empty(t)
	}
}

// Connections that drop and links that are detached are opened again; what was received before is settled
// by other means, or comes again.
func TestDroppedQueueConnections(t *testing.T) {
	t.Parallel()
	for _, source := range queueSources[:3] {
		t.Run(source.name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t, source.sessions, source.deadLetter, "BATCH_COUNT=100", "WORKER_TIMEOUT=50")
			s.put(t, 1, 10_000, source.sessions)
			worker := start(t, "worker", s.settings)
			pulled := make(chan struct{})
			var pullErr error
			go func() {
				defer close(pulled)
				_, pullErr = pullQueue(worker, "drops", 3)
			}()
			// A settlement that meets a dropped connection is tried again after seconds: the drain goes on later
			// than a wait's limit, or ends at its deadline before the last drop.
			for n := range 6 {
				for more := false; !more; {
					select {
					case <-pulled:
						more = true
					case <-time.After(10 * time.Millisecond):
						info, err := s.bus.Queue(s.path)
						more = err != nil || info.Completed > int64(n)*1000
					}
				}
				if n%3 == 0 {
					s.bus.DropConnections()
				} else {
					s.bus.DetachLinks(func(l emulator.Link) bool { return l.Receives && l.Address == s.path }, "amqp:link:detach-forced", "the test did it")
				}
			}
			<-pulled
			if pullErr != nil {
				t.Fatal(pullErr)
			}
			if _, err := s.bus.ExpireLocks(s.path); err != nil {
				t.Fatal(err)
			}
			if report, err := pullQueue(worker, "calm", 3); err != nil || !drained(report) {
				t.Fatalf("%v: %+v", err, report)
			}
			s.once(t, 10_000)
			s.empty(t)
		})
	}
}

// A settlement whose answer is lost took effect: nothing is lost, nothing is stored twice.
func TestSettlementRepliesLost(t *testing.T) {
	parallelUnlessShort(t)
	for _, sessions := range []int{0, 4} {
		s := newSource(t, sessions, false, "BATCH_COUNT=50", "WORKER_TIMEOUT=50")
		s.put(t, 1, 1000, sessions)
		s.bus.LoseSettlementReplies(5)
		s.bus.DetachOnSettlements(3)
		report := drainQueue(t, s.drainer(t), 1, work.Drained)
		if _, err := s.bus.ExpireLocks(s.path); err != nil {
			t.Fatal(err)
		}
		again := drainQueue(t, s.drainer(t), 1, work.Drained)
		t.Logf("%+v, then %+v", report.Sources[0], again.Sources[0])
		s.once(t, 1000)
		s.empty(t)
	}
}

// At its deadline a loop stores and settles what it holds, and gives back the rest.
func TestQueueDeadline(t *testing.T) {
	parallelUnlessShort(t)
	for _, source := range queueSources[:2] {
		s := newQueueSite(t, emulator.Queue{
			Sessions:  source.sessions > 0,
			Synthetic: &emulator.SyntheticQueue{Messages: 5_000_000, BodySize: 200, Sessions: source.sessions},
		}, "BATCH_COUNT=1000")
		worker := start(t, "worker", s.settings)
		stored := int64(0)
		const attempts = 3
		for attempt := 1; ; attempt++ {
			began := time.Now()
			var report work.Report
			status, text := call(t, worker.url+"/api/pull", `{"run":"deadline","tasks":2,"budget_seconds":8}`, &report)
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("%s: answered after %v with a budget of 8 s", source.name, took)
			}
			if status != 200 {
				t.Fatalf("status %d: %s", status, text)
			}
			unconfirmed := int64(0)
			for _, row := range report.Sources {
				stored += row.Messages
				unconfirmed += row.RedeliveryExpected
				if row.Ended != work.Deadline || row.Messages == 0 {
					t.Errorf("%s: %+v", source.name, row)
				}
			}
			info, err := s.bus.Queue(s.path)
			if err != nil {
				t.Fatal(err)
			}
			if unconfirmed > 0 && attempt < attempts {
				// The machine stood still for longer than is kept for settling; it says so, and what comes
				// again is not stored again.
				t.Logf("%s: attempt %d: %d stored, %d completed, %d expected again", source.name, attempt, stored, info.Completed, unconfirmed)
				continue
			}
			// What reaches the client in the moment in which its link is closed can't be given back.
			if unconfirmed > 0 || info.Completed != stored && attempt == 1 || info.Locked > 20 {
				t.Errorf("%s: %d stored, %d completed, %d still locked: %+v", source.name, stored, info.Completed, info.Locked, report.Sources)
			}
			break
		}
	}
}

// SIGTERM is a deadline that comes at once.
func TestQueueWorkerTerminated(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Synthetic: &emulator.SyntheticQueue{Messages: 5_000_000, BodySize: 200}})
	worker := start(t, "worker", s.settings)
	answered := make(chan work.Report, 1)
	go func() {
		report, err := pullQueue(worker, "term", 1)
		if err != nil {
			t.Error(err)
		}
		answered <- report
	}()
	waitFor(t, "messages to be stored", func() bool {
		_, text, err := tryCall(worker.url+"/api/status", "")
		return err == nil && strings.Contains(text, `"receiver":0`) && !strings.Contains(text, `"stored":0,`)
	})
	if status := worker.terminate(t); status != 0 {
		t.Errorf("exit status %d: %s", status, worker.stderr)
	}
	report := <-answered
	info, err := s.bus.Queue(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if report.Sources[0].Ended != work.Cancelled || report.Messages == 0 || info.Completed != report.Messages || info.Locked > 20 {
		t.Errorf("%+v: %+v", info, report)
	}
}

// An invoker that is killed leaves its workers to end their units; the next run finds what is left.
func TestInvokerKilled(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{}, "BATCH_COUNT=50")
	s.put(t, 1, 8_000, 0)
	worker, invoker := s.pair(t)
	answered := make(chan error, 1)
	go func() {
		_, _, err := tryCall(invoker.url+"/api/invoke?N=1&N_per_func=2", "")
		answered <- err
	}()
	waitFor(t, "messages to be completed", func() bool {
		info, err := s.bus.Queue(s.path)
		return err != nil || info.Completed > 200
	})
	invoker.kill()
	if err := <-answered; err == nil {
		t.Error("the invoker answered all the same")
	}
	invoker = start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull", "DELAY_BETWEEN_FUNCS=0"))
	var report fanout.Report
	if status, text := call(t, invoker.url+"/api/invoke?N=1&N_per_func=2", "", &report); status != 200 {
		t.Fatalf("status %d: %s", status, text)
	}
	if _, err := s.bus.ExpireLocks(s.path); err != nil {
		t.Fatal(err)
	}
	if report, err := pullQueue(worker, "rest", 1); err != nil || !drained(report) {
		t.Fatalf("%v: %+v", err, report)
	}
	s.once(t, 8_000)
	s.empty(t)
}

// Storage that is away for longer than locks last delays a run: the locks are renewed meanwhile, so that
// nothing comes again.
func TestLocksAreRenewedWhileStorageIsDown(t *testing.T) {
	connection := azuritetest.Run(t)
	for _, source := range queueSources[:2] {
		t.Run(source.name, func(t *testing.T) {
			t.Parallel()
			gate, connection := newGate(t, connection)
			s := newQueueSite(t, emulator.Queue{Sessions: source.sessions > 0, LockDuration: 2 * time.Second, MaxDeliveryCount: 2000},
				"PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "PERSISTOR_CONTAINER_NAME="+azuritetest.Container(t), "BATCH_COUNT=200")
			s.put(t, 1, 2000, source.sessions)
			worker := start(t, "worker", s.settings)
			gate.shutAfter(6)
			time.AfterFunc(6*time.Second, gate.open)
			began := time.Now()
			report, err := pullQueue(worker, "down", 2)
			if err != nil || !drained(report) {
				t.Fatalf("%s: %v: %+v", source.name, err, report)
			}
			if time.Since(began) < 5*time.Second {
				t.Errorf("%s: drained before storage was back", source.name)
			}
			for _, row := range report.Sources {
				if row.RedeliveryExpected != 0 || row.AlreadyStored != 0 || row.Skipped != 0 {
					t.Errorf("%s: locks were lost: %+v", source.name, row)
				}
			}
			s.once(t, 2000)
			s.empty(t)
		})
	}
}

// Locks that are lost while storage is down: nothing is lost. What was being stored at that moment may be
// there twice, and then the second record says that it is a repetition; a session's never is.
func TestLocksExpireWhileStorageIsDown(t *testing.T) {
	connection := azuritetest.Run(t)
	for _, source := range queueSources[:2] {
		t.Run(source.name, func(t *testing.T) {
			t.Parallel()
			gate, connection := newGate(t, connection)
			s := newQueueSite(t, emulator.Queue{Sessions: source.sessions > 0, MaxDeliveryCount: 2000},
				"PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "PERSISTOR_CONTAINER_NAME="+azuritetest.Container(t), "BATCH_COUNT=200")
			s.put(t, 1, 2000, source.sessions)
			worker := start(t, "worker", s.settings)
			gate.shutAfter(6)
			time.AfterFunc(2*time.Second, func() {
				if _, err := s.bus.ExpireLocks(s.path); err != nil {
					t.Error(err)
				}
				for i := range source.sessions {
					if _, err := s.bus.ExpireSessionLock(s.path, fmt.Sprintf("session %d", i)); err != nil {
						t.Error(err)
					}
				}
			})
			time.AfterFunc(4*time.Second, gate.open)
			report, err := pullQueue(worker, "down", 2)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %+v", source.name, report.Sources)
			if report, err := pullQueue(worker, "up", 2); err != nil || !drained(report) {
				t.Fatalf("%s: %v: %+v", source.name, err, report)
			}
			_, messages := s.blobs(t)
			seen := map[int64]int{}
			repeated := 0
			for _, m := range messages {
				seen[m.SequenceNumber]++
				if n := seen[m.SequenceNumber]; n > 1 {
					repeated++
					if source.sessions > 0 || n > 2 {
						t.Errorf("%s: message %d is stored %d times", source.name, m.SequenceNumber, n)
					}
				}
			}
			if len(seen) != 2000 {
				t.Errorf("%s: %d messages are stored", source.name, len(seen))
			}
			t.Logf("%s: %d repetitions", source.name, repeated)
			s.empty(t)
		})
	}
}

// Storage that is away beyond the deadline fails the unit in time, and its messages are given back.
func TestStorageDownBeyondTheDeadline(t *testing.T) {
	parallelUnlessShort(t)
	gate, connection := newGate(t, azuritetest.Run(t))
	s := newQueueSite(t, emulator.Queue{}, "PERSISTOR_STORAGE_CONNECTION_STRING="+connection, "PERSISTOR_CONTAINER_NAME="+azuritetest.Container(t), "BATCH_COUNT=200")
	s.put(t, 1, 2000, 0)
	worker := start(t, "worker", s.settings)
	gate.shutAfter(6)
	began := time.Now()
	status, text := call(t, worker.url+"/api/pull", `{"run":"down","tasks":2,"budget_seconds":8}`, nil)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("answered after %v with a budget of 8 s", took)
	}
	if status != 502 || !strings.Contains(text, `"ended":"failed"`) || !strings.Contains(text, `"abandoned"`) {
		t.Errorf("status %d: %s", status, text)
	}
	info, err := s.bus.Queue(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Locked > 20 {
		t.Errorf("%d messages are still locked", info.Locked)
	}
	t.Log(text)
	gate.open()
	if _, err := s.bus.ExpireLocks(s.path); err != nil {
		t.Fatal(err)
	}
	if report, err := pullQueue(worker, "up", 2); err != nil || !drained(report) {
		t.Fatalf("%v: %+v", err, report)
	}
	s.once(t, 2000)
	s.empty(t)
}
