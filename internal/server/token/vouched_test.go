package token_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// vouchedWorld is a hostile one with two clients that have no secret: argocd is a pod of the cluster
// hub, builder a job of the CI system. Both may act for others.
func vouchedWorld(t testing.TB) (*world, hub, hub) {
	return hostile(t, func(d *authority.StaticObjects) {
		redirect, _ := authority.ParseRedirectURI(testRedirect)
		for id, credential := range map[string]authority.FederatedCredential{
			"argocd":  {Cluster: "hub", Namespace: "argocd", ServiceAccount: "controller"},
			"builder": {TrustedIssuer: "ci", Subject: "repo:acme"},
		} {
			d.Clients[id] = authority.Client{
				ID: id, AuthMethod: oauth.AuthFederatedJWT, Federated: credential, Scopes: oauth.MustScopes("openid", "offline_access", "read"),
				Resources: []string{testAPI}, GrantTypes: oauth.GrantTypes, RedirectURIs: []authority.RedirectURI{redirect},
			}
			d.Policies[id+"-acts"] = authority.Policy{
				Name: id + "-acts", From: authority.PolicyFrom{Client: id, OnBehalfOf: authority.AnySubject}, To: authority.PolicyTo{Resource: billingAPI},
				Scopes: oauth.MustScopes("invoices:read"), TTL: 5 * time.Minute, Mode: authority.PolicyEnforce,
			}
		}
	})
}

// vouchedFor adds a client and another issuer's assertion to a form.
func vouchedFor(client, assertion string, f url.Values) url.Values {
	return with(f, "client_id", client, "client_assertion_type", oauth.AssertionTypeJWTBearer, "client_assertion", assertion)
}

func ownToken() url.Values { return form("grant_type", "client_credentials") }

