package emulator

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"persistor/emulator/internal/wire"
)

// connection is a client's connection. One goroutine runs serve and reads, another runs write.
type connection struct {
	e      *Emulator
	nc     net.Conn
	r      *bufio.Reader
	frame  []byte // of the reader
	id     int64
	refuse bool // there are too many connections: say so and close
	wakeup chan struct{}

	mu      sync.Mutex
	room    sync.Cond // signalled when the writer took control
	peer    wire.Open
	control []byte // encoded frames that go out next, before any delivery
	// sessions by the client's channel number, which is also the one that frames go out on.
	sessions map[uint16]*session
	outgoing []*link // the links that the client receives on
	turn     int     // which of outgoing is served first
	links    int
	claims   map[string]claim // by the lower-cased path that the token is for
	opened   time.Time
	linked   bool      // there was a link
	linkless time.Time // since when there is none
	closing  bool      // a close with an error went out: only the client's close counts now
	finished bool      // the reader has ended: flush and end
	verified bool      // there was a valid token
}

// maxControl is how many bytes of answers may wait for a client that asks but does not read; then it is not read from
// any more.
const maxControl = 1 << 20

func newConnection(e *Emulator, nc net.Conn, refuse bool) *connection {
	nc = newDelayLine(nc, e.faults.delay.Load)
	c := &connection{
		e: e, nc: nc, r: bufio.NewReaderSize(nc, 64<<10), id: e.connectionIDs.Add(1), refuse: refuse,
		wakeup: make(chan struct{}, 1), sessions: map[uint16]*session{}, claims: map[string]claim{},
	}
	c.room.L = &c.mu
	return c
}

// serve runs the connection from its first byte to its last.
func (c *connection) serve() {
	log := c.e.log.With("connection", c.id)
	defer c.nc.Close()
	log.Debug("connection accepted", "from", c.nc.RemoteAddr())
	if limit := c.e.limits.Handshake; limit > 0 {
		_ = c.nc.SetDeadline(time.Now().Add(limit))
	}
	err := c.handshake()
	if err == nil {
		err = c.open()
	}
	if err != nil {
		log.Debug("connection ended before its open", "error", err)
		return
	}
	_ = c.nc.SetDeadline(time.Time{})
	var writer sync.WaitGroup
	writer.Go(c.write)
	err = c.read()
	c.mu.Lock()
	c.finished = true
	c.mu.Unlock()
	c.wake()
	writer.Wait()
	if c.closing {
		c.linger()
	}
	c.mu.Lock()
	for _, s := range c.sessions {
		s.release()
	}
	c.mu.Unlock()
	log.Debug("connection ended", "error", err)
}

// open reads the client's open and answers it.
func (c *connection) open() error {
	f, err := wire.ReadFrame(c.r, c.e.limits.FrameSize, &c.frame)
	var p wire.Performative
	if err == nil {
		p, _, err = wire.Parse(f.Body)
	}
	reason := asAMQP(err)
	if err != nil && reason == nil {
		return err
	}
	open, ok := p.(*wire.Open)
	switch {
	case reason != nil:
	case !ok:
		reason = &wire.Error{Condition: wire.ConditionNotAllowed, Description: "the first frame must be open, got " + wire.Name(p)}
	case open.ContainerID == "":
		reason = &wire.Error{Condition: wire.ConditionInvalidField, Description: "open has no container-id"}
	case open.MaxFrameSize < wire.MinMaxFrameSize:
		reason = &wire.Error{Condition: wire.ConditionInvalidField, Description: fmt.Sprintf("open has a max-frame-size of %d, less than %d", open.MaxFrameSize, wire.MinMaxFrameSize)}
	case c.refuse:
		reason = &wire.Error{Condition: wire.ConditionResourceLimitExceeded, Description: fmt.Sprintf("the namespace has %d connections, which is all that it may have", c.e.limits.Connections)}
	}
	answer := &wire.Open{
		ContainerID:  trackingID(c.id),
		MaxFrameSize: c.e.limits.FrameSize,
		ChannelMax:   uint16(c.e.limits.SessionsPerConnection - 1),
	}
	if c.e.limits.Silence > 0 {
		answer.IdleTimeout = new(uint32(c.e.limits.Silence.Milliseconds()))
	}
	b := wire.AppendFrame(nil, 0, answer, nil)
	if reason != nil {
		_ = c.send(wire.AppendFrame(b, 0, &wire.Close{Error: reason}, nil))
		c.linger()
		return reason
	}
	c.peer = *open
	c.opened = time.Now()
	c.linkless = c.opened
	return c.send(b)
}

// linger gives the client the time to read why it is disconnected: to close a socket with unread input resets it, and
// that can overtake what was written.
func (c *connection) linger() {
	_ = c.nc.SetReadDeadline(time.Now().Add(time.Second))
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c.r, 1<<20))
}

