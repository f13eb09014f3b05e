package pull

import (
	"errors"
	"testing"
)

// Where nobody watches, being watched costs nothing.
func TestStepsAreFree(t *testing.T) {
	l, err := &Loop{}, errors.New("no")
	if n := testing.AllocsPerRun(100, func() {
		l.observe(Step{Kind: Stored, Began: l.clock(), Err: err, Messages: 1})
	}); n > 0 || !l.clock().IsZero() {
		t.Errorf("%v allocations", n)
	}
}
