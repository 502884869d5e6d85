package token_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	testIssuer   = nodetest.Issuer
	testAPI      = "https://api.example.com"
	otherAPI     = "https://other.example.com"
	opaqueAPI    = "https://opaque.example.com"
	testRedirect = "https://app.example.com/callback"
	testVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// world is a node whose token endpoints a test calls.
type world struct {
	*nodetest.Rig
	t testing.TB
}

// The endpoints.
const (
	tokenPath      = "/token"
	introspectPath = "/introspect"
	revokePath     = "/revoke"
	userInfoPath   = "/userinfo"
)

func secretOf(name string) string { return "secret-of-" + name }

func newWorld(t testing.TB, change ...func(*authority.StaticObjects)) *world {
	t.Helper()
	client := func(id string, method oauth.AuthMethod, scope string, grants ...oauth.GrantType) authority.Client {
		scopes, err := oauth.ParseScopes(scope)
		if err != nil {
			t.Fatal(err)
		}
		redirect, err := authority.ParseRedirectURI(testRedirect)
		if err != nil {
			t.Fatal(err)
		}
		return authority.Client{
			ID: id, AuthMethod: method, Scopes: scopes, GrantTypes: grants, Resources: []string{testAPI, otherAPI},
			RedirectURIs: []authority.RedirectURI{redirect},
			Secrets:      []authority.ClientSecret{{Hash: sha256.Sum256([]byte(secretOf(id)))}},
		}
	}
	web := []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
	declared := authority.StaticObjects{
		Clients: map[string]authority.Client{
			"service": client("service", oauth.AuthClientSecretBasic, "read write", oauth.ClientCredentials),
			"post":    client("post", oauth.AuthClientSecretPost, "read", oauth.ClientCredentials),
			"web":     client("web", oauth.AuthClientSecretBasic, "openid profile email offline_access read write", web...),
			"web2":    client("web2", oauth.AuthClientSecretBasic, "openid read", web...),
			"spa":     client("spa", oauth.AuthNone, "openid read offline_access", web...),
			"api":     client("api", oauth.AuthClientSecretBasic, ""),
			"nobody":  client("nobody", oauth.AuthClientSecretBasic, ""),
			"opaque":  client("opaque", oauth.AuthClientSecretBasic, "secret:read", oauth.ClientCredentials),
			"signed":  client("signed", oauth.AuthPrivateKeyJWT, "read", oauth.ClientCredentials),
		},
		Users: map[string]authority.User{
			"ada-id": {ID: "ada-id", Username: "ada", Name: "Ada", Email: "ada@example.com", EmailVerified: true},
		},
		Resources: map[string]authority.Resource{
			testAPI:   {ID: testAPI, Scopes: oauth.MustScopes("read", "write"), Format: authority.FormatJWT, IntrospectionClients: []string{"api"}},
			otherAPI:  {ID: otherAPI, Scopes: oauth.MustScopes("other"), Format: authority.FormatJWT},
			opaqueAPI: {ID: opaqueAPI, Scopes: oauth.MustScopes("secret:read"), Format: authority.FormatOpaque, IntrospectionClients: []string{"api"}},
		},
	}
	opaque := declared.Clients["opaque"]
	opaque.Resources = []string{opaqueAPI}
	declared.Clients["opaque"] = opaque
	for _, c := range change {
		c(&declared)
	}
	return &world{nodetest.New(t, nodetest.Setup{Static: declared, Now: time.Date(2026, 3, 1, 12, 0, 0, 300e6, time.UTC)}), t}
}

