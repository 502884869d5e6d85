package token_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const ciIssuer = "https://ci.example.com"

// hostile is an exchangeWorld with more ways to be wrong: a CI system, two more clients that act, and people
// whose groups lead to a cluster.
func hostile(t testing.TB, change ...func(*authority.StaticObjects)) (*world, hub, hub) {
	t.Helper()
	ci := newHub(t)
	w, h := exchangeWorld(t, append([]func(*authority.StaticObjects){func(d *authority.StaticObjects) {
		d.TrustedIssuers = map[string]authority.TrustedIssuer{"ci": {Name: "ci", Issuer: ciIssuer, Keys: ci.jwks}}
		other := d.Clients["orders"]
		other.ID = "other"
		d.Clients["other"] = other
		ada := d.Users["ada-id"]
		ada.Groups = []string{"sre"}
		d.Users["ada-id"] = ada
		for _, p := range []authority.Policy{
			{Name: "publishes", From: authority.PolicyFrom{TrustedIssuer: "ci", Claims: map[string]string{"environment": "production"}}, To: authority.PolicyTo{Resource: testAPI}, Scopes: oauth.MustScopes("read")},
			{Name: "people", From: authority.PolicyFrom{UserGroup: "sre"}, To: authority.PolicyTo{Cluster: "spoke-a"}, Groups: []string{"admins"}},
			{Name: "deputy", From: authority.PolicyFrom{Client: "orders", OnBehalfOf: "workload"}, To: authority.PolicyTo{Cluster: "spoke-a"}, Groups: []string{"deployers", "admins"}},
			{Name: "admins", From: authority.PolicyFrom{Client: "orders", OnBehalfOf: "any"}, To: authority.PolicyTo{Resource: authority.AdminResource}, Scopes: authority.AdminScopes},
			{Name: "writes", From: authority.PolicyFrom{Client: "orders", OnBehalfOf: "any"}, To: authority.PolicyTo{Resource: testAPI}, Scopes: oauth.MustScopes("read", "write")},
		} {
			p.TTL, p.Mode = 5*time.Minute, authority.PolicyEnforce
			d.Policies[p.Name] = p
		}
	}}, change...)...)
	return w, h, ci
}

// as authenticates as one of the clients that may exchange.
func as(client string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(client, secretOf("service")) }
}

func nobody(*http.Request) {}

