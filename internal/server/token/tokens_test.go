package token_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// changeClient declares a client again, with one thing changed; nil removes it.
func (w *world) changeClient(id string, change func(*authority.Client)) {
	w.t.Helper()
	c := w.Static.Clients[id]
	if delete(w.Static.Clients, id); change != nil {
		change(&c)
		w.Static.Clients[id] = c
	}
	w.Declare()
}

func (w *world) changeAda(change func(*authority.User)) {
	w.t.Helper()
	u := w.Static.Users["ada-id"]
	if delete(w.Static.Users, "ada-id"); change != nil {
		change(&u)
		w.Static.Users["ada-id"] = u
	}
	w.Declare()
}

func (w *world) revoke(kind authority.RevocationKind, key string) {
	w.t.Helper()
	w.revokeAt(kind, key, w.Now())
}

// revokeAt is what another node has written: this one has heard of it.
func (w *world) revokeAt(kind authority.RevocationKind, key string, at time.Time) {
	w.t.Helper()
	_, err := w.DB.Revoke(context.Background(), authority.Revocation{Kind: kind, Key: key, NotBefore: at, ExpiresAt: at.Add(authority.MaxGrantTTL)})
	if err = errors.Join(err, w.Node.CatchUp(context.Background())); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) serviceToken(t *testing.T, clientID string) string {
	t.Helper()
	r := w.token(clientID, form("grant_type", "client_credentials"))
	if r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
	return r.text("access_token")
}

// claim reads a claim of an access token by asking for it.
func (w *world) claim(token, name string) string { return w.introspect("api", token).text(name) }

// wantInactive is what is said about noise, to the byte.
func wantInactive(t *testing.T, r reply) {
	t.Helper()
	if r.status != 200 || len(r.body) != 1 || r.body["active"] != false || r.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("74: want {\"active\":false} and nothing else, got %d %v %v", r.status, r.header, r.body)
	}
}

func TestIntrospectionTellsWhatTheTokenSays(t *testing.T) {
	w := newWorld(t)
	first := w.signIn("web", "openid profile read offline_access")
	r := w.introspect("api", first.text("access_token"))
	want := map[string]any{
		"active": true, "token_type": "Bearer", "iss": testIssuer, "sub": "ada-id", "client_id": "web", "scope": "openid profile read offline_access",
		"iat": float64(w.Now().Unix()), "exp": float64(w.Now().Unix() + 300),
	}
	for name, value := range want {
		if r.body[name] != value {
			t.Errorf("%s is %v, want %v", name, r.body[name], value)
		}
	}
	if r.text("jti") == "" || r.text("grant_id") == "" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %v", r.header, r.body)
	}
	for _, secret := range []string{"email", "name", "preferred_username"} {
		if r.body[secret] != nil {
			t.Errorf("%s is in the access token", secret)
		}
	}
}

func TestIntrospectionAudience(t *testing.T) { // 74: Keycloak CVE-2026-37979
	w := newWorld(t)
	apiToken, opaqueToken := w.serviceToken(t, "service"), w.serviceToken(t, "opaque")
	if !strings.HasPrefix(opaqueToken, string(oauth.PrefixAccessToken)) {
		t.Fatalf("an opaque resource got %q", opaqueToken)
	}
	for _, row := range []struct {
		name, client, token string
		active              bool
	}{
		{"the resource server that the token is meant for", "api", apiToken, true},
		{"a resource server that it is not meant for", "nobody", apiToken, false},
		{"another client", "web", apiToken, false},
		{"the client that got it", "service", apiToken, true},
		{"an opaque token, for its resource server", "api", opaqueToken, true},
		{"an opaque token, for another resource server", "nobody", opaqueToken, false},
		{"an opaque token, for the client that got it", "opaque", opaqueToken, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := w.introspect(row.client, row.token)
			if !row.active {
				wantInactive(t, r)
			} else if r.body["active"] != true {
				t.Fatalf("%d %v", r.status, r.body)
			}
		})
	}
	w.Static.Resources[testAPI] = authority.Resource{ID: testAPI, Scopes: oauth.MustScopes("read", "write"), Format: authority.FormatJWT}
	w.Declare()
	wantInactive(t, w.introspect("api", apiToken)) // the right to introspect was taken away
	delete(w.Static.Resources, testAPI)
	w.Declare()
	wantInactive(t, w.introspect("api", apiToken)) // the resource is gone
}

