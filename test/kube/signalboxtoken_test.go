package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent"
	"github.com/signalbox-sts/signalbox/internal/agent/controller"
	ourkube "github.com/signalbox-sts/signalbox/internal/kube"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

const manifests = "../../deploy/kubernetes/"

// install applies what an administrator applies, once for each cluster, and gives the
// kubeconfig of the agent: it may do what the manifests say in these namespaces.
func install(t *testing.T, c *rig.Cluster, namespaces ...string) string {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	c.Namespace(t, "signalbox")
	c.Kubectl(t, "apply", "--server-side", "-f", manifests+"crd.yaml", "-f", manifests+"rbac.yaml")
	c.Kubectl(t, "wait", "--for=condition=Established", "crd/signalboxtokens.signalbox.dev", "--timeout=30s")
	binding, err := os.ReadFile(manifests + "rbac-namespace.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range namespaces {
		c.Namespace(t, namespace)
		file := filepath.Join(t.TempDir(), "binding.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(binding), "namespace: shop}", "namespace: "+namespace+"}")), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Kubectl(t, "apply", "-f", file)
	}
	config := c.KubeconfigFor(t, "system:serviceaccount:signalbox:signalbox-agent", "system:serviceaccounts", "system:authenticated")
	until(t, 20*time.Second, "the authorizer knows the agent", func() bool {
		out, err := c.KubectlAs(t, config, "auth", "can-i", "patch", "secrets", "-n", namespaces[len(namespaces)-1])
		return err == nil && strings.TrimSpace(out) == "yes"
	})
	return config
}

var installing sync.Mutex

// startAgent runs the controller of the agent until the test ends, or stop is called.
func startAgent(t *testing.T, s *service, kubeconfig string, namespaces ...string) (stop func()) {
	t.Helper()
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ourkube.NewOwnClient(text)
	if err != nil {
		t.Fatal(err)
	}
	c := &controller.Controller{
		Client: client, Issuer: s.Issuer, Namespaces: namespaces, Clock: agent.SystemClock(), Random: func() float64 { return 0.5 },
		Exchange: exchangeAt(s), Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if jwts.Match(p) {
		w.t.Error("a token is in the log")
	}
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// exchangeAt asks the service as the command does.
func exchangeAt(s *service) controller.Exchange {
	return func(ctx context.Context, proof string, to controller.Target) (string, time.Duration, error) {
		form := url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {proof},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}, "audience": {to.Cluster},
		}
		if to.Resource != "" {
			form.Del("audience")
			form.Set("resource", to.Resource)
		}
		request, _ := http.NewRequestWithContext(ctx, "POST", s.Issuer+"/token", strings.NewReader(form.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := s.client.Do(request)
		if err != nil {
			return "", 0, err
		}
		defer response.Body.Close()
		var a answer
		if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
			return "", 0, err
		}
		switch {
		case response.StatusCode == http.StatusOK:
			return a.AccessToken, time.Duration(a.ExpiresIn) * time.Second, nil
		case response.StatusCode == http.StatusBadRequest:
			return "", 0, fmt.Errorf("%w: %s: %s", agent.ErrRefused, a.Error, a.Description)
		}
		return "", 0, fmt.Errorf("the service answers %d", response.StatusCode)
	}
}

// apply applies a manifest.
func apply(t *testing.T, c *rig.Cluster, manifest string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := c.KubectlAs(t, c.Kubeconfig(), "apply", "-f", file)
	return err
}

func mustApply(t *testing.T, c *rig.Cluster, manifest string) {
	t.Helper()
	if err := apply(t, c, manifest); err != nil {
		t.Fatal(err)
	}
}

// runs makes a pod that runs, which no kubelet does here.
func runs(t *testing.T, c *rig.Cluster, namespace, account, name string) rig.Pod {
	t.Helper()
	c.ServiceAccount(t, namespace, account)
	pod := c.Pod(t, namespace, account, name)
	c.Kubectl(t, "patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Running"}}`)
	return pod
}

// tokenManifest is a SignalboxToken for spoke-a.
func tokenManifest(namespace, name, secret string) string {
	return fmt.Sprintf(`apiVersion: signalbox.dev/v1alpha1
kind: SignalboxToken
metadata: {name: %s, namespace: %s}
spec:
  to: {cluster: spoke-a}
  serviceAccountName: orders
  secret: %s
`, name, namespace, secret)
}

// ready is the condition Ready as kubectl sees it: "True Fresh".
func ready(t *testing.T, c *rig.Cluster, namespace, name string) string {
	t.Helper()
	out, _ := c.KubectlAs(t, c.Kubeconfig(), "get", "signalboxtoken", name, "-n", namespace,
		"-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].reason}`)
	return out
}

