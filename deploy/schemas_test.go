package deploy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// azure.yaml is what azd says that it is.
func TestAzureYAMLIsWhatItsSchemaSays(t *testing.T) {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(read(t, "testdata/schemas/azure.yaml.json")))
	if err != nil {
		t.Fatal(err)
	}
	schema := compile(t, value)
	if err := schema.Validate(asJSON(t, read(t, "azure.yaml"))); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"name: x\nservices: {worker: {project: ., host: functions}}", "services: {}", "name: x\nhook: {}"} {
		if schema.Validate(asJSON(t, wrong)) == nil {
			t.Errorf("nothing is wrong with %q", wrong)
		}
	}
}

// KEDA's objects are what its resource definitions say.
func TestScalersAreWhatTheirSchemasSay(t *testing.T) {
	schemas := map[string]*jsonschema.Schema{
		"ScaledObject":          definition(t, "keda.sh_scaledobjects.yaml"),
		"TriggerAuthentication": definition(t, "keda.sh_triggerauthentications.yaml"),
	}
	for _, overlay := range overlays {
		seen := 0
		for key, object := range render(t, overlay) {
			kind, _, _ := strings.Cut(key, "/")
			if schema := schemas[kind]; schema != nil {
				seen++
				text, _ := json.Marshal(object)
				if err := schema.Validate(asJSON(t, string(text))); err != nil {
					t.Errorf("%s: %s: %v", overlay, key, err)
				}
			}
		}
		if seen != len(schemas) {
			t.Errorf("%s has %d objects of KEDA, want %d", overlay, seen, len(schemas))
		}
	}
	if schemas["ScaledObject"].Validate(asJSON(t, "spec: {scaleTargetRef: {name: x}, triggers: [{type: cron}]}")) == nil {
		t.Error("nothing is wrong with a trigger without metadata")
	}
}

// definition is the schema of a resource definition's only version.
func definition(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	var d struct {
		Spec struct {
			Versions []struct{ Schema struct{ OpenAPIV3Schema any } }
		}
	}
	text, err := json.Marshal(asJSON(t, read(t, "testdata/schemas/"+file)))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil || len(d.Spec.Versions) != 1 {
		t.Fatalf("%s: %d versions, error %v", file, len(d.Spec.Versions), err)
	}
	return compile(t, d.Spec.Versions[0].Schema.OpenAPIV3Schema)
}

func compile(t *testing.T, schema any) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.UseLoader(elsewhere{})
	if err := c.AddResource("schema.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// elsewhere stands for the schemas of azd's extensions, which are not here and of which nothing is used.
type elsewhere struct{}

func (elsewhere) Load(string) (any, error) { return true, nil }

// asJSON is a YAML document as a JSON decoder would give it.
func asJSON(t *testing.T, document string) any {
	t.Helper()
	var value any
	err := yaml.Unmarshal([]byte(document), &value)
	var text []byte
	if err == nil {
		text, err = json.Marshal(value)
	}
	if err == nil {
		value, err = jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}
