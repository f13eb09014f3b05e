package hosttest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// template is a path with expressions in braces, as azure-webjobs-sdk has them (Bindings/Path/BindingTemplate*.cs).
type template []token

// token is a literal, or the expression in braces.
type token struct {
	literal string
	parts   []string // of the expression, which were separated by dots; nil for a literal
	format  string
	builtin string // rand-guid or datetime
}

var identifier = regexp.MustCompile(`^[\pL_][\pL\pN\pM\p{Pc}.\-]*$`)

// parseTemplate refuses what the host refuses when it indexes the function.
func parseTemplate(text string) (template, error) {
	if text == "" {
		return nil, errors.New("it is missing or empty")
	}
	var t template
	for text != "" {
		switch {
		case strings.HasPrefix(text, "{{"), strings.HasPrefix(text, "}}"):
			t = append(t, token{literal: text[:1]})
			text = text[2:]
		case text[0] == '{':
			end := strings.IndexAny(text[1:], "{}") + 1
			if end == 0 || text[end] == '{' {
				return nil, errors.New("a closing bracket is missing")
			}
			expression, err := parseExpression(text[1:end])
			if err != nil {
				return nil, err
			}
			t = append(t, expression)
			text = text[end+1:]
		case text[0] == '}':
			return nil, errors.New("an opening bracket is missing")
		default:
			end := strings.IndexAny(text, "{}")
			if end < 0 {
				end = len(text)
			}
			t = append(t, token{literal: text[:end]})
			text = text[end:]
		}
	}
	return t, nil
}

func parseExpression(text string) (token, error) {
	if text == "" {
		return token{}, errors.New("an expression is empty")
	}
	var e token
	for _, name := range []string{"rand-guid", "datetime"} {
		if len(text) >= len(name) && strings.EqualFold(text[:len(name)], name) {
			// The host splits the format at its dots, too, and loses what comes behind the first.
			e.builtin = name
			_, e.format, _ = strings.Cut(text, ":")
			e.format, _, _ = strings.Cut(e.format, ".")
			e.parts = []string{strings.Split(text, ".")[0]}
			return e, checkFormat(e.format)
		}
	}
	name, format, _ := strings.Cut(text, ":")
	if !identifier.MatchString(name) {
		return e, fmt.Errorf("%q is no expression", text)
	}
	e.format, e.parts = format, strings.Split(name, ".")
	if strings.Contains(e.parts[0], "-") {
		return e, fmt.Errorf("the parameter name %q is invalid", e.parts[0])
	}
	for _, part := range e.parts {
		if part == "" {
			return e, fmt.Errorf("%q is no expression", text)
		}
	}
	return e, checkFormat(format)
}

// resolve makes a path of an invocation's binding data.
func (t template) resolve(data bindingData) (string, error) {
	var path strings.Builder
	for _, e := range t {
		if e.parts == nil {
			path.WriteString(e.literal)
			continue
		}
		value, err := e.value(data)
		if err != nil {
			return "", err
		}
		path.WriteString(pathText(value, e.format))
	}
	return path.String(), nil
}

// value finds what an expression names: binding data first, then what is built in.
func (e token) value(data bindingData) (any, error) {
	current, there := property(data, e.parts[0])
	switch {
	case there:
	case e.builtin == "rand-guid":
		return newID(), nil
	case e.builtin == "datetime":
		return utcTime(time.Now()), nil
	default:
		return nil, fmt.Errorf("no value for named parameter '%s'", e.parts[0])
	}
	for _, name := range e.parts[1:] {
		object, ok := current.(map[string]any)
		if ok {
			current, ok = property(object, name)
		}
		if !ok {
			return nil, fmt.Errorf("error while accessing '%s': property doesn't exist", name)
		}
	}
	return current, nil
}

// property finds a name without regard to case.
func property(m map[string]any, name string) (any, bool) {
	if value, ok := m[name]; ok {
		return value, true
	}
	for key, value := range m {
		if strings.EqualFold(key, name) {
			return value, true
		}
	}
	return nil, false
}

// pathText is a value in a path (BindingDataPathHelper): strings and whole numbers, whatever the format; a DateTime by its
// format. Everything else, a DateTimeOffset and arrays among it, is nothing.
func pathText(v any, format string) string {
	switch v := v.(type) {
	case string:
		return v
	case int, int8, int16, int32, int64, uint8, uint16, uint32, uint64:
		return fmt.Sprint(v)
	case time.Time: // of no kind
		return netTime(v, format, "")
	case utcTime:
		return netTime(time.Time(v), format, "Z")
	}
	return ""
}

// netTime formats a time in UTC as .NET's custom formats do, in the invariant culture. K stands for zone.
func netTime(t time.Time, format, zone string) string {
	if strings.TrimSpace(format) == "" {
		format = "yyyy-MM-ddTHH-mm-ssK"
	}
	t = t.UTC()
	var out strings.Builder
	for _, run := range formatRuns(format) {
		if layout, ok := layouts[run]; ok {
			out.WriteString(t.Format(layout))
			continue
		}
		switch run[0] {
		case 'K':
			out.WriteString(zone)
		case 'f':
			out.WriteString(fmt.Sprintf("%09d", t.Nanosecond())[:min(len(run), 7)])
		case '\'', '\\':
			out.WriteString(strings.Trim(run, `'\`))
		default:
			out.WriteString(run)
		}
	}
	return out.String()
}

// layouts are .NET's runs of letters and Go's for the same.
var layouts = map[string]string{
	"yyyy": "2006", "yy": "06", "MMMM": "January", "MMM": "Jan", "MM": "01", "M": "1", "dddd": "Monday", "ddd": "Mon", "dd": "02", "d": "2",
	"HH": "15", "hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5", "tt": "PM",
}

// formatRuns takes a format apart: quoted text, an escaped character, a run of one letter, any other character.
func formatRuns(format string) (runs []string) {
	for format != "" {
		n := 1
		switch c := format[0]; {
		case c == '\'':
			if end := strings.IndexByte(format[1:], '\''); end >= 0 {
				n = end + 2
			}
		case c == '\\':
			n = min(2, len(format))
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			for n < len(format) && format[n] == c {
				n++
			}
		}
		runs = append(runs, format[:n])
		format = format[n:]
	}
	return runs
}

// checkFormat refuses formats that the double doesn't know; the host knows some more.
func checkFormat(format string) error {
	if len(format) == 1 {
		return fmt.Errorf("format %q: the double knows custom formats alone", format)
	}
	for _, run := range formatRuns(format) {
		_, known := layouts[run]
		if c := run[0] | 0x20; !known && c >= 'a' && c <= 'z' && run[0] != 'K' && run[0] != 'f' && run[0] != 'T' {
			return fmt.Errorf("format %q: the double doesn't know %q", format, run)
		}
	}
	return nil
}