func becomes(t *testing.T, c *rig.Cluster, namespace, name, want string) {
	t.Helper()
	last := ""
	defer func() {
		if last != want {
			t.Logf("it is %q: %s", last, c.Kubectl(t, "get", "signalboxtoken", name, "-n", namespace, "-o", "yaml"))
		}
	}()
	until(t, 30*time.Second, namespace+"/"+name+" is "+want, func() bool { last = ready(t, c, namespace, name); return last == want })
}

// data is a value of a Secret, decoded; empty if it is not there.
func data(t *testing.T, c *rig.Cluster, namespace, name, key string) string {
	t.Helper()
	out, err := c.KubectlAs(t, c.Kubeconfig(), "get", "secret", name, "-n", namespace, "-o", `go-template={{index .data "`+key+`" | base64decode}}`)
	if err != nil {
		return ""
	}
	return out
}

func isThere(t *testing.T, c *rig.Cluster, what ...string) bool {
	t.Helper()
	_, err := c.KubectlAs(t, c.Kubeconfig(), append([]string{"get"}, what...)...)
	return err == nil
}

// policyFor is a policy with the shortest life that there is.
func policyFor(namespace string) string {
	return fmt.Sprintf("policies:\n  - {name: orders-uses-spoke-a, from: {cluster: hub, namespace: %s, service_account: orders}, to: {cluster: spoke-a}, ttl: 10s}\n", namespace)
}