func TestIntrospectionOfWhatIsNoLiveToken(t *testing.T) {
	w := newWorld(t)
	first := w.signIn("web", "openid read offline_access")
	access, opaque := first.text("access_token"), w.serviceToken(t, "opaque")
	_, code := w.approve("web", "openid read")
	head, payload, signature := cut3(access)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := jose.NewSigner(kidOf(t, access), jose.ES256, "at+jwt", private)
	if err != nil {
		t.Fatal(err)
	}
	body, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := stranger.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"noise":                               "noise",
		"59: an ID token":                     first.text("id_token"),
		"an authorization code":               code,
		"a client secret":                     oauth.NewSecret(oauth.PrefixClientSecret).Reveal(),
		"72: an access token cut off":         access[:len(access)-1],
		"72: an access token with more":       access + "A",
		"72: in another letter case":          strings.ToLower(access),
		"a space after it":                    access + " ",
		"43: without a signature":             head + "." + payload + ".",
		"43: alg none":                        base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt","kid":"`+kidOf(t, access)+`"}`)) + "." + payload + ".",
		"a payload of another":                head + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(body), "ada-id", "eve-id", 1))) + "." + signature,
		"signed by a stranger under our kid":  forged,
		"72: an opaque token cut off":         opaque[:len(opaque)-1],
		"72: an opaque token, case changed":   strings.ToUpper(opaque[:20]) + opaque[20:],
		"72: an opaque token with more":       opaque + "AAAA",
		"an opaque token of another service":  oauth.EncodeOpaque(oauth.PrefixAccessToken, make([]byte, 200)),
		"an empty opaque token":               string(oauth.PrefixAccessToken),
		"a refresh token of another service":  oauth.EncodeOpaque(oauth.PrefixRefreshToken, make([]byte, 68)),
		"a refresh token in another's prefix": strings.Replace(first.text("refresh_token"), "sbx_rt_", "sbx_at_", 1),
	} {
		t.Run(name, func(t *testing.T) { wantInactive(t, w.introspect("api", token)) })
		t.Run(name+", asked by its client", func(t *testing.T) { wantInactive(t, w.introspect("web", token)) })
	}
	w.Pass(5*time.Minute - time.Second - 300*time.Millisecond)
	if r := w.introspect("api", access); r.body["active"] != true {
		t.Fatalf("a second before it is over: %v", r.body)
	}
	w.Pass(time.Second)
	wantInactive(t, w.introspect("api", access))
	wantInactive(t, w.introspect("api", opaque))
}

func cut3(jws string) (a, b, c string) {
	parts := strings.Split(jws, ".")
	return parts[0], parts[1], parts[2]
}

// ways are the ways in which a person's token dies before its time, one by one.
var ways = []struct {
	name string
	kill func(w *world, access string, first reply)
	late bool // an epoch spares what is newer
}{
	{"its jti", func(w *world, access string, _ reply) { w.revoke(authority.RevokeToken, w.claim(access, "jti")) }, false},
	{"its grant", func(w *world, access string, _ reply) { w.revoke(authority.RevokeGrant, w.claim(access, "grant_id")) }, false},
	{"its session", func(w *world, access string, _ reply) { w.revoke(authority.RevokeSession, w.claim(access, "sid")) }, false},
	{"its key", func(w *world, access string, _ reply) { w.revoke(authority.RevokeKey, kidOf(w.t, access)) }, false},
	{"an epoch of its user", func(w *world, _ string, _ reply) { w.revoke(authority.EpochUser, "ada-id") }, true},
	{"an epoch of its client", func(w *world, _ string, _ reply) { w.revoke(authority.EpochClient, "web") }, true},
	{"an epoch of everything", func(w *world, _ string, _ reply) { w.revoke(authority.EpochEverything, "") }, true},
	{"70: its user disabled", func(w *world, _ string, _ reply) { w.changeAda(func(u *authority.User) { u.Disabled = true }) }, false},
	{"70: its user removed", func(w *world, _ string, _ reply) { w.changeAda(nil) }, false},
	{"42: its client disabled", func(w *world, _ string, _ reply) {
		w.changeClient("web", func(c *authority.Client) { c.Disabled = true })
	}, false},
	{"42: its client removed", func(w *world, _ string, _ reply) { w.changeClient("web", nil) }, false},
	{"the end of its grant", func(w *world, _ string, first reply) {
		w.post(revokePath, "web", form("token", first.text("refresh_token")))
	}, false},
}

