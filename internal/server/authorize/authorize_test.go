package authorize_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
)

func TestTheWholeFlow(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	signIn := b.Get(asked("scope", "openid offline_access orders:read", "resource", api))
	if signIn.Code != http.StatusOK || signIn.Is() != "sign-in" || !strings.Contains(signIn.Body.String(), "Example web app") {
		t.Fatalf("%d %s", signIn.Code, signIn.Body)
	}
	consent := b.SignIn(signIn, "ada", "lovelace")
	if consent.Code != http.StatusOK || consent.Is() != "allow" {
		t.Fatalf("%d %s", consent.Code, consent.Body)
	}
	for _, want := range []string{"Example web app", "app.example.com", "See orders", "orders:read", "api.example.com", "ada"} {
		if !strings.Contains(consent.Body.String(), want) {
			t.Errorf("the consent page lacks %q", want)
		}
	}
	wo.Pass(time.Second)
	done := b.allow(consent)
	if done.Code != http.StatusSeeOther || !strings.HasPrefix(done.Header().Get("Location"), callback+"?") {
		t.Fatalf("%d %q", done.Code, done.Header().Get("Location"))
	}
	back := done.Back()
	if back.Get("state") != "xyz" || back.Get("iss") != issuerURL || len(back) != 3 {
		t.Errorf("the client gets %v; want code, state and iss", back)
	}
	g := wo.grantOf(done)
	if g.State != authority.GrantPending || g.ClientID != "web" || g.Subject != (authority.Subject{Issuer: issuerURL, ID: "u-ada", Kind: authority.SubjectUser}) ||
		g.Scopes.String() != "openid offline_access orders:read" || len(g.Resources) != 1 || g.Resources[0] != api || g.Nonce != "n-1" ||
		g.Code.Challenge.String() != verifierChallenge || g.Code.RedirectURI != callback ||
		!g.Code.ExpiresAt.Equal(wo.Now().Add(time.Minute)) || !g.ExpiresAt.Equal(g.Code.ExpiresAt) ||
		!g.AuthTime.Equal(wo.Now().Add(-time.Second)) || len(g.AMR) != 1 || g.AMR[0] != "pwd" || g.SessionID.IsZero() || !g.CreatedAt.Equal(wo.Now()) {
		t.Errorf("the grant is %+v", g)
	}
	var kinds []string
	for _, e := range wo.journal() {
		kinds = append(kinds, string(e.Type))
		if len(e.RequestID) != 24 || e.Remote != "192.0.2.7" || e.Subject.ID != "u-ada" {
			t.Errorf("journal entry %+v", e)
		}
	}
	if strings.Join(kinds, " ") != "user.signed_in grant.created" {
		t.Errorf("the journal has %v", kinds)
	}
	if strings.Contains(done.Body.String(), back.Get("code")) {
		t.Error("the body holds the code (docs/security/threats.md B 32)")
	}
}

