package kube

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// federatedClient is a client that the pods of a service account prove, in a file that continues with clusters.
func federatedClient(id, cluster, namespace string) string {
	return fmt.Sprintf(`  - {client_id: %s, grant_types: [client_credentials], token_endpoint_auth_method: federated_jwt, scope: "invoices:read", resources: ["https://billing.example.com"],
     federated_credential: {cluster: %s, namespace: %s, service_account: orders}}
`, id, cluster, namespace)
}

// asClient asks for a token of the client's own, with a pod's token in place of a secret.
func (s *service) asClient(t *testing.T, client, assertion string) answer {
	t.Helper()
	return s.post(t, "/token", url.Values{
		"grant_type": {string(oauth.ClientCredentials)}, "client_id": {client},
		"client_assertion_type": {oauth.AssertionTypeJWTBearer}, "client_assertion": {assertion},
	})
}

// A pod is a client without a secret, on a real cluster: only the pods of its service account, in its cluster, while they
// live. What they got ends with them, also where nobody watched when they ended.
func TestAPodIsAClientUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "federated"
	s := startService(t, federatedClient("here", "hub", namespace)+federatedClient("there", "spoke-a", namespace)+
		"clusters:\n"+clusterEntry(r.Hub, "")+clusterEntry(r.SpokeA, ""))
	pod, elsewhere := startPod(t, r.Hub, namespace), startPod(t, r.SpokeA, namespace)
	r.Hub.ServiceAccount(t, namespace, "payments")
	other := r.Hub.Pod(t, namespace, "payments", "payments-1")
	assertion := r.Hub.Token(t, pod, s.Issuer, 0)
	first := s.asClient(t, "here", assertion)
	if first.Status != http.StatusOK || first.Scope != "invoices:read" || !s.isActive(t, first.AccessToken) {
		t.Fatalf("%+v", first)
	}
	if a := s.asClient(t, "here", assertion); a.Status != http.StatusOK {
		t.Errorf("the same token again: %+v", a)
	}
	if a := s.asClient(t, "there", r.SpokeA.Token(t, elsewhere, s.Issuer, 0)); a.Status != http.StatusOK {
		t.Errorf("the pod of the other cluster as its own client: %+v", a)
	}
	for name, bad := range map[string]answer{
		"the same account in another cluster":  s.asClient(t, "here", r.SpokeA.Token(t, elsewhere, s.Issuer, 0)),
		"as the client of another cluster":     s.asClient(t, "there", assertion),
		"another account of the namespace":     s.asClient(t, "here", r.Hub.Token(t, other, s.Issuer, 0)),
		"the token for the API server":         s.asClient(t, "here", r.Hub.Token(t, pod, "", 0)),
		"a token for somebody else":            s.asClient(t, "here", r.Hub.Token(t, pod, "https://else.example.com", 0)),
		"a client that has a secret":           s.asClient(t, apiClient, assertion),
		"a signature that was changed":         s.asClient(t, "here", assertion[:len(assertion)-8]+strings.Repeat("A", 8)),
		"a client that nobody has registered":  s.asClient(t, "nobody", assertion),
		"no client at all, for the pod itself": s.asClient(t, "", assertion),
	} {
		if bad.Status != http.StatusUnauthorized || bad.Error != "invalid_client" || bad.AccessToken != "" {
			t.Errorf("%s: %+v", name, bad)
		}
	}

	// While it is watched.
	r.Hub.DeletePod(t, pod, 0)
	until(t, 4*time.Second, "what the pod got is inactive", func() bool { return !s.isActive(t, first.AccessToken) })
	if a := s.asClient(t, "here", assertion); a.Status != http.StatusUnauthorized {
		t.Errorf("the pod is deleted: %+v", a)
	}
	// While nobody watches: its end is found in what the database knows.
	again := startPod(t, r.Hub, namespace)
	second := s.asClient(t, "here", r.Hub.Token(t, again, s.Issuer, 0))
	if second.Status != http.StatusOK {
		t.Fatalf("%+v", second)
	}
	s.kill()
	r.Hub.DeletePod(t, again, 0)
	s.start(t)
	until(t, 20*time.Second, "what the pod got is inactive, though it ended unseen", func() bool { return !s.isActive(t, second.AccessToken) })
	for _, record := range s.journal(t) {
		if strings.Contains(fmt.Sprint(record), strings.Split(assertion, ".")[2]) {
			t.Errorf("the journal has the assertion: %v", record)
		}
	}
}

// Everything of a service account ends, and with it what its client got by an older proof.
func TestPanicEndsWhatAPodGotAsAClient(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "federated-panic"
	s := startService(t, federatedClient("here", "hub", namespace)+operator+
		"clusters:\n"+clusterEntry(r.Hub, ""))
	pod := startPod(t, r.Hub, namespace)
	got := s.asClient(t, "here", r.Hub.Token(t, pod, s.Issuer, 0))
	if got.Status != http.StatusOK || !s.isActive(t, got.AccessToken) {
		t.Fatalf("%+v", got)
	}
	s.run(t, "panic", "--workload", "cluster:hub:ns:"+namespace, "--yes")
	if s.isActive(t, got.AccessToken) {
		t.Error("it lives on")
	}
}
