package wire

import (
	"fmt"
	"math"
)

// Performative is the body of a frame. Every one is written with its full list of fields, since clients are known that
// index fields without looking at the count.
type Performative interface {
	appendTo(dst []byte) []byte
}

// Roles of a link's end: true is the receiver.
const (
	RoleSender   = false
	RoleReceiver = true
)

// Settle modes of senders.
const (
	SenderUnsettled = 0
	SenderSettled   = 1
	SenderMixed     = 2
)

// Settle modes of receivers.
const (
	ReceiverFirst  = 0
	ReceiverSecond = 1
)

// The performatives, part 2.7 of the standard; pointers and slices are nil for null. Times are in milliseconds.
type (
	// Open begins a connection.
	Open struct {
		ContainerID  string
		Hostname     string
		MaxFrameSize uint32 // bytes; 2^32-1 is the default
		ChannelMax   uint16
		IdleTimeout  *uint32 // ms
	}
	// Begin begins a session.
	Begin struct {
		RemoteChannel                                             *uint16
		NextOutgoingID, IncomingWindow, OutgoingWindow, HandleMax uint32
	}
	// Attach attaches a link to a session.
	Attach struct {
		Name                 string
		Handle               uint32
		Role                 bool
		SenderMode           *uint8
		ReceiverMode         *uint8
		Source, Target       *Terminus
		InitialDeliveryCount *uint32
		MaxMessageSize       uint64 // bytes; 0 is any
		Offered, Desired     []string
		Properties           Map
	}
	// Flow tells a session's windows, and with a handle a link's credit.
	Flow struct {
		NextIncomingID                                 *uint32
		IncomingWindow, NextOutgoingID, OutgoingWindow uint32
		Handle, DeliveryCount, LinkCredit, Available   *uint32
		Drain, Echo                                    bool
	}
	// Transfer carries a message or a part of one.
	Transfer struct {
		Handle                 uint32
		DeliveryID             *uint32
		DeliveryTag            []byte
		MessageFormat          *uint32
		Settled                *bool
		More                   bool
		State                  State
		Resume, Aborted, Batch bool
	}
	// Disposition tells the state of deliveries.
	Disposition struct {
		Role    bool
		First   uint32
		Last    *uint32
		Settled bool
		State   State
	}
	// Detach detaches a link.
	Detach struct {
		Handle uint32
		Closed bool
		Error  *Error
	}
	// End ends a session.
	End struct{ Error *Error }
	// Close closes a connection.
	Close struct{ Error *Error }

	// Mechanisms offers SASL mechanisms.
	Mechanisms struct{ Names []string }
	// Init picks one.
	Init struct {
		Mechanism string
		Response  []byte
	}
	// Outcome ends the SASL dialog: 0 is success, 1 is a failed authentication.
	Outcome struct{ Code byte }
)

// Parse decodes the body of a frame into a pointer to a performative and the payload that follows it. The payload and
// the slices in the performative are parts of body. An error is an [*Error] with the condition amqp:decode-error.
func Parse(body []byte) (Performative, []byte, error) {
	r := NewReader(body)
	code, _, value, _ := r.Described()
	if r.err != nil {
		return nil, nil, r.err
	}
	f := value.List()
	var p Performative
	switch code {
	case descTransfer:
		p = f.transfer()
	case descFlow:
		p = f.flow()
	case descDisposition:
		p = f.disposition()
	case descAttach:
		p = f.attach()
	case descDetach:
		p = &Detach{Handle: f.required(f.Uint32()), Closed: f.Bool(), Error: f.error()}
	case descBegin:
		p = &Begin{f.Uint16(), f.required(f.Uint32()), f.required(f.Uint32()), f.required(f.Uint32()), f.Uint32Or(math.MaxUint32)}
	case descEnd:
		p = &End{f.error()}
	case descOpen:
		p = f.open()
	case descClose:
		p = &Close{f.error()}
	case descInit:
		p = &Init{Mechanism: f.String(), Response: f.Binary()}
	case descMechanisms:
		p = &Mechanisms{f.Symbols()}
	case descOutcome:
		outcome := &Outcome{}
		if c := f.Uint8(); c != nil {
			outcome.Code = *c
		}
		p = outcome
	default:
		return nil, nil, &Error{Condition: ConditionDecodeError, Description: fmt.Sprintf("0x%02x is no performative", code)}
	}
	r.adopt(value)
	r.adopt(f)
	if r.err != nil {
		e := r.err.(*Error)
		return nil, nil, &Error{Condition: e.Condition, Description: fmt.Sprintf("%s: %s", Name(p), e.Description)}
	}
	return p, r.Rest(), nil
}

