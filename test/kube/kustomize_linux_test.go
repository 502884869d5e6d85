package kube

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
	"github.com/signalbox-sts/signalbox/test/postgres"
)

var update = flag.Bool("update", false, "write what is generated in deploy/kustomize")

const kustomize = "../../deploy/kustomize/"

// TestKustomizeIsWhatTheChartsMake: the objects in deploy/kustomize are those of the charts,
// so that nothing is thought of twice.
func TestKustomizeIsWhatTheChartsMake(t *testing.T) {
	t.Parallel()
	helm(t)
	values := strings.Replace(minimal, "registry.example.com/signalbox", "signalbox", 1)
	service := objects(t, render(t, chart, "signalbox", "signalbox", values))
	agent := objects(t, render(t, agentChart, "signalbox", "signalbox", values+"namespaces: [shop]\n"))
	file := func(all []manifest, name, key string) string {
		return at(find(t, all, "ConfigMap "+name), "data", key).(string)
	}
	for name, want := range map[string]string{
		"base/objects.yaml":          plain(t, service, nil, ""),
		"base/signalbox.yaml":        file(service, "signalbox", "signalbox.yaml"),
		"postgresql/disruption.yaml": plain(t, objects(t, render(t, chart, "signalbox", "signalbox", values+"replicas: 2\npostgresql: {secretName: signalbox-postgres}\n")), []string{"PodDisruptionBudget"}, ""),
		"agent/objects.yaml":         plain(t, agent, []string{"Deployment", "NetworkPolicy"}, "signalbox"),
		"agent/agent.yaml":           file(agent, "signalbox-agent", "agent.yaml"),
	} {
		want = "# Generated: do not edit. Write it again with: go test ./test/kube -run TestKustomize -update\n" + want
		path := filepath.Join(kustomize, name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not up to date: go test ./test/kube -run TestKustomize -update", path)
		}
	}
}

// plain are the objects of these kinds, or all but ConfigMaps, without what Helm says of
// itself. Kustomize sets the namespace where none is given.
func plain(t *testing.T, all []manifest, kinds []string, namespace string) string {
	t.Helper()
	var texts []string
	for _, m := range all {
		if kind := m["kind"].(string); kind == "ConfigMap" || kinds != nil && !slices.Contains(kinds, kind) {
			continue
		}
		metadata := m["metadata"].(manifest)
		labels := metadata["labels"].(manifest)
		for _, label := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"} {
			delete(labels, label)
		}
		if delete(metadata, "namespace"); namespace != "" {
			metadata["namespace"] = namespace
		}
		if pod, is := at(m, "spec", "template", "metadata").(manifest); is {
			delete(pod, "annotations") // a ConfigMap with another content has another name
		}
		text, err := yaml.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	slices.Sort(texts)
	return strings.Join(texts, "---\n")
}

// testKustomize: what kubectl makes of deploy/kustomize is taken, and starts.
func testKustomize(t *testing.T, c *rig.Cluster) {
	strictNamespace(t, c, "signalbox")
	apply := func(folder string) {
		c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", kustomize+folder)
	}
	apply("base")
	public, admin := rig.FreeAddress(), rig.FreeAddress()
	addresses := strings.NewReplacer(":8443", public, ":9090", admin)
	t.Run("one node", func(t *testing.T) {
		b := layOut(t, c, makePod(t, c, "signalbox", "statefulset", "signalbox"), secretsOfCharts(t, ""), addresses)
		b.start(t).WaitFor("http://" + admin + "/readyz")
	})
	apply("postgresql")
	t.Run("two nodes", func(t *testing.T) {
		b := layOut(t, c, makePod(t, c, "signalbox", "statefulset", "signalbox"), secretsOfCharts(t, postgres.New(t).String()), addresses)
		p := b.start(t)
		p.WaitFor("http://" + admin + "/readyz")
		p.Wait("it says that it uses PostgreSQL", func() bool { return strings.Contains(p.Log(), `"storage":"postgres`) })
	})
	apply("agent")
	t.Run("the agent", func(t *testing.T) {
		health := rig.FreeAddress()
		b := layOut(t, c, makePod(t, c, "signalbox", "deployment", "signalbox-agent"), nil, strings.NewReplacer(":9191", health))
		p := b.start(t)
		p.WaitFor("http://" + health + "/readyz")
		p.Wait("it serves", func() bool { return strings.Contains(metricsAt(t, health), "signalbox_agent_serves 1\n") })
	})
}
