package e2e

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// hearer is an application that hears of sign-outs, one path for each client.
type hearer struct {
	*httptest.Server
	ca string // a file

	mu    sync.Mutex
	heard map[string][]url.Values
	fail  map[string]bool
}

func newHearer(t *testing.T) *hearer {
	t.Helper()
	a := &hearer{heard: map[string][]url.Values{}, fail: map[string]bool{}, ca: filepath.Join(t.TempDir(), "app.crt")}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.Header.Get("Cookie") != "" || r.ParseForm() != nil {
			t.Errorf("a strange request: %s %v", r.Method, r.Header)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.fail[r.URL.Path] {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		a.heard[r.URL.Path] = append(a.heard[r.URL.Path], r.PostForm)
	}))
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.StartTLS()
	t.Cleanup(a.Close)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	if err := os.WriteFile(a.ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// tokens are the logout tokens that came to a path, each posted alone.
func (a *hearer) tokens(t *testing.T, path string) (raw []string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, form := range a.heard[path] {
		if len(form) != 1 || len(form["logout_token"]) != 1 {
			t.Errorf("%s got %v", path, form)
		}
		raw = append(raw, form.Get("logout_token"))
	}
	return raw
}

func (a *hearer) failing(path string, fails bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail[path] = fails
}

// verify is how a client that we did not write reads a logout token
// (OpenID Connect Back-Channel Logout 1.0 §2.6).
func (s *server) verify(t *testing.T, raw, audience string) (claims map[string]any) {
	t.Helper()
	var v verifier
	v.fetch(t, s)
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	if typ := token.Headers[0].ExtraHeaders["typ"]; typ != "logout+jwt" {
		t.Errorf("typ %v", typ)
	}
	var std jwt.Claims
	if err := token.Claims(v.keys.Key(token.Headers[0].KeyID)[0], &std, &claims); err != nil {
		t.Fatal(err)
	}
	if err := std.ValidateWithLeeway(jwt.Expected{Issuer: s.Issuer, AnyAudience: jwt.Audience{audience}, Time: time.Now()}, time.Second); err != nil {
		t.Error(err)
	}
	if std.ID == "" || std.IssuedAt == nil || std.Expiry.Time().Sub(std.IssuedAt.Time()) != 2*time.Minute {
		t.Errorf("%v", claims)
	}
	events, _ := claims["events"].(map[string]any)
	about, is := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any)
	if _, nonce := claims["nonce"]; nonce || !is || len(about) != 0 || len(events) != 1 {
		t.Errorf("%v", claims)
	}
	return claims
}

// listening registers a web application that is told of sign-outs.
func (s *server) listening(t *testing.T, id string, more map[string]any) client {
	t.Helper()
	body := map[string]any{
		"client_id": id, "client_name": "The " + id, "redirect_uris": webTwo.RedirectURIs, "post_logout_redirect_uris": []string{"https://two.example.com/bye"},
		"grant_types": []string{"authorization_code", "refresh_token"}, "scope": "openid offline_access orders:read", "resources": []string{api},
	}
	for name, value := range more {
		body[name] = value
	}
	return client{ID: id, Secret: s.manage(t, "POST", "/clients", body).str("client_secret"), RedirectURIs: webTwo.RedirectURIs}
}

// signsIn is a person who signs in to a client in a browser, and the tokens that it gets.
func (b *browser) signsIn(t *testing.T, s *server, c client, scope string) reply {
	t.Helper()
	r := newCodeRequest(c)
	r.query.Set("scope", scope)
	v, auth := as(c, r.redeem(b.authorize(s.authorizeURL(r.query), ada, "allow").Get("code")))
	got := s.post(t, "/token", v, auth)
	checkTokenAnswer(t, got, "")
	return got
}

