package config

import (
	"fmt"
	"strings"
)

// Error lists everything that is wrong with the settings, so that one look is enough to correct them.
// It holds no secret: a setting's value is quoted only where it is too short to be one.
type Error struct {
	Problems []Problem
}

// Problem is what is wrong with one setting, and what was expected instead.
type Problem struct {
	Setting string `json:"setting"`
	Problem string `json:"problem"`
}

// Error takes one line for each problem, and one before and after them.
func (e *Error) Error() string {
	var b strings.Builder
	noun := "settings are"
	if len(e.Problems) == 1 {
		noun = "setting is"
	}
	fmt.Fprintf(&b, "read settings: %d %s missing or wrong:\n", len(e.Problems), noun)
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "  %s: %s\n", p.Setting, p.Problem)
	}
	b.WriteString("set them as environment variables (the app settings of a function app); docs/settings.md explains each")
	return b.String()
}
