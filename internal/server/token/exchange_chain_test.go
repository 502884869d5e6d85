package token_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// place is a resource of chainWorld, with the same scopes as every other: names alone must not mix them up.
func place(i int) string { return fmt.Sprintf("https://place-%d.example.com", i) }

const (
	places  = 3
	callers = 3
)

// chainWorld has a policy from every client to every place, each with other scopes, and one from a pod to each.
func chainWorld(t testing.TB) (*world, hub, map[string]authority.Policy) {
	w, h := exchangeWorld(t, func(d *authority.StaticObjects) {
		all := []string{"a", "b", "c"}
		for i := range places {
			d.Resources[place(i)] = authority.Resource{ID: place(i), Scopes: oauth.MustScopes(all...), Format: authority.FormatJWT, IntrospectionClients: []string{"api"}}
			to := authority.PolicyTo{Resource: place(i)}
			pod := fmt.Sprintf("pod-to-%d", i)
			d.Policies[pod] = authority.Policy{Name: pod, From: authority.PolicyFrom{Cluster: "hub", Namespace: "argocd", ServiceAccount: "controller"}, To: to, Scopes: oauth.MustScopes(all...), TTL: 5 * time.Minute, Mode: authority.PolicyEnforce}
			for c := range callers {
				name, client := fmt.Sprintf("caller-%d-to-%d", c, i), d.Clients["orders"]
				client.ID, client.Resources = fmt.Sprintf("caller-%d", c), []string{place(i)}
				client.Scopes = oauth.MustScopes(all...)
				d.Clients[client.ID] = client
				d.Policies[name] = authority.Policy{
					Name: name, From: authority.PolicyFrom{Client: client.ID, OnBehalfOf: authority.AnySubject}, To: to,
					Scopes: oauth.MustScopes(all[(c+i)%3:]...), TTL: time.Duration(1+c) * time.Minute, Mode: authority.PolicyEnforce,
				}
			}
		}
	})
	return w, h, w.Static.Policies
}

// link is one token of a chain, with what it says.
type link struct {
	token, caller string
	claims        map[string]any
	scopes        oauth.Scopes
}

func (w *world) link(t *rapid.T, caller, token string) link {
	l := link{token: token, caller: caller, claims: claimsOf(w.t, token)}
	scope, _ := l.claims["scope"].(string)
	var err error
	if l.scopes, err = oauth.ParseScopes(scope); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l link) text(name string) string { s, _ := l.claims[name].(string); return s }

func asJSON(v any) string { b, _ := json.Marshal(v); return string(b) }

