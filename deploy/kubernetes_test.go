package deploy_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"persistor/internal/api"
	"persistor/internal/config"
)

var overlays = []string{"event-hub", "service-bus"}

// workload is what this test reads of a Deployment, or of a CronJob's job.
type workload struct {
	Grace     int64  `json:"terminationGracePeriodSeconds"`
	Service   string `json:"serviceAccountName"`
	Security  struct{ RunAsNonRoot bool }
	Container []struct {
		Image           string
		Args            []string
		EnvFrom         []struct{ ConfigMapRef struct{ Name string } }
		Env             []struct{ Name string }
		Ports           []struct{ ContainerPort int }
		ReadinessProbe  probe
		LivenessProbe   probe
		Resources       struct{ Requests, Limits map[string]string }
		SecurityContext struct{ ReadOnlyRootFilesystem, AllowPrivilegeEscalation bool }
	} `json:"containers"`
}

type probe struct{ HTTPGet struct{ Path string } }

// cluster is a rendered overlay: objects by kind and name.
type cluster map[string]map[string]any

func render(t *testing.T, overlay string) cluster {
	t.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "kubernetes/"+overlay)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{}
	for _, r := range rendered.Resources() {
		object, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		c[r.GetKind()+"/"+r.GetName()] = object
	}
	return c
}

// named returns the one object whose kind and name begin so; kustomize appends hashes to names of settings.
func (c cluster) named(t *testing.T, prefix string) map[string]any {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(c)) {
		if strings.HasPrefix(key, prefix) {
			return c[key]
		}
	}
	t.Fatalf("there is no %s; there are %v", prefix, slices.Sorted(maps.Keys(c)))
	return nil
}

// at reads what lies at a path of an object into v, by way of JSON.
func at(t *testing.T, object map[string]any, path string, v any) {
	t.Helper()
	var found any = object
	for _, field := range strings.Split(path, ".") {
		m, _ := found.(map[string]any)
		if found = m[field]; found == nil {
			t.Fatalf("%s %v has nothing at %s", object["kind"], object["metadata"], path)
		}
	}
	text, err := json.Marshal(found)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s at %s: %v", object["kind"], path, err)
	}
}

// settings are those of the ConfigMap, and a key as the secret has it.
func (c cluster) settings(t *testing.T) map[string]string {
	t.Helper()
	settings := map[string]string{}
	at(t, c.named(t, "ConfigMap/persistor-"), "data", &settings)
	settings["WORKER_KEY"] = strings.Repeat("0123456789abcdef", 4)
	return settings
}

func lookup(settings map[string]string) config.Lookup {
	return func(name string) (string, bool) { v, ok := settings[name]; return v, ok }
}

// Both programs take the settings that the overlays give them.
func TestManifestSettings(t *testing.T) {
	for _, overlay := range overlays {
		settings := render(t, overlay).settings(t)
		if _, err := config.ReadWorker(lookup(settings)); err != nil {
			t.Errorf("%s: worker: %v", overlay, err)
		}
		if _, err := config.ReadInvoker(lookup(settings)); err != nil {
			t.Errorf("%s: invoker: %v", overlay, err)
		}
		for name := range settings {
			if !known(name) {
				t.Errorf("%s: no program reads the setting %s", overlay, name)
			}
		}
	}
}

// The pods fit the settings: memory, time, ports, rights.
func TestPodsFitTheirSettings(t *testing.T) {
	for _, overlay := range overlays {
		c := render(t, overlay)
		settings := c.settings(t)
		w, err := config.ReadWorker(lookup(settings))
		if err != nil {
			t.Fatal(err)
		}
		i, err := config.ReadInvoker(lookup(settings))
		if err != nil {
			t.Fatal(err)
		}
		for name, longest := range map[string]time.Duration{"worker": w.Timeout, "invoker": i.Timeout} {
			var pod workload
			at(t, c.named(t, "Deployment/persistor-"+name), "spec.template.spec", &pod)
			if given := time.Duration(pod.Grace) * time.Second; given < longest {
				t.Errorf("%s: the %s has %v to end in, and a call may take %v", overlay, name, given, longest)
			}
			checkPod(t, overlay+": "+name, c, pod, w.Server.Address)
		}
		var pod workload
		at(t, c.named(t, "Deployment/persistor-worker"), "spec.template.spec", &pod)
		const process = 40 << 20 // docs/settings.md, MEMORY_LIMIT
		if limit := mebibytes(t, pod.Container[0].Resources.Limits["memory"]); limit < process+w.MemoryLimit {
			t.Errorf("%s: the worker's limit is %d bytes of memory; it takes %d and %d for messages", overlay, limit, process, w.MemoryLimit)
		}
	}
}

