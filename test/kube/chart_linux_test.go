package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
	"github.com/signalbox-sts/signalbox/test/postgres"
)

const (
	chart      = "../../deploy/helm/signalbox"
	agentChart = chart + "/charts/signalbox-agent"
	minimal    = "issuer: https://sts.example.com\nimage: {repository: registry.example.com/signalbox}\n"
)

// helm is built by `make test` from the module test/helm.
func helm(t *testing.T) string {
	t.Helper()
	tool, err := filepath.Abs("../../.cache/tools/helm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tool); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true, but this machine has no helm")
		}
		t.Skip("NOT TESTED: this machine has no helm (make test builds it)")
	}
	return tool
}

// runHelm runs it at a cluster, or at none, with a home of its own.
func runHelm(t *testing.T, c *rig.Cluster, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), helm(t), args...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + filepath.Join(home, "none")}
	if c != nil {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+c.Kubeconfig())
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w: %s", args[0], err, complaint.String())
	}
	return out.String(), nil
}

func fileWith(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// render is what helm makes of a chart and values.
func render(t *testing.T, chart, release, namespace, values string) string {
	t.Helper()
	out, err := runHelm(t, nil, "template", release, chart, "--namespace", namespace, "--values", fileWith(t, "values.yaml", values))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type manifest = map[string]any

// objects are those of a text of YAML.
func objects(t *testing.T, text string) (all []manifest) {
	t.Helper()
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		var m manifest
		if err := yaml.Unmarshal([]byte(part), &m); err != nil {
			t.Fatalf("%v:\n%s", err, part)
		}
		if len(m) > 0 {
			all = append(all, m)
		}
	}
	return all
}

// at is what is found below the names.
func at(m manifest, names ...string) any {
	var v any = m
	for _, name := range names {
		inside, _ := v.(manifest)
		v = inside[name]
	}
	return v
}

func id(m manifest) string { return fmt.Sprint(m["kind"], " ", at(m, "metadata", "name")) }

func find(t *testing.T, all []manifest, name string) manifest {
	t.Helper()
	for _, m := range all {
		if id(m) == name {
			return m
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// chartCluster is an API server that knows the resources of Prometheus' operator.
func chartCluster(t *testing.T) *rig.Cluster {
	t.Helper()
	c := rig.Start(t).Add(t, "charts", rig.Options{})
	c.Kubectl(t, "apply", "--server-side", "-f", "testdata/monitoring-crds.yaml")
	c.Kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	c.Namespace(t, "shop")
	c.Namespace(t, "argocd")
	return c
}

// strictNamespace makes a namespace that admits only pods of the strictest level.
func strictNamespace(t *testing.T, c *rig.Cluster, name string) {
	t.Helper()
	c.Namespace(t, name)
	c.Kubectl(t, "label", "--overwrite", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
}

const everything = minimal + `
operator: {secretName: signalbox-operator}
postgresql: {secretName: signalbox-postgres}
files: {secrets: [clients], configMaps: [authorities]}
autoscaling: {enabled: true}
service: {type: LoadBalancer, annotations: {example.com/class: internal}}
networkPolicy:
  publicFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}]
  adminFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}, podSelector: {matchLabels: {app: prometheus}}}]
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}}
podAnnotations: {example.com/owner: security}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Equal, value: security, effect: NoSchedule}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [amd64]}]}]}}}
priorityClassName: system-cluster-critical
topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/name: signalbox}}}]
persistence: {size: 20Gi, storageClassName: fast}
config:
  tokens: {access_ttl: 2m}
  outbound: {ca_file: /configmaps/authorities/ca.crt}
  resources: [{id: "https://api.example.com", scopes: [orders:read]}]
  clients: [{client_id: night-job, grant_types: [client_credentials], client_secret_file: /secrets/clients/night-job, scope: orders:read, resources: ["https://api.example.com"]}]
signalbox-agent:
  enabled: true
  issuer: https://sts.example.com
  image: {repository: registry.example.com/signalbox, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
  ca: {configMap: authorities}
  replicas: 1
  namespaces: [shop]
  tokens: [{name: repo-app, to: {resource: "https://git.example.com"}, secret: {namespace: argocd, name: repo-app, kind: argocd-repository, url: "https://git.example.com/app.git"}}]
  networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
  podMonitor: {enabled: true}
`

// watchesItsCluster is one node with a client, and the cluster that it runs in.
const watchesItsCluster = minimal + `
operator: {secretName: signalbox-operator}
files: {secrets: [clients]}
config:
  tokens: {access_ttl: 5m}
  resources: [{id: "https://api.example.com", scopes: [orders:read]}]
  clients: [{client_id: night-job, grant_types: [client_credentials], client_secret_file: /secrets/clients/night-job, scope: orders:read, resources: ["https://api.example.com"]}]
  clusters: [{name: hub, issuer: https://kubernetes.default.svc, api_server: "SERVER", credential: in-cluster}]
`

const twoNodes = minimal + `
replicas: 2
postgresql: {secretName: signalbox-postgres}
tls: {trustedProxies: [127.0.0.0/8]}
`

func TestChart(t *testing.T) {
	t.Parallel()
	helm(t)
	c := chartCluster(t)
	// First: helm takes over nothing that others have made.
	t.Run("its life with helm", func(t *testing.T) { testLifeOfARelease(t, c) })
	t.Run("the API server takes it", func(t *testing.T) { testAdmission(t, c) })
	t.Run("it serves", func(t *testing.T) { testServing(t, c) })
	t.Run("the same with kustomize", func(t *testing.T) { testKustomize(t, c) })
}

// testAdmission: every object of every set of values, and the pods that controllers would
// make of them.
func testAdmission(t *testing.T, c *rig.Cluster) {
	alone := []string{"ConfigMap signalbox", "NetworkPolicy signalbox", "Service signalbox", "Service signalbox-nodes", "ServiceAccount signalbox", "StatefulSet signalbox"}
	agent := []string{"ClusterRole signalbox-agent-token-editor", "ConfigMap signalbox-agent", "CustomResourceDefinition signalboxtokens.signalbox.dev",
		"Deployment signalbox-agent", "NetworkPolicy signalbox-agent", "ServiceAccount signalbox-agent"}
	serving := []string{"ClusterRole signalbox-agent", "Role signalbox-agent-lease", "RoleBinding signalbox-agent", "RoleBinding signalbox-agent-lease"}
	for _, row := range []struct {
		sentence, chart, namespace, values string
		has                                []string
	}{
		{"the least that must be said", chart, "chart-minimal", minimal, alone},
		{"one node that watches its own cluster", chart, "chart-watches", watchesItsCluster, slices.Concat(alone, []string{"ClusterRole signalbox", "ClusterRoleBinding signalbox"})},
		{"two nodes behind a proxy", chart, "chart-two", twoNodes, slices.Concat(alone, []string{"PodDisruptionBudget signalbox"})},
		{"everything", chart, "chart-everything", everything, slices.Concat(alone, agent, serving, []string{
			"PodDisruptionBudget signalbox", "HorizontalPodAutoscaler signalbox", "ServiceMonitor signalbox", "PrometheusRule signalbox",
			"PodMonitor signalbox-agent", "Role signalbox-agent", "RoleBinding signalbox-agent"})},
		{"the agent alone", agentChart, "chart-agent", minimal + "namespaces: [shop]\n", slices.Concat(agent, serving)},
		{"the agent of all namespaces", agentChart, "chart-agent-of-all", minimal + `namespaces: ["*"]`, slices.Concat(agent, []string{
			"ClusterRole signalbox-agent", "ClusterRoleBinding signalbox-agent", "Role signalbox-agent-lease", "RoleBinding signalbox-agent-lease"})},
		{"an agent with a token of its own and no right but to write it", agentChart, "chart-agent-of-one",
			minimal + "replicas: 1\ntokens: [{name: repo-app, to: {cluster: spoke-a}, secret: {namespace: argocd, name: repo-app, kind: opaque}}]",
			slices.Concat(agent, []string{"Role signalbox-agent", "RoleBinding signalbox-agent"})},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			strictNamespace(t, c, row.namespace)
			text := render(t, row.chart, "signalbox", row.namespace, strings.ReplaceAll(row.values, "SERVER", c.Server))
			var has []string
			for _, m := range objects(t, text) {
				has = append(has, id(m))
			}
			slices.Sort(has)
			slices.Sort(row.has)
			if !slices.Equal(has, row.has) {
				t.Errorf("it has\n%q\nand should have\n%q", has, row.has)
			}
			// The kinds that are the cluster's have one name in all rows.
			c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", fileWith(t, "rendered.yaml", text))
			for _, workload := range []string{"statefulset signalbox", "deployment signalbox-agent"} {
				kind, name, _ := strings.Cut(workload, " ")
				if slices.ContainsFunc(has, func(id string) bool { return strings.EqualFold(id, kind+" "+name) }) {
					makePod(t, c, row.namespace, kind, name)
				}
			}
		})
	}
}

// installed is a pod of a chart, ready to start.
func installed(t *testing.T, c *rig.Cluster, chart, namespace, values, kind, name, database string, addresses *strings.Replacer) *container {
	t.Helper()
	strictNamespace(t, c, namespace)
	text := render(t, chart, "signalbox", namespace, strings.ReplaceAll(values, "SERVER", c.Server))
	c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", fileWith(t, "rendered.yaml", text))
	return layOut(t, c, makePod(t, c, namespace, kind, name), secretsOfCharts(t, database), addresses)
}

func metricsAt(t *testing.T, address string) string {
	t.Helper()
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return ""
	}
	return string(text)
}

// testServing: the command line of a rendered pod starts with the rendered file and the
// Secrets where the volumes put them, and becomes ready; with the rights of the chart it
// hears of the pods of its cluster.
func testServing(t *testing.T, c *rig.Cluster) {
	for _, row := range []struct{ sentence, namespace, values string }{
		{"one node that watches its own cluster", "chart-serves", watchesItsCluster},
		{"a node of several behind a proxy", "chart-serves-two", twoNodes},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			database := ""
			if row.values == twoNodes {
				database = postgres.New(t).String()
			}
			public, admin := rig.FreeAddress(), rig.FreeAddress()
			b := installed(t, c, chart, row.namespace, row.values, "statefulset", "signalbox", database, strings.NewReplacer(":8443", public, ":9090", admin))
			b.must(t, "config", "validate", "--config", "/etc/signalbox/signalbox.yaml")
			p := b.start(t)
			p.WaitFor("http://" + admin + "/readyz")
			if database != "" {
				p.WaitFor("http://" + public + "/readyz")
				return
			}
			p.Wait("it hears of its cluster's pods", func() bool {
				return strings.Contains(metricsAt(t, admin), `signalbox_cluster_watched{cluster="hub"} 1`)
			})
			b.getToken(t, public)
			b.swap(t, "/etc/signalbox/signalbox.yaml", "access_ttl: 5m", "access_ttl: 3m")
			p.Wait("it has taken the new file", func() bool { return b.getToken(t, public) == 180 })
			b.must(t, "audit", "verify", "--config", "/etc/signalbox/signalbox.yaml")
		})
	}
	t.Run("the agent gets its lease and serves its namespace", func(t *testing.T) {
		health := rig.FreeAddress()
		b := installed(t, c, agentChart, "chart-serves-agent", minimal+"namespaces: [shop]\nca: {configMap: authorities}\n", "deployment", "signalbox-agent", "", strings.NewReplacer(":9191", health))
		b.must(t, "agent", "--config", "/etc/signalbox/agent.yaml", "--check")
		b.start(t).WaitFor("http://" + health + "/readyz")
		until(t, time.Minute, "the agent has its lease", func() bool {
			var lease struct {
				Spec struct{ HolderIdentity string }
			}
			err := c.Call(http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/chart-serves-agent/leases/signalbox-agent", nil, &lease)
			return err == nil && lease.Spec.HolderIdentity != ""
		})
		mustApply(t, c, tokenManifest("shop", "spoke-a", "{name: spoke-a, kind: opaque}"))
		becomes(t, c, "shop", "spoke-a", "False NoPod")
		// What the alerts ask for: nothing is said of the life of a token that is not there.
		text := metricsAt(t, health)
		for _, want := range []string{"signalbox_agent_ready 1\n", "signalbox_agent_serves 1\n", `signalbox_agent_renewals_total{output="secret shop/spoke-a",token="shop/spoke-a"} 0`} {
			if !strings.Contains(text, want) {
				t.Errorf("there is no %s in\n%s", want, text)
			}
		}
		if strings.Contains(text, "signalbox_agent_token_expires_in_seconds{") {
			t.Errorf("a token that is not there expires:\n%s", text)
		}
	})
}

// testLifeOfARelease: by helm itself. An upgrade keeps what cannot be
// changed, and a removal leaves the resource SignalboxToken, with all of that kind.
func testLifeOfARelease(t *testing.T, c *rig.Cluster) {
	const namespace = "chart-upgrade"
	c.Namespace(t, namespace)
	do := func(args ...string) string {
		t.Helper()
		out, err := runHelm(t, c, append(args, "--namespace", namespace)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, chart := range []string{chart, agentChart} {
		if out, err := runHelm(t, nil, "lint", "--strict", chart, "--values", fileWith(t, "a.yaml", minimal)); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	// As it is published: what is a link here is a file there.
	published := t.TempDir()
	if _, err := runHelm(t, nil, "package", chart, "--destination", published); err != nil {
		t.Fatal(err)
	}
	notes := do("install", "signalbox", filepath.Join(published, "signalbox-0.1.0.tgz"), "--values", fileWith(t, "a.yaml", minimal))
	for _, want := range []string{"signalbox-master-key", "signalbox-tls", "rollout status statefulset/signalbox", "https://sts.example.com/.well-known/openid-configuration"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say %s:\n%s", want, notes)
		}
	}
	// The size of volumes cannot be changed in a StatefulSet.
	b := strings.Replace(everything, "persistence: {size: 20Gi, storageClassName: fast}\n", "", 1)
	notes = do("upgrade", "signalbox", filepath.Join(published, "signalbox-0.1.0.tgz"), "--values", fileWith(t, "b.yaml", b))
	if !strings.Contains(notes, "{.data.operator\\.secret}") || strings.Contains(notes, "  signalbox-operator\n  signalbox-operator") {
		t.Errorf("the notes:\n%s", notes)
	}
	do("rollback", "signalbox", "1")
	do("upgrade", "signalbox", chart, "--values", fileWith(t, "b.yaml", b))
	mustApply(t, c, tokenManifest("shop", "kept", "{name: kept, kind: opaque}"))
	do("uninstall", "signalbox")
	if !isThere(t, c, "signalboxtoken", "kept", "-n", "shop") {
		t.Error("the SignalboxTokens went with the release")
	}
	left := c.Kubectl(t, "get", "all,configmap,secret,serviceaccount,networkpolicy,pdb,role,rolebinding,servicemonitor,prometheusrule", "-n", namespace, "-o", "name")
	if strings.Contains(left, "signalbox") {
		t.Errorf("it left\n%s", left)
	}
	if left := c.Kubectl(t, "get", "clusterrole,clusterrolebinding,rolebinding,role", "-A", "-l", "app.kubernetes.io/instance=signalbox", "-o", "name"); left != "" {
		t.Errorf("it left rights:\n%s", left)
	}
}

// TestChartRefusesWhatItDoesNotKnow: before anything reaches a cluster.
func TestChartRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	helm(t)
	for _, row := range []struct{ sentence, chart, values, want string }{
		{"no issuer", chart, "image: {repository: registry.example.com/signalbox}", "issuer is required"},
		{"no image", chart, "issuer: https://sts.example.com", "image.repository is required"},
		{"an issuer in clear", chart, strings.Replace(minimal, "https", "http", 1), "/issuer"},
		{"a value that there is not", chart, minimal + "replica: 2", "'replica' not allowed"},
		{"one inside of a section", chart, minimal + "networkPolicy: {enable: false}", "'enable' not allowed"},
		{"a number as a text", chart, minimal + `replicas: "2"`, "/replicas"},
		{"a key of the configuration that there is not", chart, minimal + "config: {resourcs: []}", "'resourcs' not allowed"},
		{"one deep in it", chart, minimal + "config: {clients: [{client_id: a, redirect_uri: x}]}", "'redirect_uri' not allowed"},
		{"a key that is the chart's own", chart, minimal + "config: {listen: {admin: \":9090\"}}", "'listen' not allowed"},
		{"the folder of the journal", chart, minimal + "config: {journal: {dir: /tmp}}", "'dir' not allowed"},
		{"a witness that there is not", chart, minimal + "config: {journal: {witnes: /w}}", "'witnes' not allowed"},
		{"a password in the configuration", chart, minimal + "config: {storage: {url: postgres://a:b@c/d}}", "'storage' not allowed"},
		{"two nodes with SQLite", chart, minimal + "replicas: 2", "needs postgresql.secretName"},
		{"a load that makes more nodes with SQLite", chart, minimal + "autoscaling: {enabled: true}", "needs postgresql.secretName"},
		{"metrics that nobody reaches", chart, minimal + "serviceMonitor: {enabled: true}", "needs networkPolicy.adminFrom"},
		{"a peer that is nobody in particular", chart, minimal + "networkPolicy: {adminFrom: [{}]}", "/networkPolicy/adminFrom/0"},
		{"neither a certificate nor a proxy", chart, minimal + `tls: {secretName: ""}`, "tls needs secretName"},
		{"a mistake in the agent's values", chart, minimal + "signalbox-agent: {enabled: true, namespace: [shop]}", "'namespace' not allowed"},
		{"a mistake in the agent's tokens", agentChart, minimal + "tokens: [{name: a, too: {cluster: b}}]", "'too' not allowed"},
		{"two agents with a token of their own", agentChart, minimal + "tokens: [{name: a, to: {cluster: b}}]", "tokens needs replicas: 1"},
		{"an agent without an issuer", agentChart, "image: {repository: registry.example.com/signalbox}", "issuer is required"},
		{"metrics of the agent that nobody reaches", agentChart, minimal + "podMonitor: {enabled: true}", "needs networkPolicy.metricsFrom"},
	} {
		out, err := runHelm(t, nil, "template", "signalbox", row.chart, "--values", fileWith(t, "values.yaml", row.values))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v\n%.200s", row.sentence, err, out)
		}
	}
}

// TestChartLetsInWhatTheServiceListensOn: the ports of the file, of the container, of the
// Services and of the policy are the same ones.
func TestChartLetsInWhatTheServiceListensOn(t *testing.T) {
	t.Parallel()
	helm(t)
	all := objects(t, render(t, chart, "signalbox", "sts", minimal))
	var file struct {
		Listen struct{ Public, Admin string }
	}
	if err := yaml.Unmarshal([]byte(at(find(t, all, "ConfigMap signalbox"), "data", "signalbox.yaml").(string)), &file); err != nil {
		t.Fatal(err)
	}
	spec := at(find(t, all, "StatefulSet signalbox"), "spec", "template", "spec").(manifest)
	ports := fmt.Sprint(spec["containers"].([]any)[0].(manifest)["ports"])
	if want := fmt.Sprintf("[map[containerPort%s name:public] map[containerPort%s name:admin]]", file.Listen.Public, file.Listen.Admin); ports != want {
		t.Errorf("the container has the ports %s, and the file %s", ports, want)
	}
	for _, row := range []struct{ sentence, values, want string }{
		{"everybody reaches the public port, and nobody the other", "", `[{"ports":[{"port":"public"}]}]`},
		{"who may is named", "networkPolicy: {publicFrom: [{ipBlock: {cidr: 10.0.0.0/8}}], adminFrom: [{podSelector: {matchLabels: {app: prometheus}}}]}\n",
			`[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8"}}],"ports":[{"port":"public"}]},{"from":[{"podSelector":{"matchLabels":{"app":"prometheus"}}}],"ports":[{"port":"admin"}]}]`},
	} {
		policy := find(t, objects(t, render(t, chart, "signalbox", "sts", minimal+row.values)), "NetworkPolicy signalbox")
		if got, _ := json.Marshal(at(policy, "spec", "ingress")); string(got) != row.want {
			t.Errorf("%s: %s", row.sentence, got)
		}
		if !reflect.DeepEqual(at(policy, "spec", "podSelector"), at(find(t, all, "StatefulSet signalbox"), "spec", "selector")) {
			t.Errorf("%s: it is for other pods: %v", row.sentence, at(policy, "spec", "podSelector"))
		}
	}
	agent := find(t, objects(t, render(t, agentChart, "signalbox", "sts", minimal)), "NetworkPolicy signalbox-agent")
	if got, _ := json.Marshal(at(agent, "spec", "ingress")); string(got) != "[]" {
		t.Errorf("who reaches the agent: %s", got)
	}
}

// TestChartWritesNothingTwice: alerts, the resource and the rights are those of deploy/.
func TestChartWritesNothingTwice(t *testing.T) {
	t.Parallel()
	helm(t)
	all := objects(t, render(t, chart, "signalbox", "signalbox", everything))
	alerts := objects(t, read(t, "../../deploy/prometheus/alerts.yaml"))[0]
	if !reflect.DeepEqual(find(t, all, "PrometheusRule signalbox")["spec"], alerts) {
		t.Error("the PrometheusRule is not deploy/prometheus/alerts.yaml")
	}
	kubernetes := objects(t, read(t, manifests+"crd.yaml")+"\n---\n"+read(t, manifests+"rbac.yaml")+"\n---\n"+read(t, manifests+"rbac-namespace.yaml"))
	names := map[string]string{"ClusterRole signalbox-token-editor": "ClusterRole signalbox-agent-token-editor"}
	compared := 0
	for _, want := range kubernetes {
		name := id(want)
		if ours := names[name]; ours != "" {
			name = ours
		}
		for _, got := range all {
			if id(got) != name || name == "RoleBinding signalbox-agent" && at(got, "metadata", "namespace") != "shop" {
				continue
			}
			compared++
			for key, value := range want {
				if key != "metadata" && !reflect.DeepEqual(got[key], value) {
					t.Errorf("%s: %s is\n%v\nand in deploy/kubernetes\n%v", name, key, got[key], value)
				}
			}
		}
	}
	_, rules, _ := strings.Cut(read(t, "../../docs/how-to/watch-pods.md"), "kind: ClusterRole\n")
	rules, _, _ = strings.Cut(rules, "\n---\n")
	watching := find(t, objects(t, render(t, chart, "signalbox", "signalbox", watchesItsCluster)), "ClusterRole signalbox")
	if !reflect.DeepEqual(watching["rules"], objects(t, rules)[0]["rules"]) {
		t.Errorf("the service has other rights than docs/how-to/watch-pods.md says: %v", watching["rules"])
	}
	if compared != len(kubernetes) {
		t.Errorf("%d of %d objects were found", compared, len(kubernetes))
	}
	// The agent can do nothing where it writes only what its own file names, but that.
	for _, m := range all {
		if id(m) == "Role signalbox-agent" && fmt.Sprint(at(m, "metadata", "namespace"), m["rules"]) != "argocd[map[apiGroups:[] resources:[secrets] verbs:[get create patch delete]]]" {
			t.Errorf("%v %v", m["metadata"], m["rules"])
		}
	}
}

// TestChartNamesWhatThereIs: selectors find the pods and Services that they are for, and
// ports have the names by which they are asked for.
func TestChartNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	helm(t)
	all := objects(t, render(t, chart, "signalbox", "sts", everything))
	matches := func(labels any, selector ...any) bool {
		for _, s := range selector {
			for key, value := range s.(manifest) {
				if labels.(manifest)[key] != value {
					return false
				}
			}
		}
		return true
	}
	for owner, selecting := range map[string][]string{
		"StatefulSet signalbox":      {"StatefulSet signalbox", "NetworkPolicy signalbox", "PodDisruptionBudget signalbox", "Service signalbox", "Service signalbox-nodes"},
		"Deployment signalbox-agent": {"Deployment signalbox-agent", "NetworkPolicy signalbox-agent", "PodMonitor signalbox-agent"},
	} {
		template := at(find(t, all, owner), "spec", "template").(manifest)
		labels := at(template, "metadata", "labels")
		ports := fmt.Sprint(at(template, "spec").(manifest)["containers"].([]any)[0].(manifest)["ports"])
		for _, name := range selecting {
			spec := find(t, all, name)["spec"].(manifest)
			selector, ok := spec["podSelector"].(manifest)
			if !ok {
				selector = spec["selector"].(manifest)
			}
			if inside, ok := selector["matchLabels"].(manifest); ok {
				selector = inside
			}
			if len(selector) == 0 || !matches(labels, selector) {
				t.Errorf("%s is for %v, and the pods are %v", name, selector, labels)
			}
			asked, _ := spec["ports"].([]any)
			for _, rule := range []string{"ingress", "podMetricsEndpoints"} {
				rules, _ := spec[rule].([]any)
				for _, r := range rules {
					if list, ok := r.(manifest)["ports"].([]any); ok {
						asked = append(asked, list...)
						continue
					}
					asked = append(asked, r)
				}
			}
			for _, p := range asked {
				port := p.(manifest)["targetPort"]
				if port == nil {
					port = p.(manifest)["port"]
				}
				if !strings.Contains(ports, fmt.Sprintf("name:%v]", port)) {
					t.Errorf("%s asks for the port %v of %s", name, port, ports)
				}
			}
		}
		// Alerts ask for jobs of these names.
		if job := labels.(manifest)["app.kubernetes.io/name"]; job != strings.Fields(owner)[1] {
			t.Errorf("the job is %v", job)
		}
	}
	monitor := find(t, all, "ServiceMonitor signalbox")["spec"].(manifest)
	nodes := find(t, all, "Service signalbox-nodes")
	if selector := at(monitor, "selector", "matchLabels"); !matches(at(nodes, "metadata", "labels"), selector) || matches(at(find(t, all, "Service signalbox"), "metadata", "labels"), selector) {
		t.Errorf("the ServiceMonitor is for %v", selector)
	}
	if port := monitor["endpoints"].([]any)[0].(manifest)["port"]; port != at(nodes, "spec", "ports").([]any)[0].(manifest)["name"] {
		t.Errorf("it asks for the port %v", port)
	}
	for _, name := range []string{"ServiceMonitor signalbox", "PodMonitor signalbox-agent"} {
		if label := at(find(t, all, name), "spec", "jobLabel"); label != "app.kubernetes.io/name" {
			t.Errorf("the job of %s is the label %v", name, label)
		}
	}
	if id := fmt.Sprint(at(find(t, all, "HorizontalPodAutoscaler signalbox"), "spec", "scaleTargetRef", "kind"), " ", at(find(t, all, "StatefulSet signalbox"), "spec", "replicas")); id != "StatefulSet <nil>" {
		t.Errorf("what is scaled, and how many the chart insists on: %s", id)
	}
}

