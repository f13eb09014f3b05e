// Package deploy_test checks what deploy/ holds, and what docs/ say of it, against the programs: settings
// that there are, paths that are served, files that exist. What only the services themselves can tell, such
// as whether a region has a plan, is not tested here.
package deploy_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"persistor/internal/config"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// known tells whether a program, or the Functions host, reads an app setting of this name.
func known(name string) bool {
	return slices.ContainsFunc(config.Settings(), func(s config.Setting) bool { return s.Name == name || s.Alias == name }) ||
		slices.ContainsFunc(hostSettings, func(r *regexp.Regexp) bool { return r.MatchString(name) })
}

// hostSettings are those that the Functions host or its platform reads, and no program does.
var hostSettings = []*regexp.Regexp{
	regexp.MustCompile(`^AzureWebJobsStorage__(accountName|credential|clientId)$`),
	regexp.MustCompile(`^APPLICATIONINSIGHTS_(CONNECTION_STRING|AUTHENTICATION_STRING)$`),
	regexp.MustCompile(`^FUNCTIONS_(EXTENSION_VERSION|WORKER_RUNTIME)$`),
	regexp.MustCompile(`^WEBSITE_RUN_FROM_PACKAGE(_BLOB_MI_RESOURCE_ID)?$`),
	// Triggers connect by themselves.
	regexp.MustCompile(`^(EVENT_HUB_BINDING_CONNECTION_STR|SERVICE_BUS_BINDING_CONNECTION_STRING)__(fullyQualifiedNamespace|credential|clientId)$`),
	regexp.MustCompile(`^PERSISTOR_STORAGE_CONNECTION_STRING__queueServiceUri$`),
	// Names in function.json, which the host puts the values of into triggers.
	regexp.MustCompile(`^PERSISTOR_(SCHEDULE|QUEUE)$`),
}

func TestKnownSettings(t *testing.T) {
	for name, want := range map[string]bool{
		"EVENT_HUB_NAME": true, "EVENT_HUB_PULL_BATCH_SIZE": true, "AzureWebJobsStorage__clientId": true, "EVENT_HUB_NAMES": false, "AzureWebJobsStorage": false,
	} {
		if known(name) != want {
			t.Errorf("known(%q) = %v", name, !want)
		}
	}
}

// lines without blanks around them, and without empty ones.
func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}