// Name is the standard's name of a performative.
func Name(p Performative) string {
	switch p.(type) {
	case *Open:
		return "open"
	case *Begin:
		return "begin"
	case *Attach:
		return "attach"
	case *Flow:
		return "flow"
	case *Transfer:
		return "transfer"
	case *Disposition:
		return "disposition"
	case *Detach:
		return "detach"
	case *End:
		return "end"
	case *Close:
		return "close"
	case *Mechanisms:
		return "sasl-mechanisms"
	case *Init:
		return "sasl-init"
	case *Outcome:
		return "sasl-outcome"
	}
	return "unknown"
}

func (r *Reader) required(n *uint32) uint32 {
	if n == nil {
		r.fail("a mandatory field is missing")
		return 0
	}
	return *n
}

func (r *Reader) open() *Open {
	o := &Open{ContainerID: r.String(), Hostname: r.String(), MaxFrameSize: r.Uint32Or(math.MaxUint32), ChannelMax: math.MaxUint16}
	if c := r.Uint16(); c != nil {
		o.ChannelMax = *c
	}
	o.IdleTimeout = r.Uint32()
	return o
}

func (o *Open) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descOpen), 10, func(dst []byte) []byte {
		dst = AppendString(dst, o.ContainerID)
		if o.Hostname == "" {
			dst = AppendNull(dst)
		} else {
			dst = AppendString(dst, o.Hostname)
		}
		dst = AppendUint(dst, o.MaxFrameSize)
		dst = AppendAny(dst, o.ChannelMax)
		dst = appendOptional(dst, o.IdleTimeout)
		return append(dst, codeNull, codeNull, codeNull, codeNull, codeNull)
	})
}

func (b *Begin) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descBegin), 8, func(dst []byte) []byte {
		if b.RemoteChannel == nil {
			dst = AppendNull(dst)
		} else {
			dst = AppendAny(dst, *b.RemoteChannel)
		}
		dst = AppendUint(dst, b.NextOutgoingID)
		dst = AppendUint(dst, b.IncomingWindow)
		dst = AppendUint(dst, b.OutgoingWindow)
		dst = AppendUint(dst, b.HandleMax)
		return append(dst, codeNull, codeNull, codeNull)
	})
}

func (r *Reader) attach() *Attach {
	a := &Attach{Name: r.String(), Handle: r.required(r.Uint32()), Role: r.Bool(), SenderMode: r.Uint8(), ReceiverMode: r.Uint8()}
	a.Source, a.Target = r.terminus(), r.terminus()
	r.Raw() // unsettled: deliveries are never resumed
	r.Raw() // incomplete-unsettled
	a.InitialDeliveryCount = r.Uint32()
	a.MaxMessageSize, _ = r.Uint()
	a.Offered, a.Desired = r.Symbols(), r.Symbols()
	a.Properties, _ = r.Any().(Map)
	return a
}

func (a *Attach) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descAttach), 14, func(dst []byte) []byte {
		dst = AppendString(dst, a.Name)
		dst = AppendUint(dst, a.Handle)
		dst = AppendBool(dst, a.Role)
		dst = appendMode(dst, a.SenderMode)
		dst = appendMode(dst, a.ReceiverMode)
		dst = a.Source.appendTo(dst)
		dst = a.Target.appendTo(dst)
		dst = append(dst, codeNull, codeFalse)
		dst = appendOptional(dst, a.InitialDeliveryCount)
		dst = AppendUlong(dst, a.MaxMessageSize)
		for _, names := range [][]string{a.Offered, a.Desired} {
			if names == nil {
				dst = AppendNull(dst)
			} else {
				dst = AppendSymbols(dst, names)
			}
		}
		if a.Properties == nil {
			return AppendNull(dst)
		}
		return AppendAny(dst, a.Properties)
	})
}

