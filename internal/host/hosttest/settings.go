package hosttest

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// settings are the app settings.
type settings map[string]string

// readSettings reads local.settings.json, if it is there, under what overrides it.
func readSettings(folder string, overrides map[string]string) (settings, error) {
	s := settings{}
	var local struct {
		IsEncrypted bool
		Values      map[string]any
	}
	path := filepath.Join(folder, "local.settings.json")
	if err := readJSON(path, &local); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if local.IsEncrypted {
		return nil, fmt.Errorf("read %s: it is encrypted", path)
	}
	for name, value := range local.Values {
		switch value.(type) {
		case string, bool, float64:
			s[name] = fmt.Sprint(value)
		default:
			return nil, fmt.Errorf("read %s: setting %s is no string", path, name)
		}
	}
	for name, value := range overrides {
		s[name] = value
	}
	if runtime := s["FUNCTIONS_WORKER_RUNTIME"]; runtime != "" && runtime != "custom" {
		return nil, fmt.Errorf("setting FUNCTIONS_WORKER_RUNTIME is %q: want custom", runtime)
	}
	return s, nil
}

// expand replaces each %NAME% by the setting of that name. One that is not set is an error, as in
// azure-webjobs-sdk's NameResolverExtensions; an empty one is not.
func (s settings) expand(text string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "%")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, "%")
		if !closed {
			return "", fmt.Errorf("a %% in %q has no closing %%", text)
		}
		value, set := s[name]
		if !set {
			return "", fmt.Errorf("%%%s%% does not resolve to a value", name)
		}
		out.WriteString(value)
		text = after
	}
}

// identity says whether a connection is described by its parts, for a managed identity.
func (s settings) identity(name string) bool {
	for key := range s {
		if strings.HasPrefix(key, name+"__") || strings.HasPrefix(key, name+":") {
			return true
		}
	}
	return false
}

// connection is the connection string in the setting of that name.
func (s settings) connection(name string) (string, error) {
	for _, key := range []string{"AzureWebJobs" + name, name} {
		if value := s[key]; value != "" {
			return value, nil
		}
	}
	if s.identity(name) {
		return "", fmt.Errorf("connection %s is for a managed identity, which there is none of here: set %s to a connection string", name, name)
	}
	return "", fmt.Errorf("setting %s, which connection names, is missing or empty", name)
}
