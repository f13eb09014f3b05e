package emulator

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"persistor/emulator/internal/wire"
)

// faults are what the emulator is to do wrong.
type faults struct {
	tokens, sends, requests, attaches atomic.Int64 // how many more are refused
	settlements, settlementLinks      atomic.Int64 // how many more are not answered, and have their links detached
	delay                             atomic.Int64 // time.Duration
}

// take uses up one of a number of faults.
func (f *faults) take(left *atomic.Int64) bool {
	for {
		n := left.Load()
		if n <= 0 {
			return false
		}
		if left.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

const (
	conditionServerBusy = "com.microsoft:server-busy"
	textServerBusy      = "The request was terminated because the namespace is being throttled. Error code : 50009. Please wait 10 seconds and try again."
)

func (f *faults) throttleRequest(node string) *reply {
	if strings.HasSuffix(node, managementNode) && f.take(&f.requests) {
		return refuse(http.StatusServiceUnavailable, conditionServerBusy, textServerBusy)
	}
	return nil
}

// throttled returns the error of a throttled send or attach, nil if there is none.
func (e *Emulator) throttled(left *atomic.Int64, entity string) *wire.Error {
	if !e.faults.take(left) {
		return nil
	}
	return &wire.Error{Condition: conditionServerBusy, Description: e.describe(entity, textServerBusy)}
}

// loseSettlement reports whether a settlement, which has taken effect, is not to be answered.
func (e *Emulator) loseSettlement(l *link) bool {
	if e.faults.take(&e.faults.settlementLinks) {
		l.kick(&wire.Error{Condition: wire.ConditionDetachForced, Description: e.describe(l.address, "The link '%s' is force detached, as a test wants it.", l.name)})
		return true
	}
	return e.faults.take(&e.faults.settlements)
}

// DropConnections closes the sockets of all connections without a word, and returns how many there were.
func (e *Emulator) DropConnections() int {
	all := e.snapshot()
	for _, c := range all {
		c.nc.Close()
	}
	return len(all)
}

// HalfClose ends the emulator's direction of all connections and leaves the client's open, as a broken proxy does. It
// returns how many connections there were.
func (e *Emulator) HalfClose() int {
	all := e.snapshot()
	for _, c := range all {
		if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
	return len(all)
}

// Link tells of an attached link.
type Link struct {
	Connection int64  // counts from 1 in the order of acceptance
	Name       string // as the client chose it
	Address    string // of the node, as the client wrote it
	Receives   bool   // the client receives on it
	Credit     uint32 // deliveries that may still be sent
}

// Links returns the links that are attached at the moment, in no order.
func (e *Emulator) Links() []Link {
	var links []Link
	e.eachLink(func(l Link, _ *link) { links = append(links, l) })
	return links
}

// DetachLinks detaches the links that match, with an error of the given condition, for example amqp:link:detach-forced.
// It returns how many there were; the clients get to know soon after.
func (e *Emulator) DetachLinks(match func(Link) bool, condition, description string) int {
	n := 0
	e.eachLink(func(shown Link, l *link) {
		if match(shown) {
			l.kick(&wire.Error{Condition: condition, Description: description})
			n++
		}
	})
	return n
}

func (e *Emulator) eachLink(do func(Link, *link)) {
	type pair struct {
		shown Link
		link  *link
	}
	var all []pair
	for _, c := range e.snapshot() {
		c.mu.Lock()
		for _, s := range c.sessions {
			for _, l := range s.links {
				if !l.detached {
					all = append(all, pair{Link{c.id, l.name, l.address, l.feed != nil, l.credit}, l})
				}
			}
		}
		c.mu.Unlock()
	}
	for _, p := range all {
		do(p.shown, p.link)
	}
}

// RefuseTokens has the next n tokens refused with status 401.
func (e *Emulator) RefuseTokens(n int) { e.faults.tokens.Store(int64(n)) }

// ThrottleSends has the next n sends, of a message or a batch, rejected with com.microsoft:server-busy.
func (e *Emulator) ThrottleSends(n int) { e.faults.sends.Store(int64(n)) }

// ThrottleRequests has the next n requests to $management answered with status 503.
func (e *Emulator) ThrottleRequests(n int) { e.faults.requests.Store(int64(n)) }

// ThrottleAttaches has the next n links to a hub, queue, topic or subscription refused with com.microsoft:server-busy.
func (e *Emulator) ThrottleAttaches(n int) { e.faults.attaches.Store(int64(n)) }

// LoseSettlementReplies has the next n settlements take effect without an answer, be they of deliveries or by requests
// to $management: the client never hears of it, unless it settles the message another time.
func (e *Emulator) LoseSettlementReplies(n int) { e.faults.settlements.Store(int64(n)) }

// DetachOnSettlements has the next n settlements of deliveries take effect, and instead of the answer the link detached
// with amqp:link:detach-forced.
func (e *Emulator) DetachOnSettlements(n int) { e.faults.settlementLinks.Store(int64(n)) }

// ExpireLocks ends the locks of all messages of a queue now, as if their time were over, and of all sessions of one with
// sessions. It returns how many messages were locked.
func (e *Emulator) ExpireLocks(path string) (int, error) {
	q, err := e.queue(path)
	if err != nil {
		return 0, fmt.Errorf("expire locks: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.sweep(now)
	n := 0
	for range q.locks.all() {
		n++
	}
	for range n {
		q.abandon(q.locks.first, now)
	}
	for e := q.held.Front(); e != nil; e = q.held.Front() {
		g := e.Value.(*messageSession)
		for range g.locks.all() {
			n++
		}
		q.loseSession(g, now)
	}
	q.arm(now)
	return n, nil
}

// ExpireSessionLock ends the lock of a session now, as if its time were over. It is false if no receiver has it.
func (e *Emulator) ExpireSessionLock(path, session string) (bool, error) {
	q, err := e.queue(path)
	if err != nil {
		return false, fmt.Errorf("expire session lock: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.sweep(now)
	g := q.sessions[session]
	if g == nil || g.holder == nil {
		return false, nil
	}
	q.loseSession(g, now)
	q.arm(now)
	return true, nil
}

// SetDisabled disables a queue, a topic or a subscription, with its sub-queues and subscriptions, or enables it again.
// The links to it are detached with com.microsoft:entity-disabled, and new ones, sends and requests are refused.
func (e *Emulator) SetDisabled(path string, disabled bool) error {
	of, err := e.queue(path)
	if err != nil {
		return fmt.Errorf("disable queue: %w", err)
	}
	for _, q := range e.queues {
		if q == of || strings.HasPrefix(q.path, of.path+"/$") || of.topic != nil && strings.HasPrefix(q.path, of.path+subscriptionPath) {
			q.setDisabled(disabled)
		}
	}
	return nil
}

func (q *queue) setDisabled(disabled bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.disabled = disabled
	if disabled {
		for l := range q.links {
			l.kick(q.isDisabled())
		}
	}
}

// Delay holds everything that is sent from now on back for d, as a long line does: the rate stays, the round trip
// grows. Zero ends it.
func (e *Emulator) Delay(d time.Duration) { e.faults.delay.Store(int64(d)) }

// delayLine is a connection whose writes arrive later. Without a delay it writes through; once there was one, all writes
// go through the line, so that they keep their order.
type delayLine struct {
	net.Conn
	delay func() int64

	mu      sync.Mutex // held by Write alone, and so by one goroutine at a time
	pending chan delayed
	failed  chan struct{} // closed when a delayed write failed
	quit    chan struct{} // closed by Close
	once    sync.Once
}

type delayed struct {
	due  time.Time
	data []byte
}

// maxDelayed is how many writes may be on the line: it bounds what a client that does not read can pile up.
const maxDelayed = 64

func newDelayLine(c net.Conn, delay func() int64) *delayLine {
	return &delayLine{Conn: c, delay: delay, failed: make(chan struct{}), quit: make(chan struct{})}
}

func (d *delayLine) Write(b []byte) (int, error) {
	delay := time.Duration(d.delay())
	d.mu.Lock()
	defer d.mu.Unlock()
	if delay <= 0 && d.pending == nil {
		return d.Conn.Write(b)
	}
	if d.pending == nil {
		d.pending = make(chan delayed, maxDelayed)
		go d.run()
	}
	select {
	case d.pending <- delayed{time.Now().Add(delay), append([]byte(nil), b...)}:
		return len(b), nil
	case <-d.failed:
	case <-d.quit:
	}
	return 0, net.ErrClosed
}

// run writes what is due, until the connection is closed.
func (d *delayLine) run() {
	defer close(d.failed)
	for {
		select {
		case w := <-d.pending:
			select {
			case <-time.After(time.Until(w.due)):
			case <-d.quit:
				return
			}
			if _, err := d.Conn.Write(w.data); err != nil {
				return
			}
		case <-d.quit:
			return
		}
	}
}

// CloseWrite ends the emulator's direction at once.
func (d *delayLine) CloseWrite() error { return d.Conn.(*net.TCPConn).CloseWrite() }

// Close drops what is on the line, and returns after the goroutine that writes it has ended.
func (d *delayLine) Close() error {
	err := d.Conn.Close()
	d.once.Do(func() { close(d.quit) })
	d.mu.Lock()
	started := d.pending != nil
	d.mu.Unlock()
	if started {
		<-d.failed
	}
	return err
}
