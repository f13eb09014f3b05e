package config

import (
	"fmt"
	"slices"
	"strings"
)

// Setting describes one app setting, for documentation.
type Setting struct {
	Name      string
	Alias     string  // another name that is accepted; "" for none
	Service   Service // the one that the setting is about; "" for all
	Programs  []string
	Required  bool
	Secret    bool
	Group     string // of settings that are explained together; "" for none
	Default   string // as a user would write it; "" for none
	Otherwise string // what holds when it is not set and there is no Default, in words
	Expected  string // ends the sentence "expected ..."
	Meaning   string
}

// Settings are all that the programs read, in the order in which they are explained. What a name means to one
// program and not to another is a setting of its own.
func Settings() []Setting {
	var all []Setting
	add := func(program string, settings []setting) {
		for _, s := range settings {
			i := slices.IndexFunc(all, func(known Setting) bool { return known.Name == s.name && known.Meaning == s.meaning })
			if i >= 0 {
				all[i].Programs = append(all[i].Programs, program)
				if all[i].Otherwise != s.otherwise { // where each listens
					all[i].Otherwise += " (worker), " + s.otherwise + " (invoker)"
				}
				continue
			}
			all = append(all, Setting{
				Name: s.name, Alias: s.alias, Service: s.service, Programs: []string{program}, Required: s.required, Secret: s.secret, Group: s.group,
				Default: s.fallback, Otherwise: s.otherwise, Expected: s.value.expected, Meaning: s.meaning,
			})
		}
	}
	add("worker", new(Worker).settings(new(bool), new(exports)))
	add("invoker", new(Invoker).settings(new(bool), new(exports)))
	add("push", new(Push).settings(new(Secret), new(exports)))
	return all
}

// Reference is docs/settings.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Settings

<!-- Written from internal/config by "go test ./internal/config -update". -->

The worker, the invoker and the push program are set up by environment variables; in a function app those are its app
settings. A program that starts checks all of its settings and names every one that is missing or wrong. An empty
setting is as good as none. The names and defaults of the original Persistor hold; those of its other variants are ignored.

` + "`SERVICE_TYPE` chooses what worker and invoker drain: an Event Hub (`EVENT_HUB_PULL`, the default), or a queue or a topic's" + `
subscription of Service Bus (` + "`SERVICE_BUS_PULL`). The push program runs `BINDING`, and `BINDING_SERVICE`" + ` says whose trigger brings
its messages. The settings of a service not chosen are ignored, so that one set of app settings can hold all.

TRUE, FALSE and words may be written in any case. Times are seconds, decimals allowed, or durations such as ` + "`90s` or `2m`" + `.
Sizes are bytes, or written such as ` + "`512KiB` or `4MiB`" + `. A key or connection string is never shown in a log, an error or a report.

**Connections** take one of two forms. Either the setting itself is a connection string, or, by the convention of
Azure Functions, its name followed by ` + "`__fullyQualifiedNamespace` (Event Hubs, Service Bus) or `__blobServiceUri`" + ` (storage)
says where to go, and the program's identity opens the door: the default chain of Azure credentials, or with
` + "`__credential=managedidentity` the managed identity, a user-assigned one by `__clientId`" + `. It needs the roles:

| To | Role |
|---|---|
| drain an Event Hub | Azure Event Hubs Data Receiver |
| drain Service Bus | Azure Service Bus Data Receiver |
| have the invoker read how many messages wait in Service Bus, so that it can choose ` + "`N`" + ` by itself | Azure Service Bus Data Owner, or a key with the right Manage; without it every call gives ` + "`N`" + ` |
| store blobs and checkpoints, and keep the lease of the run under way (the invoker, too) | Storage Blob Data Contributor |
`)
	for _, part := range []struct {
		service   Service
		title, of string
	}{
		{"", "All services", "The programs read these whatever the service."},
		{EventHub, "Event Hubs", "Read where `SERVICE_TYPE` is `EVENT_HUB_PULL`."},
		{ServiceBus, "Service Bus", "Read where `SERVICE_TYPE` is `SERVICE_BUS_PULL`."},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| Setting | Program | Default | Meaning |\n|---|---|---|---|\n", part.title, part.of)
		for _, s := range Settings() {
			if s.Service == part.service && !s.ofPush() && s.Group == "" {
				b.WriteString(s.row())
			}
		}
	}
	b.WriteString("\n## Push\n\nRead by the push program alone, beside those above that name it.\n\n| Setting | Default | Meaning |\n|---|---|---|\n")
	for _, s := range Settings() {
		if s.ofPush() {
			b.WriteString(strings.Replace(s.row(), "| push ", "", 1))
		}
	}
	b.WriteString("\n## Telemetry\n\nThe settings that OpenTelemetry gives every program, as far as they mean something here: [telemetry.md](telemetry.md).\nTimes are milliseconds. The rest of them (`OTEL_BSP_*`, `OTEL_SPAN_*`) goes to the SDK as it is.\n\n| Setting | Default | Meaning |\n|---|---|---|\n")
	for _, s := range Settings() {
		if s.Group == telemetryGroup {
			b.WriteString(strings.Replace(s.row(), "| "+strings.Join(s.Programs, ", ")+" ", "", 1))
		}
	}
	return b.String()
}

// ofPush reports whether the push program alone reads the setting.
func (s Setting) ofPush() bool { return slices.Equal(s.Programs, []string{"push"}) }

// row is the setting's line in a table.
func (s Setting) row() string {
	name := "`" + s.Name + "`"
	if s.Alias != "" {
		name += " or `" + s.Alias + "`"
	}
	fallback := s.Otherwise
	switch {
	case s.Required:
		fallback = "required"
	case s.Default != "":
		fallback = "`" + s.Default + "`"
	}
	meaning := s.Meaning
	if s.Secret {
		meaning += " Secret."
	}
	return fmt.Sprintf("| %s | %s | %s | %s Expected: %s. |\n", name, strings.Join(s.Programs, ", "), fallback, meaning, s.Expected)
}
