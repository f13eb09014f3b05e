package wire

// Terminus is the source or the target of a link. It keeps the fields as the peer sent them, so that a reply can give
// them back byte for byte: a client checks that a filter it asked for comes back in the same shape.
type Terminus struct {
	kind    byte
	raw     [11][]byte // the fields; the slices are copies
	Address string     // empty for null
	Filters []Filter   // of a source
}

// Filter is an entry of a source's filter map. Value is the filter without its descriptor, if it has one.
type Filter struct {
	Name  string
	Value any
}

// Which field of a source or a target is which, part 3.5 of the standard.
const (
	fieldAddress      = 0
	fieldFilter       = 7
	sourceFields      = 11
	targetFields      = 7
	coordinatorFields = 1
)

// IsCoordinator reports whether the terminus is the coordinator of transactions.
func (t *Terminus) IsCoordinator() bool { return t != nil && t.kind == descCoordinator }

// Filter returns the value of a source's filter by its name. It is false if there is none.
func (t *Terminus) Filter(name string) (any, bool) {
	for _, f := range t.Filters {
		if f.Name == name {
			return f.Value, true
		}
	}
	return nil, false
}

// WithFilter returns a copy of a source in which the value of a filter is another. The filter keeps its descriptor if it
// has one, and a plain value stays plain; without the filter the copy is the same.
func (t *Terminus) WithFilter(name string, value any) *Terminus {
	granted := *t
	if t.raw[fieldFilter] == nil {
		return &granted
	}
	pairs := NewReader(t.raw[fieldFilter]).Map()
	granted.raw[fieldFilter] = AppendMap(nil, pairs.fields/2, func(dst []byte) []byte {
		for pairs.More() {
			key, old := pairs.Raw(), pairs.Raw()
			dst = AppendRaw(dst, key)
			if NewReader(AppendRaw(nil, key)).Any() != Symbol(name) {
				dst = AppendRaw(dst, old)
				continue
			}
			if old != nil && old[0] == codeDescribed {
				dst = AppendRaw(append(dst, codeDescribed), NewReader(old[1:]).Raw())
			}
			dst = AppendAny(dst, value)
		}
		return dst
	})
	return &granted
}

func (r *Reader) terminus() *Terminus {
	code, _, value, ok := r.Described()
	if !ok {
		return nil
	}
	t := &Terminus{kind: byte(code)}
	var count int
	switch code {
	case descSource:
		count = sourceFields
	case descTarget:
		count = targetFields
	case descCoordinator:
		count = coordinatorFields
	default:
		r.fail("a source or target is expected, got descriptor 0x%02x", code)
		return nil
	}
	fields := value.List()
	for i := range count {
		raw := fields.Raw()
		if raw == nil {
			continue
		}
		// What goes back to the peer must be sound all the way down.
		if err := Check(raw); err != nil {
			r.fail("%s", err.(*Error).Description)
			return nil
		}
		t.raw[i] = append([]byte(nil), raw...)
	}
	if code != descCoordinator {
		address := NewReader(AppendRaw(nil, t.raw[fieldAddress]))
		t.Address = address.String()
		r.adopt(address)
	}
	if code == descSource && t.raw[fieldFilter] != nil {
		filters, ok := NewReader(t.raw[fieldFilter]).Any().(Map)
		if !ok {
			r.fail("a filter is not a map")
		}
		t.Filters = undescribed(filters)
	}
	r.adopt(value)
	r.adopt(fields)
	return t
}

func undescribed(filters Map) []Filter {
	var all []Filter
	for _, p := range filters {
		name, _ := p.Key.(Symbol)
		if d, ok := p.Value.(Described); ok {
			p.Value = d.Value
		}
		all = append(all, Filter{string(name), p.Value})
	}
	return all
}

func (t *Terminus) appendTo(dst []byte) []byte {
	if t == nil {
		return AppendNull(dst)
	}
	count := map[byte]int{descSource: sourceFields, descTarget: targetFields, descCoordinator: coordinatorFields}[t.kind]
	return AppendList(AppendDescriptor(dst, t.kind), count, func(dst []byte) []byte {
		for _, raw := range t.raw[:count] {
			dst = AppendRaw(dst, raw)
		}
		return dst
	})
}

// NewSource returns a source with an address and filters, for programs that act as a client.
func NewSource(address string, filters ...Pair) *Terminus {
	t := newTerminus(descSource, address)
	if len(filters) > 0 {
		t.raw[fieldFilter] = AppendAny(nil, Map(filters))
		t.Filters = undescribed(filters)
	}
	return t
}

// NewTarget returns a target with an address.
func NewTarget(address string) *Terminus { return newTerminus(descTarget, address) }

func newTerminus(kind byte, address string) *Terminus {
	return &Terminus{kind: kind, Address: address, raw: [11][]byte{AppendString(nil, address)}}
}
