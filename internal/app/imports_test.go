package app

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Imports point one way, and the services' SDKs are known only where they have to be: docs/design.md.
func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "persistor/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		imports[strings.TrimPrefix(fields[0], "persistor/")] = fields[1:]
	}

	// What each package may import of this module.
	allowed := map[string][]string{
		"emulator":                 nil,
		"internal/message":         nil,
		"internal/work":            nil,
		"internal/azurite":         nil,
		"internal/document":        nil,
		"internal/store":           {"internal/document"},
		"internal/host":            nil,
		"internal/host/hosttest":   nil,
		"internal/record":          {"internal/message"},
		"internal/pull":            {"internal/record", "internal/message", "internal/work"},
		"internal/amqpclient":      {"internal/message"},
		"internal/pull/eventhub":   {"internal/pull", "internal/amqpclient", "internal/message", "internal/work"},
		"internal/pull/servicebus": {"internal/pull", "internal/amqpclient", "internal/message"},
		"internal/push":            {"internal/host", "internal/pull", "internal/record", "internal/message", "internal/work"},
		"internal/fanout":          {"internal/record", "internal/work"},
		"internal/ledger":          {"internal/document", "internal/record", "internal/work"},
		"internal/backfill":        {"internal/fanout", "internal/ledger", "internal/pull", "internal/record", "internal/work"},
		"internal/api":             {"internal/fanout", "internal/ledger", "internal/record", "internal/work"},
		"internal/remote":          {"internal/api", "internal/config", "internal/fanout", "internal/ledger"},
		"internal/selection":       {"internal/message", "internal/record", "internal/store"},
		"internal/terminal":        nil,
		"functions":                nil,
		"internal/generate":        {"functions", "internal/config"},
		"internal/config":          {"internal/work"},
		"internal/telemetry":       {"internal/config", "internal/fanout", "internal/pull", "internal/work"},
		"internal/replay":          {"internal/message", "internal/record", "internal/selection", "internal/publish", "internal/document"},
		"internal/publish":         {"internal/message", "internal/config", "internal/amqpclient"},
		"internal/audit":           {"internal/message", "internal/record", "internal/store", "internal/work"},
	}
	for name, may := range allowed {
		imported, ok := imports[name]
		if !ok {
			t.Errorf("there is no package %s", name)
		}
		for _, i := range imported {
			of, own := strings.CutPrefix(i, "persistor/")
			if own && !slices.Contains(may, of) && !strings.HasPrefix(of, name+"/internal/") {
				t.Errorf("%s imports %s; it may import of this module: %v", name, of, may)
			}
		}
	}

	// Which packages may import an Azure SDK or go-amqp themselves.
	sdk := []string{
		"internal/pull/eventhub", "internal/pull/servicebus", "internal/store", "internal/publish",
		"internal/amqpclient",    // what the two clients share
		"internal/config",        // azidentity, for the identity that settings describe
		"internal/app",           // the checkpoint store
		"internal/demo",          // the consumer that dead-letters
		"bench",                  // the bare client, to compare with
		"internal/host/hosttest", // what the Functions host listens to and writes to
	}
	for name, imported := range imports {
		for _, i := range imported {
			if strings.HasPrefix(i, "github.com/Azure/") && !slices.Contains(sdk, name) {
				t.Errorf("%s imports %s; only %v may", name, i, sdk)
			}
		}
	}

	// Who tells of something knows OpenTelemetry's API at most; the SDK and its exporters are known in one place.
	for name, imported := range imports {
		for _, i := range imported {
			if (strings.HasPrefix(i, "go.opentelemetry.io/otel/sdk") || strings.HasPrefix(i, "go.opentelemetry.io/otel/exporters")) && !strings.HasPrefix(name, "internal/telemetry") {
				t.Errorf("%s imports %s; only internal/telemetry may", name, i)
			}
		}
	}

	// Nothing is called what says nothing.
	for name := range imports {
		for _, word := range []string{"common", "util", "utils", "helper", "helpers", "model", "models", "misc"} {
			if slices.Contains(strings.Split(name, "/"), word) {
				t.Errorf("package %s: %s is no noun of the problem", name, word)
			}
		}
	}

	// The loop, the planner and the records carry no SDK in with them, however far down.
	for _, name := range []string{"emulator", "internal/pull", "internal/record", "internal/fanout", "internal/ledger", "internal/api", "internal/host", "internal/push"} {
		out, err := exec.Command("go", "list", "-deps", "persistor/"+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range []string{"github.com/Azure/", "go.opentelemetry.io/otel/sdk", "google.golang.org/grpc"} {
			if i := strings.Index(string(out), module); i >= 0 {
				dependency, _, _ := strings.Cut(string(out[i:]), "\n")
				t.Errorf("%s depends on %s", name, dependency)
			}
		}
	}
}
