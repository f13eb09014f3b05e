// Package terminal writes for a person who looks at a terminal, or at what went to a file instead.
package terminal

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Width is the width of the terminal that w is, in characters, or 0 where it is none, or one that tells no width.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return max(width, 0)
}

// Cut shortens a line to the columns of a terminal.
func Cut(line string, width int) string {
	used, end := 0, 0 // columns, and bytes that leave one for the ellipsis
	for i, r := range line {
		if used += columns(r); used > width {
			return line[:end] + "…"
		}
		if used < width {
			end = i + utf8.RuneLen(r)
		}
	}
	return line
}

// columns is how much room a character takes on a terminal: two for the scripts of East Asia and for
// emoji, which begin where Hangul does. It is a rough rule; what it calls too wide is only cut earlier.
func columns(r rune) int {
	if r >= 0x1100 && (r < 0x2000 || r >= 0x2e80) {
		return 2
	}
	return 1
}

// Group writes a number with separators between thousands.
func Group(n int64) string {
	digits, sign := strconv.FormatInt(n, 10), ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// Count is so many of something, by its name in the singular: "1 batch", "2 batches", "1,000 blobs".
func Count(n int64, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "ch"):
		noun += "es"
	default:
		noun += "s"
	}
	return Group(n) + " " + noun
}
