package generate

import (
	"regexp"
	"strings"
)

// ignore is a .funcignore: rules in the format of .gitignore, the last one that matches a path decides.
type ignore []rule

type rule struct {
	pattern *regexp.Regexp
	not     bool // the path is kept after all
	dir     bool // only folders match
}

func parseIgnore(text string) ignore {
	var rules ignore
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		var r rule
		if line, r.not = strings.CutPrefix(line, "!"); line == "" || line[0] == '#' && !r.not {
			continue
		}
		line, r.dir = strings.CutSuffix(line, "/")
		expression := "^"
		if !strings.Contains(line, "/") {
			expression += "(.*/)?" // at any depth
		}
		pattern, err := regexp.Compile(expression + translate(strings.TrimPrefix(line, "/")) + "$")
		if err != nil {
			continue // a class that isn't one matches nothing, as in git
		}
		r.pattern = pattern
		rules = append(rules, r)
	}
	return rules
}

// translate makes an expression of a pattern: ** crosses folders, * and ? don't.
func translate(pattern string) string {
	var b strings.Builder
	for pattern != "" {
		switch {
		case strings.HasPrefix(pattern, "**/"):
			b.WriteString("(.*/)?")
			pattern = pattern[3:]
		case strings.HasPrefix(pattern, "**"):
			b.WriteString(".*")
			pattern = pattern[2:]
		case pattern[0] == '*':
			b.WriteString("[^/]*")
			pattern = pattern[1:]
		case pattern[0] == '?':
			b.WriteString("[^/]")
			pattern = pattern[1:]
		case pattern[0] == '[' && strings.Contains(pattern, "]"):
			class, rest, _ := strings.Cut(pattern[1:], "]")
			if negated, ok := strings.CutPrefix(class, "!"); ok {
				class = "^" + negated
			}
			b.WriteString("[" + class + "]")
			pattern = rest
		case pattern[0] == '\\' && len(pattern) > 1:
			b.WriteString(regexp.QuoteMeta(pattern[1:2]))
			pattern = pattern[2:]
		default:
			b.WriteString(regexp.QuoteMeta(pattern[:1]))
			pattern = pattern[1:]
		}
	}
	return b.String()
}

// match reports whether a path, with slashes, is left out. A path in a folder that is left out has to be
// asked for by its folder.
func (i ignore) match(name string, dir bool) bool {
	out := false
	for _, r := range i {
		if (dir || !r.dir) && r.pattern.MatchString(name) {
			out = !r.not
		}
	}
	return out
}
