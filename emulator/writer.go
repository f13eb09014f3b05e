package emulator

import (
	"fmt"
	"time"

	"persistor/emulator/internal/wire"
)

const (
	// writeSize is how many bytes the writer gathers for one write: enough that a system call
	// costs little beside what it copies.
	writeSize = 256 << 10
	// quantum is how many deliveries a link may make before it is the next one's turn.
	quantum = 64
)

// write sends what there is to send until the connection ends. What the client must be told goes first, deliveries
// fill the rest of the buffer; while a write blocks, nothing is gathered, so that a client which does not read costs
// one buffer.
func (c *connection) write() {
	ticks := time.NewTicker(c.patience())
	defer ticks.Stop()
	var buf []byte // it grows to writeSize on a connection that has much to deliver
	wrote := time.Now()
	for {
		c.mu.Lock()
		serving := !c.closing && !c.finished
		if serving {
			c.tend()
		}
		buf = append(buf[:0], c.control...)
		c.control = c.control[:0]
		c.room.Signal()
		if serving {
			buf = c.deliver(buf)
		}
		finished := c.finished
		c.mu.Unlock()
		if len(buf) > 0 {
			if limit := c.e.limits.Write; limit > 0 {
				_ = c.nc.SetWriteDeadline(time.Now().Add(limit))
			}
			if _, err := c.nc.Write(buf); err != nil {
				c.abandon()
				return
			}
			wrote = time.Now()
			if cap(buf) > 4*writeSize { // there was a large message
				buf = nil
			}
			continue
		}
		if finished {
			return
		}
		select {
		case <-c.wakeup:
		case now := <-ticks.C:
			c.mu.Lock()
			c.check(now)
			if idle := c.peer.IdleTimeout; idle != nil && *idle > 0 && now.Sub(wrote) >= time.Duration(*idle)*time.Millisecond/3 {
				c.control = wire.AppendEmptyFrame(c.control)
			}
			c.mu.Unlock()
		}
	}
}

// abandon ends a connection that cannot be written to.
func (c *connection) abandon() {
	c.mu.Lock()
	c.finished = true
	c.control = nil
	c.room.Signal()
	c.mu.Unlock()
	c.nc.Close()
}

// tend detaches the links that were kicked, and answers those whose attach waited. The lock is held.
func (c *connection) tend() {
	for i := 0; i < len(c.outgoing); i++ {
		l := c.outgoing[i]
		if l.kicked.Load() == nil {
			l.answerPending()
		} else {
			l.evict()
		}
		if l.released {
			i--
		}
	}
	for _, s := range c.sessions {
		for _, l := range s.links {
			if l.intake != nil && !l.detached && l.kicked.Load() != nil {
				l.evict()
			}
		}
	}
}

// deliver appends deliveries of the links that have them, in turns, up to about writeSize bytes, and answers the links
// that drain. The lock is held.
func (c *connection) deliver(buf []byte) []byte {
	for progress := true; progress && len(buf) < writeSize; {
		progress = false
		c.turn++
		for i := range c.outgoing {
			before := len(buf)
			l := c.outgoing[(c.turn+i)%len(c.outgoing)]
			buf = l.deliver(buf)
			progress = progress || len(buf) > before
			if len(buf) >= writeSize {
				break
			}
		}
	}
	return buf
}

// patience is how often check runs: several times in the shortest time that it looks for.
func (c *connection) patience() time.Duration {
	shortest := 4 * time.Second
	l := c.e.limits
	for _, d := range []time.Duration{l.Token, l.FirstLink, l.ConnectionIdle, l.LinkIdle} {
		if d > 0 {
			shortest = min(shortest, d)
		}
	}
	if idle := c.peer.IdleTimeout; idle != nil && *idle > 0 {
		shortest = min(shortest, time.Duration(*idle)*time.Millisecond/2)
	}
	return max(shortest/4, time.Millisecond)
}

// check ends what has been idle, or lacks a token, for too long. The lock is held.
func (c *connection) check(now time.Time) {
	if c.closing || c.finished {
		return
	}
	l := c.e.limits
	switch {
	case !c.verified && len(c.claims) == 0 && passed(c.opened, now, l.Token):
		c.fail(&wire.Error{Condition: wire.ConditionUnauthorizedAccess, Description: fmt.Sprintf("no valid token came for %v", l.Token)})
		return
	case c.links == 0 && !c.linked && passed(c.linkless, now, l.FirstLink):
		c.fail(c.inactive(l.FirstLink))
		return
	case c.links == 0 && c.linked && passed(c.linkless, now, l.ConnectionIdle):
		c.fail(c.inactive(l.ConnectionIdle))
		return
	}
	for _, s := range c.sessions {
		for _, link := range s.links {
			link.check(now)
		}
	}
}

func (c *connection) inactive(limit time.Duration) *wire.Error {
	return &wire.Error{Condition: wire.ConditionConnectionForced, Description: fmt.Sprintf(
		"The connection was inactive for more than the allowed %d milliseconds and is closed by container '%s'.", limit.Milliseconds(), trackingID(c.id))}
}
