package emulator

import (
	"fmt"

	"persistor/emulator/internal/wire"
)

// batchFormat is the message-format of a batch: a message with one data section for each event, which holds the whole
// encoded event. The envelope's own sections repeat the first event's.
const batchFormat = 0x80013700

// sender is the intake of a link that events are sent on, to one partition or, if that is nil, to any. Events of one
// message go to one partition, side by side, all or none.
//
// Left out: idempotent producers, whose capability is not offered.
type sender struct {
	hub       *hub
	partition *partition
}

func (h *hub) attachSender(l *link, p *partition) (granted, *wire.Error) {
	if h.Synthetic != nil {
		return granted{}, &wire.Error{Condition: wire.ConditionNotAllowed, Description: h.e.describe(h.Name, "the hub '%s' is synthetic and takes no events", h.Name)}
	}
	l.maxMessage = uint64(h.MaxMessageSize)
	l.intake = &sender{hub: h, partition: p}
	return granted{}, nil
}

func (s *sender) release() {}

func (s *sender) receive(_ *link, format uint32, body []byte) wire.State {
	if busy := s.hub.e.throttled(&s.hub.e.faults.sends, s.hub.Name); busy != nil {
		return &wire.Rejected{Error: busy}
	}
	var events []event
	var err error
	switch format {
	case 0:
		events, err = parseSingle(body)
	case batchFormat:
		events, err = parseBatch(body)
	default:
		err = &wire.Error{Condition: wire.ConditionNotImplemented, Description: fmt.Sprintf("message-format 0x%08x is not known", format)}
	}
	if err != nil {
		return &wire.Rejected{Error: asAMQP(err)}
	}
	p := s.partition
	if p == nil {
		p = s.hub.choose(events[0].key)
	}
	p.append(events)
	return &wire.Accepted{}
}

// choose returns the partition of a key, or the next in turn without one.
func (h *hub) choose(key *string) *partition {
	if key != nil {
		return h.partitions[partitionForKey(*key, len(h.partitions))]
	}
	return h.partitions[(h.turn.Add(1)-1)%uint64(len(h.partitions))]
}

// event is an event as it came: its own annotations, its key, and its sections from the properties on. The slices are
// parts of the message it came in.
type event struct {
	annotations [][]byte // encoded, a key and a value in turn
	key         *string
	rest        []byte
}

func parseSingle(body []byte) ([]event, error) {
	e, err := parseEvent(body)
	return []event{e}, err
}

func parseBatch(body []byte) ([]event, error) {
	var events []event
	var envelope event
	for section, err := range wire.Sections(body) {
		if err != nil {
			return nil, err
		}
		switch section.Code {
		case wire.SectionMessageAnnotations:
			envelope.annotate(section.Value)
		case wire.SectionData:
			e, err := parseEvent(wire.NewReader(section.Value).Binary())
			if err != nil {
				return nil, err
			}
			events = append(events, e)
		}
	}
	if len(events) == 0 {
		return nil, &wire.Error{Condition: wire.ConditionInvalidField, Description: "the batch holds no events"}
	}
	for i := range events {
		// The envelope's key is for all that have none.
		if events[i].key == nil {
			events[i].key = envelope.key
		}
	}
	return events, nil
}

// parseEvent takes an event apart. Its header and delivery annotations are for this hop alone and go no further.
func parseEvent(b []byte) (event, error) {
	var e event
	for section, err := range wire.Sections(b) {
		if err != nil {
			return event{}, err
		}
		switch {
		case section.Code == wire.SectionMessageAnnotations:
			e.annotate(section.Value)
		case section.Code >= wire.SectionProperties && e.rest == nil:
			e.rest = b[section.Start:]
		}
	}
	return e, nil
}

// annotate takes the partition key from among an event's annotations, and those that the service passes on as they are.
func (e *event) annotate(annotations []byte) {
	pairs := wire.NewReader(annotations).Map()
	for pairs.More() {
		name, value := pairs.Raw(), pairs.Raw()
		switch wire.NewReader(name).Any() {
		case wire.Symbol(annotationKey):
			if key, ok := wire.NewReader(value).Any().(string); ok {
				e.key = &key
			}
		case wire.Symbol(annotationSequence), wire.Symbol(annotationOffset), wire.Symbol(annotationEnqueued):
		default:
			e.annotations = append(e.annotations, name, value)
		}
	}
}
