package publish

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// MaxLine is the longest line, in bytes without its newline, where [LineOptions] don't say: the most that
// a batch may be, its overhead included. (In the standard tier of Service Bus it may be a quarter of that.)
const MaxLine = 1 << 20

// LineOptions say what the messages made from lines have in common. The zero value is usable.
type LineOptions struct {
	Options
	Partition    string
	Key, Session *string
	Properties   map[string]any
	ContentType  *string
	// MaxLine is the longest line accepted, in bytes without its newline; 0 means [MaxLine].
	MaxLine int
}

// Lines sends every line as a message. A line's bytes are the body as they are, all but the newline that
// ends it; an empty line is a message with an empty body; a last line needs no newline. A line that is too long ends it with an error that names its number; the lines before it are sent.
func Lines(ctx context.Context, to Producer, input io.Reader, options LineOptions) (Result, error) {
	if options.MaxLine == 0 {
		options.MaxLine = MaxLine
	}
	var readErr error
	result, err := Send(ctx, to, options.messages(input, &readErr), options.Options)
	var large *TooLargeError
	if errors.As(err, &large) {
		return result, fmt.Errorf("publish line %d: %w", large.Message+1, large)
	}
	if err == nil && readErr != nil {
		err = readErr
	}
	return result, err
}

// messages yields one for each line of input, and leaves in err what ended it before its end.
func (o LineOptions) messages(input io.Reader, err *error) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		// Room for the newline, too. A reader takes no less than a few bytes, so length is asked again below.
		reader := bufio.NewReaderSize(input, o.MaxLine+1)
		for number := 1; ; number++ {
			line, readErr := reader.ReadSlice('\n')
			body := bytes.TrimSuffix(line, []byte{'\n'})
			switch {
			case errors.Is(readErr, bufio.ErrBufferFull) || len(body) > o.MaxLine:
				*err = fmt.Errorf("publish line %d: it is longer than %d bytes", number, o.MaxLine)
				return
			case readErr != nil && !errors.Is(readErr, io.EOF):
				*err = fmt.Errorf("read line %d: %w", number, readErr)
				return
			case readErr != nil && len(line) == 0:
				return
			}
			// The batch encodes the message before the next line is read, so the buffer may be lent.
			m := Message{
				Body: body, Partition: o.Partition, Key: o.Key, Session: o.Session,
				Properties: o.Properties, ContentType: o.ContentType,
			}
			if !yield(m) || readErr != nil {
				return
			}
		}
	}
}