func (w *world) endPod(t *testing.T, uid string) {
	t.Helper()
	if _, err := w.Parts.Endings.EndEvidence(t.Context(), authority.PodEvidence("hub", uid), w.Now().Add(time.Hour), authority.Event{Type: authority.EventEvidenceEnded}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) alive(token string) bool { return w.introspect("api", token).body["active"] == true }

func TestAPodIsAClientWithoutASecret(t *testing.T) {
	w, h, _ := vouchedWorld(t)
	assertion := h.pod(w, "uid-1")
	got := w.token("", vouchedFor("argocd", assertion, ownToken()))
	if got.status != 200 || got.text("scope") != "read" || got.body["expires_in"] != 300.0 {
		t.Fatalf("%d %v", got.status, got.body)
	}
	token := got.text("access_token")
	claims := claimsOf(t, token)
	if claims["sub"] != "argocd" || claims["sub_profile"] != "client" || claims["client_id"] != "argocd" {
		t.Errorf("%v", claims)
	}
	if !slices.Equal(claims["client_workloads"].([]any), []any{"cluster:hub:ns:argocd:sa:controller"}) {
		t.Errorf("%v", claims["client_workloads"])
	}
	events := w.Recorded()
	if made, issued := events[0], events[1]; made.Type != authority.EventGrantCreated || made.Subject.ID != "cluster:hub:ns:argocd:sa:controller" || made.ClientID != "argocd" ||
		issued.Type != authority.EventTokenIssued || issued.Assertion.TokenID != "jti-of-uid-1" || issued.Assertion.Pod != "controller-0" || len(issued.Assertion.TokenHash) != 32 || issued.Assertion != made.Assertion || issued.Origin != (authority.Origin{}) {
		t.Errorf("recorded %+v", events)
	}
	// The other places where clients authenticate.
	if r := w.post(introspectPath, "", vouchedFor("argocd", assertion, form("token", token))); r.status != 200 || r.body["active"] != true {
		t.Errorf("introspect: %d %v", r.status, r.body)
	}
	if r := w.post(introspectPath, "", vouchedFor("argocd", h.pod(w, "uid-1", "sub", "system:serviceaccount:argocd:other"), form("token", token))); r.status != 401 {
		t.Errorf("introspect: %d %v", r.status, r.body)
	}
	second := w.token("", vouchedFor("argocd", h.pod(w, "uid-1", "jti", "renewed"), ownToken())).text("access_token")
	if again := claimsOf(t, second); len(w.Grants()) != 1 || !slices.Equal(again["lineage"].([]any), claims["lineage"].([]any)) {
		t.Errorf("%d grants; %v, then %v", len(w.Grants()), claims["lineage"], again["lineage"])
	}
	if r := w.post(revokePath, "", vouchedFor("argocd", assertion, form("token", token))); r.status != 200 || w.alive(token) || !w.alive(second) {
		t.Errorf("revoke: %d", r.status)
	}
	if e := w.Recorded()[len(w.Recorded())-1]; e.Type != authority.EventTokenRevoked || e.Assertion.TokenID != "jti-of-uid-1" {
		t.Errorf("recorded %+v", e)
	}
}

// What a client got by a pod ends with the pod: its own tokens, those that others got for them, and those
// that it got for others. What does not come from the pod lives on.
func TestWhatAVouchedClientGotDiesWithItsPod(t *testing.T) {
	w, h, _ := vouchedWorld(t)
	ada := w.signIn("web", "openid read").text("access_token")
	ask := func(client, assertion string, f url.Values, change ...func(*http.Request)) string {
		t.Helper()
		if client != "" {
			f = vouchedFor(client, assertion, f)
		}
		r := w.token("", f, change...)
		if r.status != 200 {
			t.Fatalf("%d %v, recorded %+v", r.status, r.body, w.Recorded()[len(w.Recorded())-1])
		}
		return r.text("access_token")
	}
	pod1, pod2 := h.pod(w, "uid-1"), h.pod(w, "uid-2")
	own := ask("argocd", pod1, ownToken())
	forOwn := ask("", "", exchangeForm(own, accessType, "resource", testAPI), as("orders"))
	forAda := ask("argocd", pod1, exchangeForm(ada, accessType, "resource", billingAPI))
	forAdasChild := ask("", "", exchangeForm(forAda, accessType, "resource", testAPI), as("orders"))
	forAPod := ask("argocd", pod1, exchangeForm(h.pod(w, "uid-3"), jwtType, "resource", billingAPI))
	other := ask("argocd", pod2, ownToken())
	otherForAda := ask("argocd", pod2, exchangeForm(ada, accessType, "resource", billingAPI))
	dying := map[string]string{"its own": own, "what others got for it": forOwn, "for a person": forAda, "what others got for that": forAdasChild, "for another pod": forAPod}
	living := map[string]string{"the person's own": ada, "that of another pod": other, "for a person, by another pod": otherForAda}
	for name, token := range dying {
		if !w.alive(token) {
			t.Fatalf("%s is dead already", name)
		}
	}
	w.endPod(t, "uid-1")
	for name, token := range dying {
		if w.alive(token) {
			t.Errorf("%s lives on", name)
		}
	}
	for name, token := range living {
		if !w.alive(token) {
			t.Errorf("%s is dead", name)
		}
	}
	for name, f := range map[string]url.Values{"client_credentials": ownToken(), "an exchange": exchangeForm(ada, accessType, "resource", billingAPI)} {
		if r := w.token("", vouchedFor("argocd", pod1, f)); r.status != 401 || r.text("error_description") != "client authentication failed" {
			t.Errorf("the pod is gone, and still %s: %d %v", name, r.status, r.body)
		}
	}
	if r := w.post(introspectPath, "", vouchedFor("argocd", pod1, form("token", other))); r.status != 401 {
		t.Errorf("introspect: %d %v", r.status, r.body)
	}
}

// The pod ends after its assertion was accepted, and before the grant of what it gets is stored.
func TestAPodThatEndsWhileItsClientAsks(t *testing.T) {
	w, h, _ := vouchedWorld(t)
	w.justBefore("CreateGrant", func() { w.endPod(t, "uid-1") })
	if r := w.token("", vouchedFor("argocd", h.pod(w, "uid-1"), ownToken())); r.status != 401 || w.count(authority.EventTokenIssued) != 0 {
		t.Errorf("%d %v", r.status, r.body)
	}
}

// A person's grant is the client's, whichever of its pods asks: a new version of the client signs nobody out.
func TestAPersonsGrantOutlivesThePodThatRedeemedIt(t *testing.T) {
	w, h, _ := vouchedWorld(t)
	_, code := w.approve("argocd", "openid offline_access read")
	first := w.token("", vouchedFor("argocd", h.pod(w, "uid-1"), redeem(code)))
	if first.status != 200 {
		t.Fatalf("%d %v", first.status, first.body)
	}
	w.endPod(t, "uid-1")
	refresh := form("grant_type", "refresh_token", "refresh_token", first.text("refresh_token"))
	if r := w.token("", vouchedFor("argocd", h.pod(w, "uid-1"), refresh)); r.status != 401 {
		t.Errorf("36: the pod is gone, and refreshes: %d %v", r.status, r.body)
	}
	if r := w.token("", with(refresh, "client_id", "argocd")); r.status != 401 {
		t.Errorf("36: without an assertion: %d %v", r.status, r.body)
	}
	second := w.token("", vouchedFor("argocd", h.pod(w, "uid-2"), refresh))
	if second.status != 200 || !w.alive(first.text("access_token")) || !w.alive(second.text("access_token")) {
		t.Errorf("%d %v", second.status, second.body)
	}
	if e := w.Recorded()[len(w.Recorded())-1]; e.Assertion.TokenID != "jti-of-uid-2" {
		t.Errorf("recorded %+v", e)
	}
}

// Epochs end what a client has got by a workload, and an older proof of it.
func TestEpochsOfAVouchedClient(t *testing.T) {
	for _, row := range []struct {
		client string
		kind   authority.RevocationKind
		key    string
	}{
		{"argocd", authority.EpochWorkload, "cluster:hub:ns:argocd:sa:controller"},
		{"argocd", authority.EpochWorkload, "cluster:hub:ns:argocd"},
		{"argocd", authority.EpochCluster, "hub"},
		{"argocd", authority.EpochClient, "argocd"},
		{"argocd", authority.EpochEverything, ""},
		{"builder", authority.EpochIssuer, "ci"},
		{"builder", authority.EpochWorkload, "issuer:ci:repo:acme"},
	} {
		w, h, ci := vouchedWorld(t)
		prove := func(jti string) string {
			if row.client == "builder" {
				return ci.job(w, "repo:acme", jti)
			}
			return h.pod(w, "uid-1", "jti", jti)
		}
		assertion := prove("one")
		own := w.token("", vouchedFor(row.client, assertion, ownToken())).text("access_token")
		ada := w.signIn("web", "openid read").text("access_token")
		forAda := w.token("", vouchedFor(row.client, assertion, exchangeForm(ada, accessType, "resource", billingAPI))).text("access_token")
		forOwn := w.token("", exchangeForm(own, accessType, "resource", testAPI), as("orders")).text("access_token")
		if !w.alive(own) || !w.alive(forAda) || !w.alive(forOwn) {
			t.Fatalf("%+v: dead already", row)
		}
		w.Pass(2 * time.Second)
		if err := w.Parts.Endings.SetEpoch(t.Context(), row.kind, row.key, authority.Event{}); err != nil {
			t.Fatal(err)
		}
		if w.alive(own) || w.alive(forAda) || w.alive(forOwn) {
			t.Errorf("%+v: its tokens live on: its own %t, for a person %t, what others got for it %t", row, w.alive(own), w.alive(forAda), w.alive(forOwn))
		}
		w.Pass(2 * time.Second)
		got := w.token("", vouchedFor(row.client, assertion, ownToken()))
		if isNotOfProof := row.kind == authority.EpochClient; (got.status == 200) != isNotOfProof {
			t.Errorf("%+v: an older proof: %d %v", row, got.status, got.body)
		}
		newer := w.token("", vouchedFor(row.client, prove("two"), ownToken()))
		if newer.status != 200 || !w.alive(newer.text("access_token")) {
			t.Errorf("%+v: a newer proof: %d %v", row, newer.status, newer.body)
		}
	}
}

// Nothing that a client gets outlives the assertion, and where nobody hears of the end of a pod it is short.
func TestNothingOutlivesTheAssertion(t *testing.T) {
	w, h, ci := vouchedWorld(t)
	api := w.Static.Resources[testAPI]
	api.AccessTTL = 30 * time.Minute
	w.Static.Resources[testAPI] = api
	w.Declare()
	in := func(d time.Duration) int64 { return w.Now().Add(d).Unix() }
	ada := w.signIn("web", "openid read").text("access_token")
	for _, row := range []struct {
		name string
		form url.Values
		want float64
	}{
		{"a pod's last minute", vouchedFor("argocd", h.pod(w, "uid-1", "exp", in(time.Minute)), ownToken()), 59},
		{"an exchange in a pod's last minute", vouchedFor("argocd", h.pod(w, "uid-2", "exp", in(time.Minute)), exchangeForm(ada, accessType, "resource", billingAPI)), 59},
		{"a job's last minute", vouchedFor("builder", ci.job(w, "repo:acme", "j1", "exp", in(time.Minute)), ownToken()), 59},
		{"a pod with an hour, at an API that would give half of it", vouchedFor("argocd", h.pod(w, "uid-3", "exp", in(time.Hour)), ownToken()), 300},
		{"the next token of the first pod, whose grant ends with its last one", vouchedFor("argocd", h.pod(w, "uid-1", "exp", in(time.Hour)), ownToken()), 59},
		{"the last minute of another token of that pod", vouchedFor("argocd", h.pod(w, "uid-3", "exp", in(time.Minute)), ownToken()), 59},
	} {
		r := w.token("", row.form)
		if life, _ := r.body["expires_in"].(float64); r.status != 200 || life < row.want || life > row.want+1 {
			t.Errorf("%s: %d %v", row.name, r.status, r.body)
		}
	}
}

// TestThreatsDG_AssertionsOfOthers changes one thing of a good request (docs/security/threats.md C 34, 36, D 43 to 61, G 84, 87, 91).
func TestThreatsDG_AssertionsOfOthers(t *testing.T) {
	w, h, ci := vouchedWorld(t)
	evil := newHub(t)
	ada := w.signIn("web", "openid read offline_access")
	in := func(d time.Duration) int64 { return w.Now().Add(d).Unix() }
	for _, row := range []struct {
		name, client, assertion string
		change                  func(*http.Request)
		want                    int
	}{
		{"the good pod", "argocd", h.pod(w, "uid-1"), nil, 200},
		{"the good job", "builder", ci.job(w, "repo:acme", "j1"), nil, 200},
		{"84: the key of nobody", "argocd", evil.pod(w, "uid-1"), nil, 401},
		{"84: the key of the CI system for a pod", "argocd", ci.pod(w, "uid-1"), nil, 401},
		{"84: the key of the cluster for a job", "builder", h.job(w, "repo:acme", "j1"), nil, 401},
		{"87: an issuer that nobody registered", "builder", ci.job(w, "repo:acme", "j1", "iss", "https://evil.example.com"), nil, 401},
		{"87: our own name as the issuer", "builder", ci.job(w, "repo:acme", "j1", "iss", testIssuer), nil, 401},
		{"91: another account", "argocd", h.pod(w, "uid-1", "sub", "system:serviceaccount:argocd:controller-evil"), nil, 401},
		{"84: another job", "builder", ci.job(w, "repo:acme-evil", "j1"), nil, 401},
		{"84: the job's subject in capitals", "builder", ci.job(w, "repo:ACME", "j1"), nil, 401},
		{"84: the pod as the job's client", "builder", h.pod(w, "uid-1"), nil, 401},
		{"84: the job as the pod's client", "argocd", ci.job(w, "repo:acme", "j1"), nil, 401},
		{"91: for the API server", "argocd", h.pod(w, "uid-1", "aud", []string{hubIssuer}), nil, 401},
		{"91: for somebody else", "argocd", h.pod(w, "uid-1", "aud", []string{"https://else.example.com"}), nil, 401},
		{"91: for us and for somebody else", "argocd", h.pod(w, "uid-1", "aud", []string{testIssuer, "https://else.example.com"}), nil, 401},
		{"37: for the token endpoint", "builder", ci.job(w, "repo:acme", "j1", "aud", testIssuer+"/token"), nil, 401},
		{"60: for nobody", "builder", ci.job(w, "repo:acme", "j1", "aud", nil), nil, 401},
		{"91: of no pod", "argocd", h.pod(w, "uid-1", "kubernetes.io", map[string]any{"namespace": "argocd", "serviceaccount": map[string]any{"name": "controller"}}), nil, 401},
		{"60: without an end", "builder", ci.job(w, "repo:acme", "j1", "exp", nil), nil, 401},
		{"87: expired", "builder", ci.job(w, "repo:acme", "j1", "exp", in(-time.Minute)), nil, 401},
		{"61: not yet", "builder", ci.job(w, "repo:acme", "j1", "nbf", in(time.Minute)), nil, 401},
		{"F: bound to a key", "builder", ci.job(w, "repo:acme", "j1", "cnf", map[string]any{"jkt": "x"}), nil, 401},
		{"86: of somebody who acts", "builder", ci.job(w, "repo:acme", "j1", "act", map[string]any{"sub": "x"}), nil, 401},
		{"59: an access token of ours", "argocd", ada.text("access_token"), nil, 401},
		{"59: an ID token of ours", "argocd", ada.text("id_token"), nil, 401},
		{"59: a refresh token of ours", "argocd", ada.text("refresh_token"), nil, 401},
		{"34: no client_id", "", h.pod(w, "uid-1"), nil, 401},
		{"34: another client_id, that of a client with a secret", "service", h.pod(w, "uid-1"), nil, 401},
		{"36: that of a public client", "spa", h.pod(w, "uid-1"), nil, 401},
		{"36: that of a client with keys of its own", "signed", h.pod(w, "uid-1"), nil, 401},
		{"34: and a secret", "argocd", h.pod(w, "uid-1"), as("service"), 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := vouchedFor(row.client, row.assertion, ownToken())
			if row.client == "" {
				f.Del("client_id")
			}
			var change []func(*http.Request)
			if row.change != nil {
				change = append(change, row.change)
			}
			r := w.token("", f, change...)
			if r.status != row.want || row.want == 401 && r.text("error_description") != "client authentication failed" {
				t.Errorf("%d %v", r.status, r.body)
			}
		})
	}
}