// job is a token of the CI system.
func (h hub) job(w *world, sub, jti string, change ...any) string {
	now := w.Now()
	claims := map[string]any{
		"iss": ciIssuer, "aud": testIssuer, "sub": sub, "jti": jti, "environment": "production",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	return h.sign(w, claims, change)
}

// TestThreatsG_Exchange changes one thing of a good exchange (docs/security/threats.md G 84 to 91).
func TestThreatsG_Exchange(t *testing.T) {
	w, h, ci := hostile(t)
	pod, job := h.pod(w, "uid-1"), ci.job(w, "repo:acme", "j1")
	ada := w.signIn("web", "openid read offline_access")
	user, id, refresh := ada.text("access_token"), ada.text("id_token"), ada.text("refresh_token")
	otherToken := w.token("", form("grant_type", "client_credentials", "resource", testAPI), as("other")).text("access_token")
	before := len(w.Grants())
	proof := func(change ...any) []string {
		return []string{"subject_token", h.pod(w, "uid-1", change...), "subject_token_type", jwtType}
	}
	const idType, refreshType = "urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:refresh_token"
	mayAct := func(m map[string]any) []string {
		return append(proof("may_act", m), "audience", "spoke-a")
	}
	for _, row := range []struct {
		name   string
		caller func(*http.Request)
		change []string // of the good one
		want   oauth.Code
	}{
		{"an ID token of ours as proof", nobody, []string{"subject_token", id}, oauth.InvalidRequest},
		{"an ID token of ours as an access token", as("orders"), []string{"subject_token", id, "subject_token_type", accessType}, oauth.InvalidRequest},
		{"an ID token by its own name", as("orders"), []string{"subject_token", id, "subject_token_type", idType}, oauth.InvalidRequest},
		{"a refresh token by its own name", as("orders"), []string{"subject_token", refresh, "subject_token_type", refreshType}, oauth.InvalidRequest},
		{"a refresh token as an access token", as("orders"), []string{"subject_token", refresh, "subject_token_type", accessType}, oauth.InvalidRequest},
		{"an access token of ours as proof", nobody, []string{"subject_token", user}, oauth.InvalidRequest},
		{"an access token of ours and no client", nobody, []string{"subject_token", user, "subject_token_type", accessType}, oauth.InvalidClient},
		{"an access token of ours, and a client that no policy names", as("other"), []string{"subject_token", user, "subject_token_type", accessType}, oauth.InvalidTarget},
		{"a pod's proof as an access token", as("orders"), []string{"subject_token_type", accessType}, oauth.InvalidRequest},
		{"no subject token", nobody, []string{"subject_token", ""}, oauth.InvalidRequest},
		{"no type", nobody, []string{"subject_token_type", ""}, oauth.InvalidRequest},
		{"a refresh token is asked for", nobody, []string{"requested_token_type", refreshType}, oauth.InvalidRequest},
		{"an ID token is asked for", nobody, []string{"requested_token_type", idType}, oauth.InvalidRequest},

		{"no target", nobody, []string{"audience", ""}, oauth.InvalidTarget},
		{"two targets", nobody, []string{"resource", testAPI}, oauth.InvalidTarget},
		{"a cluster that there is not", nobody, []string{"audience", "spoke-x"}, oauth.InvalidTarget},
		{"a cluster that no policy leads to", nobody, []string{"audience", "hub"}, oauth.InvalidTarget},
		{"a resource that no policy leads to", nobody, []string{"audience", otherAPI}, oauth.InvalidTarget},
		{"the issuer itself", nobody, []string{"audience", testIssuer}, oauth.InvalidTarget},
		{"the cluster in capitals", nobody, []string{"audience", "Spoke-A"}, oauth.InvalidTarget},
		{"a path below the cluster", nobody, []string{"audience", "spoke-a/../hub"}, oauth.InvalidTarget},
		{"the admin API", as("orders"), []string{"audience", authority.AdminResource}, oauth.InvalidTarget},
		{"the admin API, for a person's token", as("orders"), []string{"audience", authority.AdminResource, "subject_token", user, "subject_token_type", accessType}, oauth.InvalidTarget},
		{"the admin API in capitals", as("orders"), []string{"audience", strings.ToUpper(authority.AdminResource)}, oauth.InvalidTarget},
		{"a scope that the policy does not have", nobody, []string{"scope", "read"}, oauth.InvalidScope},

		{"a client gets nothing by a workload's policy", as("other"), nil, oauth.InvalidTarget},
		{"nobody can be the policy's client", nobody, []string{"client_id", "policy:deploys"}, oauth.InvalidClient},
		{"a public client gets nothing for a workload", nobody, []string{"client_id", "spa"}, oauth.UnauthorizedClient},

		{"the proof has expired, and its clock may be behind", nobody, proof("exp", w.Now().Add(-10*time.Second).Unix()), oauth.InvalidRequest},
		{"the proof has an act", nobody, proof("act", map[string]any{"sub": "orders"}), oauth.InvalidRequest},
		{"the proof has an act, and a client shows it", as("orders"), proof("act", map[string]any{"sub": "orders"}), oauth.InvalidRequest},
		{"the proof is bound to a key", nobody, proof("cnf", map[string]any{"jkt": "x"}), oauth.InvalidRequest},
		{"the proof is bound to nothing", nobody, proof("cnf", nil), oauth.InvalidRequest},
		{"somebody else may act", as("orders"), mayAct(map[string]any{"iss": testIssuer, "sub": "other"}), oauth.InvalidRequest},
		{"somebody of the proof's own issuer may act", as("orders"), mayAct(map[string]any{"sub": "orders"}), oauth.InvalidRequest},
		{"somebody of another issuer may act", as("orders"), mayAct(map[string]any{"iss": ciIssuer, "sub": "orders"}), oauth.InvalidRequest},
		{"may_act names more than can be compared", as("orders"), mayAct(map[string]any{"iss": testIssuer, "sub": "orders", "email": "a@example.com"}), oauth.InvalidRequest},
		{"may_act is a list", as("orders"), proof("may_act", []string{"orders"}), oauth.InvalidRequest},
		{"a client may act, and the workload itself comes", nobody, mayAct(map[string]any{"iss": testIssuer, "sub": "orders"}), oauth.InvalidRequest},

		{"an actor token without its type", as("orders"), []string{"actor_token", otherToken}, oauth.InvalidRequest},
		{"a type without an actor token", as("orders"), []string{"actor_token_type", accessType}, oauth.InvalidRequest},
		{"the actor token is another client's", as("orders"), []string{"actor_token", otherToken, "actor_token_type", accessType}, oauth.InvalidRequest},
		{"the actor token is a person's", as("orders"), []string{"actor_token", user, "actor_token_type", accessType}, oauth.InvalidRequest},
		{"the actor token is a job's proof", as("orders"), []string{"actor_token", job, "actor_token_type", jwtType}, oauth.InvalidRequest},
		{"an actor token and no client", nobody, []string{"actor_token", otherToken, "actor_token_type", accessType}, oauth.InvalidRequest},

		{"the API server's own token", nobody, proof("aud", []string{hubIssuer}), oauth.InvalidRequest},
		{"a second audience", nobody, proof("aud", []string{testIssuer, otherAPI}), oauth.InvalidRequest},
		{"a subject with a suffix", nobody, proof("sub", "system:serviceaccount:argocd:controller-evil"), oauth.InvalidRequest},
		{"no pod", nobody, proof("kubernetes.io", map[string]any{"namespace": "argocd", "serviceaccount": map[string]any{"name": "controller", "uid": "5a"}}), oauth.InvalidRequest},
		{"a job's proof signed by the cluster", nobody, []string{"subject_token", h.job(w, "repo:acme", "j1")}, oauth.InvalidRequest},
		{"a job with another environment", nobody, []string{"subject_token", ci.job(w, "repo:acme", "j2", "environment", "test"), "audience", testAPI}, oauth.InvalidTarget},
	} {
		good := exchangeForm(pod, jwtType, "audience", "spoke-a")
		got := w.token("", with(good, row.change...), row.caller)
		if got.text("error") != string(row.want) || got.text("access_token") != "" {
			t.Errorf("%s: %d %v", row.name, got.status, got.body)
		}
		w.Pass(time.Second) // and the limits are as before
		pod = h.pod(w, "uid-1")
	}
	if n := len(w.Grants()); n != before {
		t.Errorf("refusals have left %d grants", n-before)
	}
	if got := w.token("", exchangeForm(pod, jwtType, "audience", "spoke-a")); got.status != 200 {
		t.Errorf("the good one: %d %v", got.status, got.body)
	}
	twice := exchangeForm(h.pod(w, "uid-1"), jwtType, "audience", "spoke-a", "audience", "hub")
	if got := w.token("", twice); got.text("error") != "invalid_request" {
		t.Errorf("two audiences: %d %v", got.status, got.body)
	}
}

// What a policy leads to says nothing about those beside it: each refusal has the same bytes, but for its request id.
func TestARefusalNeverSaysWhichPolicyWasNear(t *testing.T) {
	w, h, _ := hostile(t, func(d *authority.StaticObjects) {
		same := d.Policies["deploys"]
		same.Name, same.When, same.Groups = "deploys-too", `claims.sub != ""`, []string{"admins"}
		failing := d.Policies["tries"]
		failing.Name, failing.Mode, failing.When = "fails", authority.PolicyEnforce, `claims.nothing == "x"`
		first := d.Policies["deploys"]
		first.When = `pod.name == "controller-0"`
		d.Policies["deploys"], d.Policies["deploys-too"], d.Policies["fails"] = first, same, failing
	})
	texts := map[string]string{}
	for target, reason := range map[string]string{"spoke-a": "deploys and deploys-too", testAPI: "fails", "hub": "no policy applies", "nowhere": "no policy applies"} {
		got := w.token("", exchangeForm(h.pod(w, "uid-1"), jwtType, "audience", target))
		texts[got.text("error")+got.text("error_description")] = target
		events := w.Recorded()
		last := events[len(events)-1]
		if last.Type != authority.EventTokenRefused || !strings.Contains(last.Reason, reason) || last.Error != "invalid_target" {
			t.Errorf("%s: on record is %+v", target, last)
		}
	}
	if len(texts) != 1 {
		t.Errorf("different refusals: %v", texts)
	}
}

// A refused proof that is authentic is a record of its own, by its hash; what anybody can make up is counted.
func TestRefusedProofsAreOnRecord(t *testing.T) {
	w, h, _ := hostile(t)
	refused := func(token, target string, caller ...func(*http.Request)) authority.Event {
		before := len(w.Recorded())
		if got := w.token("", exchangeForm(token, jwtType, "audience", target), caller...); got.status == 200 {
			t.Fatalf("not refused: %v", got.body)
		}
		events := w.Recorded()[before:]
		if len(events) != 1 || events[0].Type != authority.EventTokenRefused {
			t.Fatalf("recorded: %+v", events)
		}
		if e := events[0]; e.Origin.TokenHash != issue.HashOf(token) || strings.Contains(fmt.Sprintf("%+v", e), token) {
			t.Errorf("recorded: %+v", e)
		}
		return events[0]
	}
	const workload = "cluster:hub:ns:argocd:sa:controller"
	if e := refused(h.pod(w, "uid-1"), "hub"); e.Subject.ID != workload || e.Origin.TokenID != "jti-of-uid-1" || !strings.Contains(e.Reason, "no policy applies") ||
		!slices.Equal(e.Audience, []string{testIssuer + "/clusters/hub"}) || e.GrantType != string(oauth.TokenExchange) {
		t.Errorf("no policy: %+v", e)
	}
	if e := refused(h.pod(w, "uid-1"), "hub", as("other")); e.Subject.ID != workload || e.ClientID != "other" {
		t.Errorf("by a client: %+v", e)
	}
	if e := refused(h.pod(w, "uid-1", "aud", []string{hubIssuer}), "spoke-a"); e.Subject.ID != "" || !strings.Contains(e.Reason, "cluster hub: its aud is") {
		t.Errorf("the API server's token: %+v", e)
	}
	if e := refused(h.pod(w, "uid-1", "may_act", map[string]any{"sub": "x"}), "spoke-a"); e.Subject.ID != workload || !strings.Contains(e.Reason, "may_act") {
		t.Errorf("somebody else may act: %+v", e)
	}
	records, tallies := len(w.Recorded()), len(w.Tallied())
	forged := newHub(t).pod(w, "uid-1")
	for _, token := range []string{"noise", forged} {
		if got := w.token("", exchangeForm(token, jwtType, "audience", "spoke-a")); got.text("error") != "invalid_request" {
			t.Errorf("%d %v", got.status, got.body)
		}
	}
	if len(w.Recorded()) != records || len(w.Tallied()) != tallies+2 {
		t.Errorf("what anybody can make up: %d records, %d counted", len(w.Recorded())-records, len(w.Tallied())-tallies)
	}
}

// A flood of refusals, forged or authentic, makes few records, and a right proof always passes.
func TestAFloodOfWrongProofsStopsNobody(t *testing.T) {
	w, h, _ := hostile(t)
	good, forged, useless := h.pod(w, "uid-1"), newHub(t).pod(w, "uid-1"), h.pod(w, "uid-2")
	right := func(when string) {
		t.Helper()
		if got := w.token("", exchangeForm(good, jwtType, "audience", "spoke-a")); got.status != 200 {
			t.Fatalf("%s: %d %v", when, got.status, got.body)
		}
	}
	for name, ask := range map[string]func() reply{
		"forged":    func() reply { return w.token("", exchangeForm(forged, jwtType, "audience", "spoke-a")) },
		"authentic": func() reply { return w.token("", exchangeForm(useless, jwtType, "audience", "hub")) },
	} {
		before, many := w.count(authority.EventTokenRefused), 0
		for i := range 100 {
			if got := ask(); got.status == 429 {
				many++
			} else if got.status != 400 {
				t.Fatalf("%s: %d %v", name, got.status, got.body)
			}
			if i%25 == 0 {
				right(name)
			}
		}
		if recorded := w.count(authority.EventTokenRefused) - before; many < 60 || recorded > 40 {
			t.Errorf("%s: %d answered with 429, %d records", name, many, recorded)
		}
		right(name)
	}
	// The same pod, wrong and right: the limit is of refusals alone.
	if got := w.token("", exchangeForm(useless, jwtType, "audience", "spoke-a")); got.status != 200 {
		t.Errorf("a pod that was wrong before: %d %v", got.status, got.body)
	}
}

// may_act of a foreign proof may name a client of ours, by our name.
func TestMayActNamesOurClient(t *testing.T) {
	w, h, _ := hostile(t)
	proof := h.pod(w, "uid-1", "may_act", map[string]any{"iss": testIssuer, "sub": "orders"})
	got := w.token("", exchangeForm(proof, jwtType, "audience", "spoke-a"), as("orders"))
	if got.status != 200 {
		t.Fatalf("%d %v", got.status, got.body)
	}
	if act, _ := json.Marshal(claimsOf(t, got.text("access_token"))["act"]); string(act) != `{"sub":"orders"}` {
		t.Errorf("act is %s", act)
	}
}

// A person's groups lead somewhere for the client that the token was issued to, if the token was for us
// (docs/security/threats.md G 84). Nobody else may turn what they were sent into the person's rights.
func TestGroupsAreForThePersonsOwnClient(t *testing.T) {
	w, _, _ := hostile(t, func(d *authority.StaticObjects) {
		for _, id := range []string{"web", "web2", "spa"} {
			c := d.Clients[id]
			c.GrantTypes = append(slices.Clone(c.GrantTypes), oauth.TokenExchange)
			d.Clients[id] = c
		}
	})
	for _, row := range []struct {
		name, issuedTo, scope, shownBy string
		ok                             bool
	}{
		{"its own, for us", "web", "openid", "web", true},
		{"its own, for us and an API", "web", "openid read", "web", true},
		{"its own, for an API", "web", "read offline_access", "web", false},
		{"another client's", "web", "openid", "web2", false},
		{"a public client's own, for us alone", "spa", "openid", "spa", true},
		{"what an API was sent by a public client", "spa", "openid read", "spa", false},
		{"another client's, by somebody who says that they are a public one", "web", "openid", "spa", false},
	} {
		token := w.signIn(row.issuedTo, row.scope).text("access_token")
		got := w.token(row.shownBy, exchangeForm(token, accessType, "audience", "spoke-a"), asPublic(row.shownBy))
		if (got.status == 200) != row.ok || !row.ok && got.text("error") != "invalid_target" {
			t.Errorf("%s: %d %v", row.name, got.status, got.body)
		}
		if row.ok {
			claims := claimsOf(t, got.text("access_token"))
			if claims["sub"] != "ada-id" || claims["act"] != nil || claims["client_id"] != row.issuedTo {
				t.Errorf("%s: %v", row.name, claims)
			}
		}
	}
}

// A token for a place is exchanged for no more at that place (docs/security/threats.md G 85).
func TestAnExchangeForTheSamePlaceOnlyNarrows(t *testing.T) {
	w, h, _ := hostile(t)
	user := w.signIn("web", "read offline_access").text("access_token")
	got := w.token("", exchangeForm(user, accessType, "resource", testAPI), as("orders"))
	if got.text("scope") != "read" {
		t.Errorf("the policy has more: %d %v", got.status, got.body)
	}
	if got := w.token("", exchangeForm(user, accessType, "resource", testAPI, "scope", "write"), as("orders")); got.text("error") != "invalid_scope" {
		t.Errorf("asked for by name: %d %v", got.status, got.body)
	}
	pod := w.token("", exchangeForm(h.pod(w, "uid-1"), jwtType, "audience", "spoke-a")).text("access_token")
	again := w.token("", exchangeForm(pod, accessType, "audience", "spoke-a"), as("orders"))
	if groups := fmt.Sprint(claimsOf(t, again.text("access_token"))["groups"]); groups != "[deployers]" {
		t.Errorf("groups %s", groups)
	}
	for range 2 { // of what has been narrowed too
		user = w.token("", exchangeForm(user, accessType, "resource", testAPI), as("orders")).text("access_token")
	}
	if claims := claimsOf(t, user); claims["scope"] != "read" {
		t.Errorf("%v", claims)
	}
}

// Not every issuer makes jti unique, and in some a subject may choose it. Nobody gets a token about another one by it.
func TestTwoSubjectsWithOneJTI(t *testing.T) {
	w, _, ci := hostile(t)
	ask := func(sub string) reply {
		return w.token("", exchangeForm(ci.job(w, sub, "same"), jwtType, "resource", testAPI))
	}
	first, second := ask("repo:acme"), ask("repo:evil")
	if first.status != 200 || second.text("error") != "invalid_request" || second.text("access_token") != "" {
		t.Errorf("%v, then %v", first.body, second.body)
	}
	if again := ask("repo:acme"); claimsOf(t, again.text("access_token"))["sub"] != "issuer:ci:repo:acme" {
		t.Errorf("%v", again.body)
	}
}

// A node that cannot know what has ended gives nothing, and does not say that the proof is wrong.
func TestAStaleViewGivesNothing(t *testing.T) {
	w, h, _ := hostile(t)
	pod, user := h.pod(w, "uid-1"), w.signIn("web", "read offline_access").text("access_token")
	w.Wait(2 * time.Second)
	for name, got := range map[string]reply{
		"a pod":    w.token("", exchangeForm(pod, jwtType, "audience", "spoke-a")),
		"a client": w.token("", exchangeForm(user, accessType, "resource", testAPI), as("orders")),
		"a job":    w.token("", form("grant_type", string(oauth.JWTBearer), "audience", "spoke-a", "assertion", pod)),
	} {
		if got.status != 503 || got.text("access_token") != "" {
			t.Errorf("%s: %d %v", name, got.status, got.body)
		}
	}
}

// What ends while an exchange is under way is refused like what had ended before.
func TestWhatEndsDuringAnExchange(t *testing.T) {
	for name, end := range map[string]func(*world) error{
		"the pod": func(w *world) error {
			_, err := w.Parts.Endings.EndEvidence(t.Context(), authority.PodEvidence("hub", "uid-1"), w.Now().Add(time.Hour), authority.Event{Type: authority.EventGrantEnded})
			return err
		},
		"the workload": func(w *world) error {
			return w.Parts.Endings.SetEpoch(t.Context(), authority.EpochWorkload, "cluster:hub:ns:argocd:sa:controller", authority.Event{})
		},
		"the policy": func(w *world) error {
			return w.Parts.Endings.SetEpoch(t.Context(), authority.EpochClient, "policy:deploys", authority.Event{})
		},
	} {
		for grantType, want := range map[oauth.GrantType]string{oauth.TokenExchange: "invalid_request", oauth.JWTBearer: "invalid_grant"} {
			w, h, _ := hostile(t)
			var once sync.Once
			w.After(func(method string) {
				if method == "CreateGrant" {
					once.Do(func() {
						if err := end(w); err != nil {
							t.Error(err)
						}
					})
				}
			})
			ask := exchangeForm(h.pod(w, "uid-1"), jwtType, "audience", "spoke-a")
			if grantType == oauth.JWTBearer {
				ask = form("grant_type", string(oauth.JWTBearer), "audience", "spoke-a", "assertion", h.pod(w, "uid-1"))
			}
			if got := w.token("", ask); got.text("error") != want {
				t.Errorf("%s, %s: %d %v", name, grantType, got.status, got.body)
			}
			if w.count(authority.EventTokenIssued) != 0 {
				t.Errorf("%s, %s: a token is on record", name, grantType)
			}
		}
	}
}

// A client's grant names the client alone: the policy that it acts by is asked for too.
func TestAPolicyThatEndsDuringAClientsExchange(t *testing.T) {
	w, h, _ := hostile(t)
	w.After(func(method string) {
		if method == "CreateGrant" {
			if err := w.Parts.Endings.SetEpoch(t.Context(), authority.EpochClient, "policy:deputy", authority.Event{}); err != nil {
				t.Error(err)
			}
		}
	})
	got := w.token("", exchangeForm(h.pod(w, "uid-1"), jwtType, "audience", "spoke-a"), as("orders"))
	if got.text("error") != "invalid_request" || w.count(authority.EventTokenIssued) != 0 {
		t.Errorf("%d %v", got.status, got.body)
	}
}

func TestEndedSubjectsGiveNothing(t *testing.T) {
	w, h, _ := hostile(t)
	ask := func(token string) reply {
		return w.token("", exchangeForm(token, accessType, "resource", billingAPI), as("orders"))
	}
	refused := func(name, token string) {
		t.Helper()
		if got := ask(token); got.text("error") != "invalid_request" || got.text("access_token") != "" {
			t.Errorf("%s: %d %v", name, got.status, got.body)
		}
	}
	g, code := w.approve("web", "openid read")
	user := w.token("web", redeem(code)).text("access_token")
	child := ask(user).text("access_token")
	if child == "" {
		t.Fatal("no token")
	}
	if claims := claimsOf(t, child); claims["sid"] != g.SessionID.String() || fmt.Sprint(claims["amr"]) != "[pwd]" || claims["auth_time"] != float64(g.AuthTime.Unix()) {
		t.Errorf("the sign-in is not in %v", claims)
	}
	if w.post(revokePath, "web", form("token", user)); ask(user).status == 200 {
		t.Error("a revoked token is exchanged")
	}
	refused("revoked", user)
	w.changeAda(func(u *authority.User) { u.Disabled = true })
	if w.introspect("api", child).body["active"] != false {
		t.Error("a disabled person's token lives on")
	}
	w.changeAda(func(u *authority.User) { u.Disabled = false })
	w.Pass(2 * time.Second)
	user = w.signIn("web", "openid read").text("access_token")
	w.changeAda(func(u *authority.User) { u.Disabled = true })
	refused("the person is disabled", user)
	w.changeAda(func(u *authority.User) { u.Disabled = false })
	w.Pass(2 * time.Second)
	user = w.signIn("web", "openid read").text("access_token")
	child = ask(user).text("access_token")
	w.changeClient("web", func(c *authority.Client) { c.Disabled = true })
	refused("its client is disabled", user)
	w.revoke(authority.EpochClient, "web") // which a reload writes too
	if w.introspect("api", child).body["active"] != false {
		t.Error("what came from a disabled client's token lives on")
	}
	w.changeClient("orders", func(c *authority.Client) { c.Disabled = true })
	if got := ask(user); got.text("error") != "invalid_client" {
		t.Errorf("the client that asks is disabled: %d %v", got.status, got.body)
	}
	w.Pass(10 * time.Minute)
	refused2 := w.token("", exchangeForm(h.pod(w, "uid-1", "iat", w.Now().Add(-2*time.Hour).Unix(), "exp", w.Now().Add(-time.Hour).Unix()), jwtType, "audience", "spoke-a"))
	if refused2.text("error") != "invalid_request" {
		t.Errorf("an old proof: %d %v", refused2.status, refused2.body)
	}
}

// An epoch that this node has not heard of when it exchanges ends the child, like its parent: both say when the person signed in.
func TestAChildIsAsOldAsItsSignIn(t *testing.T) {
	w, _, _ := hostile(t)
	signedIn := w.Now()
	w.Pass(10 * time.Second)
	for _, scope := range []string{"read", "read offline_access"} {
		_, code := w.approve("web", scope, func(g *authority.Grant) {
			g.AuthTime, g.SessionID = signedIn, authority.NewID(signedIn)
			if !g.Evidence.IsZero() {
				g.Evidence = authority.SessionEvidence(g.SessionID)
			}
		})
		parent := w.token("web", redeem(code)).text("access_token")
		child := w.token("", exchangeForm(parent, accessType, "resource", billingAPI), as("orders")).text("access_token")
		if child == "" || w.introspect("api", child).body["active"] != true {
			t.Fatal("no child")
		}
		w.revokeAt(authority.EpochUser, "ada-id", signedIn.Add(5*time.Second))
		if w.introspect("api", parent).body["active"] != false || w.introspect("api", child).body["active"] != false {
			t.Errorf("%s: parent %v, child %v", scope, w.introspect("api", parent).body, w.introspect("api", child).body)
		}
		w.Pass(10 * time.Second)
		signedIn = w.Now()
		w.Pass(10 * time.Second)
	}
}

// A policy that is changed or removed ends what it has allowed, whoever the client is.
func TestTheEndOfAPolicyEndsWhatItAllowed(t *testing.T) {
	w, h, _ := hostile(t)
	user := w.signIn("web", "read offline_access").text("access_token")
	acting := w.token("", exchangeForm(user, accessType, "resource", billingAPI), as("orders")).text("access_token")
	beside := w.token("", exchangeForm(user, accessType, "resource", testAPI), as("orders")).text("access_token")
	pod := w.token("", exchangeForm(h.pod(w, "uid-1"), jwtType, "audience", "spoke-a")).text("access_token")
	w.Pass(time.Second)
	for _, policy := range []string{"bills", "deploys"} {
		w.revoke(authority.EpochClient, "policy:"+policy)
	}
	for name, token := range map[string]string{"a client's": acting, "a pod's": pod} {
		if w.introspect("api", token).body["active"] != false {
			t.Errorf("%s token lives on", name)
		}
	}
	if w.introspect("api", beside).body["active"] != true || w.introspect("api", user).body["active"] != true {
		t.Error("what another policy allowed has ended")
	}
	w.Pass(time.Second)
	if got := w.token("", exchangeForm(user, accessType, "resource", billingAPI), as("orders")); got.status != 200 || w.introspect("api", got.text("access_token")).body["active"] != true {
		t.Errorf("the policy as it is now: %d %v", got.status, got.body)
	}
}

// A proof that has run out, or is about to, leaves no rows behind however often it comes, and a newer proof gets a full life.
func TestGrantsAtTheEndOfAProof(t *testing.T) {
	w, h, _ := hostile(t)
	ask := func(proof string) reply { return w.token("", exchangeForm(proof, jwtType, "audience", "spoke-a")) }
	old := h.pod(w, "uid-1", "exp", w.Now().Truncate(time.Second).Add(time.Minute).Unix())
	if got := ask(old); got.status != 200 || got.body["expires_in"].(float64) > 60 {
		t.Fatalf("%d %v", got.status, got.body)
	}
	w.Pass(55 * time.Second)
	for range 3 {
		if got := ask(old); got.status != 200 || got.body["expires_in"].(float64) > 5 {
			t.Fatalf("%d %v", got.status, got.body)
		}
	}
	if n := len(w.Grants()); n != 1 {
		t.Errorf("%d grants of one pod", n)
	}
	renewed := h.pod(w, "uid-1", "jti", "renewed")
	got := ask(renewed)
	if got.status != 200 || got.body["expires_in"] != 300.0 {
		t.Errorf("a newer proof: %d %v", got.status, got.body)
	}
	w.Pass(15 * time.Second)
	for range 3 {
		if got := ask(old); got.text("error") != "invalid_request" {
			t.Errorf("over, within what clocks may differ: %d %v", got.status, got.body)
		}
	}
	if n := len(w.Grants()); n != 2 {
		t.Errorf("%d grants of one pod", n)
	}
	if w.introspect("api", got.text("access_token")).body["active"] != true {
		t.Error("the newer proof's token has ended")
	}
	if got := w.token("", form("grant_type", string(oauth.JWTBearer), "audience", "spoke-a", "assertion", old)); got.text("error") != "invalid_grant" {
		t.Errorf("over, as an assertion: %d %v", got.status, got.body)
	}
	short := h.pod(w, "uid-1", "exp", w.Now().Truncate(time.Second).Add(time.Minute).Unix())
	if got := ask(short); got.status != 200 || got.body["expires_in"].(float64) > 60 {
		t.Errorf("a shorter proof under a longer grant: %d %v", got.status, got.body)
	}
}