// TestChartJoinsSections: what the chart says of the journal, and what the values say.
func TestChartJoinsSections(t *testing.T) {
	t.Parallel()
	helm(t)
	all := objects(t, render(t, chart, "signalbox", "sts", minimal+"config: {journal: {witness: \"https://witness.example.com/heads/\"}}"))
	file := at(find(t, all, "ConfigMap signalbox"), "data", "signalbox.yaml").(string)
	if !strings.Contains(file, "journal:\n  dir: /var/lib/signalbox/journal\n  witness: https://witness.example.com/heads/\n") {
		t.Errorf("the file is\n%s", file)
	}
}

// TestChartEndsGently: nobody is sent to a pod when it stops listening, and it has time to
// finish what it has begun.
func TestChartEndsGently(t *testing.T) {
	t.Parallel()
	helm(t)
	spec := at(find(t, objects(t, render(t, chart, "signalbox", "sts", minimal)), "StatefulSet signalbox"), "spec", "template", "spec").(manifest)
	pause := at(spec["containers"].([]any)[0].(manifest), "lifecycle", "preStop", "sleep", "seconds").(int)
	grace := spec["terminationGracePeriodSeconds"].(int)
	_, text, _ := strings.Cut(read(t, "../../internal/node/serve.go"), "drainTimeout = ")
	var drain int
	if _, err := fmt.Sscanf(text, "%d * time.Second", &drain); err != nil {
		t.Fatal(err)
	}
	if pause < 3 || grace < pause+drain+5 {
		t.Errorf("after %d s it stops listening, needs up to %d s, and is killed after %d s", pause, drain, grace)
	}
}

