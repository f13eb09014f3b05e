package generate

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"unicode"

	"go.yaml.in/yaml/v3"

	"persistor/functions"
	"persistor/internal/config"
)

// sources, and what else one can choose among.
var (
	sources     = []string{eventGrid, eventHub, queue, topic}
	approaches  = []string{"push", "pull"}
	cardinality = []string{"one", "many"}
	appends     = []string{"none", "joined", "by-minute"}
	outputs     = []string{"client", "binding"}
	pushOptions = []string{"cardinality", "output"}
	pullOptions = []string{"invoker"}
	appOptions  = slices.Concat([]string{"name", "source", "approach", "append", "metadata", "settings"}, pushOptions, pullOptions)
)

// maxSettings bounds the settings of one app.
const maxSettings = 200

// apps reads the list of the form of our own.
func (r *reader) apps(n *yaml.Node) []spec {
	var specs []spec
	for _, entry := range r.list(n, "apps") {
		if s, ok := r.app(entry); ok {
			specs = append(specs, s)
		}
	}
	return specs
}

func (r *reader) app(n *yaml.Node) (s spec, ok bool) {
	fields := r.mapping(n, "apps")
	if fields == nil {
		return s, false
	}
	before := len(r.problems)
	if fields["name"] == nil {
		r.wrong(n, "apps", "an entry has no name")
	}
	s.name = r.appName(fields["name"], "apps: name")
	if r.chooseSource(&s, n, fields) {
		r.chooseForm(&s, fields)
	}
	if s.name != "" {
		r.takeFolder(fields["name"], s.name, s.invoker)
	}
	return s, len(r.problems) == before
}

// chooseSource reads what decides which options there are.
func (r *reader) chooseSource(s *spec, n *yaml.Node, fields map[string]*yaml.Node) bool {
	if fields["source"] == nil {
		r.wrong(n, s.name, "it has no source, expected one of %s", strings.Join(sources, ", "))
		return false
	}
	s.source = r.choice(r.wrong, fields["source"], join(s.name, "source"), sources)
	approach := r.choice(r.wrong, fields["approach"], join(s.name, "approach"), approaches)
	s.pull = approach == "pull"
	switch {
	case s.source == eventGrid && s.pull:
		r.wrong(fields["approach"], join(s.name, "approach"), "Event Grid can't be pulled from: expected push")
		return false
	case s.source != eventGrid && s.source != "" && fields["approach"] == nil:
		r.wrong(n, s.name, "it has no approach, expected push or pull")
		return false
	}
	return s.source != "" && (approach != "" || fields["approach"] == nil)
}

// chooseForm reads everything else.
func (r *reader) chooseForm(s *spec, fields map[string]*yaml.Node) {
	known, approach := slices.Clone(appOptions), "push"
	without := pullOptions
	if s.pull {
		without, approach = pushOptions, "pull"
	}
	known = slices.DeleteFunc(known, func(name string) bool { return slices.Contains(without, name) })
	for _, name := range without {
		if fields[name] != nil {
			r.drop(fields[name], join(s.name, name), "an app whose approach is %s has no such option, only %s", approach, strings.Join(known, ", "))
			delete(fields, name)
		}
	}
	r.unknown(fields, s.name, known)

	if s.pull && s.source != eventHub {
		s.choose("SERVICE_BUS_TYPE", strings.ToUpper(strings.TrimPrefix(s.source, "service-bus-")))
		s.chooseEntity()
	}
	if !s.pull {
		r.chooseOutput(s, fields)
	}
	mode := r.choice(r.drop, fields["append"], join(s.name, "append"), appends)
	if s.output && mode != "" && mode != "none" {
		r.drop(fields["append"], join(s.name, "append"), "an output binding writes a blob for each message: expected none, or output: client")
		mode = ""
	}
	if mode != "" {
		s.choose("APPEND", upper(mode != "none"))
		s.choose("TIMED_APPEND", upper(mode == "by-minute"))
	}
	if on, ok := r.boolean(fields["metadata"], join(s.name, "metadata")); ok {
		s.choose("GET_METADATA", upper(on))
	}
	r.chooseInvoker(s, fields["invoker"])
	r.chooseSettings(s, fields["settings"])
	r.checkSettings(s, fields)
}

