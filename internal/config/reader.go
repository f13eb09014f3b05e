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
	// service is the one that the setting is about, and ignored without; "" is about both.
	service Service
	// when tells whether the setting is read, by the settings before it; nil is always.
	when func() bool
	// fallback is what is read when the setting is not given, in the form a user would write.
	fallback string
	// otherwise tells what holds in that case, where there is no fallback.
	otherwise string
	required  bool
	secret    bool   // never quoted
	group     string // of settings that are documented together; "" for none
	meaning   string
}

// reader applies settings, and keeps every problem it meets on the way.
type reader struct {
	lookup Lookup
	// service is the one whose settings are read. One of the first settings may choose it; while it is ""
	// no service's are.
	service  *Service
	problems []Problem
	warnings []string
}

// maxValue bounds a setting's value, in bytes.
const maxValue = 32 << 10

func (r *reader) read(settings []setting) {
	for _, s := range settings {
		if s.service != "" && s.service != *r.service || s.when != nil && !s.when() {
			continue
		}
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
	entity, unknown := r.checkNamespace(eventHubs, &h.Connection, hubSetting)
	if r.checkEntity(hubNameSetting, &h.Name, hubSetting, entity) && !unknown {
		r.problem(hubNameSetting, "not set, and %s has no EntityPath: expected the hub's name", hubSetting)
	}
}

// checkQueue asks for a connection, and for the names of a queue, or of a topic and its subscription.
func (r *reader) checkQueue(q *Queue, topic bool) {
	r.checkAddress(q, topic)
	if q.DeadLetter {
		q.Sessions = false
	}
	if topic && q.Subscription == "" && !r.blames(entitySetting) && !r.blames(subscriptionSetting) {
		r.problem(subscriptionSetting, "not set: expected the name of the topic's subscription to drain%s", r.adviceOnType(topic))
	}
}

// checkAddress asks for a connection, and for the name of a queue or topic.
func (r *reader) checkAddress(q *Queue, topic bool) {
	entity, unknown := r.checkNamespace(serviceBus, &q.Connection, busSetting)
	if r.blames(entitySetting) {
		return
	}
	setting, name, noun := queueSetting, &q.Name, "queue"
	if topic {
		setting, name, noun = topicSetting, &q.Topic, "topic"
	}
	if r.checkEntity(setting, name, busSetting, entity) && !unknown {
		r.problem(setting, "not set, and %s has no EntityPath: expected the %s's name%s", busSetting, noun, r.adviceOnType(topic))
	}
}

// adviceOnType is for whoever named an entity of the other type than the one that is chosen; else "".
func (r *reader) adviceOnType(topic bool) string {
	switch {
	case topic && r.given(queueSetting):
		return fmt.Sprintf("; to drain the queue in %s, set %s=QUEUE", queueSetting, entitySetting)
	case !topic && (r.given(topicSetting) || r.given(subscriptionSetting)):
		return fmt.Sprintf("; to drain a topic's subscription, set %s=TOPIC", entitySetting)
	}
	return ""
}

// checkNamespace asks for a connection, and returns the EntityPath in it. That is unknown when the
// connection is bad, and may have one.
func (r *reader) checkNamespace(n namespace, c *Connection, name string) (entity string, unknown bool) {
	missing := c.IsZero()
	if missing && !r.blames(name) {
		r.problem(name, "not set: expected the connection string of %s namespace, or %s for an identity", n.article, name+suffixNamespace)
	}
	entity = c.checkNamespace(r, n, name)
	return entity, !missing && r.blames(name)
}

// checkEntity settles an entity's name, which is in a setting of its own, in the EntityPath of the
// connection string, or in both. It reports whether it is in neither.
func (r *reader) checkEntity(setting string, name *string, connection, entity string) (missing bool) {
	switch {
	case r.blames(setting):
	case *name == "":
		*name = entity
		return entity == ""
	case entity != "" && !strings.EqualFold(*name, entity):
		r.problem(setting, "differs from the EntityPath in %s: they have to agree, or one of them to go", connection)
	}
	return false
}

// given reports whether a setting has a value, be it read or not.
func (r *reader) given(name string) bool {
	_, text := r.find(setting{name: name})
	return text != ""
}

func (r *reader) checkStorage(c *Connection) {
	if c.IsZero() && !r.blames(storageSetting) {
		r.problem(storageSetting, "not set: expected a storage account's connection string, UseDevelopmentStorage=true, file:///ABSOLUTE/DIRECTORY, or %s for an identity", storageSetting+suffixBlobService)
	}
	c.checkStorage(r, storageSetting)
}

// checkQueueService checks the URI of a queue service that was given.
func (r *reader) checkQueueService(runs Runs) {
	if runs.QueueService == "" {
		return
	}
	u, err := url.Parse(runs.QueueService)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		r.problem(queueServiceSetting, "expected an https URI without a query, such as https://myaccount.queue.core.windows.net")
	}
}

// checkCheckpoint falls back to the connection that blobs are stored by.
func (r *reader) checkCheckpoint(c *Checkpoint, storage Connection) {
	if c.Connection.IsZero() {
		c.Connection = storage
		return
	}
	c.Connection.checkStorage(r, checkpointSetting)
}

// checkAccess warns of a program that everybody can reach and use, and of one with two keys for the same door.
func (r *reader) checkAccess(s Server) {
	host, _, _ := net.SplitHostPort(s.Address)
	if s.Key == "" && !loopback(host) {
		r.warn("%s is not set, and the program listens on every address it is given (%s): whoever reaches it can start runs", keySetting, s.Address)
	}
	if s.Key != "" && s.Hosted {
		r.warn("%s is set beside the function keys of the Functions host: callers need both, the function key in x-functions-key and %s as ?code=; remove it where function keys are enough", keySetting, keySetting)
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
