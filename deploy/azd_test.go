package deploy_test

import (
	"os"
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
	made := map[string][]string{"eventhub": nil, "servicebus": nil}
	for source := range made {
		for _, app := range generated(t, source) {
			made[source] = append(made[source], "dist/"+filepath.Base(app.Package))
		}
	}
	for name, service := range p.Services {
		switch {
		case service.Host != "function" || service.Language != "custom":
			t.Errorf("azure.yaml: %s is no function app that is packaged as it stands", name)
		case !slices.Contains(made["eventhub"], service.Dist) || !slices.Contains(made["servicebus"], service.Dist):
			t.Errorf("azure.yaml: %s is packaged from %s; generated are %v", name, service.Dist, made)
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

// The step that connects the invoker hands the key over by a pipe alone: no argument has it, which every
// process of the machine could read, and nothing prints it. Without a key it changes nothing. The program az
// that it calls is here one that notes what it is given.
func TestConnectKeepsTheKey(t *testing.T) {
	const az = `#!/bin/sh
echo "$*" >> "$NOTES"
case "$1 $2 $3" in
"functionapp keys list") printf '%s\n' "$KEY" ;;
"keyvault secret set") cat > "$SECRET" ;;
esac
`
	for _, key := range []string{"k3y-of_the-worker==", ""} {
		dir := t.TempDir()
		notes, secret := filepath.Join(dir, "notes"), filepath.Join(dir, "secret")
		if err := os.WriteFile(filepath.Join(dir, "az"), []byte(az), 0o755); err != nil {
			t.Fatal(err)
		}
		connect := exec.CommandContext(t.Context(), "sh", "hooks/connect.sh")
		connect.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "NOTES="+notes, "SECRET="+secret, "KEY="+key,
			"AZURE_RESOURCE_GROUP=drain", "WORKER_NAME=w", "WORKER_URL=https://w.azurewebsites.net/api/pull", "INVOKER_NAME=i", "VAULT_NAME=v")
		printed, err := connect.CombinedOutput()
		calls := lines(read(t, notes))
		if key == "" {
			if err == nil || len(calls) != 1 || exists(secret) {
				t.Errorf("without a key: %v, %q called", err, calls)
			}
			continue
		}
		if err != nil || len(calls) != 3 || !strings.HasPrefix(calls[2], "functionapp restart --resource-group drain --name i") {
			t.Errorf("%v: %s; called were %q", err, printed, calls)
		}
		if got := read(t, secret); got != "https://w.azurewebsites.net/api/pull?code="+key {
			t.Errorf("the secret is %q", got)
		}
		if strings.Contains(string(printed)+strings.Join(calls, "\n"), key) {
			t.Errorf("the key shows: printed %q, called %q", printed, calls)
		}
	}
}