func TestErrorsBeforeThereIsARedirectURIArePages(t *testing.T) {
	wo := newWorld(t)
	several := wo.Static.Clients["web"]
	several.RedirectURIs = append(several.RedirectURIs, uri("https://app.example.com/other"))
	several.ID = "several"
	wo.set("several", several)
	for row, query := range map[string]string{
		"A 1: another case in the path":                 asked("redirect_uri", "https://app.example.com/CALLBACK")[11:],
		"A 1: a trailing slash":                         asked("redirect_uri", callback+"/")[11:],
		"A 1: a query added":                            asked("redirect_uri", callback+"?x=1")[11:],
		"A 2: an authority with a user in it":           asked("client_id", "cli", "redirect_uri", "http://127.0.0.1:80@evil.example/cb")[11:],
		"A 2: a longer host":                            asked("client_id", "cli", "redirect_uri", "http://127.0.0.1.evil.example/cb")[11:],
		"A 2: localhost for 127.0.0.1":                  asked("client_id", "cli", "redirect_uri", "http://localhost/cb")[11:],
		"A 3: a dot segment":                            asked("redirect_uri", "https://app.example.com/x/../callback")[11:],
		"A 4: a fragment":                               asked("redirect_uri", callback+"#x")[11:],
		"A 5: a scheme that runs":                       asked("redirect_uri", "JaVaScRiPt:alert(1)")[11:],
		"A 6: percent-encoded once more":                asked("redirect_uri", "https%3A%2F%2Fapp.example.com%2Fcallback")[11:],
		"A 7: none sent of several":                     asked("client_id", "several", "redirect_uri", "")[11:],
		"A 7: none sent of one, with openid":            asked("redirect_uri", "")[11:],
		"A 8: an unknown client":                        asked("client_id", "nobody")[11:],
		"A 8: no client":                                asked("client_id", "")[11:],
		"A 8: a disabled client":                        asked("client_id", "off")[11:],
		"A 8: a client without the code grant":          asked("client_id", "daemon")[11:],
		"A 14: a state that is not UTF-8":               asked("state", "a\xffb")[11:],
		"A 8: a client id without end":                  asked("client_id", strings.Repeat("x", 5000))[11:],
		"A 8: another client's redirect URI":            asked("redirect_uri", "https://spa.example.com/cb")[11:],
		"A 13: redirect_uri twice":                      good().Encode() + "&redirect_uri=" + url.QueryEscape(callback),
		"A 13: state twice":                             good().Encode() + "&state=other",
		"A 14: a NUL in state":                          asked("state", "a\x00b")[11:],
		"A 14: a line break in state":                   asked("state", "a\r\nSet-Cookie: x=y")[11:],
		"A 14: a line break in redirect_uri":            asked("redirect_uri", callback+"\r\n")[11:],
		"A 15: a state that cannot go back whole":       asked("state", strings.Repeat("s", authorize.MaxState+1))[11:],
		"A 15: a parameter beyond all bounds":           asked("claims", strings.Repeat("x", 40<<10))[11:],
		"K 112: more parameters than anybody needs":     good().Encode() + strings.Repeat("&a=b", 70),
		"A 14: a parameter that is not percent-encoded": good().Encode() + "&x=%zz",
	} {
		got := wo.browser().Get("/authorize?" + query)
		if got.Code != http.StatusBadRequest || got.Header().Get("Location") != "" || got.Is() != "page" {
			t.Errorf("%s: %d, Location %q, %s; want an error page", row, got.Code, got.Header().Get("Location"), got.Is())
		}
		if !strings.Contains(got.Body.String(), got.Header().Get("X-Request-Id")) {
			t.Errorf("%s: the page has no request id", row)
		}
	}
	if wo.writes() != 0 || len(wo.journal()) != 0 {
		t.Errorf("%d writes, %d journal entries for anonymous requests", wo.writes(), len(wo.journal()))
	}
}

// Nobody learns which clients there are from the pages that are open to all.
func TestAClientThatNobodySignsInToIsLikeAnUnknownOne(t *testing.T) {
	wo := newWorld(t)
	for _, target := range []func(client string) string{
		func(client string) string { return asked("client_id", client) },
		func(client string) string {
			return asked("client_id", client, "redirect_uri", "https://nowhere.example.com")
		},
		func(client string) string { return leaving("client_id", client) },
	} {
		unknown := wo.browser().Get(target("nobody"))
		for _, client := range []string{"daemon", "off"} {
			if got := wo.browser().Get(target(client)); got.Code != unknown.Code || withoutID(got) != withoutID(unknown) {
				t.Errorf("%s: %d %s\nan unknown one: %d %s", target(client), got.Code, got.Body, unknown.Code, unknown.Body)
			}
		}
	}
}

// withoutID is a page without the number of its request.
func withoutID(p browsertest.Page) string {
	return strings.ReplaceAll(p.Body.String(), p.Header().Get("X-Request-Id"), "")
}

