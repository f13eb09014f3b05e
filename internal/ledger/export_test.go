package ledger

import "time"

// At sets the ledger's clock.
func (l *Ledger) At(now time.Time) *Ledger {
	l.now = func() time.Time { return now }
	return l
}
