package audit

import (
	"fmt"
	"sync/atomic"

	"persistor/internal/message"
)

// Verdict is what [Contents] says of one stored message.
type Verdict uint8

const (
	Intact   Verdict = iota // as it was sent, and seen for the first time
	Repeated                // as it was sent, and seen before
	Altered                 // not as it was sent, or never sent at all
)

// Contents knows what was sent and judges what was stored. [Run] calls Check from several goroutines at
// once, with every stored message once; m and what it points to is valid during the call only. After the
// last Check it calls Missing: how many of the messages sent no Check has seen.
type Contents interface {
	Check(m *message.Message) Verdict
	Missing() int64
}

// Published is [Contents] for events that carry their own number, from 0 up to a total known beforehand:
// 16 bytes and a bit for each of them, whatever their size.
type Published struct {
	number  func(*message.Message) (int, bool)
	digests []Digest
	kept    bitmap
	seen    bitmap
}

// NewPublished expects events numbered 0 to total-1; number reads a message's own number, and says false
// where there is none.
func NewPublished(total int, number func(*message.Message) (int, bool)) *Published {
	return &Published{number: number, digests: make([]Digest, total), kept: newBitmap(total), seen: newBitmap(total)}
}

// Keep notes that m is about to be sent. It may be called by several goroutines at once, but once for a
// number, and not at the same time as Check or Missing.
func (p *Published) Keep(m *message.Message) error {
	n, ok := p.number(m)
	if !ok || n < 0 || n >= len(p.digests) {
		return fmt.Errorf("keep event: its number is %d (found: %t), expected one from 0 to %d", n, ok, len(p.digests)-1)
	}
	if p.kept.set(n) {
		return fmt.Errorf("keep event %d: it was kept before; numbers must not repeat", n)
	}
	p.digests[n] = DigestOf(m)
	return nil
}

// Check implements [Contents].
func (p *Published) Check(m *message.Message) Verdict {
	n, ok := p.number(m)
	// A number that was never kept has no digest, which is that of no message.
	if !ok || n < 0 || n >= len(p.digests) || p.digests[n] != DigestOf(m) {
		return Altered
	}
	if p.seen.set(n) {
		return Repeated
	}
	return Intact
}

// Missing implements [Contents]: an event that was stored altered is missing as well.
func (p *Published) Missing() int64 { return p.kept.count() - p.seen.count() }

// bitmap is a set of small numbers that several goroutines may add to at once.
type bitmap struct {
	words []atomic.Uint32
	size  *atomic.Int64
}

func newBitmap(n int) bitmap {
	return bitmap{words: make([]atomic.Uint32, (n+31)/32), size: new(atomic.Int64)}
}

// set adds i and reports whether it was there already.
func (b bitmap) set(i int) (before bool) {
	bit := uint32(1) << (i % 32)
	if b.words[i/32].Or(bit)&bit != 0 {
		return true
	}
	b.size.Add(1)
	return false
}

func (b bitmap) count() int64 { return b.size.Load() }