func TestErrorsAfterThatGoToTheClient(t *testing.T) {
	wo := newWorld(t)
	for row, tc := range map[string]struct {
		query string
		want  oauth.Code
	}{
		"response_type missing":                          {asked("response_type", ""), oauth.InvalidRequest},
		"A 17: response_type token":                      {asked("response_type", "token"), oauth.UnsupportedResponseType},
		"A 17: response_type code id_token":              {asked("response_type", "code id_token"), oauth.UnsupportedResponseType},
		"A 17: response_mode fragment":                   {asked("response_mode", "fragment"), oauth.InvalidRequest},
		"A 17: response_mode web_message":                {asked("response_mode", "web_message"), oauth.InvalidRequest},
		"scope beyond the client":                        {asked("scope", "openid admin"), oauth.InvalidScope},
		"scope with a character that is not allowed":     {asked("scope", "openid orders:\"read"), oauth.InvalidScope},
		"scope of no resource asked for":                 {asked("scope", "orders:read", "resource", "https://nowhere.example.com"), oauth.InvalidTarget},
		"a resource that the client may not reach":       {asked("resource", "https://billing.example.com"), oauth.InvalidTarget},
		"a resource that is no URI":                      {asked("resource", "orders"), oauth.InvalidTarget},
		"B 29: no challenge":                             {asked("code_challenge", "", "code_challenge_method", ""), oauth.InvalidRequest},
		"B 29: no challenge from a public client":        {asked("client_id", "spa", "redirect_uri", "https://spa.example.com/cb", "code_challenge", "", "code_challenge_method", ""), oauth.InvalidRequest},
		"B 29: a challenge without a method means plain": {asked("code_challenge_method", ""), oauth.InvalidRequest},
		"B 29: the plain method":                         {asked("code_challenge_method", "plain"), oauth.InvalidRequest},
		"B 29: a challenge that is too short":            {asked("code_challenge", "abc"), oauth.InvalidRequest},
		"A 16: prompt none with login":                   {asked("prompt", "none login"), oauth.InvalidRequest},
		"A 16: prompt none with none":                    {asked("prompt", "none none"), oauth.InvalidRequest},
		"prompt unknown":                                 {asked("prompt", "create"), oauth.InvalidRequest},
		"max_age negative":                               {asked("max_age", "-1"), oauth.InvalidRequest},
		"max_age that does not fit":                      {asked("max_age", "99999999999999999999"), oauth.InvalidRequest},
		"A 24: a request object":                         {asked("request", "eyJ"), oauth.RequestNotSupported},
		"A 23: a request URI":                            {asked("request_uri", "https://app.example.com/r"), oauth.RequestURINotSupported},
		"A 15: nonce too long":                           {asked("nonce", strings.Repeat("n", authorize.MaxNonce+1)), oauth.InvalidRequest},
		"A 14: a nonce that JSON would change":           {asked("nonce", "a\xffb"), oauth.InvalidRequest},
		"A 15: login_hint too long":                      {asked("login_hint", strings.Repeat("n", authorize.MaxName+1)), oauth.InvalidRequest},
		"A 15: acr_values too long":                      {asked("acr_values", strings.Repeat("n", authorize.MaxIgnored+1)), oauth.InvalidRequest},
		"A 25: claims without end":                       {asked("claims", strings.Repeat(`{"a":`, 2000)), oauth.InvalidRequest},
		"a hint that is not ours":                        {asked("id_token_hint", "forged"), oauth.InvalidRequest},
		"A 16: prompt none, nobody signed in":            {asked("prompt", "none"), oauth.LoginRequired},
	} {
		got := wo.browser().Get(tc.query)
		back := got.Back()
		if got.Code != http.StatusSeeOther || oauth.Code(back.Get("error")) != tc.want {
			t.Errorf("%s: %d %v; want %s at the client", row, got.Code, back, tc.want)
			continue
		}
		// A 20: iss and state go with errors too.
		if back.Get("iss") != issuerURL || back.Get("state") != "xyz" || back.Get("error_description") == "" || back.Has("code") {
			t.Errorf("%s: the client gets %v", row, back)
		}
		if strings.ContainsAny(back.Get("error_description"), "\"\\\r\n") || strings.Contains(got.Header().Get("Location"), "#") {
			t.Errorf("%s: Location is %q", row, got.Header().Get("Location"))
		}
	}
	if wo.writes() != 0 {
		t.Errorf("%d writes for anonymous requests", wo.writes())
	}
}

