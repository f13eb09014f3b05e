// Package store keeps blobs that are created once; what is in one never changes. Beside them it keeps small
// [Documents], which do.
//
// A blob's name is its identity: [Store.Create] stores it only if the name is free, and says what is
// there when it is not. [Store.Append] begins a blob that grows, and adds to it at its very end, its metadata
// changing with its content. Metadata alone change by [Store.SetMetadata]. Two implementations behave alike,
// and one conformance suite holds both to it: [Azure] over Blob Storage, and [Dir] over a local directory
// that several processes may share.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"persistor/internal/document"
)

var (
	// ErrExists says that a blob has the name already.
	ErrExists = errors.New("a blob of this name exists")
	// ErrPosition says that a blob does not end where something was to be appended.
	ErrPosition = errors.New("the blob does not end there")
	// ErrFull says that a blob takes nothing more.
	ErrFull = errors.New("the blob takes no more blocks")
	// ErrNotFound says that no blob has the name.
	ErrNotFound = document.ErrNotFound
	// ErrImmutable says that storage lets no one change the blob.
	ErrImmutable = document.ErrImmutable
	// ErrNoContainer says that the container, or the directory in its place, is missing.
	ErrNoContainer = errors.New("there is no such container: correct PERSISTOR_CONTAINER_NAME, or set PERSISTOR_CREATE_CONTAINER=TRUE to have it created")
)

const (
	// MaxName is the longest name of a blob, in bytes (Blob Storage: 1,024 characters).
	MaxName = 1024
	// MaxBody is the largest body of a blob, in bytes: what the oldest service versions still in use
	// take in a single Put.
	MaxBody = 256 << 20
	// MaxAppend is the largest body of one Append, in bytes: what Blob Storage takes since its version 2022-11-02.
	MaxAppend = 100 << 20
	// MaxBlocks is how many Appends a blob takes.
	// https://learn.microsoft.com/rest/api/storageservices/append-block
	MaxBlocks = 50_000
	// MaxMetadata is the most that the keys and values of a blob's metadata may add up to, in bytes.
	// Blob Storage takes 8 KiB with the header names; this leaves room for them.
	MaxMetadata = 6 << 10
	// MaxChange is the most that the keys and values of an Append's metadata, and of those that they
	// replace, may add up to, in bytes.
	MaxChange = 7 << 10
)

// Store is a container of blobs. All methods are safe for concurrent use, also by several processes
// on one container. Errors are one line and hold no secret.
type Store interface {
	// Create stores a blob, or fails with ErrExists and the metadata of the blob that is there. On
	// nil the whole blob is durable, and so is the blob that ErrExists speaks of. On any other error
	// the blob may or may not be there, whole in either case; the same call again finds out. Create
	// retries what can be retried until ctx ends. It does not keep body.
	//
	// Names are relative paths as [CheckName] has them; metadata are as [CheckMetadata] has them.
	Create(ctx context.Context, name string, body []byte, metadata map[string]string) (existing map[string]string, err error)

	// Append adds body (1 to MaxAppend bytes) to a blob that ends at position at, counted in bytes, and
	// replaces its metadata, both or neither; at 0 it begins the blob. Nothing is changed by ErrPosition: the
	// blob ends elsewhere; by ErrExists: a blob made by Create has the name; and by ErrFull: it takes no more
	// (MaxBlocks). These come with the metadata of the blob that is there. ErrNotFound says that there is
	// none to be appended to. Without a body, at above 0, the metadata alone are replaced, if the blob ends
	// there.
	//
	// An answer that got lost is looked up, so on nil body is stored once, and durably. On any other error
	// it may be stored or not, as a whole in either case; the same call again finds out, and may tell so by
	// ErrPosition. Until it is stored, every method shows the blob as it was before. Append retries as Create
	// does.
	//
	// The metadata and what they replace are kept side by side for a moment, so that both together have to
	// keep to MaxChange. What stays as it is counts once.
	Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (existing map[string]string, err error)

	// SetMetadata replaces all metadata of a blob, or fails with ErrNotFound or ErrImmutable and changes
	// nothing. Metadata change as a whole: of several writers one is the last, and who reads meanwhile
	// gets what was there before or after one of them. On nil they are durable; on any other error they
	// may have been replaced or not, and the same call again makes sure. It retries as Create does.
	SetMetadata(ctx context.Context, name string, metadata map[string]string) error

	// Metadata returns the metadata of a blob, or ErrNotFound.
	Metadata(ctx context.Context, name string) (map[string]string, error)

	// List yields the blobs whose names start with prefix, in byte order of their names, holding a
	// bounded part of them in memory. An error is yielded once, with a zero Blob, and ends the list.
	// A blob created meanwhile may be listed or not.
	List(ctx context.Context, prefix string) iter.Seq2[Blob, error]

	// Open returns the content of a blob, or ErrNotFound. The caller closes it; ctx holds until then.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Blob is one entry of a list.
type Blob struct {
	Name     string
	Size     int64 // bytes
	Metadata map[string]string
}

// Options say which container to open.
type Options struct {
	// Location is where containers are: "file:///absolute/directory", a storage connection string
	// (account key, SAS, custom endpoints or UseDevelopmentStorage=true), or a blob service URI, which
	// needs Credential unless it carries a SAS.
	Location string
	// Credential goes with a service URI.
	Credential azcore.TokenCredential
	// Container is the container's name. In a directory it is a folder, "" the directory itself.
	Container string
	// Create says to create a container that is missing.
	Create bool
}

// Open opens a container and makes sure that it exists; ErrNoContainer says that it does not. The
// result is an [*Azure] or a [*Dir].
func Open(ctx context.Context, o Options) (Store, error) {
	if !strings.HasPrefix(strings.ToLower(o.Location), "file:") {
		return OpenAzure(ctx, o)
	}
	u, err := url.Parse(o.Location)
	if err != nil || u.Host != "" || !path.IsAbs(u.Path) || u.RawQuery != "" {
		return nil, errors.New("open storage: a directory is written file:///absolute/path")
	}
	if o.Container != "" {
		if err := CheckName(o.Container); err != nil || strings.Contains(o.Container, "/") {
			return nil, fmt.Errorf("open storage: container %q can't be a folder's name; correct PERSISTOR_CONTAINER_NAME", o.Container)
		}
	}
	return OpenDir(filepath.Join(filepath.FromSlash(u.Path), o.Container), o.Create)
}

// CheckName says what keeps name from being a blob's: it must be valid UTF-8 without control
// characters or backslash, of 1 to MaxName bytes, made of segments of 1 to 255 bytes that are parted
// by "/", start with no dot and end with none. So every name is also a relative path that leads
// nowhere else, and never one of the hidden files a directory is kept with.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("name of %d bytes: must have 1 to %d", len(name), MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q: is not UTF-8", name)
	case strings.ContainsRune(name, '\\') || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("name %q: holds a backslash or a control character", name)
	}
	for segment := range strings.SplitSeq(name, "/") {
		switch {
		case segment == "" || len(segment) > 255:
			return fmt.Errorf("name %q: a segment of %d bytes; each must have 1 to 255", name, len(segment))
		case segment[0] == '.' || segment[len(segment)-1] == '.':
			return fmt.Errorf("name %q: a segment starts or ends with a dot", name)
		}
	}
	return nil
}

