package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	s.edit(t, func(text string) string { return strings.Replace(text, "service_account: orders", "service_account: others", 1) })
	becomes(t, r.Hub, namespace, "spoke-a", "False Refused")
	until(t, 20*time.Second, "the Secret is gone", func() bool { return !isThere(t, r.Hub, "secret", "spoke-a-kubeconfig", "-n", namespace) })
	s.edit(t, func(text string) string { return strings.Replace(text, "service_account: others", "service_account: orders", 1) })
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
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: spoke-a, webhook: {caller: "+apiClient+"}}\n"+policyFor(namespace))
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
	until(t, 20*time.Second, "the Secret is gone with the last pod's token", func() bool { return !isThere(t, r.Hub, "secret", "t", "-n", namespace) })
}
