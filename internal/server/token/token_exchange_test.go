package token_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	hubIssuer  = "https://kubernetes.default.svc"
	spokeAud   = testIssuer + "/clusters/spoke-a"
	billingAPI = "https://billing.example.com"
	jwtType    = string(oauth.TokenTypeJWT)
	accessType = string(oauth.TokenTypeAccessToken)
)

// hub is a cluster whose pods prove themselves with tokens of its key.
type hub struct {
	signer *jose.Signer
	jwks   []byte
}

func newHub(t testing.TB) hub {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner("hub-1", jose.ES256, "", private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.NewPublicKey("hub-1", jose.ES256, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.KeySet{public})
	if err != nil {
		t.Fatal(err)
	}
	return hub{signer, jwks}
}

// pod is the token of a pod of argocd/controller, with some claims changed.
func (h hub) pod(w *world, uid string, change ...any) string {
	now := w.Now()
	claims := map[string]any{
		"iss": hubIssuer, "aud": []string{testIssuer}, "sub": "system:serviceaccount:argocd:controller", "jti": "jti-of-" + uid,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace":      "argocd",
			"serviceaccount": map[string]any{"name": "controller", "uid": "5a"},
			"pod":            map[string]any{"name": "controller-0", "uid": uid},
		},
	}
	return h.sign(w, claims, change)
}

