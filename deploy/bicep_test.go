package deploy_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// bicep reads all templates that there are.
func bicep(t *testing.T) map[string]*template {
	t.Helper()
	files, err := filepath.Glob("*/*.bicep")
	if err != nil || len(files) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	all := map[string]*template{}
	for _, file := range files {
		read, problems := readTemplate(filepath.ToSlash(file), read(t, file))
		if problems != nil {
			t.Fatal(problems)
		}
		all[read.file] = read
	}
	return all
}

func TestBicepIsWhole(t *testing.T) {
	for _, f := range findings(bicep(t)) {
		t.Error(f)
	}
}

// The test above sees what it is for.
func TestBicepFindings(t *testing.T) {
	const whole = "param a string\nmodule m 'm.bicep' = {\n  params: {\n    x: a\n  }\n}\noutput o string = '${m.outputs.y}'\n"
	for _, c := range []struct{ from, to, want string }{
		{"", "", ""},
		{"x: a", "x: b", "main.bicep: line 4: there is no b; main.bicep: nothing uses a"},
		{"x: a", "z: a", "main.bicep: line 2: m.bicep takes no z; main.bicep: line 2: m.bicep wants x"},
		{"m.bicep", "n.bicep", "main.bicep: line 2: there is no file n.bicep"},
		{"outputs.y", "outputs.z", "main.bicep: line 7: m.bicep has no output z"},
		{"y}'", "y}", "main.bicep: line 7: a string without an end"},
		{"  }\n}", "  }\n", "main.bicep: line 2: { is not closed"},
		{"  }\n}", "  ]\n}", "main.bicep: line 5: ] closes nothing"},
	} {
		main, problems := readTemplate("main.bicep", strings.Replace(whole, c.from, c.to, 1))
		if problems == nil {
			other, _ := readTemplate("m.bicep", "param x string\nparam optional string = ''\noutput y string = '${x}${optional}'\n")
			problems = findings(map[string]*template{"main.bicep": main, "m.bicep": other})
		}
		if got := strings.Join(problems, "; "); got != c.want {
			t.Errorf("%q for %q: %q, want %q", c.to, c.from, got, c.want)
		}
	}
}

// Every parameter says what it is for, and every resource its version.
func TestBicepIsExplained(t *testing.T) {
	for file := range bicep(t) {
		previous := ""
		for n, line := range strings.Split(read(t, file), "\n") {
			decorated := strings.HasPrefix(previous, "@") || previous == "])" || strings.HasPrefix(previous, "@description")
			if (strings.HasPrefix(line, "param ") || strings.HasPrefix(line, "output ")) && !decorated {
				t.Errorf("%s: line %d has no description", file, n+1)
			}
			if strings.HasPrefix(line, "resource ") && !regexp.MustCompile(`^resource \w+ 'Microsoft\.[\w.]+(/\w+)+@\d{4}-\d\d-\d\d(-preview)?' (existing )?= `).MatchString(line) {
				t.Errorf("%s: line %d: want resource NAME 'Microsoft.PROVIDER/TYPE@YYYY-MM-DD'", file, n+1)
			}
			previous = line
		}
	}
}

// The ids are those of Azure's built-in roles (learn.microsoft.com, "Azure built-in roles").
func TestRolesAreThePublishedOnes(t *testing.T) {
	published := map[string]string{
		"storageBlobDataOwner":        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
		"storageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
		"storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
		"keyVaultSecretsUser":         "4633458b-17de-408a-b874-0445c86b69e6",
		"keyVaultSecretsOfficer":      "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
		"monitoringMetricsPublisher":  "3913510d-42f4-4e42-8a64-420c390055eb",
		"eventHubsDataReceiver":       "a638d3c7-ab3a-418d-83e6-5f17a39d4fde",
		"serviceBusDataReceiver":      "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0",
		"serviceBusDataOwner":         "090c5cfd-751d-490a-894a-3ce6f1109419",
	}
	id := regexp.MustCompile(`(\w+): '([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'`)
	seen := 0
	for file := range bicep(t) {
		for _, m := range id.FindAllStringSubmatch(read(t, file), -1) {
			if seen++; published[m[1]] != m[2] {
				t.Errorf("%s: role %s is %q, published as %q", file, m[1], m[2], published[m[1]])
			}
		}
	}
	if seen != len(published) {
		t.Errorf("%d roles are used, %d are known here", seen, len(published))
	}
}

// appSetting is a key of an object that may be an app setting.
var appSetting = regexp.MustCompile(`(?m)^\s+((?:[A-Z][A-Z0-9]+_[A-Z0-9_]+|AzureWebJobs\w*)(?:__\w+)?): `)

func TestBicepSettingsAreKnown(t *testing.T) {
	seen := 0
	for file := range bicep(t) {
		for _, m := range appSetting.FindAllStringSubmatch(read(t, file), -1) {
			if seen++; !known(m[1]) {
				t.Errorf("%s: no program reads the setting %s", file, m[1])
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d settings were found: the pattern has gone blind", seen)
	}
}

// No key gets out, and none gets in: outputs are names and addresses, and storage knows no keys at all.
func TestBicepHasNoKeys(t *testing.T) {
	for file, template := range bicep(t) {
		for _, word := range []string{"listKeys", "listkeys", "AccountKey", "connectionString:", "SharedAccessKey="} {
			if strings.Contains(read(t, file), word) {
				t.Errorf("%s: %s: connections are made by identity", file, word)
			}
		}
		for output := range template.outputs {
			if regexp.MustCompile(`(?i)key|secret|password`).MatchString(output) {
				t.Errorf("%s: output %s: outputs stay in the deployment's history", file, output)
			}
		}
	}
	if !strings.Contains(read(t, "modules/foundation.bicep"), "allowSharedKeyAccess: false") {
		t.Error("modules/foundation.bicep: storage takes keys")
	}
}

// The parameters of azd's environment are parameters of the template, and its apps are azd's services.
func TestBicepParameters(t *testing.T) {
	main := bicep(t)["flex/main.bicep"]
	for _, line := range lines(read(t, "flex/main.bicepparam")) {
		fields := strings.Fields(line)
		if fields[0] != "param" {
			continue
		}
		if _, ok := main.params[fields[1]]; !ok {
			t.Errorf("flex/main.bicepparam: flex/main.bicep takes no %s", fields[1])
		}
	}
	for _, plan := range []string{"flex", "premium"} {
		text := read(t, plan+"/main.bicep")
		for service := range bicep(t)[plan+"/main.bicep"].modules {
			isApp := strings.Contains(text, fmt.Sprintf("module %s 'app.bicep'", service))
			if isApp != strings.Contains(text, fmt.Sprintf("serviceName: '%s'", service)) || isApp != strings.Contains(text, "settings.outputs."+service) {
				t.Errorf("%s/main.bicep: app %s: its service and its settings are to be called so, too", plan, service)
			}
		}
	}
}
