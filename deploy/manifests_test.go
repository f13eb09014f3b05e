package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Every object is what Kubernetes' own description of its API says, and KEDA's.
func TestManifestsAreOfTheirKinds(t *testing.T) {
	for _, overlay := range overlays {
		for key, object := range render(t, overlay) {
			for _, problem := range problems(object) {
				t.Errorf("%s: %s: %s", overlay, key, problem)
			}
		}
	}
}

// The checks of the test above see what they are for.
func TestManifestProblemsAreSeen(t *testing.T) {
	const deployment = `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a"%s}]}}}}`
	const scaled = `{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"}, "spec": {"scaleTargetRef": {"name": "x"}, "triggers": [{"type": "azure-eventhub", "metadata": {%s}}]}}`
	for object, want := range map[string]string{
		fmt.Sprintf(deployment, ``):                                                "",
		fmt.Sprintf(deployment, `, "imagePullPolice": "Always"`):                   `spec.template.spec.containers[0].imagePullPolice: there is no such field`,
		fmt.Sprintf(deployment, `, "image": 7`):                                    `spec.template.spec.containers[0].image: float64, want string`,
		fmt.Sprintf(deployment, `, "ports": [{"name": "http"}]`):                   `spec.template.spec.containers[0].ports[0]: containerPort is missing`,
		`{"apiVersion": "apps/v1", "kind": "Deployed", "metadata": {"name": "x"}}`: `no such kind: apps/v1 Deployed`,
		fmt.Sprintf(scaled, `"eventHubName": "h"`):                                 "",
		fmt.Sprintf(scaled, `"hub": "h"`):                                          `spec.triggers[0].metadata: azure-eventhub doesn't know "hub"`,
		`{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"}, "spec": {"minReplicas": 1}}`: `json: unknown field "minReplicas"`,
	} {
		var m map[string]any
		if err := json.Unmarshal([]byte(object), &m); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(problems(m), "; "); got != want {
			t.Errorf("problems of %s: %q, want %q", object, got, want)
		}
	}
}

// problems are what an API server would refuse in an object, one to a line.
func problems(object map[string]any) []string {
	meta := yaml.TypeMeta{APIVersion: fmt.Sprint(object["apiVersion"]), Kind: fmt.Sprint(object["kind"])}
	if strings.HasPrefix(meta.APIVersion, "keda.sh/") {
		return kedaProblems(object)
	}
	schema := openapi.SchemaForResourceType(meta)
	if schema == nil {
		return []string{fmt.Sprintf("no such kind: %s %s", meta.APIVersion, meta.Kind)}
	}
	return schemaProblems(object, schema, "")
}

func schemaProblems(value any, schema *openapi.ResourceSchema, path string) (found []string) {
	switch value := value.(type) {
	case map[string]any:
		for _, field := range schema.Schema.Required {
			if _, ok := value[field]; !ok {
				found = append(found, fmt.Sprintf("%s: %s is missing", path, field))
			}
		}
		for _, field := range slices.Sorted(maps.Keys(value)) {
			at := strings.TrimPrefix(path+"."+field, ".")
			if of := schema.Field(field); of == nil {
				found = append(found, at+": there is no such field")
			} else {
				found = append(found, schemaProblems(value[field], of, at)...)
			}
		}
	case []any:
		elements := schema.Elements()
		if elements == nil {
			return []string{path + ": a list, want " + strings.Join(schema.Schema.Type, " or ")}
		}
		for i, v := range value {
			found = append(found, schemaProblems(v, elements, fmt.Sprintf("%s[%d]", path, i))...)
		}
	default:
		if want := strings.Join(schema.Schema.Type, " or "); !isOf(value, want, schema.Schema.Format) {
			found = append(found, fmt.Sprintf("%s: %T, want %s", path, value, want))
		}
	}
	return found
}

// isOf tells whether a scalar is of an OpenAPI type.
func isOf(value any, want, format string) bool {
	switch value.(type) {
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case int, int64, float64:
		return want == "integer" || want == "number" || format == "int-or-string"
	}
	return false
}

// kedaObject is as much of KEDA's ScaledObject and TriggerAuthentication (keda.sh/v1alpha1, config/crd/bases of KEDA in August 2026) as is
// used here.
type kedaObject struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount int `json:"minReplicaCount"`
		MaxReplicaCount int `json:"maxReplicaCount"`
		PollingInterval int `json:"pollingInterval"`
		CooldownPeriod  int `json:"cooldownPeriod"`
		Advanced        struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior struct {
					ScaleDown struct {
						StabilizationWindowSeconds int `json:"stabilizationWindowSeconds"`
					} `json:"scaleDown"`
				} `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []struct {
			Type              string            `json:"type"`
			Metadata          map[string]string `json:"metadata"`
			AuthenticationRef struct {
				Name string `json:"name"`
			} `json:"authenticationRef"`
		} `json:"triggers"`
		PodIdentity struct {
			Provider   string `json:"provider"`
			IdentityID string `json:"identityId"`
		} `json:"podIdentity"`
	} `json:"spec"`
}

// scalerMetadata are the names that KEDA's scalers read (pkg/scalers/azure_eventhub_scaler.go,
// pkg/scalers/azure_servicebus_scaler.go, August 2026). Any other is ignored by KEDA, and so a mistake.
var scalerMetadata = map[string][]string{
	"azure-eventhub": {"eventHubNamespace", "eventHubName", "consumerGroup", "storageAccountName", "blobContainer", "checkpointStrategy",
		"unprocessedEventThreshold", "activationUnprocessedEventThreshold", "stalePartitionInfoThreshold", "cloud", "endpointSuffix", "storageEndpointSuffix"},
	"azure-servicebus": {"namespace", "queueName", "topicName", "subscriptionName", "messageCount", "activationMessageCount", "cloud", "endpointSuffix"},
}

func kedaProblems(object map[string]any) (found []string) {
	text, _ := json.Marshal(object)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var k kedaObject
	if err := decoder.Decode(&k); err != nil {
		return []string{err.Error()}
	}
	for i, trigger := range k.Spec.Triggers {
		known, ok := scalerMetadata[trigger.Type]
		if !ok {
			found = append(found, fmt.Sprintf("spec.triggers[%d]: no scaler of type %q", i, trigger.Type))
		}
		for name := range trigger.Metadata {
			if ok && !slices.Contains(known, name) {
				found = append(found, fmt.Sprintf("spec.triggers[%d].metadata: %s doesn't know %q", i, trigger.Type, name))
			}
		}
	}
	return found
}
