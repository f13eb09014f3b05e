package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Bounds of a configuration.
const (
	MaxConfig  = 1 << 20 // bytes
	maxEntries = 1000
)

// Config says which function apps there are to be.
type Config struct {
	// Output is the folder that the apps' folders go to; "" when the configuration names none.
	Output string
	Apps   []App
}

// App is one function app.
type App struct {
	Name    string // of its folder
	Variant string // of package functions
	// Set are settings that the configuration chose. They are written whatever the folder has.
	Set []Setting
	// Omit are settings of the variant that were chosen against. They are not added.
	Omit []string
	// Workers is the app of an invoker's workers. What both need is taken from there where it is filled in.
	Workers string
}

// Setting is an app setting.
type Setting struct{ Name, Value string }

// Parse reads a configuration: a JSON document of the original's generator, with "persistorServices", or
// YAML or JSON with "apps" (docs/generate.md has both). What is wrong with it is an [*Error], all of it at
// once. When lenient, an option or a value that doesn't exist is a warning, and dropped.
func Parse(content []byte, lenient bool) (c Config, warnings []string, err error) {
	r := reader{lenient: lenient}
	root := r.document(content)
	if root != nil {
		c = r.config(root)
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Line - b.Line })
		return Config{}, nil, &Error{r.problems}
	}
	return c, r.warnings, nil
}

func (r *reader) config(root *yaml.Node) (c Config) {
	fields := r.mapping(root, "the configuration")
	var specs []spec
	switch {
	case fields == nil:
		return c
	case fields["persistorServices"] != nil:
		r.unknown(fields, "", []string{"persistorServices", "output"})
		specs = r.original(fields["persistorServices"])
	case fields["apps"] != nil:
		r.unknown(fields, "", []string{"apps", "output", "$schema"})
		specs = r.apps(fields["apps"])
	default:
		r.wrong(root, "", `it has neither "apps" nor, as the original's, "persistorServices": name the function apps to write`)
		return c
	}
	c.Output = r.text(fields["output"], "output")
	for _, s := range specs {
		c.Apps = append(c.Apps, s.apps()...)
	}
	return c
}

// Error lists everything that is wrong with a configuration, so that one look is enough to correct it.
type Error struct{ Problems []Problem }

// Problem is what is wrong at one place of a configuration.
type Problem struct {
	Line    int    `json:"line"`  // from 1; 0 when it is about the whole
	Where   string `json:"where"` // the app, and the option in it; "" when it is about the whole
	Problem string `json:"problem"`
}

// maxTold bounds the problems that the text of an [Error] has.
const maxTold = 100

// Error takes one line for each problem, and one before them.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "read configuration: %d to correct:", len(e.Problems))
	for i, p := range e.Problems {
		if i == maxTold {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Problems)-i)
			break
		}
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

func (p Problem) String() string {
	text := p.Problem
	if p.Where != "" {
		text = p.Where + ": " + text
	}
	if p.Line > 0 {
		text = fmt.Sprintf("line %d: %s", p.Line, text)
	}
	return text
}

// reader reads nodes, and keeps every problem it meets on the way. Its methods take nil for a node that
// isn't there, and return the zero for it.
type reader struct {
	lenient  bool
	problems []Problem
	warnings []string
	names    map[string]string // of apps, by their lower case
}

// wrong notes a problem.
func (r *reader) wrong(n *yaml.Node, where, format string, args ...any) {
	p := Problem{Where: where, Problem: fmt.Sprintf(format, args...)}
	if n != nil {
		p.Line = n.Line
	}
	r.problems = append(r.problems, p)
}

// drop notes a problem with an option, which can be left out.
func (r *reader) drop(n *yaml.Node, where, format string, args ...any) {
	r.wrong(n, where, format, args...)
	if r.lenient {
		last := len(r.problems) - 1
		r.warnings = append(r.warnings, r.problems[last].String()+" (dropped)")
		r.problems = r.problems[:last]
	}
}

// document parses the one document that content is.
func (r *reader) document(content []byte) *yaml.Node {
	if len(content) > MaxConfig {
		r.wrong(nil, "", "it is larger than %d bytes", MaxConfig)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(plainEscapes(content)))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		r.wrong(nil, "", "it is empty")
		return nil
	}
	if err == nil {
		if more := decoder.Decode(new(yaml.Node)); !errors.Is(more, io.EOF) {
			err = errors.New("more follows after the first document")
		}
	}
	if err != nil {
		r.wrong(nil, "", "it is neither YAML nor JSON: %s", strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "yaml: "))
		return nil
	}
	if alias := findAlias(&document); alias != nil {
		r.wrong(alias, "", "anchors and aliases are not taken: write it out")
		return nil
	}
	return document.Content[0]
}

