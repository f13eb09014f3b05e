package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"time"

	"persistor/internal/document"
	"persistor/internal/record"
)

// Storage is where ledgers are: store.Azure and store.Dir are such.
type Storage = document.Storage

// Retention is how long documents of runs stay that are over. Zero values mean the defaults.
type Retention struct {
	Age   time.Duration // since a run's end; 0: 30 days
	Count int           // the most documents of a source; 0: 1000
}

// Ledger keeps the runs of one source. Its methods are safe for concurrent use, as are those of other ledgers of the
// source in any process.
type Ledger struct {
	storage Storage
	folder  string
	keep    Retention
	now     func() time.Time

	trimming sync.Mutex
	trimmed  time.Time // when Trim last looked
}

// New returns the ledger of a source, which is as config.Invoker.Source writes it.
func New(s Storage, source string, keep Retention) *Ledger {
	if keep.Age <= 0 {
		keep.Age = 30 * 24 * time.Hour
	}
	if keep.Count <= 0 {
		keep.Count = 1000
	}
	// Beside all main folders, so that no list of one comes upon it.
	return &Ledger{storage: s, folder: "_runs/" + record.EventHubFolder(source), keep: keep, now: time.Now}
}

// Path is what the names of the source's documents begin with: "_runs/NAMESPACE/HUB/GROUP/".
func (l *Ledger) Path() string { return l.folder }

var (
	// ErrNoRun is the kind of every [NoRunError].
	ErrNoRun = errors.New("there is no such run")
	// ErrRunExists says that a run was to be created under an id that another one has.
	ErrRunExists = errors.New("a run of this id exists")
)

// NoRunError says that there is no run of an id. It is an [ErrNoRun].
type NoRunError struct {
	ID     string
	Newest []string // ids of the newest runs, the last one first
}

func (e *NoRunError) Error() string {
	if len(e.Newest) == 0 {
		return fmt.Sprintf("there is no run %q, and no other one of this source", e.ID)
	}
	return fmt.Sprintf("there is no run %q: the newest are %s", e.ID, strings.Join(e.Newest, ", "))
}

func (e *NoRunError) Unwrap() error { return ErrNoRun }

var validID = regexp.MustCompile(`^[A-Za-z0-9_-]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?$`)

// checkID is what every method begins with that makes a path of an id.
func checkID(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("run %.80q: an id has 1 to 64 of A-Z a-z 0-9 . _ -, with no dot at its ends", id)
	}
	return nil
}

func (l *Ledger) name(id string) string { return l.folder + id + ".json" }

// id undoes name; "" is for what is no run's document.
func (l *Ledger) id(name string) string {
	id, ok := strings.CutSuffix(strings.TrimPrefix(name, l.folder), ".json")
	if !ok || checkID(id) != nil {
		return ""
	}
	return id
}

// Create writes a new run's document, or fails with ErrRunExists. It sets Created unless it is set, and Updated.
// In passing it does what [Ledger.Trim] does, of which an error is none of its own.
func (l *Ledger) Create(ctx context.Context, run Run) error {
	if err := checkID(run.ID); err != nil {
		return err
	}
	if run.Created.IsZero() {
		run.Created = l.now()
	}
	if _, err := l.write(ctx, &run, ""); errors.Is(err, document.ErrChanged) {
		return fmt.Errorf("create run %s: %w", run.ID, ErrRunExists)
	} else if err != nil {
		return fmt.Errorf("create run %s: %w", run.ID, err)
	}
	brief, cancel := context.WithTimeout(ctx, trimTimeout)
	defer cancel()
	_, _ = l.Trim(brief)
	return nil
}

// Read returns a run. The error is a [*NoRunError] if there is none, and names the blob if that is no run's document.
func (l *Ledger) Read(ctx context.Context, id string) (Run, error) {
	run, _, err := l.read(ctx, id)
	if errors.Is(err, document.ErrNotFound) {
		return Run{}, l.noRun(ctx, id)
	}
	return run, err
}

// noRun names the newest runs, if they can be found out.
func (l *Ledger) noRun(ctx context.Context, id string) error {
	newest, err := l.newest(ctx, 3)
	if err != nil {
		return fmt.Errorf("there is no run %q, and which there are can't be found out: %w", id, err)
	}
	return &NoRunError{ID: id, Newest: newest}
}

// Update changes a run by compare-and-swap: it reads the document, has change make what it wants of it, and writes it
// if nobody else has done so meanwhile; otherwise it begins anew, until ctx ends. So change may be called several
// times, each time with what is there now. An error of change ends it, nothing being written, and is returned as it
// is. The run that is returned is what was written.
func (l *Ledger) Update(ctx context.Context, id string, change func(*Run) error) (Run, error) {
	for try := 0; ; try++ {
		run, version, err := l.read(ctx, id)
		if errors.Is(err, document.ErrNotFound) {
			return Run{}, l.noRun(ctx, id)
		}
		if err != nil {
			return Run{}, err
		}
		if err := change(&run); err != nil {
			return Run{}, err
		}
		run.ID = id
		_, err = l.write(ctx, &run, version)
		if err == nil {
			return run, nil
		}
		if !errors.Is(err, document.ErrChanged) || ctx.Err() != nil {
			return Run{}, fmt.Errorf("update run %s: %w", id, err)
		}
		pause(ctx, try)
	}
}

// pause lets writers that are in each other's way try again at different times.
func pause(ctx context.Context, try int) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(5 * time.Millisecond << min(try, 7))):
	}
}

func (l *Ledger) read(ctx context.Context, id string) (Run, string, error) {
	if err := checkID(id); err != nil {
		return Run{}, "", err
	}
	body, version, err := l.storage.Read(ctx, l.name(id))
	if err != nil && !errors.Is(err, document.ErrTooLarge) && !errors.Is(err, document.ErrDamaged) {
		return Run{}, "", fmt.Errorf("read run %s: %w%s", id, err, hint(err))
	}
	var run Run
	if err == nil {
		err = json.Unmarshal(body, &run)
	}
	if err == nil && run.ID != id {
		err = fmt.Errorf("it is that of run %.80q", run.ID)
	}
	if err == nil {
		err = run.check()
	}
	if err != nil {
		return Run{}, "", fmt.Errorf("read run %s: %w", id, &damagedError{l.name(id), version, err})
	}
	return run, version, nil
}

// damagedError says that a blob is not what its name says.
type damagedError struct {
	name, version string
	cause         error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("blob %s is not the run's document (%v): restore or remove it", e.name, e.cause)
}

// write bounds a run, and writes it if what is there is the version, "" being none.
func (l *Ledger) write(ctx context.Context, run *Run, version string) (string, error) {
	run.Updated = l.now()
	body, err := encode(run)
	if err != nil {
		return "", err
	}
	version, err = l.storage.Write(ctx, l.name(run.ID), body, version)
	if err != nil {
		return "", fmt.Errorf("%w%s", err, hint(err))
	}
	return version, nil
}

// hint says what to do about an error, where that is known.
func hint(err error) string {
	switch {
	case errors.Is(err, document.ErrForbidden), errors.Is(err, fs.ErrPermission):
		return "; runs are kept in the container: the program needs the right to read, write, list and delete blobs in it"
	case errors.Is(err, document.ErrImmutable):
		return "; runs are kept in the container, whose documents are rewritten: keep them apart from blobs that must not change"
	}
	return ""
}
