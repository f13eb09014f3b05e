package record

import (
	"bytes"
	"fmt"
	"io"

	"persistor/internal/message"
)

// CorruptError is a record that can't be read back.
type CorruptError struct {
	Index  int64 // of the record among those read, from 0
	Offset int64 // of its first byte, from where reading began
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read record %d at byte %d: %v", e.Index, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// Reader reads records, separated by any number of newlines, back into messages. It is not safe for
// concurrent use.
type Reader struct {
	from   io.Reader
	limit  int
	buf    []byte // what was read ahead; its unread part is buf[next:]
	next   int
	offset int64 // of buf[next]
	index  int64 // of the next record
	last   []byte
	err    error // that ended reading
	parser parser
}

// readAhead is how much is asked for at once, in bytes.
const readAhead = 256 << 10

// NewReader reads from r records of at most limit bytes each, separators not counted. It reads ahead
// by up to 256 KiB, and its memory stays below four times the longest record it meets, and that.
func NewReader(r io.Reader, limit int) *Reader {
	return &Reader{from: r, limit: limit, buf: make([]byte, 0, readAhead)}
}

// Next returns the next message as it was encoded, or io.EOF when there are no more. The
// message shares no memory with the Reader. After a *CorruptError, Next goes on with the record that
// follows; any other error is final and comes again from every call. A record that is longer than the
// limit is such an error.
func (r *Reader) Next() (*message.Message, error) {
	line, err := r.line()
	r.last = line
	if err != nil {
		return nil, err
	}
	m, err := r.parser.message(line)
	if err != nil {
		err = &CorruptError{Index: r.index, Offset: r.offset - int64(len(line)), Err: err}
	}
	r.index++
	return m, err
}

// Line is the record that Next read last, as it is stored but for its separator; it is valid until the next call of
// Next, and nil once that has failed for good.
func (r *Reader) Line() []byte { return r.last }

// line returns the next line that isn't blank, valid until the next call, and moves behind it.
func (r *Reader) line() ([]byte, error) {
	scanned := 0
	for {
		for scanned == 0 && r.next < len(r.buf) && (r.buf[r.next] == '\n' || r.buf[r.next] == '\r') {
			r.advance(1)
		}
		unread := r.buf[r.next:]
		end := bytes.IndexByte(unread[scanned:], '\n')
		switch {
		case end >= 0 && scanned+end <= r.limit:
			return r.advance(scanned + end), nil
		case end >= 0 || len(unread) > r.limit:
			r.err = fmt.Errorf("read record %d at byte %d: it is longer than the limit of %d bytes", r.index, r.offset, r.limit)
			r.buf, r.next = nil, 0
			return nil, r.err
		case r.err == io.EOF && len(unread) > 0:
			return r.advance(len(unread)), nil // a last record whose separator is missing
		case r.err != nil:
			return nil, r.err
		}
		scanned = len(unread)
		r.fill()
	}
}

// advance moves behind the next n bytes and returns them.
func (r *Reader) advance(n int) []byte {
	b := r.buf[r.next : r.next+n]
	r.next += n
	r.offset += int64(n)
	return b
}

// fill reads more behind what is unread, and sets err when there is no more.
func (r *Reader) fill() {
	unread := r.buf[r.next:]
	if cap(r.buf)-len(unread) < readAhead/2 {
		grown := make([]byte, len(unread), 2*cap(r.buf))
		copy(grown, unread)
		r.buf = grown
	} else {
		r.buf = r.buf[:copy(r.buf, unread)]
	}
	r.next = 0

	for range 100 {
		n, err := r.from.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		if err != nil && err != io.EOF {
			err = fmt.Errorf("read record %d at byte %d: %w", r.index, r.offset, err)
		}
		r.err = err
		if n > 0 || err != nil {
			return
		}
	}
	r.err = fmt.Errorf("read record %d at byte %d: %w", r.index, r.offset, io.ErrNoProgress)
}
