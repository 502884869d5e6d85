package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// withPlugin writes a kubeconfig whose user gets its tokens from signalbox kube-credential.
func withPlugin(t *testing.T, s *service, c *rig.Cluster, name, proof, cache string) string {
	t.Helper()
	command, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return c.KubeconfigWith(t, fmt.Sprintf(`{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: %q,
  args: [kube-credential, --issuer, %q, --cluster, %s, --subject-token-file, %q, --ca-file, %q], env: [{name: XDG_CACHE_HOME, value: %q}]}}`,
		command, s.Issuer, name, proof, filepath.Join(s.dir, "tls.crt"), cache))
}

func TestKubectlGetsItsTokensFromThePlugin(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: guest-k}\n  - {name: nowhere}\n"+deploys("hub", "kubectl", "guest-k"))
	guest := r.Add(t, "guest-k", rig.Options{})
	trustUs(t, s, guest)
	pod := startPod(t, r.Hub, "kubectl")
	proof := filepath.Join(t.TempDir(), "token")
	renew := func() {
		if err := os.WriteFile(proof, []byte(r.Hub.Token(t, pod, s.Issuer, 0)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renew()
	cache := t.TempDir()
	kubeconfig := withPlugin(t, s, guest, "guest-k", proof, cache)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			who, err := guest.KubectlAs(t, kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups[0]}")
			if err != nil || who != "signalbox:cluster:hub:ns:kubectl:sa:orders signalbox:deployers" {
				t.Errorf("the cluster sees %q, %v", who, err)
			}
		})
	}
	all.Wait()
	renew()
	if _, err := guest.KubectlAs(t, kubeconfig, "auth", "whoami"); err != nil {
		t.Error(err)
	}
	issued := 0
	for _, record := range s.journal(t) {
		if record["type"] == "token.issued" {
			issued++
		}
	}
	if issued != 1 {
		t.Errorf("%d exchanges for five kubectls of one pod", issued)
	}

	_, err := guest.KubectlAs(t, withPlugin(t, s, guest, "nowhere", proof, cache), "auth", "whoami")
	if err == nil || !strings.Contains(err.Error(), "invalid_target: no trust policy allows this exchange") || !strings.Contains(err.Error(), "signalbox policy explain --config FILE") {
		t.Errorf("where no policy leads, kubectl says: %v", err)
	}
	_, err = guest.KubectlAs(t, withPlugin(t, s, guest, "guest-k", "/nonexistent/token", cache), "auth", "whoami")
	if err == nil || !strings.Contains(err.Error(), "there is no file /nonexistent/token to prove who asks") {
		t.Errorf("without a proof, kubectl says: %v", err)
	}

	// What kept its token asks again at two thirds of its life, and gets this answer.
	r.Hub.DeletePod(t, pod, 0)
	until(t, 4*time.Second, "kubectl says that the pod may be gone", func() bool {
		if err := os.RemoveAll(filepath.Join(cache, "signalbox")); err != nil {
			t.Fatal(err)
		}
		_, err = guest.KubectlAs(t, kubeconfig, "auth", "whoami")
		return err != nil && strings.Contains(err.Error(), "invalid_request: ") && strings.Contains(err.Error(), "does its pod still live?")
	})
}