func TestValuesComeBackIntact(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	state := "a b+c%20&code=stolen#frag<script>\"'é\\" + strings.Repeat("s", 3000)
	nonce := `n "o<n>ce` + strings.Repeat("n", 400)
	got := b.allow(b.Get(asked("state", state, "nonce", nonce)))
	if got.Back().Get("state") != state {
		t.Errorf("state came back as %q", got.Back().Get("state"))
	}
	if g := wo.grantOf(got); g.Nonce != nonce {
		t.Errorf("nonce is %q", g.Nonce)
	}
	if strings.Contains(got.Header().Get("Location"), "#") {
		t.Error("state opened a fragment")
	}
}

// docs/security/threats.md A 19: nothing of the request becomes markup.
func TestNothingBecomesMarkup(t *testing.T) {
	wo := newWorld(t)
	evil := `"><script>alert(1)</script>`
	web := wo.Static.Clients["web"]
	web.Name = evil
	wo.set("web", web)
	b := wo.browser()
	signIn := b.Get(asked("login_hint", evil, "state", evil, "nonce", evil))
	if signIn.Attribute("username", "value") != evil {
		t.Errorf("login_hint fills in %q", signIn.Attribute("username", "value"))
	}
	wrong := b.SignIn(signIn, evil, "x")
	consent := b.SignIn(wrong, "ada", "lovelace")
	if consent.Is() != "allow" {
		t.Fatalf("%d %s", consent.Code, consent.Body)
	}
	for _, page := range []browsertest.Page{signIn, wrong, consent, b.Get("/logout?client_id=web"), wo.browser().Get(asked("client_id", evil))} {
		if strings.Contains(page.Body.String(), "<script") {
			t.Errorf("a script on %s", page.Body)
		}
	}
}

func TestRedirectURINotSent(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	got := b.allow(b.Get(asked("redirect_uri", "", "scope", "orders:read")))
	if !strings.HasPrefix(got.Header().Get("Location"), callback+"?") {
		t.Fatalf("%d %q", got.Code, got.Header().Get("Location"))
	}
	if g := wo.grantOf(got); g.Code.RedirectURI != "" {
		t.Errorf("the grant says that redirect_uri was sent: %q", g.Code.RedirectURI)
	}
}

func TestLoopbackPortIsTheClients(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	got := b.allow(b.Get(asked("client_id", "cli", "redirect_uri", "http://127.0.0.1:51234/cb")))
	if !strings.HasPrefix(got.Header().Get("Location"), "http://127.0.0.1:51234/cb?") || wo.grantOf(got).Code.RedirectURI != "http://127.0.0.1:51234/cb" {
		t.Errorf("%d %q", got.Code, got.Header().Get("Location"))
	}
}

func TestScopeNotSent(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	g := wo.grantOf(b.allow(b.Get(asked("scope", ""))))
	if g.Scopes.String() != "orders:read orders:write" {
		t.Errorf("scopes are %q; want those of the resource and none about the person", g.Scopes)
	}
	bare := wo.Static.Clients["web"]
	bare.Resources = nil
	wo.set("web", bare)
	if got := b.Get(asked("scope", "")).Back(); got.Get("error") != "invalid_scope" {
		t.Errorf("with nothing to ask for: %v", got)
	}
}

func TestOfflineAccessNeedsTheRefreshGrant(t *testing.T) {
	wo := newWorld(t)
	web := wo.Static.Clients["web"]
	web.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode}
	wo.set("web", web)
	b := wo.signedIn()
	if g := wo.grantOf(b.allow(b.Get(asked("scope", "openid offline_access")))); g.Scopes.String() != "openid" {
		t.Errorf("scopes are %q", g.Scopes)
	}
}

