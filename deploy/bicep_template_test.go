package deploy_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// There is no compiler of Bicep in Go. This reads as much of the language as the checks below need: words,
// strings with what is interpolated in them, brackets.

// token is a word, a string, or a character of punctuation. The parts of a string that are code follow it.
type token struct {
	kind string // "word", "string", or the character itself
	text string
	line int
}

// tokens takes a Bicep file apart. An error says where a string or a comment has no end.
func tokens(source string) (all []token, err error) {
	line := 1
	for i := 0; i < len(source); {
		rest := source[i:]
		switch c := source[i]; {
		case c == '\n':
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case strings.HasPrefix(rest, "//"):
			i += len(rest)
			if end := strings.IndexByte(rest, '\n'); end >= 0 {
				i = i - len(rest) + end
			}
		case c == '\'':
			text, code, n := quoted(rest)
			if n == 0 {
				return nil, fmt.Errorf("line %d: a string without an end", line)
			}
			all = append(all, token{"string", text, line})
			for _, part := range code {
				inner, err := tokens(part)
				if err != nil {
					return nil, err
				}
				for _, t := range inner {
					all = append(all, token{t.kind, t.text, line})
				}
			}
			i += n
		case isWord(c):
			n := 1
			for n < len(rest) && isWord(rest[n]) {
				n++
			}
			all = append(all, token{"word", rest[:n], line})
			i += n
		default:
			all = append(all, token{string(c), string(c), line})
			i++
		}
	}
	return all, nil
}

