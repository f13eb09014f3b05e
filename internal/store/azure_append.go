package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/appendblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
)

// announcedKey is the metadata key of an [announcement].
const announcedKey = "announced"

// announcement is what makes an Append change content and metadata at once, which the service can't do:
//
//  1. The blob gets its new metadata, and beside them, as an announcement, from where to where the block is
//     to go that they are for, and what they were before.
//  2. The block is appended, on condition that the blob is still the very version that step 1 made (its ETag),
//     and ends where the announcement says.
//
// So between the steps the blob ends at At, and the metadata before hold; afterwards it ends at End, and the
// new ones hold; it never ends anywhere else, since nothing but the block that was announced can be appended.
// A writer that finds an announcement that was not fulfilled replaces it: the block that it was for can't be
// appended any more, however late it comes. A blob that has no content yet counts as not there.
type announcement struct {
	At  int64 `json:"at"`
	End int64 `json:"end"`
	// Prior are the values before of those metadata that change, nil for what was not there.
	Prior map[string]*string `json:"prior,omitempty"`
}

// azureBlob is a blob as the service had it at one moment.
type azureBlob struct {
	version  *azcore.ETag // nil when there was none
	grows    bool         // it is an append blob
	size     int64
	blocks   int32
	mark     string            // of who wrote it, or announced to
	metadata map[string]string // those that hold
	due      bool              // what was announced is not appended yet
}

func newAzureBlob(kind *blob.BlobType, size *int64, headers map[string]*string) azureBlob {
	b := azureBlob{grows: kind != nil && *kind == blob.BlobTypeAppendBlob, metadata: lowered(headers)}
	if size != nil {
		b.size = *size
	}
	b.mark = b.metadata[writerKey]
	var a announcement
	if text, ok := b.metadata[announcedKey]; ok && json.Unmarshal([]byte(text), &a) == nil && b.size == a.At {
		b.due = true
		for key, value := range a.Prior {
			if value == nil {
				delete(b.metadata, key)
			} else {
				b.metadata[key] = *value
			}
		}
	}
	delete(b.metadata, writerKey)
	delete(b.metadata, announcedKey)
	return b
}

// empty reports whether a blob was begun, and nothing was ever appended.
func (b azureBlob) empty() bool { return b.grows && b.size == 0 }

// announced are the metadata that announce a block of so many bytes.
func (b azureBlob) announced(size int, metadata map[string]string, mark string) (map[string]*string, error) {
	a := announcement{At: b.size, End: b.size + int64(size)}
	if b.size > 0 {
		a.Prior = make(map[string]*string)
		for key := range metadata {
			a.Prior[key] = nil
		}
		for key, value := range b.metadata {
			a.Prior[key] = &value
			if metadata[key] == value {
				delete(a.Prior, key)
			}
		}
	}
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	all := headers(metadata, mark)
	all[announcedKey] = new(string(text))
	return all, nil
}

// Append implements [Store]. It takes two requests while nobody else writes to the blob.
func (s *Azure) Append(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	if err := checkAppend(name, at, body, metadata); err != nil {
		return nil, fmt.Errorf("append to blob: %w", err)
	}
	existing, err := s.appendAt(ctx, name, at, body, metadata)
	if err != nil {
		return existing, fmt.Errorf("append %d bytes at %d to blob %q: %w", len(body), at, name, err)
	}
	return nil, nil
}

// appendAt tries until the body is appended, or what is there keeps it from being. What is there is read when
// a write had no answer, or the condition was not met: because of another writer, or of this one, whose
// answer got lost.
func (s *Azure) appendAt(ctx context.Context, name string, at int64, body []byte, metadata map[string]string) (map[string]string, error) {
	working, cancel := reserve(ctx)
	defer cancel()
	mark := rand.Text()
	end := at + int64(len(body))
	there, known := s.tails.get(name)
	if known = known && there.size == at; !known {
		there = azureBlob{} // to begin with, so that a blob can be begun without a look
	}
	var trouble error
	for try := range 100 { // an end, should the condition never hold
		if trouble != nil || !known && at > 0 {
			var err error
			there, err = s.find(ctx, name)
			switch {
			case errors.Is(err, ErrNotFound) && at > 0:
				return nil, ErrNotFound
			case err != nil && !errors.Is(err, ErrNotFound) && trouble != nil:
				return nil, fmt.Errorf("%w; reading what is there failed: %w", trouble, err)
			case err != nil && !errors.Is(err, ErrNotFound):
				return nil, err
			}
		}
		switch {
		case len(body) > 0 && there.mark == mark && there.size == end, len(body) == 0 && there.is(at, metadata):
			s.tails.set(name, there)
			return nil, nil
		case there.version != nil && !there.grows:
			return there.metadata, ErrExists
		case there.size != at && there.size == 0:
			return nil, ErrNotFound
		case there.size != at:
			return there.metadata, ErrPosition
		case len(body) > 0 && there.blocks >= s.maxBlocks:
			return there.metadata, ErrFull
		case working.Err() != nil:
			return nil, cmp.Or(trouble, working.Err())
		case answered(trouble) && !metAnother(trouble):
			return nil, trouble // what is there doesn't explain it
		}
		if err := checkChange(there.metadata, metadata); err != nil && len(body) > 0 {
			return nil, err
		}
		before := there.metadata
		there, trouble = s.extend(working, name, there, body, metadata, mark)
		switch {
		case trouble == nil:
			s.tails.set(name, there)
			return nil, nil
		case errors.Is(trouble, ErrFull):
			return before, ErrFull
		case answered(trouble) && !metAnother(trouble) && !mayBeThere(trouble):
			return nil, trouble
		}
		pause(working, try)
	}
	return nil, trouble
}