func TestPromptAndMaxAge(t *testing.T) {
	const signIn, consent, code = "sign-in", "allow", "code"
	native := []string{"client_id", "cli", "redirect_uri", "http://127.0.0.1:5000/cb"}
	for row, tc := range map[string]struct {
		consented bool // ada has consented before
		age       time.Duration
		change    []string
		want      string
	}{
		"nothing asked, not consented":                       {false, 0, nil, consent},
		"nothing asked, consented":                           {true, 0, nil, code},
		"consented to less":                                  {true, 0, []string{"scope", "openid orders:read orders:write"}, consent},
		"prompt none, consented":                             {true, 0, []string{"prompt", "none"}, code},
		"prompt none, not consented":                         {false, 0, []string{"prompt", "none"}, "consent_required"},
		"prompt login":                                       {true, 0, []string{"prompt", "login"}, signIn},
		"prompt select_account":                              {true, 0, []string{"prompt", "select_account"}, signIn},
		"prompt consent, consented":                          {true, 0, []string{"prompt", "consent"}, consent},
		"prompt login consent":                               {true, 0, []string{"prompt", "login consent"}, signIn},
		"max_age not reached":                                {true, time.Minute, []string{"max_age", "60"}, code},
		"max_age passed":                                     {true, time.Minute + time.Second, []string{"max_age", "60"}, signIn},
		"max_age 0 is prompt login":                          {true, 0, []string{"max_age", "0"}, signIn},
		"max_age passed, prompt none":                        {true, time.Hour, []string{"max_age", "60", "prompt", "none"}, "login_required"},
		"a session older than its life":                      {true, 12 * time.Hour, nil, signIn},
		"a session older than its life, prompt none":         {true, 12 * time.Hour, []string{"prompt", "none"}, "login_required"},
		"id_token_hint of the same person":                   {true, 0, []string{"id_token_hint", "hint-web-for-u-ada"}, code},
		"id_token_hint of another":                           {true, 0, []string{"id_token_hint", "hint-web-for-u-bob"}, signIn},
		"id_token_hint of another, prompt none":              {true, 0, []string{"id_token_hint", "hint-web-for-u-bob", "prompt", "none"}, "login_required"},
		"RFC 8252 §8.6: a native client, consented":          {true, 0, native, consent},
		"RFC 8252 §8.6: a native client by prompt none":      {true, 0, append([]string{"prompt", "none"}, native...), "consent_required"},
		"RFC 8252 §8.6: a native client by a private scheme": {true, 0, []string{"client_id", "cli", "redirect_uri", "com.example.cli:/cb"}, consent},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		if tc.consented {
			for _, who := range [][]string{nil, native} {
				wo.redeem(wo.grantOf(b.allow(b.Get(asked(who...)))))
			}
		}
		wo.Pass(tc.age)
		writes := wo.writes()
		page := b.Get(asked(tc.change...))
		got := page.Is()
		if back := page.Back(); back.Has("code") {
			got = code
		} else if back != nil {
			got = back.Get("error")
		}
		if got != tc.want {
			t.Errorf("%s: %s; want %s", row, got, tc.want)
		}
		if got != code && wo.writes() != writes {
			t.Errorf("%s: something was written", row)
		}
	}
}

func TestAFreshSignInSatisfiesTheRequest(t *testing.T) {
	for _, change := range [][]string{{"prompt", "login"}, {"max_age", "0"}, {"prompt", "select_account"}, {"prompt", "login consent"}} {
		wo := newWorld(t)
		b := wo.signedIn()
		wo.Pass(time.Minute)
		page := b.Get(asked(change...))
		wo.Pass(time.Minute)
		consent := b.SignIn(page, "ada", "lovelace")
		if consent.Is() != "allow" {
			t.Errorf("%v: after sign-in: %s", change, consent.Is())
			continue
		}
		wo.Pass(time.Minute)
		if g := wo.grantOf(b.allow(consent)); wo.Now().Sub(g.AuthTime) != time.Minute {
			t.Errorf("%v: auth_time is %v old", change, wo.Now().Sub(g.AuthTime))
		}
	}
}

func TestPostedRequestBecomesAGet(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	fromElsewhere := func(r *http.Request) {
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Del("Cookie")
	}
	got := b.Do(http.MethodPost, "/authorize", good("resource", api), fromElsewhere)
	if got.Code != http.StatusSeeOther || !strings.HasPrefix(got.Location(), "/authorize?") || len(got.Set) != 0 {
		t.Fatalf("%d %q", got.Code, got.Location())
	}
	if page := b.Get(got.Location()); page.Is() != "sign-in" {
		t.Errorf("then: %d %s", page.Code, page.Body)
	}
	for row, tc := range map[string]struct {
		target string
		form   url.Values
		change func(*http.Request)
	}{
		"A 14: parameters in the URL as well": {"/authorize?state=evil", good(), func(*http.Request) {}},
		"K 112: a body that is no form":       {"/authorize", good(), func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }},
		"K 112: a compressed body":            {"/authorize", good(), func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }},
		"a request too long for a URL":        {"/authorize", good("state", strings.Repeat("s", 20<<10)), func(*http.Request) {}},
	} {
		if got := b.Do(http.MethodPost, tc.target, tc.form, tc.change); got.Code != http.StatusBadRequest || got.Location() != "" {
			t.Errorf("%s: %d %q", row, got.Code, got.Location())
		}
	}
	if got := b.Post("/authorize", good("request", "eyJ")); b.Get(got.Location()).Back().Get("error") != "request_not_supported" {
		t.Error("a posted request object was not refused")
	}
}