// kidOf is the key that has signed a token.
func kidOf(t testing.TB, token string) string {
	t.Helper()
	var header struct{ Kid string }
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err := errors.Join(err, json.Unmarshal(text, &header)); err != nil || header.Kid == "" {
		t.Fatal(header, err)
	}
	return header.Kid
}

func TestDeadIsDeadAtIntrospection(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t)
			first := w.signIn("web", "openid read")
			access := first.text("access_token")
			if r := w.introspect("api", access); r.body["active"] != true { // read once, so that it is remembered
				t.Fatalf("%v", r.body)
			}
			way.kill(w, access, first)
			wantInactive(t, w.introspect("api", access))
			if way.late {
				w.Pass(time.Second)
				if r := w.introspect("api", w.signIn("web", "openid read").text("access_token")); r.body["active"] != true {
					t.Fatalf("what is newer than the epoch is dead too: %v", r.body)
				}
			}
		})
	}
	for name, other := range map[string]struct {
		kind authority.RevocationKind
		key  string
	}{
		"another token": {authority.RevokeToken, authority.NewID(time.Now()).String()}, "another grant": {authority.RevokeGrant, authority.NewID(time.Now()).String()},
		"another session": {authority.RevokeSession, authority.NewID(time.Now()).String()}, "another key": {authority.RevokeKey, "k2"},
		"another user": {authority.EpochUser, "eve-id"}, "another client": {authority.EpochClient, "service"},
	} {
		t.Run("the end of "+name+" spares it", func(t *testing.T) {
			w := newWorld(t)
			access := w.signIn("web", "openid read").text("access_token")
			w.revoke(other.kind, other.key)
			if r := w.introspect("api", access); r.body["active"] != true {
				t.Fatalf("%v", r.body)
			}
		})
	}
}

func TestOpaqueTokensDieToo(t *testing.T) {
	for name, kill := range map[string]func(w *world, token string){
		"by jti":             func(w *world, token string) { w.revoke(authority.RevokeToken, w.claim(token, "jti")) },
		"by its client":      func(w *world, token string) { w.post(revokePath, "opaque", form("token", token)) },
		"by an epoch":        func(w *world, _ string) { w.revoke(authority.EpochClient, "opaque") },
		"client disabled":    func(w *world, _ string) { w.changeClient("opaque", func(c *authority.Client) { c.Disabled = true }) },
		"five minutes later": func(w *world, _ string) { w.Pass(5 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			token := w.serviceToken(t, "opaque")
			if r := w.introspect("api", token); r.body["active"] != true || r.text("scope") != "secret:read" || r.text("aud") != opaqueAPI {
				t.Fatalf("%v", r.body)
			}
			kill(w, token)
			wantInactive(t, w.introspect("api", token))
		})
	}
}

func TestIntrospectionOfRefreshTokens(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("web", "openid read offline_access").text("refresh_token")
	r := w.introspect("web", token)
	if r.body["active"] != true || r.text("client_id") != "web" || r.text("sub") != "ada-id" || r.body["exp"] != float64(w.Now().Add(24*time.Hour).Unix()) {
		t.Fatalf("%v", r.body)
	}
	for _, other := range []string{"api", "web2", "nobody"} {
		wantInactive(t, w.introspect(other, token))
	}
	next := w.token("web", refreshForm(token))
	if next.status != 200 {
		t.Fatalf("asking has used it up: %v", next.body)
	}
	wantInactive(t, w.introspect("web", token)) // rotated
	if r := w.introspect("web", next.text("refresh_token")); r.body["active"] != true {
		t.Fatalf("%v", r.body)
	}
	if r := w.token("web", refreshForm(next.text("refresh_token"))); r.status != 200 {
		t.Fatalf("asking about an old token has ended the grant: %v", r.body)
	}
	for name, end := range map[string]func(w *world, token string){
		"an epoch":      func(w *world, _ string) { w.revoke(authority.EpochUser, "ada-id") },
		"revocation":    func(w *world, token string) { w.post(revokePath, "web", form("token", token)) },
		"its idle time": func(w *world, _ string) { w.Pass(24 * time.Hour) },
		"its user was disabled": func(w *world, _ string) {
			w.changeAda(func(u *authority.User) { u.Disabled = true })
		},
		"its user was removed": func(w *world, _ string) { w.changeAda(nil) },
	} {
		t.Run("after "+name, func(t *testing.T) {
			w := newWorld(t)
			token := w.signIn("web", "openid read offline_access").text("refresh_token")
			end(w, token)
			wantInactive(t, w.introspect("web", token))
		})
	}
}