// metAnother reports whether a write was refused because of another one, of whomever, since the blob was read.
func metAnother(err error) bool {
	return bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.AppendPositionConditionNotMet, bloberror.BlobAlreadyExists, bloberror.BlobNotFound)
}

// is reports whether nothing is left to be done to give a blob that ends at at these metadata.
func (b azureBlob) is(at int64, metadata map[string]string) bool {
	return b.grows && b.size == at && !b.due && maps.Equal(b.metadata, metadata)
}

// extend takes the two steps, the first one unless it was taken already.
func (s *Azure) extend(ctx context.Context, name string, there azureBlob, body []byte, metadata map[string]string, mark string) (azureBlob, error) {
	if len(body) == 0 {
		// Without an announcement the metadata hold as they stand.
		version, err := s.writeMetadata(ctx, name, there, headers(metadata, there.mark))
		there.version, there.metadata, there.due = version, metadata, false
		return there, err
	}
	if there.mark != mark || !there.due {
		announced, err := there.announced(len(body), metadata, mark)
		if err != nil {
			return there, err
		}
		if there.version == nil {
			there.version, err = s.begin(ctx, name, announced)
		} else {
			there.version, err = s.writeMetadata(ctx, name, there, announced)
		}
		if err != nil {
			return there, err
		}
	}
	try := newAttempts(ctx, len(body))
	appended, err := s.container.NewAppendBlobClient(name).AppendBlock(try.ctx, streaming.NopCloser(bytes.NewReader(body)), &appendblob.AppendBlockOptions{
		AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{AppendPosition: &there.size},
		AccessConditions:               &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: there.version}},
	})
	if err != nil {
		return there, try.explain(err)
	}
	grown := azureBlob{version: appended.ETag, grows: true, size: there.size + int64(len(body)), blocks: there.blocks + 1, mark: mark, metadata: maps.Clone(metadata)}
	if n := appended.BlobCommittedBlockCount; n != nil {
		grown.blocks = *n
	}
	return grown, nil
}

// begin creates an append blob without content.
func (s *Azure) begin(ctx context.Context, name string, metadata map[string]*string) (*azcore.ETag, error) {
	text, anyETag := contentType, azcore.ETagAny
	try := newAttempts(ctx, 0)
	begun, err := s.container.NewAppendBlobClient(name).Create(try.ctx, &appendblob.CreateOptions{
		Metadata:         metadata,
		HTTPHeaders:      &blob.HTTPHeaders{BlobContentType: &text},
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &anyETag}},
	})
	return begun.ETag, try.explain(err)
}

// errEmpty says that a name is taken by a blob that was begun and has no content.
var errEmpty = errors.New("an append blob without content has the name")

// fill is Create for a name that is taken by a blob without content, which an Append left behind. The service
// lets no blob change its type, so the content becomes that blob's block; what is too large for one takes
// the right to delete it.
func (s *Azure) fill(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	if 0 < len(body) && len(body) <= MaxAppend {
		existing, err := s.appendAt(ctx, name, 0, body, metadata)
		if errors.Is(err, ErrPosition) {
			err = ErrExists
		}
		return existing, err
	}
	there, err := s.find(ctx, name)
	if err == nil && there.empty() {
		try := newAttempts(ctx, 0)
		_, err = s.container.NewBlobClient(name).Delete(try.ctx, &blob.DeleteOptions{
			AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: there.version}},
		})
		err = try.explain(err)
	}
	if err != nil && !errors.Is(err, ErrNotFound) && !bloberror.HasCode(err, bloberror.ConditionNotMet) {
		return nil, fmt.Errorf("delete the %w: %w", errEmpty, err)
	}
	return s.create(ctx, name, body, metadata)
}

// pause lets writers that are in each other's way try again at different times.
func pause(ctx context.Context, try int) {
	select {
	case <-ctx.Done():
	case <-time.After(mathrand.N(5 * time.Millisecond << min(try, 6))):
	}
}

// tails remember how the blobs ended that were appended to here, so that the next Append need not ask. A tail
// that is out of date costs a request that is refused, and nothing else: it is what a condition is made of.
type tails struct {
	mu sync.Mutex
	of map[string]azureBlob
}

// maxTails bounds how many ends are remembered.
const maxTails = 4096

func (t *tails) get(name string) (azureBlob, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.of[name]
	return b, ok
}

func (t *tails) set(name string, b azureBlob) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil || len(t.of) >= maxTails {
		t.of = make(map[string]azureBlob)
	}
	t.of[name] = b
}
