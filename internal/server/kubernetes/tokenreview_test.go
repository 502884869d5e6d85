package kubernetes_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	path     = "/kubernetes/tokenreview"
	audience = nodetest.Issuer + path
	testAPI  = "https://api.example.com"
)

func secretOf(client string) string { return "secret-of-" + client }

// world is a node with two spokes and the clients as which their API servers ask.
type world struct {
	*nodetest.Rig
	t testing.TB
}

func newWorld(t testing.TB, change ...func(*authority.StaticObjects)) *world {
	t.Helper()
	client := func(id string, resources ...string) authority.Client {
		return authority.Client{
			ID: id, AuthMethod: oauth.AuthClientSecretBasic, GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: resources,
			Secrets: []authority.ClientSecret{{Hash: sha256.Sum256([]byte(secretOf(id)))}},
		}
	}
	declared := authority.StaticObjects{
		Clients: map[string]authority.Client{
			"spoke-a-apiserver": client("spoke-a-apiserver", audience),
			"spoke-b-apiserver": client("spoke-b-apiserver", audience),
			"stranger":          client("stranger", audience, testAPI),
		},
		Users:     map[string]authority.User{"ada-id": {ID: "ada-id", Username: "ada"}},
		Resources: map[string]authority.Resource{testAPI: {ID: testAPI, Format: authority.FormatJWT}},
		Clusters: map[string]authority.Cluster{
			"hub":     {Name: "hub", Issuer: "https://kubernetes.default.svc"},
			"spoke-a": {Name: "spoke-a", WebhookCaller: "spoke-a-apiserver"},
			"spoke-b": {Name: "spoke-b", WebhookCaller: "spoke-b-apiserver"},
			"spoke-c": {Name: "spoke-c", WebhookCaller: "spoke-b-apiserver"},
		},
		Policies: map[string]authority.Policy{"deploy": {Name: "deploy", Mode: authority.PolicyEnforce}},
	}
	for _, c := range change {
		c(&declared)
	}
	return &world{nodetest.New(t, nodetest.Setup{Static: declared}), t}
}

// decision is what leads to a good token for spoke-a: of a pod of the hub.
func (w *world) decision() authority.Authorization {
	now := w.Now()
	spoke, err := w.Directory.Resource(context.Background(), authority.ClusterAudience(nodetest.Issuer, "spoke-a"))
	if err != nil {
		w.t.Fatal(err)
	}
	return authority.Authorization{
		GrantType: oauth.TokenExchange, Client: authority.Client{ID: "policy:deploy"}, At: now, Life: 5 * time.Minute, Format: authority.FormatJWT,
		Target: authority.Target{Resources: []authority.Resource{spoke}}, Policy: "deploy", Groups: []string{"deployers"},
		Grant: authority.Grant{
			ID: authority.NewID(now), ClientID: "policy:deploy", State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
			Subject: authority.Subject{Issuer: nodetest.Issuer, ID: "cluster:hub:ns:argocd:sa:controller", Kind: authority.SubjectWorkload},
		},
	}
}

