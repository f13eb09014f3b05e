package wire

import "math"

// State is a delivery state, part 3.4 of the standard: a pointer to one of the types below, nil for none.
type State interface {
	appendState(dst []byte) []byte
}

type (
	// Received tells how much of a delivery has arrived. It is no outcome.
	Received struct {
		Section uint32
		Offset  uint64
	}
	// Accepted is a delivery that was dealt with.
	Accepted struct{}
	// Rejected is a delivery that is invalid or, to a sender, was refused. A bare one has no error.
	Rejected struct{ Error *Error }
	// Released is a delivery that was not dealt with.
	Released struct{}
	// Modified is a delivery that was not dealt with and changes before it is tried again.
	Modified struct {
		Failed, Undeliverable bool
		Annotations           Map
	}
)

func appendState(dst []byte, s State) []byte {
	if s == nil {
		return AppendNull(dst)
	}
	return s.appendState(dst)
}

func (s *Received) appendState(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descReceived), 2, func(dst []byte) []byte {
		return AppendUlong(AppendUint(dst, s.Section), s.Offset)
	})
}

func (*Accepted) appendState(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descAccepted), 0, nothing)
}

func (s *Rejected) appendState(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descRejected), 1, s.Error.appendTo)
}

func (*Released) appendState(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descReleased), 0, nothing)
}

func (s *Modified) appendState(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descModified), 3, func(dst []byte) []byte {
		dst = AppendBool(AppendBool(dst, s.Failed), s.Undeliverable)
		if s.Annotations == nil {
			return AppendNull(dst)
		}
		return AppendAny(dst, s.Annotations)
	})
}

func nothing(dst []byte) []byte { return dst }

// state reads a delivery state. One that is unknown, such as a transactional state, is an error.
func (r *Reader) state() State {
	code, _, value, ok := r.Described()
	if !ok {
		return nil
	}
	f := value.List()
	var s State
	switch code {
	case descReceived:
		received := &Received{Section: f.Uint32Or(0)}
		if offset := f.uint(math.MaxUint64); offset != nil {
			received.Offset = *offset
		}
		s = received
	case descAccepted:
		s = &Accepted{}
	case descRejected:
		s = &Rejected{f.error()}
	case descReleased:
		s = &Released{}
	case descModified:
		modified := &Modified{Failed: f.Bool(), Undeliverable: f.Bool()}
		modified.Annotations, _ = f.Any().(Map)
		s = modified
	default:
		r.fail("0x%02x is no delivery state", code)
	}
	r.adopt(value)
	r.adopt(f)
	return s
}
