package pull

import "sync/atomic"

// Progress can be watched while a loop runs. Safe for concurrent use; a nil Progress counts nothing.
type Progress struct {
	Received atomic.Int64 // messages received
	Stored   atomic.Int64 // messages stored by this loop
	Skipped  atomic.Int64 // messages received that were stored already
	Bytes    atomic.Int64 // stored, as encoded
	Blobs    atomic.Int64
}

func (p *Progress) received(n int64) {
	if p != nil {
		p.Received.Add(n)
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