func TestWhoMayIntrospect(t *testing.T) {
	w := newWorld(t)
	token := w.serviceToken(t, "service")
	for _, row := range []struct {
		name   string
		form   url.Values
		change func(*http.Request)
		want   oauth.Code
	}{
		{"nobody", form("token", token), authorization(), oauth.InvalidClient},
		{"33: a wrong secret", form("token", token), authorization(basic("api:guess")), oauth.InvalidClient},
		{"73: a public client", form("token", token, "client_id", "spa"), authorization(), oauth.InvalidClient},
		{"the token itself as proof", form("token", token), authorization("Bearer " + token), oauth.InvalidClient},
		{"no token", form("token_type_hint", "access_token"), nil, oauth.InvalidRequest},
		{"13: two tokens", form("token", token, "token", token), nil, oauth.InvalidRequest},
		{"a token in the URL", form("token", token), func(r *http.Request) { r.URL.RawQuery = "token=" + token }, oauth.InvalidRequest},
		{"JSON", form("token", token), func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, oauth.InvalidRequest},
	} {
		t.Run(row.name, func(t *testing.T) {
			change := row.change
			if change == nil {
				change = func(*http.Request) {}
			}
			if r := w.post(introspectPath, "api", row.form, change); oauth.Code(r.text("error")) != row.want || r.body["active"] != nil {
				t.Fatalf("%d %v, want %s", r.status, r.body, row.want)
			}
		})
	}
}

// A node that cannot know what has been revoked says so, and does not guess.
func TestStaleViewAnswersNothing(t *testing.T) {
	w := newWorld(t)
	first := w.signIn("web", "openid read offline_access")
	_, code := w.approve("web2", "openid read")
	w.Wait(10 * time.Second) // without hearing from the database
	wantUnavailable(t, w.introspect("api", first.text("access_token")))
	// An epoch leaves rows as they are: whoever has not heard of it must give nothing on a grant.
	wantUnavailable(t, w.token("web", refreshForm(first.text("refresh_token"))))
	wantUnavailable(t, w.token("web2", redeem(code)))
	wantUnavailable(t, w.introspect("web", first.text("refresh_token")))
	wantUnavailable(t, w.introspect("api", "noise"))
	r := w.userInfo("GET", first.text("access_token"))
	wantUnavailable(t, r)
	if r.header.Get("WWW-Authenticate") != "" {
		t.Error("a client would take this for a bad token")
	}
	w.Pass(0)
	if r := w.introspect("api", first.text("access_token")); r.body["active"] != true {
		t.Fatalf("%v", r.body)
	}
	if r := w.token("web", refreshForm(first.text("refresh_token"))); r.status != 200 {
		t.Fatalf("the refusal has used up the refresh token: %v", r.body)
	}
	if r := w.token("web2", redeem(code)); r.status != 200 {
		t.Fatalf("the refusal has used up the code: %v", r.body)
	}
}

func TestFailingStorageIsNotInactive(t *testing.T) { // 69
	w := newWorld(t)
	refresh := w.signIn("web", "openid read offline_access").text("refresh_token")
	w.Fail("Grant", errDown)
	wantUnavailable(t, w.introspect("web", refresh))
	wantUnavailable(t, w.post(revokePath, "web", form("token", refresh)))
	w.Fail("Grant", nil)
	w.Fail("EndGrant", errDown)
	wantUnavailable(t, w.post(revokePath, "web", form("token", refresh)))
	w.Fail("EndGrant", nil)
	if r := w.token("web", refreshForm(refresh)); r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
}

