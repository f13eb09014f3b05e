package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Locker lets one process at a time have what has a name. [Azure] and [Dir] are ones.
type Locker interface {
	// Lock takes the lock of a name, which one holder has at a time over all processes and machines, or
	// fails at once with a [LockedError]. It is held until [Lease.Release], whatever becomes of ctx, and
	// given back by itself when the process dies: in a directory at once, in Blob Storage within a minute.
	// The name is as [CheckName] has it; in Blob Storage there is a blob of that name from the first Lock
	// on, for which no method of [Store] is meant. Lock retries what can be retried until ctx ends, and may
	// be called concurrently.
	Lock(ctx context.Context, name string, holder Holder) (*Lease, error)
}

// ErrLocked is the kind of every [LockedError].
var ErrLocked = errors.New("the lock is taken")

// Holder says who has a lock, and since when. It is JSON beside or within what is locked, so that whoever
// is refused can say it, and whoever looks can read it.
type Holder struct {
	Run   string    `json:"run"`
	Since time.Time `json:"since"`
}

// maxHolder bounds what is read as a Holder, in bytes.
const maxHolder = 4 << 10

// LockedError says that somebody else has a lock. It is an [ErrLocked].
type LockedError struct {
	// Holder is the zero value where it isn't known, as in the moment between taking a lock and saying so.
	// In that moment after the end of a holder that could not give its lock back, it may still be that one.
	Holder Holder
}

func (e *LockedError) Error() string {
	if e.Holder.Run == "" {
		return ErrLocked.Error()
	}
	return fmt.Sprintf("%v: run %s has it since %s", ErrLocked, e.Holder.Run, e.Holder.Since.UTC().Format(time.RFC3339))
}

func (e *LockedError) Unwrap() error { return ErrLocked }

// Lease is a lock that is held. Its methods are safe for concurrent use.
type Lease struct {
	lost    chan error
	once    sync.Once
	release func(ctx context.Context) error
	err     error
}

func newLease(release func(ctx context.Context) error) *Lease {
	return &Lease{lost: make(chan error, 1), release: release}
}

// Lost yields an error, once, when somebody else may have the lock before it was released. A lease of a
// directory is never lost.
func (l *Lease) Lost() <-chan error { return l.lost }

// Release gives the lock back and returns when it is free, or was lost; on an error it is free when its
// time runs out. Further calls do nothing and return the same.
func (l *Lease) Release(ctx context.Context) error {
	l.once.Do(func() { l.err = l.release(ctx) })
	return l.err
}

// encode writes the time in RFC 3339, to the second.
func (h Holder) encode() ([]byte, error) {
	h.Since = h.Since.UTC().Truncate(time.Second)
	asJSON, err := json.Marshal(h)
	return append(asJSON, '\n'), err
}

// parseHolder returns the zero value for anything but a Holder.
func parseHolder(asJSON []byte) Holder {
	var h Holder
	if json.Unmarshal(asJSON, &h) != nil {
		return Holder{}
	}
	return h
}