// chooseOutput reads how a push gets its messages, and who stores them.
func (r *reader) chooseOutput(s *spec, fields map[string]*yaml.Node) {
	output := r.choice(r.drop, fields["output"], join(s.name, "output"), outputs)
	if s.source == eventGrid && output == "binding" {
		r.drop(fields["output"], join(s.name, "output"), "the host can't name a blob by what identifies an event of Event Grid: expected client")
		output = ""
	}
	s.output = output == "binding"
	if output != "" {
		s.choose("PERSISTOR_OUTPUT_BINDING", upper(s.output))
	}
	switch r.choice(r.drop, fields["cardinality"], join(s.name, "cardinality"), cardinality) {
	case "many":
		if s.many = !s.output; s.output {
			r.drop(fields["cardinality"], join(s.name, "cardinality"), "an output binding writes messages one by one: expected one, or output: client")
		}
	case "":
		s.many = s.source != eventGrid && !s.output
	}
}

// chooseInvoker reads true, false, or the triggers that the invoker is to have besides HTTP.
func (r *reader) chooseInvoker(s *spec, n *yaml.Node) {
	where := join(s.name, "invoker")
	if n == nil || n.Kind == yaml.ScalarNode {
		s.invoker, _ = r.boolean(n, where)
		return
	}
	fields := r.mapping(n, where)
	if fields == nil {
		return
	}
	s.invoker = true
	r.unknown(fields, where, []string{"schedule", "queue"})
	s.schedule = r.text(fields["schedule"], join(where, "schedule"))
	s.queue = r.text(fields["queue"], join(where, "queue"))
}

// chooseSettings reads app settings by name. Those that a program doesn't know would do nothing, silently.
func (r *reader) chooseSettings(s *spec, n *yaml.Node) {
	where := join(s.name, "settings")
	fields := r.mapping(n, where)
	if len(fields) > maxSettings {
		r.wrong(n, where, "there are %d, expected at most %d", len(fields), maxSettings)
		return
	}
	program := "push"
	if s.pull {
		program = "worker"
	}
	for _, name := range sortedKeys(fields) {
		value := fields[name]
		switch {
		case s.chosen(name):
			r.drop(value, join(where, name), "an option of the app chooses it: remove it here")
		case value.Kind != yaml.ScalarNode || value.ShortTag() == "!!null":
			r.drop(value, join(where, name), "expected text, a number or true or false, got %s", describe(value))
		case strings.ContainsFunc(value.Value, unicode.IsControl):
			r.drop(value, join(where, name), "has a line break or another control character in it")
		case isOf(program, name):
			s.set = append(s.set, Setting{name, value.Value})
		case s.invoker && isOf("invoker", name):
			s.invokerSet = append(s.invokerSet, Setting{name, value.Value})
		case s.pull && isOf("invoker", name):
			r.drop(value, join(where, name), "it is the invoker's, which the app doesn't have: add invoker: true")
		default:
			r.drop(value, join(where, name), "the %s knows no such setting; docs/settings.md has those that there are", program)
		}
	}
}

// checkSettings has the programs read the settings that were chosen. What they lack yet is the user's to fill in.
func (r *reader) checkSettings(s *spec, fields map[string]*yaml.Node) {
	seen := map[string]bool{} // workers and invoker read some of the same
	for _, a := range s.apps() {
		for _, p := range a.problems() {
			i := slices.IndexFunc(a.Set, func(c Setting) bool { return c.Name == p.Setting })
			if i < 0 || strings.HasPrefix(a.Set[i].Value, reference) {
				continue
			}
			where, node := join("settings", p.Setting), value(fields["settings"], p.Setting)
			for option, setting := range triggers {
				if node == nil && setting == p.Setting {
					where, node = join("invoker", option), value(fields["invoker"], option)
				}
			}
			if node != nil && !seen[where] {
				seen[where] = true
				r.wrong(node, join(s.name, where), "%s", p.Problem)
			}
		}
	}
}

