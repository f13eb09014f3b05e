package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"persistor/internal/config"
	"persistor/internal/store"
)

// OpenContainer opens a container of blobs to be read, wherever it is:
//
//	""                                   the one that the worker's settings name
//	DIR, file:///DIR                     a directory that is a container
//	https://ACCOUNT/CONTAINER?SAS        with a shared access signature
//	https://ACCOUNT/CONTAINER            with the identity that the program runs under, which the settings
//	                                     PERSISTOR_STORAGE_CONNECTION_STRING__credential and __clientId may say more of
//
// With a host that is an IP address or localhost, the account is the path's first segment, as the storage emulator
// has it. It creates nothing: a container that isn't there is [store.ErrNoContainer]. An error holds no secret. It is a
// *config.Error when settings are wrong.
func OpenContainer(ctx context.Context, location string, lookup config.Lookup) (store.Store, error) {
	scheme, _, isURL := strings.Cut(location, "://")
	switch {
	case location == "":
		return openSettingsContainer(ctx, lookup)
	case isURL && (scheme == "https" || scheme == "http"):
		return openContainerURL(ctx, location, lookup)
	case isURL && scheme == "file":
		return openContainerDir(strings.TrimPrefix(location, "file://"))
	case isURL:
		return nil, locationf("open container: %s:// is no way to reach one; expected a directory, file:///DIRECTORY or https://ACCOUNT.blob.core.windows.net/CONTAINER", scheme)
	}
	return openContainerDir(location)
}

func openSettingsContainer(ctx context.Context, lookup config.Lookup) (store.Store, error) {
	s, err := config.ReadStorage(lookup)
	if err != nil {
		return nil, err
	}
	return openStore(ctx, s.Connection, s.Container, false)
}

// openContainerURL opens what a URL of a container names.
func openContainerURL(ctx context.Context, location string, lookup config.Lookup) (store.Store, error) {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, locationf("open container: it is no URL of a container; expected https://ACCOUNT.blob.core.windows.net/CONTAINER, with a SAS behind it or none") // err would quote it, SAS and all
	}
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	account := 0
	if net.ParseIP(u.Hostname()) != nil || u.Hostname() == "localhost" {
		account = 1
	}
	if len(segments) != account+1 || segments[account] == "" {
		return nil, locationf("open container: %s://%s%s names no container, or more than one; expected https://ACCOUNT.blob.core.windows.net/CONTAINER; a folder in it is for --folder", u.Scheme, u.Host, u.Path)
	}
	service := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/" + strings.Join(segments[:account], "/"), RawQuery: u.RawQuery}
	o := store.Options{Location: service.String(), Container: segments[account]}
	if !u.Query().Has("sig") {
		identity, err := config.ReadStorageIdentity(lookup, o.Location)
		if err != nil {
			return nil, err
		}
		if o.Credential, err = identity.TokenCredential(); err != nil {
			return nil, err
		}
	}
	return store.Open(ctx, o)
}

// openContainerDir opens a directory that is a container already: opening another would make it one.
func openContainerDir(dir string) (store.Store, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, locationf("open container: %w", err)
	}
	if store.IsContainer(absolute) {
		return store.OpenDir(absolute, false)
	}
	entries, err := os.ReadDir(absolute)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, locationf("open container: there is no directory %s; name one that Persistor stores in", dir)
	}
	if err != nil {
		return nil, locationf("open container: %w", err)
	}
	for _, e := range entries {
		if store.IsContainer(filepath.Join(absolute, e.Name())) {
			return nil, locationf("open container: %s holds containers, and is none; name one of them, such as %s", dir, filepath.Join(dir, e.Name()))
		}
	}
	return nil, locationf("open container: %s is none: Persistor has stored nothing in it", dir)
}

// A LocationError says that what was to be opened is no container, or that it can't be one.
type LocationError struct{ error }

func (e LocationError) Unwrap() error { return e.error }

func locationf(format string, args ...any) error { return LocationError{fmt.Errorf(format, args...)} }