func TestRevocation(t *testing.T) { // 73
	for _, row := range []struct {
		name            string
		client          string
		token           func(first reply) string
		hint            string
		access, refresh bool // what lives afterwards
	}{
		{"an access token ends alone", "web", func(r reply) string { return r.text("access_token") }, "", false, true},
		{"a refresh token ends its grant, with the access token", "web", func(r reply) string { return r.text("refresh_token") }, "", false, false},
		{"an access token with the wrong hint", "web", func(r reply) string { return r.text("access_token") }, "refresh_token", false, true},
		{"a refresh token with the wrong hint", "web", func(r reply) string { return r.text("refresh_token") }, "access_token", false, false},
		{"with a hint that nobody knows", "web", func(r reply) string { return r.text("refresh_token") }, "cookie", false, false},
		{"another client's access token", "web2", func(r reply) string { return r.text("access_token") }, "", true, true},
		{"another client's refresh token", "web2", func(r reply) string { return r.text("refresh_token") }, "", true, true},
		{"a resource server, of a token that it may see", "api", func(r reply) string { return r.text("access_token") }, "", true, true},
		{"noise", "web", func(reply) string { return "noise" }, "", true, true},
		{"an ID token", "web", func(r reply) string { return r.text("id_token") }, "", true, true},
		{"a refresh token cut off", "web", func(r reply) string { return r.text("refresh_token")[:80] }, "", true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			first := w.signIn("web", "openid read offline_access")
			access, refresh := first.text("access_token"), first.text("refresh_token")
			revoke := form("token", row.token(first))
			if row.hint != "" {
				revoke.Set("token_type_hint", row.hint)
			}
			for range 2 { // twice is the same as once
				if r := w.post(revokePath, row.client, revoke); r.status != 200 || len(r.body) != 0 {
					t.Fatalf("73: the answer must be 200 and tell nothing: %d %v", r.status, r.body)
				}
			}
			if r := w.introspect("api", access); r.body["active"] != row.access {
				t.Errorf("access token: %v", r.body)
			}
			if r := w.userInfo("GET", access); (r.status == 200) != row.access {
				t.Errorf("UserInfo: %d %v", r.status, r.body)
			}
			if r := w.token("web", refreshForm(refresh)); (r.status == 200) != row.refresh {
				t.Errorf("refresh token: %v", r.body)
			}
			recorded := w.count(authority.EventTokenRevoked) + w.count(authority.EventGrantEnded)
			if want := map[bool]int{true: 0, false: 1}[row.access]; recorded != want {
				t.Errorf("%d entries in the journal, want %d", recorded, want)
			}
		})
	}
}

// What a caller changes without waiting is still in the journal.
func TestHangUpAtTheChangeIsRecorded(t *testing.T) {
	for _, row := range []struct {
		name string
		run  func(w *world, hangUp func(*http.Request))
		want authority.EventType
	}{
		{"a code is redeemed", func(w *world, hangUp func(*http.Request)) {
			_, code := w.approve("web", "openid read")
			w.token("web", redeem(code), hangUp)
		}, authority.EventTokenIssued},
		{"a code is used twice", func(w *world, hangUp func(*http.Request)) {
			_, code := w.approve("web", "openid read")
			w.token("web", redeem(code))
			w.token("web", redeem(code), hangUp)
		}, authority.EventGrantEnded},
		{"a refresh token is used again", func(w *world, hangUp func(*http.Request)) {
			old := w.signIn("web", "openid read").text("refresh_token")
			w.token("web", refreshForm(old))
			w.Pass(time.Minute)
			w.token("web", refreshForm(old), hangUp)
		}, authority.EventRefreshReused},
		{"a refresh token is revoked", func(w *world, hangUp func(*http.Request)) {
			w.post(revokePath, "web", form("token", w.signIn("web", "openid read").text("refresh_token")), hangUp)
		}, authority.EventGrantEnded},
		{"an access token is revoked", func(w *world, hangUp func(*http.Request)) {
			w.post(revokePath, "web", form("token", w.signIn("web", "openid read").text("access_token")), hangUp)
		}, authority.EventTokenRevoked},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			row.run(w, w.hangUpAtTheChange)
			if n := w.count(row.want); n != 1 {
				t.Fatalf("%d events %s in the journal", n, row.want)
			}
		})
	}
}

func TestRevokingARotatedTokenEndsTheGrant(t *testing.T) {
	w := newWorld(t)
	old := w.signIn("web", "openid read offline_access").text("refresh_token")
	next := w.token("web", refreshForm(old)).text("refresh_token")
	if r := w.post(revokePath, "web", form("token", old)); r.status != 200 {
		t.Fatal(r)
	}
	if r := w.token("web", refreshForm(next)); r.text("error") != "invalid_grant" {
		t.Fatalf("%v", r.body)
	}
}