func TestTheSecretOfASignalboxTokenIsFreshUntilItsPolicyGoes(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "sbt-fresh"
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: spoke-a}\n"+policyFor(namespace))
	spoke := r.Add(t, "spoke-a", rig.Options{})
	trustUs(t, s, spoke)
	config := install(t, r.Hub, namespace)
	runs(t, r.Hub, namespace, "orders", "orders-1")
	startAgent(t, s, config, namespace)

	mustApply(t, r.Hub, tokenManifest(namespace, "spoke-a", fmt.Sprintf("{name: spoke-a-kubeconfig, kind: flux-kubeconfig, server: %q, certificateAuthority: %q}", spoke.Server, read(t, spoke.CA))))
	becomes(t, r.Hub, namespace, "spoke-a", "True Fresh")
	if wide := r.Hub.Kubectl(t, "get", "sbt", "-n", namespace, "-o", "wide"); !strings.Contains(wide, "orders-uses-spoke-a") || !strings.Contains(wide, "spoke-a-kubeconfig") {
		t.Errorf("kubectl shows\n%s", wide)
	}
	seen := map[string]bool{}
	until(t, 60*time.Second, "the Secret has been renewed three times", func() bool {
		text := data(t, r.Hub, namespace, "spoke-a-kubeconfig", "value")
		if !seen[text] {
			seen[text] = true
			file := filepath.Join(t.TempDir(), "kubeconfig")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := spoke.KubectlAs(t, file, "auth", "whoami"); err != nil || !strings.Contains(out, "signalbox:cluster:hub:ns:"+namespace+":sa:orders") {
				t.Errorf("the spoke sees %s%v", out, err)
			}
		}
		return len(seen) == 4
	})

	// Scenario 16F: the binding is deleted, the Secret is gone; it comes back with it.
	s.edit(t, func(text string) string {
		return strings.Replace(text, "service_account: orders", "service_account: others", 1)
	})
	becomes(t, r.Hub, namespace, "spoke-a", "False Refused")
	until(t, 20*time.Second, "the Secret is gone", func() bool { return !isThere(t, r.Hub, "secret", "spoke-a-kubeconfig", "-n", namespace) })
	s.edit(t, func(text string) string {
		return strings.Replace(text, "service_account: others", "service_account: orders", 1)
	})
	until(t, 60*time.Second, "it is there again", func() bool { return ready(t, r.Hub, namespace, "spoke-a") == "True Fresh" })

	r.Hub.Kubectl(t, "delete", "signalboxtoken", "spoke-a", "-n", namespace, "--timeout=20s")
	if isThere(t, r.Hub, "secret", "spoke-a-kubeconfig", "-n", namespace) {
		t.Error("the SignalboxToken is gone and its Secret is not")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestASignalboxTokenLivesWithAPodOfItsServiceAccount(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "sbt-pods"
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: spoke-a, webhook: {caller: "+apiClient+"}}\n"+strings.Replace(policyFor(namespace), "ttl: 10s", "ttl: 45s", 1))
	config := install(t, r.Hub, namespace)
	// Neither of them is a pod of that account that runs.
	r.Hub.ServiceAccount(t, namespace, "orders")
	r.Hub.Pod(t, namespace, "orders", "pending")
	runs(t, r.Hub, namespace, "others", "others-1")
	startAgent(t, s, config, namespace)
	mustApply(t, r.Hub, tokenManifest(namespace, "t", "{name: t, kind: opaque}"))
	becomes(t, r.Hub, namespace, "t", "False NoPod")

	first := runs(t, r.Hub, namespace, "orders", "orders-1")
	until(t, 60*time.Second, "it has a token", func() bool { return ready(t, r.Hub, namespace, "t") == "True Fresh" })
	old := data(t, r.Hub, namespace, "t", "token")
	if !s.isActive(t, old) {
		t.Fatal("the token is not good")
	}
	// The pod that proves it goes, and another one is asked at once: long before two thirds of a life.
	second := runs(t, r.Hub, namespace, "orders", "orders-2")
	r.Hub.DeletePod(t, first, 0)
	took := until(t, 20*time.Second, "another pod proves it", func() bool {
		now := data(t, r.Hub, namespace, "t", "token")
		return now != "" && now != old && s.isActive(t, now)
	})
	t.Logf("after %s", took)
	r.Hub.DeletePod(t, second, 0)
	becomes(t, r.Hub, namespace, "t", "False NoPod")
	until(t, 60*time.Second, "the Secret is gone with the last pod's token", func() bool { return !isThere(t, r.Hub, "secret", "t", "-n", namespace) })
}

