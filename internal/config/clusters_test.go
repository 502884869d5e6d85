package config

import (
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	testKeys  = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	otherKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"fU0OfldpLpnzXu0s2zaqEiFjJnVY2RvXsu5tAxNYXaQ"}]}`

	testKubeconfig = `apiVersion: v1
kind: Config
clusters:
  - {name: hub, cluster: {server: "https://10.0.0.1:6443", certificate-authority-data: QUJD}}
users:
  - {name: signalbox, user: {tokenFile: /run/secrets/token}}
contexts:
  - {name: hub, context: {cluster: hub, user: signalbox}}
current-context: hub
`

	// clustered is good with one of everything that workloads need.
	clustered = good + `clusters:
  - name: hub
    issuer: https://kubernetes.default.svc
    jwks_file: hub.jwks.json
    audiences: ["https://sts.example.com"]
  - name: spoke-a
    webhook: {caller: api}
trusted_issuers:
  - name: github
    issuer: https://token.actions.githubusercontent.com
    audiences: ["https://sts.example.com"]
policies:
  - name: deploys
    from: {cluster: hub, namespace: argocd, service_account: controller}
    when: |
      pod.name.startsWith("argocd-") &&
      size(request.scope) == 0
    to: {cluster: spoke-a}
    groups: [deployers]
    ttl: 5m
  - name: publishes
    from: {trusted_issuer: github, subject: "repo:acme/app:ref:refs/heads/main", claims: {environment: production}}
    to: {resource: "https://api.example.com", scopes: [orders:read]}
    mode: audit
  - name: people
    from: {user_group: sre}
    to: {cluster: spoke-a}
    groups: [admins]