func TestPublicClientRevokesItsOwn(t *testing.T) {
	w := newWorld(t)
	_, code := w.approve("spa", "openid read offline_access")
	first := w.token("spa", redeem(code), asPublic("spa"))
	r := w.post(revokePath, "spa", form("token", first.text("refresh_token")), asPublic("spa"))
	if r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if r := w.token("spa", refreshForm(first.text("refresh_token")), asPublic("spa")); r.text("error") != "invalid_grant" {
		t.Fatalf("%v", r.body)
	}
}

func TestWhoMayRevoke(t *testing.T) {
	w := newWorld(t)
	token := w.serviceToken(t, "service")
	for name, row := range map[string]struct {
		change func(*http.Request)
		form   url.Values
		want   oauth.Code
	}{
		"73: nobody":                          {authorization(), form("token", token), oauth.InvalidClient},
		"33: a wrong secret":                  {authorization(basic("service:guess")), form("token", token), oauth.InvalidClient},
		"36: its own client without a secret": {authorization(), form("token", token, "client_id", "service"), oauth.InvalidClient},
		"no token":                            {authorization(basic("service:" + secretOf("service"))), form("x", "y"), oauth.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if r := w.post(revokePath, "", row.form, row.change); oauth.Code(r.text("error")) != row.want {
				t.Fatalf("%d %v", r.status, r.body)
			}
		})
	}
	if r := w.introspect("api", token); r.body["active"] != true {
		t.Fatalf("%v", r.body)
	}
}

// userInfo asks with a header; change may take it away.
func (w *world) userInfo(method, token string, change ...func(*http.Request)) reply {
	set := func(r *http.Request) {
		r.Method = method
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Del("Content-Type")
		setBody(r, "")
	}
	return w.post(userInfoPath, "", nil, append([]func(*http.Request){set}, change...)...)
}

func TestUserInfo(t *testing.T) { // 75
	w := newWorld(t)
	all := w.signIn("web", "openid profile email read").text("access_token")
	service := w.serviceToken(t, "service")
	idToken := w.signIn("web", "openid read").text("id_token")
	noOpenID := w.signIn("web", "profile read").text("access_token")
	form := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			v := url.Values{}
			for i := 0; i < len(pairs); i += 2 {
				v.Add(pairs[i], pairs[i+1])
			}
			setBody(r, v.Encode())
		}
	}
	noHeader := func(r *http.Request) { r.Header.Del("Authorization") }
	header := func(values ...string) func(*http.Request) { return authorization(values...) }
	query := func(q string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = q } }
	for _, row := range []struct {
		name   string
		method string
		change []func(*http.Request)
		status int
		want   oauth.Code
	}{
		{"GET with a header", "GET", nil, 200, ""},
		{"POST with a header", "POST", nil, 200, ""},
		{"POST with a form", "POST", []func(*http.Request){noHeader, form("access_token", all)}, 200, ""},
		{"75: the scheme is not case-sensitive", "GET", []func(*http.Request){header("bEaReR " + all)}, 200, ""},
		{"75: header and form", "POST", []func(*http.Request){form("access_token", all)}, 400, oauth.InvalidRequest},
		{"75: in the URL", "GET", []func(*http.Request){noHeader, query("access_token=" + all)}, 400, oauth.InvalidRequest},
		{"75: in the URL and the header", "GET", []func(*http.Request){query("access_token=" + all)}, 400, oauth.InvalidRequest},
		{"two headers", "GET", []func(*http.Request){header("Bearer "+all, "Bearer "+all)}, 400, oauth.InvalidRequest},
		{"13: twice in the form", "POST", []func(*http.Request){noHeader, form("access_token", all, "access_token", all)}, 400, oauth.InvalidRequest},
		{"a form on GET is not looked at", "GET", []func(*http.Request){noHeader, form("access_token", all)}, 401, oauth.InvalidToken},
		{"no token", "GET", []func(*http.Request){noHeader}, 401, oauth.InvalidToken},
		{"an empty header", "GET", []func(*http.Request){header("Bearer ")}, 401, oauth.InvalidToken},
		{"another scheme", "GET", []func(*http.Request){header("Basic " + all)}, 401, oauth.InvalidToken},
		{"75: without openid", "GET", []func(*http.Request){header("Bearer " + noOpenID)}, 403, oauth.InsufficientScope},
		{"a client's own token", "GET", []func(*http.Request){header("Bearer " + service)}, 403, oauth.InsufficientScope},
		{"59: an ID token", "GET", []func(*http.Request){header("Bearer " + idToken)}, 401, oauth.InvalidToken},
		{"noise", "GET", []func(*http.Request){header("Bearer noise")}, 401, oauth.InvalidToken},
		{"two tokens in one header", "GET", []func(*http.Request){header("Bearer " + all + ", Bearer " + all)}, 401, oauth.InvalidToken},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := w.userInfo(row.method, all, row.change...)
			if r.status != row.status || oauth.Code(r.text("error")) != row.want {
				t.Fatalf("%d %v, want %d %q", r.status, r.body, row.status, row.want)
			}
			challenge := r.header.Get("WWW-Authenticate")
			if row.status == 200 {
				if r.text("sub") != "ada-id" || r.text("email") != "ada@example.com" || r.text("name") != "Ada" || challenge != "" {
					t.Fatalf("%v", r.body)
				}
				return
			}
			if !strings.HasPrefix(challenge, `Bearer realm="signalbox"`) || r.text("sub") != "" {
				t.Fatalf("75: WWW-Authenticate is %q", challenge)
			}
			bare := slices.Contains([]string{"no token", "an empty header", "another scheme", "a form on GET is not looked at"}, row.name)
			if has := strings.Contains(challenge, fmt.Sprintf("error=%q", row.want)); has == bare {
				t.Fatalf("75: WWW-Authenticate is %q", challenge)
			}
		})
	}
}

