package config

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a value that no log, error or report may show: however it is printed or encoded, "[redacted]"
// stands in its place, or nothing when it is empty. Only [Secret.Reveal] gives the value.
//
// Keep it in exported fields: package fmt prints an unexported field without asking its type.
type Secret string

// Reveal returns the value itself, for the client that has to present it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter], so that no verb (%x, %#v, %d) reaches the value.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// MarshalText implements [encoding.TextMarshaler], which encoding/json uses, too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
