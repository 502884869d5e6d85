package kube

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// flux is the real source-controller and kustomize-controller on the hub.
type flux struct {
	*testing.T
	hub                *rig.Cluster
	namespace          string
	sources, kustomize *rig.Program
}

func startFlux(t *testing.T, hub *rig.Cluster, namespace string) *flux {
	t.Helper()
	f := &flux{T: t, hub: hub, namespace: namespace}
	programs := rig.GitOps(t)
	for _, name := range []string{"source-controller", "kustomize-controller"} {
		installKinds(t, hub, filepath.Join(programs, "crds", name))
	}
	hub.Namespace(t, namespace)
	artifacts := rig.FreeAddress()
	run := func(name string, args ...string) *rig.Program {
		health := rig.FreeAddress()
		command := exec.Command(filepath.Join(programs, name), append(args, "--events-addr=", "--enable-leader-election=false", "--watch-all-namespaces=false",
			"--metrics-addr=127.0.0.1:0", "--health-addr="+health, "--min-retry-delay=500ms", "--max-retry-delay=2s")...)
		dir := t.TempDir()
		command.Env = append(os.Environ(), "KUBECONFIG="+hub.Kubeconfig(), "RUNTIME_NAMESPACE="+namespace, "HOME="+dir, "TMPDIR="+dir)
		p := rig.Run(t, name, command)
		p.WaitFor("http://" + health + "/readyz")
		return p
	}
	f.sources = run("source-controller", "--storage-path="+t.TempDir(), "--storage-addr="+artifacts, "--storage-adv-addr="+artifacts)
	f.kustomize = run("kustomize-controller", "--interval-jitter-percentage=0", "--feature-gates=ObjectLevelWorkloadIdentity=true")
	return f
}

// object is what the tests look at of Flux's kinds.
type fluxObject struct {
	Status struct {
		Conditions          []struct{ Type, Status, Reason, Message string }
		LastAppliedRevision string
		Artifact            struct{ Revision string }
	}
}

func (o fluxObject) ready() (status, message string) {
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status, c.Reason + ": " + c.Message
		}
	}
	return "", ""
}

func (f *flux) get(kind, name string) (o fluxObject) {
	f.Helper()
	api := map[string]string{"gitrepositories": "source.toolkit.fluxcd.io/v1", "kustomizations": "kustomize.toolkit.fluxcd.io/v1"}[kind]
	if err := f.hub.Call(http.MethodGet, "/apis/"+api+"/namespaces/"+f.namespace+"/"+kind+"/"+name, nil, &o); err != nil {
		f.Fatal(err)
	}
	return o
}

// applies waits until the Kustomization has applied the revision. It must not fail meanwhile, but for the
// first time, when what it needs comes after it.
func (f *flux) applies(name, revision string, first bool) {
	f.Helper()
	said := ""
	defer func() {
		if f.Failed() {
			f.Log(name, "said", said)
		}
	}()
	until(f.T, time.Minute, name+" has applied "+revision, func() bool {
		o := f.get("kustomizations", name)
		status, message := o.ready()
		said = message
		if status == "False" && !first {
			f.Fatalf("%s failed: %s", name, message)
		}
		return status == "True" && strings.HasSuffix(o.Status.LastAppliedRevision, revision)
	})
}

// gitServer is the example, behind a proxy with TLS.
func gitServer(t *testing.T, s *service, root string) (url string, ca []byte) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "git-server")
	build := exec.Command("go", "build", "-o", program, "./examples/git-server")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(apiSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := rig.FreeAddress()
	command := exec.Command(program, "--listen", address, "--root", root, "--issuer", s.Issuer, "--resource", "https://git.example.com",
		"--client-id", apiClient, "--client-secret-file", secret)
	command.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(s.dir, "tls.crt"), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	rig.Run(t, "git-server", command).Wait("it listens", func() bool { return listens(address) })
	behind := mustParse(t, "http://"+address)
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind) }})
	proxy.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return proxy.URL, certificatePEM(proxy.Certificate())
}

func mustParse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// quoted is a text as YAML, on one line.
func quoted(text []byte) string {
	out, _ := json.Marshal(string(text))
	return string(out)
}

func TestScenarios15And16And17_FluxDeploysWithTokensOfTheAgent(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "flux"
	s := startService(t, trustClients+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: flux-a}\npolicies:\n"+
		"  - {name: flux-to-flux-a, from: {cluster: hub, namespace: flux, service_account: orders}, to: {cluster: flux-a}, groups: [deployers], ttl: 15s}\n"+
		"  - {name: flux-reads-git, from: {cluster: hub, namespace: flux, service_account: orders}, to: {resource: \"https://git.example.com\", scopes: [repo:read]}, ttl: 15s}\n")
	f := startFlux(t, r.Hub, namespace)
	pod := runs(t, r.Hub, namespace, "orders", "orders-1")
	startAgent(t, s, install(t, r.Hub, namespace), namespace)
	repo := newRepository(t, "generic", "secret")
	git, gitCA := gitServer(t, s, repo.dir)

	// The cluster has another issuer of its own: no API server takes its own issuer from elsewhere.
	spoke := r.Add(t, "flux-a", rig.Options{Issuer: "https://oidc.flux-a.example.com"})
	spoke.SetAuthenticationConfig(t, fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: %[1]q, audiences: [%[2]q], certificateAuthority: %[3]s}
  claimMappings:
    username: {claim: sub, prefix: "signalbox:"}
    groups: {claim: groups, prefix: "signalbox:"}
