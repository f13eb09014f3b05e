package emulator

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxSelectorBytes bounds a selector; the longest that a client writes has about a hundred bytes.
const maxSelectorBytes = 512

// selectorField is the annotation that a selector compares.
type selectorField uint8

const (
	byOffset         selectorField = iota // the text in selector.offset
	bySequenceNumber                      // selector.number
	byEnqueuedTime                        // selector.number, in Unix milliseconds
)

// selector is where a receiver starts in a partition: at the first event whose field is greater than
// the value, or equal to it when inclusive. The zero value means nothing; see [parseSelector].
type selector struct {
	field     selectorField
	inclusive bool
	number    int64
	// offset is opaque here: a decimal number, or the text of a geo-replicated hub with its colons.
	offset string
}

// fromBeginning reports whether the selector asks for everything that the partition holds.
func (s selector) fromBeginning() bool { return s.field == byOffset && s.offset == "-1" }

// fromEnd reports whether it asks for only what comes after the link is attached.
func (s selector) fromEnd() bool { return s.field == byOffset && s.offset == "@latest" }

// parseSelector reads the filter of a receiver's source, which is always of the form
//
//	amqp.annotation.<field> <op> '<value>'
//
// with > or >= for the operator, and x-opt-offset, x-opt-sequence-number, x-opt-enqueued-time or its
// older spelling x-opt-enqueuedtimeutc for the field. Spaces around the operator and the quotes may be
// left out. Numbers are those of an int64, times in Unix milliseconds; negative ones are good and mean
// the beginning. Nothing else of the selector language that the filter's name stands for is supported,
// neither here nor by the service. The error says what was wrong with which part.
//
// Source: the selectors that the service's clients for Go, JavaScript, Python and .NET write.
func parseSelector(text string) (selector, error) {
	if len(text) > maxSelectorBytes {
		return selector{}, fmt.Errorf("parse selector: it has %d bytes, more than %d", len(text), maxSelectorBytes)
	}
	name, value, found := strings.Cut(text, ">")
	if !found {
		return selector{}, fmt.Errorf("parse selector %q: it has no > or >=; want amqp.annotation.<field> > '<value>'", text)
	}
	var s selector
	value, s.inclusive = strings.CutPrefix(value, "=")
	value, err := unquoteSelector(strings.TrimSpace(value))
	if err != nil {
		return selector{}, fmt.Errorf("parse selector %q: %w", text, err)
	}

	name = strings.TrimSpace(name)
	switch name {
	case "amqp.annotation.x-opt-offset":
		s.field, s.offset = byOffset, value
		return s, nil
	case "amqp.annotation.x-opt-sequence-number":
		s.field = bySequenceNumber
	case "amqp.annotation.x-opt-enqueued-time", "amqp.annotation.x-opt-enqueuedtimeutc":
		s.field = byEnqueuedTime
	default:
		return selector{}, fmt.Errorf("parse selector %q: unknown field %q; want amqp.annotation.x-opt-offset, x-opt-sequence-number or x-opt-enqueued-time", text, name)
	}
	if s.number, err = strconv.ParseInt(value, 10, 64); err != nil {
		return selector{}, fmt.Errorf("parse selector %q: value %q of field %q is not an integer of 64 bits", text, value, name)
	}
	return s, nil
}

// unquoteSelector takes the single quotes off a value. A value never holds a quote, a space or another
// operator, so anything after the value is an expression of the wider language and refused.
func unquoteSelector(quoted string) (string, error) {
	value, opened := strings.CutPrefix(quoted, "'")
	value, closed := strings.CutSuffix(value, "'")
	switch {
	case opened != closed:
		return "", fmt.Errorf("value %s has a single quote at one end only", quoted)
	case value == "":
		return "", errors.New("the value is empty")
	case strings.ContainsAny(value, "' \t\r\n<>="):
		return "", fmt.Errorf("value %q is followed by more; want one comparison alone", value)
	}
	return value, nil
}
