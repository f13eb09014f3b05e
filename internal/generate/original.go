package generate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kinds are the types of the original's generator.
var kinds = map[string]spec{
	"EVENT_GRID_BINDING":  {source: eventGrid},
	"EVENT_HUB_BINDING":   {source: eventHub},
	"SERVICE_BUS_BINDING": {source: queue},
	"EVENT_HUB_PULL":      {source: eventHub, pull: true},
	"SERVICE_BUS_PULL":    {source: queue, pull: true},
}

// originalOption is an option of the original's generator.
type originalOption struct {
	name   string
	of     []string // the types that have it; nil is all of them
	values []string // nil is any
	choose func(s *spec, value string)
}

var bools = []string{"true", "false"}

// originalOptions are applied in this order, whatever order they are written in.
var originalOptions = []originalOption{
	{"invoker", []string{"EVENT_HUB_PULL", "SERVICE_BUS_PULL"}, bools, func(s *spec, value string) { s.invoker = value == "true" }},
	{"cardinality", []string{"EVENT_HUB_BINDING"}, []string{"one", "many"}, func(s *spec, value string) { s.many = value == "many" }},
	{"sb_type", []string{"SERVICE_BUS_BINDING", "SERVICE_BUS_PULL"}, []string{"queue", "topic"}, func(s *spec, value string) {
		s.source = "service-bus-" + value
		s.choose("SERVICE_BUS_TYPE", strings.ToUpper(value))
		s.chooseEntity()
	}},
	{"append", nil, bools, func(s *spec, value string) { s.choose("APPEND", strings.ToUpper(value)) }},
	{"timed_append", nil, bools, func(s *spec, value string) {
		s.choose("TIMED_APPEND", strings.ToUpper(value))
		if value == "true" {
			s.choose("APPEND", "TRUE")
		}
	}},
	{"metadata", nil, bools, func(s *spec, value string) { s.choose("GET_METADATA", strings.ToUpper(value)) }},
	{"output_binding", []string{"EVENT_GRID_BINDING", "EVENT_HUB_BINDING", "SERVICE_BUS_BINDING"}, bools, func(s *spec, value string) {
		s.output = value == "true"
		s.choose("PERSISTOR_OUTPUT_BINDING", strings.ToUpper(value))
	}},
	// In the original's own sample, and without effect there.
	{receiveDuration, []string{"EVENT_HUB_PULL", "SERVICE_BUS_PULL"}, nil, func(*spec, string) {}},
}

const receiveDuration = "receive_duration"

// original reads the list of the original's generator: [TYPE, NAME, {options}].
func (r *reader) original(n *yaml.Node) []spec {
	var specs []spec
	for _, entry := range r.list(n, "persistorServices") {
		if s, ok := r.originalEntry(entry); ok {
			specs = append(specs, s)
		}
	}
	return specs
}

func (r *reader) originalEntry(n *yaml.Node) (s spec, ok bool) {
	if n.Kind != yaml.SequenceNode || len(n.Content) < 2 || len(n.Content) > 3 {
		r.wrong(n, "persistorServices", "expected [TYPE, NAME] or [TYPE, NAME, {options}], got %s", describe(n))
		return s, false
	}
	before := len(r.problems)
	name := r.appName(n.Content[1], "NAME")
	kind := strings.ToUpper(r.text(n.Content[0], name))
	s, known := kinds[kind]
	if !known {
		r.wrong(n.Content[0], name, "%s is no type of persistor, expected one of %s", describe(n.Content[0]), strings.Join(sortedKeys(kinds), ", "))
		return s, false
	}
	s.name = name
	if len(n.Content) == 3 {
		r.originalOptions(&s, kind, n.Content[2])
	}
	r.takeFolder(n.Content[1], name, s.invoker)
	return s, len(r.problems) == before
}

func (r *reader) originalOptions(s *spec, kind string, n *yaml.Node) {
	given := map[string]*yaml.Node{}
	var known []string
	for _, o := range originalOptions {
		if (o.of == nil || slices.Contains(o.of, kind)) && o.name != receiveDuration {
			known = append(known, o.name)
		}
	}
	fields := r.mapping(n, s.name)
	for _, written := range sortedKeys(fields) {
		i := findOption(strings.ToLower(written))
		if i < 0 || originalOptions[i].of != nil && !slices.Contains(originalOptions[i].of, kind) {
			r.drop(fields[written], join(s.name, written), "%s has no such option, only %s", kind, strings.Join(known, ", "))
			continue
		}
		if given[strings.ToLower(written)] != nil {
			r.wrong(fields[written], join(s.name, written), "it is there twice, in another case")
		}
		given[strings.ToLower(written)] = fields[written]
	}
	var card string
	for _, o := range originalOptions {
		value, ok := r.originalValue(join(s.name, o.name), given[o.name], o.values)
		if !ok {
			continue
		}
		o.choose(s, value)
		if o.name == "cardinality" {
			card = value
		}
	}
	r.remark(s, kind, given, card)
}

func findOption(name string) int {
	for i, o := range originalOptions {
		if o.name == name {
			return i
		}
	}
	return -1
}

// originalValue reads a value in any case; true and false may be written without quotes, too.
func (r *reader) originalValue(where string, n *yaml.Node, values []string) (value string, ok bool) {
	if n == nil {
		return "", false
	}
	value = strings.ToLower(n.Value)
	if n.Kind != yaml.ScalarNode || values != nil && !slices.Contains(values, value) {
		r.drop(n, where, "expected %s, got %s", strings.Join(values, " or "), describe(n))
		return "", false
	}
	return value, true
}

// remark does what the original did with options together, and tells what a reader may not expect.
func (r *reader) remark(s *spec, kind string, given map[string]*yaml.Node, cardinality string) {
	if cardinality == "one" && given["timed_append"] == nil && given["append"] != nil && strings.ToLower(given["append"].Value) == "true" {
		s.choose("TIMED_APPEND", "TRUE")
		r.warnings = append(r.warnings, s.name+": append with cardinality one sets TIMED_APPEND, too, as in the original: add timed_append false to have one blob go on")
	}
	if given[receiveDuration] != nil {
		setting := "EVENT_HUB_RECEIVE_DURATION"
		if kind == "SERVICE_BUS_PULL" {
			setting = "SERVICE_BUS_RECEIVE_DURATION"
		}
		r.warnings = append(r.warnings, s.name+": receive_duration has no effect, as in the original: set "+setting+" in local.settings.json")
	}
	if s.output && s.unnamed() {
		r.warnings = append(r.warnings, s.name+": the handler stores these messages itself in spite of output_binding, for the host can't name the blob")
	}
	if s.source == queue && given["sb_type"] == nil && !s.pull {
		r.warnings = append(r.warnings, s.name+": neither a queue nor a topic is chosen, so it is written for a queue: set sb_type")
	}
}