// read handles frames until the connection ends, and returns why.
func (c *connection) read() error {
	for {
		if limit := c.e.limits.Silence; limit > 0 && c.r.Buffered() == 0 {
			c.mu.Lock()
			if !c.closing { // else the deadline is that of the client's close
				// The standard wants some leeway above what is advertised.
				_ = c.nc.SetReadDeadline(time.Now().Add(limit + limit/2))
			}
			c.mu.Unlock()
		}
		f, err := wire.ReadFrame(c.r, c.e.limits.FrameSize, &c.frame)
		var p wire.Performative
		var payload []byte
		if err == nil && len(f.Body) > 0 {
			p, payload, err = wire.Parse(f.Body)
		}
		if err == nil && f.Type != wire.TypeAMQP {
			err = &wire.Error{Condition: wire.ConditionFramingError, Description: "a SASL frame came after the open"}
		}
		broken := asAMQP(err)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			broken = &wire.Error{Condition: wire.ConditionConnectionForced, Description: fmt.Sprintf("no frame came for more than the idle timeout of %v", c.e.limits.Silence)}
		}
		if err != nil && broken == nil {
			return err
		}
		c.mu.Lock()
		if c.closing && errors.Is(err, os.ErrDeadlineExceeded) {
			c.mu.Unlock()
			return errors.New("the client did not answer close")
		}
		done := false
		if broken != nil {
			c.fail(broken)
			if broken.Condition == wire.ConditionFramingError {
				done = true // where the next frame begins is anyone's guess
			}
		} else if p != nil {
			done = c.handle(f.Channel, p, payload)
		}
		for len(c.control) > maxControl && !c.finished {
			c.wake()
			c.room.Wait()
		}
		c.mu.Unlock()
		if done || !c.moreFrames() {
			c.wake()
		}
		if done {
			return err
		}
	}
}

// moreFrames reports whether another frame has been read already. Its answer then goes out in one write with those of
// the frames before it.
func (c *connection) moreFrames() bool {
	if c.r.Buffered() < wire.FrameHeaderSize {
		return false
	}
	head, _ := c.r.Peek(wire.FrameHeaderSize)
	return uint64(binary.BigEndian.Uint32(head)) <= uint64(c.r.Buffered())
}

// handle deals with a frame and reports whether it was the last. The lock is held.
func (c *connection) handle(channel uint16, p wire.Performative, payload []byte) (done bool) {
	if closed, ok := p.(*wire.Close); ok {
		if !c.closing {
			c.answer(0, &wire.Close{})
		}
		if closed.Error != nil {
			c.e.log.Debug("client closed with an error", "connection", c.id, "error", closed.Error)
		}
		return true
	}
	if c.closing {
		return false
	}
	if int(channel) >= c.e.limits.SessionsPerConnection {
		c.fail(&wire.Error{Condition: wire.ConditionFramingError, Description: fmt.Sprintf("channel %d is above the channel-max of %d", channel, c.e.limits.SessionsPerConnection-1)})
		return false
	}
	s := c.sessions[channel]
	if begin, ok := p.(*wire.Begin); ok {
		if s != nil {
			c.fail(&wire.Error{Condition: wire.ConditionNotAllowed, Description: fmt.Sprintf("channel %d has a session already", channel)})
			return false
		}
		c.begin(channel, begin)
		return false
	}
	if s == nil {
		c.fail(&wire.Error{Condition: wire.ConditionNotAllowed, Description: fmt.Sprintf("%s came on channel %d, which has no session", wire.Name(p), channel)})
		return false
	}
	s.handle(p, payload)
	return false
}

// fail closes the connection with an error. The lock is held.
func (c *connection) fail(reason *wire.Error) {
	if c.closing {
		return
	}
	c.closing = true
	c.e.log.Debug("connection failed", "connection", c.id, "error", reason)
	c.answer(0, &wire.Close{Error: reason})
	_ = c.nc.SetReadDeadline(time.Now().Add(time.Second))
	c.wake()
}

// answer has a frame sent. The lock is held.
func (c *connection) answer(channel uint16, p wire.Performative) {
	c.control = wire.AppendFrame(c.control, channel, p, nil)
}

// send writes at once, before there is a writer.
func (c *connection) send(b []byte) error {
	_, err := c.nc.Write(b)
	return err
}

// wake has the writer look at what there is to do. It needs no lock and never blocks.
func (c *connection) wake() {
	select {
	case c.wakeup <- struct{}{}:
	default:
	}
}

// asAMQP returns err as an AMQP error, nil if it is none.
func asAMQP(err error) *wire.Error {
	e, _ := errors.AsType[*wire.Error](err)
	return e
}