// Random chains of exchanges, begun by a pod, a person or a client: a child never has more than its policy, and no more than
// its parent at the same place; never lives longer than its parent, its policy or the proof; says who acts, in order; and dies with
// whatever any of its ancestors depends on, while its ancestors live (docs/security/threats.md G 84, 85, 86, 89).
func TestChainsOfExchangesOnlyNarrowAndDieWithTheirAncestors(t *testing.T) {
	w, h, policies := chainWorld(t)
	chain := 0
	rapid.Check(t, func(t *rapid.T) {
		chain++
		w.Pass(10 * time.Second)
		uid := fmt.Sprintf("uid-%d", chain)
		var line []link
		var ends []func() // of everything that all of the chain depends on
		epoch := func(kind authority.RevocationKind, key string) func() {
			return func() {
				w.Pass(time.Second)
				if err := w.Parts.Endings.SetEpoch(w.t.Context(), kind, key, authority.Event{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		var limit int64 // no token is good later than this
		switch kind := rapid.SampledFrom([]string{"pod", "person", "client"}).Draw(t, "root"); kind {
		case "pod":
			proofLife := rapid.IntRange(2, 600).Draw(t, "proof life")
			limit = w.Now().Unix() + int64(proofLife)
			got := w.token("", exchangeForm(h.pod(w, uid, "exp", limit), jwtType, "resource", place(rapid.IntRange(0, places-1).Draw(t, "first place"))))
			if got.status != 200 {
				t.Fatalf("%d %v", got.status, got.body)
			}
			line = append(line, w.link(t, "", got.text("access_token")))
			ends = append(ends, func() {
				if _, err := w.Parts.Endings.EndEvidence(w.t.Context(), authority.PodEvidence("hub", uid), w.Now().Add(time.Hour), authority.Event{Type: authority.EventGrantEnded}); err != nil {
					t.Fatal(err)
				}
			}, epoch(authority.EpochCluster, "hub"), epoch(authority.EpochWorkload, "cluster:hub:ns:argocd"), epoch(authority.EpochClient, "policy:"+line[0].text("policy")))
		case "person":
			g, code := w.approve("web", rapid.SampledFrom([]string{"openid read", "read offline_access"}).Draw(t, "scope"))
			line = append(line, w.link(t, "web", w.token("web", redeem(code)).text("access_token")))
			ends = append(ends, epoch(authority.EpochUser, "ada-id"), epoch(authority.EpochClient, "web"))
			if !g.Evidence.IsZero() {
				ends = append(ends, func() {
					if _, err := w.Parts.Endings.EndSession(w.t.Context(), g.SessionID, authority.Event{Type: authority.EventGrantEnded}); err != nil {
						t.Fatal(err)
					}
				})
			}
		case "client":
			caller := fmt.Sprintf("caller-%d", rapid.IntRange(0, callers-1).Draw(t, "first client"))
			got := w.token("", form("grant_type", "client_credentials"), as(caller))
			if got.status != 200 {
				t.Fatalf("%d %v", got.status, got.body)
			}
			line = append(line, w.link(t, caller, got.text("access_token")))
			ends = append(ends, epoch(authority.EpochClient, caller))
		}
		ends = append(ends, epoch(authority.EpochEverything, ""))
		for range rapid.IntRange(1, 10).Draw(t, "length") {
			parent := line[len(line)-1]
			c, i := rapid.IntRange(0, callers-1).Draw(t, "client"), rapid.IntRange(0, places-1).Draw(t, "place")
			policy := policies[fmt.Sprintf("caller-%d-to-%d", c, i)]
			asked := rapid.SampledFrom([]string{"", "", "a", "b", "c", "b c", "a b c"}).Draw(t, "scope")
			w.Wait(time.Duration(rapid.IntRange(0, 900).Draw(t, "ms")) * time.Millisecond)
			w.Pass(0)
			got := w.token("", exchangeForm(parent.token, accessType, "resource", place(i), "scope", asked), as(policy.From.Client))
			if got.status != 200 {
				lineage, _ := parent.claims["lineage"].([]any)
				full := len(lineage) >= authority.MaxLineage
				switch code := got.text("error"); {
				case code == "invalid_scope", full && code == "invalid_request", float64(w.Now().Unix()) >= parent.claims["exp"].(float64)-1 && code == "invalid_request":
					continue
				default:
					t.Fatalf("%d %v", got.status, got.body)
				}
			}
			child := w.link(t, policy.From.Client, got.text("access_token"))
			if outside, is := child.scopes.FirstOutside(policy.Scopes); is {
				t.Fatalf("scope %q is not the policy's", outside)
			}
			if outside, is := child.scopes.FirstOutside(parent.scopes); is && parent.text("aud") == place(i) {
				t.Fatalf("scope %q is not the parent's", outside)
			}
			exp, parentExp := child.claims["exp"].(float64), parent.claims["exp"].(float64)
			if exp > parentExp || limit > 0 && exp > float64(limit) || exp-child.claims["iat"].(float64) > policy.TTL.Seconds() || exp <= child.claims["iat"].(float64) {
				t.Fatalf("it lives until %v, its parent until %v, the proof until %v, its policy gives %v", exp, parentExp, limit, policy.TTL)
			}
			if child.text("sub") != line[0].text("sub") || child.text("sub_profile") != line[0].text("sub_profile") || child.text("aud") != place(i) || child.text("client_id") != policy.From.Client || child.text("policy") != policy.Name {
				t.Fatalf("claims %v of a chain that began with %v", child.claims, line[0].claims)
			}
			act := map[string]any{"sub": policy.From.Client}
			if before, acted := parent.claims["act"]; acted {
				act["act"] = before
			}
			if asJSON(child.claims["act"]) != asJSON(act) {
				t.Fatalf("act %v, want %v", asJSON(child.claims["act"]), asJSON(act))
			}
			lineage, _ := parent.claims["lineage"].([]any)
			if want := append(append([]any{}, lineage...), parent.claims["grant_id"]); asJSON(child.claims["lineage"]) != asJSON(want) || len(want) > authority.MaxLineage {
				t.Fatalf("lineage %v, want %v", child.claims["lineage"], want)
			}
			line = append(line, child)
		}
		alive := func(l link) bool { return w.introspect("api", l.token).body["active"] == true }
		for i, l := range line {
			if float64(w.Now().Unix()) < l.claims["exp"].(float64) != alive(l) {
				t.Fatalf("token %d of %d: alive is %v", i, len(line), alive(l))
			}
		}
		// One in the middle ends: all below are dead, and all above live on.
		cut := rapid.IntRange(0, len(line)-1).Draw(t, "cut")
		id, err := authority.ParseID(line[cut].text("grant_id"))
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "by its grant") {
			if _, err := w.Parts.Endings.EndGrant(w.t.Context(), id, authority.Event{Type: authority.EventGrantEnded}); err != nil {
				t.Fatal(err)
			}
			for i, l := range line {
				if want := i < cut && float64(w.Now().Unix()) < l.claims["exp"].(float64); alive(l) != want {
					t.Fatalf("grant %d of %d ended: token %d: alive is %v", cut, len(line), i, alive(l))
				}
			}
		}
		rapid.SampledFrom(ends).Draw(t, "the end")()
		for i, l := range line {
			if alive(l) {
				t.Fatalf("token %d of %d outlives what all depend on", i, len(line))
			}
			got := w.token("", exchangeForm(l.token, accessType, "resource", place(0)), as("caller-0"))
			if got.text("error") != "invalid_request" {
				t.Fatalf("token %d is exchanged: %d %v", i, got.status, got.body)
			}
		}
	})
}

// Whatever is sent, the answer is a refusal with a code of the RFC, or a token that the one good proof may have.
func FuzzExchange(f *testing.F) {
	w, h, _ := hostile(f)
	proof := h.pod(w, "uid-1", "exp", w.Now().Add(20*time.Hour).Unix())
	good := exchangeForm(proof, jwtType, "audience", "spoke-a")
	for _, body := range []string{
		good.Encode(), with(good, "audience", "", "resource", spokeAud).Encode(), with(good, "scope", "read write").Encode(), with(good, "subject_token", "a.b.c").Encode(),
		with(good, "requested_token_type", jwtType, "actor_token", proof, "actor_token_type", jwtType).Encode(), with(good, "client_id", "orders").Encode(),
		form("grant_type", string(oauth.JWTBearer), "assertion", proof, "resource", spokeAud).Encode(),
		good.Encode() + "&resource=urn:signalbox:admin", "grant_type=urn:ietf:params:oauth:grant-type:token-exchange", "subject_token=%00", "",
	} {
		f.Add(strings.ReplaceAll(body, proof, "PROOF"))
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", nodetest.Issuer+tokenPath, strings.NewReader(strings.ReplaceAll(body, "PROOF", proof)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		w.Public.ServeHTTP(answer, r)
		var got struct {
			Error       string `json:"error"`
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			t.Fatalf("%q: %s", body, answer.Body)
		}
		switch answer.Code {
		case http.StatusOK:
			claims := claimsOf(t, got.AccessToken)
			if claims["aud"] != spokeAud || claims["policy"] != "deploys" || claims["sub"] != "cluster:hub:ns:argocd:sa:controller" || claims["act"] != nil || claims["scope"] != nil {
				t.Errorf("%q: %v", body, claims)
			}
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
			if got.Error == "" || got.AccessToken != "" || got.Error == "access_denied" {
				t.Errorf("%q: %s", body, answer.Body)
			}
		default:
			t.Errorf("%q: %d %s", body, answer.Code, answer.Body)
		}
		if strings.Contains(answer.Body.String(), proof) {
			t.Errorf("%q: the answer repeats the proof", body)
		}
	})
}