// reference is what a value begins with that the platform replaces, by that of a vault's secret for example.
// https://learn.microsoft.com/azure/app-service/app-service-key-vault-references
const reference = "@Microsoft."

// triggers are the settings of an invoker's triggers, by option.
var triggers = map[string]string{"schedule": "PERSISTOR_SCHEDULE", "queue": "PERSISTOR_QUEUE"}

// value is what a mapping has by a name; nil if there is nothing.
func value(mapping *yaml.Node, name string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// problems are what an app's program finds wrong with its settings.
func (a App) problems() []config.Problem {
	settings := map[string]string{}
	for _, s := range a.settings(nil) {
		settings[s.Name] = s.Value
	}
	lookup := func(name string) (string, bool) { value, ok := settings[name]; return value, ok }
	var err error
	switch functions.Program(a.Variant) {
	case "worker":
		_, err = config.ReadWorker(lookup)
	case "invoker":
		_, err = config.ReadInvoker(lookup)
	case "push":
		_, err = config.ReadPush(lookup)
	}
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
		return wrong.Problems
	}
	return nil
}

// byOption are settings that follow from what kind of app it is.
var byOption = []string{"SERVICE_TYPE", "BINDING_SERVICE", "SERVICE_BUS_TYPE", "PERSISTOR_OUTPUT_BINDING", "FUNCTIONS_WORKER_RUNTIME"}

// isOf reports whether a program, or the host in its place, reads a setting.
func isOf(program, name string) bool {
	for _, prefix := range []string{"AzureWebJobs", "AzureFunctionsJobHost__", "FUNCTIONS_", "WEBSITE_", "APPLICATIONINSIGHTS_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	base, form, _ := strings.Cut(name, "__")
	return settingsOf()[program][name] || settingsOf()[program][base] && !open()[base] && slices.Contains(identityForms, form)
}

// identityForms are what may follow the name of a connection and two underscores.
// https://learn.microsoft.com/azure/azure-functions/functions-reference#configure-an-identity-based-connection
var identityForms = []string{"accountName", "blobServiceUri", "queueServiceUri", "serviceUri", "fullyQualifiedNamespace",
	"credential", "clientId", "managedIdentityResourceId", "tenantId"}

// settingsOf are the names of the settings that each program, or the host for it, reads.
var settingsOf = sync.OnceValue(func() map[string]map[string]bool {
	names := map[string]map[string]bool{}
	for _, program := range functions.Programs() {
		names[program] = map[string]bool{}
		for _, s := range config.Settings() {
			if slices.ContainsFunc(s.Programs, func(p string) bool { return p == program || strings.HasPrefix(p, program+" ") }) {
				names[program][s.Name] = true
				names[program][s.Alias] = s.Alias != ""
			}
		}
	}
	for variant, settings := range presets() {
		for _, s := range settings {
			names[functions.Program(variant)][s.Name] = true
		}
	}
	return names
})

// choice returns one of the values, or "" when there is none or another.
func (r *reader) choice(complain complaint, n *yaml.Node, where string, values []string) string {
	switch {
	case n == nil:
		return ""
	case n.Kind != yaml.ScalarNode || !slices.Contains(values, n.Value):
		complain(n, where, "expected one of %s, got %s", strings.Join(values, ", "), describe(n))
		return ""
	}
	return n.Value
}

// complaint is how a problem is noted: as one, or as what can be left out.
type complaint func(n *yaml.Node, where, format string, args ...any)

// boolean returns true or false.
func (r *reader) boolean(n *yaml.Node, where string) (on, ok bool) {
	if n == nil {
		return false, false
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&on) != nil {
		r.drop(n, where, "expected true or false, got %s", describe(n))
		return false, false
	}
	return on, true
}
