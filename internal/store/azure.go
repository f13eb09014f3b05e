package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// developmentStorage is what UseDevelopmentStorage=true stands for: the account that every storage
// emulator has, with its published key, on the default port.
// https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
const developmentStorage = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;" +
	"AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;" +
	"BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"

// writerKey is the metadata key that says which Create stored a blob, as a random text.
const writerKey = "writer"

// openTimeout bounds how long OpenAzure waits for storage that does not answer.
const openTimeout = 30 * time.Second

const contentType = "text/plain; charset=utf-8"

// Azure keeps blobs in a container of Azure Blob Storage: as block blobs of one Put each, and those that
// grow as append blobs. Safe for concurrent use.
type Azure struct {
	// lease is how long a lock outlives a process that dies, for tests; 0 is leaseTime.
	lease     time.Duration
	container *container.Client
	tails     tails
	maxBlocks int32 // MaxBlocks, but for tests
}

// OpenAzure opens a container of a storage account; ErrNoContainer says that there is none. It needs
// the right to read blobs, and to create containers only if it does.
func OpenAzure(ctx context.Context, o Options) (*Azure, error) {
	client, err := newClient(o)
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout) // an account's misspelt name looks like an outage
	defer cancel()
	s := &Azure{container: client, maxBlocks: MaxBlocks}
	err = s.checkContainer(ctx)
	if errors.Is(err, ErrNoContainer) && o.Create {
		try := newAttempts(ctx, 0)
		_, err = client.Create(try.ctx, nil)
		if bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
			err = nil // another process created it meanwhile
		}
		err = try.explain(err)
	}
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", o.Container, err)
	}
	return s, nil
}

func newClient(o Options) (*container.Client, error) {
	if o.Container == "" {
		return nil, errors.New("the container has no name: set PERSISTOR_CONTAINER_NAME")
	}
	if scheme, _, ok := strings.Cut(o.Location, "://"); ok && (scheme == "https" || scheme == "http") {
		service, err := url.Parse(o.Location)
		if err != nil {
			return nil, errors.New("the blob service URI is not a URL") // err would quote it, SAS and all
		}
		uri := service.JoinPath(o.Container).String()
		switch {
		case o.Credential != nil:
			return container.NewClient(uri, o.Credential, nil)
		case service.Query().Has("sig"):
			return container.NewClientWithNoCredential(uri, nil)
		}
		return nil, errors.New("a blob service URI needs a credential, or a SAS in its query")
	}
	connection := strings.Trim(strings.TrimSpace(o.Location), ";")
	if strings.EqualFold(connection, "UseDevelopmentStorage=true") {
		connection = developmentStorage
	}
	return container.NewClientFromConnectionString(connection, o.Container, nil)
}

// checkContainer asks for a blob that no one stores, since reading a blob is a right that every user
// of this package has, and reading a container's properties is one that no service SAS can give.
func (s *Azure) checkContainer(ctx context.Context) error {
	_, err := s.find(ctx, ".persistor")
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Container returns the client of the container, for what else wants to keep blobs in it.
func (s *Azure) Container() *container.Client { return s.container }

// Create implements [Store].
//
// When a Put went unanswered it may have been stored all the same, and the retry of it then meets its
// own blob. So every Create marks its blob with a random text, and reads it where it can't know:
// what carries our mark is ours. A part of the time that ctx leaves is kept back for that.
func (s *Azure) Create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	if err := check(name, body, metadata); err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	there, err := s.create(ctx, name, body, metadata)
	if errors.Is(err, errEmpty) {
		there, err = s.fill(ctx, name, body, metadata)
	}
	if err != nil {
		return there, fmt.Errorf("create blob %q of %d bytes: %w", name, len(body), err)
	}
	return nil, nil
}

func (s *Azure) create(ctx context.Context, name string, body []byte, metadata map[string]string) (map[string]string, error) {
	mark := rand.Text()
	working, cancel := reserve(ctx)
	defer cancel()
	err := s.put(working, name, body, metadata, mark)
	if err == nil || answered(err) && !mayBeThere(err) {
		return nil, err
	}
	there, readErr := s.find(ctx, name)
	switch {
	case readErr == nil && there.mark == mark && !there.grows:
		return nil, nil
	case readErr == nil && there.empty():
		return nil, errEmpty
	case readErr == nil:
		return there.metadata, ErrExists
	case answered(err) && !errors.Is(readErr, ErrNotFound):
		err = fmt.Errorf("%w; reading what is there failed: %w", err, readErr)
	}
	return nil, err
}

// mayBeThere reports whether a write was refused in a way that a blob of its name would explain. The
// last two are for a SAS that gives the right to create and not to replace, from the service and from
// Azurite.
func mayBeThere(err error) bool {
	return bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.InvalidBlobType,
		bloberror.BlobImmutableDueToPolicy, immutableDueToLegalHold,
		bloberror.UnauthorizedBlobOverwrite, bloberror.AuthorizationPermissionMismatch)
}

// reserve keeps a part of the time that ctx leaves back, to find out what came of a write.
func reserve(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/5, 5*time.Second)))
}

