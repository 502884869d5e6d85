package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// policyConfig is a file with trust policies, of which one is on trial.
const policyConfig = `issuer: http://127.0.0.1:8443
secrets: {master_key_file: master.key}
clusters:
  - name: hub
    issuer: https://kubernetes.default.svc
    jwks_file: hub.jwks.json
  - name: spoke-a
trusted_issuers:
  - name: github
    issuer: https://token.actions.githubusercontent.com
users:
  - {sub: ada, username: ada, password_hash: "$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", groups: [sre]}
resources:
  - {id: "https://api.example.com", scopes: [orders:read, orders:write]}
policies:
  - name: deploys
    from: {cluster: hub, namespace: argocd, service_account: controller}
    when: pod.name.startsWith("controller-")
    to: {cluster: spoke-a}
  - name: publishes
    from: {trusted_issuer: github, subject: "repo:acme/app:prod", claims: {environment: production}}
    to: {resource: "https://api.example.com", scopes: [orders:write]}
  - name: tried
    from: {cluster: hub, namespace: shop, service_account: web}
    to: {cluster: spoke-a}
    mode: audit
  - name: people
    from: {user_group: sre}
    to: {cluster: spoke-a}
`

// policyFiles writes a configuration with its files, and gives the key of the cluster hub.
func policyFiles(t *testing.T, text string) (file string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"signalbox.yaml": text, "hub.jwks.json": string(set), "master.key": base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:32]),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "signalbox.yaml"), key
}

