package replay

import (
	"context"
	"iter"
	"sync"

	"persistor/internal/publish"
)

const (
	// streamsAtOnce is how many partitions or sessions are read side by side.
	streamsAtOnce = 8
	// A page is what a stream hands over at once: so many messages, or bytes of bodies, at most, or one message.
	pageMessages = 128
	pageBytes    = 1 << 20
)

// reader reads a portion: each partition, and each session, in its order, several side by side.
type reader struct {
	replay *replay
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	left   [][]part // streams that nobody reads yet

	mu     sync.Mutex
	failed error
}

// page is a few messages of a blob.
type page struct {
	messages []publish.Message
	places   []place
	bytes    int64
}

func newReader(ctx context.Context, r *replay, p portion) *reader {
	reading, cancel := context.WithCancel(ctx)
	return &reader{replay: r, ctx: reading, cancel: cancel, left: p.streams()}
}

// streams are the blobs of each stream that aren't done, in the order in which the streams begin.
func (p portion) streams() [][]part {
	var streams [][]part
	at := map[string]int{}
	for _, b := range p {
		if b.entry.isDone() {
			continue
		}
		name := stream(&b.Blob)
		i, ok := at[name]
		if !ok {
			i = len(streams)
			at[name] = i
			streams = append(streams, nil)
		}
		streams[i] = append(streams[i], b)
	}
	return streams
}

// close ends the reading.
func (r *reader) close() {
	r.cancel()
	r.work.Wait()
}

// err is what ended the messages before their end.
func (r *reader) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = err
	}
	r.cancel()
}

// messages yields all of the messages, a page of each stream in turn, and notes the place of each.
func (r *reader) messages() iter.Seq[publish.Message] {
	return func(yield func(publish.Message) bool) {
		defer func() {
			if r.ctx.Err() != nil {
				r.fail(context.Cause(r.ctx)) // if nothing else failed before
			}
		}()
		var open []<-chan page
		number := int64(0)
		for {
			for len(open) < streamsAtOnce && len(r.left) > 0 {
				open = append(open, r.start(r.left[0]))
				r.left = r.left[1:]
			}
			if len(open) == 0 {
				return
			}
			ongoing := open[:0]
			for _, pages := range open {
				p, ok := <-pages
				if !ok {
					continue
				}
				ongoing = append(ongoing, pages)
				for i, m := range p.messages {
					r.replay.progress.put(number, p.places[i])
					number++
					if r.ctx.Err() != nil || !yield(m) {
						return
					}
				}
			}
			open = ongoing
		}
	}
}

// start reads one stream, a page ahead of who takes them.
func (r *reader) start(blobs []part) <-chan page {
	pages := make(chan page, 1)
	r.work.Go(func() {
		defer close(pages)
		for i := range blobs {
			if err := r.read(&blobs[i], pages); err != nil {
				r.fail(err)
				return
			}
		}
	})
	return pages
}

// read reads the records of a blob that aren't done.
func (r *reader) read(b *part, pages chan<- page) error {
	progress, address := r.replay.progress, r.replay.address
	if err := address.check(&b.Blob); err != nil {
		return err
	}
	if b.err != nil {
		progress.skip(b.entry, nil, []int64{0}, b.err.Error())
		progress.read(b.entry, 1)
		return nil
	}
	done := b.entry.Done.Clone() // as it was before: others add to it
	var p page
	index := int64(0)
	for m, err := range r.replay.task.Selection.Records(r.ctx, r.replay.from, b.Blob) {
		at := place{entry: b.entry, index: index}
		index++
		switch {
		case isCorrupt(err):
			if !done.Contains(at.index) {
				progress.skip(b.entry, nil, []int64{at.index}, err.Error())
			}
			continue
		case err != nil:
			return err
		case done.Contains(at.index):
			continue
		}
		selected, err := r.replay.options.Filter.selects(r.ctx, &b.Blob, m)
		if err != nil {
			return err
		}
		if !selected {
			progress.skip(b.entry, []int64{at.index}, nil, "")
			continue
		}
		p.add(address.restore(&b.Blob, at.index, m, func(Change) {}), at)
		if p.isFull() && !r.hand(pages, &p) {
			return nil
		}
	}
	if err := b.CheckSize(); err != nil {
		progress.damaged(b.entry, err.Error())
	}
	// All are read when the last of them is handed on: before, the blob would look done.
	progress.read(b.entry, index)
	if len(p.messages) > 0 {
		r.hand(pages, &p)
	}
	return nil
}

// hand hands a page on, and reports whether someone takes it.
func (r *reader) hand(pages chan<- page, p *page) bool {
	select {
	case pages <- *p:
		*p = page{}
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (p *page) add(m publish.Message, at place) {
	at.bytes = int64(m.Size())
	p.messages = append(p.messages, m)
	p.places = append(p.places, at)
	p.bytes += at.bytes
}

func (p *page) isFull() bool { return len(p.messages) >= pageMessages || p.bytes >= pageBytes }
