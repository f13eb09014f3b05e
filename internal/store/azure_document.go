package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"persistor/internal/document"
)

// documentVersion is the version of a document: the blob's ETag, and the marks of the writes that led to it, the
// last one first. A writer leaves its mark in front of those that it has read.
//
// The marks tell whose answer got lost: a write that is tried again meets its own blob, or that of somebody who
// went on from it. Only a writer of whom neither is true has to begin anew.
type documentVersion struct {
	etag  string
	marks []string
}

const (
	// markSize is the length of a mark, in characters of 5 random bits.
	markSize = 12
	// maxMarks is how many marks stay: how many others may write between a write and the look at what came of it.
	maxMarks = 128
)

// parseVersion reads what String wrote; anything else becomes a version that nothing has.
func parseVersion(text string) documentVersion {
	etag, marks, _ := strings.Cut(text, " ")
	return documentVersion{etag: etag, marks: strings.Fields(marks)}
}

func newVersion(etag *azcore.ETag, marks string) documentVersion {
	v := documentVersion{marks: strings.Fields(marks)}
	if etag != nil {
		v.etag = string(*etag)
	}
	return v
}

func (v documentVersion) String() string { return v.etag + " " + strings.Join(v.marks, " ") }

// Read implements [Documents].
func (s *Azure) Read(ctx context.Context, name string) ([]byte, string, error) {
	err := CheckName(name)
	var body []byte
	var version string
	if err == nil {
		body, version, err = s.readDocument(ctx, name)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read document %q: %w", name, err)
	}
	return body, version, nil
}

func (s *Azure) readDocument(ctx context.Context, name string) (body []byte, version string, err error) {
	for range 100 { // an end, should it change each time while it is read
		body, version, err = s.download(ctx, name)
		if !bloberror.HasCode(err, bloberror.ConditionNotMet) {
			break
		}
	}
	return body, version, err
}

// download reads a document in one request, unless it breaks off.
func (s *Azure) download(ctx context.Context, name string) ([]byte, string, error) {
	try := newAttempts(ctx, document.MaxBody)
	response, err := s.container.NewBlobClient(name).DownloadStream(try.ctx, nil)
	if err != nil {
		return nil, "", try.explain(err)
	}
	reader := response.NewRetryReader(try.ctx, nil)
	defer reader.Close()
	if newAzureBlob(response.BlobType, response.ContentLength, nil).empty() {
		return nil, "", ErrNotFound
	}
	body, err := io.ReadAll(io.LimitReader(reader, document.MaxBody+1))
	switch {
	case err != nil:
		return nil, "", try.explain(err)
	case len(body) > document.MaxBody:
		return nil, "", document.ErrTooLarge
	}
	return body, newVersion(response.ETag, lowered(response.Metadata)[writerKey]).String(), nil
}

// Write implements [Documents]. It takes one request while answers come.
func (s *Azure) Write(ctx context.Context, name string, body []byte, version string) (string, error) {
	err := checkDocument(name, body)
	var now string
	if err == nil {
		now, err = s.writeDocument(ctx, name, body, version)
	}
	if err != nil {
		return "", fmt.Errorf("write document %q of %d bytes: %w", name, len(body), err)
	}
	return now, nil
}

func (s *Azure) writeDocument(ctx context.Context, name string, body []byte, version string) (string, error) {
	working, cancel := reserve(ctx)
	defer cancel()
	before := parseVersion(version)
	mark := rand.Text()[:markSize]
	marks := append([]string{mark}, before.marks...)
	marks = marks[:min(len(marks), maxMarks)]
	condition := &blob.ModifiedAccessConditions{IfMatch: new(azcore.ETag(before.etag))}
	if version == "" {
		condition = &blob.ModifiedAccessConditions{IfNoneMatch: new(azcore.ETagAny)}
	}
	etag, err := s.putDocument(working, name, body, marks, condition)
	if err == nil {
		return documentVersion{string(etag), marks}.String(), nil
	}
	if answered(err) && !metAnother(err) && !mayBeThere(err) {
		return "", err
	}
	there, readErr := s.find(ctx, name)
	now := newVersion(there.version, there.mark)
	switch {
	case readErr == nil && slices.Index(now.marks, mark) == 0:
		return now.String(), nil
	case readErr == nil && slices.Contains(now.marks, mark):
		return version, nil // it was ours before somebody went on from it
	case readErr == nil && now.etag != before.etag, errors.Is(readErr, ErrNotFound) && version != "":
		return "", ErrChanged
	case answered(err) && readErr != nil && !errors.Is(readErr, ErrNotFound):
		return "", fmt.Errorf("%w; reading what is there failed: %w", err, readErr)
	}
	return "", err
}

// putDocument replaces a blob as a whole, if the condition holds.
func (s *Azure) putDocument(ctx context.Context, name string, body []byte, marks []string, condition *blob.ModifiedAccessConditions) (azcore.ETag, error) {
	kind := "application/json"
	try := newAttempts(ctx, len(body))
	written, err := s.container.NewBlockBlobClient(name).Upload(try.ctx, streaming.NopCloser(bytes.NewReader(body)),
		&blockblob.UploadOptions{
			Metadata:         headers(nil, strings.Join(marks, " ")),
			HTTPHeaders:      &blob.HTTPHeaders{BlobContentType: &kind},
			AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: condition},
		})
	if err != nil || written.ETag == nil {
		return "", try.explain(err)
	}
	return *written.ETag, nil
}

// Overwrite implements [Documents].
func (s *Azure) Overwrite(ctx context.Context, name string, body []byte) error {
	err := checkDocument(name, body)
	if err == nil {
		_, err = s.putDocument(ctx, name, body, nil, nil)
	}
	if err != nil {
		return fmt.Errorf("overwrite document %q with %d bytes: %w", name, len(body), err)
	}
	return nil
}

// Remove implements [Documents].
func (s *Azure) Remove(ctx context.Context, name, version string) error {
	err := CheckName(name)
	if err == nil {
		err = s.removeDocument(ctx, name, version)
	}
	if err != nil {
		return fmt.Errorf("remove document %q: %w", name, err)
	}
	return nil
}

func (s *Azure) removeDocument(ctx context.Context, name, version string) error {
	o := &blob.DeleteOptions{DeleteSnapshots: new(blob.DeleteSnapshotsOptionTypeInclude)}
	if version != "" {
		o.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{
			IfMatch: new(azcore.ETag(parseVersion(version).etag)),
		}}
	}
	try := newAttempts(ctx, 0)
	_, err := s.container.NewBlobClient(name).Delete(try.ctx, o)
	err = try.explain(err)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case bloberror.HasCode(err, bloberror.ConditionNotMet):
		if _, err := s.find(ctx, name); errors.Is(err, ErrNotFound) {
			return nil
		}
		return ErrChanged
	}
	return err
}

// Names implements [Documents]. It holds one page of the service's, at most 5,000 names.
func (s *Azure) Names(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		pages := s.container.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &folder})
		for pages.More() {
			try := newAttempts(ctx, 0)
			page, err := pages.NextPage(try.ctx)
			if err != nil {
				yield("", fmt.Errorf("list documents in %q: %w", folder, try.explain(err)))
				return
			}
			for _, item := range page.Segment.BlobItems {
				if !newAzureBlob(item.Properties.BlobType, item.Properties.ContentLength, nil).empty() && !yield(*item.Name, nil) {
					return
				}
			}
		}
	}
}
