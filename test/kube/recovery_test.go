package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// One cluster that trusts our keys serves four scenarios, one after the other: an API server
// of its own is what costs most here.
func TestScenarios22And10And19And9_OfAClusterThatVerifiesByItself(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "scenario-22"
	s := startService(t, operator+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: guest, webhook: {caller: "+apiClient+"}}\n"+deploys("hub", namespace, "guest"))
	guest := r.Add(t, "guest", rig.Options{})
	trustUs(t, s, guest)
	const user = "signalbox:cluster:hub:ns:" + namespace + ":sa:orders"
	allow(t, guest, user, []map[string]any{{"apiGroups": []string{""}, "resources": []string{"configmaps"}, "verbs": []string{"create"}}})
	pod := startPod(t, r.Hub, namespace)
	proof := r.Hub.Token(t, pod, s.Issuer, 0)
	joined(t, r, s, guest, proof, user)
	down(t, r, s, guest, proof, user)
	removed(t, r, s, proof)
	leaked(t, r, s, guest, pod, user)
}

// joined is scenario 22.
func joined(t *testing.T, r *rig.Rig, s *service, guest *rig.Cluster, proof, user string) {
	token := s.token(t, proof, "guest")
	config := guest.KubeconfigWith(t, "{token: "+token+"}")
	// The authorizer follows the bindings by a watch of its own.
	until(t, 15*time.Second, "the pod writes on the spoke", func() bool {
		_, err := guest.KubectlAs(t, config, "create", "configmap", "synced", "-n", "default")
		return err == nil
	})

	// From the id in the spoke's log to the pod's, with one command.
	const credential = "authentication.kubernetes.io/credential-id"
	spokes := slices.DeleteFunc(guest.AuditLog(t), func(e rig.AuditEvent) bool {
		return e.ObjectRef.Resource != "configmaps" || e.ObjectRef.Name != "synced" || e.ResponseStatus.Code != http.StatusCreated
	})
	if len(spokes) != 1 || spokes[0].User.Username != user || len(spokes[0].User.Extra[credential]) != 1 {
		t.Fatalf("the spoke's audit log: %+v", spokes)
	}
	id, _ := strings.CutPrefix(spokes[0].User.Extra[credential][0], "JTI=")
	said := s.run(t, "why", id, "--audit-log", r.Hub.AuditLogFile(), "--audit-log", guest.AuditLogFile())
	_, claims := unverified(t, proof)
	rest := said
	for _, step := range []string{
		"what happened, oldest first:",
		fmt.Sprintf("issued to pod scenario-22/orders-1 of service account orders, asked for by admin: JTI=%s, from 127.0.0.1 (%s)\n", claims["jti"], r.Hub.AuditLogFile()),
		"exchanged by pod orders-1 for cluster guest, allowed by policy scenario-22-to-guest: JTI=" + id + " (request ",
		"used: create configmaps default/synced, answered 403, from 127.0.0.1 (" + guest.AuditLogFile() + ")\n",
		"used: create configmaps default/synced, answered 201, from 127.0.0.1 (" + guest.AuditLogFile() + ")\n",
	} {
		_, after, told := strings.Cut(rest, step)
		if !told && !strings.Contains(step, "answered 403") { // the bindings may have been faster
			t.Errorf("why does not say %q, or not in its place:\n%s", step, said)
			continue
		}
		if told {
			rest = after
		}
	}
	if strings.Contains(said, "cannot be read") || strings.Contains(said, "no log") {
		t.Errorf("why misses something:\n%s", said)
	}
	records := slices.DeleteFunc(s.journal(t), func(record map[string]any) bool { return record["type"] != "token.issued" || record["jti"] != id })
	if len(records) != 1 {
		t.Fatalf("%q is in %d records of the journal", id, len(records))
	}
	for claim, want := range map[string]any{"signalbox.dev/grant-id": records[0]["grant_id"], "signalbox.dev/policy": records[0]["policy"]} {
		if got := spokes[0].User.Extra[claim]; want == nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q in the spoke's audit log, %v in the journal", claim, got, want)
		}
	}
	// By the name of the hub's own field, as the API server reports it to whoever asks.
	if got := r.Hub.TokenReview(t, proof, s.Issuer).User.Extra[credential]; !slices.Equal(got, []string{fmt.Sprint("JTI=", claims["jti"])}) {
		t.Errorf("the hub calls the proof %q, and the proof itself %v", got, claims["jti"])
	}
}

