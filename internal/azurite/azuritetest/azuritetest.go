// Package azuritetest lends tests a running Azurite.
package azuritetest

import (
	"crypto/rand"
	"strings"
	"testing"
)

// Run is not there yet.
func Run(t testing.TB) string { t.Skip("no Azurite yet"); return "" }

// Container returns the name of a container that no other test has.
func Container(t testing.TB) string {
	t.Helper()
	return "test-" + strings.ToLower(rand.Text())
}
