package app

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"time"

	"persistor/internal/api"
	"persistor/internal/backfill"
	"persistor/internal/config"
	"persistor/internal/fanout"
	"persistor/internal/ledger"
	"persistor/internal/record"
	"persistor/internal/store"
)

// storageOnDemand is storage that is opened when it is first needed, so that an invoker may start before it is there.
type storageOnDemand struct {
	at config.Storage

	mu     sync.Mutex
	opened keeping // nil until it was needed
}

// keeping is what an invoker needs of storage; both kinds are such.
type keeping interface {
	store.Store
	store.Locker
	store.Documents
}

func (c *storageOnDemand) open(ctx context.Context) (keeping, error) {
	if opened := c.known(nil); opened != nil {
		return opened, nil
	}
	// Without the lock, for each caller waits as long as its own context lasts.
	opened, err := openStore(ctx, c.at.Connection, c.at.Container, c.at.CreateContainer)
	if err != nil {
		return nil, err
	}
	first := c.known(opened.(keeping))
	if first != opened {
		closeStore(opened)
	}
	return first, nil
}

// known returns the storage that was opened first, which may be the one given.
func (c *storageOnDemand) known(opened keeping) keeping {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened == nil {
		c.opened = opened
	}
	return c.opened
}

// close gives back what was opened.
func (c *storageOnDemand) close() {
	if opened := c.known(nil); opened != nil {
		closeStore(opened)
	}
}

// documents are those in a container.
type documents struct{ *storageOnDemand }

func (d documents) Read(ctx context.Context, name string) ([]byte, string, error) {
	s, err := d.open(ctx)
	if err != nil {
		return nil, "", err
	}
	return s.Read(ctx, name)
}

func (d documents) Write(ctx context.Context, name string, body []byte, version string) (string, error) {
	s, err := d.open(ctx)
	if err != nil {
		return "", err
	}
	return s.Write(ctx, name, body, version)
}

func (d documents) Overwrite(ctx context.Context, name string, body []byte) error {
	s, err := d.open(ctx)
	if err != nil {
		return err
	}
	return s.Overwrite(ctx, name, body)
}

func (d documents) Remove(ctx context.Context, name, version string) error {
	s, err := d.open(ctx)
	if err != nil {
		return err
	}
	return s.Remove(ctx, name, version)
}

func (d documents) Names(ctx context.Context, folder string) iter.Seq2[string, error] {
	s, err := d.open(ctx)
	if err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return s.Names(ctx, folder)
}

// runLock is the lock that a source's run has. It is a [backfill.Lock].
type runLock struct {
	*storageOnDemand
	name string
	log  *slog.Logger
}

func newRunLock(c *storageOnDemand, source string, log *slog.Logger) *runLock {
	// Beside all main folders, so that no list of one comes upon it.
	return &runLock{storageOnDemand: c, name: "_runs/" + strings.TrimSuffix(record.EventHubFolder(source), "/") + ".lock", log: log}
}

// unlockTimeout bounds how long giving a lease back takes; what could not be given back runs out.
const unlockTimeout = 5 * time.Second

// Take locks for a run. The error is a [*fanout.UnderWayError] where another run has the lock. release gives it back:
// call it always, also when the run has panicked or was told to stop.
//
// A run whose lease is lost goes on. Another run may begin then, and nothing comes of it but work done
// twice: of a partition's two receivers the one with the higher owner level wins, messages are locked for
// one receiver at a time, and a name is given once whoever stores. To stop would leave less stored, and not
// be safer.
func (l *runLock) Take(ctx context.Context, run fanout.Run) (release func(), err error) {
	locker, err := l.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("take the run's lease: %w", err)
	}
	lease, err := locker.Lock(ctx, l.name, store.Holder{Run: run.ID, Since: run.Start})
	if locked := (*store.LockedError)(nil); errors.As(err, &locked) {
		return nil, &fanout.UnderWayError{Run: locked.Holder.Run, Since: locked.Holder.Since}
	}
	if err != nil {
		return nil, fmt.Errorf("take the run's lease: %w; the invoker needs to write to the container; \"exclusive\": false runs without", err)
	}
	done := make(chan struct{})
	go func() {
		select {
		case err := <-lease.Lost():
			l.log.WarnContext(ctx, "lost the run's lease: another run may begin beside this one, which goes on", "run", run.ID, "error", err)
		case <-done:
		}
	}()
	return func() {
		close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		if err := lease.Release(ctx); err != nil {
			l.log.WarnContext(ctx, "could not give the run's lease back: the next run has to wait until it runs out, a minute at most", "run", run.ID, "error", err)
		}
	}, nil
}

