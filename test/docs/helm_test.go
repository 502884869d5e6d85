package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/config"
)

const (
	chart      = "deploy/helm/signalbox/"
	agentChart = chart + "charts/signalbox-agent/"
)

// chartSchema is values.schema.json of the chart: what is written there by hand, and below
// config what the service's own schema says of the keys that the chart does not set itself.
func chartSchema(t *testing.T) string {
	properties := propertiesOf(t, config.Schema())
	for _, key := range []string{"issuer", "listen", "tls", "storage", "secrets"} {
		delete(properties, key)
	}
	delete(properties["journal"].(map[string]any)["properties"].(map[string]any), "dir")
	return withProperty(t, chart, "config", map[string]any{"type": "object", "additionalProperties": false, "properties": properties})
}

// agentChartSchema is the same of the agent's chart, whose tokens are those of the agent's file.
func agentChartSchema(t *testing.T) string {
	return withProperty(t, agentChart, "tokens", propertiesOf(t, config.AgentSchema())["tokens"])
}

func propertiesOf(t *testing.T, schema []byte) map[string]any {
	t.Helper()
	var s struct{ Properties map[string]any }
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	return s.Properties
}

func withProperty(t *testing.T, chart, name string, schema any) string {
	t.Helper()
	var s map[string]any
	if err := json.Unmarshal([]byte(read(t, chart+"values.schema.json")), &s); err != nil {
		t.Fatal(err)
	}
	s["properties"].(map[string]any)[name] = schema
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// helmValues is the page of all values: what the comments of values.yaml say.
func helmValues(t *testing.T) string {
	var b strings.Builder
	b.WriteString(generated + `
# Helm values

Of the chart [deploy/helm/signalbox](../../deploy/helm/signalbox). [How to install with it](../how-to/kubernetes-install.md). A value that is not here, or has another type, is refused, and so is
a key of the configuration that the service does not know.

| value | default | what |
| --- | --- | --- |
`)
	for _, v := range valuesOf(t, chart) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.path, v.shown, v.what)
	}
	b.WriteString(`
## The agent

Of the chart [signalbox-agent](../../deploy/helm/signalbox/charts/signalbox-agent), which is installed alone, or below ` + "`signalbox-agent`" + ` of the other one.

| value | default | what |
| --- | --- | --- |
`)
	for _, v := range valuesOf(t, agentChart) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.path, v.shown, v.what)
	}
	return b.String()
}

type chartValue struct{ path, shown, what string }

// valuesOf are the values of a chart in the order of values.yaml. A section that says
// something itself is a line too.
func valuesOf(t *testing.T, chart string) (all []chartValue) {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(read(t, chart+"values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	var visit func(prefix string, section *yaml.Node)
	visit = func(prefix string, section *yaml.Node) {
		for i := 0; i < len(section.Content); i += 2 {
			key, value := section.Content[i], section.Content[i+1]
			v := chartValue{path: prefix + key.Value, what: strings.TrimSpace(strings.TrimPrefix(key.HeadComment, "#"))}
			if value.Kind == yaml.MappingNode && len(value.Content) > 0 && value.Content[1].Kind != yaml.MappingNode {
				if v.what != "" {
					all = append(all, v)
				}
				visit(v.path+".", value)
				continue
			}
			if v.what == "" {
				t.Errorf("%svalues.yaml does not say what %s is", chart, v.path)
			}
			v.shown = shown(t, value)
			all = append(all, v)
		}
	}
	visit("", document.Content[0])
	return all
}

// shown is a default on one line; nothing is shown of what is empty.
func shown(t *testing.T, value *yaml.Node) string {
	t.Helper()
	var v any
	if err := value.Decode(&v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains([]string{`""`, "{}", "[]"}, string(text)) {
		return ""
	}
	return "`" + strings.Trim(string(text), `"`) + "`"
}

// TestChartValuesAndSchemaAreOfOnePiece: each value has a schema that refuses what it does
// not know, and the schema has no value that values.yaml does not show.
func TestChartValuesAndSchemaAreOfOnePiece(t *testing.T) {
	for _, chart := range []string{chart, agentChart} {
		var values, schema map[string]any
		if err := yaml.Unmarshal([]byte(read(t, chart+"values.yaml")), &values); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(read(t, chart+"values.schema.json")), &schema); err != nil {
			t.Fatal(err)
		}
		compareKeys(t, chart, values, schema)
	}
}

func compareKeys(t *testing.T, path string, values, schema map[string]any) {
	t.Helper()
	properties, closed := schema["properties"].(map[string]any)
	if !closed {
		return // labels and the like, whose keys are free
	}
	if schema["additionalProperties"] != false {
		t.Errorf("the schema of %s takes keys that there are not", path)
	}
	for key, value := range values {
		inside, there := properties[key].(map[string]any)
		if !there {
			t.Errorf("the schema of %s has no %s", path, key)
			continue
		}
		if section, is := value.(map[string]any); is {
			compareKeys(t, path+"."+key, section, inside)
		}
	}
	for key := range properties {
		// config and the agent's are described elsewhere; global is Helm's.
		if _, there := values[key]; !there && key != "global" && !strings.HasSuffix(path, ".config") {
			t.Errorf("values.yaml does not show %s.%s", path, key)
		}
	}
}

// TestChartIsOfTheVersionThatIsReleased: the tag of the image is the chart's appVersion.
func TestChartIsOfTheVersionThatIsReleased(t *testing.T) {
	_, next, _ := strings.Cut(read(t, "release/main.go"), "const next = \"")
	next, _, _ = strings.Cut(next, `"`)
	for _, chart := range []string{chart, agentChart} {
		var about struct {
			Version      string
			AppVersion   string `yaml:"appVersion"`
			Dependencies []struct{ Name, Version string }
		}
		if err := yaml.Unmarshal([]byte(read(t, chart+"Chart.yaml")), &about); err != nil {
			t.Fatal(err)
		}
		if about.Version != next || about.AppVersion != next || next == "" {
			t.Errorf("%s is %s of %s, and the next release is %q", chart, about.Version, about.AppVersion, next)
		}
		for _, d := range about.Dependencies {
			if d.Version != next {
				t.Errorf("%s takes %s %s", chart, d.Name, d.Version)
			}
		}
	}
}

// TestChartRestartsForWhatIsReadOnce: the annotation that makes new pods covers every key
// that a running service does not take.
func TestChartRestartsForWhatIsReadOnce(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(checkout, chart, "templates/statefulset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, picked, _ := strings.Cut(string(text), "pick (")
	picked, _, _ = strings.Cut(picked, "\n")
	for _, key := range config.NeedRestart() {
		section, _, _ := strings.Cut(key, ".")
		if !strings.Contains(picked, `"`+section+`"`) {
			t.Errorf("a change of %s needs a restart, and the chart makes none", key)
		}
	}
}