func TestTheSchemaOfASignalboxTokenRefusesWhatCannotBeKept(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "sbt-schema"
	install(t, r.Hub, namespace)
	const good = `apiVersion: signalbox.dev/v1alpha1
kind: SignalboxToken
metadata: {name: x, namespace: ` + namespace + `}
spec: {to: {cluster: spoke-a}, secret: {name: x, kind: opaque}}
`
	mustApply(t, r.Hub, good)
	if got := r.Hub.Kubectl(t, "get", "sbt", "x", "-n", namespace, "-o", "jsonpath={.spec.serviceAccountName}"); got != "default" {
		t.Errorf("the service account is %q", got)
	}
	for _, row := range []struct{ sentence, old, new, want string }{
		{"no target", "{cluster: spoke-a}", "{}", "one of the two"},
		{"two targets", "{cluster: spoke-a}", `{cluster: spoke-a, resource: "https://a"}`, "one of the two"},
		{"scopes for a cluster", "{cluster: spoke-a}", "{cluster: spoke-a, scopes: [a]}", "no scopes"},
		{"a resource that is no URI", "{cluster: spoke-a}", "{resource: spoke-a}", "spec.to.resource"},
		{"no Secret", ", secret: {name: x, kind: opaque}", "", "spec.secret"},
		{"a Secret without a name", "name: x, kind", "kind", "spec.secret.name"},
		{"a Secret in another namespace", "kind: opaque", "kind: opaque, namespace: kube-system", "unknown field"},
		{"a kind that is none", "kind: opaque", "kind: argocd", "spec.secret.kind"},
		{"a kubeconfig without a server", "kind: opaque", "kind: flux-kubeconfig", "needs server"},
		{"a kubeconfig for a resource", "{cluster: spoke-a}, secret: {name: x, kind: opaque}", `{resource: "https://a"}, secret: {name: x, kind: flux-kubeconfig, server: "https://a"}`, "for a cluster"},
		{"a server in the clear", "kind: opaque", `kind: flux-kubeconfig, server: "http://a"`, "spec.secret.server"},
		{"a repository without a URL", "kind: opaque", "kind: argocd-repository", "needs url"},
		{"a chart repository without a user", "kind: opaque", "kind: argocd-repository, url: a/b, type: helm", "needs username"},
		{"a registry for Git", "kind: opaque", "kind: git, registry: a", "needs registry, and no other"},
		{"templates for Git", "kind: opaque", "kind: git, data: {a: b}", "only opaque"},
		{"a user of a Secret without one", "kind: opaque", "kind: opaque, username: a", "no username"},
		{"a service account with a slash", "spec: {", "spec: {serviceAccountName: a/b, ", "spec.serviceAccountName"},
	} {
		if !strings.Contains(good, row.old) {
			t.Fatalf("%s: nothing is changed", row.sentence)
		}
		if err := apply(t, r.Hub, strings.Replace(good, row.old, row.new, 1)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.sentence, err)
		}
	}
}