// runs are the runs of an invoker, for its callers. It is an [api.Runs].
type runs struct {
	*backfill.Engine // nil where no storage is known to keep runs in
	source           string
	service          config.Service
	noChain          error // why no wave can be asked for; nil where one can
}

var errNoStorage = fmt.Errorf("%w: set PERSISTOR_STORAGE_CONNECTION_STRING and PERSISTOR_CONTAINER_NAME as the workers have them", api.ErrNoRuns)

// ready says why waves can't be asked for.
func (r *runs) ready() error {
	if r.Engine == nil {
		return errNoStorage
	}
	return r.noChain
}

func (r *runs) Begin(ctx context.Context, req ledger.Request) (ledger.Run, error) {
	if err := r.ready(); err != nil {
		return ledger.Run{}, err
	}
	return r.Engine.Begin(ctx, req)
}

func (r *runs) Cancel(ctx context.Context, id string) (ledger.Run, error) {
	if r.Engine == nil {
		return ledger.Run{}, errNoStorage
	}
	return r.Engine.Cancel(ctx, id)
}

func (r *runs) Retry(ctx context.Context, id string) (ledger.Run, error) {
	if err := r.ready(); err != nil {
		return ledger.Run{}, err
	}
	return r.Engine.Retry(ctx, id)
}

func (r *runs) Resume(ctx context.Context, id string) (ledger.Run, error) {
	if err := r.ready(); err != nil {
		return ledger.Run{}, err
	}
	return r.Engine.Resume(ctx, id)
}

// List implements [api.Runs]. Of one state it finds those among the last [ledger.MaxList].
func (r *runs) List(ctx context.Context, limit int, state ledger.State) ([]ledger.Run, error) {
	if r.Engine == nil {
		return nil, errNoStorage
	}
	read := limit
	if state != "" {
		read = ledger.MaxList
	}
	all, err := r.Ledger.List(ctx, read)
	if err != nil {
		return nil, err
	}
	var shown []ledger.Run
	for _, run := range all {
		if run.State = run.StateAt(time.Now()); (state == "" || run.State == state) && len(shown) < limit {
			shown = append(shown, run)
		}
	}
	return shown, nil
}

func (r *runs) Read(ctx context.Context, id string) (ledger.Live, error) {
	if r.Engine == nil {
		return ledger.Live{}, errNoStorage
	}
	run, err := r.Ledger.Read(ctx, id)
	if err != nil {
		return ledger.Live{}, err
	}
	var progress []ledger.Progress
	if !run.State.Over() {
		if progress, err = r.Ledger.Progress(ctx, id); err != nil {
			return ledger.Live{}, err
		}
	}
	return ledger.NewLive(run, progress, time.Now()), nil
}

// standing is what is asked for how far the source is drained, beside its runs.
type standing struct {
	*runs
	source
}

// Standing implements [api.Runs]. It also works where no runs are kept.
func (s *standing) Standing(ctx context.Context) (api.Standing, error) {
	now := api.Standing{Source: s.runs.source, Service: string(s.service)}
	err := s.partitions(ctx, &now)
	if s.hub == nil {
		now.Waiting, err = s.waiting(ctx)
		if errors.Is(err, fanout.ErrNoRight) {
			now.Waiting, err = -1, nil
		}
		now.Backlog = now.Waiting
	}
	if err == nil && s.Engine != nil {
		now.Run, err = s.underWay(ctx)
	}
	return now, err
}

// partitions fills in how far those of an Event Hub are drained.
func (s *standing) partitions(ctx context.Context, now *api.Standing) error {
	if s.hub == nil {
		return nil
	}
	partitions, err := s.hub.Partitions(ctx)
	if err != nil {
		return fmt.Errorf("read partitions: %w", err)
	}
	for _, p := range partitions {
		now.Backlog += p.Backlog()
		now.Partitions = append(now.Partitions, api.PartitionStanding{
			Partition: p.ID, First: p.First, Last: p.Last, Checkpoint: p.Checkpoint, Backlog: p.Backlog(), LastEnqueued: p.LastEnqueued, Empty: p.Empty,
		})
	}
	return nil
}

// underWay is a run that is under way, else one that waits for its next wave, among the newest; nil if there is none.
func (s *standing) underWay(ctx context.Context) (found *ledger.Run, err error) {
	const newest = 20
	all, err := s.List(ctx, newest, "")
	for _, run := range all {
		switch {
		case run.State == ledger.Running:
			return &run, nil
		case run.State == ledger.Queued && found == nil:
			found = &run
		}
	}
	return found, err
}