// OpenID Connect Back-Channel Logout 1.0, with a verification that is not ours.
func TestBackChannelLogout(t *testing.T) {
	app := newHearer(t)
	w := newSQLite(t, "outbound: {allow_loopback: true, ca_file: "+app.ca+"}\n")
	s := w.server
	if doc := s.get(t, "/.well-known/openid-configuration").JSON; doc["backchannel_logout_supported"] != true || doc["backchannel_logout_session_supported"] != true {
		t.Errorf("discovery: %v", doc)
	}
	one := s.listening(t, "one", map[string]any{"backchannel_logout_uri": app.URL + "/one"})
	old := s.listening(t, "old", map[string]any{"backchannel_logout_uri": app.URL + "/old", "id_token_signed_response_alg": "RS256", "backchannel_logout_session_required": true})
	s.listening(t, "idle", map[string]any{"backchannel_logout_uri": app.URL + "/idle"})

	b := newBrowser(t)
	rests := b.signsIn(t, s, one, "openid orders:read")
	keeps := b.signsIn(t, s, old, "openid offline_access orders:read")
	_, id := claimsOf(t, rests.str("id_token"))
	p := b.get(s.Issuer + "/logout?client_id=one&state=xyz&post_logout_redirect_uri=" + url.QueryEscape("https://two.example.com/bye"))
	if !strings.Contains(string(p.Body), "allowed to work while you are away keep their access") {
		t.Errorf("the page does not say what stays:\n%s", p.Body)
	}
	if to := b.press(p, "sign-out", nil).redirect(); to == nil || to.String() != "https://two.example.com/bye?state=xyz" {
		t.Errorf("went to %v", to)
	}
	jtis := map[any]bool{}
	for path, c := range map[string]client{"/one": one, "/old": old} {
		tokens := app.tokens(t, path)
		if len(tokens) != 1 {
			t.Fatalf("%s heard %d times", path, len(tokens))
		}
		claims := s.verify(t, tokens[0], c.ID)
		if claims["sub"] != id["sub"] || claims["sid"] != id["sid"] {
			t.Errorf("%v, and the ID token said %v", claims, id)
		}
		jtis[claims["jti"]] = true
		header, _ := claimsOf(t, tokens[0])
		if idHeader, _ := claimsOf(t, keeps.str("id_token")); c.ID == "old" && (header["alg"] != "RS256" || idHeader["alg"] != "RS256") {
			t.Errorf("signed by %v, ID tokens by %v", header["alg"], idHeader["alg"])
		}
		// docs/security/threats.md D 59, M 122: it is good for nothing else.
		if r := s.get(t, "/userinfo", bearer(tokens[0])); r.Status != http.StatusUnauthorized {
			t.Errorf("a logout token at UserInfo: %s", r)
		}
		if s.active(t, tokens[0]) {
			t.Error("a logout token is active")
		}
		if p := b.get(s.Issuer + "/logout?id_token_hint=" + tokens[0]); p.Status != http.StatusBadRequest {
			t.Errorf("a logout token as an ID token: %s", p.reply)
		}
	}
	if len(jtis) != 2 || len(app.tokens(t, "/idle")) != 0 {
		t.Errorf("%d jti, and an application that nobody signed in to heard %d times", len(jtis), len(app.tokens(t, "/idle")))
	}
	// What depends on the session has ended; what the person keeps has not.
	if s.active(t, rests.str("access_token")) {
		t.Error("a token of the session lives")
	}
	checkTokenAnswer(t, s.refresh(t, one, rests.str("refresh_token")), "invalid_grant")
	checkTokenAnswer(t, s.refresh(t, old, keeps.str("refresh_token")), "")

	// A user who is disabled: no session is left, so none is named, unless the client insists.
	b = newBrowser(t)
	b.signsIn(t, s, one, "openid")
	_, id = claimsOf(t, b.signsIn(t, s, old, "openid").str("id_token"))
	s.manage(t, "POST", "/revocations", map[string]any{"username": ada.Username})
	s.proc.wait(t, "both to hear", func() bool { return len(app.tokens(t, "/one")) == 2 && len(app.tokens(t, "/old")) == 2 })
	if claims := s.verify(t, app.tokens(t, "/one")[1], "one"); claims["sub"] != id["sub"] || claims["sid"] != nil {
		t.Errorf("%v", claims)
	}
	if claims := s.verify(t, app.tokens(t, "/old")[1], "old"); claims["sub"] != id["sub"] || claims["sid"] != id["sid"] {
		t.Errorf("%v", claims)
	}
	if records := journalOf(t, s, query.Query{Types: []string{"logout.sent"}}); len(records) != 4 {
		t.Errorf("%d records", len(records))
	}
}