// down is scenario 10. How long it is down makes no difference to an API server that knows our keys:
// what does is whether it must start again.
func down(t *testing.T, r *rig.Rig, s *service, guest *rig.Cluster, proof, user string) {
	before, unseen, later := s.token(t, proof, "guest"), s.token(t, proof, "guest"), s.token(t, proof, "guest")
	if who, err := whoami(t, guest, before); err != nil || who != user {
		t.Fatalf("%q, %v", who, err)
	}
	dying := r.Hub.Pod(t, "scenario-22", "orders", "orders-2")
	orphan := s.token(t, r.Hub.Token(t, dying, s.Issuer, 0), "guest")
	if !s.isActive(t, orphan) {
		t.Fatal("it was never active")
	}

	s.kill()
	r.Hub.DeletePod(t, dying, 0)
	// The API server repeats a verdict for 10 s, but of this one it has none.
	if who, err := whoami(t, guest, unseen); err != nil || who != user {
		t.Errorf("while we are down: %q, %v", who, err)
	}
	began := time.Now()
	guest.Restart(t) // fails the test if it does not get ready
	t.Logf("the API server was ready after %s without us", time.Since(began))
	if who, err := whoami(t, guest, later); err == nil {
		t.Errorf("an API server that has never had our keys takes a token for %q", who)
	}

	s.start(t)
	took := until(t, 20*time.Second, "a pod that ended meanwhile has nothing", func() bool { return !s.isActive(t, orphan) })
	t.Logf("the end of a pod was made good %s after the start", took)
	took = until(t, 20*time.Second, "exchanges go on", func() bool { return s.exchange(t, proof, "guest").Status == http.StatusOK })
	t.Logf("an exchange succeeded after %s more", took)
	took = until(t, 60*time.Second, "the API server takes our tokens again", func() bool {
		who, err := whoami(t, guest, later)
		return err == nil && who == user
	})
	t.Logf("the API server took our tokens %s later", took)
	if !s.isActive(t, before) {
		t.Error("a token from before is dead, though its pod lives")
	}
}

