package pull

import "sync/atomic"

// Progress can be watched while a loop runs. Safe for concurrent use; a nil Progress counts nothing.
type Progress struct {
	Received atomic.Int64 // messages received
	Stored   atomic.Int64 // messages stored by this loop
	Skipped  atomic.Int64 // messages received that were stored already
	Bytes    atomic.Int64 // stored, as encoded
	Blobs    atomic.Int64
	// Next is the sequence number of a partition below which everything is stored, or known to be lost, from the
	// loop's beginning on; 0 while there is none.
	Next atomic.Int64
}

func (p *Progress) received(n int64) {
	if p != nil {
		p.Received.Add(n)
	}
}

func (p *Progress) reached(after int64) {
	if p != nil {
		p.Next.Store(after + 1)
	}
}

func (p *Progress) skipped(n int64) {
	if p != nil {
		p.Skipped.Add(n)
	}
}

func (p *Progress) stored(messages, bytes, blobs int64) {
	if p != nil {
		p.Stored.Add(messages)
		p.Bytes.Add(bytes)
		p.Blobs.Add(blobs)
	}
}
