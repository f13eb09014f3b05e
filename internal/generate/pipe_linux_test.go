package generate

import (
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// To open a pipe is to wait for its other end, which nobody opens: pipes in a folder are let alone.
func TestPipesAreNotOpened(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"a/pipe", ""},
		{"a/pull/.pipe", ""},
		{"a/local.settings.json", "local.settings.json is no regular file"},
		{"a/handler", "handler is no regular file"},
	} {
		output := t.TempDir()
		writeFile(t, output, "a/pull/mine", "")
		if err := syscall.Mkfifo(filepath.Join(output, test.name), 0o666); err != nil {
			t.Fatal(err)
		}
		o := Options{Config: []byte(onePull), Output: output, Handler: handlers(t), Arch: runtime.GOARCH}
		done := make(chan error, 1)
		go func() { _, err := Run(t.Context(), o); done <- err }()
		select {
		case err := <-done:
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("a pipe as %s: %v, want %q", test.name, err, test.want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("a pipe as %s: the generator waits for its other end", test.name)
		}
	}
}
