package publish

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

// MaxLine is the longest line, in bytes without its newline, where [LineOptions] don't say: the most
// that a hub of the standard tier accepts, its overhead included.
const MaxLine = 1 << 20

// LineOptions say what the events made from lines have in common. The zero value is usable.
type LineOptions struct {
	Options
	Partition   string
	Key         *string
	Properties  map[string]any
	ContentType *string
	// MaxLine is the longest line accepted, in bytes without its newline; 0 means [MaxLine].
	MaxLine int
}

// Lines sends every line as an event. A line's bytes are the event's body as they are, all but the
// newline that ends it; an empty line is an event with an empty body; a last line needs no newline. A
// line that is too long ends it with an error that names its number; the lines before it are sent.
func Lines(ctx context.Context, producer *azeventhubs.ProducerClient, input io.Reader, options LineOptions) (Result, error) {
	if options.MaxLine == 0 {
		options.MaxLine = MaxLine
	}
	var readErr error
	result, err := Events(ctx, producer, options.events(input, &readErr), options.Options)
	var large *TooLargeError
	if errors.As(err, &large) {
		return result, fmt.Errorf("publish line %d: %w", large.Event+1, large)
	}
	if err == nil && readErr != nil {
		err = readErr
	}
	return result, err
}

// events yields an event for each line of input, and leaves in err what ended it before its end.
func (o LineOptions) events(input io.Reader, err *error) iter.Seq[Event] {
	return func(yield func(Event) bool) {
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
			// The batch encodes the event before the next line is read, so the buffer may be lent.
			event := Event{Body: body, Partition: o.Partition, Key: o.Key, Properties: o.Properties, ContentType: o.ContentType}
			if !yield(event) || readErr != nil {
				return
			}
		}
	}
}
