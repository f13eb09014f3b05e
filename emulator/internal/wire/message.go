package wire

import (
	"fmt"
	"iter"
)

// Section is a section of a message: its descriptor's code, where in the message it starts, and its encoded value.
type Section struct {
	Code  byte
	Start int
	Value []byte
}

// Sections yields the sections of an encoded message in order, as parts of b. It ends with an error, an [*Error] with
// the condition amqp:decode-error, at what is not a section, or is one that cannot be there. Values are checked to the
// bottom, so that a message which came through can be decoded by any client.
func Sections(b []byte) iter.Seq2[Section, error] {
	return func(yield func(Section, error) bool) {
		r := NewReader(b)
		last := byte(0)
		for r.More() {
			start := len(b) - len(r.b)
			code, _, value, ok := r.Described()
			if !ok {
				r.fail("a message section is expected")
				break
			}
			s := Section{Code: byte(code), Start: start, Value: value.b}
			repeats := code == SectionData || code == SectionSequence
			switch {
			case code < SectionHeader || code > SectionFooter:
				r.fail("0x%02x is no message section", code)
			case s.Code < last || s.Code == last && !repeats:
				r.fail("message section 0x%02x comes after 0x%02x", code, last)
			default:
				last = s.Code
				if err := checkSection(s); err != nil {
					r.fail("%s", err.Description)
				}
			}
			if r.err != nil || !yield(s, nil) {
				break
			}
		}
		if r.err != nil {
			yield(Section{}, r.err)
		}
	}
}

func checkSection(s Section) *Error {
	r := NewReader(s.Value)
	var ok bool
	switch s.Code {
	case SectionData:
		code, _ := r.value()
		ok = code == codeBin8 || code == codeBin32
	case SectionHeader, SectionProperties, SectionSequence:
		_, ok = r.Any().([]any)
	case SectionValue:
		r.Any()
		ok = true
	default:
		_, ok = r.Any().(Map)
	}
	if r.err != nil {
		return r.err.(*Error)
	}
	if !ok {
		return &Error{Condition: ConditionDecodeError, Description: fmt.Sprintf("message section 0x%02x holds a value of the wrong type", s.Code)}
	}
	return nil
}

// AppendSection appends the beginning of a section: its value comes next.
func AppendSection(dst []byte, code byte) []byte { return AppendDescriptor(dst, code) }

// Properties are those of a message's properties that a broker looks at.
type Properties struct {
	MessageID []byte // encoded: its type matters as much as its value
	ReplyTo   string
}

// ParseProperties decodes the value of a properties section.
func ParseProperties(value []byte) (Properties, error) {
	r := NewReader(value)
	f := r.List()
	var p Properties
	p.MessageID = f.Raw()
	f.Raw() // user-id
	f.Raw() // to
	f.Raw() // subject
	p.ReplyTo = f.String()
	r.adopt(f)
	return p, r.err
}

// The fields of a properties section, part 3.2.4 of the standard.
const (
	PropertyMessageID = iota
	PropertyUserID
	PropertyTo
	PropertySubject
	PropertyReplyTo
	PropertyCorrelationID
	PropertyContentType
	PropertyContentEncoding
	PropertyAbsoluteExpiryTime
	PropertyCreationTime
	PropertyGroupID
	PropertyGroupSequence
	PropertyReplyToGroupID
	propertyFields
)

// PropertyFields are the fields of a properties section, each encoded, nil for null.
type PropertyFields [propertyFields][]byte

// ParsePropertyFields splits the value of a properties section into its fields, which are parts of it.
func ParsePropertyFields(value []byte) (PropertyFields, error) {
	var fields PropertyFields
	r := NewReader(value)
	list := r.List()
	for i := range fields {
		fields[i] = list.Raw()
	}
	r.adopt(list)
	return fields, r.err
}

// AppendPropertyFields appends a properties section.
func AppendPropertyFields(dst []byte, fields *PropertyFields) []byte {
	return AppendList(AppendSection(dst, SectionProperties), len(fields), func(dst []byte) []byte {
		for _, raw := range fields {
			dst = AppendRaw(dst, raw)
		}
		return dst
	})
}

// AppendReplyProperties appends a properties section that has only a correlation-id, given encoded.
func AppendReplyProperties(dst, correlationID []byte) []byte {
	return AppendList(AppendSection(dst, SectionProperties), 13, func(dst []byte) []byte {
		dst = append(dst, codeNull, codeNull, codeNull, codeNull, codeNull)
		dst = AppendRaw(dst, correlationID)
		return append(dst, codeNull, codeNull, codeNull, codeNull, codeNull, codeNull, codeNull)
	})
}