func TestASecretOfSomebodyElseIsNeverTouched(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "sbt-conflict"
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: spoke-a}\n"+policyFor(namespace))
	config := install(t, r.Hub, namespace)
	runs(t, r.Hub, namespace, "orders", "orders-1")
	startAgent(t, s, config, namespace)

	// One that was there, with other keys and with the same.
	r.Hub.Kubectl(t, "create", "secret", "generic", "theirs", "-n", namespace, "--from-literal=password=hunter2")
	r.Hub.Kubectl(t, "create", "secret", "generic", "same", "-n", namespace, "--from-literal=token=hunter2")
	mustApply(t, r.Hub, tokenManifest(namespace, "theirs", "{name: theirs, kind: opaque}"))
	mustApply(t, r.Hub, tokenManifest(namespace, "same", "{name: same, kind: opaque}"))
	becomes(t, r.Hub, namespace, "theirs", "False Conflict")
	becomes(t, r.Hub, namespace, "same", "False Conflict")
	r.Hub.Kubectl(t, "delete", "sbt", "theirs", "same", "-n", namespace, "--timeout=20s")
	if data(t, r.Hub, namespace, "theirs", "password") != "hunter2" || data(t, r.Hub, namespace, "same", "token") != "hunter2" {
		t.Error("a Secret that was there has changed")
	}

	// Two objects that want the same name: the second waits for the first.
	mustApply(t, r.Hub, tokenManifest(namespace, "first", "{name: shared, kind: opaque}"))
	becomes(t, r.Hub, namespace, "first", "True Fresh")
	mustApply(t, r.Hub, tokenManifest(namespace, "second", "{name: shared, kind: git}"))
	becomes(t, r.Hub, namespace, "second", "False Conflict")
	if data(t, r.Hub, namespace, "shared", "bearerToken") != "" {
		t.Error("both have written it")
	}
	r.Hub.Kubectl(t, "delete", "sbt", "first", "-n", namespace, "--timeout=20s")
	becomes(t, r.Hub, namespace, "second", "True Fresh")

	// Somebody who takes a value over keeps it.
	r.Hub.Kubectl(t, "patch", "secret", "shared", "-n", namespace, "--field-manager=somebody", "--type=merge", "-p", `{"stringData":{"bearerToken":"mine"}}`)
	becomes(t, r.Hub, namespace, "second", "False Conflict")
	if got := data(t, r.Hub, namespace, "shared", "bearerToken"); got != "mine" {
		t.Errorf("the value is %q", got)
	}
	message := r.Hub.Kubectl(t, "get", "sbt", "second", "-n", namespace, "-o", `jsonpath={.status.conditions[0].message}`)
	if !strings.Contains(message, "somebody") {
		t.Errorf("it is not said who: %s", message)
	}

	// Another kind under the same name: the type of a Secret cannot be changed.
	mustApply(t, r.Hub, tokenManifest(namespace, "kinds", "{name: kinds, kind: opaque}"))
	becomes(t, r.Hub, namespace, "kinds", "True Fresh")
	mustApply(t, r.Hub, tokenManifest(namespace, "kinds", "{name: kinds, kind: docker, registry: registry.example.com}"))
	until(t, 20*time.Second, "it is a pull secret", func() bool {
		return r.Hub.Kubectl(t, "get", "secret", "-n", namespace, "--field-selector=type=kubernetes.io/dockerconfigjson", "-o", "name") == "secret/kinds\n"
	})
	// And another name: the Secret of the old one goes.
	mustApply(t, r.Hub, tokenManifest(namespace, "kinds", "{name: renamed, kind: opaque}"))
	until(t, 20*time.Second, "the new one is there and the old one is not", func() bool {
		return data(t, r.Hub, namespace, "renamed", "token") != "" && !isThere(t, r.Hub, "secret", "kinds", "-n", namespace)
	})
}

func TestWhatTheAgentMayDoIsWhatItNeeds(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "sbt-rights"
	config := install(t, r.Hub, namespace)
	r.Hub.Namespace(t, "sbt-elsewhere")
	for _, denied := range [][]string{
		{"list", "secrets", "-n", namespace}, {"get", "secrets", "-n", "sbt-elsewhere"}, {"create", "serviceaccounts/token", "-n", "sbt-elsewhere"}, {"create", "serviceaccounts/token", "-n", "kube-system"},
		{"create", "pods", "-n", namespace}, {"delete", "signalboxtokens", "-n", namespace}, {"update", "leases", "-n", namespace},
		{"patch", "leases/another", "-n", "signalbox"}, {"list", "namespaces"},
	} {
		if out, err := r.Hub.KubectlAs(t, config, append([]string{"auth", "can-i"}, denied...)...); err == nil || !strings.HasPrefix(out, "no") {
			t.Errorf("it may %s: %s", strings.Join(denied, " "), out)
		}
	}
}

