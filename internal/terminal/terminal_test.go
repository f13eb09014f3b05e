package terminal_test

import (
	"testing"

	"persistor/internal/terminal"
)

func TestGroup(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -123456: "-123,456", 1234567890: "1,234,567,890"} {
		if got := terminal.Group(n); got != want {
			t.Errorf("Group(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		n          int64
		noun, want string
	}{{0, "blob", "0 blobs"}, {1, "blob", "1 blob"}, {1, "batch", "1 batch"}, {2, "batch", "2 batches"}, {1000, "message", "1,000 messages"}} {
		if got := terminal.Count(c.n, c.noun); got != c.want {
			t.Errorf("Count(%d, %q) is %q, want %q", c.n, c.noun, got, c.want)
		}
	}
}

func TestCutCountsColumns(t *testing.T) {
	for _, test := range []struct {
		line  string
		width int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"水温", 4, "水温"},
		{"水温です", 4, "水…"},
		{"水温です", 5, "水温…"},
		{"Наля", 3, "На…"},
	} {
		if got := terminal.Cut(test.line, test.width); got != test.want {
			t.Errorf("cut %q to %d is %q, want %q", test.line, test.width, got, test.want)
		}
	}
}
