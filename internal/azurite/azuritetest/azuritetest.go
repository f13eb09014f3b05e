// Package azuritetest lends tests a running Azurite.
package azuritetest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"persistor/internal/azurite"
)

// start starts the one server that the tests of a binary share. It keeps everything in memory, and
// ends with the test binary.
var start = sync.OnceValues(func() (*azurite.Server, error) {
	return azurite.Start(context.Background(), "")
})

// Run returns the connection string of a running Azurite. Where it is not installed the test is
// skipped, or fails if AZURITE_REQUIRED=1.
func Run(t testing.TB) string {
	t.Helper()
	s, err := start()
	if errors.Is(err, azurite.ErrNotInstalled) && os.Getenv("AZURITE_REQUIRED") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.ConnectionString()
}

// Container returns the name of a container that no other test has.
func Container(t testing.TB) string {
	t.Helper()
	return "test-" + strings.ToLower(rand.Text())
}