var (
	metadataKey   = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,63}$`)
	metadataValue = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)
)

// CheckMetadata says what keeps metadata from being stored as they are. They travel as HTTP headers,
// so keys are lower-case identifiers of up to 64 characters (Blob Storage does not keep the case), and
// values are printable ASCII, not empty, without space at either end. The keys "writer" and "announced" are
// taken.
func CheckMetadata(metadata map[string]string) error {
	size := 0
	for key, value := range metadata {
		switch {
		case !metadataKey.MatchString(key):
			return fmt.Errorf("metadata key %q: must match %s", key, metadataKey)
		case key == writerKey || key == announcedKey:
			return fmt.Errorf("metadata key %q: is the store's own", key)
		case !metadataValue.MatchString(value):
			return fmt.Errorf("metadata %s: value %q is empty, or not ASCII without space at its ends", key, value)
		}
		size += len(key) + len(value)
	}
	if size > MaxMetadata {
		return fmt.Errorf("metadata of %d bytes: at most %d", size, MaxMetadata)
	}
	return nil
}

// check is what every Create begins with.
func check(name string, body []byte, metadata map[string]string) error {
	if len(body) > MaxBody {
		return fmt.Errorf("body of %d bytes: at most %d", len(body), MaxBody)
	}
	return cmp.Or(CheckName(name), CheckMetadata(metadata))
}

// checkAppend is what every Append begins with.
func checkAppend(name string, at int64, body []byte, metadata map[string]string) error {
	switch {
	case at < 0:
		return fmt.Errorf("position %d: must be 0 or above", at)
	case len(body) > MaxAppend:
		return fmt.Errorf("body of %d bytes: at most %d", len(body), MaxAppend)
	case len(body) == 0 && at == 0:
		return errors.New("body is empty: a blob can't begin with nothing")
	}
	return cmp.Or(CheckName(name), CheckMetadata(metadata))
}

// checkChange is what every Append that replaces metadata begins with: both are kept while it lasts.
func checkChange(old, metadata map[string]string) error {
	size := 0
	for key, value := range metadata {
		size += len(key) + len(value)
	}
	for key, value := range old {
		if metadata[key] != value {
			size += len(key) + len(value)
		}
	}
	if size > MaxChange {
		return fmt.Errorf("metadata and what they replace have %d bytes: at most %d", size, MaxChange)
	}
	return nil
}
