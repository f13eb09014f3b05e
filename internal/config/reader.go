package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"unicode"
)

// setting is one app setting: its name, where its value goes, and what the documentation says of it.
type setting struct {
	name  string
	alias string // another name for it; "" for none
	value value
	// fallback is what is read when the setting is not given, in the form a user would write.
	fallback string
	// otherwise tells what holds in that case, where there is no fallback.
	otherwise string
	required  bool
	secret    bool // never quoted
	meaning   string
}

// reader applies settings, and keeps every problem it meets on the way.
type reader struct {
	lookup   Lookup
	problems []Problem
	warnings []string
}

// maxValue bounds a setting's value, in bytes.
const maxValue = 32 << 10

func (r *reader) read(settings []setting) {
	for _, s := range settings {
		name, text := r.find(s)
		switch {
		case text == "" && s.required:
			r.problem(s.name, "not set: expected %s", s.value.expected)
			continue
		case text == "" && s.fallback == "":
			continue
		case text == "":
			text = s.fallback
		case len(text) > maxValue:
			r.problem(name, "a value of %s bytes: expected at most %s", grouped(len(text)), grouped(maxValue))
			continue
		case strings.ContainsFunc(text, unicode.IsControl):
			r.problem(name, "has a line break or another control character in it: expected %s", s.value.expected)
			continue
		}
		switch err := s.value.parse(text); {
		case err == nil:
		case err == errMismatch && s.secret:
			r.problem(name, "expected %s", s.value.expected)
		case err == errMismatch:
			r.problem(name, "expected %s, %s", s.value.expected, got(text))
		default:
			r.problem(name, "%v", err)
		}
	}
}

// find returns a setting's value without blanks around it, and the name it was given by. An empty value
// is as good as none: function apps keep settings that way.
func (r *reader) find(s setting) (name, text string) {
	get := func(name string) string {
		if name == "" {
			return ""
		}
		text, _ := r.lookup(name)
		return strings.TrimSpace(text)
	}
	text, other := get(s.name), get(s.alias)
	if text != "" && other != "" && text != other {
		r.problem(s.alias, "differs from %s, which means the same: keep one of them", s.name)
	}
	if text == "" && other != "" {
		return s.alias, other
	}
	return s.name, text
}

func (r *reader) problem(setting, format string, args ...any) {
	r.problems = append(r.problems, Problem{setting, fmt.Sprintf(format, args...)})
}

// blames reports whether a setting, or one of the identity settings behind it, has a problem already.
func (r *reader) blames(name string) bool {
	for _, p := range r.problems {
		if p.Setting == name || strings.HasPrefix(p.Setting, name+"__") {
			return true
		}
	}
	return false
}

func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return &Error{r.problems}
}

// checkHub asks for a connection and a name, which may come within the connection string.
func (r *reader) checkHub(h *Hub) {
	missing := h.Connection.IsZero()
	if missing && !r.blames(hubSetting) {
		r.problem(hubSetting, "not set: expected the connection string of an Event Hubs namespace, or %s for an identity", hubSetting+suffixNamespace)
	}
	entity := h.Connection.checkHub(r, hubSetting)
	switch {
	case r.blames(hubNameSetting):
	case h.Name == "" && entity == "" && (missing || !r.blames(hubSetting)): // one that is bad may have it
		r.problem(hubNameSetting, "not set, and %s has no EntityPath: expected the hub's name", hubSetting)
	case h.Name != "" && entity != "" && !strings.EqualFold(h.Name, entity):
		r.problem(hubNameSetting, "differs from the EntityPath in %s: they have to agree, or one of them to go", hubSetting)
	case h.Name == "":
		h.Name = entity
	}
}

func (r *reader) checkStorage(c *Connection) {
	if c.IsZero() && !r.blames(storageSetting) {
		r.problem(storageSetting, "not set: expected a storage account's connection string, UseDevelopmentStorage=true, file:///ABSOLUTE/DIRECTORY, or %s for an identity", storageSetting+suffixBlobService)
	}
	c.checkStorage(r, storageSetting)
}

// checkCheckpoint falls back to the connection that blobs are stored by.
func (r *reader) checkCheckpoint(c *Checkpoint, storage Connection) {
	if c.Connection.IsZero() {
		c.Connection = storage
		return
	}
	c.Connection.checkStorage(r, checkpointSetting)
}

// checkAccess warns of a program that everybody can reach and use.
func (r *reader) checkAccess(s Server) {
	host, _, _ := net.SplitHostPort(s.Address)
	if s.Key == "" && !loopback(host) {
		r.warn("%s is not set, and the program listens on every address it is given (%s): whoever reaches it can start runs", keySetting, s.Address)
	}
}

// checkTargets warns of a key that travels in clear.
func (r *reader) checkTargets(targets []Target, key Secret) {
	for _, t := range targets {
		u, err := url.Parse(t.Base)
		if err == nil && u.Scheme == "http" && !loopback(u.Hostname()) && (key != "" || t.Query != "") {
			r.warn("%s has an http URL on another host (%s): the key goes there in clear", targetsSetting, t)
		}
	}
}

func (r *reader) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
