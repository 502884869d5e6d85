package kube

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// The clients of scenario 20: a pod calls front, front calls back for it, and back calls on.
const chain = `  - {client_id: front, grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"], token_endpoint_auth_method: client_secret_basic, client_secret_hash: "SECRET-HASH"}
  - {client_id: back, grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"], token_endpoint_auth_method: client_secret_basic, client_secret_hash: "SECRET-HASH"}
`

const chainPolicies = `policies:
  - {name: pod-calls-front, from: {cluster: hub, namespace: scenario-20, service_account: orders}, to: {resource: "https://billing.example.com", scopes: [invoices:read, invoices:write]}, ttl: 1h}
  - {name: front-calls-back, from: {client: front, on_behalf_of: workload}, to: {resource: "https://billing.example.com", scopes: [invoices:read, invoices:write]}, ttl: 1h}
  - {name: back-calls-back, from: {client: back, on_behalf_of: workload}, to: {resource: "https://billing.example.com", scopes: [invoices:read, invoices:write]}, ttl: 1h}
  - {name: back-calls-spoke, from: {client: back, on_behalf_of: user}, to: {cluster: spoke-a}}
`

func TestScenario20_WhoActsForAWorkloadHasNoMoreThanIt(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	s := startService(t, chain+"clusters:\n"+clusterEntry(r.Hub, "")+spokes+chainPolicies)
	pod := startPod(t, r.Hub, "scenario-20")
	proof := r.Hub.Token(t, pod, s.Issuer, 0)
	const (
		jwt, ours = "urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:access_token"
		api       = "https://billing.example.com"
	)
	ask := func(subject, kind, scope string, client ...string) answer {
		form := url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "resource": {api},
			"subject_token": {subject}, "subject_token_type": {kind},
		}
		if scope != "" {
			form.Set("scope", scope)
		}
		return s.post(t, "/token", form, client...)
	}
	type step struct {
		name   string
		scope  string // asked for
		client []string
		act    any // what the token says
		scopes string
	}
	front, back := map[string]any{"sub": "front"}, map[string]any{"sub": "back", "act": map[string]any{"sub": "front"}}
	expires := time.Now().Add(10 * time.Minute).Unix() // the proof's, or a little later
	subject, kind := proof, jwt
	var issued []string
	for _, c := range []step{
		{"the pod", "", nil, nil, "invoices:read invoices:write"},
		{"front for the pod", "invoices:read", []string{"front", apiSecret}, front, "invoices:read"},
		{"back for front for the pod", "", []string{"back", apiSecret}, back, "invoices:read"},
	} {
		a := ask(subject, kind, c.scope, c.client...)
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %+v", c.name, a)
		}
		_, claims := unverified(t, a.AccessToken)
		if claims["sub"] != "cluster:hub:ns:scenario-20:sa:orders" || claims["sub_profile"] != "workload" || !reflect.DeepEqual(claims["act"], c.act) || claims["scope"] != c.scopes {
			t.Errorf("%s: %v", c.name, claims)
		}
		until := int64(claims["exp"].(float64))
		if until > expires {
			t.Errorf("%s: it lives until %d, the token that it came from until %d", c.name, until, expires)
		}
		subject, kind, expires = a.AccessToken, ours, until
		issued = append(issued, a.AccessToken)
	}
	if _, claims := unverified(t, proof); expires > int64(claims["exp"].(float64)) {
		t.Errorf("the last one lives until %d, the pod's proof until %v", expires, claims["exp"])
	}

	for _, c := range []struct {
		name, subject, kind, scope string
		client                     []string
		want                       string
	}{
		{"more than the subject token has", issued[1], ours, "invoices:read invoices:write", []string{"back", apiSecret}, "400 invalid_scope"},
		{"more than the policy gives", issued[0], ours, "invoices:admin", []string{"front", apiSecret}, "400 invalid_scope"},
		{"nobody in particular", issued[0], ours, "", nil, "401 invalid_client"},
		{"a client with the wrong secret", issued[0], ours, "", []string{"front", "wrong"}, "401 invalid_client"},
		{"a client that no policy names", issued[0], ours, "", []string{apiClient, apiSecret}, "400 unauthorized_client"},
		{"the proof as a token of ours", proof, ours, "", []string{"front", apiSecret}, "400 invalid_request"},
		{"a token of ours as a proof", issued[0], jwt, "", nil, "400 invalid_request"},
	} {
		if a := ask(c.subject, c.kind, c.scope, c.client...); fmt.Sprint(a.Status, " ", a.Error) != c.want {
			t.Errorf("%s: %+v, want %s", c.name, a, c.want)
		}
	}
	a := s.post(t, "/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {"spoke-a"},
		"subject_token": {issued[1]}, "subject_token_type": {ours},
	}, "back", apiSecret)
	if a.Status != http.StatusBadRequest || a.Error != "invalid_target" {
		t.Errorf("where the client may act for people only: %+v", a)
	}

	for i, token := range issued {
		if !s.isActive(t, token) {
			t.Fatalf("token %d was never active", i)
		}
	}
	r.Hub.DeletePod(t, pod, 0)
	for i, token := range issued {
		took := until(t, 4*time.Second, "what came from a pod that is gone is inactive, to the last", func() bool { return !s.isActive(t, token) })
		t.Logf("token %d inactive after %s more", i, took)
	}
	if a := ask(issued[1], ours, "", "back", apiSecret); a.Status != http.StatusBadRequest || a.Error != "invalid_request" {
		t.Errorf("exchanged again after the pod's end: %+v", a)
	}
}
