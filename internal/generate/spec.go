package generate

import (
	"maps"
	"slices"
)

// Services that messages come from.
const (
	eventGrid = "event-grid"
	eventHub  = "event-hub"
	queue     = "service-bus-queue"
	topic     = "service-bus-topic"
)

// invokerSuffix makes the name of an invoker's app of that of its workers.
const invokerSuffix = "-invoker"

// spec is an entry of a configuration, whichever form it has.
type spec struct {
	name   string
	source string
	pull   bool
	many   bool // of a push: messages come in batches
	output bool // of a push: the blob is an output binding
	// invoker has an app beside the workers'; the two names turn its triggers on.
	invoker         bool
	schedule, queue string
	// set are the settings that options chose, and omit those that they made redundant.
	set  []Setting
	omit []string
	// invokerSet are chosen settings of the invoker's app alone.
	invokerSet []Setting
}

// apps are the function apps that an entry asks for.
func (s spec) apps() []App {
	if !s.pull {
		return []App{{Name: s.name, Variant: s.pushVariant(), Set: s.set, Omit: s.omit}}
	}
	service := "event-hub"
	if s.source != eventHub {
		service = "service-bus"
	}
	apps := []App{{Name: s.name, Variant: "worker-" + service, Set: s.set, Omit: s.omit}}
	if s.invoker {
		apps = append(apps, App{Name: s.name + invokerSuffix, Variant: "invoker-" + service, Set: s.ofInvoker(), Omit: s.omit, Workers: s.name})
	}
	return apps
}

// pushVariant chooses by form.
func (s spec) pushVariant() string {
	switch {
	case s.many:
		return s.source + "-many"
	case s.output && !s.unnamed():
		return s.source + "-output"
	}
	return s.source + "-one"
}

// unnamed reports whether there is nothing in what the host hands over that identifies it and that the path
// of an output binding can name: a batch, or an event of Event Grid. Then the program stores it itself.
func (s spec) unnamed() bool { return s.many || s.source == eventGrid }

// ofInvoker are the chosen settings of the invoker's app: those it shares with the workers, and its own.
func (s spec) ofInvoker() []Setting {
	var set []Setting
	for _, c := range s.set {
		if isOf("invoker", c.Name) {
			set = append(set, c)
		}
	}
	return slices.Concat(set, s.triggers(), s.invokerSet)
}

// triggers are the settings that turn on what starts the invoker's runs besides HTTP.
func (s spec) triggers() (set []Setting) {
	if s.schedule != "" {
		set = append(set, Setting{triggers["schedule"], s.schedule}, Setting{"AzureWebJobs.schedule.Disabled", "false"})
	}
	if s.queue != "" {
		set = append(set, Setting{triggers["queue"], s.queue}, Setting{"AzureWebJobs.queue.Disabled", "false"})
	}
	return set
}

// chosen reports whether it is by an option that a setting has its value.
func (s spec) chosen(name string) bool {
	return slices.Contains(byOption, name) || slices.ContainsFunc(slices.Concat(s.set, s.triggers()), func(c Setting) bool { return c.Name == name })
}

// choose notes a setting that an option chose. The last word on a setting holds.
func (s *spec) choose(name, value string) {
	s.set = slices.DeleteFunc(s.set, func(c Setting) bool { return c.Name == name })
	s.set = append(s.set, Setting{name, value})
}

// chooseEntity leaves the settings out that a worker needs for the other kind of entity.
func (s *spec) chooseEntity() {
	if s.source == topic {
		s.omit = []string{"SERVICE_BUS_QUEUE_NAME"}
	} else {
		s.omit = []string{"SERVICE_BUS_TOPIC_NAME", "SERVICE_BUS_SUB_NAME"}
	}
}

func upper(yes bool) string {
	if yes {
		return "TRUE"
	}
	return "FALSE"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