// TestChartRestartsForNothingElse: pods are replaced for what they read once, and for
// nothing that they take while they run.
func TestChartRestartsForNothingElse(t *testing.T) {
	t.Parallel()
	helm(t)
	template := func(values string) any {
		return at(find(t, objects(t, render(t, chart, "signalbox", "sts", minimal+values)), "StatefulSet signalbox"), "spec", "template")
	}
	before := template("")
	for _, row := range []struct {
		sentence, values string
		restart          bool
	}{
		{"a client", "config: {clients: [{client_id: a, grant_types: []}]}", false},
		{"lifetimes, policies and trusted issuers", "config: {tokens: {access_ttl: 1m}, policies: [], trusted_issuers: []}", false},
		{"who is let in", "networkPolicy: {adminFrom: [{podSelector: {}}]}", false},
		{"the format of the log", "config: {log: {format: text}}", true},
		{"where traces go", "config: {telemetry: {otlp_endpoint: \"https://otel.example.com:4318\"}}", true},
		{"a proxy that ends TLS", "tls: {trustedProxies: [10.0.0.0/8]}", true},
	} {
		if restart := !reflect.DeepEqual(template(row.values), before); restart != row.restart {
			t.Errorf("%s: new pods: %v", row.sentence, restart)
		}
	}
}

// TestChartKeepsTheJournal: no removal and no load that is over deletes a volume.
func TestChartKeepsTheJournal(t *testing.T) {
	t.Parallel()
	helm(t)
	spec := find(t, objects(t, render(t, chart, "signalbox", "sts", everything)), "StatefulSet signalbox")["spec"].(manifest)
	if keeps := fmt.Sprint(spec["persistentVolumeClaimRetentionPolicy"]); keeps != "map[whenDeleted:Retain whenScaled:Retain]" {
		t.Errorf("volumes: %s", keeps)
	}
	claim := spec["volumeClaimTemplates"].([]any)[0].(manifest)
	mounts := fmt.Sprint(at(spec, "template", "spec").(manifest)["containers"].([]any)[0].(manifest)["volumeMounts"])
	if !strings.Contains(mounts, fmt.Sprintf("mountPath:/var/lib/signalbox name:%v]", at(claim, "metadata", "name"))) {
		t.Errorf("the journal is on none of the claims: %s", mounts)
	}
}