// removed is scenario 19. The pod's cluster goes from the file; its tokens are for another one, which stays.
func removed(t *testing.T, r *rig.Rig, s *service, proof string) {
	token := s.token(t, proof, "guest")
	if !s.isActive(t, token) {
		t.Fatal("it was never active")
	}
	forged, claims := unverified(t, proof)
	const day = 24 * 60 * 60
	iat := int64(claims["iat"].(float64))
	long := forge(t, forged, with(claims, "exp", iat+day+1), rs256(r.Hub.Key))
	// First that we would find it: in etcd, by kubectl, in our files.
	kept := map[string]any{"metadata": map[string]any{"name": "long"}, "stringData": map[string]any{"token": long}}
	if err := r.Hub.Call(http.MethodPost, "/api/v1/namespaces/scenario-22/secrets", kept, nil); err != nil {
		t.Fatal(err)
	}
	planted := filepath.Join(s.dir, "planted")
	if err := os.WriteFile(planted, []byte("x"+long), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := longLived(t, r, s); len(found) != 3 {
		t.Fatalf("a token that lives for more than a day is found %d times: %q", len(found), found)
	}
	if err := r.Hub.Call(http.MethodDelete, "/api/v1/namespaces/scenario-22/secrets/long", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(planted); err != nil {
		t.Fatal(err)
	}
	if found := longLived(t, r, s); len(found) > 0 {
		t.Errorf("kept for more than a day: %q", found)
	}

	// Its policy stays in the file, so that it is the cluster that ends everything.
	s.edit(t, func(file string) string { return strings.Replace(file, clusterEntry(r.Hub, ""), "", 1) })
	took := until(t, 30*time.Second, "a token of the removed cluster is inactive", func() bool { return !s.isActive(t, token) })
	t.Logf("inactive %s after the reload", took)
	if a := s.exchange(t, proof, "guest"); a.Status != http.StatusBadRequest || a.Error != "invalid_request" {
		t.Errorf("the next exchange: %+v", a)
	}
	if found := longLived(t, r, s); len(found) > 0 {
		t.Errorf("kept for more than a day: %q", found)
	}
	// Whoever is registered again begins again: what was worthless stays so.
	s.edit(t, func(file string) string {
		return strings.Replace(file, "clusters:\n", "clusters:\n"+clusterEntry(r.Hub, ""), 1)
	})
	if s.isActive(t, token) {
		t.Error("the old token lives again")
	}
}

// leaked is scenario 9 where the spoke verifies by itself: the step is to write its authentication
// configuration again.
func leaked(t *testing.T, r *rig.Rig, s *service, guest *rig.Cluster, pod rig.Pod, user string) {
	var proof string
	until(t, 4*time.Second, "a proof that is newer than the cluster's removal is good", func() bool {
		proof = r.Hub.Token(t, pod, s.Issuer, 0)
		return s.exchange(t, proof, "guest").Status == http.StatusOK
	})
	token, unseen := s.token(t, proof, "guest"), s.token(t, proof, "guest")
	if who, err := whoami(t, guest, token); err != nil || who != user {
		t.Fatalf("%q, %v", who, err)
	}
	header, _ := unverified(t, token)
	s.run(t, "key", "remove", header["kid"].(string), "--yes")
	if s.isActive(t, token) {
		t.Error("a token of the removed key is active")
	}
	if _, err := whoami(t, guest, unseen); err != nil {
		t.Logf("Kubernetes has changed: without the step it refuses a key that is gone from the key set: %v", err)
	}
	began := time.Now()
	trustUs(t, s, guest, "# the key has leaked\n")
	until(t, 30*time.Second-time.Since(began), "the spoke refuses the tokens of the removed key", func() bool {
		_, seen := whoami(t, guest, token)
		_, other := whoami(t, guest, unseen)
		return seen != nil && other != nil
	})
	t.Logf("refused %s after the step", time.Since(began))
	until(t, 20*time.Second, "the spoke takes tokens of the next key", func() bool {
		who, err := whoami(t, guest, s.token(t, proof, "guest"))
		return err == nil && who == user
	})
}

var jwts = regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*`)

// longLived says where there are tokens that are good for more than a day: in what the clusters keep
// in etcd, in their Secrets, and in what the service keeps.
func longLived(t *testing.T, r *rig.Rig, s *service) (where []string) {
	t.Helper()
	look := func(place string, text []byte) {
		for _, token := range jwts.FindAll(text, -1) {
			part, err := base64.RawURLEncoding.DecodeString(strings.Split(string(token), ".")[1])
			var claims struct {
				Iss      string
				Iat, Exp int64
			}
			if err != nil || json.Unmarshal(part, &claims) != nil || claims.Iss == "" { // a signature of the journal is no token
				continue
			}
			if claims.Exp == 0 || claims.Exp-claims.Iat > 24*60*60 {
				where = append(where, place)
			}
		}
	}
	for _, value := range r.Stored(t) {
		look("etcd", value)
	}
	for _, c := range []*rig.Cluster{r.Hub, r.SpokeA, r.SpokeB} {
		var secrets struct {
			Items []struct{ Data map[string][]byte }
		}
		if err := json.Unmarshal([]byte(c.Kubectl(t, "get", "secrets", "-A", "-o", "json")), &secrets); err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets.Items {
			for _, value := range secret.Data {
				look("a Secret of "+c.Name, value)
			}
		}
	}
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		look(filepath.Base(path), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}