// The API server is killed and comes back; meanwhile the agent is too, and what is
// deleted meanwhile waits for it.
func TestTheAgentSurvivesItsAPIServerAndKeepsItsPromiseAfterAnAbsence(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "sbt-chaos"
	hub := r.Add(t, "hub", rig.Options{})
	s := startService(t, "clusters:\n"+clusterEntry(hub, "")+"  - {name: spoke-a}\n"+policyFor(namespace))
	config := install(t, hub, namespace)
	runs(t, hub, namespace, "orders", "orders-1")
	stop := startAgent(t, s, config, namespace)
	mustApply(t, hub, tokenManifest(namespace, "a", "{name: a, kind: opaque}"))
	becomes(t, hub, namespace, "a", "True Fresh")
	before := data(t, hub, namespace, "a", "token")

	hub.Stop(t)
	time.Sleep(12 * time.Second) // longer than a token lives: nothing that could be waited for happens
	hub.Restart(t)
	until(t, 60*time.Second, "the Secret has a good token again", func() bool {
		now := data(t, hub, namespace, "a", "token")
		return now != "" && now != before && ready(t, hub, namespace, "a") == "True Fresh"
	})

	stop()
	hub.Kubectl(t, "delete", "sbt", "a", "-n", namespace, "--wait=false")
	mustApply(t, hub, tokenManifest(namespace, "b", "{name: b, kind: opaque}"))
	if !isThere(t, hub, "sbt", "a", "-n", namespace) {
		t.Fatal("nothing holds the object until its Secret is gone")
	}
	startAgent(t, s, config, namespace)
	until(t, 20*time.Second, "object and Secret are gone", func() bool {
		return !isThere(t, hub, "sbt", "a", "-n", namespace) && !isThere(t, hub, "secret", "a", "-n", namespace)
	})
	becomes(t, hub, namespace, "b", "True Fresh")
}

func TestOneOfTwoAgentsWorksAndTheOtherTakesOver(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	config := install(t, r.Hub, "sbt-lease")
	client, err := ourkube.NewOwnClient([]byte(read(t, config)))
	if err != nil {
		t.Fatal(err)
	}
	var working sync.Map
	count := func() (n int, who string) {
		working.Range(func(k, _ any) bool { n++; who = k.(string); return true })
		return n, who
	}
	start := func(name string) (stop func()) {
		l := &controller.Lease{Client: client, Namespace: "signalbox", Name: "signalbox-agent", Holder: name, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Run(ctx, func(ctx context.Context) {
				working.Store(name, true)
				if n, _ := count(); n > 1 {
					t.Error("both work")
				}
				<-ctx.Done()
				working.Delete(name)
			})
		}()
		stop = sync.OnceFunc(func() { cancel(); <-done })
		t.Cleanup(stop)
		return stop
	}
	stops := map[string]func(){"one": start("one"), "two": start("two")}
	until(t, 20*time.Second, "one works", func() bool { n, _ := count(); return n == 1 })
	_, first := count()
	stops[first]() // it gives the lease back
	until(t, 10*time.Second, "the other one works", func() bool { n, who := count(); return n == 1 && who != first })
	// One that is killed gives nothing back: here somebody else's mark, which nobody renews.
	_, second := count()
	stops[second]()
	r.Hub.Kubectl(t, "patch", "lease", "signalbox-agent", "-n", "signalbox", "--type=merge", "-p", `{"spec":{"holderIdentity":"killed"}}`)
	start("three")
	took := until(t, 40*time.Second, "the third one works", func() bool { n, who := count(); return n == 1 && who == "three" })
	if took < 10*time.Second {
		t.Errorf("it was taken after %s from somebody who may live", took)
	}
}

