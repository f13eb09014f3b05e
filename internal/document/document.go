// Package document says what storage of small documents promises, so that whoever keeps some need not know a
// store and its services' clients. Package store has the implementations.
package document

import (
	"context"
	"errors"
	"iter"
)

// MaxBody is the largest document, in bytes.
const MaxBody = 1 << 20

var (
	// ErrNotFound says that nothing has the name.
	ErrNotFound = errors.New("there is no such blob")
	// ErrChanged says that a document is no longer the version that a change was for: somebody has written it,
	// or removed it, meanwhile.
	ErrChanged = errors.New("the document was changed meanwhile")
	// ErrTooLarge says that what is there has more than MaxBody bytes.
	ErrTooLarge = errors.New("it is too large for a document")
	// ErrDamaged says that what storage keeps of a blob beside it can't be read.
	ErrDamaged = errors.New("it is damaged")
	// ErrImmutable says that storage lets no one change the blob.
	ErrImmutable = errors.New("the blob can't be changed: an immutability policy or a legal hold protects it")
	// ErrForbidden says that storage refuses a right.
	ErrForbidden = errors.New("storage refuses the right to do so")
)

// Storage keeps small documents that are rewritten as a whole, each on condition that nobody else has done so
// meanwhile. All methods are safe for concurrent use, also by several processes on one container. They retry
// what can be retried until ctx ends. Errors are one line and hold no secret.
//
// A name is that of a blob, and a document is one: a store lists and opens it like any other. But a blob
// that was created as such is for ever, and not to be rewritten here. A document has 0 to MaxBody bytes.
type Storage interface {
	// Read returns a document and the version that it is, or ErrNotFound, ErrTooLarge, or ErrDamaged.
	Read(ctx context.Context, name string) (body []byte, version string, err error)

	// Write stores a document and returns the version that it is now. Without a version it is stored only if there
	// is none of the name, with one only if what is there is that version; otherwise nothing is changed, and the
	// error is ErrChanged. Versions are opaque, and of one name. Whether the same body written again is
	// another version is left to the implementation.
	//
	// An answer that got lost is looked up, so on nil body was stored once, and durably; where somebody has
	// replaced it since, the version returned is one that is there no more. On any error but ErrChanged it may be
	// stored or not, as a whole in either case.
	Write(ctx context.Context, name string, body []byte, version string) (now string, err error)

	// Overwrite stores a document, whatever is there. Of several writers any may be the last.
	Overwrite(ctx context.Context, name string, body []byte) error

	// Remove removes a document: whatever is there without a version, else only that version, or it fails with
	// ErrChanged. It is no error if there is none.
	Remove(ctx context.Context, name, version string) error

	// Names yields the names of what is directly in a folder ("a/b/"; "" for the container), in byte order and
	// without what is in folders below. It holds a bounded part of them in memory. An error is yielded once,
	// with an empty name, and ends the list.
	Names(ctx context.Context, folder string) iter.Seq2[string, error]
}