// signedBy is a token with these claims beside those that every proof has.
func signedBy(t *testing.T, key *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	now := time.Now().Unix()
	all := map[string]any{"aud": "http://127.0.0.1:8443", "iat": now, "nbf": now, "exp": now + 600}
	maps.Copy(all, claims)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func podToken(namespace, account, pod string) map[string]any {
	return map[string]any{
		"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:" + namespace + ":" + account,
		"kubernetes.io": map[string]any{
			"namespace": namespace, "serviceaccount": map[string]any{"name": account, "uid": "s"}, "pod": map[string]any{"name": pod, "uid": "p"},
		},
	}
}

func TestPolicyExplain(t *testing.T) {
	file, key := policyFiles(t, policyConfig)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	job := map[string]any{"iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/app:prod", "environment": "production"}
	with := func(m map[string]any, name string, value any) map[string]any {
		m = maps.Clone(m)
		m[name] = value
		return m
	}
	ours := map[string]any{"iss": "http://127.0.0.1:8443", "sub": "ada", "sub_profile": "user", "client_id": "cli"}
	cluster, resource := []string{"--cluster", "spoke-a"}, []string{"--resource", "https://api.example.com"}
	for _, row := range []struct {
		name  string
		token string
		args  []string
		code  int
		says  []string
	}{
		{"a pod that is let in", signedBy(t, key, podToken("argocd", "controller", "controller-0")), cluster, 0, []string{
			"allowed by the policy deploys", "cluster:hub:ns:argocd:sa:controller", "verified with the key set", "http://127.0.0.1:8443/clusters/spoke-a", "ok  when: pod.name.startsWith(\"controller-\")",
		}},
		{"a pod of another name", signedBy(t, key, podToken("argocd", "controller", "db-0")), cluster, 1, []string{
			"refused: no policy applies", "NO  when: wanted pod.name.startsWith(\"controller-\"), found pod.name is \"db-0\"", "to allow it: \"deploys\" asks for",
		}},
		{"a namespace with a suffix", signedBy(t, key, podToken("argocd-evil", "controller", "controller-0")), cluster, 1, []string{
			"NO  from.namespace: wanted \"argocd\", found \"argocd-evil\"", "to allow it: add a policy about exactly this\n- name: new\n", "namespace: argocd-evil",
		}},
		{"a trial", signedBy(t, key, podToken("shop", "web", "web-0")), cluster, 1, []string{"only policies on trial would apply: tried", "set mode: enforce in \"tried\""}},
		{"a key that is not the cluster's", signedBy(t, other, podToken("argocd", "controller", "controller-0")), cluster, 1, []string{"no proof, whatever the policies say", "not signed"}},
		{"an expired token", signedBy(t, key, with(podToken("argocd", "controller", "c"), "exp", 1)), cluster, 1, []string{"no proof", "has expired"}},
		{"a token for somebody else", signedBy(t, key, with(podToken("argocd", "controller", "c"), "aud", "https://other.example")), cluster, 1, []string{"no proof", "not for this service"}},
		{"an issuer without a key set", signedBy(t, other, job), resource, 0, []string{"allowed by the policy publishes", "decoded only, NOT verified", "scope    orders:write"}},
		{"a scope too many", signedBy(t, other, job), append([]string{"--scope", "orders:read"}, resource...), 1, []string{"does not give the scope orders:read", "NO  to.scopes: wanted orders:write, found \"orders:read\""}},
		{"an issuer of nobody", signedBy(t, other, with(job, "iss", "https://evil.example")), resource, 1, []string{"no proof"}},
		{"an environment in an array", signedBy(t, other, with(job, "environment", []string{"production"})), resource, 1, []string{"from.claims.environment: wanted \"production\", found an array"}},
		{"a person of the file's group", signedBy(t, other, ours), cluster, 0, []string{"allowed by the policy people", "one of our own tokens"}},
		{"a person's token at another client", signedBy(t, other, ours), append([]string{"--client-id", "api"}, cluster...), 1, []string{"a person's token that was issued to another client"}},
		{"a token of ours that is no access token", signedBy(t, other, map[string]any{"iss": "http://127.0.0.1:8443", "sub": "ada"}), cluster, 1, []string{"without a sub_profile"}},
		{"no token", "", cluster, 1, []string{"has no token"}},
		{"no JWT", "abc", cluster, 1, []string{"is not a JWT"}},
		{"a whole disk", strings.Repeat("a", maxSubjectToken+1), cluster, 1, []string{"longer than 64 KiB"}},
		{"nowhere", "", nil, 2, []string{"either --cluster or --resource"}},
		{"two places", "", append(cluster, resource...), 2, []string{"either --cluster or --resource"}},
		{"a scope that is none", "", append([]string{"--scope", "a\"b"}, resource...), 2, []string{"--scope"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			tokenFile := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(tokenFile, []byte(row.token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"policy", "explain", "--config", file, "--subject-token-file", tokenFile}, row.args...)
			r := execute(t, t.Context(), nil, strings.NewReader(""), args...).wants(row.code, row.says...)
			if _, signature, ok := strings.Cut(strings.TrimLeft(row.token, "."), "."); ok && strings.Contains(r.out+r.err, signature) {
				t.Error("the token is shown")
			}
		})
	}
	r := execute(t, t.Context(), nil, strings.NewReader(signedBy(t, key, podToken("argocd", "controller", "db-0"))),
		"policy", "explain", "--config", file, "--cluster", "spoke-a", "--subject-token-file", "-", "-o", "json").wants(1)
	var e explanation
	if err := json.Unmarshal([]byte(r.out), &e); err != nil || e.Allowed || !e.Verified || len(e.Policies) != 4 || e.Policies[0].Policy != "deploys" || e.Change == "" {
		t.Errorf("%v: %s", err, r.out)
	}
}

const policyCases = `tests:
  - name: the controller deploys
    from: {cluster: hub, namespace: argocd, service_account: controller, pod: {name: controller-0}}
    to: {cluster: spoke-a}
    expect: allow
    policy: deploys
  - name: main publishes
    from: {trusted_issuer: github, subject: "repo:acme/app:prod", claims: {environment: production, run_attempt: 1}}
    to: {resource: "https://api.example.com", scopes: [orders:write]}
    expect: allow
  - name: nobody reads
    from: {trusted_issuer: github, subject: "repo:acme/app:prod", claims: {environment: production}}
    to: {resource: "https://api.example.com", scopes: [orders:read]}
    expect: deny
  - name: a trial gives nothing
    from: {cluster: hub, namespace: shop, service_account: web}
    to: {cluster: spoke-a}
    expect: deny
  - name: people
    from: {user_group: sre}
    to: {cluster: spoke-a}
    expect: allow
  - name: a client that nobody named
    from: {client: orders, on_behalf_of: user}
    to: {cluster: spoke-a}
    expect: deny
`

func TestPolicyTest(t *testing.T) {
	file, _ := policyFiles(t, policyConfig)
	run := func(cases string, args ...string) result {
		return execute(t, t.Context(), nil, strings.NewReader(cases), append([]string{"policy", "test", "-", "--config", file}, args...)...)
	}
	run(policyCases).wants(0, "ok    the controller deploys: allowed by the policy deploys", "ok    nobody reads: refused", "6 cases, 0 failed")
	for _, row := range []struct{ name, from, to, says string }{
		{"what should be allowed is not", "pod: {name: controller-0}", "pod: {name: db-0}", "FAIL  the controller deploys: expected allow, and it is refused: no policy applies; nearest is deploys, where when wants pod.name.startsWith(\"controller-\") and finds pod.name is \"db-0\""},
		{"what should be denied is not", "scopes: [orders:read]", "scopes: [orders:write]", "FAIL  nobody reads: expected deny, and it is allowed by the policy publishes"},
		{"another policy allows it", "policy: deploys", "policy: people", "expected the policy people, and it is allowed by the policy deploys"},
	} {
		t.Run(row.name, func(t *testing.T) {
			run(strings.Replace(policyCases, row.from, row.to, 1)).wants(1, row.says, "6 cases, 1 failed")
		})
	}
	r := run(strings.Replace(policyCases, "name: main publishes\n", "name: \"<main> & \\u202e\"\n", 1)+"  - {name: wrong, from: {user_group: sre}, to: {cluster: spoke-a}, expect: deny}\n", "-o", "junit").wants(1)
	var suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Cases    []struct {
			Name    string `xml:"name,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
			} `xml:"failure"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal([]byte(r.out), &suite); err != nil || suite.Tests != 7 || suite.Failures != 1 || len(suite.Cases) != 7 ||
		suite.Cases[0].Failure != nil || suite.Cases[6].Failure == nil || !strings.Contains(suite.Cases[6].Failure.Message, "expected deny") || !strings.HasPrefix(suite.Cases[1].Name, "<main> & ") || strings.Contains(r.out, "\u202e") {
		t.Errorf("%v: %s", err, r.out)
	}
	run(policyCases, "-o", "json").wants(0, `"passed": true`)
	run(policyCases, "-o", "name").wants(2, "junit")
	conflict := policyConfig + "  - name: more people\n    from: {user_group: sre}\n    when: subject == \"somebody\"\n    to: {cluster: spoke-a}\n"
	conflict = strings.Replace(strings.Replace(conflict, "more people", "more", 1), "    from: {user_group: sre}\n    to:", "    from: {user_group: sre}\n    when: subject != \"\"\n    to:", 1)
	file, _ = policyFiles(t, conflict)
	run("tests: [{name: both, from: {user_group: sre}, to: {cluster: spoke-a}, expect: deny}]\n").wants(1, "FAIL  both: two policies apply, more and people")
}

func TestPolicyTestRefusesAFileThatItDoesNotUnderstand(t *testing.T) {
	file, _ := policyFiles(t, policyConfig)
	one := func(text string) string { return "tests:\n  - " + strings.ReplaceAll(text, "\n", "\n    ") + "\n" }
	good := "name: x\nfrom: {user_group: sre}\nto: {cluster: spoke-a}\nexpect: allow"
	for _, row := range []struct{ name, text, says string }{
		{"no case", "tests: []", "there is no case"},
		{"an empty file", "", "there is no case"},
		{"another list", "cases: []", ":1:1: cases: unknown key"},
		{"an unknown key", one(good + "\nexpected: deny"), ":6:5: tests[0].expected: unknown key"},
		{"an unknown key with a near one", one(good + "\nexpekt: deny"), "did you mean expect?"},
		{"an unknown key of from", one("name: x\nfrom: {cluster: hub, namespaces: a}\nto: {cluster: spoke-a}\nexpect: deny"), ":3:26: tests[0].from.namespaces: unknown key"},
		{"a key of pod", one("name: x\nfrom: {cluster: hub, namespace: a, service_account: b, pod: {nam: c}}\nto: {cluster: spoke-a}\nexpect: deny"), "from.pod.nam: unknown key"},
		{"a key twice", one(good + "\nname: y"), "a second time"},
		{"no expectation", one("name: x\nfrom: {user_group: sre}\nto: {cluster: spoke-a}"), "tests[0].expect: is missing"},
		{"another expectation", one(strings.Replace(good, "allow", "maybe", 1)), "write allow or deny"},
		{"a policy of nobody", one(good + "\npolicy: nobody"), "there is no policy"},
		{"a policy that denies", one(strings.Replace(good, "allow", "deny", 1) + "\npolicy: people"), "expect: allow only"},
		{"a cluster of nobody", one(strings.Replace(good, "user_group: sre", "cluster: hup, namespace: a, service_account: b", 1)), "there is no cluster"},
		{"a whole namespace", one(strings.Replace(good, "user_group: sre", "cluster: hub, namespace: a", 1)), "one service account"},
		{"an issuer of nobody", one(strings.Replace(good, "user_group: sre", "trusted_issuer: gitlab, subject: a", 1)), "there is no trusted issuer"},
		{"every subject", one(strings.Replace(good, "user_group: sre", "trusted_issuer: github", 1)), "one subject"},
		{"a client for nobody", one(strings.Replace(good, "user_group: sre", "client: x", 1)), "for what kind of subject"},
		{"two origins", one(strings.Replace(good, "user_group: sre", "user_group: sre, client: x", 1)), "nobody, or two"},
		{"no place", one(strings.Replace(good, "cluster: spoke-a", "scopes: [a]", 1)), "no place, or to two"},
		{"a time that is none", one(good + "\nnow: noon"), "is not a time"},
		{"text that is a number", one(strings.Replace(good, "name: x", "name: 1", 1)), "expected text"},
		{"an anchor", one("&a " + good), "anchors"},
		{"cases that are no list", "tests: {name: x}", "expected a list"},
		{"a case that is a word", "tests: [x]", "expected keys"},
	} {
		t.Run(row.name, func(t *testing.T) {
			execute(t, t.Context(), nil, strings.NewReader(row.text), "policy", "test", "-", "--config", file).wants(1, row.says)
		})
	}
	execute(t, t.Context(), nil, strings.NewReader(""), "policy", "test", "--config", file).wants(2, "name one file")
	execute(t, t.Context(), nil, strings.NewReader(""), "policy", "test", "-").wants(2, "--config")
}

// The CI of a repository has neither the master key nor the secrets of the clients.
func TestPoliciesAreTestedWithoutSecrets(t *testing.T) {
	text := strings.NewReplacer(
		"secrets: {master_key_file: master.key}", "secrets: {master_key_file: /run/secrets/master-key}\ntls: {cert_file: /run/secrets/tls.crt, key_file: /run/secrets/tls.key}\n"+
			"clients: [{client_id: job, grant_types: [client_credentials], client_secret_file: job.secret}, {client_id: jwt, grant_types: [client_credentials], token_endpoint_auth_method: private_key_jwt, jwks_file: jwt.jwks}]",
		"jwks_file: hub.jwks.json", "kubeconfig_file: hub.kubeconfig\n    jwks_file: gone.jwks.json\n    terminating_pods: refuse\n    ca_file: ca.crt",
		"  - name: spoke-a\n", "  - name: spoke-a\n  - {name: far, issuer: \"https://far.example.com\", jwks_file: far.jwks.json}\n",
		"pod.name.startsWith(\"controller-\")\n    to: {cluster: spoke-a}", "pod.name.startsWith(\"controller-\")\n    to: {cluster: spoke-a}\n    ttl: 50m", // only where pods are watched
		"to: {cluster: spoke-a}\n    mode", "to: {cluster: kept}\n    mode",
		`password_hash: "$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`, "password_file: ada.password",
	).Replace(policyConfig)
	text = strings.Replace(text, "    ca_file: ca.crt\n", "", 1)
	file, key := policyFiles(t, text)
	run := func(cases string) result {
		return execute(t, t.Context(), nil, strings.NewReader(cases), "policy", "test", "-", "--config", file)
	}
	const note = "note: the cluster kept is not in this file. If the admin API keeps it"
	r := run(policyCases).wants(0, "6 cases, 0 failed", note)
	if strings.Count(r.err, "note:") != 1 {
		t.Error(r.err)
	}
	pod := strings.NewReader(signedBy(t, key, podToken("argocd", "controller", "controller-0")))
	execute(t, t.Context(), nil, pod, "policy", "explain", "--config", file, "--cluster", "spoke-a", "--subject-token-file", "-").wants(0, "allowed by the policy deploys", "NOT verified: no key set of its issuer is at hand")
	pod = strings.NewReader(signedBy(t, key, podToken("argocd", "controller", "controller-0")))
	execute(t, t.Context(), nil, pod, "policy", "explain", "--config", file, "--cluster", "other", "--client-id", "nobody", "--subject-token-file", "-").
		wants(1, "note: the cluster other is not in this file", "note: the client nobody is not in this file")

	// A typing error must not pass as a refusal that was expected.
	run("tests: [{name: x, from: {user_group: sre}, to: {cluster: spoke-b}, expect: deny}]\n").wants(1, `there is no cluster "spoke-b" in the configuration`)
	run("tests: [{name: x, from: {user_group: dev}, to: {cluster: kept}, expect: deny}]\n").wants(0)
	run("tests: [{name: x, from: {cluster: kept, namespace: a, service_account: b}, to: {cluster: spoke-a}, expect: deny}]\n").wants(1, "one that the admin API keeps is in no file")
	// What is there is checked as ever, and a service does not start like this.
	execute(t, t.Context(), nil, strings.NewReader(""), "config", "validate", file).wants(1, "secrets.master_key_file", "clients[0].client_secret_file", "clusters[0].kubeconfig_file")
	wrong, _ := policyFiles(t, strings.Replace(text, "gone.jwks.json", "master.key", 1))
	execute(t, t.Context(), nil, strings.NewReader(policyCases), "policy", "test", "-", "--config", wrong).wants(1, "clusters[0].jwks_file")
	broken, _ := policyFiles(t, strings.Replace(text, "client_id: job", "client_id: job, nonsense: 1", 1))
	execute(t, t.Context(), nil, strings.NewReader(policyCases), "policy", "test", "-", "--config", broken).wants(1, "clients[0].nonsense")
}
