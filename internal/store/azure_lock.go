package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
)

const (
	// leaseTime is the longest that a blob's lease lasts, other than for ever, and leaseTimeShortest the
	// shortest. https://learn.microsoft.com/rest/api/storageservices/lease-blob
	leaseTime         = 60 * time.Second
	leaseTimeShortest = 15 * time.Second
	// renewals is how many times a lease is renewed within its time, so that one may fail.
	renewals = 3
)

// Lock implements [Locker], by a lease on a small blob that holds who has it.
func (s *Azure) Lock(ctx context.Context, name string, holder Holder) (*Lease, error) {
	err := CheckName(name)
	var l *Lease
	if err == nil {
		l, err = s.lock(ctx, name, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	return l, nil
}

func (s *Azure) lock(ctx context.Context, name string, holder Holder) (*Lease, error) {
	words, err := holder.encode()
	if err != nil {
		return nil, err
	}
	client, err := lease.NewBlobClient(s.container.NewBlobClient(name), nil) // with a random lease id
	if err != nil {
		return nil, err
	}
	h := &held{store: s, name: name, length: cmp.Or(s.lease, leaseTime), client: client, done: make(chan struct{})}
	if err := h.acquire(ctx); err != nil {
		if !answered(err) && !errors.Is(err, ErrLocked) { // it may have been granted
			h.giveUp(ctx)
		}
		return nil, err
	}
	// Where a policy makes blobs immutable the lock holds all the same, without words.
	if err := h.say(ctx, words); err != nil && !errors.Is(err, ErrImmutable) {
		h.giveUp(ctx)
		return nil, fmt.Errorf("say who has it: %w", err)
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := newLease(func(ctx context.Context) error {
		stop()
		<-h.done
		return h.release(ctx)
	})
	go h.renew(renewing, l.lost)
	return l, nil
}

// held is a blob whose lease this process has.
type held struct {
	store  *Azure
	name   string
	length time.Duration // of the lease
	client *lease.BlobClient
	until  time.Time     // until when nobody else can have it
	done   chan struct{} // closed when nothing renews it any longer
}

// acquire creates the blob if it is missing. A request whose answer got lost is repeated with the same
// lease id, and the service grants it again.
func (h *held) acquire(ctx context.Context) error {
	seconds := int32(max(h.length, leaseTimeShortest) / time.Second)
	var err error
	for range 3 { // somebody may remove it in between
		asked := time.Now()
		try := newAttempts(ctx, 0)
		_, err = h.client.AcquireLease(try.ctx, seconds, nil)
		err = try.explain(err)
		h.until = asked.Add(h.length)
		if !errors.Is(err, ErrNotFound) {
			break
		}
		err = h.store.put(ctx, h.name, nil, nil, rand.Text())
		if err != nil && !mayBeThere(err) && !bloberror.HasCode(err, bloberror.LeaseIDMissing) {
			return err
		}
	}
	if bloberror.HasCode(err, bloberror.LeaseAlreadyPresent, bloberror.LeaseIsBreakingAndCannotBeAcquired) {
		return &LockedError{Holder: h.store.holder(ctx, h.name)}
	}
	return err
}

// holder reads who has a lock.
func (s *Azure) holder(ctx context.Context, name string) Holder {
	r, err := s.Open(ctx, name)
	if err != nil {
		return Holder{}
	}
	defer r.Close()
	words, err := io.ReadAll(io.LimitReader(r, maxHolder))
	if err != nil {
		return Holder{}
	}
	return parseHolder(words)
}

// say replaces the blob's content, as only who has the lease can.
func (h *held) say(ctx context.Context, words []byte) error {
	kind := "application/json"
	try := newAttempts(ctx, len(words))
	_, err := h.store.container.NewBlockBlobClient(h.name).Upload(try.ctx, streaming.NopCloser(bytes.NewReader(words)), &blockblob.UploadOptions{
		HTTPHeaders:      &blob.HTTPHeaders{BlobContentType: &kind},
		AccessConditions: &blob.AccessConditions{LeaseAccessConditions: &blob.LeaseAccessConditions{LeaseID: h.client.LeaseID()}},
	})
	return try.explain(err)
}

// renew keeps the lease until ctx ends, or until it is lost: the service says so, or has said nothing for
// as long as it lasts.
func (h *held) renew(ctx context.Context, lost chan<- error) {
	defer close(h.done)
	pause := h.length / renewals
	for {
		sleep(ctx, pause)
		asked := time.Now()
		within, cancel := context.WithDeadline(ctx, h.until)
		try := newAttempts(within, 0)
		_, err := h.client.RenewLease(try.ctx, nil)
		err = try.explain(err)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			h.until = asked.Add(h.length)
			pause = h.length / renewals
		case answered(err) || !time.Now().Before(h.until):
			lost <- fmt.Errorf("renew lock %q: %w", h.name, err)
			return
		default: // without an answer, such as one without a token
			pause = h.length / renewals / 10
		}
	}
}

// release takes the words back, so that the next holder isn't taken for this one, and then the lease.
func (h *held) release(ctx context.Context) error {
	brief, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = h.say(brief, nil)
	if err := h.giveBack(ctx); err != nil {
		return fmt.Errorf("unlock %q: %w", h.name, err)
	}
	return nil
}

// giveUp gives a lease back that comes to nothing. What can't be given back runs out.
func (h *held) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = h.giveBack(ctx)
}

func (h *held) giveBack(ctx context.Context) error {
	try := newAttempts(ctx, 0)
	_, err := h.client.ReleaseLease(try.ctx, nil)
	err = try.explain(err)
	if errors.Is(err, ErrNotFound) || bloberror.HasCode(err, bloberror.LeaseIDMismatchWithLeaseOperation, bloberror.LeaseNotPresentWithLeaseOperation) {
		return nil // it was lost, or an answer was
	}
	return err
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
