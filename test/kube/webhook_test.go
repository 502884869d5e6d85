package kube

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// asksUs is the kubeconfig with which an API server asks our token webhook.
func asksUs(s *service) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: signalbox, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: us, user: {username: %s, password: %s}}]
contexts: [{name: signalbox, context: {cluster: signalbox, user: us}}]
current-context: signalbox
`, s.Issuer+"/kubernetes/tokenreview", filepath.Join(s.dir, "tls.crt"), apiClient, apiSecret)
}

func TestScenarios4And7And9_OfAClusterThatAsks(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	policies := "policies:\n"
	namespaces := []string{"scenario-4-pod", "scenario-4-panic", "scenario-4-key"}
	for _, namespace := range namespaces {
		policies += fmt.Sprintf("  - {name: %[1]s, from: {cluster: hub, namespace: %[1]s, service_account: orders}, to: {cluster: guest-w}, groups: [deployers]}\n", namespace)
	}
	s := startService(t, operator+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: guest-w, webhook: {caller: "+apiClient+"}}\n  - {name: elsewhere}\n"+
		policies+"  - {name: elsewhere, from: {cluster: hub, namespace: scenario-4-key, service_account: orders}, to: {cluster: elsewhere}}\n")
	guest := r.Add(t, "guest-w", rig.Options{Webhook: asksUs(s)})
	pods, proofs, tokens := map[string]rig.Pod{}, map[string]string{}, map[string]string{}
	for _, namespace := range namespaces {
		pods[namespace] = startPod(t, r.Hub, namespace)
		proofs[namespace] = r.Hub.Token(t, pods[namespace], s.Issuer, 0)
		tokens[namespace] = s.token(t, proofs[namespace], "guest-w")
	}
	living := func(namespace string) bool {
		who, err := whoami(t, guest, tokens[namespace])
		if err == nil && who != "signalbox:cluster:hub:ns:"+namespace+":sa:orders" {
			t.Errorf("the token of %s is taken for %q", namespace, who)
		}
		return err == nil
	}
	for _, namespace := range namespaces {
		if !living(namespace) {
			t.Fatalf("the token of %s is refused", namespace)
		}
	}
	if who, err := whoami(t, guest, s.token(t, proofs["scenario-4-key"], "elsewhere")); err == nil {
		t.Errorf("a token for another cluster is taken for %q", who)
	}

	// The API server may repeat a good verdict for 10 s, and asks us at most once a second.
	dead := func(what, namespace string, limit time.Duration) {
		took := until(t, limit, what+": the spoke refuses", func() bool { return !living(namespace) })
		t.Logf("%s: refused after %s, promised %s", what, took, limit)
	}
	r.Hub.DeletePod(t, pods["scenario-4-pod"], 0)
	s.run(t, "panic", "--yes", "--workload", "cluster:hub:ns:scenario-4-panic")
	dead("a deleted pod", "scenario-4-pod", 15*time.Second)
	dead("a namespace in panic", "scenario-4-panic", 15*time.Second)
	if !living("scenario-4-key") {
		t.Fatal("a third token ended with them")
	}

	header, _ := unverified(t, tokens["scenario-4-key"])
	s.run(t, "key", "remove", header["kid"].(string), "--yes")
	dead("a removed key", "scenario-4-key", 30*time.Second)
	if a := s.exchange(t, proofs["scenario-4-key"], "guest-w"); a.Status != http.StatusOK {
		t.Errorf("after the removal of a key: %+v", a)
	} else if tokens["scenario-4-key"] = a.AccessToken; !living("scenario-4-key") {
		t.Error("a token of the next key is refused")
	}
}