// plainEscapes writes out what JSON may escape and the YAML parser doesn't know so: slashes, and characters in two
// halves. Lines stay as they are.
func plainEscapes(content []byte) []byte {
	if !json.Valid(content) {
		return content
	}
	return escape.ReplaceAllFunc(content, func(found []byte) []byte {
		switch {
		case string(found) == `\/`:
			return found[1:]
		case len(found) < 2*len(`\ud800`):
			return found
		}
		var s string
		if err := json.Unmarshal(slices.Concat([]byte(`"`), found, []byte(`"`)), &s); err != nil {
			return found
		}
		return []byte(s)
	})
}

// escape is one escape of JSON, those of two halves as a whole.
var escape = regexp.MustCompile(`\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|.)`)

func findAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return n
	}
	for _, child := range n.Content {
		if found := findAlias(child); found != nil {
			return found
		}
	}
	return nil
}

// mapping returns the fields of a mapping; nil when it is none.
func (r *reader) mapping(n *yaml.Node, where string) map[string]*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(n, where, "expected names with values, got %s", describe(n))
		return nil
	}
	fields := map[string]*yaml.Node{}
	for i := 0; i < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if fields[name] != nil {
			r.wrong(n.Content[i], where, "%s is there twice", label(name))
		}
		fields[name] = n.Content[i+1]
	}
	return fields
}

// list returns the items of a list with one at least.
func (r *reader) list(n *yaml.Node, where string) []*yaml.Node {
	switch {
	case n.Kind != yaml.SequenceNode:
		r.wrong(n, where, "expected a list, got %s", describe(n))
		return nil
	case len(n.Content) == 0:
		r.wrong(n, where, "it is empty: name the function apps to write")
	case len(n.Content) > maxEntries:
		r.wrong(n, where, "it has %d entries, expected at most %d", len(n.Content), maxEntries)
		return nil
	}
	return n.Content
}

// text returns the value of a string.
func (r *reader) text(n *yaml.Node, where string) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		r.wrong(n, where, "expected text, got %s", describe(n))
		return ""
	}
	return n.Value
}

// unknown refuses fields that are not among those known.
func (r *reader) unknown(fields map[string]*yaml.Node, where string, known []string) {
	for _, name := range sortedKeys(fields) {
		if !slices.Contains(known, name) {
			r.drop(fields[name], join(where, name), "there is no such option, only %s", strings.Join(known, ", "))
		}
	}
}

// appName reads the name of an app, which becomes a folder's. What it returns can be shown in any case.
func (r *reader) appName(n *yaml.Node, where string) string {
	before := len(r.problems)
	name := r.text(n, where)
	switch base, _, _ := strings.Cut(strings.ToLower(name), "."); {
	case n == nil || len(r.problems) > before:
	case !folderName.MatchString(name) || strings.HasSuffix(strings.ToLower(name), ".zip"):
		name = label(name)
		r.wrong(n, name, "its name is no name for the folder of a function app: expected 1 to 60 letters, digits, periods, hyphens and underscores, with a letter or digit at both ends, and not .zip at the end")
	case deviceName.MatchString(base):
		r.wrong(n, name, "its name is that of a device to Windows, which can't have such a folder: choose another one")
	}
	return name
}

// takeFolder makes sure that folders are of one app each, also where case makes no difference.
func (r *reader) takeFolder(n *yaml.Node, name string, withInvoker bool) {
	names := []string{name}
	if withInvoker {
		names = append(names, name+invokerSuffix)
	}
	if r.names == nil {
		r.names = map[string]string{}
	}
	for _, name := range names {
		folded := strings.ToLower(name)
		if other, taken := r.names[folded]; taken {
			r.wrong(n, names[0], "the folder %s is that of another function app (%s): each has one of its own", name, other)
		}
		r.names[folded] = name
	}
}

var (
	folderName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,58}[A-Za-z0-9])?$`)
	// https://learn.microsoft.com/windows/win32/fileio/naming-a-file
	deviceName = regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])$`)
)

// maxLabel bounds names that messages repeat, in bytes.
const maxLabel = 60

// label is a name as messages show it, whatever is in it: within one line, and not at any length.
func label(name string) string {
	if len(name) > maxLabel {
		name = strings.ToValidUTF8(name[:maxLabel], "") + "…"
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, name)
}

// quotable bounds the values that messages repeat, in bytes: a worker key has 16 at least, other keys more.
const quotable = 15

// describe says what a node is. Values can be secrets, and are not shown when they are long.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "names with values"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.ShortTag() == "!!null" {
		return "nothing"
	}
	if len(n.Value) > quotable {
		return fmt.Sprintf("a value of %d bytes", len(n.Value))
	}
	return fmt.Sprintf("%q", n.Value)
}

func join(where, name string) string {
	if where == "" {
		return label(name)
	}
	return where + ": " + label(name)
}
