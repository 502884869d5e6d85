package e2e

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// Two clusters with one issuer, as most have, a CI system and a SPIFFE trust domain. A client each.
const federatedConfig = serveHead + onSQLite + `resources:
  - {id: "https://api.example.com", scopes: [orders:read], introspection_clients: [api]}
clusters:
  - {name: hub, issuer: "https://kubernetes.default.svc", jwks_file: hub.json}
  - {name: spoke, issuer: "https://kubernetes.default.svc", jwks_file: spoke.json}
trusted_issuers:
  - {name: ci, issuer: "https://ci.example.com", jwks_file: ci.json}
  - {name: mesh, trust_domain: prod.example.com, jwks_file: mesh.json}
clients:
  - {client_id: api, grant_types: [], client_secret_file: api.secret}
  - {client_id: machine, grant_types: [client_credentials], client_secret_file: api.secret, scope: "orders:read", resources: ["https://api.example.com"]}
  - {client_id: signer, grant_types: [client_credentials], token_endpoint_auth_method: private_key_jwt, jwks_file: signer.json, scope: "orders:read", resources: ["https://api.example.com"]}
  - {client_id: native, token_endpoint_auth_method: none, redirect_uris: ["http://127.0.0.1/callback"], scope: "orders:read", resources: ["https://api.example.com"]}
  - {client_id: argocd, grant_types: [client_credentials], token_endpoint_auth_method: federated_jwt, scope: "orders:read", resources: ["https://api.example.com"],
     federated_credential: {cluster: hub, namespace: argocd, service_account: server}}
  - {client_id: argocd-of-spoke, grant_types: [client_credentials], token_endpoint_auth_method: federated_jwt, scope: "orders:read", resources: ["https://api.example.com"],
     federated_credential: {cluster: spoke, namespace: argocd, service_account: server}}
  - {client_id: release, grant_types: [client_credentials], token_endpoint_auth_method: federated_jwt, scope: "orders:read", resources: ["https://api.example.com"],
     federated_credential: {trusted_issuer: ci, subject: "repo:acme/app:ref:refs/heads/main"}}
  - {client_id: mesh, grant_types: [client_credentials], token_endpoint_auth_method: federated_jwt, scope: "orders:read", resources: ["https://api.example.com"],
     federated_credential: {trusted_issuer: mesh, subject: "spiffe://prod.example.com/orders"}}
`