// put stores a blob by one Put, tried as often as the time allows.
func (s *Azure) put(ctx context.Context, name string, body []byte, metadata map[string]string, mark string) error {
	text, anyETag := contentType, azcore.ETagAny
	try := newAttempts(ctx, len(body))
	_, err := s.container.NewBlockBlobClient(name).Upload(try.ctx, streaming.NopCloser(bytes.NewReader(body)),
		&blockblob.UploadOptions{
			Metadata:         headers(metadata, mark),
			HTTPHeaders:      &blob.HTTPHeaders{BlobContentType: &text},
			AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &anyETag}},
		})
	return try.explain(err)
}

// headers are metadata as they are sent, with their writer's mark, if any.
func headers(metadata map[string]string, mark string) map[string]*string {
	all := make(map[string]*string, len(metadata)+2)
	for key, value := range metadata {
		all[key] = &value
	}
	if mark != "" {
		all[writerKey] = &mark
	}
	return all
}

// SetMetadata implements [Store].
//
// The service replaces all metadata or none, the mark that Create left included; so the blob is read
// first, and written on condition that nobody has changed it since. When that fails it was another
// writer, or this one whose answer got lost: reading it again tells.
func (s *Azure) SetMetadata(ctx context.Context, name string, metadata map[string]string) error {
	err := cmp.Or(CheckName(name), CheckMetadata(metadata))
	if err == nil {
		for range 100 { // an end, should the condition never hold
			err = s.replaceMetadata(ctx, name, metadata)
			if !bloberror.HasCode(err, bloberror.ConditionNotMet) {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("set metadata of blob %q: %w", name, err)
	}
	return nil
}

func (s *Azure) replaceMetadata(ctx context.Context, name string, metadata map[string]string) error {
	there, err := s.find(ctx, name)
	switch {
	case err != nil:
		return err
	case there.empty():
		return ErrNotFound
	case maps.Equal(there.metadata, metadata):
		return nil
	}
	_, err = s.writeMetadata(ctx, name, there, headers(metadata, there.mark))
	return err
}

// writeMetadata replaces the metadata of a blob as it was found, and of no other version of it.
func (s *Azure) writeMetadata(ctx context.Context, name string, there azureBlob, metadata map[string]*string) (*azcore.ETag, error) {
	try := newAttempts(ctx, 0)
	written, err := s.container.NewBlobClient(name).SetMetadata(try.ctx, metadata, &blob.SetMetadataOptions{
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: there.version}},
	})
	return written.ETag, try.explain(err)
}

// Metadata implements [Store].
func (s *Azure) Metadata(ctx context.Context, name string) (map[string]string, error) {
	err := CheckName(name)
	var there azureBlob
	if err == nil {
		there, err = s.find(ctx, name)
	}
	if err == nil && there.empty() {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read metadata of blob %q: %w", name, err)
	}
	return there.metadata, nil
}

// find returns a blob as it is now.
func (s *Azure) find(ctx context.Context, name string) (azureBlob, error) {
	try := newAttempts(ctx, 0)
	p, err := s.container.NewBlobClient(name).GetProperties(try.ctx, nil)
	if err != nil {
		return azureBlob{}, try.explain(err)
	}
	there := newAzureBlob(p.BlobType, p.ContentLength, p.Metadata)
	there.version = p.ETag
	if p.BlobCommittedBlockCount != nil {
		there.blocks = *p.BlobCommittedBlockCount
	}
	return there, nil
}

// lowered gives metadata their keys back: on their way as headers they lost their case.
func lowered(headers map[string]*string) map[string]string {
	metadata := make(map[string]string, len(headers))
	for key, value := range headers {
		if value != nil {
			metadata[strings.ToLower(key)] = *value
		}
	}
	return metadata
}

// Open implements [Store]. A download that breaks off goes on from where it was.
func (s *Azure) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	try := newAttempts(ctx, MaxBody)
	response, err := s.container.NewBlobClient(name).DownloadStream(try.ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("open blob %q: %w", name, try.explain(err))
	}
	if newAzureBlob(response.BlobType, response.ContentLength, nil).empty() {
		response.Body.Close()
		return nil, fmt.Errorf("open blob %q: %w", name, ErrNotFound)
	}
	return &download{name: name, try: try, ReadCloser: response.NewRetryReader(try.ctx, nil)}, nil
}

// download keeps the rules for errors while a blob is read.
type download struct {
	io.ReadCloser
	name string
	try  *attempts
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read blob %q: %w", d.name, d.try.explain(err))
	}
	return n, err
}

// List implements [Store]. It holds one page of the service's, at most 5,000 blobs.
func (s *Azure) List(ctx context.Context, prefix string) iter.Seq2[Blob, error] {
	return func(yield func(Blob, error) bool) {
		pages := s.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
			Prefix:  &prefix,
			Include: container.ListBlobsInclude{Metadata: true},
		})
		for pages.More() {
			try := newAttempts(ctx, 0)
			page, err := pages.NextPage(try.ctx)
			if err != nil {
				yield(Blob{}, fmt.Errorf("list blobs: %w", try.explain(err)))
				return
			}
			for _, item := range page.Segment.BlobItems {
				b := newAzureBlob(item.Properties.BlobType, item.Properties.ContentLength, item.Metadata)
				if !b.empty() && !yield(Blob{Name: *item.Name, Size: b.size, Metadata: b.metadata}, nil) {
					return
				}
			}
		}
	}
}
