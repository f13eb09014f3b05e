package app

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/work"
)

// line stands between a client and the emulator, and can go dead: then nothing comes through any more, and
// neither end is told.
type line struct{ dead atomic.Bool }

// newLine returns a line and the connection string by which the emulator is reached over it.
func newLine(t *testing.T, e *emulator.Emulator) (*line, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{}
	var serving sync.WaitGroup
	var conns sync.Map
	serving.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", e.Address())
			if err != nil {
				near.Close()
				continue
			}
			conns.Store(near, nil)
			conns.Store(far, nil)
			serving.Go(func() { l.forward(near, far) })
			serving.Go(func() { l.forward(far, near) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.dead.Store(false)
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		serving.Wait()
	})
	return l, strings.Replace(e.ConnectionString(), e.Address(), listener.Addr().String(), 1)
}

func (l *line) forward(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			to.Close()
			return
		}
		if l.dead.Load() {
			_, _ = io.Copy(io.Discard, from) // until the end of the test
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// A line that goes dead without a word is no silence: the entity isn't drained.
func TestDeadLineIsNotDrained(t *testing.T) {
	t.Parallel()
	for _, sessions := range []int{0, 3} {
		s := newSource(t, sessions, false, "BATCH_COUNT=50", "WORKER_TIMEOUT=15")
		s.put(t, 1, 5_000, sessions)
		line, connection := newLine(t, s.bus)
		d := s.drainer(t, "SERVICE_BUS_CONNECTION_STRING="+connection)
		go func() {
			for ticker := time.NewTicker(5 * time.Millisecond); ; {
				<-ticker.C
				if info, err := s.bus.Queue(s.path); err != nil || info.Completed > 300 {
					line.dead.Store(true)
					ticker.Stop()
					return
				}
			}
		}()
		began := time.Now()
		report := d.Drain(t.Context(), work.Unit{Run: "run", Tasks: 2})
		for _, row := range report.Sources {
			if row.Ended == work.Drained || row.Ended == work.Idle {
				t.Errorf("%d sessions: %+v", sessions, row)
			}
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%d sessions: answered after %v, later than its budget", sessions, took)
		}
		t.Logf("%d sessions: %+v", sessions, report.Sources)
		// What was received and not settled comes again.
		if _, err := s.bus.ExpireLocks(s.path); err != nil {
			t.Fatal(err)
		}
		for n := range sessions {
			if _, err := s.bus.ExpireSessionLock(s.path, "session "+string(rune('0'+n))); err != nil {
				t.Fatal(err)
			}
		}
		drainQueue(t, s.drainer(t, "WORKER_TIMEOUT=100"), 3, work.Drained)
		s.once(t, 5_000)
	}
}