func (w *world) issue(change ...func(*authority.Authorization)) string {
	w.t.Helper()
	a := w.decision()
	for _, c := range change {
		c(&a)
	}
	response, err := w.Parts.Issuer.Issue(context.Background(), a, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.AccessToken
}

func bodyOf(token string) string {
	return fmt.Sprintf(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{"creationTimestamp":null},"spec":{"token":%q,"audiences":["https://kubernetes.default.svc"]},"status":{"user":{}}}`+"\n", token)
}

// as is the request of a client that proves itself by its secret.
func as(client, body string) *http.Request {
	r := httptest.NewRequest("POST", nodetest.Issuer+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(secretOf(client)))
	return r
}

func (w *world) send(r *http.Request) *httptest.ResponseRecorder {
	w.t.Helper()
	answer := httptest.NewRecorder()
	w.Public.ServeHTTP(answer, r)
	return answer
}

type status struct {
	Authenticated bool
	User          map[string]any
	Audiences     []string
	Error         string
}

// ask is what spoke-a's API server is told about a token.
func (w *world) ask(token string) status {
	w.t.Helper()
	return w.read(w.send(as("spoke-a-apiserver", bodyOf(token))))
}

func (w *world) read(a *httptest.ResponseRecorder) status {
	w.t.Helper()
	var review struct {
		APIVersion, Kind string
		Status           status
	}
	if err := json.Unmarshal(a.Body.Bytes(), &review); err != nil || a.Code != 200 || review.APIVersion != "authentication.k8s.io/v1" || review.Kind != "TokenReview" {
		w.t.Fatalf("%d %s %v", a.Code, a.Body, err)
	}
	if a.Header().Get("Content-Type") != "application/json" || a.Header().Get("Cache-Control") != "no-store" {
		w.t.Fatal(a.Header())
	}
	return review.Status
}

func TestAGoodTokenIsAUserWithOurPrefix(t *testing.T) {
	w := newWorld(t)
	raw := w.issue()
	token, err := w.Parts.Reader.Authenticate(raw)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // seen for the first time, and again
		got := w.ask(raw)
		want := status{Authenticated: true, User: map[string]any{
			"username": "signalbox:cluster:hub:ns:argocd:sa:controller", "groups": []any{"signalbox:deployers"},
			"extra": map[string]any{
				"authentication.kubernetes.io/credential-id": []any{"JTI=" + token.ID.String()},
				"signalbox.dev/grant-id":                     []any{token.GrantID.String()},
				"signalbox.dev/policy":                       []any{"deploy"},
			},
		}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v", got)
		}
	}
	person := w.ask(w.issue(func(a *authority.Authorization) {
		a.Grant.Subject = authority.Subject{Issuer: nodetest.Issuer, ID: "ada-id", Kind: authority.SubjectUser}
		a.Policy, a.Groups = "", nil
		a.Client.ID, a.Grant.ClientID = "stranger", "stranger"
	}))
	if person.User["username"] != "signalbox:ada-id" || person.User["groups"] != nil || len(person.User["extra"].(map[string]any)) != 2 {
		t.Errorf("%+v", person)
	}
	if len(w.Recorded()) != 2 { // the two tokens
		t.Errorf("%+v", w.Recorded())
	}
}

// docs/security/threats.md D 59, E 74, F 79, G 84: what is not for exactly this cluster is nobody.
func TestWhatIsNotForTheCallersClusterIsNobody(t *testing.T) {
	w := newWorld(t)
	aud := func(ids ...string) func(*authority.Authorization) {
		return func(a *authority.Authorization) {
			a.Target.Resources = nil
			for _, id := range ids {
				a.Target.Resources = append(a.Target.Resources, authority.Resource{ID: id, Format: authority.FormatJWT})
			}
		}
	}
	revoked := w.issue()
	token, err := w.Parts.Reader.Authenticate(revoked)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Parts.Endings.EndToken(t.Context(), token.ID, token.Expires, authority.Event{Type: authority.EventTokenRevoked}); err != nil {
		t.Fatal(err)
	}
	good := w.issue()
	spokeA := authority.ClusterAudience(nodetest.Issuer, "spoke-a")
	for _, row := range []struct{ name, token string }{
		{"for another cluster", w.issue(aud(authority.ClusterAudience(nodetest.Issuer, "spoke-b")))},
		{"for a cluster that is not registered", w.issue(aud(authority.ClusterAudience(nodetest.Issuer, "spoke-z")))},
		{"for an API", w.issue(aud(testAPI))},
		{"for the cluster and an API", w.issue(aud(spokeA, testAPI))},
		{"for the cluster and UserInfo", w.issue(func(a *authority.Authorization) { a.Target.Scopes = oauth.MustScopes("openid") })},
		{"for the issuer", w.issue(aud())},
		{"for the webhook itself", w.issue(aud(audience))},
		{"for something below the cluster", w.issue(aud(spokeA + "/jwks"))},
		{"opaque, for an API", w.issue(aud(testAPI), func(a *authority.Authorization) { a.Format = authority.FormatOpaque })},
		{"bound to a key", w.issue(func(a *authority.Authorization) { a.Confirmation = authority.Confirmation{JKT: "thumbprint"} })},
		{"revoked", revoked},
		{"with a signature that is not ours", good[:len(good)-4] + "AAAA"},
		{"a service-account token of Kubernetes", "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMifQ.AAAA"},
		{"a bootstrap token", "07401b.f395accd246ae52d"},
		{"noise", "x"},
		{"a subject of Kubernetes' own", w.issue(func(a *authority.Authorization) {
			a.Grant.Subject.ID = "system:admin"
			a.Grant.Subject.Kind = authority.SubjectUser
			w.Static.Users["system:admin"] = authority.User{ID: "system:admin", Username: "root"}
			w.Declare()
		})},
		{"a group of Kubernetes' own", w.issue(func(a *authority.Authorization) { a.Groups = []string{"deployers", "system:masters"} })},
	} {
		got := w.ask(row.token)
		if got.Authenticated || got.User != nil || got.Error != "the token is not valid for this cluster" {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
	before := len(w.Recorded())
	if !w.ask(good).Authenticated {
		t.Fatal("the good token is refused")
	}
	w.Pass(5 * time.Minute)
	if w.ask(good).Authenticated {
		t.Error("an expired token is accepted")
	}
	if len(w.Recorded()) != before {
		t.Errorf("%+v", w.Recorded()[before:])
	}
}

// A caller of several clusters is told about the tokens of each, and of no other.
func TestACallerOfSeveralClusters(t *testing.T) {
	w := newWorld(t)
	for cluster, want := range map[string]bool{"spoke-a": false, "spoke-b": true, "spoke-c": true, "hub": false} {
		raw := w.issue(func(a *authority.Authorization) {
			a.Target.Resources[0].ID = authority.ClusterAudience(nodetest.Issuer, cluster)
		})
		if got := w.read(w.send(as("spoke-b-apiserver", bodyOf(raw)))); got.Authenticated != want {
			t.Errorf("%s: %+v", cluster, got)
		}
	}
}

// Whatever the token says, no name is one that Kubernetes keeps for itself.
func TestNoNameBeginsWithSystem(t *testing.T) {
	w := newWorld(t)
	for _, group := range []string{"deployers", "System:masters", ":system:masters", "signalbox:system:masters", "system", "ystem:masters"} {
		got := w.ask(w.issue(func(a *authority.Authorization) { a.Groups = []string{group} }))
		if !got.Authenticated {
			t.Errorf("%q: %+v", group, got)
			continue
		}
		for _, name := range append(got.User["groups"].([]any), got.User["username"]) {
			if !strings.HasPrefix(name.(string), "signalbox:") {
				t.Errorf("%q is %q", group, name)
			}
		}
	}
}

// docs/security/threats.md C 33, C 39, E 74: a webhook caller that is not the API server.
func TestCallers(t *testing.T) {
	w := newWorld(t, func(d *authority.StaticObjects) {
		off := d.Clients["spoke-b-apiserver"]
		off.Disabled = true
		d.Clients["spoke-b-apiserver"] = off
	})
	good := w.issue()
	bearer := func(raw string) *http.Request {
		r := as("", bodyOf(good))
		r.Header.Set("Authorization", "Bearer "+raw)
		return r
	}
	mint := func(client, resource string) string {
		raw, err := w.Node.Mint(context.Background(), client, resource, 0)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	persons := w.issue(func(a *authority.Authorization) {
		a.Client.ID, a.Grant.ClientID = "spoke-a-apiserver", "spoke-a-apiserver"
		a.Target.Resources[0].ID = audience
		a.Grant.Subject = authority.Subject{Issuer: nodetest.Issuer, ID: "ada-id", Kind: authority.SubjectUser}
	})
	ended := mint("spoke-a-apiserver", audience)
	token, err := w.Parts.Reader.Authenticate(ended)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Parts.Endings.EndToken(t.Context(), token.ID, token.Expires, authority.Event{Type: authority.EventTokenRevoked}); err != nil {
		t.Fatal(err)
	}
	none, twice, wrong := as("", bodyOf(good)), as("spoke-a-apiserver", bodyOf(good)), as("spoke-a-apiserver", bodyOf(good))
	none.Header.Del("Authorization")
	twice.Header.Add("Authorization", "Bearer x")
	wrong.SetBasicAuth("spoke-a-apiserver", "wrong")
	const both, basic, invalid = `Basic realm="signalbox", charset="UTF-8"|Bearer realm="signalbox"`, `Basic realm="signalbox", charset="UTF-8"`, `Bearer realm="signalbox", error="invalid_token"`
	for _, row := range []struct {
		name      string
		request   *http.Request
		status    int
		challenge string
		recorded  string // the client whose refusal is on record
	}{
		{"with the secret", as("spoke-a-apiserver", bodyOf(good)), 200, "", ""},
		{"with an access token of its own", bearer(mint("spoke-a-apiserver", audience)), 200, "", ""},
		{"without credentials", none, 401, both, ""},
		{"with a wrong secret", wrong, 401, basic, ""},
		{"a client that is not known", as("nosuch", bodyOf(good)), 401, basic, ""},
		{"a client that is disabled", as("spoke-b-apiserver", bodyOf(good)), 401, basic, ""},
		{"twice", twice, 400, "", ""},
		{"another scheme", func() *http.Request { r := bearer(""); r.Header.Set("Authorization", "Negotiate x"); return r }(), 401, basic, ""},
		{"the token that it asks about", bearer(good), 401, invalid, ""},
		{"a token for an API", bearer(mint("stranger", testAPI)), 401, invalid, ""},
		{"a person's token for the webhook", bearer(persons), 401, invalid, ""},
		{"an ended token", bearer(ended), 401, invalid, ""},
		{"an empty token", bearer(""), 401, invalid, ""},
		{"a client that is no cluster's caller", as("stranger", bodyOf(good)), 403, "", "stranger"},
		{"a client that is no cluster's caller, with noise", as("stranger", bodyOf("x")), 403, "", "stranger"},
		{"with a token of its own, and no cluster's caller", bearer(mint("stranger", audience)), 403, "", "stranger"},
	} {
		t.Run(row.name, func(t *testing.T) {
			recorded, tallied := len(w.Recorded()), len(w.Tallied())
			a := w.send(row.request)
			if got := strings.Join(a.Header()["Www-Authenticate"], "|"); a.Code != row.status || got != row.challenge {
				t.Fatalf("%d %q %s", a.Code, got, a.Body)
			}
			if a.Code == 200 {
				if !w.read(a).Authenticated {
					t.Fatal(a.Body)
				}
				return
			}
			if strings.Contains(a.Body.String(), "argocd") {
				t.Error(a.Body)
			}
			events := w.Tallied()[tallied:]
			if row.recorded != "" {
				events = w.Recorded()[recorded:]
			}
			if len(events) != 1 || events[0].Type != authority.EventTokenRefused || events[0].ClientID != row.recorded {
				t.Errorf("%+v", events)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	w := newWorld(t)
	good := bodyOf(w.issue())
	send := func(body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
		r := as("spoke-a-apiserver", body)
		for _, c := range change {
			c(r)
		}
		return w.send(r)
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, row := range []struct {
		name   string
		answer *httptest.ResponseRecorder
		status int
	}{
		{"as kube-apiserver sends it", send(good), 200},
		{"with a charset", send(good, header("Content-Type", "application/json; charset=utf-8")), 200},
		{"with members that nobody knows", send(strings.Replace(good, `{"kind"`, `{"later":{"spec":{"token":"x"}},"kind"`, 1)), 200},
		{"of v1beta1", send(strings.Replace(good, "k8s.io/v1", "k8s.io/v1beta1", 1)), 400},
		{"of another kind", send(strings.Replace(good, `"TokenReview"`, `"SubjectAccessReview"`, 1)), 400},
		{"without a kind", send(strings.Replace(good, `"kind"`, `"Kind"`, 1)), 400},
		{"without a token", send(strings.Replace(good, `"token"`, `"Token"`, 1)), 400},
		{"with an empty token", send(bodyOf("")), 400},
		{"with two tokens", send(strings.Replace(good, `"audiences"`, `"token":"x","audiences"`, 1)), 400},
		{"with a number as token", send(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":1}}`), 400},
		{"with a text as spec", send(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":"x"}`), 400},
		{"without a spec", send(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1"}`), 400},
		{"a list", send("[" + good + "]"), 400},
		{"two at once", send(good + good), 400},
		{"nothing", send(""), 400},
		{"a form", send("token=x", header("Content-Type", "application/x-www-form-urlencoded")), 400},
		{"compressed", send(good, header("Content-Encoding", "gzip")), 400},
		{"of nearly 64 KiB", send(bodyOf(strings.Repeat("x", 64<<10-300))), 200},
		{"of more than 64 KiB", send(bodyOf(strings.Repeat("x", 64<<10))), 413},
		{"a bomb of brackets", send(strings.Repeat(`{"a":`, 5000)), 400},
	} {
		if row.answer.Code != row.status {
			t.Errorf("%s: %d %s", row.name, row.answer.Code, row.answer.Body)
		}
	}
	get := as("spoke-a-apiserver", "")
	get.Method = "GET"
	if a := w.send(get); a.Code != 405 {
		t.Error(a.Code)
	}
}

// A node that cannot know says nothing: not that a token is good, and not that it is bad.
func TestANodeThatCannotKnow(t *testing.T) {
	w := newWorld(t)
	good := w.issue()
	w.ask(good)
	w.Wait(10 * time.Second)
	for _, token := range []string{good, "noise"} {
		if a := w.send(as("spoke-a-apiserver", bodyOf(token))); a.Code != 503 || a.Header().Get("Retry-After") == "" {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	}
	w.Pass(0)
	if !w.ask(good).Authenticated {
		t.Error("it does not recover")
	}
	w.Fail("Object", errors.New("the database is away"))
	if a := w.send(as("stored-apiserver", bodyOf(good))); a.Code != 503 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

// Clusters of the admin API are like those of the file.
func TestAStoredCluster(t *testing.T) {
	w := newWorld(t, func(d *authority.StaticObjects) { delete(d.Clusters, "spoke-a") })
	for name, caller := range map[string]string{"spoke-a": "spoke-a-apiserver", "spoke-z": "spoke-b-apiserver"} {
		cluster, err := authority.NewCluster(authority.ClusterMetadata{Name: name, Webhook: &authority.Webhook{Caller: caller}})
		if err != nil {
			t.Fatal(err)
		}
		if err := authority.Clusters(w.DB).Create(t.Context(), cluster); err != nil {
			t.Fatal(err)
		}
	}
	// One that breaks the rule book is off: its caller is nobody's.
	off := authority.Object{Kind: authority.KindCluster, ID: "spoke-y", Body: []byte(`{"issuer":"https://kubernetes.default.svc","webhook":{"caller":"stranger"}}`)}
	if err := w.DB.CreateObject(t.Context(), off); err != nil {
		t.Fatal(err)
	}
	if c, err := authority.Clusters(w.DB).Get(t.Context(), "spoke-y"); err != nil || len(c.Problems) == 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	good := w.issue()
	if !w.ask(good).Authenticated || w.ask("noise").Authenticated {
		t.Error("a stored cluster's token is refused")
	}
	if a := w.send(as("stranger", bodyOf(good))); a.Code != 403 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

// Why kubectl was told Unauthorized is in the log, and no token is.
func TestTheLogSaysWhy(t *testing.T) {
	w := newWorld(t)
	good := w.issue(func(a *authority.Authorization) { a.Target.Resources[0].ID = testAPI })
	w.ask(good)
	log := w.Log()
	if !strings.Contains(log, "it is meant for another audience") || !strings.Contains(log, `"client_id":"spoke-a-apiserver"`) && !strings.Contains(log, "client_id=spoke-a-apiserver") || strings.Contains(log, good) {
		t.Error(log)
	}
	if metrics := w.Metrics(); !strings.Contains(metrics, `"`+path+`"`) {
		t.Error("no metric of the route")
	}
}

func BenchmarkTokenReview(b *testing.B) {
	for _, row := range []struct {
		name string
		seen bool
	}{{"seen before", true}, {"for the first time", false}} {
		b.Run(row.name, func(b *testing.B) {
			w := newWorld(b)
			tokens := []string{w.issue()}
			for !row.seen && len(tokens) < b.N {
				tokens = append(tokens, w.issue())
			}
			w.read(w.send(as("spoke-a-apiserver", bodyOf(w.issue()))))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if a := w.send(as("spoke-a-apiserver", bodyOf(tokens[i%len(tokens)]))); a.Code != 200 {
					b.Fatal(a.Code, a.Body)
				}
			}
		})
	}
}