func TestUserInfoSaysWhatTheScopesOpen(t *testing.T) {
	w := newWorld(t)
	for scope, want := range map[string][]string{
		"openid": {"sub"}, "openid read": {"sub"}, "openid email": {"email", "email_verified", "sub"}, "openid profile": {"name", "preferred_username", "sub", "updated_at"},
	} {
		r := w.userInfo("GET", w.signIn("web", scope).text("access_token"))
		var got []string
		for name := range r.body {
			got = append(got, name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", scope, got, want)
		}
	}
}

func TestDeadIsDeadAtUserInfo(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t)
			first := w.signIn("web", "openid read")
			access := first.text("access_token")
			if r := w.userInfo("GET", access); r.status != 200 {
				t.Fatalf("%d %v", r.status, r.body)
			}
			way.kill(w, access, first)
			r := w.userInfo("GET", access)
			if r.status != 401 || r.text("error") != "invalid_token" || r.text("sub") != "" {
				t.Fatalf("%d %v", r.status, r.body)
			}
		})
	}
	t.Run("five minutes later", func(t *testing.T) {
		w := newWorld(t)
		access := w.signIn("web", "openid read").text("access_token")
		w.Pass(5 * time.Minute)
		if r := w.userInfo("GET", access); r.status != 401 {
			t.Fatalf("%d %v", r.status, r.body)
		}
	})
}

// What goes into the journal and into metrics is never a word of the caller's.
func TestRefusalsAreRecordedInOurWords(t *testing.T) {
	w := newWorld(t)
	w.token("service", form("grant_type", "made-up-by-the-caller"))
	w.token("", form("grant_type", "made-up-by-the-caller"))
	w.token("spa", form("grant_type", "made-up-by-the-caller"), asPublic("spa"))
	recorded, tallied := w.Recorded(), w.Tallied()
	if len(recorded) != 1 || len(tallied) != 2 {
		t.Fatalf("116: who proved nothing must not make the disk busy: %d at once, %d later", len(recorded), len(tallied))
	}
	for _, e := range append(recorded, tallied...) {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "made-up") {
			t.Errorf("%s", text)
		}
	}
}

func TestNoRequestReachesAPanic(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{tokenPath, introspectPath, revokePath, userInfoPath} {
		for _, r := range []*http.Request{
			httptest.NewRequest("POST", path, nil), httptest.NewRequest("GET", path, nil), httptest.NewRequest("POST", path+"?a=%zz", strings.NewReader("a=%zz")),
		} {
			answer := httptest.NewRecorder()
			w.Public.ServeHTTP(answer, r)
			if answer.Code < 400 {
				t.Errorf("%s %s: %d", r.Method, r.URL, answer.Code)
			}
		}
	}
}

