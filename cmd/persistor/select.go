package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"persistor/internal/app"
	"persistor/internal/selection"
	"persistor/internal/store"
)

// selecting are the flags that select among what is stored.
type selecting struct {
	folder      string
	partitions  []string
	sessions    []string
	from, until string
}

// timeHelp says in a command's help how a TIME is written.
const timeHelp = `A TIME is 2026-03-09, 2026-03-09T04:05 or 2026-03-09T04:05:06 in UTC, 2026-03-09T04:05:06+01:00,
or how long ago: 90m, 2h, 3d.`

// selectionHelp explains them in a command's help.
const selectionHelp = `A container is a directory that Persistor stores in, or file:///DIR; or
https://ACCOUNT/CONTAINER, with a SAS or else by the identity that you are signed in with; or,
if none is given, what PERSISTOR_STORAGE_CONNECTION_STRING and PERSISTOR_CONTAINER_NAME name.

--from and --until take a time or a sequence number. What was enqueued at --until is left out,
the message with the sequence number --until is not. With a --folder, no days but those are
listed.

` + timeHelp

func (s *selecting) flags(flags *pflag.FlagSet) {
	flags.StringVar(&s.folder, "folder", "", "main `FOLDER` of the blobs, such as the hub's name (default all but those that begin with _)")
	flags.StringSliceVar(&s.partitions, "partition", nil, "`ID`s of partitions of an Event Hub, and no others")
	flags.StringArrayVar(&s.sessions, "session", nil, "`ID` of a session of Service Bus, and no others; repeat it for more")
	flags.StringVar(&s.from, "from", "", "`TIME|NUMBER` of the first messages")
	flags.StringVar(&s.until, "until", "", "`TIME|NUMBER` of the last ones")
}

// selection is what the flags select. An error is a usageError.
func (s *selecting) selection(now time.Time) (selection.Selection, error) {
	sel := selection.Selection{Folder: s.folder, Partitions: s.partitions, Sessions: s.sessions}
	var err error
	if s.from != "" {
		if sel.From, sel.First, err = selection.ParseBound(s.from, now); err != nil {
			return sel, usagef("--from: %w", err)
		}
	}
	if s.until != "" {
		if sel.Until, sel.Last, err = selection.ParseBound(s.until, now); err != nil {
			return sel, usagef("--until: %w", err)
		}
	}
	if err := sel.Check(); err != nil {
		return sel, usageError{fmt.Errorf("--from and --until: %w", err)}
	}
	return sel, nil
}

// openContainer opens the container that an argument names, or the settings if it is "". That there is none is a
// usageError.
func openContainer(ctx context.Context, location string) (store.Store, error) {
	from, err := app.OpenContainer(ctx, location, os.LookupEnv)
	switch {
	case !errors.Is(err, store.ErrNoContainer): // nil, too
		return from, err
	case location == "":
		return nil, usagef("open container: there is none named %s: nothing has been stored yet, or PERSISTOR_CONTAINER_NAME or PERSISTOR_STORAGE_CONNECTION_STRING is wrong", os.Getenv("PERSISTOR_CONTAINER_NAME"))
	}
	named, _, _ := strings.Cut(location, "?") // what follows is a secret
	return nil, usagef("open container: there is none at %s: correct the URL", named)
}
