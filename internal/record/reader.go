package record

import (
	"errors"
	"io"

	"persistor/internal/message"
)

// Reader reads records.
type Reader struct{ r io.Reader }

// NewReader reads records of at most maxRecord bytes from r.
func NewReader(r io.Reader, maxRecord int) *Reader { return &Reader{r} }

// Next returns the next message, or io.EOF.
func (r *Reader) Next() (*message.Message, error) {
	return nil, errors.New("read record: not written yet")
}