// F 79, 81: nothing is given for a token or a grant that is bound to a key, as long as
// nobody can prove that key here; and whoever has only half of it ends nothing.
func TestBoundTokensNeedAProof(t *testing.T) {
	w := newWorld(t)
	bound := func(g *authority.Grant) { g.Confirmation = authority.Confirmation{JKT: "thumbprint"} }
	wantRefused := func(row string, r reply) {
		t.Helper()
		if r.status != 400 || r.text("error") != "invalid_grant" || !strings.Contains(r.text("error_description"), "key") {
			t.Errorf("%s: %d %v", row, r.status, r.body)
		}
	}

	_, code := w.approve("web", "openid read offline_access", bound)
	wantRefused("a code", w.token("web", redeem(code)))

	g, code := w.approve("web", "openid read offline_access", bound)
	first := w.Parts.Refresh.First(g.ID)
	parsed, err := authority.ParseAuthorizationCode(code)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DB.RedeemCode(t.Context(), g.ID, parsed.Hash(), first.State(w.Now(), time.Hour), w.Now().Add(time.Hour), w.Now()); err != nil {
		t.Fatal(err)
	}
	refresh := w.Parts.Refresh.Reveal(first)
	wantRefused("a refresh token", w.token("web", refreshForm(refresh)))
	wantRefused("a code for the second time", w.token("web", redeem(code)))
	if stored, err := w.DB.Grant(t.Context(), g.ID); err != nil || stored.State != authority.GrantActive || stored.Refresh.Generation != 1 {
		t.Errorf("the grant has changed: %+v %v", stored.State, err)
	}
	if r := w.introspect("web", refresh); r.body["active"] != true || !reflect.DeepEqual(r.body["cnf"], map[string]any{"jkt": "thumbprint"}) {
		t.Errorf("introspection of the refresh token: %v", r.body)
	}

	client, err := w.Directory.Client(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	resource, err := w.Directory.Resource(t.Context(), testAPI)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := w.Parts.Issuer.Issue(t.Context(), authority.Authorization{
		GrantType: oauth.AuthorizationCode, Client: client, Grant: g, At: w.Now(), Format: authority.FormatJWT, Life: time.Minute,
		Target: authority.Target{Scopes: g.Scopes, Resources: []authority.Resource{resource}}, Confirmation: g.Confirmation,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "POST"} {
		if r := w.userInfo(method, issued.AccessToken); r.status != 401 || r.text("error") != "invalid_token" {
			t.Errorf("UserInfo: %d %v", r.status, r.body)
		}
	}
	r := w.introspect("api", issued.AccessToken)
	if r.body["active"] != true || r.text("token_type") != "DPoP" || !reflect.DeepEqual(r.body["cnf"], map[string]any{"jkt": "thumbprint"}) {
		t.Errorf("introspection: %v", r.body)
	}
	if r := w.post(revokePath, "web", form("token", issued.AccessToken)); r.status != 200 || w.introspect("api", issued.AccessToken).body["active"] != false {
		t.Errorf("it can be ended without a proof: %d", r.status)
	}
}

// An end that would be one too many is refused, and the client is not told that the token is dead.
func TestAClientThatHasRevokedTooMany(t *testing.T) {
	w := newWorld(t, func(d *authority.StaticObjects) {
		api := d.Resources[testAPI]
		api.AccessTTL = 24 * time.Hour
		d.Resources[testAPI] = api
	})
	for n := 0; ; n++ {
		access := w.token("service", form("grant_type", "client_credentials")).text("access_token")
		r := w.post(revokePath, "service", form("token", access))
		w.post(revokePath, "service", form("token", access)) // costs nothing more
		if r.status == 200 && n < 110 || n < 104 {
			continue
		}
		wantUnavailable(t, r)
		if w.introspect("api", access).body["active"] != true || len(w.Ended()) != n {
			t.Errorf("%d entries after %d ends, and the token: %v", len(w.Ended()), n, w.introspect("api", access).body)
		}
		break
	}
	other := w.signIn("web", "openid read").text("access_token")
	if r := w.post(revokePath, "web", form("token", other)); r.status != 200 {
		t.Errorf("another client: %d %v", r.status, r.body)
	}
	w.Pass(time.Minute)
	access := w.token("service", form("grant_type", "client_credentials")).text("access_token")
	if r := w.post(revokePath, "service", form("token", access)); r.status != 200 || w.introspect("api", access).body["active"] != false {
		t.Errorf("later: %d %v", r.status, r.body)
	}
}