// OpenID Connect Front-Channel Logout 1.0.
func TestFrontChannelLogout(t *testing.T) {
	s := newHouse(t)
	if doc := s.get(t, "/.well-known/openid-configuration").JSON; doc["frontchannel_logout_supported"] != true || doc["frontchannel_logout_session_supported"] != true {
		t.Errorf("discovery: %v", doc)
	}
	c := s.listening(t, "one", map[string]any{"frontchannel_logout_uri": "https://two.example.com/out", "frontchannel_logout_session_required": true})
	b := newBrowser(t)
	_, id := claimsOf(t, b.signsIn(t, s, c, "openid").str("id_token"))
	sid, _ := id["sid"].(string)
	p := b.press(b.get(s.Issuer+"/logout?client_id=one&state=xyz&post_logout_redirect_uri="+url.QueryEscape("https://two.example.com/bye")), "sign-out", nil)
	for _, want := range []string{
		`<iframe src="https://two.example.com/out?iss=` + strings.ReplaceAll(url.QueryEscape(s.Issuer), "&", "&amp;") + `&amp;sid=` + sid + `"`,
		`http-equiv="refresh" content="3; url=https://two.example.com/bye?state=xyz"`, `id="continue" class="primary" href="https://two.example.com/bye?state=xyz"`,
	} {
		if p.Status != http.StatusOK || !strings.Contains(string(p.Body), want) {
			t.Errorf("the page lacks %s:\n%s", want, p.Body)
		}
	}
	if policy := p.Header.Get("Content-Security-Policy"); !strings.HasSuffix(policy, "; frame-src https://two.example.com") || strings.Contains(policy, "script-src") {
		t.Errorf("policy %q", policy)
	}
}

// docs/security/threats.md M 124.
func TestAnApplicationThatCouldNotBeTold(t *testing.T) {
	app := newHearer(t)
	w := newSQLite(t, "outbound: {allow_loopback: true, ca_file: "+app.ca+"}\n")
	s := w.server
	c := s.listening(t, "one", map[string]any{"backchannel_logout_uri": app.URL + "/one"})
	app.failing("/one", true)
	b := newBrowser(t)
	b.signsIn(t, s, c, "openid")
	p := b.press(b.get(s.Issuer+"/logout?client_id=one&state=xyz&post_logout_redirect_uri="+url.QueryEscape("https://two.example.com/bye")), "sign-out", nil)
	for _, want := range []string{`<bdi class="name">The one</bdi> could not be told.`, `href="https://two.example.com/bye?state=xyz"`} {
		if p.Status != http.StatusOK || !strings.Contains(string(p.Body), want) {
			t.Errorf("the page lacks %s:\n%s", want, p.Body)
		}
	}
	failed := journalOf(t, s, query.Query{Types: []string{"logout.failed"}})
	if len(failed) != 1 || failed[0].ClientID != "one" || !strings.Contains(failed[0].Reason, "neither 200 nor 204") {
		t.Errorf("%+v", failed)
	}
	app.failing("/one", false)
	s.proc.wait(t, "the next try", func() bool { return len(app.tokens(t, "/one")) == 1 })
	s.verify(t, app.tokens(t, "/one")[0], "one")
}
