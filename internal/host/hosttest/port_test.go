package hosttest

import "testing"

// A port is given once, though nobody listens on it yet.
func TestPortsAreGivenOnce(t *testing.T) {
	given := map[int]bool{}
	for range 1000 {
		p := Port(t)
		if given[p] || p < firstPort || p >= firstPort+ports {
			t.Fatalf("port %d, behind %d others", p, len(given))
		}
		given[p] = true
	}
}