// quoted reads the string that source begins with: its text, the code within it, and its length in bytes,
// which is 0 when it has no end.
func quoted(source string) (text string, code []string, n int) {
	for i := 1; i < len(source) && source[i] != '\n'; i++ {
		switch {
		case source[i] == '\\':
			i++
		case source[i] == '\'':
			return source[1:i], code, i + 1
		case strings.HasPrefix(source[i:], "${"):
			end := strings.IndexByte(source[i:], '}')
			if end < 0 {
				return "", nil, 0
			}
			code = append(code, source[i+2:i+end])
			i += end
		}
	}
	return "", nil, 0
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// template is a Bicep file.
type template struct {
	file    string
	tokens  []token
	params  map[string]bool // whether a default stands for it
	names   map[string]bool // of params, variables, resources and modules
	outputs map[string]bool
	modules map[string]module
}

type module struct {
	file   string
	params []string
	line   int
}

func readTemplate(file, source string) (*template, []string) {
	all, err := tokens(source)
	if err != nil {
		return nil, []string{file + ": " + err.Error()}
	}
	t := &template{file: file, tokens: all, params: map[string]bool{}, names: map[string]bool{}, outputs: map[string]bool{}, modules: map[string]module{}}
	if p := t.unbalanced(); p != "" {
		return nil, []string{p}
	}
	depth := 0
	for i, tok := range all {
		depth += nesting(tok)
		if depth > 0 || tok.kind != "word" || i > 0 && all[i-1].line == tok.line {
			continue
		}
		switch tok.text {
		case "param":
			t.params[all[i+1].text] = i+3 < len(all) && all[i+3].kind == "="
			t.names[all[i+1].text] = true
		case "var", "resource":
			t.names[all[i+1].text] = true
		case "output":
			t.outputs[all[i+1].text] = true
		case "module":
			t.names[all[i+1].text] = true
			t.modules[all[i+1].text] = t.module(i)
		}
	}
	return t, nil
}

func nesting(t token) int {
	switch t.kind {
	case "{", "[", "(":
		return 1
	case "}", "]", ")":
		return -1
	}
	return 0
}

// unbalanced says which bracket has no other one.
func (t *template) unbalanced() string {
	closes := map[string]string{"}": "{", "]": "[", ")": "("}
	var open []token
	for _, tok := range t.tokens {
		switch nesting(tok) {
		case 1:
			open = append(open, tok)
		case -1:
			if len(open) == 0 || open[len(open)-1].kind != closes[tok.kind] {
				return fmt.Sprintf("%s: line %d: %s closes nothing", t.file, tok.line, tok.kind)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return fmt.Sprintf("%s: line %d: %s is not closed", t.file, open[len(open)-1].line, open[len(open)-1].kind)
	}
	return ""
}

// module reads the declaration at token i: module NAME 'FILE' = ... { ..., params: { NAME: ... } }.
func (t *template) module(i int) module {
	m := module{file: path.Join(path.Dir(t.file), t.tokens[i+2].text), line: t.tokens[i].line}
	depth, within := 0, 0 // within is the depth of params, once it has come
	for j := i; j < len(t.tokens); j++ {
		tok := t.tokens[j]
		depth += nesting(tok)
		if tok.kind == "}" && depth == 0 {
			break
		}
		if !t.isKey(j) {
			continue
		}
		if depth == 1 && tok.text == "params" {
			within = 2
		} else if depth == within {
			m.params = append(m.params, tok.text)
		}
	}
	return m
}

// isKey tells whether a word is an object's key: it begins its line or object, and a colon follows.
func (t *template) isKey(i int) bool {
	return t.tokens[i].kind == "word" && i+1 < len(t.tokens) && t.tokens[i+1].kind == ":" &&
		(i == 0 || t.tokens[i-1].line < t.tokens[i].line || t.tokens[i-1].kind == "{")
}

// language are the words of Bicep, and of its functions, that are used here.
var language = strings.Fields(`param var resource module output existing if for in using string int bool object true false
	resourceGroup subscription subscriptionResourceId union items empty guid toLower replace uniqueString
	description allowed minLength maxLength minValue maxValue secure readEnvironmentVariable`)

// findings are the mistakes in a set of templates: names that there aren't, and that nothing uses, modules
// that are given other parameters than they take.
func findings(templates map[string]*template) (found []string) {
	for _, file := range slices.Sorted(maps.Keys(templates)) {
		t := templates[file]
		used := map[string]bool{}
		loops := map[string]bool{}
		for i, tok := range t.tokens {
			if tok.kind == "word" && tok.text == "for" {
				loops[t.tokens[i+1].text] = true
			}
		}
		for i, tok := range t.tokens {
			if tok.kind != "word" || t.isKey(i) || tok.text[0] <= '9' || i > 0 && (t.tokens[i-1].kind == "." || t.declares(i)) {
				continue
			}
			if used[tok.text] = true; !t.names[tok.text] && !loops[tok.text] && !slices.Contains(language, tok.text) {
				found = append(found, fmt.Sprintf("%s: line %d: there is no %s", file, tok.line, tok.text))
			}
			if m, ok := t.modules[tok.text]; ok {
				found = append(found, t.checkOutput(i, templates[m.file])...)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(t.names)) {
			if !used[name] && (t.has("param", name) || t.has("var", name)) {
				found = append(found, fmt.Sprintf("%s: nothing uses %s", file, name))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(t.modules)) {
			found = append(found, t.checkModule(t.modules[name], templates)...)
		}
	}
	return found
}

// declares tells whether token i is the name that a declaration gives, or the type behind it.
func (t *template) declares(i int) bool {
	before := t.tokens[i-1]
	return before.line == t.tokens[i].line && before.kind == "word" && slices.Contains([]string{"param", "var", "resource", "module", "output"}, before.text) &&
		(i == 1 || t.tokens[i-2].line < before.line)
}

func (t *template) has(kind, name string) bool {
	for i := range t.tokens {
		if i > 0 && t.declares(i) && t.tokens[i-1].text == kind && t.tokens[i].text == name {
			return true
		}
	}
	return false
}

// checkOutput looks at NAME.outputs.OUTPUT and NAME!.outputs.OUTPUT, where NAME is token i.
func (t *template) checkOutput(i int, of *template) []string {
	rest := t.tokens[i+1:]
	if len(rest) > 0 && rest[0].kind == "!" {
		rest = rest[1:]
	}
	if len(rest) < 4 || rest[1].text != "outputs" || of == nil || of.outputs[rest[3].text] {
		return nil
	}
	return []string{fmt.Sprintf("%s: line %d: %s has no output %s", t.file, t.tokens[i].line, of.file, rest[3].text)}
}

func (t *template) checkModule(m module, templates map[string]*template) (found []string) {
	of := templates[m.file]
	if of == nil {
		return []string{fmt.Sprintf("%s: line %d: there is no file %s", t.file, m.line, m.file)}
	}
	for _, p := range m.params {
		if _, ok := of.params[p]; !ok {
			found = append(found, fmt.Sprintf("%s: line %d: %s takes no %s", t.file, m.line, m.file, p))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(of.params)) {
		if !of.params[p] && !slices.Contains(m.params, p) {
			found = append(found, fmt.Sprintf("%s: line %d: %s wants %s", t.file, m.line, m.file, p))
		}
	}
	return found
}
