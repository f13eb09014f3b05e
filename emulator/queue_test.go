package emulator

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// walker does this and that with a queue, as clients would, and knows what must not happen.
type walker struct {
	t         *testing.T
	random    *rand.Rand
	now       time.Time
	e         *Emulator
	q         *queue
	receivers []*receiver
	tags      [][16]byte // of what was delivered, at some time
	gone      map[int64]bool
}

// TestServiceBusRandomWalk keeps a queue's books in order, whatever is done in whatever order: with sessions and
// without, and with made-up messages.
func TestServiceBusRandomWalk(t *testing.T) {
	for name, o := range map[string]Queue{
		"plain":              {MaxDeliveryCount: 3, DeadLetterOnExpiration: true, TTL: 5 * time.Minute, DuplicateDetection: time.Minute},
		"sessions":           {MaxDeliveryCount: 3, Sessions: true},
		"synthetic":          {Synthetic: &SyntheticQueue{Messages: 3000}},
		"synthetic sessions": {MaxDeliveryCount: 3, Sessions: true, Synthetic: &SyntheticQueue{Messages: 3000, Sessions: 7}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				w := &walker{t: t, random: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), gone: map[int64]bool{}}
				w.walk(o, 3000)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func (w *walker) walk(o Queue, steps int) {
	o.Name = "q"
	// The clock is the walker's alone: the timers of its queues never see it move.
	w.e = &Emulator{options: Options{Now: func() time.Time { return w.now }}, queues: map[string]*queue{}}
	if err := w.e.addQueue(o); err != nil {
		w.t.Fatal(err)
	}
	w.q = w.e.queues["q"]
	for _, q := range w.e.queues {
		q.closed = true // without timers
	}
	for step := range steps {
		w.step()
		for path, q := range w.e.queues {
			if err := q.audit(); err != nil {
				w.t.Fatalf("step %d: %s: %v", step, path, err)
			}
		}
		if w.t.Failed() {
			return
		}
	}
	w.drain()
}

func (w *walker) step() {
	switch n := w.random.IntN(100); {
	case n < 25 && w.q.made == nil:
		w.send()
	case n < 35:
		w.now = w.now.Add(time.Duration(w.random.IntN(20)) * time.Second)
		w.q.mu.Lock()
		w.q.sweep(w.q.now())
		w.q.mu.Unlock()
	case n < 45:
		w.attach()
	case n < 50 && len(w.receivers) > 0:
		w.detach(w.random.IntN(len(w.receivers)))
	case n < 75 && len(w.receivers) > 0:
		w.receive(w.receivers[w.random.IntN(len(w.receivers))])
	case n < 95:
		w.settle()
	default:
		w.manage()
	}
	for i := len(w.receivers) - 1; i >= 0; i-- { // as their connections would
		if w.receivers[i].link.kicked.Load() != nil {
			w.detach(i)
		}
	}
}

func (w *walker) send() {
	id := wire.AppendString(nil, fmt.Sprint(w.random.IntN(200)))
	fields := wire.PropertyFields{wire.PropertyMessageID: id, wire.PropertyGroupID: wire.AppendString(nil, fmt.Sprint("s", w.random.IntN(5)))}
	body := wire.AppendAny(wire.AppendSection(nil, wire.SectionHeader), []any{nil, nil, uint32(w.random.IntN(3) * 60_000)})
	if w.random.IntN(4) == 0 {
		body = wire.AppendAny(wire.AppendSection(body, wire.SectionMessageAnnotations), wire.Map{{Key: wire.Symbol(annotationScheduled), Value: wire.Timestamp(w.now.Add(time.Duration(w.random.IntN(60)) * time.Second).UnixMilli())}})
	}
	c, err := parseContent(append(wire.AppendPropertyFields(body, &fields), dataMessage("x")...))
	if err != nil {
		w.t.Fatal(err)
	}
	if refusal := w.q.send([]*content{c}); refusal != nil {
		w.t.Fatal(refusal)
	}
}

func (w *walker) attach() {
	c := &connection{e: w.e, wakeup: make(chan struct{}, 1)}
	l := &link{s: &session{c: c}, credit: uint32(1 + w.random.IntN(5)), name: fmt.Sprint("link", w.random.Uint64())}
	a := locking(l.name, 0, "q")
	if w.random.IntN(10) == 0 {
		a.SenderMode = new(uint8(wire.SenderSettled))
	}
	if w.q.Sessions {
		id := any(fmt.Sprint("s", w.random.IntN(5)))
		if w.q.made != nil {
			id = fmt.Sprint("session-", w.random.IntN(7))
		}
		if w.random.IntN(2) == 0 {
			id = nil
		}
		a = ofSession(a, true, id)
	}
	g, refusal := w.q.attachReceiver(l, a)
	switch {
	case refusal != nil && refusal.Condition != conditionSessionLocked:
		w.t.Fatal(refusal)
	case refusal == nil:
		if w.q.Sessions && g.later != (g.session == nil) {
			w.t.Fatalf("granted %+v", g)
		}
		w.receivers = append(w.receivers, l.feed.(*receiver))
	}
}

func (w *walker) detach(i int) {
	w.receivers[i].release()
	w.receivers = append(w.receivers[:i], w.receivers[i+1:]...)
}

// receive lets a receiver have a message, if it may.
func (w *walker) receive(r *receiver) bool {
	if r.link.credit == 0 {
		r.sated()
		r.link.credit = uint32(w.random.IntN(5))
		return false
	}
	message, tag, ok := r.next(nil)
	if !ok {
		return false
	}
	r.link.credit--
	shown := inspect(message)
	if w.gone[shown.SequenceNumber] {
		w.t.Errorf("message %d comes after it was completed", shown.SequenceNumber)
	}
	if r.deletes {
		w.gone[shown.SequenceNumber] = true
	} else {
		w.tags = append(w.tags, tag)
	}
	return true
}

// settle settles something that was delivered once, whatever became of it.
func (w *walker) settle() {
	if len(w.tags) == 0 || len(w.receivers) == 0 {
		return
	}
	i := max(0, len(w.tags)-1-w.random.IntN(10))
	outcomes := []wire.State{&wire.Accepted{}, &wire.Accepted{}, &wire.Released{}, &wire.Modified{}, &wire.Modified{Undeliverable: true}, &wire.Rejected{}, nil}
	outcome := outcomes[w.random.IntN(len(outcomes))]
	w.q.mu.Lock()
	m := w.q.withLock(guid(w.tags[i]))
	w.q.mu.Unlock()
	sequence := int64(0)
	if m != nil {
		sequence = m.sequence
	}
	got := w.receivers[w.random.IntN(len(w.receivers))].settle(w.tags[i], outcome)
	refused, _ := got.(*wire.Rejected)
	if _, accepted := outcome.(*wire.Accepted); accepted && (refused == nil || refused.Error == nil) {
		if w.gone[sequence] || m == nil {
			w.t.Errorf("message %d is completed twice", sequence)
		}
		w.gone[sequence] = true
	}
}

// manage makes one of the requests that change something.
func (w *walker) manage() {
	m := &management{queue: w.q, now: w.q.now()}
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	w.q.sweep(m.now)
	var deferred, scheduled wire.Array
	for message := range w.q.store.from(1) {
		switch message.state {
		case MessageDeferred:
			deferred = append(deferred, message.sequence)
		case MessageScheduled:
			scheduled = append(scheduled, message.sequence)
		}
	}
	switch w.random.IntN(5) {
	case 0:
		if len(w.tags) > 0 {
			m.body = wire.Map{{Key: "lock-tokens", Value: wire.Array{wire.UUID(guid(w.tags[len(w.tags)-1]))}}}
			_, _ = m.renewLocks()
		}
	case 1:
		m.body = wire.Map{{Key: "sequence-numbers", Value: deferred}, {Key: "receiver-settle-mode", Value: uint32(w.random.IntN(2))}}
		_, _ = m.receiveDeferred()
	case 2:
		m.body = wire.Map{{Key: "sequence-numbers", Value: scheduled}}
		_, _ = m.cancelScheduled()
	case 3:
		m.body = wire.Map{{Key: "message-count", Value: int32(1)}, {Key: "enqueued-time-utc", Value: wire.Timestamp(w.now.Add(-time.Minute).UnixMilli())}}
		_, _ = m.deleteBatch()
	case 4:
		m.body = wire.Map{{Key: "session-id", Value: fmt.Sprint("s", w.random.IntN(5))}, {Key: "session-state", Value: make([]byte, w.random.IntN(2))}}
		_, _ = m.setSessionState()
		_, _ = m.renewSession()
	}
}

// drain receives and completes all that is there: then nothing may be.
func (w *walker) drain() {
	for len(w.receivers) > 0 {
		w.detach(0)
	}
	w.now = w.now.Add(time.Hour) // for the locks
	if _, err := w.e.Queue("q"); err != nil {
		w.t.Fatal(err)
	}
	for w.q.info.Active > 0 {
		w.attach()
		if n := len(w.receivers); n > 0 {
			r := w.receivers[n-1]
			for r.link.credit = 1; w.receive(r); r.link.credit = 1 {
				if r.settle(w.lastTag(), &wire.Accepted{}) == nil && !r.deletes {
					w.t.Fatal("it is not settled")
				}
			}
			w.detach(n - 1)
		}
	}
	if err := w.q.audit(); err != nil || w.q.info.Locked != 0 || w.q.promised != 0 || w.q.hungry.Len() != 0 || w.q.waiting.Len() != 0 {
		w.t.Errorf("at the end: %v, %+v", err, w.q.info)
	}
	for _, g := range w.q.sessions {
		if g.messages == 0 && g.state == nil {
			w.t.Errorf("session %s is remembered for nothing", g.id)
		}
	}
}

func (w *walker) lastTag() (tag [16]byte) {
	if len(w.tags) > 0 {
		tag = w.tags[len(w.tags)-1]
	}
	return tag
}