// The built binary, as two replicas run it: it serves SignalboxTokens, and writes the
// Secrets of its own file. A thousand of them fit into 60 MiB.
func TestSignalboxAgentServesAClusterAndItsOwnFile(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace, many = "sbt-binary", 1000
	hub := r.Add(t, "hub", rig.Options{})
	s := startService(t, "clusters:\n"+clusterEntry(hub, "")+"  - {name: spoke-a}\n"+strings.Replace(policyFor(namespace), "ttl: 10s", "ttl: 2m", 1))
	kubeconfig := install(t, hub, namespace)
	pod := runs(t, hub, namespace, "orders", "orders-1")
	proof := filepath.Join(t.TempDir(), "proof")
	if err := os.WriteFile(proof, []byte(hub.Token(t, pod, s.Issuer, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	hub.Kubectl(t, "create", "secret", "generic", "taken", "-n", namespace, "--from-literal=token=hunter2")
	mustApply(t, hub, tokenManifest(namespace, "declared", "{name: declared, kind: opaque}"))

	health := rig.FreeAddress()
	config := filepath.Join(t.TempDir(), "agent.yaml")
	write := func(more string) {
		text := fmt.Sprintf(`issuer: %s
ca_file: %s
listen: {health: %q}
kubernetes: {kubeconfig_file: %s, namespaces: [%s], lease: {namespace: signalbox}}
tokens:
  - {name: own, from: {subject_token_file: %s}, to: {cluster: spoke-a}, secret: {namespace: %s, name: own, kind: docker, registry: registry.example.com}}
%s`, s.Issuer, filepath.Join(s.dir, "tls.crt"), health, kubeconfig, namespace, proof, namespace, more)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("  - {name: taken, from: {subject_token_file: %s}, to: {cluster: spoke-a}, secret: {namespace: %s, name: taken, kind: opaque}}\n", proof, namespace))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(path, "agent", "--config", config)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if text := read(t, log); t.Failed() {
			t.Logf("the agent's log:\n%s", text[max(0, len(text)-6000):])
		} else if strings.Contains(text, "eyJ") {
			t.Error("a token is in the agent's log")
		}
	})
	get := func(path string) string {
		answer, err := http.Get("http://" + health + path)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return string(text)
	}
	becomes(t, hub, namespace, "declared", "True Fresh")
	until(t, 20*time.Second, "its own Secret is there", func() bool {
		return strings.Contains(data(t, hub, namespace, "own", ".dockerconfigjson"), "registry.example.com")
	})
	until(t, 20*time.Second, "it says which Secret it cannot have", func() bool {
		return strings.Contains(get("/readyz"), "taken: secret "+namespace+"/taken") && strings.Contains(get("/readyz"), "belongs to somebody else")
	})
	if data(t, hub, namespace, "taken", "token") != "hunter2" {
		t.Error("a Secret that was there has changed")
	}
	write("")
	_ = cmd.Process.Signal(syscall.SIGHUP)
	until(t, 20*time.Second, "it is ready", func() bool { return get("/readyz") == "ok\n" })
	if m := get("/metrics"); !strings.Contains(m, `signalbox_agent_token_expires_in_seconds{output="secret `+namespace+`/declared",token="`+namespace+`/declared"}`) {
		t.Errorf("metrics:\n%s", m)
	}

	var list strings.Builder
	for i := range many {
		list.WriteString("---\n" + tokenManifest(namespace, fmt.Sprint("many-", i), fmt.Sprintf("{name: many-%d, kind: git}", i)))
	}
	mustApply(t, hub, list.String())
	until(t, 3*time.Minute, "all of them are ready", func() bool {
		return strings.Count(hub.Kubectl(t, "get", "sbt", "-n", namespace, "--no-headers"), "True") == many+1
	})
	// One identity, one exchange: the two of the file and the declared ones have the same account.
	issued := 0
	for _, record := range s.journal(t) {
		if record["type"] == "token.issued" {
			issued++
		}
	}
	if issued > 8 {
		t.Errorf("%d tokens were issued for two identities", issued)
	}
	rss := ""
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))) {
		if strings.HasPrefix(line, "VmRSS:") {
			rss = strings.TrimSpace(strings.TrimPrefix(line, "VmRSS:"))
		}
	}
	var kib int
	_, _ = fmt.Sscanf(rss, "%d kB", &kib)
	t.Logf("%d outputs: %s resident", many+2, rss)
	if kib > 60<<10 || kib == 0 {
		t.Errorf("%s resident", rss)
	}
	// Whoever is told to stop gives the lease back and leaves what is good.
	_ = cmd.Process.Signal(syscall.SIGTERM)
	until(t, 20*time.Second, "the lease is free", func() bool {
		return hub.Kubectl(t, "get", "lease", "signalbox-agent", "-n", "signalbox", "-o", "jsonpath={.spec.holderIdentity}") == ""
	})
	if data(t, hub, namespace, "declared", "token") == "" {
		t.Error("it has removed a good Secret")
	}
}