func checkPod(t *testing.T, name string, c cluster, pod workload, address string) {
	t.Helper()
	container := pod.Container[0]
	port := strconv.Itoa(container.Ports[0].ContainerPort)
	switch {
	case !strings.HasSuffix(address, ":"+port):
		t.Errorf("%s listens at %s, and its port is %s", name, address, port)
	case container.ReadinessProbe.HTTPGet.Path != "/" || container.LivenessProbe.HTTPGet.Path != "/":
		t.Errorf("%s is not probed at /, the one path that needs no key", name)
	case !container.SecurityContext.ReadOnlyRootFilesystem || container.SecurityContext.AllowPrivilegeEscalation:
		t.Errorf("%s may write its file system, or gain rights", name)
	case c["ServiceAccount/"+pod.Service] == nil:
		t.Errorf("%s runs as %q, which there isn't", name, pod.Service)
	case len(container.EnvFrom) != 1 || c["ConfigMap/"+container.EnvFrom[0].ConfigMapRef.Name] == nil:
		t.Errorf("%s doesn't take the settings that there are", name)
	case container.Env[0].Name != "WORKER_KEY":
		t.Errorf("%s has no WORKER_KEY", name)
	}
}

func mebibytes(t *testing.T, quantity string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(quantity, "Mi"))
	if err != nil {
		t.Fatalf("memory %q: want mebibytes, such as 320Mi", quantity)
	}
	return n << 20
}

// The schedule calls the invoker, and the invoker a worker, at paths that they serve.
func TestCallsArrive(t *testing.T) {
	for _, overlay := range overlays {
		c := render(t, overlay)
		var job workload
		at(t, c.named(t, "CronJob/persistor-schedule"), "spec.jobTemplate.spec.template.spec", &job)
		args := job.Container[0].Args
		for program, target := range map[string]string{"invoker": args[len(args)-1], "worker": c.settings(t)["FUNC_TO_INVOKE"]} {
			u, err := url.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			if u.Host != "persistor-"+program || c["Service/"+u.Host] == nil {
				t.Errorf("%s: %s: there is no such service of the %s", overlay, target, program)
			}
			checkServed(t, program, u.Path)
		}
	}
}

// checkServed asks a program for a path without a key: it says that it wants one, and not that it doesn't
// know the path.
func checkServed(t *testing.T, program, path string) {
	t.Helper()
	key := strings.Repeat("k", 32)
	handler := api.NewWorker(api.WorkerOptions{Key: key}, nil)
	if program == "invoker" {
		handler = api.NewInvoker(api.InvokerOptions{Key: key}, nil, nil)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, path, nil))
	if answer.Code != http.StatusUnauthorized {
		t.Errorf("POST %s of the %s without a key: %d, want %d", path, program, answer.Code, http.StatusUnauthorized)
	}
}

// KEDA looks at what is drained, and keeps workers until the next run.
func TestScalerLooksAtWhatIsDrained(t *testing.T) {
	for _, overlay := range overlays {
		c := render(t, overlay)
		settings := c.settings(t)
		var k kedaObject
		text, _ := json.Marshal(c.named(t, "ScaledObject/persistor-worker"))
		if err := json.Unmarshal(text, &k); err != nil {
			t.Fatal(err)
		}
		if c["Deployment/"+k.Spec.ScaleTargetRef.Name] == nil || c["TriggerAuthentication/"+k.Spec.Triggers[0].AuthenticationRef.Name] == nil {
			t.Errorf("%s: KEDA scales %q as %q, which there isn't", overlay, k.Spec.ScaleTargetRef.Name, k.Spec.Triggers[0].AuthenticationRef.Name)
		}
		if k.Spec.CooldownPeriod <= 300 { // the schedule's five minutes
			t.Errorf("%s: workers go after %d s, before the next run", overlay, k.Spec.CooldownPeriod)
		}
		looked := k.Spec.Triggers[0].Metadata
		for name, want := range map[string]string{
			"eventHubName":       settings["EVENT_HUB_NAME"],
			"consumerGroup":      settings["EVENT_HUB_CONSUMER_GROUP"],
			"blobContainer":      settings["EVENT_HUB_CHECKPOINT_CONTAINER"],
			"eventHubNamespace":  host(settings["EVENT_HUB_CONN_STRING__fullyQualifiedNamespace"]),
			"storageAccountName": host(strings.TrimPrefix(settings["PERSISTOR_STORAGE_CONNECTION_STRING__blobServiceUri"], "https://")),
			"queueName":          settings["SERVICE_BUS_QUEUE_NAME"],
			"namespace":          host(settings["SERVICE_BUS_CONNECTION_STRING__fullyQualifiedNamespace"]),
		} {
			if looked[name] != want && slices.Contains(scalerMetadata[k.Spec.Triggers[0].Type], name) {
				t.Errorf("%s: KEDA looks at %s %q, and what is drained has %q", overlay, name, looked[name], want)
			}
		}
	}
}

// host is the first label of a host name.
func host(name string) string {
	first, _, _ := strings.Cut(name, ".")
	return first
}
