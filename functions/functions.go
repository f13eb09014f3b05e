// Package functions holds the function apps that Persistor can be, one folder for each variant, complete
// but for the program: host.json, a folder with function.json for each function, local.settings.json and
// .funcignore. The program goes beside them by the name of [Handler]; internal/generate puts both
// together.
//
// The files are what is deployed, byte for byte, and what "go test ./functions -update" writes from the
// tables in write_test.go and sources_test.go, so that what variants have in common is said once.
// docs/generate.md says why host.json and function.json are as they are.
package functions

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Handler is the file name of the program in a function app, as host.json names it.
const Handler = "handler"

// Files of a function app.
const (
	HostFile     = "host.json"
	FunctionFile = "function.json"
	SettingsFile = "local.settings.json"
	IgnoreFile   = ".funcignore"
)

//go:embed all:event-grid-one all:event-grid-many
//go:embed all:event-hub-one all:event-hub-many all:event-hub-output
//go:embed all:service-bus-queue-one all:service-bus-queue-many all:service-bus-queue-output
//go:embed all:service-bus-topic-one all:service-bus-topic-many all:service-bus-topic-output
//go:embed all:worker-event-hub all:worker-service-bus
//go:embed all:invoker-event-hub all:invoker-service-bus
var folders embed.FS

// Variants are the names of all variants, which are their folders' names, sorted.
func Variants() []string {
	entries, err := folders.ReadDir(".")
	if err != nil {
		panic(err) // the files are part of this program
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Files is a variant's folder. An error says that there is no such variant, and which there are.
func Files(variant string) (fs.FS, error) {
	if !slices.Contains(Variants(), variant) {
		return nil, fmt.Errorf("read function app %q: there is none of this name, only %s", variant, strings.Join(Variants(), ", "))
	}
	return fs.Sub(folders, variant)
}

// Programs are the programs that handle functions, by the names of their folders below cmd.
func Programs() []string { return []string{"worker", "invoker", "push"} }

// Program is the one of [Programs] that a variant's functions are handled by.
func Program(variant string) string {
	kind, _, _ := strings.Cut(variant, "-")
	if slices.Contains([]string{"worker", "invoker"}, kind) {
		return kind
	}
	return "push"
}

// Names are the functions of each program, by the names of their folders, which are also what the host
// calls them by.
func Names() map[string][]string {
	return map[string][]string{
		"worker":  {"pull", "status"},
		"invoker": {"invoke", "schedule", "queue", "backfill_start", "backfill", "runs", "state"},
		"push":    {"persist"},
	}
}
