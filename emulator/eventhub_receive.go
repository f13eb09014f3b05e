package emulator

import (
	"fmt"
	"slices"
	"strings"

	"persistor/emulator/internal/wire"
)

const (
	filterSelector     = "apache.org:selector-filter:string"
	propertyEpoch      = "com.microsoft:epoch"
	propertyName       = "com.microsoft:receiver-name"
	capabilityMetrics  = "com.microsoft:enable-receiver-runtime-metric"
	conditionBadFilter = "com.microsoft:argument-error"
)

// reader is the feed of a link that a client receives a partition's events on. Events go out settled.
type reader struct {
	partition *partition
	link      *link
	group     string
	name      string
	epoch     *int64 // the owner level, nil without one
	metrics   bool   // the client wants to know with each event how far the partition has got
	position  int64  // sequence number of the next event
}

// attachReader checks what a receiver asks for: the group, the partition, where to start, and its owner level.
func (h *hub) attachReader(l *link, a *wire.Attach, groupName, partitionID string) (granted, *wire.Error) {
	group, ok := h.group(groupName)
	if !ok {
		return granted{}, h.e.notFound(fmt.Sprintf("%s/ConsumerGroups/%s", h.Name, groupName))
	}
	p, refusal := h.partition(partitionID)
	if refusal != nil {
		return granted{}, refusal
	}
	r := &reader{partition: p, link: l, group: group, name: a.Properties.String(propertyName)}
	if level, ok := a.Properties.Get(propertyEpoch).(int64); ok {
		r.epoch = &level
	}
	var g granted
	if slices.Contains(a.Desired, capabilityMetrics) {
		r.metrics = true
		g.offered = []string{capabilityMetrics}
	}
	from := selector{field: byOffset, offset: "-1"}
	if filter, ok := a.Source.Filter(filterSelector); ok {
		text, _ := filter.(string)
		var err error
		if from, err = parseSelector(text); err != nil {
			return granted{}, &wire.Error{Condition: conditionBadFilter, Description: h.e.describe(h.Name, "%v.", err)}
		}
	}
	position, err := p.log.find(from)
	if err != nil {
		return granted{}, &wire.Error{Condition: conditionBadFilter, Description: h.e.describe(h.Name, "%v.", err)}
	}
	r.position = position
	if refusal := p.join(r); refusal != nil {
		return granted{}, refusal
	}
	l.feed = r
	return g, nil
}

func (r *reader) next(dst []byte) (message []byte, tag [16]byte, ok bool) {
	if r.link.kicked.Load() != nil {
		return dst, tag, false // its owner level is another's: not one event more
	}
	if r.metrics {
		dst = r.partition.appendMetrics(dst, r.position)
	}
	before := len(dst)
	message, position, ok := r.partition.log.read(dst, r.position)
	if ok {
		r.position = position + 1
		r.partition.sent.Add(1)
		r.partition.sentBytes.Add(int64(len(message) - before))
	}
	return message, tag, ok
}

func (r *reader) release() { r.partition.leave(r) }

// appendMetrics appends the delivery annotations that tell how far the partition has got.
func (p *partition) appendMetrics(dst []byte, position int64) []byte {
	info := p.log.info()
	if info.Empty || position > info.Last {
		return dst
	}
	return wire.AppendMap(wire.AppendSection(dst, wire.SectionDeliveryAnnotations), 4, func(dst []byte) []byte {
		dst = wire.AppendLong(wire.AppendSymbol(dst, "last_enqueued_sequence_number"), info.Last)
		dst = wire.AppendString(wire.AppendSymbol(dst, "last_enqueued_offset"), info.LastOffset)
		dst = wire.AppendTimestamp(wire.AppendSymbol(dst, "last_enqueued_time_utc"), info.LastEnqueued.UnixMilli())
		return wire.AppendTimestamp(wire.AppendSymbol(dst, "runtime_info_retrieval_time_utc"), p.hub.e.now().UnixMilli())
	})
}

// join lets a reader into its consumer group, or says why it may not come in. An owner level drives out all readers
// with a lower or the same one, and those without: the last one in wins. The scope is the hub, group and partition.
func (p *partition) join(r *reader) *wire.Error {
	e := p.hub.e
	refuse := func(condition, format string, args ...any) *wire.Error {
		return &wire.Error{Condition: condition, Description: e.describe(r.link.address, format, args...)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var present []*reader
	for _, o := range p.readers {
		if o.group == r.group && o.link.kicked.Load() == nil {
			present = append(present, o)
		}
	}
	for _, o := range present {
		switch {
		case o.epoch == nil:
		case r.epoch == nil:
			return refuse(wire.ConditionStolen, "At least one receiver for the endpoint is created with epoch of '%d', and so non-epoch receiver is not allowed. "+
				"Either reconnect with a higher epoch, or make sure all epoch receivers are closed or disconnected.", *o.epoch)
		case *r.epoch < *o.epoch:
			return refuse(wire.ConditionStolen, "Receiver '%s' with a higher epoch '%d' already exists. Receiver '%s' with epoch %d cannot be created. "+
				"Make sure you are creating receiver with increasing epoch value to ensure connectivity, or ensure all old epoch receivers are closed or disconnected.",
				o.name, *o.epoch, r.name, *r.epoch)
		}
	}
	if r.epoch == nil && len(present) >= e.limits.Readers {
		names := make([]string, len(present))
		for i, o := range present {
			names[i] = o.name
		}
		return refuse(wire.ConditionResourceLimitExceeded, "Exceeded the maximum number of allowed receivers per partition in a consumer group which is %d. List of connected receivers - %s.",
			e.limits.Readers, strings.Join(names, ", "))
	}
	if r.epoch != nil {
		for _, o := range present {
			o.link.kick(refuse(wire.ConditionStolen, "New receiver '%s' with higher epoch of '%d' is created hence current receiver '%s' with epoch '%s' is getting disconnected. "+
				"If you are recreating the receiver, make sure a higher epoch is used.", r.name, *r.epoch, o.name, o.level()))
		}
	}
	p.readers = append(p.readers, r)
	return nil
}

// level is the owner level in words.
func (r *reader) level() string {
	if r.epoch == nil {
		return "none"
	}
	return fmt.Sprint(*r.epoch)
}

func (p *partition) leave(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers = slices.DeleteFunc(p.readers, func(o *reader) bool { return o == r })
}
