package store

import (
	"cmp"
	"fmt"

	"persistor/internal/document"
)

// Documents are small blobs that are rewritten as a whole. [Azure] and [Dir] keep them.
type Documents = document.Storage

var (
	// ErrChanged says that a document is no longer the version that a change was for.
	ErrChanged = document.ErrChanged
	// ErrForbidden says that storage refuses a right.
	ErrForbidden = document.ErrForbidden
)

// checkDocument is what every write of a document begins with.
func checkDocument(name string, body []byte) error {
	var size error
	if len(body) > document.MaxBody {
		size = fmt.Errorf("body of %d bytes: at most %d", len(body), document.MaxBody)
	}
	return cmp.Or(CheckName(name), size)
}