// An authentic assertion that does not prove its client is on record, by its hash and with the reason. One that
// anybody can have written is only counted.
func TestRefusedAssertionsAreOnRecord(t *testing.T) {
	w, h, _ := vouchedWorld(t)
	w.token("", vouchedFor("builder", h.pod(w, "uid-1"), ownToken()))
	events := w.Recorded()
	if len(events) != 1 || events[0].Type != authority.EventTokenRefused || events[0].ClientID != "" || events[0].Assertion.TokenID != "jti-of-uid-1" || events[0].Assertion.TokenHash == "" ||
		events[0].Reason != `client authentication failed: client "builder": the assertion is of cluster:hub:ns:argocd:sa:controller, which is not the client's federated_credential` {
		t.Errorf("recorded %+v", events)
	}
	w.token("", vouchedFor("argocd", newHub(t).pod(w, "uid-1"), ownToken()))
	if len(w.Recorded()) != 1 || len(w.Tallied()) != 1 || w.Tallied()[0].Reason != "client authentication failed" {
		t.Errorf("recorded %+v, counted %+v", w.Recorded()[1:], w.Tallied())
	}
}

// A node that may have missed an end accepts no assertion.
func TestANodeThatHearsNothingAcceptsNoAssertion(t *testing.T) {
	w, h, _ := vouchedWorld(t)
	assertion := h.pod(w, "uid-1")
	w.Wait(time.Minute)
	if r := w.token("", vouchedFor("argocd", assertion, ownToken())); r.status != 503 {
		t.Errorf("%d %v", r.status, r.body)
	}
}