// TestThreatsDG_AssertionsOfOtherIssuers changes one thing of a good assertion, from outside
// (docs/security/threats.md C 34, 36, D 43 to 61, G 84, 87, 91).
func TestThreatsDG_AssertionsOfOtherIssuers(t *testing.T) {
	hub, spoke, ci, mesh, thief := newECKey(), newECKey(), newECKey(), newECKey(), newECKey()
	bundle := strings.Replace(jwksOf("mesh-1", mesh), `"kty"`, `"use":"jwt-svid","kty"`, 1)
	bundle = strings.ReplaceAll(bundle, `"use":"sig",`, "")
	s := startServe(t, federatedConfig, map[string]string{
		"hub.json": jwksOf("hub-1", hub), "spoke.json": jwksOf("spoke-1", spoke), "ci.json": jwksOf("ci-1", ci), "mesh.json": bundle,
		"signer.json": jwksOf("signer-1", signerKey), "api.secret": apiServer.Secret,
	})
	var asked atomic.Int64 // nothing in a token is ever fetched
	place := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, jwksOf("mine", thief))
	}))
	t.Cleanup(place.Close)

	type shown struct {
		header, claims map[string]any
		form           url.Values
		sign           func(*shown) string
		change         []func(*http.Request)
	}
	by := func(key *ecdsa.PrivateKey) func(*shown) string {
		return func(a *shown) string { return jws(a.header, a.claims, key) }
	}
	now := time.Now().Unix()
	form := func(client string) url.Values {
		return params("grant_type", "client_credentials", "client_id", client, "client_assertion_type", assertionType)
	}
	job := func() *shown {
		return &shown{
			header: map[string]any{"alg": "ES256", "kid": "ci-1", "typ": "JWT"}, form: form("release"), sign: by(ci),
			claims: map[string]any{"iss": "https://ci.example.com", "sub": "repo:acme/app:ref:refs/heads/main", "aud": s.Issuer, "iat": now, "exp": now + 300, "jti": fmt.Sprint("job-", time.Now().UnixNano())},
		}
	}
	pod := func() *shown {
		return &shown{
			header: map[string]any{"alg": "ES256", "kid": "hub-1"}, form: form("argocd"), sign: by(hub),
			claims: map[string]any{"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:argocd:server", "aud": []string{s.Issuer}, "iat": now, "exp": now + 3600, "jti": "pod",
				"kubernetes.io": map[string]any{"namespace": "argocd", "serviceaccount": map[string]any{"name": "server"}, "pod": map[string]any{"name": "server-0", "uid": "uid-1"}}},
		}
	}
	svid := func() *shown {
		return &shown{
			header: map[string]any{"alg": "ES256", "kid": "mesh-1", "typ": "JWT"}, form: form("mesh"), sign: by(mesh),
			claims: map[string]any{"sub": "spiffe://prod.example.com/orders", "aud": []string{s.Issuer}, "exp": now + 300},
		}
	}
	claim := func(name string, value any) func(*shown) { return func(a *shown) { a.claims[name] = value } }
	head := func(name string, value any) func(*shown) { return func(a *shown) { a.header[name] = value } }
	as := func(client string) func(*shown) { return func(a *shown) { a.form.Set("client_id", client) } }
	rows := []struct {
		sentence string
		start    func() *shown
		change   func(*shown)
		ok       bool
	}{
		{"a pod", pod, func(*shown) {}, true},
		{"a CI job", job, func(*shown) {}, true},
		{"a JWT-SVID", svid, func(*shown) {}, true},
		{"a pod of the other cluster, as its client", pod, func(a *shown) {
			a.header["kid"], a.sign = "spoke-1", by(spoke)
			as("argocd-of-spoke")(a)
		}, true},
		{"G91 a pod of the other cluster", pod, func(a *shown) { a.header["kid"], a.sign = "spoke-1", by(spoke) }, false},
		{"G91 a pod, as the client of the other cluster", pod, as("argocd-of-spoke"), false},
		{"G91 the other cluster's key under this one's kid", pod, func(a *shown) { a.sign = by(spoke) }, false},
		{"G84 the CI system's key for a pod", pod, func(a *shown) { a.header["kid"], a.sign = "ci-1", by(ci) }, false},
		{"G87 an issuer that nobody registered", job, claim("iss", "https://evil.example.com"), false},
		{"G87 our own name as the issuer", job, claim("iss", s.Issuer), false},
		{"G84 another subject", job, claim("sub", "repo:acme/app:ref:refs/heads/main2"), false},
		{"G84 a subject in other letters", job, claim("sub", "repo:ACME/app:ref:refs/heads/main"), false},
		{"G84 a subject with an end", job, claim("sub", "repo:acme/app:ref:refs/heads/main\n"), false},
		{"G84 another SPIFFE ID", svid, claim("sub", "spiffe://prod.example.com/orders/x"), false},
		{"G84 a SPIFFE ID of another trust domain", svid, claim("sub", "spiffe://prod.example.com.evil/orders"), false},
		{"D60 another audience", job, claim("aud", "https://else.example.com"), false},
		{"D60 the token endpoint as the audience", job, claim("aud", s.Issuer+"/token"), false},
		{"D60 two audiences", job, claim("aud", []string{s.Issuer, "https://else.example.com"}), false},
		{"D60 no audience", job, func(a *shown) { delete(a.claims, "aud") }, false},
		{"D60 no end", job, func(a *shown) { delete(a.claims, "exp") }, false},
		{"D61 an end as text", job, claim("exp", fmt.Sprint(now+300)), false},
		{"D61 an end at 1e400", job, claim("exp", json.RawMessage("1e400")), false},
		{"G87 expired", job, claim("exp", now-120), false},
		{"D61 not yet", job, claim("nbf", now+600), false},
		{"D43 unsigned", job, func(a *shown) { a.header["alg"] = "none"; a.sign = by(nil) }, false},
		{"D43 unsigned in other letters", job, func(a *shown) { a.header["alg"] = "nOnE"; a.sign = by(nil) }, false},
		{"D44 by HMAC with the public key", job, func(a *shown) {
			a.header["alg"] = "HS256"
			a.sign = func(a *shown) string { return hs256(a.header, a.claims, []byte(jwksOf("ci-1", ci))) }
		}, false},
		{"D45 by an algorithm that the key is not for", job, head("alg", "RS256"), false},
		{"D46 by a key that came along", job, func(a *shown) { a.header["jwk"] = jwkOf("mine", thief); a.sign = by(thief) }, false},
		{"D46 by a key to be fetched", job, func(a *shown) {
			a.header["jku"], a.header["kid"], a.sign = place.URL+"/jwks", "mine", by(thief)
		}, false},
		{"D46 by a certificate to be fetched", job, func(a *shown) { a.header["x5u"], a.sign = place.URL+"/x5u", by(thief) }, false},
		{"D46 by the key of an issuer to be discovered", job, func(a *shown) { a.claims["iss"], a.header["kid"], a.sign = place.URL, "mine", by(thief) }, false},
		{"D47 with a path for a kid", job, head("kid", "../../../dev/null"), false},
		{"D48 with an unknown critical header", job, head("crit", []string{"surprise"}), false},
		{"D51 with a claim twice", job, func(a *shown) {
			a.sign = func(a *shown) string {
				h, _ := json.Marshal(a.header)
				c, _ := json.Marshal(a.claims)
				return jwsRaw(b64(h), b64(append([]byte(`{"sub":"x",`), c[1:]...)), ci)
			}
		}, false},
		{"D59 an access token's type", job, head("typ", "at+jwt"), false},
		{"D59 a client's own assertion", job, func(a *shown) {
			a.header["kid"], a.sign = "signer-1", by(signerKey)
			a.claims["iss"], a.claims["sub"] = "signer", "signer"
		}, false},
		{"C34 without a client_id", job, func(a *shown) { a.form.Del("client_id") }, false},
		{"C34 the client_id of another client of this kind", job, as("argocd"), false},
		{"C34 the client_id of nobody", job, as("nobody"), false},
		{"C36 as a client with a secret", job, as("machine"), false},
		{"C36 as a client with keys of its own", job, as("signer"), false},
		{"C36 as a public client", job, as("native"), false},
		{"C34 and a secret in the header", job, func(a *shown) {
			a.change = append(a.change, func(r *http.Request) { r.SetBasicAuth("machine", apiServer.Secret) })
		}, false},
		{"C34 and a secret in the body", job, func(a *shown) { a.form.Set("client_secret", apiServer.Secret) }, false},
		{"C34 without a type", job, func(a *shown) { a.form.Del("client_assertion_type") }, false},
		{"C34 sent twice", job, func(a *shown) { a.form.Add("client_assertion", "x.y.z") }, false},
		{"D54 many dots", job, func(a *shown) { a.sign = func(*shown) string { return strings.Repeat(".", 20000) } }, false},
		{"D54 a huge header", job, head("kid", strings.Repeat("k", 12<<10)), false},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			a := row.start()
			row.change(a)
			a.form.Add("client_assertion", a.sign(a))
			want := "invalid_client|invalid_request"
			if row.ok {
				want = ""
			}
			checkTokenAnswer(t, s.post(t, "/token", a.form, append(a.change, from(nextAddress()))...), want)
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("D46: %d requests went to a place that only tokens name", n)
	}

	t.Run("introspection and revocation", func(t *testing.T) {
		a := job()
		with := func(more ...string) url.Values {
			f := maps.Clone(a.form)
			f.Del("grant_type")
			f.Set("client_assertion", a.sign(a))
			f.Set(more[0], more[1])
			return f
		}
		own := maps.Clone(a.form)
		own.Set("client_assertion", a.sign(a))
		token := s.post(t, "/token", own, from(nextAddress())).str("access_token")
		if r := s.post(t, "/introspect", with("token", token)); r.Status != 200 || r.JSON["active"] != true {
			t.Fatalf("%s", r)
		}
		if r := s.post(t, "/revoke", with("token", token)); r.Status != 200 {
			t.Fatalf("%s", r)
		}
		if r := s.post(t, "/introspect", with("token", token)); r.JSON["active"] != false {
			t.Errorf("%s", r)
		}
	})
	t.Run("the journal has the hash of an assertion, and never its value", func(t *testing.T) {
		a := job()
		a.form.Set("client_assertion", a.sign(a))
		r := s.post(t, "/token", a.form)
		records := journalOf(t, s, query.Query{Types: []string{string(authority.EventTokenIssued)}})
		last := records[len(records)-1]
		if r.Status != 200 || last.AssertionID != a.claims["jti"] || last.AssertionHash != journalHash(a.form.Get("client_assertion")) {
			t.Errorf("%s", last.Raw)
		}
		if text := s.proc.out.String(); strings.Contains(text, a.form.Get("client_assertion")) {
			t.Error("the log has it")
		}
	})
}

// One workload is one client: a file with two does not start.
func TestTwoClientsOfOneWorkloadDoNotStart(t *testing.T) {
	dir := t.TempDir()
	text := `issuer: http://127.0.0.1:8443
secrets: {master_key_file: master.key}
trusted_issuers: [{name: ci, issuer: "https://ci.example.com"}]
clients:
  - {client_id: a, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {trusted_issuer: ci, subject: x}}
  - {client_id: b, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {trusted_issuer: ci, subject: x}}
`
	file := filepath.Join(dir, "signalbox.yaml")
	for name, content := range map[string]string{file: text, filepath.Join(dir, "master.key"): strings.Repeat("A", 43) + "="} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range [][]string{{"config", "validate", file}, {"serve", "--config", file}} {
		if _, stderr, code := run(t, "", command...); code != 1 || !strings.Contains(stderr, `clients[1].federated_credential: "issuer:ci:x" is also clients[0]`) {
			t.Errorf("%v: %d %s", command, code, stderr)
		}
	}
}
