package generate

import "testing"

func TestIgnore(t *testing.T) {
	for _, test := range []struct {
		rules, name string
		dir, want   bool
	}{
		{"", "a", false, false},
		{"# a\n\n", "a", false, false},
		{"*.md", "a.md", false, true},
		{"*.md", "b/a.md", false, true},
		{"*.md", "b/a.mdx", false, false},
		{"/a", "a", false, true},
		{"/a", "b/a", false, false},
		{"b/a", "b/a", false, true},
		{"b/a", "c/b/a", false, false},
		{"a/", "a", false, false},
		{"a/", "a", true, true},
		{"a/", "b/a", true, true},
		{"**/a", "b/c/a", false, true},
		{"b/**", "b/c/a", false, true},
		{"b/**/a", "b/a", false, true},
		{"b/**/a", "b/c/d/a", false, true},
		{"b/*", "b/c/a", false, false},
		{"a?c", "abc", false, true},
		{"a?c", "a/c", false, false},
		{"[a-c]x", "bx", false, true},
		{"[!a-c]x", "bx", false, false},
		{"[!a-c]x", "dx", false, true},
		{"*.md\n!a.md", "a.md", false, false},
		{"*.md\n!a.md", "b.md", false, true},
		{`\#a`, "#a", false, true},
		{`\!a`, "!a", false, true},
		{"a.b", "axb", false, false},
		{"a(b+", "a(b+", false, true},
		{"[z-a]", "m", false, false},
		{"täst*", "tästen", false, true},
		{"a \r\n", "a", false, true},
	} {
		if got := parseIgnore(test.rules).match(test.name, test.dir); got != test.want {
			t.Errorf("%q ignores %s (folder: %t): %t, want %t", test.rules, test.name, test.dir, got, test.want)
		}
	}
}