func TestOtherMethods(t *testing.T) {
	wo := newWorld(t)
	for path, allow := range map[string]string{"/authorize": "GET, POST", "/login": "GET, POST", "/consent": "GET, POST", "/logout": "GET, POST", "/": "GET"} {
		for _, method := range []string{"HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "get"} {
			got := wo.browser().Do(method, path, nil)
			if got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q", method, path, got.Code, got.Header().Get("Allow"))
			}
		}
	}
}

// docs/security/threats.md A 11, A 12, B 32: every answer, also a redirect.
func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	signIn := b.Get(asked())
	consent := b.SignIn(signIn, "ada", "lovelace")
	for name, got := range map[string]browsertest.Page{
		"sign-in": signIn, "consent": consent, "error": b.Get("/authorize"), "code": b.allow(consent),
		"error at the client": b.Get(asked("response_type", "token")), "sign-out": b.Get("/logout"), "home": b.Get("/"), "405": b.Do(http.MethodPut, "/login", nil), "home from a form": b.Get("/login"),
	} {
		h := got.Header()
		if h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", name, h)
		}
	}
}

func TestStorageFailureIsA503Page(t *testing.T) {
	for _, method := range []string{"Client", "SessionByHash", "User", "Consented", "CreateGrant"} {
		wo := withStored(t, map[string]string{"Client": "web"}[method], map[string]string{"User": "u-ada"}[method])
		b := wo.signedIn()
		consent := b.Get(asked())
		wo.Fail(map[string]string{"Client": "Object", "User": "Object"}[method], errStorage)
		wo.Fail(method, errStorage)
		if method == "Consented" || method == "Client" || method == "SessionByHash" || method == "User" {
			if got := b.Get(asked()); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" || got.Location() != "" {
				t.Errorf("GET /authorize while %s fails: %d %q", method, got.Code, got.Location())
			}
		}
		if method != "Consented" {
			got := b.allow(consent)
			if got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" || got.Location() != "" || strings.Contains(got.Body.String(), "fire") {
				t.Errorf("POST /consent while %s fails: %d %q %s", method, got.Code, got.Location(), got.Body)
			}
			if len(wo.Grants()) != 0 {
				t.Errorf("while %s fails: a grant was made", method)
			}
		}
	}
	wo := newWorld(t)
	b := wo.signedIn()
	consent := b.Get(asked())
	wo.Fail(nodetest.Record, errStorage)
	if got := b.allow(consent); got.Code != http.StatusServiceUnavailable || got.Location() != "" {
		t.Errorf("while the journal fails: %d %q", got.Code, got.Location())
	}
}

func TestIssuerWithAPath(t *testing.T) {
	wo := newWorldAt(t, issuerURL+"/sts")
	page := wo.browser().Get(asked())
	if !strings.Contains(page.Body.String(), `action="/sts/login"`) || !strings.Contains(page.Body.String(), `href="/sts/static/`) {
		t.Errorf("%s", page.Body)
	}
}

// Whoever opens the address of a form again, from the address bar or a restored
// window, gets a page and no error.
func TestAFormsAddressOpenedAgain(t *testing.T) {
	for base, want := range map[string]string{"": "/", "/sts": "/sts/"} {
		wo := newWorldAt(t, issuerURL+base)
		for _, path := range []string{"/login", "/consent"} {
			if got := wo.browser().Get(path); got.Code != http.StatusSeeOther || got.Header().Get("Location") != want {
				t.Errorf("GET %s below %q: %d %q", path, base, got.Code, got.Header().Get("Location"))
			}
		}
	}
}
