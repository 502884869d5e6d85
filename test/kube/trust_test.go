package kube

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

const trustClients = `  - {client_id: reader, grant_types: [client_credentials], token_endpoint_auth_method: client_secret_basic, client_secret_hash: "SECRET-HASH", scope: "clusters:read", resources: ["urn:signalbox:admin"]}
  - {client_id: guest-apiserver, grant_types: [client_credentials], token_endpoint_auth_method: client_secret_basic, client_secret_hash: "SECRET-HASH", resources: ["ISSUER/kubernetes/tokenreview"]}
`

// clusterTrust is what `signalbox cluster trust` prints.
func clusterTrust(t *testing.T, s *service, args ...string) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	a := s.post(t, "/token", url.Values{"grant_type": {"client_credentials"}}, "reader", apiSecret)
	command := exec.Command(path, append([]string{"cluster", "trust", "--issuer-ca-file", filepath.Join(s.dir, "tls.crt")}, args...)...)
	command.Env = append(os.Environ(), "SIGNALBOX_ADMIN_URL="+s.Admin, "SIGNALBOX_ADMIN_TOKEN="+a.AccessToken)
	var told strings.Builder
	command.Stderr = &told
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, told.String())
	}
	return string(out)
}

// What `cluster trust` prints is taken by a real API server as it is, in both modes, and
// both see the same user.
func TestAnAPIServerTakesWhatClusterTrustPrints(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	s := startService(t, trustClients+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: guest-t}\n  - {name: guest-w, webhook: {caller: guest-apiserver}}\n"+deploys("hub", "trust", "guest-t", "guest-w"))

	own := s.post(t, "/token", url.Values{"grant_type": {"client_credentials"}, "resource": {s.Issuer + "/kubernetes/tokenreview"}}, "guest-apiserver", apiSecret)
	if own.Status != http.StatusOK {
		t.Fatalf("the API server's own token: %+v", own)
	}
	tokenFile := filepath.Join(t.TempDir(), "webhook.token")
	if err := os.WriteFile(tokenFile, []byte(own.AccessToken), 0o600); err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("/etc/kubernetes/signalbox/webhook.token", tokenFile, "/etc/kubernetes/signalbox/ca.crt", filepath.Join(s.dir, "tls.crt"))
	asks := r.Add(t, "guest-w", rig.Options{Webhook: here.Replace(clusterTrust(t, s, "guest-w", "--mode", "webhook"))})
	verifies := r.Add(t, "guest-t", rig.Options{})
	verifies.SetAuthenticationConfig(t, clusterTrust(t, s, "guest-t", "--mode", "jwt"))

	pod := startPod(t, r.Hub, "trust")
	proof := r.Hub.Token(t, pod, s.Issuer, 0)
	const want = `signalbox:cluster:hub:ns:trust:sa:orders signalbox:deployers`
	for _, c := range []*rig.Cluster{verifies, asks} {
		token := s.token(t, proof, c.Name)
		kubeconfig := c.KubeconfigWith(t, "{token: "+token+"}")
		who, err := c.KubectlAs(t, kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups[0]}")
		if err != nil || who != want {
			t.Errorf("%s sees %q, %v", c.Name, who, err)
		}
		extra, err := c.KubectlAs(t, kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.extra}")
		for _, key := range []string{`"authentication.kubernetes.io/credential-id":["JTI=`, `"signalbox.dev/grant-id":["`, `"signalbox.dev/policy":["trust-to-` + c.Name + `"]`} {
			if err != nil || !strings.Contains(extra, key) {
				t.Errorf("%s sees no %s in %s, %v", c.Name, key, extra, err)
			}
		}
		for _, other := range []*rig.Cluster{verifies, asks} {
			if who, err := whoami(t, other, token); other != c && err == nil {
				t.Errorf("%s takes a token for %s, as %q", other.Name, c.Name, who)
			}
		}
	}
	// A program gets its kubeconfig from the same command, with the certificate of a private issuer.
	proofFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(proofFile, []byte(proof), 0o600); err != nil {
		t.Fatal(err)
	}
	command, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	printed := strings.NewReplacer("command: signalbox", fmt.Sprintf("command: %q", command), `"--cluster"`, fmt.Sprintf(`"--subject-token-file",%q,"--cluster"`, proofFile),
		"interactiveMode: IfAvailable", fmt.Sprintf("interactiveMode: Never\n        env: [{name: XDG_CACHE_HOME, value: %q}]", t.TempDir())).
		Replace(clusterTrust(t, s, "guest-t", "--for", "kubeconfig", "--server", verifies.Server, "--server-ca-file", verifies.CA))
	if err := os.WriteFile(kubeconfig, []byte(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	who, err := verifies.KubectlAs(t, kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups[0]}")
	if err != nil || who != want {
		t.Errorf("with the kubeconfig that cluster trust prints: %q, %v\n%s", who, err, printed)
	}
}