// sign makes a token of claims, with some of them changed.
func (h hub) sign(w *world, claims map[string]any, change []any) string {
	for i := 0; i < len(change); i += 2 {
		claims[change[i].(string)] = change[i+1]
	}
	body, err := json.Marshal(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := h.signer.Sign(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// exchangeWorld has a cluster hub, a cluster spoke-a, and policies between them.
func exchangeWorld(t testing.TB, change ...func(*authority.StaticObjects)) (*world, hub) {
	t.Helper()
	h := newHub(t)
	w := newWorld(t, append([]func(*authority.StaticObjects){func(d *authority.StaticObjects) {
		d.Clusters = map[string]authority.Cluster{
			"hub":     {Name: "hub", Issuer: hubIssuer, Keys: h.jwks, Pods: authority.PodsOffline, Terminating: authority.TerminatingGrace},
			"spoke-a": {Name: "spoke-a", WebhookCaller: "api"},
		}
		d.Resources[billingAPI] = authority.Resource{ID: billingAPI, Scopes: oauth.MustScopes("invoices:read", "invoices:write"), Format: authority.FormatJWT, IntrospectionClients: []string{"api"}}
		orders := d.Clients["service"]
		orders.ID, orders.Scopes, orders.GrantTypes = "orders", oauth.MustScopes("read"), []oauth.GrantType{oauth.ClientCredentials, oauth.TokenExchange, oauth.JWTBearer}
		orders.Secrets = []authority.ClientSecret{d.Clients["service"].Secrets[0]}
		d.Clients["orders"] = orders
		controller := authority.PolicyFrom{Cluster: "hub", Namespace: "argocd", ServiceAccount: "controller"}
		d.Policies = map[string]authority.Policy{
			"deploys": {Name: "deploys", From: controller, To: authority.PolicyTo{Cluster: "spoke-a"}, Groups: []string{"deployers"}, TTL: 5 * time.Minute, Mode: authority.PolicyEnforce},
			"bills": {
				Name: "bills", From: authority.PolicyFrom{Client: "orders", OnBehalfOf: "user"},
				To: authority.PolicyTo{Resource: billingAPI, Scopes: []string{"invoices:read"}}, Scopes: oauth.MustScopes("invoices:read"), TTL: 5 * time.Minute, Mode: authority.PolicyEnforce,
			},
			"tries": {Name: "tries", From: controller, To: authority.PolicyTo{Resource: testAPI, Scopes: []string{"read"}}, Scopes: oauth.MustScopes("read"), TTL: 5 * time.Minute, Mode: authority.PolicyAudit},
		}
	}}, change...)...)
	return w, h
}

func exchangeForm(subject, kind string, pairs ...string) url.Values {
	return form(append([]string{"grant_type", string(oauth.TokenExchange), "subject_token", subject, "subject_token_type", kind}, pairs...)...)
}

// claimsOf are the claims of a token of ours.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	_, claims, err := jose.InspectUnverified(token)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(claims.JSON(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAPodGetsATokenForAnotherCluster(t *testing.T) {
	w, h := exchangeWorld(t)
	proof := h.pod(w, "uid-1")
	first := w.token("", exchangeForm(proof, jwtType, "audience", "spoke-a"))
	if first.status != 200 || first.text("issued_token_type") != accessType || first.text("token_type") != "Bearer" || first.body["expires_in"] != 300.0 || first.text("refresh_token") != "" {
		t.Fatalf("%d %v", first.status, first.body)
	}
	claims := claimsOf(t, first.text("access_token"))
	for name, want := range map[string]string{
		"sub": "cluster:hub:ns:argocd:sa:controller", "sub_profile": "workload", "aud": spokeAud, "client_id": "policy:deploys", "policy": "deploys",
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %s", name, claims[name], want)
		}
	}
	if groups, _ := json.Marshal(claims["groups"]); string(groups) != `["deployers"]` {
		t.Errorf("groups %s", groups)
	}
	if got := w.introspect("api", first.text("access_token")); got.body["active"] != true {
		t.Errorf("introspection: %v", got.body)
	}
	second := w.token("", exchangeForm(h.pod(w, "uid-1", "jti", "renewed"), jwtType, "resource", spokeAud))
	if again := claimsOf(t, second.text("access_token")); again["grant_id"] != claims["grant_id"] || again["jti"] == claims["jti"] {
		t.Errorf("the same pod and policy: %v and %v", claims["grant_id"], again["grant_id"])
	}
	other := w.token("", exchangeForm(h.pod(w, "uid-2"), jwtType, "audience", "spoke-a"))
	if claimsOf(t, other.text("access_token"))["grant_id"] == claims["grant_id"] {
		t.Error("two pods have one grant")
	}
	if len(w.Grants()) != 2 || w.count(authority.EventGrantCreated) != 2 || w.count(authority.EventTokenIssued) != 3 {
		t.Errorf("%d grants, %d made, %d tokens", len(w.Grants()), w.count(authority.EventGrantCreated), w.count(authority.EventTokenIssued))
	}
	event := w.Recorded()[1]
	if event.Policy != "deploys" || event.Origin.TokenID != "jti-of-uid-1" || event.Origin.Pod != "controller-0" || event.Origin.TokenHash == "" {
		t.Errorf("recorded %+v", event)
	}
}

// A pod that ends takes its tokens with it, and its proof gives no new ones.
func TestTheEndOfAPodEndsItsTokens(t *testing.T) {
	w, h := exchangeWorld(t)
	proof := h.pod(w, "uid-1")
	token := w.token("", exchangeForm(proof, jwtType, "audience", "spoke-a")).text("access_token")
	ended, err := w.Parts.Endings.EndEvidence(t.Context(), authority.PodEvidence("hub", "uid-1"), w.Now().Add(time.Hour), authority.Event{Type: authority.EventGrantEnded, Reason: "deleted"})
	if err != nil || !ended {
		t.Fatal(ended, err)
	}
	if got := w.introspect("api", token); got.body["active"] != false {
		t.Errorf("the token lives on: %v", got.body)
	}
	if got := w.token("", exchangeForm(proof, jwtType, "audience", "spoke-a")); got.status != 400 || got.text("error") != "invalid_request" {
		t.Errorf("%d %v", got.status, got.body)
	}
	if got := w.token("", exchangeForm(h.pod(w, "uid-9"), jwtType, "audience", "spoke-a")); got.status != 200 {
		t.Errorf("a pod of the same name: %d %v", got.status, got.body)
	}
}

// A grant that was ended is never used again, and the living pod gets another.
func TestALivingPodGetsANewGrant(t *testing.T) {
	w, h := exchangeWorld(t)
	proof := h.pod(w, "uid-1")
	ask := exchangeForm(proof, jwtType, "audience", "spoke-a")
	first := w.token("", ask).text("access_token")
	id, err := authority.ParseID(claimsOf(t, first)["grant_id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Parts.Endings.EndGrant(t.Context(), id, authority.Event{Type: authority.EventGrantEnded}); err != nil {
		t.Fatal(err)
	}
	second := w.token("", ask)
	if second.status != 200 || claimsOf(t, second.text("access_token"))["grant_id"] == id.String() {
		t.Errorf("%d %v", second.status, second.body)
	}
	if w.introspect("api", first).body["active"] != false || w.introspect("api", second.text("access_token")).body["active"] != true {
		t.Error("the wrong one lives")
	}
}

// An epoch of a workload, its namespace, its cluster ends what it has, and a proof that is older.
func TestEpochsOfWorkloads(t *testing.T) {
	for _, epoch := range []struct {
		kind authority.RevocationKind
		key  string
	}{
		{authority.EpochWorkload, "cluster:hub:ns:argocd:sa:controller"},
		{authority.EpochWorkload, "cluster:hub:ns:argocd"},
		{authority.EpochCluster, "hub"},
		{authority.EpochCluster, "spoke-a"}, // which the token is for
		{authority.EpochClient, "policy:deploys"},
		{authority.EpochEverything, ""},
	} {
		w, h := exchangeWorld(t)
		proof := h.pod(w, "uid-1")
		token := w.token("", exchangeForm(proof, jwtType, "audience", "spoke-a")).text("access_token")
		w.Pass(2 * time.Second)
		if err := w.Parts.Endings.SetEpoch(t.Context(), epoch.kind, epoch.key, authority.Event{}); err != nil {
			t.Fatal(err)
		}
		if w.introspect("api", token).body["active"] != false {
			t.Errorf("%v: the token lives on", epoch)
		}
		w.Pass(2 * time.Second)
		got := w.token("", exchangeForm(proof, jwtType, "audience", "spoke-a"))
		if isNotOfProof := epoch.kind == authority.EpochClient || epoch.key == "spoke-a"; (got.status == 200) != isNotOfProof {
			t.Errorf("%v: an older proof: %d %v", epoch, got.status, got.body)
		}
		if got := w.token("", exchangeForm(h.pod(w, "uid-1"), jwtType, "audience", "spoke-a")); got.status != 200 {
			t.Errorf("%v: a newer proof: %d %v", epoch, got.status, got.body)
		}
	}
}

// The client acts for the person whose token it was sent: act names it, and the scopes are the policy's.
func TestAClientActsForAPerson(t *testing.T) {
	w, _ := exchangeWorld(t)
	orders := func(r *http.Request) { r.SetBasicAuth("orders", secretOf("service")) }
	g, code := w.approve("web", "openid read offline_access")
	user := w.token("web", redeem(code)).text("access_token")
	got := w.token("", exchangeForm(user, accessType, "resource", billingAPI), orders)
	if got.status != 200 || got.text("scope") != "invoices:read" {
		t.Fatalf("%d %v", got.status, got.body)
	}
	claims := claimsOf(t, got.text("access_token"))
	if act, _ := claims["act"].(map[string]any); claims["sub"] != "ada-id" || claims["client_id"] != "orders" || !maps.Equal(act, map[string]any{"sub": "orders"}) {
		t.Errorf("%v", claims)
	}
	if lineage, _ := json.Marshal(claims["lineage"]); string(lineage) != `["`+g.ID.String()+`"]` {
		t.Errorf("lineage %s", lineage)
	}
	if got := w.token("", exchangeForm(user, accessType, "resource", billingAPI, "scope", "invoices:write"), orders); got.text("error") != "invalid_scope" {
		t.Errorf("more than the policy: %v", got.body)
	}
	if _, err := w.Parts.Endings.EndGrant(t.Context(), g.ID, authority.Event{Type: authority.EventGrantEnded}); err != nil {
		t.Fatal(err)
	}
	if w.introspect("api", got.text("access_token")).body["active"] != false {
		t.Error("the child outlives its parent")
	}
}

// RFC 7523 §2.1: the same by another grant type, for clients that know no other.
func TestAJobGetsATokenForItsAssertion(t *testing.T) {
	w, h := exchangeWorld(t)
	ask := form("grant_type", string(oauth.JWTBearer), "audience", "spoke-a", "assertion", h.pod(w, "uid-1"))
	got := w.token("", ask)
	if got.status != 200 || got.text("issued_token_type") != "" || claimsOf(t, got.text("access_token"))["policy"] != "deploys" {
		t.Errorf("%d %v", got.status, got.body)
	}
	if got := w.token("", with(ask, "assertion", h.pod(w, "uid-1", "aud", []string{"https://else.example.com"}))); got.text("error") != "invalid_grant" {
		t.Errorf("for somebody else: %d %v", got.status, got.body)
	}
}

func TestPoliciesOnTrialGrantNothing(t *testing.T) {
	w, h := exchangeWorld(t)
	got := w.token("", exchangeForm(h.pod(w, "uid-1"), jwtType, "resource", testAPI))
	if got.text("error") != "invalid_target" || w.count(authority.EventPolicyTried) != 1 {
		t.Errorf("%v, %d tried", got.body, w.count(authority.EventPolicyTried))
	}
}
