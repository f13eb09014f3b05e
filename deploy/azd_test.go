package deploy_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// project is as much of azure.yaml (Azure/azure-dev, schemas/v1.0/azure.yaml.json) as is used here.
type project struct {
	Name  string
	Infra struct{ Provider, Path, Module string }
	// Services by the name that the apps are tagged with.
	Services map[string]struct {
		Project, Host, Language, Dist string
		Uses                          []string
		Hooks                         struct{ Prepackage, Postdeploy hooks }
	}
}

type hooks struct{ POSIX, Windows hook }

type hook struct{ Shell, Run string }

func azd(t *testing.T) project {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "azure.yaml")))
	decoder.KnownFields(true)
	var p project
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("azure.yaml: %v", err)
	}
	return p
}

func TestAzureYAML(t *testing.T) {
	p := azd(t)
	if !regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`).MatchString(p.Name) || p.Infra.Provider != "bicep" {
		t.Errorf("azure.yaml: name %q, provider %q", p.Name, p.Infra.Provider)
	}
	template := bicep(t)[p.Infra.Path+"/"+p.Infra.Module+".bicep"]
	if template == nil {
		t.Fatalf("azure.yaml: there is no %s/%s.bicep", p.Infra.Path, p.Infra.Module)
	}
	packages := packages(t)
	for name, service := range p.Services {
		switch {
		case service.Host != "function" || service.Language != "custom":
			t.Errorf("azure.yaml: %s is no function app that is packaged as it stands", name)
		case !slices.Contains(packages, service.Dist):
			t.Errorf("azure.yaml: %s is packaged from %s; generated are %v", name, service.Dist, packages)
		case template.modules[name].file == "":
			t.Errorf("azure.yaml: %s has no app in %s", name, template.file)
		}
		for _, other := range service.Uses {
			if _, ok := p.Services[other]; !ok {
				t.Errorf("azure.yaml: %s uses %s, which there isn't", name, other)
			}
		}
		for _, hooks := range []hooks{service.Hooks.Prepackage, service.Hooks.Postdeploy} {
			if hooks.POSIX.Run == "" {
				continue
			}
			if hooks.POSIX.Shell != "sh" || hooks.Windows.Shell != "pwsh" || !exists(hooks.POSIX.Run) || !exists(hooks.Windows.Run) {
				t.Errorf("azure.yaml: %s: there is no hook %+v", name, hooks)
			}
		}
	}
}

// packages are what `persistor generate --zip` leaves in dist for each source that azd deploys: an app of
// the entry's name, and with "invoker" its invoker beside it.
func packages(t *testing.T) (all []string) {
	t.Helper()
	for _, source := range []string{"eventhub", "servicebus"} {
		var config struct {
			Services [][]json.RawMessage `json:"persistorServices"`
			Output   string
		}
		if err := json.Unmarshal([]byte(read(t, "apps/"+source+".json")), &config); err != nil {
			t.Fatal(err)
		}
		var name string
		if err := json.Unmarshal(config.Services[0][1], &name); err != nil {
			t.Fatal(err)
		}
		all = append(all, config.Output+"/"+name+".zip", config.Output+"/"+name+"-invoker.zip")
	}
	return all
}

// The hooks are scripts, and read no other variables than the deployment and azd set.
func TestHooks(t *testing.T) {
	outputs := bicep(t)["flex/main.bicep"].outputs
	scripts, err := filepath.Glob("hooks/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no hooks: %v", err)
	}
	for _, script := range scripts {
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		other := strings.TrimSuffix(script, ".sh") + ".ps1"
		of := func(file string, pattern string) (names []string) {
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, file), -1) {
				if names = append(names, m[1]); !outputs[m[1]] && m[1] != "AZURE_RESOURCE_GROUP" && m[1] != "PERSISTOR_SOURCE" {
					t.Errorf("%s reads %s, which nobody sets", file, m[1])
				}
			}
			slices.Sort(names)
			return slices.Compact(names)
		}
		if sh, ps := of(script, `\$\{?([A-Z_]+)`), of(other, `\$env:([A-Z_]+)`); !slices.Equal(sh, ps) {
			t.Errorf("%s reads %v, %s %v", script, sh, other, ps)
		}
	}
}
