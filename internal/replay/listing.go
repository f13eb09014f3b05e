package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"persistor/internal/record"
	"persistor/internal/selection"
)

// A portion is sent as a whole before the next one is begun, so that progress is small: it has so many blobs and
// messages at most, or one blob.
const (
	portionBlobs    = 256
	portionMessages = 1 << 18
)

// portion is some blobs in the order of the list.
type portion []part

// part is a blob of a portion.
type part struct {
	selection.Blob
	entry *entry
	err   error // that name and metadata have
}

// listing lists what is left to send.
type listing struct {
	progress *progress
	portion  int // blobs, at most
	pull     func() (selection.Blob, error, bool)
	close    func()
	over     *part // listed, but of the next portion
}

// newListing begins to list behind what was passed, and makes sure that this is as it was.
func newListing(ctx context.Context, r *replay) (*listing, error) {
	l := &listing{progress: r.progress, portion: r.portion}
	l.pull, l.close = iter.Pull2(r.task.Selection.Blobs(ctx, r.from))
	if was := &r.progress.state.Passed; was.Blobs > 0 {
		if err := l.skip(was); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// skip lists what was passed. What came since then among these, as the newest blobs of a partition do before those of
// the next one, is not sent; that a blob went, or is another one now, is an error.
func (l *listing) skip(was *passed) error {
	var is passed
	for is.Through != was.Through {
		b, err, ok := l.pull()
		if err != nil && b.Name == "" {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: blob %s, up to which all was sent, is gone, or is no longer selected", ErrChanged, was.Through)
		}
		is.add(&b)
	}
	if is == *was {
		return nil
	}
	there := fmt.Sprintf("up to blob %s, up to which all was sent, there were %d blobs of %d bytes, and now there are %d of %d", was.Through, was.Blobs, was.Bytes, is.Blobs, is.Bytes)
	if is.Blobs < was.Blobs || is.Bytes <= was.Bytes {
		return fmt.Errorf("%w: %s", ErrChanged, there)
	}
	l.progress.miss(max(is.Blobs-was.Blobs, 1), is, there+": what came since is not sent")
	return nil
}

// next is the next portion, empty at the end. All blobs that were begun are in the first.
func (l *listing) next() (portion, error) {
	begun := map[string]*entry{}
	for _, e := range l.progress.state.Blobs {
		begun[e.Name] = e
	}
	var p portion
	messages := int64(0)
	for {
		one, err := l.one()
		if err != nil {
			return nil, err
		}
		if one == nil {
			break
		}
		full := len(p) >= l.portion || len(p) > 0 && messages+one.Count > portionMessages
		if full && len(begun) == 0 {
			l.over = one
			break
		}
		if e := begun[one.Name]; e != nil && one.Size < e.Size {
			return nil, fmt.Errorf("%w: blob %s has %d bytes, and had %d", ErrChanged, one.Name, one.Size, e.Size)
		}
		delete(begun, one.Name)
		p = append(p, *one)
		messages += one.Count
	}
	for name := range begun {
		return nil, fmt.Errorf("%w: blob %s, of which some was sent, is gone", ErrChanged, name)
	}
	blobs := make([]selection.Blob, len(p))
	for i := range p {
		blobs[i] = p[i].Blob
	}
	for i, e := range l.progress.begin(blobs) {
		p[i].entry = e
	}
	return p, nil
}

// one is the next blob, nil at the end.
func (l *listing) one() (*part, error) {
	if one := l.over; one != nil {
		l.over = nil
		return one, nil
	}
	b, err, ok := l.pull()
	switch {
	case !ok:
		return nil, nil
	case err != nil && b.Name == "":
		return nil, err
	}
	return &part{Blob: b, err: err}, nil
}

// stream is what a blob's messages are in order with.
func stream(b *selection.Blob) string {
	switch b.Kind {
	case selection.Hub:
		return "partition " + b.Partition + " of " + b.Folder
	case selection.Session:
		return "session " + *b.Session + " of " + b.Folder
	}
	return b.Folder
}

// isCorrupt reports whether err is about one record.
func isCorrupt(err error) bool { return errors.As(err, new(*record.CorruptError)) }