`
)

// parseBeside parses a document with files beside it.
func parseBeside(t *testing.T, doc string, files map[string]string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		write(t, dir, name, content)
	}
	return Parse(filepath.Join(dir, "signalbox.yaml"), []byte(doc), []string{masterIn})
}

var besideClustered = map[string]string{"hub.jwks.json": testKeys, "other.jwks.json": otherKeys, "hub.kubeconfig": testKubeconfig}

func TestWorkloadsAreReadAsTheyAreWritten(t *testing.T) {
	c, err := parseBeside(t, clustered, besideClustered)
	if err != nil {
		t.Fatal(err)
	}
	hub, spoke := c.Clusters[0], c.Clusters[1]
	if hub.Name != "hub" || hub.Issuer != "https://kubernetes.default.svc" || string(hub.JWKS) != testKeys || !slices.Equal(hub.Audiences, []string{"https://sts.example.com"}) || hub.Webhook != nil {
		t.Errorf("%+v", hub)
	}
	if spoke.Webhook == nil || spoke.Webhook.Caller != "api" {
		t.Errorf("%+v", spoke)
	}
	if github := c.TrustedIssuers[0]; github.Name != "github" || github.Issuer != "https://token.actions.githubusercontent.com" {
		t.Errorf("%+v", github)
	}
	want := []authority.PolicyMetadata{
		{
			Name: "deploys", From: authority.PolicyFrom{Cluster: "hub", Namespace: "argocd", ServiceAccount: "controller"},
			When: "pod.name.startsWith(\"argocd-\") &&\nsize(request.scope) == 0\n", To: authority.PolicyTo{Cluster: "spoke-a"},
			Groups: []string{"deployers"}, TTL: authority.Seconds(5 * time.Minute), Mode: "enforce",
		},
		{
			Name: "publishes", From: authority.PolicyFrom{TrustedIssuer: "github", Subject: "repo:acme/app:ref:refs/heads/main", Claims: map[string]string{"environment": "production"}},
			To: authority.PolicyTo{Resource: "https://api.example.com", Scopes: []string{"orders:read"}}, Mode: "audit",
		},
		{Name: "people", From: authority.PolicyFrom{UserGroup: "sre"}, To: authority.PolicyTo{Cluster: "spoke-a"}, Groups: []string{"admins"}, Mode: "enforce"},
	}
	for i, p := range c.Policies {
		if !reflect.DeepEqual(p.PolicyMetadata, want[i]) {
			t.Errorf("got  %+v\nwant %+v", p.PolicyMetadata, want[i])
		}
	}
	if len(c.Elsewhere) != 0 || c.Alone(nil) != nil {
		t.Errorf("elsewhere: %v", c.Elsewhere)
	}
	if !slices.ContainsFunc(c.Files, func(f File) bool { return filepath.Base(f.Path) == "hub.jwks.json" }) {
		t.Errorf("a reload does not watch the keys: %v", c.Files)
	}
}

// Each row changes one thing and gives exactly one error.
func TestOneWrongThingAboutWorkloadsGivesOneError(t *testing.T) {
	for _, row := range []struct{ name, old, new, key, want string }{
		{"only EdDSA", "clusters:\n", "keys: {algorithms: [EdDSA]}\nclusters:\n", "keys.algorithms", "does not verify EdDSA"},
		{"a cluster twice", "name: spoke-a", "name: hub", "clusters[1].name", "is also clusters[0]"},
		{"a cluster with a colon", "name: spoke-a\n", "name: 'a:b'\n", "clusters[1].name", "not a name"},
		{"one key in two clusters", "name: spoke-a\n", "name: spoke-a\n    issuer: https://kubernetes.default.svc\n    jwks_file: hub.jwks.json\n", "clusters[1].jwks_file", `"hub" has too`},
		{"keys that are not there", "jwks_file: hub.jwks.json", "jwks_file: hup.jwks.json", "clusters[0].jwks_file", "does not exist"},
		{"keys that are none", "jwks_file: hub.jwks.json", "jwks_file: hub.kubeconfig", "clusters[0].jwks_file", "not a key set"},
		{"certificates that are none", "webhook:", "ca_file: hub.jwks.json\n    api_server: https://10.0.0.2:6443\n    credential: self\n    issuer: https://a.example.com\n    webhook:", "clusters[1].ca_file", "no certificate"},
		{"a kubeconfig that is none", "    jwks_file: hub", "    kubeconfig_file: hub.jwks.json\n    jwks_file: hub", "clusters[0].kubeconfig_file", "not a kubeconfig"},
		{"a mode that nobody has", "    jwks_file: hub", "    pods: sometimes\n    jwks_file: hub", "clusters[0].pods", "not accepted"},
		{"a webhook of a client that is not there", "caller: api", "caller: ap1", "clusters[1].webhook.caller", "no client"},
		{"a webhook of nobody", "webhook: {caller: api}", "webhook: {}", "clusters[1].webhook.caller", "missing"},
		{"an auditor that is not there", "webhook: {caller: api}", "introspection_clients: [ap1]", "clusters[1].introspection_clients[0]", "no client"},
		{"a trusted issuer twice", "trusted_issuers:\n", "trusted_issuers:\n  - {name: ci, issuer: 'https://token.actions.githubusercontent.com'}\n", "trusted_issuers[1].issuer", "is also trusted_issuers[0]"},
		{"a trusted issuer's name twice", "trusted_issuers:\n", "trusted_issuers:\n  - {name: github, issuer: 'https://ci.example.com'}\n", "trusted_issuers[1].name", "is also trusted_issuers[0]"},
		{"ourselves as a trusted issuer", "trusted_issuers:\n", "trusted_issuers:\n  - {name: us, issuer: 'http://127.0.0.1:8443'}\n", "trusted_issuers[0].issuer", "our own"},
		{"a trusted issuer with a cluster's key", "trusted_issuers:\n", "trusted_issuers:\n  - {name: ci, issuer: 'https://ci.example.com', jwks_file: hub.jwks.json}\n", "trusted_issuers[0].jwks_file", `"hub" has too`},
		{"a policy twice", "name: people", "name: deploys", "policies[2].name", "is also policies[0]"},
		{"a policy from nobody", "from: {user_group: sre}", "from: {}", "policies[2].from", "names nobody"},
		{"a policy without from", "    from: {user_group: sre}\n", "", "policies[2].from", "names nobody"},
		{"an unknown key in from", "from: {user_group: sre}", "from: {user_group: sre, user: ada}", "policies[2].from.user", "unknown key"},
		{"a policy of an issuer that is not there", "trusted_issuer: github,", "trusted_issuer: gitlab,", "policies[1].from.trusted_issuer", "no trusted issuer"},
		{"a policy to a resource that is not there", `to: {resource: "https://api.example.com", scopes: [orders:read]}`, `to: {resource: "https://api.example.org"}`, "policies[1].to.resource", "no resource"},
		{"a scope that the resource has not", "to: {resource: \"https://api.example.com\", scopes: [orders:read]}", "to: {resource: \"https://api.example.com\", scopes: [orders:write]}", "policies[1].to.scopes[0]", "no scope"},
		{"a policy of a client that is not there", "from: {user_group: sre}", "from: {client: ordres, on_behalf_of: user}", "policies[2].from.client", "no client"},
		{"a policy of a client that does not exchange", "from: {user_group: sre}", "from: {client: api, on_behalf_of: user}", "policies[2].from.client", "may not exchange"},
		{"six minutes from pods that nobody watches", "ttl: 5m", "ttl: 6m", "policies[0].ttl", "pods: offline"},
		{"a claim that is a number", "environment: production", "attempt: 1", "policies[1].from.claims.attempt", "expected text"},
		{"a claim twice", "environment: production", "environment: production, environment: test", "policies[1].from.claims.environment", "second time"},
		{"claims that are a list", "claims: {environment: production}", "claims: [production]", "policies[1].from.claims", "expected keys"},
		{"a group of Kubernetes", "groups: [admins]", "groups: ['system:masters']", "policies[2].groups[0]", "system:"},
		{"a person in a group of Kubernetes", "username: ada", "username: ada, groups: ['system:masters']", "users[0].groups[0]", "system:"},
		{"a resource in the place of a cluster", "resources:\n", "resources:\n  - {id: 'http://127.0.0.1:8443/clusters/hub'}\n", "resources[0].id", "place of a cluster"},
		{"an outbound CA that is none", "clusters:\n", "outbound: {ca_file: hub.jwks.json}\nclusters:\n", "outbound.ca_file", "no certificate"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if !strings.Contains(clustered, row.old) {
				t.Fatalf("the document has no %q", row.old)
			}
			_, err := parseBeside(t, strings.Replace(clustered, row.old, row.new, 1), besideClustered)
			var es Errors
			if !errors.As(err, &es) {
				t.Fatalf("accepted: %v", err)
			}
			if len(es) != 1 || es[0].Key != row.key || !strings.Contains(es[0].Problem, row.want) || es[0].Line < 1 {
				t.Errorf("want %s: %s, got:\n%v", row.key, row.want, err)
			}
		})
	}
}

// The admin API may keep a cluster that a policy names; a file that is checked
// alone must say so.
func TestAClusterOfTheAdminAPI(t *testing.T) {
	c, err := parseBeside(t, strings.Replace(clustered, "to: {cluster: spoke-a}\n    groups: [admins]", "to: {cluster: spoke-b}\n    groups: [admins]", 1), besideClustered)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Reference{{"policies[2].to.cluster", "spoke-b"}}; !slices.Equal(c.Elsewhere, want) {
		t.Errorf("%v", c.Elsewhere)
	}
	withClient := strings.Replace(clustered, "clients:\n", "clients:\n  - {client_id: argocd, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {cluster: spoke-b, namespace: a, service_account: b}}\n", 1)
	if other, err := parseBeside(t, withClient, besideClustered); err != nil || !slices.Equal(other.Elsewhere, []Reference{{"clients[0].federated_credential.cluster", "spoke-b"}}) {
		t.Errorf("%v", err)
	}
	if err := c.Alone([]string{"spoke-b"}); err != nil {
		t.Error(err)
	}
	var es Errors
	if err := c.Alone([]string{"spoke-c"}); !errors.As(err, &es) || len(es) != 1 || es[0].Key != "policies[2].to.cluster" || es[0].Line == 0 || !strings.Contains(es[0].Fix, "spoke-a") {
		t.Errorf("%v", err)
	}
}

func TestAKubeconfigHasNoStaticSecret(t *testing.T) {
	const user = "user: {tokenFile: /run/secrets/token}"
	for _, row := range []struct{ name, old, new, want string }{
		{"a file with a token that is renewed", user, user, ""},
		{"a client certificate", user, "user: {client-certificate-data: QUJD, client-key-data: aHVudGVyMg==}", "warning"},
		{"an inline token", user, "user: {token: hunter2}", "inline token"},
		{"an inline token beside a file", user, "user: {tokenFile: /run/secrets/token, token: hunter2}", "inline token"},
		{"an inline token of another user", "contexts:", "  - {name: b, user: {token: hunter2}}\ncontexts:", "inline token"},
		{"a password", user, "user: {username: a, password: hunter2}", "password"},
		{"a program", user, "user: {exec: {command: hunter2}}", "runs a program"},
		{"a plugin of old", user, "user: {auth-provider: {name: gcp}}", "runs a program"},
		{"a file beside it", user, "user: {tokenFile: token}", "relative path"},
		{"nobody to verify", "certificate-authority-data: QUJD", "insecure-skip-tls-verify: true", "insecure"},
		{"plain HTTP", "https://10", "http://10", "https"},
		{"no user", "  - {name: signalbox, " + user + "}\n", "", "not a kubeconfig"},
		{"two documents", "current-context: hub\n", "current-context: hub\n---\nusers: [{user: {token: hunter2}}]\n", "not a kubeconfig"},
		{"no YAML", "apiVersion: v1", "]", "not a kubeconfig"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(testKubeconfig, row.old, row.new, 1)
			doc := strings.Replace(clustered, "    jwks_file: hub.jwks.json", "    kubeconfig_file: k", 1)
			c, err := parseBeside(t, doc, map[string]string{"k": text})
			switch {
			case row.want == "" || row.want == "warning":
				if err != nil || (len(c.Warnings) == 1) != (row.want == "warning") || string(c.Clusters[0].Kubeconfig) != text {
					t.Errorf("%v", err)
				}
			case err == nil || !strings.Contains(err.Error(), "clusters[0].kubeconfig_file") || !strings.Contains(err.Error(), row.want):
				t.Errorf("%v", err)
			case strings.Contains(err.Error(), "hunter2"):
				t.Errorf("it shows the secret: %v", err)
			}
		})
	}
}

// A mistake inside a text of its own, such as CEL, is shown where it is in the
// file, however the file writes that text.
func TestAPlaceInsideAValueIsAPlaceInTheFile(t *testing.T) {
	for _, row := range []struct {
		name, when   string
		line, column int    // of the expression
		below, at    int    // the line of the key, and the column there
		text         string // before the problem
	}{
		{"plain", `pod.name == "é" && nobody`, 1, 20, 0, 30, ""},
		{"in double quotes", `"a == b"`, 1, 6, 0, 17, ""},
		{"in single quotes", `'pod.name == "x"'`, 1, 1, 0, 12, ""},
		{"a block", "|\n      pod.name == \"x\" &&\n        nobody", 2, 3, 2, 9, ""},
		{"a block, its first line", "|\n      pod.name == \"x\" &&\n        nobody", 1, 5, 1, 11, ""},
		{"a block that strips", "|-\n     pod.name == \"x\"", 1, 1, 1, 6, ""},
		{"with an escape", `"a == \"b\" && c"`, 1, 13, 0, 11, "line 1, column 13 of the text: "},
		{"folded", ">-\n      a &&\n      b", 1, 6, 0, 11, "line 1, column 6 of the text: "},
		{"the whole value", `a == b`, 0, 0, 0, 11, ""},
		{"beyond the text", `a == b`, 7, 1, 0, 11, "line 7, column 1 of the text: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			doc := good + "clusters: [{name: spoke-a}]\npolicies:\n  - name: people\n    from: {user_group: sre}\n    to: {cluster: spoke-a}\n    when: " + row.when + "\n"
			c, err := parseBeside(t, doc, nil)
			if err != nil {
				t.Fatal(err)
			}
			var found Errors
			if !errors.As(c.RefuseAll([]authority.Problem{{Field: "policies[0].when", Text: "undeclared", Fix: "x", Line: row.line, Column: row.column}}), &found) {
				t.Fatal("taken")
			}
			key := strings.Count(doc[:strings.Index(doc, "when:")], "\n") + 1
			if e := found[0]; e.Line != key+row.below || e.Column != row.at || e.Problem != row.text+"undeclared" || e.Key != "policies[0].when" {
				t.Errorf("told %d:%d in line %d: %s", e.Line, e.Column, key, e)
			}
		})
	}
}

func TestAPolicyThatLetsInTooManyIsToldAtStart(t *testing.T) {
	doc := strings.Replace(clustered, `subject: "repo:acme/app:ref:refs/heads/main", `, "", 1)
	doc = strings.Replace(doc, "  - name: github\n    issuer: https://token.actions.githubusercontent.com\n    audiences: [\"https://sts.example.com\"]", "  - name: github\n    issuer: https://token.actions.githubusercontent.com\n    audiences: [sigstore]", 1)
	c, err := parseBeside(t, doc, besideClustered)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(c.Warnings, "\n")
	for _, want := range []string{"policies[1].from: lets in too many", "trusted_issuers[0].audiences[0]: "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

// docs/security/threats.md I 98: what is for local runs is refused where strangers are.
func TestAPublicIssuerDoesNotCallLoopback(t *testing.T) {
	const outbound = "outbound: {allow_loopback: true}\n"
	if _, err := parse(t, good+outbound, masterIn); err != nil {
		t.Errorf("a local run is refused: %v", err)
	}
	_, err := parse(t, strings.Replace(good, "issuer: http://127.0.0.1:8443\n", "issuer: https://sts.example.com\ntls: {off: true, trusted_proxies: [10.0.0.1]}\n", 1)+outbound, masterIn)
	var es Errors
	if !errors.As(err, &es) || len(es) != 1 || es[0].Key != "outbound.allow_loopback" || !strings.Contains(es[0].Problem, "issuer is public") {
		t.Errorf("%v", err)
	}
}