- issuer: {url: %[4]q, discoveryURL: "%[1]s/clusters/hub/.well-known/openid-configuration", audiences: [%[2]q], certificateAuthority: %[3]s}
  claimMappings:
    username: {claim: sub, prefix: "hub:"}
`, s.Issuer, s.Issuer+"/clusters/flux-a", quoted(s.CA), r.Hub.Issuer))
	spoke.Namespace(t, "generic")
	spoke.Namespace(t, "secret")
	const deployer = `hub:system:serviceaccount:flux:deployer`
	mustApply(t, spoke, clusterReader+writer("secret", deployers)+writer("generic", fmt.Sprintf("{apiGroup: rbac.authorization.k8s.io, kind: User, name: %q}", deployer)))
	r.Hub.ServiceAccount(t, namespace, "deployer")

	token := func(name, to, secret string) {
		mustApply(t, r.Hub, fmt.Sprintf("apiVersion: signalbox.dev/v1alpha1\nkind: SignalboxToken\nmetadata: {name: %s, namespace: flux}\nspec: {to: %s, serviceAccountName: orders, secret: %s}\n", name, to, secret))
	}
	spokeCA, err := os.ReadFile(spoke.CA)
	if err != nil {
		t.Fatal(err)
	}
	token("git", `{resource: "https://git.example.com"}`, fmt.Sprintf("{name: git, kind: git, certificateAuthority: %s}", quoted(gitCA)))
	token("spoke", `{cluster: flux-a}`, fmt.Sprintf("{name: spoke, kind: flux-kubeconfig, server: %q, certificateAuthority: %s}", spoke.Server, quoted(spokeCA)))
	becomes(t, r.Hub, namespace, "git", "True Fresh")
	becomes(t, r.Hub, namespace, "spoke", "True Fresh")

	// What is printed is applied as it is, but for the namespace, and the account that Flux uses.
	printed := clusterTrust(t, s, "flux-a", "--for", "flux", "--server", spoke.Server, "--server-ca-file", spoke.CA)
	mustApply(t, r.Hub, strings.NewReplacer("namespace: flux-system", "namespace: flux", "  provider: generic", "  provider: generic\n  serviceAccountName: deployer").Replace(printed))
	objects := fmt.Sprintf("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: app, namespace: flux}\nspec: {interval: 2s, url: %q, ref: {branch: main}, secretRef: {name: git}}\n", git+"/.git")
	for name, config := range map[string]string{"generic": "{configMapRef: {name: cluster-flux-a}}", "secret": "{secretRef: {name: spoke}}"} {
		objects += fmt.Sprintf("---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: %[1]s, namespace: flux}\nspec: {interval: 3s, retryInterval: 1s, prune: true, path: ./%[1]s, targetNamespace: %[1]s, sourceRef: {kind: GitRepository, name: app}, kubeConfig: %[2]s}\n", name, config)
	}
	mustApply(t, r.Hub, objects)
	revision := repo.git("rev-parse", "HEAD")
	f.applies("generic", revision, true)
	f.applies("secret", revision, true)

	// Scenario 15: the spoke has seen the hub's account, under its prefix.
	wrote := func(user, name string) bool {
		for _, event := range spoke.AuditLog(t) {
			if event.User.Username == user && event.ObjectRef.Resource == "configmaps" && event.ObjectRef.Name == name && event.Verb == "patch" && event.ResponseStatus.Code < 300 {
				return true
			}
		}
		return false
	}
	if !wrote(deployer, "generic") {
		t.Errorf("the spoke's audit log has no write of %s", deployer)
	}
	if !wrote("signalbox:cluster:hub:ns:flux:sa:orders", "secret") {
		t.Error("the spoke's audit log has no write with the token of the agent")
	}

	// Scenarios 16 and 17: both Secrets get five more tokens, and nothing fails. Each time there is a new commit, which
	// must be cloned and applied with what is in the Secrets then.
	secret := func(name, key string) string {
		out, _ := r.Hub.KubectlAs(t, r.Hub.Kubeconfig(), "get", "secret", name, "-n", namespace, "-o", "jsonpath={.data."+key+"}")
		return out
	}
	for range 5 {
		oldGit, oldSpoke := secret("git", "bearerToken"), secret("spoke", "value")
		until(t, time.Minute, "both Secrets have other tokens", func() bool {
			return secret("git", "bearerToken") != oldGit && secret("spoke", "value") != oldSpoke
		})
		revision = repo.commit("generic", "secret")
		f.applies("secret", revision, false)
		f.applies("generic", revision, false)
	}
	if where := longLived(t, r, s); len(where) > 0 { // scenario 19
		t.Errorf("tokens that live longer than a day: %v", where)
	}

	// Scenario 16: what the agent wrote goes with what asked for it.
	r.Hub.Kubectl(t, "delete", "signalboxtoken", "spoke", "-n", namespace)
	until(t, 20*time.Second, "the Secret is gone", func() bool {
		_, err := r.Hub.KubectlAs(t, r.Hub.Kubeconfig(), "get", "secret", "spoke", "-n", namespace)
		return err != nil && strings.Contains(err.Error(), "NotFound")
	})

	// Scenario 17: with the pod everything ends that came from it, and the next clone fails.
	if status, message := f.get("gitrepositories", "app").ready(); status != "True" {
		t.Errorf("before the pod is gone: %s", message)
	}
	r.Hub.DeletePod(t, pod, 0)
	took := until(t, 20*time.Second, "the next look at the repository is refused", func() bool {
		status, _ := f.get("gitrepositories", "app").ready()
		return status == "False"
	})
	_, message := f.get("gitrepositories", "app").ready()
	t.Logf("refused after %s, with an interval of 2s: %s", took, message)
}