// withStoredAda is a world in which ada is in the database, where asking for her can fail.
func withStoredAda(t *testing.T) *world {
	t.Helper()
	var ada authority.User
	w := newWorld(t, func(d *authority.StaticObjects) {
		ada = d.Users["ada-id"]
		delete(d.Users, "ada-id") // from the start: an id of the file never becomes one of the database
	})
	ada.PasswordHash, ada.Source = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$"+strings.Repeat("A", 43), authority.FromDatabase
	if err := authority.Users(w.DB).Create(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	return w
}

// justBefore lets something happen once, just before the next call of a store's method or the journal.
func (w *world) justBefore(what string, happens func()) {
	var once sync.Once
	w.Before(func(method string) {
		if method == what {
			once.Do(func() { w.Before(nil); happens() })
		}
	})
}

// hangUpAtTheChange makes the caller of a request hang up when it has changed the state.
func (w *world) hangUpAtTheChange(r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	*r = *r.WithContext(ctx)
	w.After(func(method string) {
		if slices.Contains([]string{"RedeemCode", "RotateRefresh", "EndGrant", "Revoke"}, method) {
			cancel()
		}
	})
}

func (w *world) count(event authority.EventType) int {
	n := 0
	for _, e := range w.Recorded() {
		if e.Type == event {
			n++
		}
	}
	return n
}

// reply is an answer, decoded.
type reply struct {
	status int
	header http.Header
	body   map[string]any
}

func (r reply) text(name string) string { s, _ := r.body[name].(string); return s }

func (w *world) post(path, clientID string, form url.Values, change ...func(*http.Request)) reply {
	r := httptest.NewRequest("POST", nodetest.Issuer+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if clientID != "" && clientID != "spa" {
		r.SetBasicAuth(clientID, secretOf(clientID))
	}
	for _, c := range change {
		c(r)
	}
	answer := httptest.NewRecorder()
	w.Public.ServeHTTP(answer, r)
	reply := reply{status: answer.Code, header: answer.Header()}
	if answer.Body.Len() > 0 {
		if err := json.Unmarshal(answer.Body.Bytes(), &reply.body); err != nil {
			w.t.Fatalf("not JSON: %q", answer.Body)
		}
	}
	return reply
}

func (w *world) token(clientID string, form url.Values, change ...func(*http.Request)) reply {
	return w.post(tokenPath, clientID, form, change...)
}

func (w *world) introspect(clientID, token string) reply {
	return w.post(introspectPath, clientID, url.Values{"token": {token}})
}

func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func with(v url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, list := range v {
		out[k] = append([]string(nil), list...)
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			out.Del(pairs[i])
			continue
		}
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}

// approve makes a grant as consent does, and returns it with its code.
func (w *world) approve(clientID, scope string, change ...func(*authority.Grant)) (authority.Grant, string) {
	w.t.Helper()
	now := w.Now()
	sum := sha256.Sum256([]byte(testVerifier))
	challenge, err := oauth.ParseChallenge(base64.RawURLEncoding.EncodeToString(sum[:]), "S256")
	if err != nil {
		w.t.Fatal(err)
	}
	id := authority.NewID(now)
	code := authority.NewAuthorizationCode(id)
	g := authority.Grant{
		ID: id, ClientID: clientID, Scopes: oauth.MustScopes(strings.Fields(scope)...), Resources: []string{testAPI},
		Subject:   authority.Subject{Issuer: testIssuer, ID: "ada-id", Kind: authority.SubjectUser},
		SessionID: authority.NewID(now), AuthTime: now, AMR: []string{"pwd"}, Nonce: "n-0S6_WzA2Mj", State: authority.GrantPending,
		Code:      authority.Code{Hash: code.Hash(), Challenge: challenge, RedirectURI: testRedirect, ExpiresAt: now.Add(time.Minute)},
		CreatedAt: now, ExpiresAt: now.Add(time.Minute),
	}
	if !g.Scopes.Has(oauth.ScopeOfflineAccess) {
		g.Evidence = authority.SessionEvidence(g.SessionID)
	}
	for _, c := range change {
		c(&g)
	}
	if g.Evidence == authority.SessionEvidence(g.SessionID) {
		w.startSession(g)
	}
	if err := w.DB.CreateGrant(context.Background(), g); err != nil {
		w.t.Fatal(err)
	}
	return g, code.Reveal()
}

// startSession makes the session that a grant depends on.
func (w *world) startSession(g authority.Grant) {
	w.t.Helper()
	session := authority.Session{
		ID: g.SessionID, Hash: sha256.Sum256(g.SessionID.Bytes()), Subject: g.Subject, AuthTime: g.AuthTime, ExpiresAt: g.AuthTime.Add(12 * time.Hour),
	}
	if err := w.DB.StartSession(context.Background(), session); err != nil {
		w.t.Fatal(err)
	}
}

func redeem(code string) url.Values {
	return form("grant_type", "authorization_code", "code", code, "redirect_uri", testRedirect, "code_verifier", testVerifier)
}

func refreshForm(token string) url.Values {
	return form("grant_type", "refresh_token", "refresh_token", token)
}

// signIn returns the first tokens of a grant.
func (w *world) signIn(clientID, scope string) reply {
	w.t.Helper()
	_, code := w.approve(clientID, scope)
	r := w.token(clientID, redeem(code), asPublic(clientID))
	if r.status != 200 {
		w.t.Fatalf("redeeming a code: %d %v", r.status, r.body)
	}
	return r
}

// asPublic adds client_id to the body for a public client.
func asPublic(clientID string) func(*http.Request) {
	return func(r *http.Request) {
		if clientID != "spa" {
			return
		}
		body := new(strings.Builder)
		buf := make([]byte, 1<<16)
		n, _ := r.Body.Read(buf)
		body.Write(buf[:n])
		body.WriteString("&client_id=spa")
		r2 := httptest.NewRequest("POST", "/", strings.NewReader(body.String()))
		r.Body, r.ContentLength = r2.Body, r2.ContentLength
	}
}

var errDown = errors.New("the disk is gone")
