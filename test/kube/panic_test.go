package kube

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// operator is a client that may end things.
const operator = `  - {client_id: operator, grant_types: [client_credentials], token_endpoint_auth_method: client_secret_basic, client_secret_hash: "SECRET-HASH", scope: "clusters:read grants:read grants:write journal:read keys:read keys:write", resources: ["urn:signalbox:admin"]}
`

// run runs the command as the operator. It must succeed.
func (s *service) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.try(t, args...)
	if err != nil {
		t.Fatalf("signalbox %q: %v\n%s", args, err, out)
	}
	return out
}

// try is run for a command that may be refused.
func (s *service) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	command, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Env = append(append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir()), s.asOperator(t)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// asOperator is the environment of the operator's commands.
func (s *service) asOperator(t *testing.T) []string {
	t.Helper()
	a := s.post(t, "/token", url.Values{"grant_type": {"client_credentials"}}, "operator", apiSecret)
	if a.Status != http.StatusOK {
		t.Fatalf("the operator gets no token: %+v", a)
	}
	return []string{"SIGNALBOX_ADMIN_URL=" + s.Admin, "SIGNALBOX_ADMIN_TOKEN=" + a.AccessToken}
}

func TestScenario7_EverythingOfAServiceAccountANamespaceOrAClusterEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	type account struct {
		cluster         *rig.Cluster
		namespace, name string
	}
	accounts := []account{
		{r.Hub, "scenario-7", "orders"}, {r.Hub, "scenario-7", "orders-2"}, // one name begins like the other
		{r.Hub, "scenario-7-b", "orders"}, {r.SpokeA, "scenario-7", "orders"},
	}
	subject := func(a account) string {
		return fmt.Sprintf("cluster:%s:ns:%s:sa:%s", a.cluster.Name, a.namespace, a.name)
	}
	policies := "policies:\n"
	for i, a := range accounts {
		policies += fmt.Sprintf("  - {name: p%d, from: {cluster: %s, namespace: %s, service_account: %s}, to: {cluster: far}}\n", i, a.cluster.Name, a.namespace, a.name)
	}
	s := startService(t, operator+"clusters:\n"+clusterEntry(r.Hub, "")+clusterEntry(r.SpokeA, "")+"  - {name: far, webhook: {caller: "+apiClient+"}}\n"+policies)
	var pods []rig.Pod
	tokens, proofs := map[string]string{}, map[string]string{}
	for _, a := range accounts {
		a.cluster.Namespace(t, a.namespace)
		a.cluster.ServiceAccount(t, a.namespace, a.name)
		pods = append(pods, a.cluster.Pod(t, a.namespace, a.name, a.name+"-0"))
	}
	fresh := func() {
		for i, a := range accounts {
			// A proof from the second of an end is older than it.
			until(t, 4*time.Second, "a new proof is good", func() bool {
				proofs[subject(a)] = a.cluster.Token(t, pods[i], s.Issuer, 0)
				got := s.exchange(t, proofs[subject(a)], "far")
				tokens[subject(a)] = got.AccessToken
				return got.Status == http.StatusOK
			})
		}
	}
	for _, c := range []struct {
		name string
		args []string
		ends []int // of the accounts
	}{
		{"a service account", []string{"--workload", subject(accounts[0])}, []int{0}},
		{"a namespace", []string{"--workload", "cluster:hub:ns:scenario-7"}, []int{0, 1}},
		{"a cluster", []string{"--cluster", "hub"}, []int{0, 1, 2}},
	} {
		fresh()
		radius := s.run(t, append([]string{"panic", "--dry-run"}, c.args...)...)
		for name, token := range tokens {
			if !s.isActive(t, token) {
				t.Fatalf("%s: a trial ended %s", c.name, name)
			}
		}
		began := time.Now()
		s.run(t, append([]string{"panic", "--yes"}, c.args...)...)
		ran := time.Since(began)
		for i, a := range accounts {
			name := subject(a)
			refused := func() bool {
				got := s.exchange(t, proofs[name], "far")
				// Who has sent many wrong proofs, as this test has, may get 429 for the next wrong one.
				return got.Status == http.StatusBadRequest && got.Error == "invalid_request" || got.Status == http.StatusTooManyRequests
			}
			if !slices.Contains(c.ends, i) {
				if !s.isActive(t, tokens[name]) || refused() {
					t.Errorf("%s: %s ended too", c.name, name)
				}
				continue
			}
			until(t, 4*time.Second, c.name+": the token of "+name+" is inactive", func() bool { return !s.isActive(t, tokens[name]) })
			if !refused() {
				t.Errorf("%s: the proof of %s from before is good", c.name, name)
			}
		}
		t.Logf("%s: all over %s after the command was called, which took %s", c.name, time.Since(began), ran)
		if want := fmt.Sprintf("%d standing grant", len(c.ends)); !strings.Contains(radius, want) {
			t.Errorf("%s: the blast radius is not of %s: %s", c.name, want, radius)
		}
	}
}