func appendMode(dst []byte, mode *uint8) []byte {
	if mode == nil {
		return AppendNull(dst)
	}
	return append(dst, codeUbyte, *mode)
}

func appendOptional(dst []byte, n *uint32) []byte {
	if n == nil {
		return AppendNull(dst)
	}
	return AppendUint(dst, *n)
}

func (r *Reader) flow() *Flow {
	f := &Flow{NextIncomingID: r.Uint32()}
	f.IncomingWindow, f.NextOutgoingID, f.OutgoingWindow = r.required(r.Uint32()), r.required(r.Uint32()), r.required(r.Uint32())
	f.Handle, f.DeliveryCount, f.LinkCredit, f.Available = r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32()
	f.Drain, f.Echo = r.Bool(), r.Bool()
	return f
}

func (f *Flow) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descFlow), 11, func(dst []byte) []byte {
		dst = appendOptional(dst, f.NextIncomingID)
		dst = AppendUint(dst, f.IncomingWindow)
		dst = AppendUint(dst, f.NextOutgoingID)
		dst = AppendUint(dst, f.OutgoingWindow)
		for _, n := range []*uint32{f.Handle, f.DeliveryCount, f.LinkCredit, f.Available} {
			dst = appendOptional(dst, n)
		}
		return append(AppendBool(AppendBool(dst, f.Drain), f.Echo), codeNull)
	})
}

func (r *Reader) transfer() *Transfer {
	t := &Transfer{Handle: r.required(r.Uint32()), DeliveryID: r.Uint32(), DeliveryTag: r.Binary(), MessageFormat: r.Uint32()}
	t.Settled, t.More = r.OptionalBool(), r.Bool()
	r.Raw() // rcv-settle-mode: that of the link holds
	t.State = r.state()
	t.Resume, t.Aborted, t.Batch = r.Bool(), r.Bool(), r.Bool()
	return t
}

func (t *Transfer) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descTransfer), 11, func(dst []byte) []byte {
		dst = AppendUint(dst, t.Handle)
		dst = appendOptional(dst, t.DeliveryID)
		if t.DeliveryTag == nil {
			dst = AppendNull(dst)
		} else {
			dst = AppendBinary(dst, t.DeliveryTag)
		}
		dst = appendOptional(dst, t.MessageFormat)
		if t.Settled == nil {
			dst = AppendNull(dst)
		} else {
			dst = AppendBool(dst, *t.Settled)
		}
		dst = AppendNull(AppendBool(dst, t.More))
		dst = appendState(dst, t.State)
		return AppendBool(AppendBool(AppendBool(dst, t.Resume), t.Aborted), t.Batch)
	})
}

func (r *Reader) disposition() *Disposition {
	return &Disposition{Role: r.Bool(), First: r.required(r.Uint32()), Last: r.Uint32(), Settled: r.Bool(), State: r.state()}
}

func (d *Disposition) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descDisposition), 6, func(dst []byte) []byte {
		dst = AppendUint(AppendBool(dst, d.Role), d.First)
		dst = AppendBool(appendOptional(dst, d.Last), d.Settled)
		return append(appendState(dst, d.State), codeFalse)
	})
}

func (d *Detach) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descDetach), 3, func(dst []byte) []byte {
		return d.Error.appendTo(AppendBool(AppendUint(dst, d.Handle), d.Closed))
	})
}

func (e *End) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descEnd), 1, e.Error.appendTo)
}

func (c *Close) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descClose), 1, c.Error.appendTo)
}

func (m *Mechanisms) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descMechanisms), 1, func(dst []byte) []byte { return AppendSymbols(dst, m.Names) })
}

func (i *Init) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descInit), 3, func(dst []byte) []byte {
		return AppendNull(AppendBinary(AppendSymbol(dst, i.Mechanism), i.Response))
	})
}

func (o *Outcome) appendTo(dst []byte) []byte {
	return AppendList(AppendDescriptor(dst, descOutcome), 2, func(dst []byte) []byte {
		return AppendNull(append(dst, codeUbyte, o.Code))
	})
}
